"""The trainer, the choice of settings, parallel runs, and initial weights."""

import itertools
import math
from functools import partial

import joblib
import numpy as np
import pandas as pd
import pytest
from references import accuracy_of, loss_of, train_by_loop

pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.parametrize("falling", [True, False])
@pytest.mark.parametrize(("lam", "seed"), [(0, 7), (0.125, 6)])
def test_fit_agrees_with_a_plain_loop(nb, rng, lam, seed, falling):
    """One generator draws the weights and all orders, training is logged before each
    update and validation after each epoch, and a short last batch is a step, too."""
    make_model = partial(nb.Single_layer_classifier, 3, 3, std=1, dtype=np.float64)
    sizes, rows = (10, 15), []
    datasets = [nb.Dataset(rng.random((n, 3)), rng.integers(0, 3, n)) for n in sizes]
    (train, validation), rng = datasets, np.random.default_rng(seed)
    start = make_model(rng=rng).W
    for W, seen in train_by_loop(start, train, rng, 3, 4, 0.5, lam, falling):
        sets = seen, (validation.x @ W, validation.y)
        rows.append([f(*data) for data in sets for f in (loss_of, accuracy_of)])
    settings = {"epochs": 3, "batch_size": 4, "learning_rate": 0.5}
    if lam:  # by default there is no penalty
        settings["lam"] = lam
    if not falling:  # by default the rate falls
        settings["falling"] = False
    run = nb.fit(make_model, *datasets, seed, **settings)
    np.testing.assert_allclose(run.model.W, W, rtol=1e-12)
    np.testing.assert_allclose(run.log[nb.LOG_COLUMNS], rows, rtol=1e-12)
    assert [*run.log.index] == [1, 2, 3]
    assert run.train_accuracy == accuracy_of(train.x @ W, train.y)
    assert run.validation_accuracy == rows[-1][-1]


def test_falling_and_constant_rates_of_the_chosen_lambda(run, ns):
    (call,) = run.calls_in("show_table", "q1-constant")
    table, (x, y) = call.arguments["table"], ns.validation
    table.columns = table.columns.astype(float)
    assert [*table.columns] == ns.softmax_grid["learning_rate"]
    for (name, row), falling in zip(table.iterrows(), (True, False), strict=True):
        assert ("falling" in name) == falling
        for rate, text in row.items():
            accuracies, settings = [], (rate, ns.softmax_best["lam"], falling)
            for rng in map(np.random.default_rng, (1, 2, 3)):
                W = 1e-3 * rng.standard_normal((784, 10))
                *_, (W, _) = train_by_loop(W, ns.train, rng, 5, 50, *settings)
                accuracies.append(accuracy_of(x @ W, y))
            if rate < 4 or falling:  # else rounding errors grow
                mean, std = np.mean(accuracies), np.std(accuracies, ddof=1)
                assert text == f"{mean:.2f} ± {std:.2f}"


@pytest.mark.parametrize(("rate", "lam"), [(50, 0.1), (1e20, 0), (1e20, 0.1)])
def test_a_diverging_run_stops_and_has_no_accuracies(nb, rng, rate, lam):
    """Without an error or a warning."""
    data = nb.Dataset(rng.random((90, 784), np.float32), rng.integers(0, 3, 90))
    settings = {"epochs": 9, "batch_size": 9, "learning_rate": rate, "lam": lam}
    run = nb.fit(partial(nb.MLP, 784, 64, 10), data, data, **settings)
    assert math.isnan(run.train_accuracy) and math.isnan(run.validation_accuracy)
    assert len(run.log) < 9


@pytest.mark.parametrize("other", [70, math.nan], ids=["mean", "diverged"])
def test_select_best_has_the_best_mean_validation_accuracy(nb, other):
    """Over two seeds. The best single run, 99, has a bad or a diverged twin."""
    grid = {"batch_size": [50, 100], "learning_rate": [0.1, 2]}
    trials = pd.DataFrame(itertools.product(*grid.values(), [3, 5]), dtype=object)
    trials.columns = [*grid, "seed"]
    trials["validation_accuracy"] = [80, 82, 91, 93, 85, 87, other, 99]
    settings, runs = nb.select_best(trials, grid)
    assert settings == {"batch_size": 50, "learning_rate": 2}
    assert [*runs["validation_accuracy"]] == [91, 93]
    # With NumPy's numbers, NumPy 2 would train in float64.
    assert [type(value) for value in settings.values()] == [int, int]


def test_runs_are_the_same_in_parallel(nb, rng):
    """To the last bit: the log ends with the loss of the final weights."""
    data = nb.Dataset(rng.random((600, 784), np.float32), rng.integers(0, 10, 600))
    settings = {"epochs": 2, "batch_size": 50, "learning_rate": 0.1}
    train_mlp = partial(nb.fit, partial(nb.MLP, 784, 64, 10), data, data, **settings)
    runs = nb.run_parallel([joblib.delayed(train_mlp)(seed) for seed in range(4)], "")
    for seed, run in enumerate(runs):
        expected = train_mlp(seed)
        assert run.log.equals(expected.log)
        assert run[2:] == expected[2:]  # the accuracies


def test_initial_weights_have_he_s_standard_deviation(nb):
    convolution = nb.Convolution_Layer(8, 60, 7, rng=0)
    for layer, n_inputs in (nb.Linear(300, 200, rng=0), 300), (convolution, 8 * 7 * 7):
        std = math.sqrt(2 / n_inputs)
        assert layer.W.std() == pytest.approx(std, rel=0.03)
        assert abs(layer.W.mean()) < 0.03 * std and abs(layer.W).max() > 3 * std
        assert layer.W.dtype == np.float32 and not layer.b.any()
