"""Sections, prints, answers, figures and tables of a notebook as saved."""

import re
from xml.etree import ElementTree


def sections(notebook):
    """{"1.10", or the title of a heading without number, up to a colon: its cells}.

    What stands before Setup is "top", page 1; "all" is the whole."""
    found = {"all": notebook.cells, "top": []}
    key = "top"
    for cell in notebook.cells:
        headings = re.findall(r"^##+ (\d+\.\d+|[^:\n]+)", markdown([cell]), re.M)
        if headings and (key != "top" or "Setup" in headings):
            key = headings[-1]
        found.setdefault(key, []).append(cell)
    return found


def markdown(cells):
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def outputs(cells):
    return [o for cell in cells if cell.cell_type == "code" for o in cell.outputs]


def printed(cells):
    return "".join(output.get("text", "") for output in outputs(cells))


def shown(cells, mime):
    """The data of a kind in the outputs of some cells."""
    return [o.data[mime] for o in outputs(cells) if mime in o.get("data", {})]


def figures(cells):
    """(alternative text or "", PNG) of each figure of some cells."""
    found = [o for o in outputs(cells) if "image/png" in o.get("data", {})]
    alts = [o.metadata.get("image/png", {}).get("alt", "") for o in found]
    return [(alt, o.data["image/png"]) for alt, o in zip(alts, found, strict=True)]


def table_rows(text):
    """The rows of a Markdown table as lists of texts, without links and the header."""
    lines = re.sub(r"\[([^]]*)\]\(.*?\)", r"\1", text).split("\n")
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("|")]
    return rows[2:]


def answers(notebook):
    """The table on page 1: {(section, asked): found}."""
    texts = shown(sections(notebook)["top"], "text/markdown")
    rows = [row for text in texts for row in table_rows(text)]
    return {(section, asked): found for section, asked, found in rows}


def plain(cells):
    """The DataFrames that some cells show as texts."""
    data = [o.get("data", {}) for o in outputs(cells)]
    texts = [d["text/plain"] for d in data if d.keys() == {"text/plain"}]
    return [text for text in texts if "\n" in text]


def frames(cells):
    """The DataFrames that some cells display: {labels of row and column: text}."""
    tables = [re.search("<table.*</table>", h, re.S) for h in shown(cells, "text/html")]
    found = [text_frame(text) for text in plain(cells) if "±" in text]
    return found + [frame(table[0]) for table in tables if table]


def text_frame(text):
    """The cells of a DataFrame of two row labels, shown as a text."""
    head, _, *lines = [re.split(r"\s{2,}", line.strip()) for line in text.split("\n")]
    found, block = {}, ""
    for line in lines:
        *labels, label = " ".join(line[: 1 - len(head)]).split()
        block = labels[0] if labels else block
        values = zip(head[1:], line[1 - len(head) :], strict=True)
        found |= {(block, label, column): value for column, value in values}
    return found


def frame(html):
    """A DataFrame's numbers, each at the labels of its row and its column; then the
    titles of both."""
    rows = []
    for row in ElementTree.fromstring(html).iter("tr"):
        widths = [(cell, int(cell.get("colspan", 1))) for cell in row]
        rows.append(
            [(c.tag, c.text or "") for c, width in widths for _ in range(width)]
        )
    heads = [row for row in rows if row[-1][0] == "th"]
    numbers, row = {}, heads[-1]
    for given in rows[len(heads) :]:
        row = row[: len(row) - len(given)] + given  # a label may span several rows
        beside = [text for tag, text in row if tag == "th"]
        titles = [head[k][1] for head in heads for k in range(len(beside))]
        for column in range(len(beside), len(row)):
            labels = *beside, *(head[column][1] for head in heads), *titles
            numbers[tuple(filter(None, labels))] = row[column][1]
    return numbers
