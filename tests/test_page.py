"""tools/make_page.py, on cells made up here and on the notebook as saved."""

import base64
import re
import shutil
import subprocess
import sys
from urllib.parse import unquote

import make_page
import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mP4z8AAAAMBAQD3A0FDAAAA"
    "AElFTkSuQmCC"
)
# What makes a browser ask a host: all but data: in these attributes, and in CSS.
ADDRESSES = "src", "srcset", "data", "poster", "background", "action", "code"


def page_of(*cells, **metadata):
    """The page of these cells; a text is a Markdown cell."""
    cells = [
        new_markdown_cell(cell) if isinstance(cell, str) else cell for cell in cells
    ]
    notebook = new_notebook(cells=cells, metadata=metadata)
    return BeautifulSoup(make_page.make_page(notebook), "html.parser")


def shown(output_type="display_data", **content):
    """A code cell with one output."""
    return new_code_cell("1 + 1", outputs=[new_output(output_type, **content)])


def texts(page):
    """The formulas of a page as texts."""
    return [math.text for math in page("math")]


@pytest.fixture(scope="module")
def saved():
    """The page of the notebook as saved."""
    notebook = nbformat.read(make_page.NOTEBOOK, as_version=4)
    return BeautifulSoup(make_page.make_page(notebook), "html.parser")


# Formulas


@pytest.mark.parametrize(
    ("markdown", "text", "inside"),
    [
        ("so $x_1$ is", "x1", "p"),
        ("$$\\frac{a}{b}$$", "ab", "main"),
        ("| a |\n| :-- |\n| $x^2$ |", "x2", "td"),
        ("| a | b |\n| :-- | --: |\n| $|x|$ | 1 |", "|x|", "td"),
        ("**bold $y$**", "y", "strong"),
        ("- item $z$", "z", "li"),
        ("[link $w$](#a)", "w", "a"),
        ("<details><summary>More</summary>\n\nSo $v$.\n\n</details>", "v", "details"),
        ("<details><summary>Why $u$</summary>\n\nSo.\n\n</details>", "u", "summary"),
        ("## Heading $t$", "t", "h2"),
        ("$a$\n`$b$`", "a", "p"),
        ("$$\n\\begin{aligned} a \\\\ b \\end{aligned}\n$$", "ab", "main"),
        ("\\begin{matrix} a & b \\end{matrix}", "ab", "main"),
        ("$$\na\n= b\n$$", "a=b", "main"),
        ("$a_1 * b_1 * c$ and *d*", "a1*b1*c", "p"),
    ],
)
def test_formulas_are_mathml(markdown, text, inside):
    page = page_of(markdown)
    assert texts(page.main) == [text]
    assert page.main.math.find_parent(inside)
    assert "$" not in page.main.text.replace("$b$", "")


def test_formulas_in_markdown_outputs_are_mathml():
    page = page_of(shown(data={"text/markdown": "| a |\n| :-- |\n| $q^2$ |"}))
    assert texts(page) == ["q2"] and page.math.find_parent("td")
    assert texts(page_of(shown(data={"text/latex": "$r$"}))) == ["r"]


def test_formulas_keep_what_html_would_read():
    page = page_of("$a < b$ and $$p \\& q > r$$ and $x<y$")
    assert "".join(texts(page)).replace(" ", "") == "a<bp&q>rx<y"
    assert not page.find("b") and not page.find("y")


@pytest.mark.parametrize(
    "markdown",
    [
        *("`$HOME and $PATH`", "``a ` $b$``", "```\n$a$ $b$\n```", "~~~sh\n$a$\n~~~"),
        *("costs \\$5 or \\$6", "one $ alone", "    indented = '$a$'"),
    ],
)
def test_other_dollars_stay(markdown):
    page = page_of(markdown)
    assert not page("math")
    assert page.main.text.count("$") == markdown.count("$")
    assert "formulaxq" not in str(page)


def test_a_dollar_in_code_begins_no_formula():
    page = page_of("`$a` and $b$, ``$c ` $d`` and $e$")
    assert texts(page) == ["b", "e"]
    assert [code.text for code in page("code")] == ["$a", "$c ` $d"]


def test_a_formula_in_an_attribute_is_its_source():
    page = page_of(f"![the $x$](data:image/png;base64,{PNG})")
    assert page.img["alt"] == "the $x$" and not page("math")


def test_a_formula_that_cannot_be_read_shows_its_source():
    page = page_of("before $\\frac{$ after")
    assert page.select_one("code.tex").text == "$\\frac{$"


