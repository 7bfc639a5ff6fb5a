"""The page that tools/make_page.py makes of the saved notebook."""

import re

from bs4 import BeautifulSoup
from make_page import make_page
from reader import Cells


def test_the_page_is_complete_offline(saved):
    """Formulas as MathML, links that land, figures with their texts, and nothing that
    is asked of the network."""
    page = BeautifulSoup(make_page(saved), "html.parser")
    assert page.title.text == "DLCV Assignment 1"
    assert len(page("math")) > 400
    formulas = [*page("math"), *page.select(":not(pre) > code")]
    assert not [tag.text for tag in formulas if re.search(r"[\\$]", tag.text)]
    targets = {tag["id"] for tag in page(id=True)}
    links = [a["href"] for a in page("a", href=True)]
    assert {link[1:] for link in links if link.startswith("#")} <= targets
    headings = re.findall(r"(?m)^###? ", Cells(saved.cells).source("markdown"))
    assert len(page.nav("a")) == len(headings)
    assert all(img["alt"] and img["src"].startswith("data:") for img in page("img"))
    assert not page(["script", "link", "iframe", "object", "embed", "base"])
