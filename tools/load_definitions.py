"""Import the notebook's cells tagged `definitions`, for tests and benchmarks."""

import functools
import importlib
import json
import os
import sys
import tempfile
from pathlib import Path

from paths import NOTEBOOK

os.environ["MPLBACKEND"] = "Agg"  # no windows; set before matplotlib is imported
FOLDER = tempfile.TemporaryDirectory(prefix="definitions-", ignore_cleanup_errors=True)


def definition_source():
    """Return the source of the tagged cells, in order."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    tagged = [c for c in cells if "definitions" in c["metadata"].get("tags", [])]
    return "\n\n".join("".join(cell["source"]) for cell in tagged) + "\n"


@functools.cache
def load_definitions():
    """Import the tagged cells from a file: tracebacks and --cov show its lines."""
    Path(FOLDER.name, "definitions.py").write_text(definition_source(), "utf-8")
    sys.path.insert(0, FOLDER.name)
    return importlib.import_module("definitions")
