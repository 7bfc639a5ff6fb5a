"""The page that tools/make_page.py makes of the saved notebook, and what save_run.py
refuses to save."""

import copy
import re
import subprocess
import sys

import nbformat
import pytest
from bs4 import BeautifulSoup
from load_definitions import NOTEBOOK, ROOT
from make_page import PAGE, STYLE, digest, make_page
from reader import Cells
from save_run import reason_to_refuse


def test_the_page_is_complete_offline(saved):
    """Formulas as MathML, links that land, all figures with their texts, and nothing
    that is asked of the network."""
    page, whole = BeautifulSoup(make_page(NOTEBOOK), "html.parser"), Cells(saved.cells)
    assert page.title.text == "DLCV Assignment 1"
    assert len(page("math")) > 400
    formulas = [*page("math"), *page.select(":not(pre) > code")]
    assert not [tag.text for tag in formulas if re.search(r"[\\$]", tag.text)]
    targets = {tag["id"] for tag in page(id=True)}
    links = [a["href"] for a in page("a", href=True)]
    assert {link[1:] for link in links if link.startswith("#")} <= targets
    headings = re.findall(r"(?m)^###? ", whole.source("markdown"))
    assert len(page.nav("a")) == len(headings)
    assert len(page("img")) == len(whole.displayed("image/png"))
    assert all(img["alt"] and img["width"] == "800" for img in page("img"))
    assert not page(["script", "link", "iframe", "object", "embed", "base"])
    assert "@media print" in page.style.text
    assert not re.search(r"± (?=\d)", page.main.text)  # could break there


def test_the_digest_says_that_docs_index_html_is_made_of_what_is_here():
    """If it fails: python tools/make_page.py"""
    page = BeautifulSoup(PAGE.read_text("utf-8"), "html.parser")
    assert page.find("meta", {"name": "digest"})["content"] == digest(NOTEBOOK)
    assert PAGE.stat().st_size <= 3_000_000


def test_make_page_reads_its_own_files_and_takes_one_notebook():
    """An editor's backup beside them changes nothing."""
    before, backup = digest(NOTEBOOK), STYLE.with_name("style.css~")
    backup.touch()
    try:
        assert digest(NOTEBOOK) == before
    finally:
        backup.unlink()
    command = [sys.executable, ROOT / "tools" / "make_page.py", "a.ipynb", "b.ipynb"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode and done.stderr.startswith(
        "make_page.py makes a page of one"
    )


SAMPLE = nbformat.v4.new_output("stream", text="images …; only a sample, so …")
OTHER_FILTERS = nbformat.v4.new_output("stream", text="Not our filters, so …")
FAULTS = {  # part of the reason: cell of the run, fault
    "None": ("setup-share", {"source": "SHARE = 1.0"}),  # without a comment
    "a cell failed": ("q1-data", {"outputs": [nbformat.v4.new_output("error")]}),
    "some cells did not run": ("q1-data", {"execution_count": None}),
    "from top to bottom": ("setup-imports", {"execution_count": 7}),
    "run with -p": ("q1-data", {"source": "edited"}),
    "SHARE is not 1.0": ("setup-share", {"source": "SHARE = 0.5  # as edited"}),
    "CIFAR-10 was missing": ("q4-cifar-report", {"outputs": [SAMPLE]}),
    "not our C0_weights.npy": ("q5-c0-report", {"outputs": [OTHER_FILTERS]}),
}


@pytest.mark.parametrize("reason", FAULTS)
def test_a_guard_refuses_to_save_a_run(saved, reason):
    run, (cell_id, fault) = copy.deepcopy(saved), FAULTS[reason]
    assert reason_to_refuse(run, saved) is None
    (cell,) = [cell for cell in run.cells if cell.id == cell_id]
    cell.update(fault)
    notebook = saved if reason == "run with -p" else run
    assert reason in str(reason_to_refuse(run, notebook))
