"""Run a copy of a notebook with live progress: run_notebook.py [NOTEBOOK] [--save]

The executed notebook and an HTML page of it go to the folder build/ beside the
notebook. With --save, the notebook itself and what README.md quotes from it are brought
up to date as well. With --quick, a twentieth of the images shows whether all cells run.

This file holds what must work before anything else is imported, and in any Python.
"""

import os
import signal
import sys


def stop_at_once(number, frame):
    """While the rest is being imported, nothing has run that could be kept."""
    os.write(2, b"\nStopped before anything had run.\n")
    os._exit(128 + number)


if __name__ == "__main__":
    if sys.version_info < (3, 10):  # noqa: UP036
        sys.exit("This needs Python 3.10 or newer, not " + sys.version.split()[0] + ".")
    signals = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signals.append(signal.SIGHUP)  # the terminal is closed; nohup ignores it
    for each in signals:
        signal.signal(each, stop_at_once)
    for stream in sys.stdout, sys.stderr:  # a console that is not UTF-8 shows "?"
        stream.reconfigure(errors="replace")

    from runner import main

    main(signals)
