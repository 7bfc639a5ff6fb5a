"""The notebook as saved, the README beside it, and a run of the whole."""

import gzip
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import idx2numpy
import nbformat
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "DLCV_Assignment1.ipynb"


def outputs(notebook, kind=None):
    """All outputs of a notebook's code cells, or those of one kind."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [o for c in cells for o in c.outputs if kind in (None, o.output_type)]


def figures(notebook):
    """The results of the notebook's summary table: {name: value}."""
    found = [
        o.metadata["results"] for o in outputs(notebook, "display_data") if "results" in o.metadata
    ]
    assert len(found) == 1
    return found[0]


def summary_rows(text):
    """Rows of the Markdown table whose header has 'figure' and 'value', as tuples of texts."""
    rows = [
        [c.strip() for c in line.strip("| ").split("|")]
        for line in text.splitlines()
        if "|" in line
    ]
    start = next(i for i, row in enumerate(rows) if row == ["figure", "question", "value"])
    table = []
    for row in rows[start + 2 :]:
        if len(row) != len(rows[start]):
            break
        table.append(tuple(row))
    return table


@pytest.fixture(scope="module")
def saved():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    return notebook


def test_saved_from_one_clean_run(saved):
    code = [cell for cell in saved.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not outputs(saved, "error")
    assert not [o for o in outputs(saved, "stream") if o.name == "stderr"]
    assert not [cell.id for cell in code if "execution" in cell.metadata]
    assert "widgets" not in saved.metadata


def test_saved_format(saved):
    assert (saved.nbformat, saved.nbformat_minor) == (4, 5)
    assert saved.metadata.kernelspec.name == "python3"
    assert NOTEBOOK.stat().st_size < 2_000_000
    ids = [cell.id for cell in saved.cells]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z0-9-]+", i) and not re.fullmatch(r"[0-9a-f]{8}", i) for i in ids)


def test_outputs_show_no_paths_addresses_or_warnings(saved):
    texts = [o.get("text", "") for o in outputs(saved)]
    texts += [
        v for o in outputs(saved) for k, v in o.get("data", {}).items() if k.startswith("text/")
    ]
    bad = re.compile(
        r"(/home/|/root/|/tmp/|/work/|\\Users\\|/Users/|object at 0x|<matplotlib|Warning|\r)"
    )
    assert not [text for text in texts if bad.search(text)]
    assert not [
        o for o in outputs(saved) if "application/vnd.jupyter.widget-view+json" in o.get("data", {})
    ]


def test_every_figure_has_alternative_text(saved):
    pictures = [o for o in outputs(saved, "display_data") if "image/png" in o.data]
    assert len(pictures) > 20
    assert all(o.metadata.get("image/png", {}).get("alt") for o in pictures)


def test_contents_link_to_headings(saved):
    prose = "\n".join(cell.source for cell in saved.cells if cell.cell_type == "markdown")
    headings = {m.replace(" ", "-") for m in re.findall(r"^#+ (.+)$", prose, re.M)}
    links = re.findall(r"\]\(#([^)]+)\)", prose)
    assert len(links) >= 8
    assert not [link for link in links if link not in headings]


def test_no_placeholder_is_left(saved):
    assert not [
        c.id for c in saved.cells if re.search(r"WRITE CODE|TODO|FIXME|Placeholder", c.source)
    ]


def test_readme_quotes_the_notebook(saved):
    readme = summary_rows((ROOT / "README.md").read_text(encoding="utf-8"))
    tables = [
        o.data["text/markdown"] for o in outputs(saved, "display_data") if "results" in o.metadata
    ]
    assert readme == summary_rows(tables[0])


def test_promised_figures(saved):
    """The figures that the notebook's text promises, as saved."""
    result = figures(saved)
    assert result["softmax_valid_accuracy"] >= 0.922
    assert result["mlp_valid_accuracy"] >= 0.9785
    assert result["objective_over_logistic_regression"] <= 1.01
    assert result["filter_relative_error"] <= 1e-8


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]])
def test_ruff(command):
    run = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "."], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout + run.stderr