def test_matrices_have_parentheses_of_any_height():
    page = page_of("$$\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix} (a)$$")
    assert page.mtable["class"] == ["parentheses"] and len(page("mtd")) == 4
    assert page.math.text == "1234(a)"
    assert ".parentheses {" in page.style.text


def test_spaces_are_as_tex_sets_them():
    page = page_of(
        "$(.5, -.5)$, $a - b$, $a : b$, $\\log p$, $\\max_j (s)$, $430{,}000$"
    )
    signs = [mo.get("form") for mo in page("mo", string=["-", "−"])]
    assert signs == ["prefix", None]
    assert page.find("mo", string=":")["lspace"] == "0.2778em"
    assert [gap.previous_sibling.text for gap in page("mspace")] == ["log"]
    assert [mo.get("rspace") for mo in page("mo", string=",")] == [None, "0"]


def test_a_long_formula_in_the_text_can_be_broken_at_relations():
    page = page_of("so $a = b + c \\approx d$, and $$a = b$$")
    assert texts(page) == ["a", "=b+c", "≈d", "a=b"]
    assert page.select_one(".held").text == "≈d,"


def test_every_formula_of_the_notebook_is_read(saved):
    notebook = nbformat.read(make_page.NOTEBOOK, as_version=4)
    sources = [c.source for c in notebook.cells if c.cell_type == "markdown"]
    found = [
        match for source in sources for match in make_page.hide_formulas(source)[1]
    ]
    assert len(found) > 100 and len(saved("math")) >= len(found)
    assert not saved.select("code.tex")
    unread = [text for text in texts(saved) if "\\" in text or "$" in text]
    assert not unread, "latex2mathml does not know these commands"


# Everything that is in the outputs


def test_nothing_in_the_outputs_is_left_out():
    error = {"ename": "E", "evalue": "why", "traceback": ["\x1b[31mline <1>\x1b[0m"]}
    page = page_of(
        shown("stream", text="streamed <a>"),
        shown("stream", name="stderr", text="warned"),
        shown("error", **error),
        shown("execute_result", data={"text/plain": "plain <b>"}),
        shown(data={"text/html": "<i>html</i>", "text/plain": "no"}),
        shown(data={"image/png": PNG}, metadata={"image/png": {"alt": 'a "red" dot'}}),
        shown(data={"image/png": PNG}),
    )
    for part in "streamed <a>", "warned", "line <1>", "plain <b>":
        assert part in [pre.text.strip() for pre in page.select(".result pre")]
    assert page.i.text == "html"
    named, other = page("img")
    assert named["alt"] == 'a "red" dot' and other.has_attr("alt")
    assert named["src"] == f"data:image/png;base64,{PNG}"
    assert len(page.select(".input pre")) == 7


def test_every_image_of_the_notebook_has_its_text(saved):
    notebook = nbformat.read(make_page.NOTEBOOK, as_version=4)
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
    pictures = [o for o in outputs if "image/png" in o.get("data", {})]
    alts = [picture.metadata["image/png"]["alt"] for picture in pictures]
    assert alts and [img["alt"] for img in saved("img")] == alts


def test_pictures_of_the_folder_are_put_in(tmp_path):
    (tmp_path / "dot.png").write_bytes(base64.b64decode(PNG))
    notebook = new_notebook(cells=[new_markdown_cell("![dot](dot.png)")])
    page = BeautifulSoup(make_page.make_page(notebook, folder=tmp_path), "html.parser")
    assert page.img["src"] == f"data:image/png;base64,{PNG}"


# No requests


def assert_offline(page):
    """Nothing in the page runs, or makes a browser ask for anything."""
    assert not page(["script", "link", "iframe", "object", "embed", "base"])
    for name in ADDRESSES:
        for tag in page.find_all(attrs={name: True}):
            assert tag[name].startswith("data:"), tag
    for style in page("style"):
        assert "@import" not in style.text
        assert all(
            a.startswith("data:") for a in re.findall(r"url\(['\"]?(.*?)\)", style.text)
        )
    policy = page.find("meta", attrs={"http-equiv": "Content-Security-Policy"})
    assert policy["content"].startswith("default-src 'none'; img-src data:;")
    assert policy.find_parent("head")


def test_the_page_asks_no_host_for_anything(saved):
    assert_offline(saved)


