"""Run a copy of a notebook with live progress, four to ten minutes on two cores.

The results go to the folder build/ beside it: NAME.ipynb and its page, NAME.html. A
quick run writes NAME-quick, a run that fails or is stopped NAME-partial.ipynb.
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
from pathlib import Path
from subprocess import DEVNULL

from make_page import make_page, write_files  # or says that packages are missing
from paths import NOTEBOOK

os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # or old debuggers warn
import nbformat
from code_hash import code_cells, code_hash
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert.preprocessors import CoalesceStreamsPreprocessor
from PIL import Image

RESULTS = re.compile("(?<=<!-- results -->).*?(?=<!-- /results -->)", re.S)
LINK = re.compile(r"\[([\d.]+)\]\(\S+\)")  # of a section's number
ROW = re.compile(r"^(\| [\d.]+ \| .*? \|)(.*)", re.M)  # section and question; result
USER_SETTINGS = "MPLBACKEND", "PYTHONOPTIMIZE", "PYTHONSTARTUP", "PYTHONWARNINGS"
LIVE = os.isatty(1) and os.environ.get("TERM") != "dumb"
WIDTH = min(shutil.get_terminal_size().columns, 80) - 1


def say(text, end="\n"):
    """Print a line at once; on a terminal, over the line that is shown there."""
    try:
        print(f"\r{text:<{WIDTH}}" if LIVE else text, end=end, flush=True)
    except UnicodeError:
        pass  # it cannot be shown
    except OSError:  # nobody reads on, as after `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


class Progress:
    """Prints one line per section: its heading, and the time that its cells took."""

    heading, place, cell, started = "", "the kernel's start", None, None

    def start_cell(self, cell):
        """End a section at the next heading; begin one at its first code cell."""
        headings = re.findall("^#+ (.+)", cell.source, re.M)
        if cell.cell_type == "code":
            self.cell, self.place = cell, f"cell {cell.id} ({self.heading})"
            self.started = self.started or time.monotonic()
        elif headings:
            self.show(end="\n")
            self.heading, self.started = headings[-1], None

    def show(self, end=""):
        """Print the section and its time so far, or its cell's progress bar."""
        if self.started and (LIVE or end):
            seconds = time.monotonic() - self.started
            line = f"{self.heading[: WIDTH - 11]:<{WIDTH - 11}} {seconds:7.1f} s"
            text = "".join(output.get("text", "") for output in self.cell.outputs[-1:])
            bar = text.rpartition("\r")[2].strip()[:WIDTH] if "\r" in text else ""
            say(line if end else bar or line, end)


def catch_signals():
    """Return a list to which signals are added, instead of ending this process."""
    signals = []
    for name in "SIGINT", "SIGTERM", "SIGHUP":
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number and signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores it
            signal.signal(number, lambda number, frame: signals.append(number))
    return signals


async def run(notebook, folder, signals):
    """Execute the cells in place; return why they did not all run, or None."""
    progress = Progress()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        specs = KernelSpecManager(kernel_dirs=[])  # only the kernel of this Python
        file = f"{home}/kernel.json"
        manager = AsyncKernelManager(kernel_spec_manager=specs, connection_file=file)
        env = {key: os.environ[key] for key in os.environ if key not in USER_SETTINGS}
        env |= dict.fromkeys(("TMPDIR", "TEMP", "TMP", "IPYTHONDIR"), home)
        env["MATPLOTLIBRC"] = os.devnull
        settings = {"cwd": folder, "env": env, "stdout": DEVNULL, "stderr": DEVNULL}
        task = asyncio.create_task(execute(notebook, manager, progress, settings))
        try:
            while not (await asyncio.wait([task], timeout=0.2))[0]:
                progress.show()
                if signals:  # repeated, as nbclient may lose one between two cells
                    task.cancel()
            progress.show(end="\n")
            await task
        except (asyncio.CancelledError, CellExecutionError, RuntimeError) as error:
            reason = f"{error}. Memory may be short: a run takes 1.4 GB."
            if isinstance(error, CellExecutionError):
                reason = f"{error.ename}: {error.evalue}"
            message = "Stopped." if signals else f"Failed in {progress.place}: {reason}"
            return " ".join(message.split())
        finally:
            if manager.has_kernel:
                await manager.shutdown_kernel()


