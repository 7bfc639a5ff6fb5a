"""The notebook's cells tagged `definitions` as a module, for tests and benchmarks."""

import functools
import importlib
import json
import os
import sys
import tempfile
from pathlib import Path

os.environ["MPLBACKEND"] = "Agg"  # no windows; before anything imports matplotlib

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "DLCV_Assignment1.ipynb"
FOLDER = tempfile.TemporaryDirectory(prefix="definitions-")  # goes when Python ends


def definition_source():
    """The source of the tagged cells, in order."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    tagged = [c for c in cells if "definitions" in c["metadata"].get("tags", [])]
    return "\n\n".join("".join(cell["source"]) for cell in tagged) + "\n"


@functools.cache
def load_definitions():
    """The module `definitions`, from a file: tracebacks and --cov show its lines."""
    (Path(FOLDER.name) / "definitions.py").write_text(
        definition_source(), encoding="utf-8"
    )
    sys.path.insert(0, FOLDER.name)
    return importlib.import_module("definitions")
