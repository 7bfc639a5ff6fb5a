"""The trainer, tuning, runs side by side, and the table of answers."""

import itertools
import math
from collections import namedtuple
from contextlib import nullcontext
from functools import partial
from pickle import PicklingError

import joblib
import numpy as np
import pytest
from conftest import loss_of
from scipy import special
from threadpoolctl import threadpool_info

pytestmark = pytest.mark.filterwarnings("error")
BUDGET = {"epochs": 2, "batch_size": 4}
Bare = namedtuple("Bare", "forward backward parameters")  # all that is to be touched


@pytest.fixture
def parts(nb, rng):
    """Images of three pixels."""
    sets = ("some", rng.random((10, 3))), ("others", rng.random((15, 3)))
    return [nb.Part(x, rng.integers(0, 3, len(x)), name) for name, x in sets]


@pytest.fixture
def make(nb):
    return partial(nb.Single_layer_classifier, 3, 3, std=1, dtype=np.float64)


def judge(scores, y):
    """Loss and accuracy (%)."""
    return [loss_of(scores, y), 100 * np.mean(scores.argmax(axis=1) == y)]


def numbers_of(run):
    """The log, the weights and the accuracies of a run, for comparison to the bit."""
    weights = [value.tolist() for value, _ in run["model"].parameters()]
    others = {key: value for key, value in run.items() if key not in ("log", "model")}
    return run["log"].to_dict(), weights, others


@pytest.mark.parametrize("lam", [None, 0.125])
def test_fit_against_a_loop_of_its_own(nb, make, parts, lam):
    """One generator for weights and all orders; the mean gradient; training is logged
    before each step, validation after the epoch, accuracies in % at the end."""
    (x, y, _), (x_valid, y_valid, _) = parts
    rng = np.random.default_rng(3)
    W, rows = make(rng=rng).W, []
    for epoch in range(3):
        scores, labels = [], []
        for step, (x_b, y_b) in enumerate(nb.get_minibatch(x, y, 4, rng), 3 * epoch):
            scores.append(x_b @ W)
            labels.append(y_b)
            wrong = special.softmax(scores[-1], axis=1) - np.eye(3)[y_b]
            grad = x_b.T @ wrong / len(y_b) + 2 * (lam or 0) * W
            W = W - 0.5 * math.cos(math.pi * step / 18) ** 2 * grad
        seen = judge(np.concatenate(scores), np.concatenate(labels))
        rows.append(seen + judge(x_valid @ W, y_valid))

    settings = {"learning_rate": 0.5} | ({} if lam is None else {"lam": lam})
    run = nb.fit(make, *parts, 3, epochs=3, batch_size=4, **settings)
    what = [
        f"{p} {w}" for p in ("training", "validation") for w in ("loss", "accuracy")
    ]
    np.testing.assert_allclose(run["log"].loc[1:3, what], rows, rtol=1e-12)
    np.testing.assert_allclose(run["model"].W, W, rtol=1e-12)
    assert run["some"] == judge(x @ W, y)[1]
    assert run["others"] == judge(x_valid @ W, y_valid)[1]
    assert len(run["model"].input_x) == 1  # so that it is small on its way home


@pytest.mark.parametrize("count", [10, 12])
def test_rates_fall_by_half_a_cosine(nb, parts, count):
    """Of any object that has forward, backward and parameters: here the scores are the
    inputs, and one weight, of the gradient 1, notes the steps. A short last batch is a
    step; the batches are those of the function that is given."""
    W, path, draws = np.zeros(1), [], []

    def backward(grad, lam):
        path.append((W.item(), lam))

    def in_order(x, y, batch_size, rng):
        draws.append(rng.random())
        for start in range(0, len(x), batch_size):
            yield x[start : start + batch_size], y[start : start + batch_size]

    model = Bare(lambda x: x, backward, lambda: [(W, np.ones(1))])
    valid, (x, y, _) = parts
    part = nb.Part(x[:count], y[:count], "part")
    settings = BUDGET | {"learning_rate": 0.5, "batches": in_order}
    run = nb.fit(lambda rng: model, part, valid, 5, **settings)
    weights, lams = np.transpose(path)
    falling = [0.5 * math.cos(math.pi * step / 12) ** 2 for step in range(6)]
    assert -np.diff([*weights, W.item()]) == pytest.approx(falling, abs=1e-12)
    assert not lams.any()  # no penalty, unless asked for
    assert draws == np.random.default_rng(5).random(2).tolist()
    row = judge(*part[:2]) + judge(*valid[:2])
    np.testing.assert_allclose(run["log"], [row, row], rtol=1e-12)


@pytest.mark.parametrize(("rate", "lam"), [(50, 0.1), (1e20, 0), (1e20, 0.1)])
def test_a_run_that_diverges(nb, rng, rate, lam):
    """It ends without an error or a warning, and has no accuracies."""
    part = nb.Part(rng.random((90, 784), np.float32), rng.integers(0, 3, 90), "some")
    others, make = part._replace(name="others"), partial(nb.MLP, 784, 64, 10)
    settings = {"epochs": 9, "batch_size": 9, "learning_rate": rate, "lam": lam}
    run = nb.fit(make, part, others, **settings)
    assert math.isnan(run["some"]) and math.isnan(run["others"])
    assert len(run["log"]) < 9


