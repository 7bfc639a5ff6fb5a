"""What the page of tools/make_page.py promises to whoever reads it.

It asks no host for anything and runs nothing; formulas are MathML, every picture has
its alternative text, no output is left out; links land, the contents list all sections,
and a switch hides the code. Looks are not held: open it at 390, 800 and 1400 pixels.
"""

import re
import sys
from pathlib import Path
from urllib.parse import unquote

import make_page
import nbformat
import pytest
from bs4 import BeautifulSoup
from conftest import DOT
from execute import code_cells
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from test_notebook import figures


def page_of(*cells, folder="."):
    """The page of these cells; a text is a Markdown cell."""
    cells = [new_markdown_cell(c) if isinstance(c, str) else c for c in cells]
    html = make_page.make_page(new_notebook(cells=cells), folder)
    return BeautifulSoup(html, "html.parser")


def shown(output_type="display_data", tags=(), **content):
    """A code cell with one output."""
    outputs = [new_output(output_type, **content)]
    return new_code_cell("1 + 1", outputs=outputs, metadata={"tags": list(tags)})


@pytest.fixture(scope="module")
def whole(saved):
    """The page of the notebook as saved."""
    return BeautifulSoup(make_page.make_page(saved), "html.parser")


@pytest.mark.parametrize(
    ("markdown", "text", "inside"),
    [
        ("so $x_1$ is", "x1", "p"),
        ("$$\na\n= \\frac{b}{c}\n$$", "a=bc", ".math"),
        ("\\begin{matrix} a & b \\end{matrix}", "ab", ".math"),
        ("| a |\n| :-- |\n| $x^2$ |", "x2", "td"),
        ("**bold $a < b$**", "a<b", "strong"),
        ("- [link $w$](#a)", "w", "li a"),
        ("<details><summary>More</summary>\n\nSo $v$.\n\n</details>", "v", "details"),
        ("`$b` and $a_1 * b_1$, `$c$`", "a1*b1", "p"),
        ("$\\lVert W \\rVert$", "‖W‖", "p"),
    ],
)
def test_formulas_are_mathml(markdown, text, inside):
    for page in page_of(markdown), page_of(shown(data={"text/markdown": markdown})):
        (math,) = page.main.select(f"{inside} math")
        assert math.text == text
        for fence in page("mo", string="‖"):  # which only a maths font can stretch
            assert fence["stretchy"] == "false"


def test_every_formula_of_the_notebook_is_read(whole):
    assert not whole.select("code.tex")
    assert not [math.text for math in whole("math") if re.search(r"[\\$]", math.text)]
    assert len(whole("math")) > 100
    for tag in whole(["code", "pre", "math"]):
        tag.extract()
    assert "$" not in whole.main.text
    bad = page_of("before $\\frac{$ after").select_one("code.tex")
    assert bad.text == "\\frac{"


def test_nothing_of_the_outputs_is_left_out():
    error = {"ename": "E", "evalue": "why", "traceback": ["\x1b[31mline <1>\x1b[0m"]}
    page = page_of(
        shown("stream", text="streamed <a>"),
        shown("stream", name="stderr", text="warned", tags=["hide-input"]),
        shown("error", **error),
        shown("execute_result", data={"text/plain": "plain <b>"}),
        shown(data={"text/html": "<i>html</i>", "text/plain": "no"}),
        shown(data={"image/png": DOT}, metadata={"image/png": {"alt": 'a "red" dot'}}),
    )
    for part in "streamed <a>", "warned", "line <1>", "plain <b>":
        assert part in [pre.text.strip() for pre in page.select(".result pre")]
    assert page.i.text == "html" and page.img["alt"] == 'a "red" dot'
    assert page.img["src"] == f"data:image/png;base64,{DOT}"
    assert len(page.select(".input pre")) == 6
    table = {"text/markdown": "| a |\n| - |\n| b |", "text/plain": "no"}
    assert page_of(shown(data=table)).select_one(".result td").text == "b"


