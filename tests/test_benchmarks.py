"""The scripts of benchmarks/, on a handful of images."""

import importlib
import sys
from unittest.mock import Mock

import pytest
from load_definitions import ROOT


@pytest.fixture
def import_script(monkeypatch):
    """A function that imports a script; PyTorch is missing."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setitem(sys.modules, "torch", None)
    return importlib.import_module


# convnet_runs.py


@pytest.fixture
def convnet_runs(import_script, nb, monkeypatch):
    script = import_script("convnet_runs")
    monkeypatch.setattr(nb, "fit", Mock(wraps=nb.fit))
    for name, settings in script.SETTINGS.items():
        monkeypatch.setitem(script.SETTINGS, name, settings | {"epochs": 1})
    return script


@pytest.mark.parametrize("name", ["24-48, 5-5", "wide MLP, not distorted"])
def test_convnet_runs_trains_as_the_name_says(convnet_runs, nb, name):
    convnet_runs.main([name], [2], share=0.01)
    (_, train, _, seed), settings = nb.fit.call_args
    assert len(train.y) == 420
    assert seed == 2
    assert ("batches" in settings) == ("not distorted" not in name)


def test_convnet_runs_prints_but_does_not_keep_a_quick_trial(convnet_runs, capsys):
    """The row has a value for each column of the table; the last is an accuracy."""
    table = convnet_runs.TABLE.read_text(encoding="utf-8")
    convnet_runs.main(["wide MLP"], [0], share=0.01)
    row = capsys.readouterr().out.strip().split(", ")
    assert len(row) == len(table.splitlines()[0].split(","))
    assert 0.5 < float(row[-1]) < 1
    assert convnet_runs.TABLE.read_text(encoding="utf-8") == table


# run.py


@pytest.fixture
def run(import_script):
    return import_script("run")


def make_comparison(run, tolerance):
    """Two functions that return 1 and 1.05."""
    functions = (lambda: [1]), (lambda: [1.05])
    return run.Comparison("softmax", "PyTorch", *functions, 0.6, tolerance)


def test_a_row_has_medians_of_times_and_ratios(run, monkeypatch):
    """Ours and the reference take turns."""
    times = iter([0.001, 0.004, 0.009, 0.004, 0.002, 0.004])
    monkeypatch.setattr(run, "seconds_per_call", lambda timer, n_calls: next(times))
    row = run.table_row(make_comparison(run, tolerance=0.1), rounds=3)
    times_and_ratios = "2.0 ms", "PyTorch", "4.0 ms", "0.50 (0.25 to 2.25)"
    assert row == ["softmax", *times_and_ratios, "0.6", "met"]


def test_a_row_says_that_results_differ(run):
    *_, verdict = run.table_row(make_comparison(run, tolerance=0.01), rounds=1)
    assert "DIFFER" in verdict
