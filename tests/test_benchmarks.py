"""The scripts of benchmarks/ on a handful of images, and the table that 6.7 quotes.

Speaks when a script no longer fits the notebook, or the table is not the CSV's."""

import csv
import importlib
import math
import re
import sys
from functools import partial
from types import SimpleNamespace
from unittest.mock import MagicMock, patch

import numpy as np
import pytest
from conftest import patches_of
from load_definitions import ROOT
from seen import Seen
from test_notebook import table_rows
from test_seen_1_3 import SETTINGS as OF_1_3
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
    witness = Seen()
    monkeypatch.setattr(nb, "fit", witness.watch("fit", nb.fit))
    monkeypatch.setattr(nb, "calls", witness.calls, raising=False)
    return importlib.import_module


def test_facts(script, monkeypatch, nb, rng):
    """Of the settings that the notebook has chosen; moved three pixels to the right."""
    facts = script("facts")
    monkeypatch.setattr(facts, "SEEDS", [0])
    passes = [SimpleNamespace(error=k) for k in range(61)]
    monkeypatch.setattr(nb, "descend", lambda *given, **settings: (None, passes))
    rows = [*facts.file_order(), *facts.exercise_1(), *facts.exercise_5()]
    kept = []
    for name in "facts", "exercises":
        text = (ROOT / f"benchmarks/{name}.csv").read_text("utf-8")
        kept += [row[:-1] for row in csv.reader(text.splitlines()) if row[2] == "0"]
    assert len(nb.calls[0].given["part"].y) == 4200 and float(rows[6][-1]) <= 1  # p
    assert [[str(cell) for cell in row[:-1]] for row in rows] == kept
    patches, W0 = patches_of(nb.load_cifar("")[0], 5), np.load(ROOT / "C0_weights.npy")
    noise = 20 * 0.1**2 * np.trace(np.linalg.inv(patches.T @ patches))
    of_noise = pytest.approx(math.sqrt(noise) / np.linalg.norm(W0), rel=0.1)
    assert [float(value) for *_, value in rows[-5:]] == [of_noise, 20, 60, 20, 60]
    first, *others = [(c.given["part"].x, c.given["valid"].x) for c in nb.calls[1:]]
    same = [[*map(np.array_equal, first, other)] for other in others]
    assert same == [[False, False], [True, False]]  # both moved; those of validation
    text = (ROOT / "README.md").read_text("utf-8")  # has the answer of 1.8
    lam, rate = re.search(r"λ (\S+), learning rate (\S+):", text).groups()
    chosen = OF_1_3["1.8"] | {"lam": float(lam), "learning_rate": float(rate)}
    assert [call.result.settings for call in nb.calls] == [chosen] * 4
    part = nb.Part(rng.random((2, 784)), np.arange(2), "")
    images, moved = (p.x.reshape(2, 28, 28) for p in (part, facts.moved(part)))
    np.testing.assert_array_equal(moved, images.take(range(-3, 25), axis=2))


@pytest.mark.parametrize(
    "name", ["16-48, elastic 0.9", "24-48, 5-5", "wide MLP, not distorted"]
)
def test_convnet_runs(script, monkeypatch, capsys, nb, name):
    runs = script("convnet_runs")
    for kind in "ConvNet", "wide MLP":
        assert SETTINGS[kind].items() <= runs.SETTINGS[kind].items()
    kept = runs.TABLE.read_text(encoding="utf-8")
    for row in csv.DictReader(kept.splitlines()):
        for key, value in runs.SETTINGS.get(row["name"], {}).items():
            text = "-".join(map(str, value)) if isinstance(value, tuple) else value
            assert row[key] == ("" if text is None else str(text)), row["name"]
    monkeypatch.setitem(runs.SETTINGS[name], "epochs", 1)
    monkeypatch.setattr(runs.os, "getloadavg", lambda: (77.7, 0, 0))
    runs.main([name], [2], share=0.01)
    given = nb.calls[0].given
    assert given["seed"] == 2
    distorted = given["settings"].get("batches", partial(dict, elastic=None))
    assert distorted.keywords["elastic"] == runs.SETTINGS[name]["elastic"]
    line = capsys.readouterr().out.removeprefix(name)
    assert line.count(", ") == kept.splitlines()[0].count(",")
    assert line.split(", ")[-2:] == ["77.7", f"{nb.calls[0].result.valid:.5f}\n"]
    assert runs.TABLE.read_text() == kept


def test_timings(script, nb, monkeypatch):
    """All punish weights alike."""
    run = script("run")
    part, model = nb.load_digits(ROOT / "data" / "mnist")[0], run.mlp(rng=0)
    ours = run.our_epoch(model, part, 10)
    times = iter([0.001, 0.004, 0.009, 0.004, 0.002, 0.004])
    with patch.object(run, "seconds", lambda *timed: next(times)):
        row = run.table_line(3, "epoch", "itself", ours, ours, 0.6, 0.9)
    told = "epoch", "2.0 ms", "itself", "4.0 ms", "0.50 (0.25 to 2.25)", "0.6", "met"
    assert row == told
    assert 0 < run.sklearn_epoch(model, part, 10)()[0] < 9
    with pytest.raises(SystemExit, match="PyTorch is missing"):
        run.main(1)
    first = model.layers[0]
    model.backward(0 * model.forward(part.x[:1]), run.LAM)
    decay = pytest.approx(np.mean(first.grad_W / first.W))  # 2 λ
    for name in "torch", "nn", "MLPClassifier":
        monkeypatch.setattr(run, name, MagicMock(), raising=False)
    run.torch_epoch(model, part, 50)
    run.sklearn_epoch(model, part, 50)
    given = run.torch.optim.SGD.call_args.kwargs | run.MLPClassifier.call_args.kwargs
    assert given["weight_decay"] == given["alpha"] / 50 == decay
    assert given["lr"] == given["learning_rate_init"] == run.RATE


def test_the_notebook_quotes_the_runs(saved):
    """Clean and distorted, in percent: the seeds 0, 1 and 2 of the CSV."""
    with (ROOT / "benchmarks/convnet_runs.csv").open(encoding="utf-8") as file:
        rows = [*csv.DictReader(file)]
    rows = {(row["name"], row["seed"]): row["valid accuracy"] for row in rows}
    (text,) = (c.source for c in saved.cells if c.id == "further-train-read")
    header, *quoted = table_rows(text)
    assert header[-2:] == ["clean", "distorted"]
    for name, told in zip(("ConvNet", "wide MLP"), quoted, strict=True):
        for suffix, cell in zip((", not distorted", ""), told[1:], strict=True):
            values = [100 * float(rows[name + suffix, seed]) for seed in "012"]
            assert cell == ", ".join(f"{value:.2f}" for value in values)
