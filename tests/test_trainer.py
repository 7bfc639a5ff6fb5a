"""The trainer, the choice of settings, parallel runs, the table of answers."""

import itertools
import math
from functools import partial
from pickle import PicklingError
from unittest.mock import Mock

import joblib
import numpy as np
import pandas as pd
import pytest
from references import accuracy_of, loss_of
from scipy import special
from threadpoolctl import threadpool_info

pytestmark = pytest.mark.filterwarnings("error")

SHORT = {"epochs": 2, "batch_size": 4, "learning_rate": 0.5}


# One run


@pytest.fixture
def datasets(nb, rng):
    """Ten images for training and fifteen for validation, of three pixels."""
    return [nb.Dataset(rng.random((n, 3)), rng.integers(0, 3, n)) for n in (10, 15)]


@pytest.fixture
def make_model(nb):
    return partial(nb.Single_layer_classifier, 3, 3, std=1, dtype=np.float64)


def loss_and_accuracy(scores, y):
    return [loss_of(scores, y), accuracy_of(scores, y)]


def train_by_loop(nb, W, train, validation, rng, lam):
    """Plain SGD, three epochs of three steps of 4, 4 and 2 images, with cosine decay.

    Returns the final W and the rows of the log."""
    rows, step = [], 0
    for _ in range(3):
        all_scores, all_labels = [], []
        for x_b, y_b in nb.get_minibatch(*train, 4, rng):
            scores = x_b @ W
            all_scores.append(scores)
            all_labels.append(y_b)
            error = special.softmax(scores, axis=1) - np.eye(3)[y_b]
            gradient = x_b.T @ error / len(y_b) + 2 * lam * W
            W = W - 0.5 * math.cos(math.pi / 2 * step / 9) ** 2 * gradient
            step += 1
        row = loss_and_accuracy(np.concatenate(all_scores), np.concatenate(all_labels))
        rows.append(row + loss_and_accuracy(validation.x @ W, validation.y))
    return W, rows


@pytest.mark.parametrize("lam", [0, 0.125])
def test_fit_agrees_with_a_plain_loop(nb, make_model, datasets, lam):
    """One generator draws the weights and all orders. Training is logged before each
    update, validation at the end of each epoch. A short last batch is a step, too."""
    rng = np.random.default_rng(3)
    W, rows = train_by_loop(nb, make_model(rng=rng).W, *datasets, rng, lam)
    settings = SHORT | {"epochs": 3}
    if lam:  # by default there is no penalty
        settings["lam"] = lam
    run = nb.fit(make_model, *datasets, 3, **settings)
    np.testing.assert_allclose(run.model.W, W, rtol=1e-12)
    np.testing.assert_allclose(run.log[nb.LOG_COLUMNS], rows, rtol=1e-12)
    assert [*run.log.index] == [1, 2, 3]


def test_a_trained_model_caches_one_image_only(nb, make_model, datasets):
    run = nb.fit(make_model, *datasets, **SHORT)
    assert len(run.model.input_x) == 1


def test_fit_draws_each_epoch_from_the_given_mini_batches(nb, make_model, datasets):
    batches = Mock(wraps=nb.get_minibatch)
    nb.fit(make_model, *datasets, batches=batches, **SHORT)
    assert batches.call_count == SHORT["epochs"]


@pytest.mark.parametrize(("rate", "lam"), [(50, 0.1), (1e20, 0), (1e20, 0.1)])
def test_a_diverging_run_stops_and_has_no_accuracies(nb, rng, rate, lam):
    """Without an error or a warning."""
    data = nb.Dataset(rng.random((90, 784), np.float32), rng.integers(0, 3, 90))
    settings = {"epochs": 9, "batch_size": 9, "learning_rate": rate, "lam": lam}
    run = nb.fit(partial(nb.MLP, 784, 64, 10), data, data, **settings)
    assert math.isnan(run.train_accuracy)
    assert math.isnan(run.validation_accuracy)
    assert len(run.log) < 9


# The choice of settings

GRID = {"batch_size": [50, 100], "learning_rate": [0.1, 2]}
MIXED = [80, 82, 91, 93, 85, 87, 70, 99]  # the best single run, 99, has a bad twin
DIVERGED = [80, 82, 91, 93, 85, 87, math.nan, 99]


def make_trials(validation_accuracies):
    """Trials by hand: all pairs of the grid × two seeds."""
    rows = itertools.product(*GRID.values(), [1, 2])
    trials = pd.DataFrame(rows, columns=[*GRID, "seed"])
    return trials.assign(validation_accuracy=validation_accuracies)


@pytest.mark.parametrize("accuracies", [MIXED, DIVERGED], ids=["mean", "diverged"])
def test_best_has_the_best_mean_validation_accuracy(nb, accuracies):
    """A pair of which one run has diverged is never the best."""
    settings, runs = nb.best(make_trials(accuracies), GRID)
    assert settings == {"batch_size": 50, "learning_rate": 2}
    assert [*runs.index] == [2, 3]


