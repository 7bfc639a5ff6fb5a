"""What a script of tools/ does before it imports anything else, in any Python."""

import os
import signal
import sys

WINDOWS = os.name == "nt"
PIP = (
    r"py -m venv .venv && .venv\Scripts\pip"
    if WINDOWS
    else "python3 -m venv .venv && .venv/bin/pip"
)
PYTHON = r".venv\Scripts\python" if WINDOWS else ".venv/bin/python"


def stop_at_once(number, frame):
    """Nothing has been done yet that could be kept."""
    os.write(2, b"\nStopped before anything was done.\n")
    os._exit(128 + number)


def start():
    """Exit if Python is old; end kindly on signals, which are returned."""
    if sys.version_info < (3, 10):  # noqa: UP036
        sys.exit("This needs Python 3.10 or newer, not " + sys.version.split()[0] + ".")
    signals = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signals.append(signal.SIGHUP)  # the terminal is closed; nohup ignores it
    for each in signals:
        signal.signal(each, stop_at_once)
    for stream in sys.stdout, sys.stderr:  # a console that is not UTF-8 shows "?"
        stream.reconfigure(errors="replace")
    return signals


def missing(error):
    """Exit with README's command: a package cannot be imported."""
    said = "{} is not installed for this Python. In the repository's folder: {}"
    command = " install -q -r requirements.txt && ".join([PIP, PYTHON])
    from pathlib import Path  # old Pythons, which `start` tells so, have none

    script = os.path.relpath(sys.argv[0], Path(__file__).resolve().parent.parent)
    sys.exit(said.format(error.name, command + " " + script))
