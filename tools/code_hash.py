"""A fingerprint of a notebook's code."""

import hashlib


def code_lines(source):
    """The lines of a cell that are neither blank nor a comment and nothing else."""
    lines = "".join(source).split("\n")  # a file may hold the source as a list
    return [
        line for line in lines if line.strip() and not line.lstrip().startswith("#")
    ]


def code_hash(notebook):
    """SHA-256 of the code cells, in order, without blank and comment-only lines."""
    cells = (cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    text = "\n\n".join("\n".join(code_lines(cell["source"])) for cell in cells)
    return hashlib.sha256(text.encode()).hexdigest()
