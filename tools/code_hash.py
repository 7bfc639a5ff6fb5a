"""A notebook's code cells, and a fingerprint of them."""

import hashlib
import re


def code_cells(notebook):
    """The notebook's code cells."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def code_hash(notebook):
    """SHA-256 of the code cells, in order, without blank and comment-only lines."""
    sources = []
    for cell in code_cells(notebook):
        lines = cell.source.split("\n")
        kept = [line for line in lines if not re.match(r"\s*(#|$)", line)]
        sources.append("\n".join(kept))
    return hashlib.sha256("\n\n".join(sources).encode()).hexdigest()