def test_best_of_a_grid_with_one_setting(nb):
    """Over both batch sizes, the means are 83.5 and 88.25."""
    settings, runs = nb.best(make_trials(MIXED), {"learning_rate": [0.1, 2]})
    assert settings == {"learning_rate": 2}
    assert [*runs.index] == [2, 3, 6, 7]


def test_best_returns_python_numbers(nb):
    """With NumPy's numbers, NumPy 2 would train in float64."""
    settings, _ = nb.best(make_trials(MIXED), GRID)
    assert [type(value) for value in settings.values()] == [int, float]


@pytest.mark.parametrize("accuracy", [100.0, math.nan])
def test_overfitting_is_neither_mild_nor_clear_without_an_error(nb, accuracy):
    """If no image is misclassified, or a run has diverged."""
    accuracies = pd.Series([accuracy] * 2)
    runs = pd.DataFrame(
        {"train_accuracy": accuracies, "validation_accuracy": accuracies}
    )
    text = nb.overfitting_text(runs)
    assert "no measurable overfitting" in text
    assert "mild" not in text and "clear" not in text


@pytest.mark.parametrize(("training", "degree"), [(95.9, "mild"), (96.1, "clear")])
def test_overfitting_is_clear_if_the_validation_error_is_twice_the_training_error(
    nb, training, degree
):
    """The validation error is 8%, so that the limit is a training error of 4%."""
    runs = pd.DataFrame({"validation_accuracy": [91.0, 93.0]})
    text = nb.overfitting_text(runs.assign(train_accuracy=training))
    assert {"mild", "clear"} & {*text.split()} == {degree}


# Parallel runs


def numbers_of(run):
    """The log, weights and accuracies of a run, to compare runs to the last bit."""
    weights = [value.tolist() for value, _ in run.model.parameters()]
    return run.log.to_dict(), weights, run.train_accuracy, run.validation_accuracy


def test_runs_are_the_same_in_parallel_processes(nb, rng, monkeypatch):
    """And come in the order of the calls."""
    data = nb.Dataset(rng.random((600, 784), np.float32), rng.integers(0, 10, 600))
    settings = {"epochs": 2, "batch_size": 50, "learning_rate": 0.1}
    train_mlp = partial(nb.fit, partial(nb.MLP, 784, 64, 10), data, data, **settings)
    expected = [numbers_of(train_mlp(seed)) for seed in (5, 3, 8)]
    calls = [joblib.delayed(train_mlp)(seed) for seed in (5, 3, 8)]
    monkeypatch.setattr(
        nb, "Parallel", lambda _, **options: joblib.Parallel(3, **options)
    )
    assert [numbers_of(run) for run in nb.run_parallel(calls, "")] == expected


def test_blas_has_one_thread(nb):
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    assert {pool["num_threads"] for pool in pools} == {1}


SQUARES = [joblib.delayed(pow)(k, 2) for k in range(4)]
FOLDER_NAME = UnicodeEncodeError("ascii", "ü", 0, 1, "as in the name of a folder")


@pytest.mark.parametrize(
    "error", [OSError("full"), PicklingError(), FOLDER_NAME], ids=repr
)
def test_calls_run_serially_if_processes_fail(nb, monkeypatch, error):
    monkeypatch.setattr(nb, "Parallel", Mock(side_effect=error))
    assert nb.run_parallel(SQUARES, "squares") == [0, 1, 4, 9]


def test_an_error_of_a_call_is_raised(nb, monkeypatch):
    monkeypatch.setattr(nb, "Parallel", Mock(side_effect=ZeroDivisionError))
    with pytest.raises(ZeroDivisionError):
        nb.run_parallel(SQUARES, "squares")


# Answers


def test_record_answer_replaces_an_earlier_answer_to_the_same_question(nb, monkeypatch):
    """In two tables: Questions 1 and 2, and the others."""
    display = Mock()
    monkeypatch.setattr(nb, "ANSWERS", {})
    monkeypatch.setattr(nb, "display", display)
    nb.record_answer("1.9 B", "first", "old")
    nb.record_answer("1.10 Of A", "second", "1")
    nb.record_answer("1.9 B", "first", "2<br>3")
    nb.record_answer("3.5 C", "third", "4")
    expected = {
        "answers": ["| [1.9](#1.9-B) | first | 2<br>3 |"],
        "more-answers": ["| [3.5](#3.5-C) | third | 4 |"],
    }
    expected["answers"].append("| [1.10](#1.10-Of-A) | second | 1 |")
    for call in display.call_args_list[-2:]:
        (table,), options = call
        assert options.pop("update")
        assert table.data.splitlines()[2:] == expected.pop(options["display_id"])
    assert not expected
