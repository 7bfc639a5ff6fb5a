"""Run a copy of a notebook with live progress, about five minutes on two cores.

The results go to the folder build/ beside the notebook: NAME.ipynb, and a page of it,
NAME.html. A quick run's are NAME-quick, what has run before a stop NAME-partial.ipynb.
"""

import argparse
import asyncio
import base64
import io
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from subprocess import DEVNULL

from start import missing

try:
    import nbformat
    from code_hash import code_cells, code_hash
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from make_page import NOTEBOOK, make_page, write
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError
    from nbconvert.preprocessors import CoalesceStreamsPreprocessor
    from PIL import Image
except ModuleNotFoundError as error:
    missing(error)
except KeyboardInterrupt:
    sys.exit("\nStopped before anything was done.")

MARKS = "<!-- results -->", "<!-- /results -->"
ROW = r"^(\| .*? \| .*? \|)(.*)"  # what is asked in which section, and the answer
USERS = "MPLBACKEND", "PYTHONOPTIMIZE", "PYTHONSTARTUP", "PYTHONWARNINGS"
LIVE = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
WIDTH = min(shutil.get_terminal_size().columns, 80) - 1
OVERWRITTEN = re.compile(r"^.*\r(?!\n)", re.MULTILINE)  # what bars leave behind


class Stopped(KeyboardInterrupt):
    """A run ends before its end: a sentence on why, and the exit status."""


class Progress:
    """Prints a line a section, with the time of all its cells: hooks for nbclient."""

    heading, began, cell = "", None, None

    def start_cell(self, cell, cell_index):
        """A heading ends the section before it; a code cell may begin one."""
        headings = re.findall("^#+ (.+)", cell.source, re.MULTILINE)
        if cell.cell_type == "code":
            self.cell, self.began = cell, self.began or time.monotonic()
        elif headings:
            self.end_section()
            self.heading = headings[-1]

    def end_cell(self, cell, cell_index, execute_reply):
        """Print a cell's warnings, which are not saved."""
        for output in cell.outputs:
            if output.get("name") == "stderr":
                say(output.text.rstrip())

    def line(self):
        """The section's heading, and how long its cells have taken so far."""
        seconds = time.monotonic() - self.began
        return f"{self.heading[: WIDTH - 11]:<{WIDTH - 11}} {seconds:7.1f} s"

    def end_section(self):
        """Print the line of a section in which cells have run."""
        if self.began:
            say(self.line())
        self.began = None

    def show(self):
        """On a terminal, show the cell's progress bar, or else the section's line."""
        if LIVE and self.began:
            text = "".join(output.get("text", "") for output in self.cell.outputs[-1:])
            bar = text.rpartition("\r")[2].strip() if "\r" in text else ""
            print(f"\r{bar[:WIDTH] or self.line():<{WIDTH}}", end="", flush=True)


def say(text):
    """Print a line at once, in the place of what is shown."""
    print(f"\r{text:<{WIDTH}}" if LIVE else text, flush=True)


def run(notebook, folder):
    """Execute the cells in place, as Jupyter would in that folder.

    Each code cell is left with its clean outputs, or none if it was not reached.
    Raises Stopped if a cell fails or the kernel dies."""
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    progress = Progress()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        manager = AsyncKernelManager(
            kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),  # of this Python
            connection_file=str(Path(home, "kernel.json")),
        )
        client = NotebookClient(
            notebook,
            manager,
            startup_timeout=300,
            record_timing=False,
            store_widget_state=False,
            on_cell_start=progress.start_cell,
            on_cell_executed=progress.end_cell,
        )
        client.log.disabled = True  # what matters is raised as well
        own = dict.fromkeys(("TMPDIR", "TEMP", "TMP", "IPYTHONDIR"), home)
        others = {name: text for name, text in os.environ.items() if name not in USERS}
        env = others | own | {"MATPLOTLIBRC": os.devnull}
        unheard = {"stdout": DEVNULL, "stderr": DEVNULL}  # what dying processes say
        work = client.async_execute(cwd=folder, env=env, **unheard)
        # A thread of its own leaves the signals to this one.
        task = ThreadPoolExecutor(1).submit(asyncio.run, work)
        try:
            while not wait([task], timeout=0.5).done:
                progress.show()
            task.result()
            progress.end_section()
        except (CellExecutionError, RuntimeError) as error:
            cell = progress.cell.id if progress.cell else "no cell"
            why = getattr(error, "ename", "the kernel died")
            what = getattr(error, "evalue", "memory may be short: a run takes 1.3 GB")
            said = f"Failed in {cell} ({progress.heading}): {why}: {what}."
            raise Stopped(" ".join(said.split()), 1) from None
        except Stopped:
            with suppress(RuntimeError, OSError):  # there is no kernel yet, or any more
                asyncio.run(manager.interrupt_kernel())
            wait([task], timeout=5)  # the cell may have something to clear up
            raise
        finally:
            end(manager, task)
            tidy(notebook)