def test_every_picture_of_the_notebook_has_its_text(whole, saved):
    alts = figures(code_cells(saved))
    assert alts and [img["alt"] for img in whole("img")] == alts


def test_the_page_runs_nothing_and_asks_no_host(whole):
    policy = whole.head.find("meta", attrs={"http-equiv": "Content-Security-Policy"})
    assert policy["content"].startswith("default-src 'none'; img-src data:;")
    assert not whole(["script", "link", "iframe", "object", "embed", "base"])
    assert all(img["src"].startswith("data:") for img in whole("img"))
    assert not re.search(r"@import|url\((?!data:)", whole.style.text)


def test_links_land_and_the_contents_list_the_sections(whole, saved):
    ids = {tag["id"] for tag in whole(id=True)}
    links = [a["href"] for a in whole("a", href=re.compile("^#"))]
    assert links and not [link for link in links if unquote(link[1:]) not in ids]
    assert len(whole.main.select(".result td a")) > 20  # of the answers' table
    sources = [c.source for c in saved.cells if c.cell_type == "markdown"]
    headings = re.findall("^###? ", "\n".join(sources), re.MULTILINE)
    assert len(whole.nav("a")) == len(headings) > 30
    odd = "### 1.4 The 5 % of *a* test's `loss` and ∇f"
    page = page_of(odd, "[a](#1.4-The-5-%-of-a-test's-loss-and-∇f)")
    assert page.main.select("p a")[0]["href"].count("#") == 1
    assert unquote(page.main.select("p a")[0]["href"][1:]) == page.h3["id"]
    assert page.nav.text == "1.4 The 5 % of a test's loss and ∇f"


def test_cells_are_folded_and_hidden_with_their_switch():
    folded = shown("stream", text="b", tags=["hide-input"])
    page = page_of("## Where the answers stand", shown("stream", text="a"), folded)
    open_cell, folded = page.select("main .input")
    assert not open_cell.details and not folded.details.has_attr("open")
    assert folded.details.pre.text.strip() == "1 + 1"
    switch, *links = page.select(".bar label input, .bar a")
    rule = f"body:has(#{switch['id']}:checked) .input > * {{ display: none; }}"
    assert rule in page.style.text
    there = [page.nav["id"], page.main.h2["id"]]
    assert [link["href"][1:] for link in links] == there
    assert not page_of("text").select(".bar a[href*=answers]")  # no link to nowhere
    assert page.body.a["href"] == f"#{page.main['id']}"  # the first stop of Tab


def test_the_page_has_language_title_and_viewport():
    page = page_of("intro", "# A & <b>\ntext")
    assert page.html["lang"] == "en" and page.title.text == "A & <b>"
    assert page.find("meta", attrs={"name": "viewport"})
    (table,) = page_of("|a|\n|-|")("table")
    assert table.parent["class"] == ["scroll"]


def test_the_command(tmp_path, monkeypatch, capsys):
    path = tmp_path / "some.ipynb"
    monkeypatch.setattr(sys, "argv", ["make_page.py", str(path)])
    with pytest.raises(SystemExit) as end:
        make_page.main()
    assert "some.ipynb" in end.value.code and "\n" not in end.value.code
    nbformat.write(new_notebook(cells=[new_markdown_cell("# Ω")]), path)
    written = tmp_path / "a" / "index.html"
    for target in tmp_path / "build" / "some.html", written:
        make_page.main()
        assert "<title>Ω</title>" in target.read_text(encoding="utf-8")
        assert str(target) in capsys.readouterr().out
        sys.argv += ["--output", str(written)]

    def no_room(path, data):
        path.touch()
        raise OSError(28, "No space left")

    monkeypatch.setattr(Path, "write_bytes", no_room)
    with pytest.raises(SystemExit, match="No space left"):
        make_page.main()
    assert "Ω" in written.read_text(encoding="utf-8")
    assert [*written.parent.iterdir()] == [written]
