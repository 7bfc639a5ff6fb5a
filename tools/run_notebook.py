"""Run a notebook with live progress and save its outputs: run_notebook.py [NOTEBOOK]"""

import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

NOTEBOOK = Path(__file__).resolve().parent.parent / "DLCV_Assignment1.ipynb"


class Runner(NotebookClient):
    """Prints a line a cell, with its title and time, and passes progress bars on as they come."""

    def process_message(self, msg, cell, cell_index):
        text = msg["content"].get("text", "") if msg["msg_type"] == "stream" else ""
        if "\r" in text:
            print(text, end="", flush=True)
        return super().process_message(msg, cell, cell_index)

    def start(self, cell, cell_index):
        self.began = time.perf_counter()
        above = [c.source for c in self.nb.cells[:cell_index] if c.cell_type == "markdown"]
        headings = [line for line in "\n".join(above).splitlines() if line.startswith("#")]
        title = f"[{cell_index + 1:>3}/{len(self.nb.cells)}] {(headings or ['#'])[-1].lstrip('# ')}"
        self.title = title[:60].ljust(60)
        if cell.cell_type == "code":
            print(self.title, end="", flush=True)

    def done(self, cell, cell_index, execute_reply):
        print(f"\r{self.title} {time.perf_counter() - self.began:6.1f} s", flush=True)


def main(path):
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    notebook = nbformat.read(path, as_version=4)
    runner = Runner(notebook, kernel_name="python3", timeout=None, record_timing=False)
    runner.resources = {"metadata": {"path": str(path.parent)}}
    runner.extra_arguments = ["--log-level=ERROR"]
    runner.coalesce_streams, runner.store_widget_state = True, False
    runner.on_cell_start, runner.on_cell_executed = runner.start, runner.done
    try:
        runner.execute()
    except CellExecutionError as error:
        sys.exit(f"\n{error}\n{path.name} is left as it was.")
    for cell in notebook.cells:
        if cell.cell_type == "code":  # a bar that has gone leaves blanks
            cell.outputs = [o for o in cell.outputs if o.get("text", "text").strip()]
    notebook.metadata.language_info = {"name": "python"}
    saved = path.with_suffix(".tmp")
    nbformat.write(notebook, saved)
    saved.replace(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else NOTEBOOK)
