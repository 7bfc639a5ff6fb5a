"""The scripts of benchmarks/, each in one short test; PyTorch is not needed."""

import csv
import importlib
import sys

import pytest
from load_definitions import ROOT


@pytest.fixture
def import_script(nb, monkeypatch):
    """A function that imports a script; PyTorch is missing, but only for the script."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setitem(sys.modules, "torch", None)
    return importlib.import_module


def test_convnet_runs_prints_but_does_not_keep_a_quick_trial(
    import_script, monkeypatch, capsys
):
    """The row has a value for each column of the table; the last is an accuracy."""
    script = import_script("convnet_runs")
    monkeypatch.setitem(script.SETTINGS, "ConvNet", script.NET | {"epochs": 1})
    table = script.TABLE.read_text(encoding="utf-8")
    script.main(["ConvNet"], [0], share=0.01)
    row = capsys.readouterr().out.strip().split(", ")
    assert len(row) == len(table.splitlines()[0].split(","))
    assert 0 < float(row[-1]) < 1
    assert script.TABLE.read_text(encoding="utf-8") == table


def test_run_times_in_turns_and_says_if_results_differ(import_script, monkeypatch):
    run = import_script("run")
    for tolerance, verdict in (0.1, ""), (0.01, " **RESULTS DIFFER**"):
        times = iter([0.001, 0.004, 0.009, 0.004, 0.002, 0.004])
        monkeypatch.setattr(run, "seconds_per_call", lambda *_, t=times: next(t))
        functions = (lambda: [1]), (lambda: [1.05])
        comparison = run.Comparison("softmax", "PyTorch", *functions, tolerance)
        row = " | ".join(run.table_row(comparison, rounds=3))
        ratio = f"0.50 (0.25 to 2.25){verdict}"
        assert row == f"softmax | 2.0 ms | PyTorch | 4.0 ms | {ratio}"


def test_rows_of_the_table_have_the_settings_of_their_name(import_script):
    script = import_script("convnet_runs")
    with script.TABLE.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for key, value in script.SETTINGS.get(row["name"], {}).items():
                text = "" if value is None else str(script.as_text(value))
                assert row[key] == text, (row["name"], key)
