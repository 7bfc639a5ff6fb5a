"""The notebook as saved, and README beside it; two runs of the whole: as it is, to
compare its answers as far as two machines agree, and on another data set."""

import gzip
import os
import re
import shutil
import subprocess
import symtable
import sys
from base64 import b64decode
from functools import partial
from urllib.parse import unquote

import idx2numpy
import nbformat
import numpy as np
import pytest
import reading
from code_hash import code_cells, code_hash
from equations import equations
from load_definitions import NOTEBOOK, ROOT, definition_source

SAVE = "run .venv/bin/python tools/run_notebook.py --save"
MACHINE = r"/(?:home|root|tmp|opt|work|Users)/|\\Users\\|object at 0x|Warning|\\r"
MIMES = {"text/plain", "text/html", "text/markdown", "image/png"}
CODE = r"(?s)```.*?```|`[^`\n]*`|\]\(.*?\)"  # and targets of links
FILE = r"(?:\]\(|`(?=(?:benchmarks|docs|tests|tools)/))(?!\.\./\.\.)([\w./-]+\.\w+)"


def test_saved_from_one_clean_run(saved):
    fresh = saved.metadata.get("code_sha256") == code_hash(saved)
    assert fresh, f"the code has changed since its outputs were saved: {SAVE}"
    cells = code_cells(saved)
    counts = [cell.execution_count for cell in cells]
    assert counts == list(range(1, len(cells) + 1)), SAVE
    for cell in cells:
        for output in cell.outputs:
            kind, data = output.get("name", output.output_type), output.get("data", {})
            assert kind in ("stdout", "display_data", "execute_result"), cell.id
            assert {*data} <= MIMES, f"{cell.id} shows {[*data]}"
            text = repr({**output, "data": {**data, "image/png": ""}})
            assert not re.search(MACHINE, text), f"{cell.id} says {text}"


def test_cells_and_figures(saved):
    """`hide-input` folds on pages and in editors, `source_hidden` in JupyterLab."""
    assert NOTEBOOK.stat().st_size < 2_000_000, "2 MB at most: fewer, smaller pictures"
    assert len({cell.id for cell in saved.cells}) == len(saved.cells), "an id twice"
    for cell in code_cells(saved):
        hidden = cell.metadata.get("jupyter", {}).get("source_hidden", False)
        assert hidden == ("hide-input" in cell.metadata.get("tags", ())), cell.id
    alts = [alt for alt, _ in {*reading.figures(saved.cells)}]
    twice = {alt for alt in alts if alts.count(alt) > 1}
    assert all(alts) and not twice, f"two figures, one alternative text: {twice}"


def test_links_land(saved):
    text = reading.markdown(saved.cells)
    headings = [heading.strip() for heading in re.findall(r"^#+ (.+)$", text, re.M)]
    linking = "\n".join([text, *reading.shown(saved.cells, "text/markdown")])
    links = {unquote(link) for link in re.findall(r"\]\(#([^)\s]+)\)", linking)}
    lost = links - {heading.replace(" ", "-") for heading in headings}
    assert links and not lost, f"links to no heading: {lost}"
    paths = [*ROOT.glob("*.md"), *ROOT.glob("[bdt]*/*.md")]
    texts = {NOTEBOOK: text} | {path: path.read_text("utf-8") for path in paths}
    for path, text in texts.items():
        files = re.findall(FILE, re.sub("(?s)```.*?```", "", text))
        places = path.parent, ROOT
        lost = [f for f in files if not any((place / f).exists() for place in places)]
        assert not lost, f"{path.name} names {lost}"


def test_answers_on_page_1_and_in_readme_are_those_of_the_sections(saved):
    answers, places = reading.answers(saved), reading.sections(saved)
    assert len(answers) > 10, f"page 1 has only {answers}"
    for (section, asked), found in answers.items():
        said = " ".join(reading.printed(places[section]).split())
        told = found.replace("<br>", " ")
        assert f"{asked}: {told}" in said, f"section {section} prints {said}"
    readme = (ROOT / "README.md").read_text("utf-8")
    quoted = re.search(r"<!-- results -->\n(.*?)<!-- /results -->", readme, re.S)[1]
    rows = [tuple(row) for row in reading.table_rows(quoted)]
    assert len(rows) >= 5 and {*rows} <= {(*key, answers[key]) for key in answers}, SAVE
    ((_, picture),) = reading.figures(places["top"])
    assert b64decode(picture) == (ROOT / "docs/staircase.png").read_bytes(), SAVE


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_numbers_in_the_prose(saved):
    """Equations of numbers in formulas hold; what cannot be read is passed over.
    Percentages of two decimals, as runs print them, are in an output."""
    told = reading.printed(saved.cells) + repr(reading.shown(saved.cells, "text/html"))
    found = []
    for cell in saved.cells:
        prose = re.sub(CODE, "", reading.markdown([cell]))
        for number in re.findall(r"(?<![\d.])\d+\.\d\d(?= ?\\?%)", prose):
            assert number in told, f"{cell.id}: {number}% is in no output"
        for paragraph in prose.split("\n\n"):
            found += [(cell.id, *equation) for equation in equations(paragraph)]
    assert len(found) >= 10, f"only these equations can be read: {found}"
    assert not [(name, text) for name, text, holds in found if not holds]


