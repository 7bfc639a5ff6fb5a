"""The scripts of benchmarks/ on a handful of images, and the table that 6.7 quotes.

Speaks when a script no longer fits the notebook, or the table is not the CSV's."""

import csv
import importlib
import json
import sys

import pytest
from load_definitions import NOTEBOOK, ROOT
from test_seen_further import SETTINGS


@pytest.fixture
def script(nb, monkeypatch, rng):
    """A function that imports a script, which then sees few images."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setitem(sys.modules, "torch", None)
    cifar, some, read = rng.random((100, 3, 12, 12)), nb.load_digits, nb.read_idx
    monkeypatch.setattr(nb, "load_digits", lambda folder, _=1: some(folder, 0.01))
    monkeypatch.setattr(nb, "read_idx", lambda path: read(path)[:6000])
    monkeypatch.setattr(nb, "load_cifar", lambda folder: (cifar, None))
    return importlib.import_module


def test_facts(script, monkeypatch):
    facts = script("facts")
    monkeypatch.setattr(facts, "SEEDS", [0])
    rows = [*facts.file_order(), *facts.exercise_1(), *facts.exercise_5()]
    assert {len(row) for row in rows} == {len(facts.HEADER)} and len(rows) == 15
    assert all(float(value) < 2 for *_, value in rows[-5:])  # it starts at 1.8


@pytest.mark.parametrize("name", ["ConvNet", "24-48, 5-5", "wide MLP, not distorted"])
def test_convnet_runs(script, monkeypatch, capsys, name):
    runs = script("convnet_runs")
    for kind in "ConvNet", "wide MLP":
        assert SETTINGS[kind].items() <= runs.SETTINGS[kind].items()
    kept = runs.TABLE.read_text(encoding="utf-8")
    monkeypatch.setitem(runs.SETTINGS[name], "epochs", 1)
    runs.main([name], [0], share=0.01)
    line = capsys.readouterr().out.removeprefix(name)
    assert line.count(", ") == kept.splitlines()[0].count(",")
    assert 0 < float(line.split(", ")[-1]) <= 1 and runs.TABLE.read_text() == kept


def test_timings(script, nb):
    run = script("run")
    part, model = nb.load_digits(ROOT / "data" / "mnist")[0], run.mlp(rng=0)
    ours = run.our_epoch(model, part, 50)
    assert run.table_line(1, "epoch", "itself", ours, ours, 9.0, 0.9)[-1] == "met"
    assert 0 < run.sklearn_epoch(model, part, 50)()[0] < 9
    with pytest.raises(SystemExit, match="PyTorch is missing"):
        run.main(1)


def test_the_notebook_quotes_the_runs():
    """Clean and distorted, in percent: the seeds 0, 1 and 2 of the CSV."""
    with (ROOT / "benchmarks/convnet_runs.csv").open(encoding="utf-8") as file:
        rows = {
            (r["name"], r["seed"]): r["valid accuracy"] for r in csv.DictReader(file)
        }
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    (text,) = (c["source"] for c in cells if c["id"] == "further-train-read")
    quoted = [line.strip("| \n").split(" | ") for line in text if "|" in line]
    assert quoted[0][-2:] == ["clean", "distorted"]
    for name, told in zip(("ConvNet", "wide MLP"), quoted[2:], strict=True):
        for suffix, cell in zip((", not distorted", ""), told[1:], strict=True):
            values = [100 * float(rows[name + suffix, seed]) for seed in "012"]
            assert cell == ", ".join(f"{value:.2f}" for value in values)
