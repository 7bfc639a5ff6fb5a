"""The HTML page of a saved notebook: make_page.py [NOTEBOOK] [--output FILE]

Nothing is run. The page is one file that needs neither a network nor a script: its
formulas are MathML, its pictures are inside it.
"""

import argparse
import base64
import mimetypes
import re
from copy import copy
from html import escape
from pathlib import Path
from urllib.parse import unquote

import nbformat
from bs4 import BeautifulSoup, NavigableString
from jinja2 import pass_context
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from pygments.formatters import HtmlFormatter
from traitlets.config import Config

TOOLS = Path(__file__).resolve().parent
NOTEBOOK = TOOLS.parent / "DLCV_Assignment1.ipynb"
ANCHOR = "¶"  # the text of the link that stands behind each heading
KINDS = [  # of output that a page can show, the best first
    *("text/html", "text/markdown", "image/svg+xml", "text/latex"),
    *("image/png", "image/jpeg", "text/plain"),
]

# Code, in which a dollar is a dollar; or a formula: shown on its own, or in the text.
CODE_OR_FORMULA = re.compile(
    r"^ {0,3}(?P<fence>```+|~~~+).*?(?:^ {0,3}(?P=fence)|\Z)"
    r"|(?<!`)(?P<ticks>`+)(?!`).*?(?<!`)(?P=ticks)(?!`)|\\\$"
    r"|\$\$(?P<shown>[^$]+)\$\$|(?P<environment>\\begin\{(?P<name>\w+\*?)\}.*?\\end\{(?P=name)\})"
    r"|\$(?P<inline>(?:[^$\\\n]|\\.|\n(?!\s*\n))+)\$",
    re.DOTALL | re.MULTILINE,
)
MARK = "formulaxq{}qx"  # stands for a formula while the Markdown around it is read
MARKED = re.compile("formulaxq([0-9]+)qx")
VERBATIM = re.compile(r"(<pre\b.*?</pre>|<code\b.*?</code>|<[^>]*>)", re.DOTALL)
RELATIONS = set("=≈≠<>≤≥≪≫←→↔⇒⟹⟺∈∝∼≡")
SIGNS = set("-−+±")  # prefixes where nothing, or one of the next, stands before them
BEFORE_SIGN = RELATIONS | set("([{,;:·×/")
REQUEST = re.compile(r"@import[^;]*;|url\((?!['\"]?data:)[^)]*\)")  # in CSS
FUNCTION = re.compile("[A-Za-z]{2,}")
PUNCTUATION = re.compile(r"[.,;:!?)\]’”\"'-]+")


def hide_formulas(source):
    """Markdown with a mark in the place of each formula, and the formulas' matches."""
    found = []

    def hide(match):
        if not (match["shown"] or match["environment"] or match["inline"]):
            return match[0]
        found.append(match)
        return MARK.format(len(found) - 1)

    return CODE_OR_FORMULA.sub(hide, source), found


def show_formulas(html, found):
    """HTML with MathML for each mark in its text, and the source for one elsewhere."""

    def source(mark):
        return escape(found[int(mark[1])][0])

    def mathml(mark):
        return formula(found[int(mark[1])])

    texts, verbatim = VERBATIM.split(html)[::2], VERBATIM.split(html)[1::2]
    texts = [MARKED.sub(mathml, text) for text in texts]
    verbatim = [MARKED.sub(source, text) for text in verbatim]
    return "".join(a + b for a, b in zip(texts, [*verbatim, ""], strict=True))


def formula(match):
    """The HTML of one formula: MathML, or its source if that cannot be read."""
    shown = match["shown"] or match["environment"]
    try:
        mathml = convert(
            shown or match["inline"], display="block" if shown else "inline"
        )
    except Exception:  # latex2mathml has many kinds
        return f'<code class="tex">{escape(match[0])}</code>'
    return f'<span class="math">{mathml}</span>' if shown else mathml


class PageExporter(HTMLExporter):
    """nbconvert's exporter with formulas as MathML, for the template in page/."""

    @pass_context
    def markdown2html(self, context, source):
        """The HTML of Markdown, its formulas included."""
        hidden, found = hide_formulas(source)
        return show_formulas(super().markdown2html(context, hidden), found)


def new_exporter():
    """The exporter for one page."""
    return PageExporter(
        config=Config({"NbConvertBase": {"display_data_priority": KINDS}}),
        template_name="page",
        extra_template_basedirs=[str(TOOLS)],
        anchor_link_text=ANCHOR,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )


def new_tag(html):
    """One tag from its HTML."""
    return BeautifulSoup(html, "html.parser").find().extract()


def split_at_relations(math):
    """Give each relation, and what follows, a part: a line may end before. The last."""
    last = math
    signs = math.select(":scope > mrow > mo")
    relations = [mo for mo in signs if mo.text in RELATIONS]
    for relation in reversed(relations):
        if relation.previous_sibling is not None:
            part = new_tag("<math><mrow></mrow></math>")
            part.attrs = dict(math.attrs)
            part.mrow.extend([relation, *relation.next_siblings])
            math.insert_after(part)
            last = part if last is math else last
    return last


def hold_punctuation(math):
    """Keep what follows a formula without a space, a full stop say, on its line."""
    after = math.next_sibling
    if isinstance(after, NavigableString) and (mark := PUNCTUATION.match(after)):
        after.replace_with(after[mark.end() :])
        held = math.wrap(new_tag('<span class="held"></span>'))
        held.append(mark[0])