def end(manager, task):
    """End the kernel, so that its thread ends, then the other processes of its group.

    Joblib's tracker ignores SIGTERM: it clears up after the others, then ends."""
    done = False
    while not done:
        with suppress(AttributeError, OSError):  # it is just starting, or has ended
            manager.provisioner.process.kill()
        done = wait([task], timeout=1).done
    with suppress(AttributeError, OSError):  # Windows has no groups; the group is empty
        manager.provisioner.process.wait()
        os.killpg(manager.provisioner.pgid, signal.SIGTERM)
        for _ in range(100):
            time.sleep(0.1)
            os.killpg(manager.provisioner.pgid, 0)
        os.killpg(manager.provisioner.pgid, signal.SIGKILL)


def tidy(notebook):
    """Leave only outputs in a notebook that do not depend on the run's moment."""
    for index, cell in enumerate(code_cells(notebook)):
        cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
        CoalesceStreamsPreprocessor().preprocess_cell(cell, {}, index)
        for output in cell.outputs:
            if "text" in output:
                output.text = OVERWRITTEN.sub("", output.text)
            elif "image/png" in output.get("data", {}):
                output.data["image/png"] = smaller(output.data["image/png"])
        cell.outputs = [o for o in cell.outputs if o.get("text", "text").strip()]


def smaller(picture):
    """A PNG in base64 without its transparency; one above 45 kB with 256 colours."""
    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    if len(picture) > 60_000:
        image = image.quantize(256)
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def prepare(notebook, folder, given):
    """Set a quick run's SHARE; exit with a sentence if a run would fail at its end."""
    for cell in code_cells(notebook):
        for name in "data/mnist", "C0_weights.npy":
            if name in cell.source and not (folder / name).exists():
                sys.exit(f"{name} is missing. To restore it: git checkout {name}")
        if "parameters" in cell.metadata.get("tags", ()):
            if given.save and not cell.source.startswith("SHARE = 1.0"):
                sys.exit("--save needs SHARE = 1.0 in the cell tagged `parameters`.")
            if given.quick:
                cell.source = "SHARE = 0.05"
    notebook.metadata["code_sha256"] = code_hash(notebook)
    (folder / "build").mkdir(exist_ok=True)
    tempfile.TemporaryFile(dir=folder / "build").close()


def to_save(notebook, path):
    """{path: bytes} of all that --save writes: the notebook, README and its picture.

    README's rows between its marks become page 1's, without their links. Raises a
    KeyError for what page 1 does not show."""
    cells = [c for c in code_cells(notebook) if c.id in ("page-1", "answers")]
    outputs = [output for cell in cells for output in cell.outputs]
    shown = {kind: text for output in outputs for kind, text in output.data.items()}
    readme = path.parent / "README.md"
    above, begin, rest = readme.read_text("utf-8").partition(MARKS[0])
    quoted, end, below = rest.partition(MARKS[1])
    table = re.sub(r"\[([\d.]+)\]\(\S+\)", r"\1", shown["text/markdown"])
    found = dict(re.findall(ROW, table, re.MULTILINE))
    rows = re.sub(ROW, lambda row: row[1] + found[row[1]], quoted, flags=re.MULTILINE)
    files = {path: content(notebook)}
    files[readme] = (above + begin + rows + end + below).encode()
    files[path.parent / "docs/staircase.png"] = base64.b64decode(shown["image/png"])
    return files


def content(notebook):
    """A notebook's file."""
    return (nbformat.writes(notebook).rstrip("\n") + "\n").encode()


def stop(number, frame):
    """End the run at a signal; a second one is not heard."""
    signal.signal(number, signal.SIG_IGN)
    with suppress(OSError):  # the terminal may be gone
        print("\nStopping, which takes some seconds.", file=sys.stderr)
    raise Stopped("Stopped.", 128 + number)


def main():
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebook", nargs="?", type=Path, default=NOTEBOOK)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--save", action="store_true", help="update it and README, too")
    how.add_argument("--quick", action="store_true", help="a twentieth of the images")
    given = parser.parse_args()
    path = given.notebook.resolve()
    try:
        before = path.read_bytes()
        notebook = nbformat.reads(before.decode(), as_version=4)
        prepare(notebook, path.parent, given)
    except (OSError, ValueError, nbformat.ValidationError) as error:
        sys.exit(f"Nothing is run: {error}".partition("\n")[0])
    for name in "SIGINT", "SIGTERM", "SIGHUP":
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number and signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores it
            signal.signal(number, stop)
    built = f"{path.parent}/build/{path.stem}"
    name = built + "-quick" * given.quick
    try:
        run(notebook, path.parent)
        write({Path(f"{name}.ipynb"): content(notebook)})
        write({Path(f"{name}.html"): make_page(notebook).encode()})
    except Stopped as stopped:
        said, status = stopped.args
        write({Path(f"{built}-partial.ipynb"): content(notebook)})
        with suppress(OSError):
            print(said, "No page is made of what has run.", file=sys.stderr)
        sys.exit(status)
    if given.save and path.read_bytes() != before:
        sys.exit(f"{path.name} has been edited meanwhile. Nothing is saved.")
    try:
        write(to_save(notebook, path) if given.save else {})
    except (KeyError, OSError) as error:
        sys.exit(f"Nothing is saved, for want of {error}.")


if __name__ == "__main__":
    main()