def test_what_would_ask_a_host_is_taken_out():
    html = """<script src="https://a.example/x.js">alert(1)</script>
    <link rel="stylesheet" href="https://a.example/x.css">
    <style>@import "https://a.example/y.css"; p {background: url(https://a.example/z)}
    p {background: url(data:image/png;base64,AA)}</style>
    <iframe src="https://a.example"></iframe><b>kept</b>"""
    widget = "application/vnd.jupyter.widget-view+json"
    page = page_of(
        "![far](https://a.example/p.png) and [a link](https://a.example)",
        shown(data={"text/html": html}),
        shown(data={"application/javascript": "alert(2)", "text/plain": "instead"}),
        shown(data={widget: {"model_id": "1"}, "text/plain": "of a widget"}),
        widgets={"application/vnd.jupyter.widget-state+json": {"state": {}}},
    )
    assert_offline(page)
    assert page.b.text == "kept" and "alert" not in str(page)
    assert "instead" in page.main.text and "of a widget" in page.main.text
    far, near = page.main("a")
    assert (far.text, far["href"]) == ("far", "https://a.example/p.png")
    assert near["href"] == "https://a.example"
    assert "data:image/png;base64,AA" in page("style")[1].text


# Links, contents, switches


def assert_links_land(page):
    ids = {tag["id"] for tag in page(id=True)}
    links = [a["href"] for a in page("a", href=True) if a["href"].startswith("#")]
    assert links and not [link for link in links if unquote(link[1:]) not in ids]
    assert "¶" in page.main.text


def test_links_within_the_notebook_land(saved):
    assert_links_land(saved)


def test_headings_have_jupyters_anchors():
    page = page_of(
        "### 1.4 The 5 % of *a* test's `loss`, $x_1$ and ∇f",
        "[a](#1.4-The-5-%-of-a-test's-loss,-$x_1$-and-∇f)",
    )
    assert_links_land(page)


def test_the_contents_list_chapters_and_their_sections():
    page = page_of(
        "# T\n## Q1 First $x$\n### 1.1 A & b\n#### no", "### 1.2 `B`\n## Q2 Second"
    )
    first, second = page.nav.ul("li", recursive=False)
    assert first.a.text == "Q1 First x" and first.a.math
    assert [a.text for a in first.ul("a")] == ["1.1 A & b", "1.2 B"]
    assert second.a.text == "Q2 Second" and not second.ul
    assert first.ul.a["href"] == "#" + page.h3["id"]
    assert "¶" not in page.nav.text


def test_sections_without_a_chapter_are_listed():
    assert [a.text for a in page_of("### 1 A\n### 2 B").nav("a")] == ["1 A", "2 B"]
    assert not page_of("text").nav("a")


def rule(page, selector):
    """The declarations of a selector's first rule."""
    found = re.search(
        rf"^{re.escape(selector)} \{{([^}}]*)\}}", page.style.text, re.MULTILINE
    )
    assert found, f"no rule for {selector}"
    return found[1]


def media(page, query):
    """The rules for one kind of medium."""
    return page.style.text.partition(f"@media {query} {{")[2].partition("\n}")[0]


def test_the_switches_are_labelled_and_stand_before_what_they_switch(saved):
    for name, rule_text in (
        ("hide-code", "#hide-code:checked ~ main .input { display: none; }"),
        ("show-contents", "#show-contents:checked ~ nav { display: block; }"),
    ):
        switch = saved.body.find("input", id=name, recursive=False)
        assert switch["type"] == "checkbox"
        assert switch.find_next_sibling()["for"] == name
        assert switch.find_next_sibling().text.strip()
        assert switch.find_next_siblings("nav") and switch.find_next_siblings("main")
        assert rule_text in saved.style.text
    assert "focus-visible" in saved.style.text
    screen = saved.style.text.partition("@media print")[0]
    assert not re.search(r"(#hide-code|body > input)[^~{]*\{[^}]*display: none", screen)


def test_code_is_what_the_switch_hides():
    page = page_of("text", shown("stream", text="out"))
    assert page.select_one("main .input").text.strip() == "1 + 1"
    assert not page.select_one(".input").select(".result")


def test_the_page_has_language_title_and_viewport():
    page = page_of("intro", "# A & <b>\ntext", note="Be <warned>")
    assert page.html["lang"] == "en" and page.title.text == "A & <b>"
    assert page.find("meta", attrs={"name": "viewport"})["content"].startswith(
        "width=device-width"
    )
    assert page.main.find().text == "Be <warned>"
    assert page.main.find()["role"] == "note"
    assert not page_of("# T").select(".note")
    notebook = new_notebook(cells=[new_markdown_cell("# T")])
    assert "<title>Other</title>" in make_page.make_page(notebook, title="Other")