def test_page_1_says_what_is_missing(saved, tmp_path):
    def last_line(folder, hidden=""):
        """What its first cell says in a folder, without a package."""
        hide = f"import sys; sys.modules[{hidden!r}] = None\n"
        command = [sys.executable, "-c", hide + code_cells(saved)[0].source]
        run = subprocess.run(command, cwd=folder, capture_output=True)
        return run.stderr.decode().strip().split("\n")[-1]

    assert not last_line(ROOT) and "data/mnist" in last_line(tmp_path)
    imports = {*re.findall(r"^(?:from|import) (\w+)", definition_source(), re.M)}
    for name in imports - {"IPython", "numpy"} - sys.stdlib_module_names:
        said = last_line(ROOT, name)
        assert name in said and "requirements.txt" in said, f"no {name}: {said}"


def ruff(*arguments, source=None):
    """What ruff finds; "" if nothing."""
    command = [sys.executable, "-m", "ruff", *arguments]
    settings = {"cwd": ROOT, "capture_output": True, "encoding": "utf-8"}
    run = subprocess.run(command, input=source, **settings)
    return run.stdout + run.stderr if run.returncode else ""


def test_ruff():
    said = ruff("check", ".") + ruff("format", "--check", ".")
    assert not said, said


def bound(source):
    """The global names that code binds, but for imports."""
    names = symtable.symtable(source, "cell", "exec").get_symbols()
    return {n.get_name() for n in names if n.is_assigned() and not n.is_imported()}


def test_definitions_are_closed(saved):
    """They use arguments, other definitions and imports; nothing binds them again."""
    rules = "check", "--isolated", "--select", "F821,F811", "--output-format", "concise"
    said = ruff(*rules, "--stdin-filename", "a.py", "-", source=definition_source())
    assert not said, "pass these as arguments, or define them once:\n" + said
    names = bound(definition_source())
    assert len(names) > 50, "cells that define have the tag `definitions`"
    for cell in code_cells(saved):
        again = names & bound(cell.source)
        tagged = "definitions" in cell.metadata.get("tags", ())
        assert tagged or not again, f"{cell.id} binds {again} again"


def test_packages_are_the_same_everywhere():
    files = "requirements.txt", "tests/requirements.txt", "pyproject.toml"
    *texts, project = [(ROOT / name).read_text("utf-8") for name in files]
    lists = [re.findall(r"^[A-Za-z].*>=.*,<.*", text, re.M) for text in texts]
    quoted = re.findall(r"\[\n(.*?)\n\]", project, re.S)
    assert [re.findall('"(.*)"', part) for part in quoted] == lists


def run_copy(folder, without=(), edit=str):
    """The answers of the notebook, after an edit of its text, run in a copy of the
    repository without a network and some of its data."""
    ignore = shutil.ignore_patterns("*.tar.gz", "__pycache__", *without)
    for name in "tools", "data":
        shutil.copytree(ROOT / name, folder / name, ignore=ignore, dirs_exist_ok=True)
    shutil.copy(ROOT / "C0_weights.npy", folder)
    (folder / NOTEBOOK.name).write_text(edit(NOTEBOOK.read_text("utf-8")), "utf-8")
    nowhere = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    command = [sys.executable, folder / "tools" / "run_notebook.py"]
    run = subprocess.run(command, env=os.environ | nowhere, capture_output=True)
    assert run.returncode == 0, (run.stdout + run.stderr).decode()[-5000:]
    executed = nbformat.read(folder / "build" / NOTEBOOK.name, as_version=4)
    return reading.answers(executed)


def agree(before, again):
    """Whether two texts of a row have the same numbers, as far as two machines compute
    them; if there are percentages with two decimals, these alone count."""
    number, near = r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?", {"rel": 0.01, "abs": 1e-9}
    if "%" in before:
        number, near = r"\d+\.\d\d(?!\d)", {"rel": 0, "abs": 0.3}
    numbers = [[float(n) for n in re.findall(number, text)] for text in (before, again)]
    return numbers[1] == pytest.approx(numbers[0], **near)


@pytest.mark.slow
def test_the_whole_gives_the_saved_answers_again(saved, tmp_path):
    before, again = reading.answers(saved), run_copy(tmp_path / "a folder")
    assert set(again) == set(before)
    whole = (ROOT / "data/cifar-10-batches-bin").exists()
    keys = [key for key in before if whole or key[0][0] not in "45"]
    other = [key for key in keys if not agree(before[key], again[key])]
    assert not other, {key: (before[key], again[key]) for key in other}


@pytest.mark.slow
def test_every_cell_runs_on_other_data(saved, tmp_path):
    """Ten kinds of noisy stripes in MNIST's four files."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "data/mnist"
    folder.mkdir(parents=True)
    for part in "train", "t10k":
        labels = rng.integers(0, 10, 1000)
        images = rng.integers(0, 156, (1000, 28, 28))
        images[np.arange(1000), 2 * labels + 4] += 100
        for name, array in ("images-idx3", images), ("labels-idx1", labels):
            with gzip.open(folder / f"{part}-{name}-ubyte.gz", "wb") as file:
                idx2numpy.convert_to_file(file, array.astype(np.uint8))
    named = partial(re.sub, "CLASS_NAMES = [^\\\\]*", "CLASS_NAMES = [*'ABCDEFGHIJ']")
    found = run_copy(tmp_path, ("mnist", "cifar-10-batches-bin"), named)
    assert set(found) == set(reading.answers(saved))
    assert re.search("best [A-J] .*worst [A-J] ", " ".join(found.values()))
