"""Read the notebook: its cells by section, and what they print and display."""

import ast
import functools
import re
from dataclasses import dataclass

import nbformat
from paths import NOTEBOOK


@dataclass
class Section:
    """Cells of the notebook."""

    cells: list

    def source(self, cell_type):
        """The Markdown or the code of all cells."""
        return "\n\n".join(c.source for c in self.cells if c.cell_type == cell_type)

    @property
    def outputs(self):
        return [output for cell in self.cells for output in cell.get("outputs", [])]

    @property
    def printed(self):
        return "".join(output.get("text", "") for output in self.outputs)

    def displayed(self, mime_type):
        """The data of one MIME type in the outputs."""
        data = [output.get("data", {}) for output in self.outputs]
        return [by_type[mime_type] for by_type in data if mime_type in by_type]


@functools.cache
def read_notebook(path=NOTEBOOK):
    return nbformat.read(path, as_version=4)


def read_sections(notebook):
    """Return {"1.10", or a heading that has no number: its Section}.

    "page 1" is everything before the second heading."""
    sections = {"page 1": Section([])}
    for cell in notebook.cells:
        heading = re.match(r"###? (\d+\.\d+|.+)", cell.source)
        if heading and cell.cell_type == "markdown":
            sections[heading[1]] = Section([])
        [*sections.values()][-1].cells.append(cell)
    return sections


def read_answers(notebook):
    """Return the tables on page 1: {(section, question): result}."""
    (cell,) = [cell for cell in notebook.cells if cell.id == "answers"]
    return read_results(
        "\n".join(output.data["text/markdown"] for output in cell.outputs)
    )


def read_results(text):
    """Return {(section, question): result} of Markdown tables, without links."""
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)
    lines = [line.strip("| ") for line in text.splitlines() if line.startswith("|")]
    rows = [line.split(" | ") for line in lines if line[0].isdigit()]
    return {(section, question): result for section, question, result in rows}


@functools.cache
def code_cells():
    """(section, id, source) of all code cells."""
    sections = read_sections(read_notebook()).items()
    pairs = [(name, cell) for name, section in sections for cell in section.cells]
    return [(name, c.id, c.source) for name, c in pairs if c.cell_type == "code"]


def section_of(cell_id):
    """The section of a code cell."""
    sections = {name: section for section, name, _ in code_cells()}
    assert cell_id in sections, f"the notebook has no code cell {cell_id}"
    return sections[cell_id]


def sources_beside(*cell_ids, edits=None):
    """The sources of all code cells in the sections of these cells, in order.

    edits: {code that stands there once: its replacement}."""
    sections = {section_of(cell_id) for cell_id in cell_ids}
    sources = [source for name, _, source in code_cells() if name in sections]
    for old, new in (edits or {}).items():
        assert sum(s.count(old) for s in sources) == 1, f"expected {old!r} once"
        sources = [source.replace(old, new) for source in sources]
    return sources


def names_in(source):
    """The names and attributes that Python code uses."""
    nodes = list(ast.walk(ast.parse(source)))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    return names | {node.attr for node in nodes if isinstance(node, ast.Attribute)}


def exercises():
    """{id of a Markdown cell: [(code, answer)]} of its blocks of Python.

    The answer is what is folded below the block; "" if nothing is."""
    block = r"(?s)```python\n(.*?)```(?:\s*<details>(.*?)</details>)?"
    sources = {c.id: c.source for c in read_notebook().cells if "```python" in c.source}
    return {name: re.findall(block, source) for name, source in sources.items()}
