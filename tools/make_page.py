"""The HTML page of a saved notebook: make_page.py [NOTEBOOK] [--output FILE]

Nothing is run. The page is one file that needs neither a network nor a script: its
formulas are MathML, its pictures are inside it. nbconvert does most of it.
"""

import argparse
import os
import re
import sys
from html import escape
from pathlib import Path
from urllib.parse import unquote

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
from start import missing, start

if __name__ == "__main__":
    start()
try:
    import nbformat
    from bs4 import BeautifulSoup
    from jinja2 import pass_context
    from latex2mathml.converter import convert
    from nbconvert import HTMLExporter
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
    from pygments.formatters import HtmlFormatter
except ModuleNotFoundError as error:
    missing(error)

TOOLS = Path(__file__).resolve().parent
NOTEBOOK = TOOLS.parent / "DLCV_Assignment1.ipynb"
REPAIRS = [  # in MathML, of what needs a maths font, or TeX's spacing
    ("<mo>&#x02016;", '<mo stretchy="false">&#x02016;'),  # the norm's bars
    (  # a matrix gets curved edges
        "<mo>&#x00028;</mo><mtable>(.*?)</mtable><mo>&#x00029;</mo>",
        r'<mtable class="matrix">\1</mtable>',
    ),
    (  # the sign of a number
        "(&#x00028;|&#x0002C;)</mo><mo>&#x02212;",
        r'\1</mo><mo form="prefix">&#x02212;',
    ),
    ("<mi>log</mi>(?=<m[is])", '<mi>log</mi><mspace width="0.17em"></mspace>'),
]


class Renderer(IPythonRenderer):
    """nbconvert's way from Markdown to HTML, with formulas as MathML."""

    def inline_math(self, body, display="inline"):
        """A formula as MathML, or its source if that cannot be read."""
        try:
            mathml = convert(body, display=display)
        except Exception:  # latex2mathml has many kinds
            return f'<code class="tex">{escape(body)}</code>'
        for pattern, better in REPAIRS:
            mathml = re.sub(pattern, better, mathml)
        return mathml

    def block_math(self, body):
        """A formula that is shown on its own."""
        return f'<span class="math">{self.inline_math(body, "block")}</span>'

    def _html_embed_images(self, html):
        """Leave HTML as it is: nbconvert would close a <details> at its first part."""
        return html

    def latex_environment(self, name, body):
        """An environment that no dollars surround."""
        return self.block_math(f"\\begin{{{name}}}{body}\\end{{{name}}}")


class PageExporter(HTMLExporter):
    """nbconvert's exporter with this renderer."""

    @pass_context
    def markdown2html(self, context, source):
        """The HTML of Markdown; pictures of the notebook's folder are put in."""
        path = context["resources"]["metadata"]["path"]
        renderer = Renderer(escape=False, embed_images=True, path=path)
        return MarkdownWithMath(renderer).render(source)


def contents(page):
    """The table of contents as HTML: a list of the h2 and h3."""
    entries = []
    for heading in page.main(["h2", "h3"]):
        inside = "".join(str(part) for part in heading.contents[:-1])  # without the ¶
        inside = re.sub(r"</?a\b[^>]*>", "", inside)
        link = f'<a href="#{escape(heading["id"])}">{inside}</a>'
        entries.append(f'<li class="{heading.name}">{link}</li>')
    return f"<ul>{''.join(entries)}</ul>"


def make_page(notebook, folder=TOOLS.parent):
    """The page of a notebook as one HTML text; pictures are looked for in the folder.

    Its title is the notebook's first heading."""
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    title = re.search("^# +(.+)", "\n".join(texts), re.MULTILINE)
    resources = {
        "metadata": {"path": str(folder)},
        "title": title[1] if title else "Notebook",
        "style": (TOOLS / "page" / "style.css").read_text("utf-8")
        + HtmlFormatter(style="default").get_style_defs(".highlight"),
    }
    exporter = PageExporter(
        template_name="classic",
        raw_template=(TOOLS / "page" / "index.html.j2").read_text("utf-8"),
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    html, _ = exporter.from_notebook_node(notebook, resources)
    page = BeautifulSoup(html, "html.parser")
    for tag in page.main(id=True):  # nbconvert quotes them; browsers compare unquoted
        tag["id"] = unquote(tag["id"])
    for link in page.select(".bar a"):
        if not page.find(id=link["href"][1:]):
            link.extract()
    page.nav.append(BeautifulSoup(contents(page), "html.parser"))
    for table in page("table"):
        table.wrap(page.new_tag("div", attrs={"class": "scroll"}))
    return str(page)


def write(files):
    """Write {path: bytes}: each file whole, and none if one cannot be written."""
    parts = {path: path.with_name(f"{path.name}.tmp") for path in files}
    try:
        for path, part in parts.items():
            part.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(files[path])
        for path, part in parts.items():
            part.replace(path)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def main():
    """Write the page of the notebook named on the command line."""
    parser = argparse.ArgumentParser(description="The HTML page of a saved notebook.")
    parser.add_argument("notebook", nargs="?", type=Path, default=NOTEBOOK)
    parser.add_argument(
        "--output", type=Path, help="default: build/ beside the notebook"
    )
    given = parser.parse_args()
    folder = given.notebook.resolve().parent
    output = given.output or folder / "build" / f"{given.notebook.stem}.html"
    try:
        notebook = nbformat.read(given.notebook, as_version=4)
        write({output: make_page(notebook, folder).encode()})
    except (
        OSError,
        ValueError,
        nbformat.ValidationError,
    ) as error:  # no such file, no notebook, no room
        sys.exit(f"No page is made: {error}".partition("\n")[0])
    print("written:", output)


if __name__ == "__main__":
    main()
