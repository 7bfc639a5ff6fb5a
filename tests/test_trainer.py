"""The trainer, the choice of settings, and parallel runs."""

import itertools
import math
from functools import partial

import joblib
import numpy as np
import pandas as pd
import pytest
from references import accuracy_of, loss_of
from scipy import special
from threadpoolctl import threadpool_info

pytestmark = pytest.mark.filterwarnings("error")

SHORT = {"epochs": 2, "batch_size": 4, "learning_rate": 0.5}


@pytest.fixture
def datasets(nb, rng):
    """Ten images for training and fifteen for validation, of three pixels."""
    return [nb.Dataset(rng.random((n, 3)), rng.integers(0, 3, n)) for n in (10, 15)]


@pytest.fixture
def make_model(nb):
    return partial(nb.Single_layer_classifier, 3, 3, std=1, dtype=np.float64)


def train_by_loop(nb, W, train, validation, rng, lam):
    """Plain SGD, three epochs of three steps of 4, 4 and 2 images, with cosine decay.

    Returns the final W and the rows of the log."""
    rows, step = [], 0
    for _ in range(3):
        pairs = []
        for x_b, y_b in nb.get_minibatch(*train, 4, rng):
            pairs.append((x_b @ W, y_b))
            error = special.softmax(x_b @ W, axis=1) - np.eye(3)[y_b]
            gradient = x_b.T @ error / len(y_b) + 2 * lam * W
            W = W - 0.5 * math.cos(math.pi / 2 * step / 9) ** 2 * gradient
            step += 1
        seen = [np.concatenate(arrays) for arrays in zip(*pairs, strict=True)]
        sets = seen, (validation.x @ W, validation.y)
        rows.append([f(*data) for data in sets for f in (loss_of, accuracy_of)])
    return W, rows


@pytest.mark.parametrize(("lam", "seed"), [(0, 7), (0.125, 6)])
def test_fit_agrees_with_a_plain_loop(nb, make_model, datasets, lam, seed):
    """One generator draws the weights and all orders, training is logged before each
    update and validation after each epoch, and a short last batch is a step, too."""
    rng = np.random.default_rng(seed)
    W, rows = train_by_loop(nb, make_model(rng=rng).W, *datasets, rng, lam)
    settings = SHORT | {"epochs": 3}
    if lam:  # by default there is no penalty
        settings["lam"] = lam
    run = nb.fit(make_model, *datasets, seed, **settings)
    np.testing.assert_allclose(run.model.W, W, rtol=1e-12)
    np.testing.assert_allclose(run.log[nb.LOG_COLUMNS], rows, rtol=1e-12)
    assert [*run.log.index] == [1, 2, 3]
    assert run.train_accuracy == accuracy_of(datasets[0].x @ W, datasets[0].y)
    assert run.validation_accuracy == rows[-1][-1]


def test_the_log_has_means_over_the_images_that_were_seen(nb, make_model, datasets):
    """The generator drops the last batch, and there are no steps, for the rate is 0."""
    batches = lambda *args: itertools.islice(nb.get_minibatch(*args), 2)  # noqa: E731
    settings = SHORT | {"learning_rate": 0, "batches": batches}
    log = nb.fit(make_model, *datasets, 7, **settings).log
    rng = np.random.default_rng(7)
    W = make_model(rng=rng).W
    seen = zip(*batches(*datasets[0], 4, rng), strict=True)
    x, y = (np.concatenate(arrays) for arrays in seen)
    expected = loss_of(x @ W, y), accuracy_of(x @ W, y)
    np.testing.assert_allclose(log.loc[1, nb.LOG_COLUMNS[:2]], expected)


@pytest.mark.parametrize(("rate", "lam"), [(50, 0.1), (1e20, 0), (1e20, 0.1)])
def test_a_diverging_run_stops_and_has_no_accuracies(nb, rng, rate, lam):
    """Without an error or a warning."""
    data = nb.Dataset(rng.random((90, 784), np.float32), rng.integers(0, 3, 90))
    settings = {"epochs": 9, "batch_size": 9, "learning_rate": rate, "lam": lam}
    run = nb.fit(partial(nb.MLP, 784, 64, 10), data, data, **settings)
    assert math.isnan(run.train_accuracy)
    assert math.isnan(run.validation_accuracy)
    assert len(run.log) < 9


GRID = {"batch_size": [50, 100], "learning_rate": [0.1, 2]}
MIXED = [80, 82, 91, 93, 85, 87, 70, 99]  # the best single run, 99, has a bad twin
DIVERGED = [80, 82, 91, 93, 85, 87, math.nan, 99]


@pytest.mark.parametrize("accuracies", [MIXED, DIVERGED], ids=["mean", "diverged"])
def test_select_best_has_the_best_mean_validation_accuracy(nb, accuracies):
    """Over two seeds, of which none may have diverged."""
    rows = itertools.product(*GRID.values(), [3, 5])
    run_of = dict(zip(rows, accuracies, strict=True))

    def trainer(*data, batch_size, learning_rate, seed):
        return nb.Run(0, 0, 0, run_of[batch_size, learning_rate, seed])

    trials = nb.tune(None, None, None, GRID, trainer, seeds=[3, 5])
    settings, runs = nb.select_best(trials, GRID)
    assert settings == {"batch_size": 50, "learning_rate": 2}
    assert [*runs["validation_accuracy"]] == [91, 93]
    # With NumPy's numbers, NumPy 2 would train in float64.
    assert [type(value) for value in settings.values()] == [int, int]


def test_select_best_of_a_single_setting(nb):
    trials = {"lam": [0, 1, 0, 1], "validation_accuracy": [80.0, 91, 82, 93]}
    settings, runs = nb.select_best(pd.DataFrame(trials), {"lam": [0, 1]})
    assert settings == {"lam": 1}
    assert [*runs["validation_accuracy"]] == [91, 93]


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


def test_blas_has_one_thread_in_a_parallel_call(nb):
    for pools in nb.run_parallel([joblib.delayed(threadpool_info)()] * 4, ""):
        blas = [pool for pool in pools if pool["user_api"] == "blas"]
        assert blas and {pool["num_threads"] for pool in blas} == {1}
