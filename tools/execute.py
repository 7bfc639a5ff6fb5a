"""Execute a notebook with live progress, apart from the user's own settings."""

import asyncio
import atexit
import base64
import io
import os
import re
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from subprocess import DEVNULL

import psutil
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert.preprocessors import CoalesceStreamsPreprocessor
from PIL import Image

# The same for each version of Python, and as JupyterLab writes it. The exporter makes
# `jupyter nbconvert --to script` work.
LANGUAGE = {"name": "python", "file_extension": ".py", "nbconvert_exporter": "python"}
KERNEL = {
    "name": "python3",
    "language": "python",
    "display_name": "Python 3 (ipykernel)",
}
SETTINGS = "MPLBACKEND", "PYTHONOPTIMIZE", "PYTHONSTARTUP", "PYTHONWARNINGS"
LIVE = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
WIDTH = min(shutil.get_terminal_size().columns, 80) - 1
OVERWRITTEN = re.compile(r"^.*\r(?!\n)", re.MULTILINE)  # what bars leave behind


class Stopped(KeyboardInterrupt):
    """Somebody stopped the run; KeyboardInterrupts pass through asyncio."""


def say(text, end="\n"):
    """Print at once. If nobody reads it any more, that stops the run."""
    try:
        print(text, end=end, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise Stopped("since nobody reads what it prints", 1) from None


def show(text):
    """Print a line that the next one overwrites, if the terminal can do that."""
    if LIVE:
        say(f"\r{text[:WIDTH]:<{WIDTH}}", end="")


def say_line(text):
    """Print a line in the place of the one that is shown."""
    show("")
    say(f"\r{text}" if LIVE else text)


def run(notebook, folder):
    """Execute the cells in place, as Jupyter would in that folder.

    Each code cell is left with its clean outputs, or none if it was not reached. Gives
    None, or a text on what failed: a cell, or the kernel."""
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    spec = KernelSpecManager(kernel_dirs=[])  # of this very Python
    manager = AsyncKernelManager(kernel_spec_manager=spec)
    atexit.register(end, manager)  # should a signal come while it ends
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        try:
            runner = Runner(notebook, manager)
            failure = asyncio.run(runner.run_cells(folder, settings(home)))
            if failure:
                say_line(f"{runner.title}    failed")
            return failure
        finally:
            end(manager)
            atexit.unregister(end)
            tidy(notebook)


def code_cells(notebook):
    """The notebook's code cells."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def settings(home):
    """The kernel's environment: the user's, without settings of IPython, Matplotlib."""
    empty = Path(home, "matplotlibrc")
    empty.touch()
    kept = {name: text for name, text in os.environ.items() if name not in SETTINGS}
    temporary = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), home)  # goes with the run
    return kept | temporary | {"IPYTHONDIR": home, "MATPLOTLIBRC": str(empty)}


class Runner(NotebookClient):
    """nbclient's, with a line a cell: its number, its section, its time."""

    def __init__(self, notebook, manager):
        super().__init__(notebook, manager, timeout=None, startup_timeout=300)
        self.record_timing = self.store_widget_state = False
        self.log.disabled = True  # what matters is raised as well
        self.title = ""

    async def run_cells(self, folder, environment):
        """Run all code cells: None, or a text on what failed."""
        where, heading = "before the first cell", ""
        try:
            # What the kernel prints goes elsewhere: this is what dying processes say.
            streams = {"stdout": DEVNULL, "stderr": DEVNULL}
            await self.async_start_new_kernel(cwd=folder, env=environment, **streams)
            await self.async_start_new_kernel_client()
            for index, cell in enumerate(self.nb.cells):
                if cell.cell_type == "code":
                    where = f"cell {cell.get('id', index + 1)} ({heading})"
                    await self.run_cell(cell, index, heading)
                else:
                    heading = [heading, *re.findall("^#+ (.+)", cell.source, re.M)][-1]
            return None
        except CellExecutionError as error:
            failure = f"{error.ename}: {error.evalue}"
        except RuntimeError as error:  # the kernel died, or did not start
            failure = f"{error}"
        finally:
            if self.kc:
                self.kc.stop_channels()
        return f"{where}:\n{' '.join(failure.split())[:500]}"

    async def run_cell(self, cell, index, heading):
        """Run one cell, and print its line."""
        began = time.monotonic()
        title = f"[{index + 1:>3}/{len(self.nb.cells)}] {heading}"
        self.title = f"{title[: WIDTH - 10]:<{WIDTH - 10}}"
        show(self.title)
        count = self.code_cells_executed + 1
        await self.async_execute_cell(cell, index, execution_count=count)
        say_line(f"{self.title} {time.monotonic() - began:7.1f} s")

    def process_message(self, msg, cell, cell_index):
        text = msg["content"].get("text", "") if msg["msg_type"] == "stream" else ""
        if "\r" in text:
            show(text.rpartition("\r")[2].strip() or self.title)
        elif text and msg["content"]["name"] == "stderr":
            say_line(text.rstrip())
            show(self.title)
        if not text or msg["content"]["name"] == "stdout":  # warnings are not kept
            return super().process_message(msg, cell, cell_index)


def end(manager):
    """End the kernel and all that it started."""
    pid = getattr(manager.provisioner, "pid", None)
    for action in ("terminate", "kill") if pid else ():
        processes = [process for process in psutil.process_iter() if of(process, pid)]
        for process in processes:
            with suppress(psutil.Error):
                getattr(process, action)()
        psutil.wait_procs(processes, timeout=10)  # joblib clears its files up
    manager.cleanup_connection_file()


def of(process, pid):
    """Whether a process is the one of that id, descends from it, or is in its group."""
    with suppress(psutil.Error, OSError):
        if process.status() != psutil.STATUS_ZOMBIE:
            group = os.getpgid(process.pid) if hasattr(os, "getpgid") else None
            ids = {process.pid, group, *(parent.pid for parent in process.parents())}
            return pid in ids
    return False


def tidy(notebook):
    """Leave nothing in a notebook that depends on the run's machine or moment."""
    notebook.metadata["language_info"] = dict(LANGUAGE)
    notebook.metadata["kernelspec"] = dict(KERNEL)
    for index, cell in enumerate(code_cells(notebook)):
        cell.metadata.pop("execution", None)  # times, if Jupyter recorded them
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
    image, file = image.quantize(256) if len(picture) > 60_000 else image, io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()
