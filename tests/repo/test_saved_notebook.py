"""The saved notebook, and the README beside it.

The slow test runs the whole notebook in a copy of the repository, and compares its
answers with the saved ones."""

import os
import platform
import re
import shutil
import subprocess
import sys
from urllib.parse import unquote

import numpy as np
import pytest
from code_hash import code_cells, code_hash, code_lines
from load_definitions import definition_source
from paths import NOTEBOOK, ROOT
from reader import Section, read_answers, read_notebook, read_results

SAVE = "run .venv/bin/python tools/run_notebook.py --save"
CODE = r"(?s)```.*?```|`[^`\n]*`"  # in Markdown
LINK_TARGET = r"\]\(([^)\s]+)\)"
REPOSITORY_FILE = r"`((?:benchmarks|docs|tests|tools)/[\w./-]+\.\w+)"


def test_outputs_belong_to_the_code(saved):
    is_same = saved.metadata.get("code_sha256") == code_hash(saved)
    assert is_same, f"the code has changed since its outputs were saved: {SAVE}"
    counts = [cell.execution_count for cell in code_cells(saved)]
    assert counts == [*range(1, len(counts) + 1)], SAVE


def test_the_hash_leaves_out_docstrings_and_comments_alone():
    code = 'def f():\n    """{}"""\n\n    return "# {}"  # {}\n'
    lines = code_lines(code.format("a", "b", "c"))
    assert lines == code_lines(code.format("d", "b", "e"))
    assert lines != code_lines(code.format("a", "d", "c"))
    assert code_lines("%time f()  # a") == ["%time f()  # a"]


def test_outputs_have_no_traces_of_a_run(saved):
    """No paths, addresses, warnings and progress bars. All figures have a text."""
    traces = r"/(home|root|tmp|opt|work|Users)/|\\Users\\|object at 0x|Warning|\r"
    for output in Section(saved.cells).outputs:
        data = output.get("data", {})
        texts = [text for kind, text in data.items() if kind.startswith("text/")]
        for text in [*texts, output.get("text", "")]:
            assert not re.search(traces, text), text
        assert "image/png" not in data or output.metadata["image/png"]["alt"]
    assert NOTEBOOK.stat().st_size < 2_000_000, "GitHub shows at most 2 MB reliably"


def test_links_lead_to_headings_and_named_files_exist(saved):
    """Files are named in links, and in `code`."""
    whole = Section(saved.cells)
    text = "\n".join([whole.source("markdown"), *whole.displayed("text/markdown")])
    headings = re.findall(r"^#+ (.+?) *$", text, re.M)
    anchors = {"#" + heading.replace(" ", "-") for heading in headings}
    links = {unquote(link) for link in re.findall(LINK_TARGET, re.sub(CODE, "", text))}
    assert {link for link in links if link.startswith("#")} <= anchors
    texts = {NOTEBOOK: text}
    for path in [*ROOT.glob("*.md"), *ROOT.glob("[a-z]*/*.md")]:
        texts[path] = path.read_text("utf-8")
    for path, text in texts.items():
        targets = [target.partition("#")[0] for target in re.findall(LINK_TARGET, text)]
        for name in targets + re.findall(REPOSITORY_FILE, text):
            is_web_page = "://" in name or name.startswith(("mailto:", "../../"))
            exists = (path.parent / name).exists() or (ROOT / name).exists()
            assert is_web_page or exists, f"{path.name} names {name}"


def test_readme_has_results_of_page_1(saved):
    readme = (ROOT / "README.md").read_text("utf-8")
    quoted = readme.partition("<!-- results -->")[2].partition("<!-- /results -->")[0]
    results = read_results(quoted)
    assert len(results) > 5
    assert results.items() <= read_answers(saved).items(), SAVE


def test_definitions_use_only_arguments_definitions_and_imports():
    rules = ["--isolated", "--select", "F821,F811", "--output-format", "concise"]
    ruff = [sys.executable, "-m", "ruff", "check", *rules, "-"]
    run = subprocess.run(
        ruff, input=definition_source(), capture_output=True, encoding="utf-8"
    )
    assert run.returncode == 0, run.stdout + run.stderr


ROUNDING = r"\d(\.\d+)?e-[1-9]\d"  # 3e-16, say
MEASURED = r"(\d+\.\d\d+)"  # two or more decimals; the rest are settings and counts


def assert_same_answer(new, old):
    """The same settings, classes and words, and numbers to their last digit ± 1."""
    new, old = (re.split(MEASURED, re.sub(ROUNDING, "about 0", t)) for t in (new, old))
    assert new[::2] == old[::2]
    for number, saved in zip(new[1::2], old[1::2], strict=True):
        unit = 10.0 ** -len(saved.partition(".")[2])
        assert abs(float(number) - float(saved)) < 1.5 * unit


def assert_similar_answer(new, old):
    """As many numbers; percentages to 0.3 points. Settings and words may differ."""
    new, old = (re.findall(r"(\d[\d.]*(?:e[+-]\d+)?)(%?)", t) for t in (new, old))
    for (number, _), (saved, percent) in zip(new, old, strict=True):
        assert not percent or abs(float(number) - float(saved)) < 0.3


@pytest.mark.slow
def test_the_whole_notebook_gives_the_saved_answers(saved, tmp_path):
    """In a copy of the repository, offline. Other processors and other versions of
    NumPy round differently, and so do OpenBLAS's kernels: the saved run's are used."""
    ignore = shutil.ignore_patterns(".*", "build", "*.tar.gz", "__pycache__")
    copy = shutil.copytree(ROOT, tmp_path / "a folder", ignore=ignore)
    proxies = dict.fromkeys(["http_proxy", "https_proxy"], "http://127.0.0.1:9")
    settings = {"no_proxy": "", "OPENBLAS_CORETYPE": "Haswell"}
    command = [sys.executable, copy / "tools" / "run_notebook.py"]
    run = subprocess.run(
        command, env=os.environ | proxies | settings, capture_output=True
    )
    assert run.returncode == 0, (run.stdout + run.stderr).decode()[-5000:]
    constraints = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    is_same = platform.machine() in ("x86_64", "AMD64")
    is_same = is_same and f"numpy=={np.__version__}" in constraints
    assert_agree = assert_same_answer if is_same else assert_similar_answer
    again = read_answers(read_notebook(copy / "build" / NOTEBOOK.name))
    assert again.keys() == read_answers(saved).keys()
    has_cifar = (ROOT / "data/cifar-10-batches-bin").exists()
    for (section, question), answer in read_answers(saved).items():
        if has_cifar or section[0] not in "45":
            assert_agree(again[section, question], answer)
