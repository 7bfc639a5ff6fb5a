"""Convert a notebook, as saved, to an HTML page.

python tools/make_page.py               writes docs/index.html, the assignment's page
python tools/make_page.py RUN.ipynb     writes RUN.html

The page is a single file, with formulas as MathML and embedded images; it needs no
network and no scripts. nbconvert does most of the work.
"""

import hashlib
import json
import re
import sys
from html import escape
from pathlib import Path
from urllib.parse import quote

import nbformat
from bs4 import BeautifulSoup
from latex2mathml.converter import convert
from load_definitions import NOTEBOOK, ROOT
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pygments.formatters import HtmlFormatter

PAGE = ROOT / "docs" / "index.html"
TEMPLATE, STYLE = (ROOT / "tools" / "page" / k for k in ("index.html.j2", "style.css"))
FORMULA_AND_SIGN = r"<math(?:(?!</math>).)*</math>[.,;:?)]"  # stay on one line
PLUS_MINUS = r"((?<=\d) )?± (?=\d)"  # stays with its numbers
MATHML_FIXES = {  # sizes and spaces of norms, matrices, signs, functions, ∂ and primes
    "<mo>&#x02016;": '<mo stretchy="false">&#x02016;',
    "<mo>&#x00028;</mo><mtable>": '<mtable class="matrix">',
    "</mtable><mo>&#x00029;</mo>": "</mtable>",
    "(&#x000(?:28|2C|3D);</mo><mo)(?=>&#x02212;)": r'\1 form="prefix"',  # ( , =
    "<mi>log</mi>": '<mo lspace="0" rspace="0.17em">log</mo>',
    "(?<=&#x003C0;</mi>)(?=<mi>(?:sin|cos))": '<mspace width="0.17em" />',
    "<mo>&#x02202;": '<mo lspace="0" rspace="0">&#x02202;',
    "<msup>(<[^<]*</..>)<mi>(&#x02032;)</mi></msup>": r"<mrow>\1<mo>\2</mo></mrow>",
}


class Renderer(IPythonRenderer):
    """nbconvert's Markdown renderer, with formulas as MathML."""

    def inline_math(self, body, display="inline"):
        """Return a formula as MathML, or its source if it cannot be converted."""
        try:
            mathml = convert(body, display=display)
        except Exception:  # latex2mathml raises many kinds
            return f"<code>{escape(body)}</code>"
        for old, new in MATHML_FIXES.items():
            mathml = re.sub(old, new, mathml)
        return mathml

    def block_math(self, body):
        """Return a displayed formula."""
        return f'<span class="math">{self.inline_math(body, "block")}</span>'


def markdown2html(source, images=None):
    """Return Markdown as HTML, with the images that are attached to its cell."""
    images = {quote(name): image for name, image in (images or {}).items()}
    return MarkdownWithMath(Renderer(escape=False, attachments=images)).render(source)


def code_parts(source):
    """Return code in parts that paper does not cut: functions, short classes, methods
    of longer ones, the rest."""
    parts = []
    for part in source.split("\n\n\n"):
        is_short = part.count("\n") < 15
        parts += [part] if is_short else re.split(r"\n\n(?=    def )", part)
    return parts


def table_of_contents(page):
    """Return the table of contents as HTML: the h2 and h3 of the Markdown cells."""
    entries = []
    for heading in page.select('.text :is(h2, h3)[id]:not([id=""])'):
        title = heading.decode_contents().partition('<a class="anchor-link"')[0]
        link = f'<a href="#{escape(heading["id"])}">{title}</a>'
        entries.append(f'<li class="{heading.name}">{link}</li>')
    return f"<ul>{''.join(entries)}</ul>"


def digest(path):
    """Return the SHA-256 of what a page is made of: cells, this file, templates."""
    keys = "cell_type", "source", "outputs", "attachments"
    cells = nbformat.read(path, as_version=4).cells
    shown = [[cell.metadata.get("tags", []), *map(cell.get, keys)] for cell in cells]
    texts = [source.read_text("utf-8") for source in (Path(__file__), TEMPLATE, STYLE)]
    text = json.dumps([shown, texts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def make_page(path):
    """Return a notebook as one HTML string; its first heading becomes the title."""
    notebook = nbformat.read(path, as_version=4)
    exporter = HTMLExporter(
        template_name="classic",  # lab leaves out the figures' alternative texts
        raw_template=TEMPLATE.read_text("utf-8"),
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        filters={"markdown2html": markdown2html, "code_parts": code_parts},
    )
    style = STYLE.read_text("utf-8") + HtmlFormatter().get_style_defs(".highlight")
    resources = {"style": style, "digest": digest(path)}
    html, _ = exporter.from_notebook_node(notebook, resources)
    html = re.sub(FORMULA_AND_SIGN, r'<span class="unit">\g<0></span>', html)
    html = re.sub(
        PLUS_MINUS, lambda match: match[0].replace(" ", "\N{NO-BREAK SPACE}"), html
    )
    page = BeautifulSoup(html, "html.parser")
    page.title.string = (page.select_one(".text h1") or page.title).text.rstrip("¶")
    page.nav.append(BeautifulSoup(table_of_contents(page), "html.parser"))
    return str(page)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.exit("make_page.py makes a page of one notebook: give it one file at most")
    path, target = NOTEBOOK, PAGE
    if sys.argv[1:]:
        path = Path(sys.argv[1])
        target = path.with_suffix(".html")
    target.write_text(make_page(path), encoding="utf-8")
    print(f"written: {target}")
