"""Read the notebook: its cells by section, and what they print and display."""

import functools
import re
from dataclasses import dataclass

import nbformat
from load_definitions import NOTEBOOK


@dataclass
class Cells:
    """Some cells of the notebook: a section, or others."""

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

    @property
    def alternative_texts(self):
        """Of the figures."""
        metadata = [output.get("metadata", {}) for output in self.outputs]
        return [by_type["image/png"]["alt"] for by_type in metadata if by_type]


@functools.cache
def read_notebook(path=NOTEBOOK):
    return nbformat.read(path, as_version=4)


def read_sections(notebook):
    """Return {"1.10", or a heading that has no number: the section's Cells}.

    "page 1" is everything before the second heading."""
    sections = {"page 1": Cells([])}
    for cell in notebook.cells:
        heading = re.match(r"###? (\d+\.\d+|.+)", cell.source)
        if heading and cell.cell_type == "markdown":
            sections[heading[1]] = Cells([])
        [*sections.values()][-1].cells.append(cell)
    return sections


def read_answers(notebook):
    """Return the tables on page 1: {(section, question): result}, without links."""
    (cell,) = [cell for cell in notebook.cells if cell.id == "answers"]
    text = "\n".join(output.data["text/markdown"] for output in cell.outputs)
    row = r"(?m)^\| \[([\d.]+)\]\(\S+\) \| (.*?) \| (.*) \|$"
    return {
        (section, asked): result for section, asked, result in re.findall(row, text)
    }


@functools.cache
def code_cells():
    """(section, id, source) of all code cells."""
    sections = read_sections(read_notebook()).items()
    pairs = [(name, cell) for name, section in sections for cell in section.cells]
    return [(name, c.id, c.source) for name, c in pairs if c.cell_type == "code"]


def source_of(cell_id):
    """The source of one code cell."""
    (source,) = [source for _, k, source in code_cells() if k == cell_id]
    return source