def test_tuning(nb, make, parts):
    """All pairs from the same seeds, each what fit gives; a pair with a run that has
    diverged has no mean, and is not the best."""
    grid = {"learning_rate": [0.05, 0.5], "lam": [0.0, 0.3, 0.6]}
    with joblib.parallel_config(backend="sequential"):
        tried = nb.tune(make, *parts, grid, **BUDGET)
    expected = itertools.product(*grid.values(), sorted({*tried["seed"]}))
    found = tried[["learning_rate", "lam", "seed"]].itertuples(index=False, name=None)
    assert sorted(found) == sorted(expected)
    for _, row in tried.iterrows():
        settings = BUDGET | {name: row[name] for name in grid}
        run = nb.fit(make, *parts, row["seed"], **settings)
        assert numbers_of(run) == numbers_of(row[run.keys()].to_dict())

    def means():
        return tried.groupby(list(grid))["others"].agg(nb.mean)

    best = means().idxmax()
    one_run = tried.groupby(list(grid)).get_group(best).index[1]
    tried.loc[one_run, "others"] = math.nan
    assert math.isnan(means()[best]) and means().idxmax() != best


def test_mean_and_standard_deviation(nb):
    values = nb.pd.Series([91.0, 92.0, 94.0])
    assert nb.mean(values) == pytest.approx(277 / 3)
    assert "92.33 ± 1.53" in nb.mean_sd(values)


@pytest.mark.parametrize("percentage", [10, 50, 100])
def test_less_data(nb, monkeypatch, percentage):
    """A random share of the images, with their labels, drawn from the seed; the penalty
    grows as 1 / N."""
    part, draws = nb.Part(np.arange(40.0)[:, None], np.arange(40), "some"), []
    monkeypatch.setattr(nb, "fit", lambda *given, **settings: (given, settings))
    settings = {"percentage": percentage, "lam": 0.01, "epochs": 7}
    for seed in 1, 2:
        given, found = nb.fit_percentage("make", part, "valid", seed, **settings)
        x, y, _ = given[1]
        assert given == ("make", (x, y, "some"), "valid", seed)
        assert found == {"lam": pytest.approx(1 / percentage), "epochs": 7}
        assert [*x[:, 0]] == [*y] != sorted(y)
        assert len({*y}) == len(y) == 40 * percentage // 100
        draws.append([*y])
    assert draws[0] != draws[1]


def test_runs_are_the_same_for_any_number_of_processes(nb, rng, monkeypatch):
    """And in the order of the calls. (The number of processes only rises: to end one
    that is no longer needed may take joblib a minute.)"""
    part = nb.Part(rng.random((600, 784), np.float32), rng.integers(0, 10, 600), "some")
    settings = {"epochs": 2, "batch_size": 50, "learning_rate": 0.1}
    make, fit = partial(nb.MLP, 784, 64, 10), joblib.delayed(nb.fit)
    calls = [fit(make, part, part, seed, **settings) for seed in (5, 3, 8)]
    expected = [numbers_of(nb.fit(*args, **kwargs)) for _, args, kwargs in calls]
    for number in 1, 2, 4:

        def parallel(n_jobs, number=number, **options):
            assert n_jobs == -1  # as many as there are cores
            return joblib.Parallel(number, **options)

        monkeypatch.setattr(nb, "Parallel", parallel)
        assert [numbers_of(run) for run in nb.side_by_side(calls, "")] == expected
    blas = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    assert {pool["num_threads"] for pool in blas} == {1}  # in this process, too


LETTER = UnicodeEncodeError("ascii", "ü", 0, 1, "as in the name of a folder")
ERRORS = OSError("full"), PicklingError(), LETTER, ZeroDivisionError()


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_where_processes_fail(nb, monkeypatch, error):
    """The calls run in this process, one after the other. Another error is theirs."""

    def parallel(n_jobs, **options):
        def results(calls):
            for function, args, kwargs in calls[:2]:
                yield function(*args, **kwargs)
            raise error

        return results

    monkeypatch.setattr(nb, "Parallel", parallel)
    calls = [joblib.delayed(pow)(k, 2) for k in range(4)]
    theirs = isinstance(error, ZeroDivisionError)
    with pytest.raises(ZeroDivisionError) if theirs else nullcontext():
        assert nb.side_by_side(calls, "work") == [0, 1, 4, 9]


def test_answers(nb, monkeypatch, capsys):
    """In order, with links; a cell run again replaces its row."""
    displayed = []
    monkeypatch.setattr(nb, "ANSWERS", {})
    monkeypatch.setattr(nb, "display", lambda it, **how: displayed.append((it, how)))
    answers = ("1.9 B", "z", "old"), ("1.10 Of A", "b", "1"), ("1.9 B", "z", "2<br>3")
    for section, asked, found in answers:
        nb.answer(section, asked, found)
    assert capsys.readouterr().out.split("\n")[2:4] == ["z: 2", "3"]
    table, how = displayed[-1]
    assert how == {"display_id": "answers", "update": True}  # of the table on page 1
    _, _, *rows = table.data.splitlines()
    assert [row.strip("| ").split(" | ") for row in rows] == [
        ["[1.9](#1.9-B)", "z", "2<br>3"],
        ["[1.10](#1.10-Of-A)", "b", "1"],
    ]
