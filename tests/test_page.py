"""What tools/make_page.py promises of its page, but its looks: open and print it."""

import re
from urllib.parse import unquote

import make_page
from bs4 import BeautifulSoup
from code_hash import code_cells
from latex2mathml.converter import convert
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output


def page_of(*cells):
    """The page of these cells; a text is a Markdown cell."""
    cells = [new_markdown_cell(c) if isinstance(c, str) else c for c in cells]
    return BeautifulSoup(make_page.make_page(new_notebook(cells=cells)), "html.parser")


def shown(data, tags=(), **metadata):
    """A code cell with one output."""
    output = new_output("display_data", data, metadata=metadata)
    return new_code_cell("1 + 1", outputs=[output], metadata={"tags": list(tags)})


def test_formulas_are_mathml():
    markdown = "$$\na\n= \\frac{b}{c}\n$$\n\n<details>\n\nSo $v$.\n\n</details>"
    for page in page_of(markdown), page_of(shown({"text/markdown": markdown})):
        assert page.select_one(".math math").text == "a=bc"
        assert page.select_one("details math").text == "v"


def test_the_notebook_needs_each_of_mathml_fixes(saved, monkeypatch):
    formulas = []

    def recording(body, display):
        formulas.append(convert(body, display=display))
        return formulas[-1]

    monkeypatch.setattr(make_page, "convert", recording)
    make_page.make_page(saved)
    for old in make_page.MATHML_FIXES:
        assert any(old in formula for formula in formulas), old


def test_the_notebooks_formulas_are_read_and_its_page_asks_no_host(saved):
    whole = BeautifulSoup(make_page.make_page(saved), "html.parser")
    assert whole.math and not whole.select("code.tex")
    assert not [math.text for math in whole("math") if re.search(r"[\\$]", math.text)]
    policy = whole.head.find("meta", attrs={"http-equiv": "Content-Security-Policy"})
    assert policy["content"].startswith("default-src 'none'; img-src data:;")
    assert not whole(["script", "link", "iframe", "object", "embed", "base"])
    assert not re.search(r"@import|url\((?!data:)", whole.style.text)


def test_outputs_are_shown_and_pictures_have_their_texts():
    page = page_of(
        shown({"text/plain": "plain <b>"}),
        shown({"text/markdown": "| a |\n| - |\n| b |", "text/plain": "no"}),
        shown({"image/png": "AAAA"}, **{"image/png": {"alt": 'a "red" dot'}}),
    )
    assert page.select_one(".result pre").text.strip() == "plain <b>"
    assert page.select_one(".result td").text == "b"
    assert page.img["alt"] == 'a "red" dot' and "AAAA" in page.img["src"]


def test_attached_images_are_embedded():
    """Each cell has its own names, which Markdown quotes; a lost one fails nothing."""
    first = new_markdown_cell("![one](attachment:a%20dot.png) ![](attachment:no.png)")
    first.attachments = {"a dot.png": {"image/png": "AAAA"}, "no.png": {}}
    second = new_markdown_cell("![two](attachment:a%20dot.png)")
    second.attachments = {"a dot.png": {"image/jpeg": "BBBB"}}
    one, _, two, lost = page_of(first, second, "![lost](attachment:dot.png)")("img")
    assert (one["alt"], one["src"]) == ("one", "data:image/png;base64,AAAA")
    assert (two["alt"], two["src"]) == ("two", "data:image/jpeg;base64,BBBB")
    assert lost["alt"] == "lost"


def test_links_land_and_the_contents_list_the_sections():
    odd = "# Title\n\n### 1.4 The 5 % of *a* test's `loss` and ∇f"
    page = page_of(odd, "[a](#1.4-The-5-%-of-a-test's-loss-and-∇f)", "## Further")
    assert page.title.text == "Title" and page.html["lang"] == "en"
    assert {a["href"][1:] for a in page.nav("a")} <= {t["id"] for t in page(id=True)}
    assert page.nav.text == "1.4 The 5 % of a test's loss and ∇fFurther"
    assert unquote(page.main.p.a["href"][1:]) == page.h3["id"]


def test_the_contents_list_only_the_notebooks_own_headings():
    page = page_of(
        shown({"text/html": "<h1>Output</h1><h2>of HTML</h2><h2 id='a'>with id</h2>"}),
        shown({"text/markdown": "## of Markdown"}),
        "# Title\n\n## Own\n\n## A line<br>break\n\n##\n\n<h2>Tag</h2>",
        '<h3 id="tag">Tag with id</h3>',
    )
    assert page.title.text == "Title"
    assert [a["href"] for a in page.nav("a")] == ["#Own", "#tag"]
    assert [a.text for a in page.nav("a")] == ["Own", "Tag with id"]


def test_code_is_folded_in_jupyter_where_it_is_on_the_page(saved):
    for cell in code_cells(saved):
        in_jupyter = cell.metadata.get("jupyter", {}).get("source_hidden", False)
        assert in_jupyter == ("hide-input" in cell.metadata.get("tags", [])), cell.id


def test_cells_are_folded_and_left_out_on_paper():
    folded = shown({"text/plain": "3"}, tags=["hide-input"])
    page = page_of(shown({"text/plain": "2"}), folded)
    open_cell, folded = page.select("main .input")
    assert not open_cell.details and not folded.details.has_attr("open")
    assert folded.details.pre.text.strip() == "1 + 1"
    paper = page.style.text.partition("@media print")[2]
    assert re.search(r"\.input:has\(> details\.code\)[^}]*display: none", paper)
    assert "counter(page)" in paper and "details::details-content" in paper
