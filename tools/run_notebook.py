"""Run the notebook top to bottom with live progress, and save its outputs in place.

python tools/run_notebook.py [NOTEBOOK]
"""

import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parent.parent


class Runner(NotebookClient):
    """Prints a line a cell, with its title and time, and passes progress bars on as they come."""

    def process_message(self, msg, cell, cell_index):
        text = msg["content"].get("text", "") if msg["msg_type"] == "stream" else ""
        if "\r" in text:
            print(text, end="", flush=True)
        return super().process_message(msg, cell, cell_index)

    def title(self, index):
        above = "\n".join(c.source for c in self.nb.cells[:index] if c.cell_type == "markdown")
        headings = [line.lstrip("# ") for line in above.splitlines() if line.startswith("#")]
        place = f"[{index + 1:>3}/{len(self.nb.cells)}]"
        return f"{place} {headings[-1] if headings else ''}"[:60].ljust(60)

    def start(self, cell, cell_index):
        self.began = time.perf_counter()
        if cell.cell_type == "code":
            print(self.title(cell_index), end="", flush=True)

    def done(self, cell, cell_index, execute_reply):
        print(f"\r{self.title(cell_index)} {time.perf_counter() - self.began:6.1f} s", flush=True)


def main(path):
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    notebook = nbformat.read(path, as_version=4)
    runner = Runner(
        notebook,
        kernel_name="python3",
        timeout=None,
        resources={"metadata": {"path": str(path.parent)}},
        extra_arguments=["--log-level=ERROR"],
        record_timing=False,
        coalesce_streams=True,
        store_widget_state=False,
    )
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
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "DLCV_Assignment1.ipynb").resolve())
