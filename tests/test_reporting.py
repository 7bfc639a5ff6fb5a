"""What the notebook's helpers tabulate and say, for data made by hand."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest


def test_show_tuning_tabulates_means_over_the_seeds(nb, monkeypatch):
    """For two λ, larger first, × two rates × two seeds, of which one run diverged."""
    tables = []
    monkeypatch.setattr(nb, "display", lambda *_, **__: None)
    monkeypatch.setattr(nb, "show_table", lambda table, *_: tables.append(table))
    settings = itertools.product((0.5, 0), (0.1, 2), (1, 2))
    trials = pd.DataFrame(settings, columns=["lam", "learning_rate", "seed"])
    trials["train_accuracy"] = np.arange(90.0, 98)
    trials["validation_accuracy"] = [80.0, 82, 91, 93, 85, 87, math.nan, 99]
    nb.show_tuning(trials, "lam", "title")
    validation = [["81.00 ± 1.41", "92.00 ± 1.41"], ["86.00 ± 1.41", "nan ± nan"]]
    gaps = [["9.50", "0.50"], ["8.50", "nan"]]
    assert tables[0].to_numpy().tolist() == validation + gaps
    rows = itertools.product(["accuracy %", "gap points"], ["0.5", "0.0"])
    assert [*tables[0].index] == [*rows]
    assert [*tables[0].columns] == ["0.1", "2.0"]


@pytest.mark.parametrize(("training", "degree"), [(95.9, "mild"), (96.1, "clear")])
def test_overfitting_is_clear_if_the_validation_error_is_twice_the_training_error(
    nb, training, degree
):
    runs = {"train_accuracy": [training] * 2, "validation_accuracy": [92, 92]}
    assert nb.overfitting_text(pd.DataFrame(runs)).startswith(f"{degree} overfitting")
