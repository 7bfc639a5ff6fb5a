"""Run a copy of a notebook with live progress: run_notebook.py [NOTEBOOK] [--save]

The executed notebook and an HTML page of it go to the folder build/ beside the notebook. With
--save, the notebook itself and what README.md quotes from it are brought up to date as well.
"""

import argparse
import base64
import io
import os
import re
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbconvert import HTMLExporter
from PIL import Image

WRAP = """<style>@media print { pre { white-space: pre-wrap !important; font-size: 8pt !important }
h2, h3 { break-after: avoid } }</style>"""  # paper is narrow
NOTEBOOK = Path(__file__).resolve().parent.parent / "DLCV_Assignment1.ipynb"


class Runner(NotebookClient):
    """Prints a line a cell, with its heading and time; prints bars and warnings as they come."""

    def process_message(self, msg, cell, cell_index):
        text, name = msg["content"].get("text", ""), msg["content"].get("name")
        if msg["msg_type"] == "stream" and ("\r" in text or name == "stderr"):
            print(text, end="", flush=True)
        widget = any("widget" in kind for kind in msg["content"].get("data", ()))
        if not widget and name != "stderr":  # neither is kept
            return super().process_message(msg, cell, cell_index)

    def start(self, cell, cell_index):
        self.began = time.perf_counter()
        above = "\n".join(c.source for c in self.nb.cells[:cell_index] if c.cell_type == "markdown")
        heading = (re.findall(r"^#+ (.+)", above, re.M) or [""])[-1]
        self.title = f"[{cell_index + 1:>3}/{len(self.nb.cells)}] {heading}"[:60].ljust(60)
        if cell.cell_type == "code":
            print(self.title, end="", flush=True)

    def done(self, cell, cell_index, execute_reply):
        print(f"\r{self.title} {time.perf_counter() - self.began:6.1f} s", flush=True)


def run(notebook, folder):
    """Execute the cells in place, as Jupyter would in that folder, and leave clean outputs."""
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    os.environ.pop("MPLBACKEND", None)  # pictures go into the notebook, whatever the shell says
    runner = Runner(notebook, kernel_name="python3", timeout=None, record_timing=False)
    runner.resources = {"metadata": {"path": str(folder)}}
    runner.extra_arguments = ["--log-level=ERROR"]
    runner.coalesce_streams, runner.store_widget_state = True, False
    runner.on_cell_start, runner.on_cell_executed = runner.start, runner.done
    runner.execute()
    notebook.metadata.language_info = {"name": "python"}
    notebook.metadata.pop("widgets", None)
    for cell in (c for c in notebook.cells if c.cell_type == "code"):
        cell.metadata.pop("execution", None)  # times, if Jupyter recorded them
        for output in (o for o in cell.outputs if "text" in o):  # a bar that has gone leaves blanks
            output.text = re.sub(r".*\r(?!\n)", "", output.text)
        cell.outputs = [o for o in cell.outputs if o.get("text", "text").strip()]
        for output in (o for o in cell.outputs if "image/png" in o.get("data", {})):
            output.data["image/png"] = smaller(output.data["image/png"])


def smaller(picture):
    """A PNG in base64 without its transparency; one above 45 kB with 256 colours."""
    image, file = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB"), io.BytesIO()
    (image.quantize(256) if len(picture) > 60_000 else image).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def displays(notebook, cell_id, holds):
    """The outputs of the cell of that id whose data or metadata hold something of that name."""
    found = [o for c in notebook.cells if c.get("id") == cell_id for o in c.get("outputs", [])]
    return [o for o in found if holds in o.get("data", {}) or holds in o.get("metadata", {})]


def update_readme(text, results):
    """README's text with the values in its table of results replaced by the notebook's."""
    table = text.partition("<!-- results -->")[2].partition("<!-- /results -->")[0]
    for row in re.findall(r"^\|.*", table, re.M)[2:]:
        label = row.split("|")[1].strip()
        if label not in results:
            sys.exit(f"README.md quotes {label!r}, which is no result here. Nothing is saved.")
        text = text.replace(row, f"| {label} | {results[label][0]} |")
    return text.encode()


def write(files):
    """Write {path: bytes}: each file whole, and none if one of them cannot be written."""
    parts = {path.with_name(path.name + ".tmp"): path for path in files}
    try:
        for part, path in parts.items():
            part.parent.mkdir(exist_ok=True)
            part.write_bytes(files[path])
        for part, path in parts.items():
            print("written:", part.replace(path))
    finally:
        for part in parts:
            part.unlink(missing_ok=True)


def main(path, save):
    folder, before, results = path.parent, path.read_bytes(), {}
    notebook = nbformat.reads(before.decode(), as_version=4)
    try:
        run(notebook, folder)
    except (CellExecutionError, DeadKernelError) as error:
        sys.exit(f"\n{error}\n{path.name} is left as it was.")
    for table in displays(notebook, "summary", "results"):
        results = table.metadata["results"]
        for cell in (c for c in notebook.cells if c.get("id") == "answers"):
            cell.source = table.data["text/markdown"]
    done = (nbformat.writes(notebook) + "\n").encode()
    page, _ = HTMLExporter().from_notebook_node(notebook, {"metadata": {"name": path.stem}})
    page = page.replace("</head>", WRAP + "</head>", 1)
    write({folder / "build" / path.name: done, folder / f"build/{path.stem}.html": page.encode()})
    if save:
        files, readme = {path: done}, folder / "README.md"
        if path.read_bytes() != before:
            sys.exit(f"{path.name} has been edited meanwhile. Nothing is saved.")
        if readme.exists():
            files[readme] = update_readme(readme.read_text("utf-8"), results)
            for picture in displays(notebook, "staircase", "image/png"):
                files[folder / "docs/staircase.png"] = base64.b64decode(picture.data["image/png"])
        write(files)


if __name__ == "__main__":
    for stream in sys.stdout, sys.stderr:  # a console that is not UTF-8 shows "?"
        stream.reconfigure(errors="replace")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebook", nargs="?", type=Path, default=NOTEBOOK)
    parser.add_argument("--save", action="store_true", help="also update the notebook and README")
    given = parser.parse_args()
    main(given.notebook.resolve(), given.save)
