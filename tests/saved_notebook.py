"""Read the saved notebook: its sections, and what their cells print and display."""

import ast
import re
from dataclasses import dataclass

NUMBER = re.compile(
    r"(?<![\w.])"  # not inside a word or another number
    r"[-+]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?"
    r"(?!\w)"
)


@dataclass
class Section:
    """Cells of the notebook, and their answers {question: result} on page 1."""

    cells: list
    answers: dict

    @property
    def markdown(self):
        """The text of the Markdown cells."""
        return "\n\n".join(c.source for c in self.cells if c.cell_type == "markdown")

    @property
    def code(self):
        """The source of the code cells."""
        return "\n\n".join(c.source for c in self.cells if c.cell_type == "code")

    @property
    def identifiers(self):
        """The names and attributes that the code uses."""
        nodes = list(ast.walk(ast.parse(self.code)))
        names = {node.id for node in nodes if isinstance(node, ast.Name)}
        return names | {node.attr for node in nodes if isinstance(node, ast.Attribute)}

    @property
    def outputs(self):
        """The outputs of the code cells."""
        return [output for cell in self.cells for output in cell.get("outputs", [])]

    @property
    def printed(self):
        """Everything that the code prints."""
        return "".join(output.get("text", "") for output in self.outputs)

    @property
    def figures(self):
        """The figures: (alternative text, PNG in base64) of each."""
        outputs = [o for o in self.outputs if "image/png" in o.get("data", {})]
        alts = [o.metadata.get("image/png", {}).get("alt", "") for o in outputs]
        return list(zip(alts, self.displayed("image/png"), strict=True))

    def displayed(self, mime_type):
        """The data of one MIME type in the outputs."""
        data = [output.get("data", {}) for output in self.outputs]
        return [by_type[mime_type] for by_type in data if mime_type in by_type]


def read_sections(notebook):
    """Return {"1.10", or a heading that has no number: its Section}.

    "page 1" is everything before the second heading, "all" the whole notebook."""
    key, cells = "page 1", {"all": notebook.cells}
    for cell in notebook.cells:
        heading = re.match(r"###? (\d+\.\d+|.+)", cell.source)
        if heading and cell.cell_type == "markdown":
            key = heading[1]
        cells.setdefault(key, []).append(cell)

    answers = {key: {} for key in cells}
    for (key, question), result in read_answers(notebook).items():
        answers[key][question] = result
    return {key: Section(cells[key], answers[key]) for key in cells}


def read_answers(notebook):
    """Return the tables on page 1: {(section, question): result}."""
    (cell,) = [cell for cell in notebook.cells if cell.id == "answers"]
    answers = {}
    for output in cell.outputs:
        answers |= read_results(output.data["text/markdown"])
    return answers


def read_results(text):
    """Return {(section, question): result} of a Markdown table, without links."""
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [line.strip("| ").split(" | ") for line in lines[2:]]
    return {(section, question): result for section, question, result in rows}


def read_numbers(text):
    """Return all numbers in a text, in order."""
    return [float(number.replace(",", "")) for number in NUMBER.findall(text)]


def read_percentages(text):
    """Return all numbers in a text that a percent sign follows."""
    return [float(number) for number in re.findall(r"(\d+(?:\.\d+)?) ?%", text)]