def space(math):
    """Set the spaces as TeX does, around signs, colons, digits and functions."""
    for tag in math(["mi", "mo"]):
        before = tag.find_previous_sibling()
        if tag.text in SIGNS and (before is None or before.text in BEFORE_SIGN):
            tag["form"] = "prefix"
        elif tag.text == ":":
            tag.name, tag["lspace"], tag["rspace"] = "mo", "0.2778em", "0.2778em"
        elif tag.text == "," and tag.parent.name == "mrow" and len(tag.parent) == 1:
            tag["lspace"] = tag["rspace"] = "0"
        elif FUNCTION.fullmatch(tag.text):
            space_function(tag)


def space_function(tag):
    """A thin space after the name of a function, unless a parenthesis follows."""
    named = tag.parent if tag.parent.name in ("msub", "munder", "msup") else tag
    after = named.find_next_sibling()
    if after is not None and (after.name != "mo" or after.text in "∑∏"):
        named.insert_after(new_tag('<mspace width="0.1667em"></mspace>'))


def fence(math):
    """Draw the parentheses of matrices as curved edges, which no font need have."""
    for table in math("mtable"):
        around = table.find_previous_sibling(), table.find_next_sibling()
        if [mo and mo.text for mo in around] == ["(", ")"]:
            table["class"] = "parentheses"
            for mo in around:
                mo.decompose()


def put_pictures_in(page, folder):
    """Put the pictures that are files in the folder into the page."""
    for tag in page("img", src=lambda address: not address.startswith("data:")):
        path = (folder / unquote(tag["src"])).resolve()
        if path.is_relative_to(folder.resolve()) and path.is_file():
            kind, content = mimetypes.guess_type(path.name)[0], path.read_bytes()
            tag["src"] = f"data:{kind};base64,{base64.b64encode(content).decode()}"


def cut_off(page):
    """Take out what would run or ask a host for something; pictures become links."""
    for tag in page(["script", "link", "iframe", "object", "embed", "base"]):
        tag.decompose()
    for tag in page(["img", "video", "audio", "source"]):
        address = tag.get("src", "")
        if not address.startswith("data:"):
            text = tag.get("alt") or address
            tag.replace_with(page.new_tag("a", href=address, string=text))
    for tag in page("style"):
        tag.string = REQUEST.sub("", tag.text)


def contents(page):
    """The table of contents as HTML: a list of the h2, each with a list of its h3."""
    chapters = []  # each a list: its own entry, and those of its sections
    for heading in page.main(["h2", "h3"]):
        if heading.name == "h2" or not chapters:
            chapters.append([])
        chapters[-1].append(entry(heading))
    return bullets(chapter + bullets(parts) for chapter, *parts in chapters)


def entry(heading):
    """A link to a heading, of the same look."""
    text = copy(heading)
    for link in text("a"):
        link.decompose() if link.text == ANCHOR else link.unwrap()
    return f'<a href="#{escape(heading.get("id", ""))}">{text.decode_contents()}</a>'


def bullets(entries):
    """A list, or nothing where there are no entries."""
    items = "".join(f"<li>{entry}</li>" for entry in entries)
    return items and f"<ul>{items}</ul>"


def finish(html, folder):
    """The exporter's HTML, cut off, with contents, and boxes around wide things."""
    page = BeautifulSoup(html, "html.parser")
    put_pictures_in(page, folder)
    cut_off(page)
    for tag in page(id=True):  # nbconvert quotes them; browsers compare them unquoted
        tag["id"] = unquote(tag["id"])
    page.nav.append(BeautifulSoup(contents(page), "html.parser"))
    for math in page("math"):
        space(math)
        fence(math)
        if math.get("display") == "inline":
            hold_punctuation(split_at_relations(math))
    for table in page("table"):
        table.wrap(page.new_tag("div", attrs={"class": "scroll"}))
    return str(page)


def style():
    """The style sheet, with the colours of the code."""
    colours = HtmlFormatter(style="default").get_style_defs(".highlight")
    return (TOOLS / "page" / "style.css").read_text("utf-8") + colours


def make_page(notebook, title=None, folder=TOOLS.parent):
    """The page of a notebook as one HTML text; pictures are looked for in the folder.

    The title is the notebook's first heading unless given. A `note` in the notebook's
    metadata stands at the top.
    """
    headings = (
        re.search(r"^# +(.+)", cell.source, re.M)
        for cell in notebook.cells
        if cell.cell_type == "markdown"
    )
    first = next((heading[1] for heading in headings if heading), "Notebook")
    resources = {
        "title": title or first,
        "note": notebook.metadata.get("note"),
        "style": style(),
    }
    html, _ = new_exporter().from_notebook_node(notebook, resources)
    return finish(html, Path(folder))


def main():
    """Write the page of the notebook named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebook", nargs="?", type=Path, default=NOTEBOOK)
    parser.add_argument(
        "--output", type=Path, help="default: build/ beside the notebook"
    )
    given = parser.parse_args()
    notebook = nbformat.read(given.notebook, as_version=4)
    folder = given.notebook.resolve().parent
    output = given.output or folder / "build" / f"{given.notebook.stem}.html"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(make_page(notebook, folder=folder), encoding="utf-8")
    print("written:", output)


if __name__ == "__main__":
    main()
