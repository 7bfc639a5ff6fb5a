"""The HTML page of a saved notebook: make_page.py [NOTEBOOK] [--output FILE]

Nothing is run. The page is one file that needs neither a network nor a script: its
formulas are MathML, its pictures are inside it. nbconvert does most of it.
"""

import argparse
import sys
from html import escape
from pathlib import Path
from urllib.parse import unquote

from start import ROOT, missing

try:
    import nbformat
    from bs4 import BeautifulSoup
    from latex2mathml.converter import convert
    from nbconvert import HTMLExporter
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
    from pygments.formatters import HtmlFormatter
except ModuleNotFoundError as error:
    missing(error)

NOTEBOOK = ROOT / "DLCV_Assignment1.ipynb"
PAGE = ROOT / "tools" / "page"
REPAIRS = {  # in MathML: a norm's bars, a matrix's edges, a number's sign, log 2
    "<mo>&#x02016;": '<mo stretchy="false">&#x02016;',
    "<mo>&#x00028;</mo><mtable>": '<mtable class="matrix">',
    "</mtable><mo>&#x00029;</mo>": "</mtable>",
    "&#x00028;</mo><mo>&#x02212;": '&#x00028;</mo><mo form="prefix">&#x02212;',
    "&#x0002C;</mo><mo>&#x02212;": '&#x0002C;</mo><mo form="prefix">&#x02212;',
    "<mi>log</mi>": '<mo lspace="0" rspace="0.17em">log</mo>',
}


class Renderer(IPythonRenderer):
    """nbconvert's way from Markdown to HTML, with formulas as MathML."""

    def inline_math(self, body, display="inline"):
        """A formula as MathML, or its source if that cannot be read."""
        try:
            mathml = convert(body, display=display)
        except Exception:  # latex2mathml has many kinds
            return f'<code class="tex">{escape(body)}</code>'
        for part, better in REPAIRS.items():
            mathml = mathml.replace(part, better)
        return mathml

    def block_math(self, body):
        """A formula that is shown on its own."""
        return f'<span class="math">{self.inline_math(body, "block")}</span>'


def markdown2html(source):
    """The HTML of Markdown."""
    return MarkdownWithMath(Renderer(escape=False)).render(source)


def contents(page):
    """The table of contents as HTML: a list of the h2 and h3."""
    entries = []
    for heading in page.main(["h2", "h3"]):
        inside = "".join(str(part) for part in heading.contents[:-1])  # without the ¶
        link = f'<a href="#{escape(heading["id"])}">{inside}</a>'
        entries.append(f'<li class="{heading.name}">{link}</li>')
    return f"<ul>{''.join(entries)}</ul>"


def make_page(notebook):
    """The page of a notebook as one HTML text; the title is its first heading."""
    style = (PAGE / "style.css").read_text("utf-8")
    exporter = HTMLExporter(
        template_name="classic",
        raw_template=(PAGE / "index.html.j2").read_text("utf-8"),
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        filters={"markdown2html": markdown2html},
    )
    resources = {"style": style + HtmlFormatter().get_style_defs(".highlight")}
    html, _ = exporter.from_notebook_node(notebook, resources)
    page = BeautifulSoup(html, "html.parser")
    page.title.string = page.h1.text[:-1] if page.h1 else "Notebook"
    for tag in page.main(id=True):  # nbconvert quotes them; browsers compare unquoted
        tag["id"] = unquote(tag["id"])
    page.nav.append(BeautifulSoup(contents(page), "html.parser"))
    return str(page)


def write(files):
    """Write {path: bytes}: each file whole, and none if one cannot be written."""
    parts = {path: path.with_name(f"{path.name}.tmp") for path in files}
    try:
        for path, part in parts.items():
            part.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(files[path])
        for path, part in parts.items():
            print("written:", part.replace(path))
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def main():
    """Write the page of the notebook named on the command line."""
    parser = argparse.ArgumentParser(description="The HTML page of a saved notebook.")
    parser.add_argument("notebook", nargs="?", type=Path, default=NOTEBOOK)
    parser.add_argument("--output", type=Path, help="default: build/ beside it")
    given = parser.parse_args()
    default = given.notebook.parent / "build" / f"{given.notebook.stem}.html"
    try:
        notebook = nbformat.read(given.notebook, as_version=4)
        write({given.output or default: make_page(notebook).encode()})
    except (OSError, ValueError) as error:  # no such file, no notebook, no room
        sys.exit(f"No page is made: {error}".partition("\n")[0])


if __name__ == "__main__":
    main()