async def execute(notebook, manager, progress, settings):
    """Run all cells as client.async_execute does, but leave signal handlers alone."""
    client = NotebookClient(notebook, manager, startup_timeout=300, record_timing=False)
    client.log.disabled = True  # problems are raised as well
    await client.async_start_new_kernel(**settings)
    kernel = await client.async_start_new_kernel_client()
    reply = await client.async_wait_for_reply(kernel.kernel_info())
    notebook.metadata.language_info = reply["content"]["language_info"]
    for index, cell in enumerate(notebook.cells):
        progress.start_cell(cell)
        await client.async_execute_cell(cell, index, client.code_cells_executed + 1)


def tidy(notebook):
    """Leave only outputs that are the same in each run; print warnings instead."""
    for index, cell in enumerate(code_cells(notebook)):
        for output in [o for o in cell.outputs if o.get("name") == "stderr"]:
            say(f"{cell.id}: {output.text.rstrip()}")
            cell.outputs.remove(output)
        CoalesceStreamsPreprocessor().preprocess_cell(cell, {}, index)
        for output in cell.outputs:
            if "text" in output:  # remove what progress bars have overwritten
                output.text = re.sub(r"(?m)^.*\r(?!\n)", "", output.text)
            elif "image/png" in output.get("data", {}):
                output.data["image/png"] = compress(output.data["image/png"])
        cell.outputs = [o for o in cell.outputs if o.get("text", "text").strip()]


def compress(png):
    """Return a base64 PNG with at most 256 colours."""
    image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB").quantize(256)
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def readme_and_figure(notebook, folder):
    """Return {path: bytes}: README.md with page 1's results, and page 1's figure."""
    shown = {}  # on page 1: {MIME type: data}; the table has two parts
    page = [c for c in code_cells(notebook) if c.id in ("page-1", "answers")]
    for data in [output.get("data", {}) for cell in page for output in cell.outputs]:
        shown |= {kind: f"{shown.get(kind, '')}{data[kind]}\n" for kind in data}
    text = (folder / "README.md").read_text("utf-8")
    try:
        new = dict(ROW.findall(LINK.sub(r"\1", shown["text/markdown"])))
        text = RESULTS.sub(lambda t: ROW.sub(lambda r: r[1] + new[r[1]], t[0]), text)
        png = base64.b64decode(shown["image/png"])
    except KeyError as error:
        sys.exit(f"Nothing is saved: README.md needs {error} on page 1; change one.")
    return {folder / "README.md": text.encode(), folder / "docs/test_errors.png": png}


def prepare(notebook, folder, args):
    """Clear outputs and apply the options; exit if the run would fail at its end."""
    if args.save and not RESULTS.search((folder / "README.md").read_text("utf-8")):
        sys.exit("--save needs <!-- results --> and <!-- /results --> in README.md.")
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
        if "parameters" in cell.metadata.get("tags", ()):
            if args.save and not cell.source.startswith("SHARE = 1.0"):
                sys.exit("--save needs SHARE = 1.0 in the cell tagged `parameters`.")
            if args.quick:
                cell.source = re.sub(r"(?m)^SHARE = \S+", "SHARE = 0.05", cell.source)
    notebook.metadata["code_sha256"] = code_hash(notebook)
    (folder / "build").mkdir(exist_ok=True)


def main():
    """Run the notebook that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebook", nargs="?", type=Path, default=NOTEBOOK)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--save", action="store_true", help="update it and README, too")
    mode.add_argument("--quick", action="store_true", help="a twentieth of the images")
    args = parser.parse_args()
    path = args.notebook.resolve()
    signals = catch_signals()
    try:
        original = path.read_bytes()
        notebook = nbformat.reads(original.decode(), as_version=4)
        prepare(notebook, path.parent, args)
    except (OSError, ValueError, nbformat.ValidationError) as error:
        sys.exit(f"Nothing is run: {error}".partition("\n")[0])
    # Of Windows' two loops, zmq takes this one without a warning.
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        problem = runner.run(run(notebook, path.parent, signals))
    tidy(notebook)
    content = (nbformat.writes(notebook) + "\n").encode()
    suffix = "-partial" if problem else "-quick" if args.quick else ""
    built = path.parent / "build" / f"{path.stem}{suffix}.ipynb"
    try:
        write_files({built: content}, say)
        if problem:
            sys.exit(problem)
        write_files({built.with_suffix(".html"): make_page(notebook).encode()}, say)
        if args.save and path.read_bytes() != original:
            sys.exit(f"Nothing is saved: {path.name} was edited during the run.")
        if args.save:
            write_files({path: content} | readme_and_figure(notebook, path.parent), say)
    except OSError as error:
        sys.exit(f"Nothing more is written: {error}")


if __name__ == "__main__":
    main()
