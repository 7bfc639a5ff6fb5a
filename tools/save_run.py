"""Save a full run's outputs in the notebook, and README's picture: save_run.py RUN"""

import sys
from base64 import b64decode

import nbformat
from load_definitions import NOTEBOOK, ROOT
from nbconvert.preprocessors import CoalesceStreamsPreprocessor

run, notebook = (nbformat.read(path, as_version=4) for path in (sys.argv[1], NOTEBOOK))
code = [cell for cell in run.cells if cell.cell_type == "code"]
if any(output.output_type == "error" for cell in code for output in cell.outputs):
    sys.exit("not saved: a cell failed")
if not all(cell.execution_count for cell in code):
    sys.exit("not saved: some cells did not run")
if [cell.source for cell in run.cells] != [cell.source for cell in notebook.cells]:
    sys.exit("not saved: run with -p, or the notebook has changed since")
for cell, done in zip(notebook.cells, run.cells, strict=True):
    if cell.cell_type == "code":  # keep all but emptied progress displays
        kept = [o for o in done.outputs if o.get("data", {}).get("text/markdown") != ""]
        cell.update(outputs=kept, execution_count=done.execution_count)
pictures = [cell.outputs[0] for cell in notebook.cells if cell.id == "staircase"]
nbformat.write(CoalesceStreamsPreprocessor().preprocess(notebook, {})[0], NOTEBOOK)
for picture in pictures:  # none without the last chapter
    (ROOT / "docs/test_errors.png").write_bytes(b64decode(picture.data["image/png"]))