def copy_of_repository(folder):
    """A copy of what running needs, but for data/; no cached run, no virtual environment."""
    for name in "DLCV_Assignment1.ipynb", "C0_weights.npy":
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "tools", folder / "tools")
    return folder


@pytest.mark.parametrize("how", ["raise ValueError('broken on purpose')", "1 / 0"])
def test_failing_cell_stops_the_run_and_keeps_the_file(tmp_path, how):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(how)])
    path = tmp_path / "broken.ipynb"
    nbformat.write(notebook, path)
    before = path.read_bytes()
    command = [sys.executable, ROOT / "tools" / "run_notebook.py", path]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode != 0
    assert "Traceback" in run.stderr and how.split("(")[0].split()[-1] in run.stderr
    assert path.read_bytes() == before


def run_notebook(root, cwd, **environment):
    """Run the notebook of a copy of the repository, in place; returns it with its outputs."""
    run = subprocess.run(
        [sys.executable, root / "tools" / "run_notebook.py"],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-5000:]
    return nbformat.read(root / NOTEBOOK.name, as_version=4)


OFFLINE = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy", "HTTPS_PROXY")}


@pytest.mark.slow
def test_whole_notebook_reproduces_the_saved_figures(saved, tmp_path):
    """Runs everything in a copy, without a network, from another working directory."""
    root = tmp_path / "a folder with spaces"
    root.mkdir()
    copy_of_repository(root)
    shutil.copytree(ROOT / "data", root / "data")
    again, before = figures(run_notebook(root, tmp_path, **OFFLINE)), figures(saved)
    accuracies = [name for name in before if name.endswith("accuracy")]
    assert {n: again[n] for n in accuracies} == pytest.approx(
        {n: before[n] for n in accuracies}, abs=0.003
    )
    assert again["filter_relative_error"] <= 1e-8
    if again["cifar_images"] == before["cifar_images"]:
        for name in "sgd_filter_relative_error", "hessian_condition_number":
            assert again[name] == pytest.approx(before[name], rel=1e-3)


def write_other_data(folder, names, seed=0):
    """A data set in MNIST's four files: as many kinds of noisy stripes as names, 10x8 pixels."""
    rng = np.random.default_rng(seed)
    row, column = np.indices((10, 8))
    kinds = np.stack([(row * (k + 1) + column * k) % 5 < 2 for k in range(len(names))])
    folder.mkdir()
    for part, count in ("train", 1000), ("t10k", 300):
        labels = rng.integers(0, len(kinds), count).astype(np.uint8)
        images = 120 * kinds[labels] + rng.integers(0, 136, (count, 10, 8))
        for array, name in (images.astype(np.uint8), "images-idx3"), (labels, "labels-idx1"):
            with gzip.open(folder / f"{part}-{name}-ubyte.gz", "wb") as file:
                idx2numpy.convert_to_file(file, array)


@pytest.mark.slow
def test_every_cell_runs_on_other_data(tmp_path):
    """Other images, sizes and counts in MNIST's format: only the list of class names changes."""
    copy_of_repository(tmp_path)
    (tmp_path / "data").mkdir()
    shutil.copy(ROOT / "data" / "cifar10_sample.bin", tmp_path / "data")
    names = ["level", "steep", "steeper", "almost upright"]
    write_other_data(tmp_path / "data" / "mnist", names)
    path = tmp_path / NOTEBOOK.name
    notebook = nbformat.read(path, as_version=4)
    (cell,) = (c for c in notebook.cells if c.source.startswith("CLASS_NAMES = "))
    cell.source = re.sub(r"^CLASS_NAMES = .*", f"CLASS_NAMES = {names}", cell.source)
    nbformat.write(notebook, path)
    result = figures(run_notebook(tmp_path, tmp_path, **OFFLINE))
    for name in "softmax_test_accuracy", "mlp_test_accuracy", "distorted_test_accuracy":
        assert result[name] > 0.9
