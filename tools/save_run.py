"""Save a full run's outputs in its notebook; then README's picture, and the page.

python tools/save_run.py RUN.ipynb
"""

import hashlib
import re
import sys
from base64 import b64decode
from pathlib import Path

import nbformat
from load_definitions import CONVNET, NOTEBOOK, ROOT
from make_page import PAGE, make_page
from nbconvert.preprocessors import CoalesceStreamsPreprocessor


def reason_to_refuse(run, notebook):
    """Say why a run is not one to save, or return None."""
    code = [cell for cell in run.cells if cell.cell_type == "code"]
    outputs = [output for cell in code for output in cell.outputs]
    printed = "".join(output.get("text", "") for output in outputs)
    counts = [cell.execution_count for cell in code]
    if any(output.output_type == "error" for output in outputs):
        return "a cell failed"
    if None in counts:
        return "some cells did not run"
    if counts != [*range(1, len(code) + 1)]:
        return "the cells did not run once each, from top to bottom"
    if [cell.source for cell in run.cells] != [cell.source for cell in notebook.cells]:
        return "run with -p, or the notebook has changed since"
    if not any(re.match(r"SHARE = 1(\.0*)?\s*(#|$)", cell.source) for cell in code):
        return "SHARE is not 1.0"
    if "only a sample" in printed:
        return "CIFAR-10 was missing, so the run used the sample of 20 images"
    if "Not our filters" in printed:
        return "it used filters that are not our C0_weights.npy"
    return None


def text_shown(cell):
    """Return all text that a cell shows: what it prints, then its Markdown or text."""
    outputs = [o for o in cell.get("outputs", []) if o.get("name") != "stderr"]
    data = [output.data for output in outputs if "data" in output]
    texts = [d.get("text/markdown", d.get("text/plain", "")) for d in data]
    printed = "".join(output.get("text", "") for output in outputs)
    return "\n".join([printed, *filter(None, texts)]).strip()


def code_digest(notebook):
    """Return the SHA-256 of a notebook's code, read as text."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256("\n\n".join(code).encode()).hexdigest()


def save_run(path):
    """Copy the outputs of a run to its notebook, and write what is made from them."""
    run = nbformat.read(path, as_version=4)
    is_first = any(cell.id == "answers" for cell in run.cells)
    target = NOTEBOOK if is_first else CONVNET
    notebook = nbformat.read(target, as_version=4)
    if reason := reason_to_refuse(run, notebook):
        sys.exit(f"not saved: {reason}")
    for cell, done in zip(notebook.cells, run.cells, strict=True):
        if text_shown(cell) != text_shown(done):
            print(f"other text than before: cell {cell.id}")
        if cell.cell_type == "code":  # keep all but emptied progress displays
            kept = [o for o in done.outputs if "" not in o.get("data", {}).values()]
            cell.update(outputs=kept, execution_count=done.execution_count)
    notebook.metadata["code_digest"] = code_digest(notebook)
    nbformat.write(CoalesceStreamsPreprocessor().preprocess(notebook, {})[0], target)
    for cell in notebook.cells:
        if cell.id == "q5-all-filters":
            png = b64decode(cell.outputs[0].data["image/png"])
            (ROOT / "docs" / "filters.png").write_bytes(png)
    if is_first:
        PAGE.write_text(make_page(NOTEBOOK), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {Path(sys.argv[0]).name} RUN.ipynb, a run of the notebook")
    save_run(sys.argv[1])
