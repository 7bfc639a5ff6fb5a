"""Execute a notebook with live progress, apart from the user's own settings."""

import asyncio
import base64
import io
import logging
import os
import re
import tempfile
import time
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from subprocess import DEVNULL

import psutil
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from PIL import Image

LANGUAGE = {  # the same for each version of Python; the last makes `--to script` work
    "name": "python",
    "file_extension": ".py",
    "nbconvert_exporter": "python",
}
KERNEL = {  # as JupyterLab writes it
    "display_name": "Python 3 (ipykernel)",
    "language": "python",
    "name": "python3",
}
SETTINGS = "MPLBACKEND", "PYTHONSTARTUP", "PYTHONWARNINGS"  # that a shell may have

# Matplotlib reads a file `matplotlibrc` in the current folder, so it is imported in
# another one. The function leaves no name behind: a missing import stays missing.
STARTUP = """\
def elsewhere():
    import contextlib, os
    here = os.getcwd()
    os.chdir(os.environ["IPYTHONDIR"])
    with contextlib.suppress(ImportError):
        import matplotlib
    os.chdir(here)

elsewhere()
del elsewhere
"""


class RunFailed(Exception):
    """A cell failed, or the kernel died or did not start; the text says which."""


def run(notebook, folder):
    """Execute the cells in place, as Jupyter would in that folder: {chapter: seconds}.

    Each code cell is left with its clean outputs, or none if it was not reached.
    """
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    runner = Runner(notebook, folder)
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
            failure = asyncio.run(runner.until_failure(settings(Path(home))))
    finally:
        runner.end()
        tidy(notebook)
    if failure:
        raise RunFailed(failure)
    return runner.seconds


def code_cells(notebook):
    """The notebook's code cells."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def settings(home):
    """The kernel's environment: the user's, with IPython's settings in an empty folder.

    An empty matplotlibrc hides the user's, and leaves the cache of fonts in its place.
    """
    startup = home / "profile_default" / "startup" / "elsewhere.py"
    startup.parent.mkdir(parents=True)
    startup.write_text(STARTUP, encoding="utf-8")
    (home / "empty").touch()
    kept = {name: text for name, text in os.environ.items() if name not in SETTINGS}
    return kept | {
        "IPYTHONDIR": str(home),
        "MATPLOTLIBRC": str(home / "empty"),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }


class Runner(NotebookClient):
    """Prints a line a cell, with its heading and time, and bars as they come."""

    def __init__(self, notebook, folder):
        super().__init__(notebook, kernel_name="python3", timeout=None)
        self.resources = {"metadata": {"path": str(folder)}}
        self.extra_arguments = ["--log-level=ERROR"]
        self.record_timing = self.store_widget_state = self.coalesce_streams = False
        self.on_cell_start, self.on_cell_executed = self.start, self.done
        self.log = logging.getLogger("runner")
        self.log.setLevel(logging.CRITICAL)  # what matters is raised as well
        self.manager, self.where, self.seconds = None, "before the first cell", {}

    async def until_failure(self, environment):
        """Run the cells: None, or a text on what failed."""
        try:
            # What the kernel prints goes elsewhere: this is what dying processes say.
            await self.async_execute(env=environment, stdout=DEVNULL, stderr=DEVNULL)
        except CellExecutionError as error:
            message = " ".join(f"{error.ename}: {error.evalue}".split())
            return f"{self.where}:\n{message[:500]}"
        except DeadKernelError:
            return f"{self.where}:\nthe kernel died"
        except RuntimeError as error:  # nbclient's, when a kernel does not start
            return f"{self.where}:\n{' '.join(str(error).split())[:500]}"

    @asynccontextmanager
    async def async_setup_kernel(self, **kwargs):
        """A kernel of this very Python, of which nothing is left afterwards."""
        self.manager = self.create_kernel_manager()
        self.manager.kernel_spec_manager.kernel_dirs = []
        try:
            await self.async_start_new_kernel(**kwargs)
            await self.async_start_new_kernel_client()
            yield
            await self.manager.shutdown_kernel()
        finally:
            self.end()
            self.km = self.manager
            await self._async_cleanup_kernel()

    def end(self):
        """End the kernel and all that it started."""
        pid = getattr(self.manager and self.manager.provisioner, "pid", None)
        for action in ("terminate", "kill") if pid else ():
            processes = family(pid)
            for process in processes:
                with suppress(psutil.Error):
                    getattr(process, action)()
            psutil.wait_procs(processes, timeout=3)

    def process_message(self, msg, cell, cell_index):
        text, name = msg["content"].get("text", ""), msg["content"].get("name")
        if msg["msg_type"] == "stream" and ("\r" in text or name == "stderr"):
            print(text, end="", flush=True)
        widget = any("widget" in kind for kind in msg["content"].get("data", ()))
        if not widget and name != "stderr":  # neither is kept
            return super().process_message(msg, cell, cell_index)

    def start(self, cell, cell_index):
        """Before a cell: print its number and heading."""
        self.began = time.perf_counter()
        if cell.cell_type == "code":
            headings = self.headings(cell_index)
            heading = headings[-1][1] if headings else ""
            self.where = f"cell {cell.get('id', cell_index + 1)} ({heading})"
            chapters = [text for level, text in headings if level == "##"]
            self.chapter = chapters[-1] if chapters else ""
            self.title = f"[{cell_index + 1:>3}/{len(self.nb.cells)}] {heading}"[:60]
            print(self.title.ljust(60), end="", flush=True)

    def headings(self, cell_index):
        """The (level, text) of the headings above a cell."""
        above = (
            c.source for c in self.nb.cells[:cell_index] if c.cell_type == "markdown"
        )
        return re.findall(r"^(#+) (.+)", "\n".join(above), re.MULTILINE)

    def done(self, cell, cell_index, execute_reply):
        """After a cell: print its time, and add it to its chapter's."""
        took = time.perf_counter() - self.began
        self.seconds[self.chapter] = self.seconds.get(self.chapter, 0) + took
        print(f"\r{self.title.ljust(60)} {took:6.1f} s", flush=True)


def family(pid):
    """The process of that id, what it started, and what it left when it ended."""
    return [process for process in psutil.process_iter() if belongs(process, pid)]


def belongs(process, pid):
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
    notebook.metadata.pop("widgets", None)
    for cell in code_cells(notebook):
        cell.metadata.pop("execution", None)  # times, if Jupyter recorded them
        cell.outputs = merged(cell.outputs)
        for output in (o for o in cell.outputs if "image/png" in o.get("data", {})):
            output.data["image/png"] = smaller(output.data["image/png"])


def merged(outputs):
    """Outputs with the texts of successive streams as one, as a terminal shows them."""
    result = []
    for output in outputs:
        last = result[-1] if result else {}
        if "text" in output and output.get("name") == last.get("name"):
            last.text += output.text
        else:
            result.append(output)
    for output in (o for o in result if "text" in o):
        output.text = overwritten(output.text)
    return [o for o in result if o.get("text", "text").strip()]


def overwritten(text):
    """What is left of a text's lines when each carriage return starts its line anew."""
    *lines, last = text.split("\n")
    kept = [line.rstrip("\r").rpartition("\r")[2] for line in lines]
    return "\n".join([*kept, last.rpartition("\r")[2]])


def smaller(picture):
    """A PNG in base64 without its transparency; one above 45 kB with 256 colours."""
    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    image, file = image.quantize(256) if len(picture) > 60_000 else image, io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()
