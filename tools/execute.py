"""Execute a notebook with live progress, apart from the user's own settings."""

import asyncio
import atexit
import base64
import io
import os
import re
import shutil
import signal
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
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        file = str(Path(home, "kernel.json"))
        manager = AsyncKernelManager(kernel_spec_manager=spec, connection_file=file)
        atexit.register(end, manager)  # should a signal come while it ends
        try:
            runner = Runner(notebook, manager)
            failure = asyncio.run(runner.run_cells(folder, settings(home)))
            if failure:
                say_line(f"{runner.title}    failed")
            return failure
        except Stopped:
            interrupt(manager, folder)
            raise
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
    """nbclient's, with a line a section: its last cell, its heading, its time."""

    def __init__(self, notebook, manager):
        super().__init__(notebook, manager, timeout=None, startup_timeout=300)
        self.record_timing = self.store_widget_state = False
        self.log.disabled = True  # what matters is raised as well
        self.title, self.began = "", None

    async def run_cells(self, folder, environment):
        """Run all code cells: None, or a text on what failed."""
        where, heading = "before the first cell", ""
        try:
            # What the kernel prints goes elsewhere: this is what dying processes say.
            streams = {"stdout": DEVNULL, "stderr": DEVNULL}
            await self.async_start_new_kernel(cwd=folder, env=environment, **streams)
            await self.async_start_new_kernel_client()
            reply = await self.async_wait_for_reply(self.kc.kernel_info())
            self.nb.metadata["language_info"] = reply["content"]["language_info"]
            for index, cell in enumerate(self.nb.cells):
                if cell.cell_type == "code":
                    where = f"cell {cell.get('id', index + 1)} ({heading})"
                    await self.run_cell(cell, index, heading)
                elif headings := re.findall("^#+ (.+)", cell.source, re.M):
                    self.end_section()
                    heading = headings[-1]
            self.end_section()
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
        """Run one cell, while its line is shown."""
        self.began = self.began or time.monotonic()
        title = f"[{index + 1:>3}/{len(self.nb.cells)}] {heading}"
        self.title = f"{title[: WIDTH - 10]:<{WIDTH - 10}}"
        show(self.title)
        count = self.code_cells_executed + 1
        await self.async_execute_cell(cell, index, execution_count=count)

    def end_section(self):
        """Print the line of a section in which cells have run."""
        if self.began:
            say_line(f"{self.title} {time.monotonic() - self.began:7.1f} s")
            self.began = None

    def process_message(self, msg, cell, cell_index):
        text = msg["content"].get("text", "") if msg["msg_type"] == "stream" else ""
        if "\r" in text:
            show(text.rpartition("\r")[2].strip() or self.title)
        elif text and msg["content"]["name"] == "stderr":
            say_line(text.rstrip())
            show(self.title)
        if not text or msg["content"]["name"] == "stdout":  # warnings are not kept
            return super().process_message(msg, cell, cell_index)


def remnants(folder, age=0):
    """Files that a download of CIFAR-10 left there, unchanged for some seconds."""
    found = (folder / "data").glob("tmp" + 8 * "[a-z0-9_]")
    return [path for path in found if time.time() - path.stat().st_mtime >= age]


def interrupt(manager, folder):
    """Interrupt the kernel, and wait until a download has cleared its file."""
    with suppress(AttributeError, OSError):  # it has not started, or has ended
        asyncio.run(manager.provisioner.send_signal(signal.SIGINT))
        patience = time.monotonic() + 5
        while remnants(folder) and time.monotonic() < patience:
            time.sleep(0.1)


def end(manager):
    """End the kernel and all that it started."""
    pid = getattr(manager.provisioner, "pid", None)  # none if stopped while it starts
    pids = {pid} if pid else {child.pid for child in psutil.Process().children()}
    for action in "terminate", "kill":
        processes = [process for process in psutil.process_iter() if of(process, pids)]
        for process in processes:
            with suppress(psutil.Error):
                getattr(process, action)()
        psutil.wait_procs(processes, timeout=10)  # joblib clears its files up


def of(process, pids):
    """Whether a process is one of these, descends from one, or is in its group."""
    with suppress(psutil.Error, OSError):
        if process.status() != psutil.STATUS_ZOMBIE:
            group = os.getpgid(process.pid) if hasattr(os, "getpgid") else None
            ids = {process.pid, group, *(parent.pid for parent in process.parents())}
            return bool(pids & ids)
    return False


def tidy(notebook):
    """Leave nothing in a notebook that depends on the run's machine or moment."""
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
    if len(picture) > 60_000:
        image = image.quantize(256)
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()
