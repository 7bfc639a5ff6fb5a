"""The scripts of benchmarks/, on a handful of images."""

import importlib
import sys
from unittest.mock import Mock, patch

import numpy as np
import pytest
from load_definitions import ROOT


@pytest.fixture
def script(nb, monkeypatch):
    """A function that imports a script, which then sees few images of MNIST."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setitem(sys.modules, "torch", None)
    load = nb.load_digits
    monkeypatch.setattr(nb, "load_digits", lambda folder, _=1: load(folder, 0.01))
    return importlib.import_module


def test_facts(script, monkeypatch, nb, rng):
    """A file whose last twentieth has other labels is not in random order."""
    facts = script("facts")
    images, labels = (facts.read(f"train-{name}")[:3000] for name in facts.FILES)
    labels = np.append(labels[:2850], rng.permutation(labels[2850:]))
    files = {f"train-{facts.FILES[0]}": images, f"train-{facts.FILES[1]}": labels}
    monkeypatch.setattr(facts, "read", files.get)
    monkeypatch.setattr(nb, "fit", Mock(wraps=nb.fit))
    *sixths, p = (float(value) for _, _, value in facts.file_order([0]))
    assert len(nb.fit.call_args.args[1].y) == 2100
    assert min(sixths[:5]) > 70 and sixths[5] < 25 and p < 1e-9


@pytest.mark.parametrize("name", ["24-48, 5-5", "wide MLP, not distorted"])
def test_convnet_runs(script, monkeypatch, capsys, nb, name):
    """Trained from the seed on digits as the name says; a try is not kept."""
    runs = script("convnet_runs")
    monkeypatch.setattr(nb, "fit", Mock(wraps=nb.fit))
    monkeypatch.setitem(runs.SETTINGS[name], "epochs", 1)
    kept = runs.TABLE.read_text(encoding="utf-8")
    runs.main([name], [2], share=0.01)
    (_, part, _, seed), settings = nb.fit.call_args
    assert (part.name, seed) == ("training", 2)
    assert ("batches" in settings) == ("not distorted" not in name)
    *row, accuracy = capsys.readouterr().out.removeprefix(name).split(", ")
    assert len(row) == kept.splitlines()[0].count(",")
    assert 0.5 < float(accuracy) < 1
    assert runs.TABLE.read_text(encoding="utf-8") == kept


def test_timings(script, nb):
    """Medians and ratios of rounds in turns; results that differ are no timings."""
    run = script("run")
    times = [0.001, 0.004, 0.009, 0.004, 0.002, 0.004, 1, 1]
    given = "what", "them", lambda: [1], lambda: [1.05], 0.6
    with patch.object(run, "seconds", side_effect=times):
        row, other = run.table_line(3, *given, 0.1), run.table_line(1, *given, 0.01)
    told = "what", "2.0 ms", "them", "4.0 ms", "0.50 (0.25 to 2.25)", "0.6", "met"
    assert row == told and "DIFFER" in other[-1]
    part, model = nb.load_digits("data/mnist")[0], nb.new_mlp(rng=0)
    epochs = [make(model, part, 10)() for make in (run.sklearn_epoch, run.our_epoch)]
    assert epochs[0] == pytest.approx(epochs[1], rel=0.2)
    with pytest.raises(SystemExit, match="PyTorch is missing"):
        run.main(1)
