"""Import the notebook's cells tagged `definitions`, for tests and benchmarks."""

import atexit
import functools
import importlib
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from paths import NOTEBOOK

os.environ["MPLBACKEND"] = "Agg"  # no windows; set before matplotlib is imported


def definition_source():
    """Return the source of the tagged cells, in order."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    tagged = [c for c in cells if "definitions" in c["metadata"].get("tags", [])]
    return "\n\n".join("".join(cell["source"]) for cell in tagged) + "\n"


@functools.cache
def load_definitions():
    """Import the tagged cells from a file: tracebacks and --cov show its lines."""
    folder = tempfile.mkdtemp(prefix="definitions-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    Path(folder, "definitions.py").write_text(definition_source(), encoding="utf-8")
    sys.path.insert(0, folder)
    return importlib.import_module("definitions")
