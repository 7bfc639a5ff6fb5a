"""The saved notebook, and the README beside it.

The slow test runs the whole notebook in a copy of the repository, and compares its
results with the saved ones."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from urllib.parse import unquote

import nbformat
import pytest
from code_hash import code_cells, code_hash
from load_definitions import definition_source
from paths import NOTEBOOK, ROOT
from saved_notebook import (
    read_answers,
    read_numbers,
    read_percentages,
    read_results,
    read_sections,
)

SAVE = "run .venv/bin/python tools/run_notebook.py --save"
CODE = r"(?s)```.*?```|`[^`\n]*`"  # in Markdown
LINK_TARGET = r"\]\(([^)\s]+)\)"
REPOSITORY_FILE = r"`((?:benchmarks|docs|tests|tools)/[\w./-]+\.\w+)"


@pytest.fixture(scope="module")
def sections(saved):
    """The sections of the saved notebook, by their numbers."""
    return read_sections(saved)


# Outputs


def test_outputs_belong_to_the_code(saved):
    is_same = saved.metadata.get("code_sha256") == code_hash(saved)
    assert is_same, f"the code has changed since its outputs were saved: {SAVE}"


def test_cells_were_executed_once_and_in_order(saved):
    cells = code_cells(saved)
    counts = [cell.execution_count for cell in cells]
    assert counts == list(range(1, len(cells) + 1)), SAVE


def test_outputs_have_no_traces_of_a_run(sections):
    """No paths, addresses, warnings and progress bars."""
    traces = r"/(home|root|tmp|opt|work|Users)/|\\Users\\|object at 0x|Warning|\r"
    for output in sections["all"].outputs:
        data = output.get("data", {}).items()
        texts = [text for kind, text in data if kind.startswith("text/")]
        for text in [*texts, output.get("text", "")]:
            assert not re.search(traces, text), text


def test_file_is_small_enough_for_previews():
    assert NOTEBOOK.stat().st_size < 2_000_000, "GitHub shows at most 2 MB reliably"


def test_figures_have_their_own_alternative_texts(sections):
    figures = set(sections["all"].figures)  # a set, as page 1 repeats a figure
    texts = [alt for alt, _ in figures]
    assert all(texts)
    assert len(set(texts)) == len(texts), sorted(texts)


# Links and texts


def test_links_lead_to_headings(sections):
    text = re.sub(CODE, "", sections["all"].markdown)
    headings = re.findall(r"^#+ (.+?) *$", sections["all"].markdown, re.M)
    anchors = {"#" + heading.replace(" ", "-") for heading in headings}
    answers = "\n".join(sections["all"].displayed("text/markdown"))
    links = [unquote(link) for link in re.findall(LINK_TARGET, text + answers)]
    links = {link for link in links if link.startswith("#")}
    assert links and not links - anchors


def test_named_files_exist(sections):
    """Links to files, and files of the repository in `code`."""
    texts = {NOTEBOOK: sections["all"].markdown}
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


# Definitions and packages


def test_definitions_use_only_arguments_definitions_and_imports():
    rules = ["--isolated", "--select", "F821,F811", "--output-format", "concise"]
    command = [sys.executable, "-m", "ruff", "check", *rules, "-"]
    run = subprocess.run(
        command, input=definition_source(), capture_output=True, encoding="utf-8"
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_pyproject_has_the_requirements():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    in_project = {
        "requirements.txt": project["project"]["dependencies"],
        "tests/requirements.txt": project["dependency-groups"]["dev"],
    }
    for file, requirements in in_project.items():
        lines = (ROOT / file).read_text("utf-8").splitlines()
        assert [line for line in lines if re.match("[A-Za-z]", line)] == requirements


# The whole notebook in a copy of the repository


def run_copy(folder):
    """Run the notebook in a copy of the repository, offline; return the answers."""
    ignore = shutil.ignore_patterns("*.tar.gz", "__pycache__")
    for name in "tools", "data":
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    for path in NOTEBOOK, ROOT / "C0_weights.npy":
        shutil.copy(path, folder)
    no_network = dict.fromkeys(["http_proxy", "https_proxy"], "http://127.0.0.1:9")
    no_network |= {"no_proxy": "", "NO_PROXY": ""}  # conftest.py sets it to "*"
    run = subprocess.run(
        [sys.executable, folder / "tools" / "run_notebook.py"],
        env=os.environ | no_network,
        capture_output=True,
    )
    assert run.returncode == 0, (run.stdout + run.stderr).decode()[-5000:]
    return read_answers(nbformat.read(folder / "build" / NOTEBOOK.name, as_version=4))


@pytest.mark.slow
def test_the_whole_notebook_gives_the_saved_results(saved, tmp_path):
    """As far as two machines agree. If a result has percentages, these alone count."""
    answers, again = read_answers(saved), run_copy(tmp_path / "a folder")
    assert set(again) == set(answers)
    has_cifar = (ROOT / "data/cifar-10-batches-bin").exists()
    for (section, question), result in answers.items():
        read, tolerance = read_numbers, {"rel": 0.01, "abs": 1e-9}
        if "%" in result:
            read, tolerance = read_percentages, {"abs": 0.3}
        if has_cifar or section[0] not in "45":
            other = again[section, question]
            assert read(other) == pytest.approx(read(result), **tolerance), question