# Narrow screens and paper


def test_what_is_wide_scrolls_in_its_own_box():
    page = page_of(
        "| a |\n| :-- |\n| b |", shown(data={"text/html": "<table></table>"})
    )
    assert all(table.parent["class"] == ["scroll"] for table in page("table"))
    assert page_of("$$x$$").math.parent["class"] == ["math"]
    for selector in ".scroll", ".math", "pre":
        assert "auto" in re.search(r"overflow(-x)?: ([^;]*)", rule(page, selector))[2]
    assert "block" in rule(page, ".math")
    assert "max-width: 100%" in rule(page, "img")


def test_the_contents_stand_aside_or_are_folded(saved):
    wide, narrow = (
        media(saved, "(min-width: 75rem)"),
        media(saved, "(max-width: 74.99rem)"),
    )
    assert "position: fixed" in wide and "overflow-y: auto" in wide
    assert "nav { display: none;" in narrow


def test_paper_loses_nothing(saved):
    paper = media(saved, "print")
    for part in (
        "pre { white-space: pre-wrap;",
        "h1, h2, h3, h4 { break-after: avoid; }",
        "details::details-content { content-visibility: visible;",
        ".scroll, .math { overflow: visible; }",
    ):
        assert part in paper


def luminance(colour):
    """The relative luminance of #rgb or #rrggbb, as WCAG defines it."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * d for d in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def test_texts_can_be_read(saved):
    css = saved.style.text
    names = dict(re.findall(r"(--\w+): (#\w+)", css))
    colours = re.findall(r"(?<![-\w])color: (#[0-9a-fA-F]{3,6})", css)
    colours += [names["--ink"], names["--quiet"], names["--link"]]
    assert len(set(colours)) > 15
    shade = luminance(names["--shade"])
    dim = {c for c in colours if (shade + 0.05) / (luminance(c) + 0.05) < 4.5}
    assert dim <= {"#bbb", "#BBB", "#BBBBBB", "#bbbbbb"}  # white space


# The command, and a browser


def test_the_command_writes_the_page(tmp_path, monkeypatch, capsys):
    path = tmp_path / "some.ipynb"
    nbformat.write(new_notebook(cells=[new_markdown_cell("# Ω $x$")]), path)
    for arguments, written in (
        ([], tmp_path / "build" / "some.html"),
        (
            ["--output", str(tmp_path / "a" / "index.html")],
            tmp_path / "a" / "index.html",
        ),
    ):
        monkeypatch.setattr(sys, "argv", ["make_page.py", str(path), *arguments])
        make_page.main()
        assert "<title>Ω $x$</title>" in written.read_text(encoding="utf-8")
        assert str(written) in capsys.readouterr().out


def test_the_page_is_not_large(saved):
    rest = re.sub(r"data:image/png;base64,[^\"]*", "", str(saved))
    assert len(rest) < 1_500_000


def printed(browser, page, folder):
    """What a browser prints of a page, as bytes of a PDF."""
    (folder / "page.html").write_text(page, encoding="utf-8")
    command = [
        *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update"),
        *("--disable-sync", "--disable-quic", f"--user-data-dir={folder / 'user'}"),
        *(f"--print-to-pdf={folder / 'page.pdf'}", (folder / "page.html").as_uri()),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return folder / "page.pdf"


@pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("pdftotext")),
    reason="needs Chromium and pdftotext",
)
def test_a_browser_prints_all(tmp_path):
    hidden = "<details><summary>More</summary>\n\nfolded $x$\n\n</details>"
    wide = shown("stream", text="start " + 300 * "-" + " finish")
    notebook = new_notebook(cells=[new_markdown_cell(f"# Title\n\n{hidden}"), wide])
    pdf = printed(shutil.which("chromium"), make_page.make_page(notebook), tmp_path)
    run = subprocess.run(["pdftotext", pdf, "-"], check=True, capture_output=True)
    text = run.stdout.decode()
    for part in "Title", "folded", "start", "finish":
        assert part in text
    assert "Hide code" not in text and text.count("-") == 300


def test_pictures_outside_the_folder_are_not_put_in(tmp_path):
    (tmp_path / "dot.png").write_bytes(base64.b64decode(PNG))
    (tmp_path / "inner").mkdir()
    notebook = new_notebook(cells=[new_markdown_cell("![dot](../dot.png)")])
    html = make_page.make_page(notebook, folder=tmp_path / "inner")
    page = BeautifulSoup(html, "html.parser")
    assert not page.img and page.main.a["href"] == "../dot.png"
