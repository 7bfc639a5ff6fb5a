"""The script that fills benchmarks/convnet_runs.csv."""

import importlib

from paths import ROOT


def test_convnet_runs_prints_but_does_not_keep_a_quick_trial(nb, monkeypatch, capsys):
    """The row has a value for each column of the table; the last is an accuracy."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    script = importlib.import_module("convnet_runs")
    table = script.TABLE.read_text(encoding="utf-8")
    settings = {"epochs": 1, "batch_size": 50, "learning_rate": 0.3}
    script.main("ConvNet-16-32", elastic=1.2, seed=0, share=0.01, **settings)
    row = capsys.readouterr().out.strip().split(",")
    assert len(row) == len(table.splitlines()[0].split(","))
    assert 0 < float(row[-1]) < 100
    assert script.TABLE.read_text(encoding="utf-8") == table
