"""The trainer, the choice of settings, and parallel runs."""

import itertools
import math
import subprocess
import sys
from functools import partial

import joblib
import numpy as np
import pandas as pd
import pytest
from paths import ROOT
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
    """One generator draws the weights and all orders. Training is logged before each
    update, validation at the end of each epoch. A short last batch is a step, too."""
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


def test_fit_takes_labels_of_a_series_by_their_position(nb, make_model, datasets):
    x, y = datasets[0]
    series = pd.Series(y, index=np.roll(np.arange(len(y)), 3))
    expected, run = (
        nb.fit(make_model, nb.Dataset(x, labels), datasets[1], **SHORT)
        for labels in (y, series)
    )
    np.testing.assert_array_equal(run.model.W, expected.model.W)
    assert run.train_accuracy == expected.train_accuracy


@pytest.mark.parametrize("used", [slice(5), [*range(10)] * 2])
def test_the_log_divides_by_the_images_that_were_used(nb, make_model, datasets, used):
    """A generator of mini-batches may leave images out, or repeat them."""
    x, y = (array[used] for array in datasets[0])
    settings = SHORT | {"learning_rate": 0, "batches": lambda *_: [(x, y)]}
    run = nb.fit(make_model, *datasets, **settings)
    scores = x @ run.model.W
    expected = loss_of(scores, y), accuracy_of(scores, y)
    np.testing.assert_allclose(run.log.iloc[0, :2], expected)


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
    """Over two seeds. A pair of which one run has diverged is never the best."""
    run_of = dict(
        zip(itertools.product(*GRID.values(), [3, 5]), accuracies, strict=True)
    )

    def trainer(*data, batch_size, learning_rate, seed):
        return nb.Run(0, 0, 0, run_of[batch_size, learning_rate, seed])

    trials = nb.tune(None, None, None, GRID, trainer, seeds=[3, 5])
    settings, runs = nb.select_best(trials, GRID)
    assert settings == {"batch_size": 50, "learning_rate": 2}
    assert [*runs["validation_accuracy"]] == [91, 93]
    # With NumPy's numbers, NumPy 2 would train in float64.
    assert [type(value) for value in settings.values()] == [int, int]
    with pytest.raises(AssertionError, match="diverged"):
        nb.select_best(trials.assign(validation_accuracy=math.nan), GRID)


def test_select_best_keeps_none_apart(nb):
    rows = {"batches": [None, None, max, max], "validation_accuracy": [93, 95, 80, 82]}
    settings, runs = nb.select_best(pd.DataFrame(rows), {"batches": [None, max]})
    assert settings == {"batches": None} and [*runs.index] == [0, 1]


def test_runs_are_the_same_in_parallel(nb, rng):
    """To the last bit, and in the order of the calls."""

    def numbers_of(run):
        weights = [value.tolist() for value, _ in run.model.parameters()]
        return run.log.to_dict(), weights, run.train_accuracy, run.validation_accuracy

    data = nb.Dataset(rng.random((600, 784), np.float32), rng.integers(0, 10, 600))
    settings = {"batch_size": 50, "learning_rate": 0.1}
    train_mlp = partial(nb.fit, partial(nb.MLP, 784, 64, 10), data, data, **settings)
    trials = [*enumerate([9, 1, 2, 1])]  # seeds and epochs
    calls = [joblib.delayed(train_mlp)(seed, epochs=n) for seed, n in trials]
    for run, (seed, n) in zip(nb.run_parallel(calls, ""), trials, strict=True):
        assert numbers_of(run) == numbers_of(train_mlp(seed, epochs=n))


def test_blas_has_one_thread_in_a_parallel_call(nb):
    for pools in nb.run_parallel([joblib.delayed(threadpool_info)()] * 4, ""):
        blas = [pool for pool in pools if pool["user_api"] == "blas"]
        assert blas and {pool["num_threads"] for pool in blas} == {1}


STOPPED_RUN_AND_EDIT = """\
from load_definitions import definition_source
exec(definition_source())
def tqdm(results, *args, **options):
    yield next(results)
    raise KeyboardInterrupt
data = Dataset(np.ones((20, 784), np.float32), np.arange(20) % 10)
settings = {"epochs": 1, "batch_size": 20, "learning_rate": 0.1}
try:
    run_parallel([delayed(fit)(make_mlp, data, data, **settings)] * 2, "")
finally:
    Linear = lambda *sizes, **options: print("edited") or ReLU()
    make_mlp()
"""


def test_an_edit_takes_effect_after_a_parallel_run():
    """A stopped one, in a process whose `__main__` has the classes, as a notebook's."""
    command = [sys.executable, "-c", STOPPED_RUN_AND_EDIT]
    run = subprocess.run(command, cwd=ROOT / "tools", capture_output=True, text=True)
    assert run.stdout.count("edited") == 2, run.stderr  # the MLP has two Linear layers


def test_fit_subset_scales_lambda_and_passes_on_its_seed(nb, make_model, datasets):
    subsets = []

    def batches(x, y, *args):
        subsets.append(nb.Dataset(x, y))
        return nb.get_minibatch(x, y, *args)

    settings, (train, validation) = SHORT | {"batches": batches}, datasets
    run = nb.fit_subset(
        make_model, train, validation, 7, percentage=40, lam=0.01, **settings
    )
    images, first = ({*map(tuple, x)} for x in (subsets[0].x, train.x[:4]))
    assert len(images) == 4 and images != first  # of 10, at random
    expected = nb.fit(make_model, subsets[0], validation, 7, lam=0.025, **settings)
    np.testing.assert_allclose(run.model.W, expected.model.W, rtol=1e-12)
