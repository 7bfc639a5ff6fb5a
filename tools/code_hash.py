"""A notebook's code cells, and a hash that shows whether they have changed."""

import hashlib
import re


def code_cells(notebook):
    """List the notebook's code cells."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def code_hash(notebook):
    """Return the SHA-256 of the code cells, ignoring blank and comment-only lines."""
    sources = []
    for cell in code_cells(notebook):
        lines = cell.source.split("\n")
        code_lines = [line for line in lines if not re.match(r"\s*(#|$)", line)]
        sources.append("\n".join(code_lines))
    return hashlib.sha256("\n\n".join(sources).encode()).hexdigest()
