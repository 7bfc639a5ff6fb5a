"""A notebook's code cells, and a hash that shows whether they have changed."""

import ast
import hashlib
import io
import tokenize


def code_cells(notebook):
    """List the notebook's code cells."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def code_lines(source):
    """List a cell's lines without docstrings, comments and blank lines."""
    lines = source.split("\n")
    try:
        nodes = [*ast.walk(ast.parse(source))]
    except SyntaxError:  # not Python alone: a line such as %time
        return lines
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
            first, last = node.body[0].lineno, node.body[0].end_lineno
            lines[first - 1 : last] = [""] * (last - first + 1)
    return [line.rstrip() for line in lines if line.strip()]


def code_hash(notebook):
    """Return the SHA-256 of the code cells' lines."""
    cells = ["\n".join(code_lines(cell.source)) for cell in code_cells(notebook)]
    return hashlib.sha256("\n\n".join(cells).encode()).hexdigest()
