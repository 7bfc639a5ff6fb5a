"""The trainer, runs and tuning; answers and notes. (The rest: test_seen_1_3.py.)

Speaks when a training is not what its settings say, when results depend on the number
of cores, or when an answer is lost."""

import itertools
import math
from contextlib import nullcontext
from functools import partial
from pickle import PicklingError

import joblib
import numpy as np
import pytest
from conftest import Echo, loss_of
from scipy import special
from threadpoolctl import threadpool_info, threadpool_limits

pytestmark = pytest.mark.filterwarnings("error")
NAN = math.nan


def points(nb, seed, count):
    """A Part whose images are three scores."""
    rng = np.random.default_rng(seed)
    return nb.Part(rng.standard_normal((count, 3)), rng.integers(0, 3, count), "points")


def loss_and_accuracy(scores, y):
    return loss_of(scores, y), np.mean(scores.argmax(axis=1) == y)


def in_order(x, y, batch_size, rng):
    for start in range(0, len(x), batch_size):
        yield x[start : start + batch_size], y[start : start + batch_size]


class Pulled(Echo):
    """Scores are the inputs; one weight, of the gradient 1, writes down the steps."""

    def __init__(self, rng=None, look=lambda model: None):
        super().__init__()
        self.W, self.path, self.lams, self.look = np.zeros(1), [], [], look

    def forward(self, x):
        self.look(self)
        return super().forward(x)

    def backward(self, grad, lam):
        self.path.append(self.W.item())
        self.lams.append(lam)

    def parameters(self):
        return [(self.W, np.ones(1))]


def train(nb, model, *parts, **changes):
    settings = {"epochs": 2, "batch_size": 4, "learning_rate": 0.5}
    return nb.train(model, *parts, **settings | {"batches": in_order} | changes)


def test_a_step_is_the_formula(nb, rng):
    """W -= rate * (grad + lam * 2W); training is logged before it, validation after."""
    part, valid = points(nb, 0, 7), points(nb, 1, 5)
    model = nb.Single_layer_classifier(3, 3, std=1, rng=rng, dtype=np.float64)
    W = model.W.copy()
    grad = part.x.T @ (special.softmax(part.x @ W, axis=1) - np.eye(3)[part.y]) / 7
    settings = {"epochs": 1, "batch_size": 7, "learning_rate": 0.25, "lam": 0.125}
    (row,) = train(nb, model, part, valid, **settings)
    np.testing.assert_allclose(model.W, W - 0.25 * (grad + 0.25 * W), rtol=1e-12)
    before, after = loss_and_accuracy(part.x @ W, part.y), valid.x @ model.W
    expected = [1, *before, *loss_and_accuracy(after, valid.y)]
    assert list(row.values()) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("count", [10, 12])
def test_rates_fall_by_half_a_cosine(nb, count, times):
    """A short last batch is a step; where `batches` yields more than counted, the rate
    never rises again, and means are over all images that came."""

    def batches(*given):
        return itertools.chain(*(in_order(*given) for _ in range(times)))

    model, part = Pulled(), points(nb, 0, count)
    log = train(nb, model, part, batches=batches)
    falling = [0.5 * math.cos(math.pi * step / 12) ** 2 for step in range(6)]
    steps = -np.diff([*model.path, model.W.item()])
    assert steps == pytest.approx(falling + [0] * 6 * (times - 1), abs=1e-12)
    assert set(model.lams) == {0}  # no penalty, unless asked for
    found = log[0]["training loss"], log[0]["training accuracy"]
    assert found == pytest.approx(loss_and_accuracy(part.x, part.y))


@pytest.mark.parametrize(
    ("epochs", "every", "at"),
    [(3, None, [1, 2, 3]), (5, 2, [2, 4, 5]), (4, 2, [2, 4]), (3, 9, [3])],
)
def test_the_log(nb, epochs, every, at):
    """Means over images, so that a short last batch weighs less; every few epochs and
    after the last. No epoch is validated unasked."""
    model, part, valid = Pulled(), points(nb, 0, 10), points(nb, 1, 5)
    options = {"log_every": every} if every else {}
    log = train(nb, model, part, valid, epochs=epochs, **options)
    assert [row["epoch"] for row in log] == at
    for row in log:
        for name, (x, y, _) in ("training", part), ("validation", valid):
            found = row[f"{name} loss"], row[f"{name} accuracy"]
            assert found == pytest.approx(loss_and_accuracy(x, y), rel=1e-12)
    calls = [[4, 4, 2, 5] if k in at else [4, 4, 2] for k in range(1, epochs + 1)]
    assert model.counts == [*itertools.chain(*calls)]
    (row, _) = train(nb, model, part)
    assert list(row) == ["epoch", "training loss", "training accuracy"]


def test_a_model_knows_whether_it_is_trained(nb):
    """Also where it is given up in the middle of an epoch."""
    told, part = [], points(nb, 0, 8)
    model = Pulled(look=lambda model: told.append(model.training))
    train(nb, model, part, part, epochs=1)
    assert told == [True, True, False] and model.training is False
    train(nb, model, part._replace(x=part.x * NAN), epochs=1)
    assert model.training is False


def test_all_epochs_go_on_with_one_generator(nb):
    draws = []

    def batches(x, y, batch_size, rng):
        draws.append(rng.random())
        yield x, y

    train(nb, Pulled(), points(nb, 0, 9), epochs=3, rng=5, batches=batches)
    assert draws == np.random.default_rng(5).random(3).tolist()


def test_fit_makes_and_trains_from_one_seed(nb):
    """The same by hand, to the bit: one generator, for weights and then order."""
    part, valid = points(nb, 0, 50), points(nb, 1, 40)
    make = partial(nb.Single_layer_classifier, 3, 3, std=1)
    settings = {"epochs": 2, "batch_size": 7, "learning_rate": 1, "lam": 0.01}
    run = nb.fit(make, part, valid, seed=3, **settings)
    rng = np.random.default_rng(3)
    model = make(rng=rng)
    log = nb.train(model, part, valid, rng=rng, **settings)
    assert (run.seed, run.settings, run.log) == (3, settings, log)
    np.testing.assert_array_equal(run.model.W, model.W)
    assert run.train == nb.evaluate(model, part)[1] != log[-1]["training accuracy"]
    assert run.valid == nb.evaluate(model, valid)[1] != run.train
    assert math.isnan(nb.fit(make, part, **settings).valid)


@pytest.mark.parametrize(("lam", "size", "rows"), [(0.1, 30, 0), (1e20, 90, 1)])
def test_a_run_that_diverges_has_no_accuracy(nb, lam, size, rows):
    """No error and no warning; also where only the very last step diverges."""
    part = points(nb, 0, 90)
    part = part._replace(x=part.x.astype(np.float32))
    settings = {"epochs": 1, "batch_size": size, "learning_rate": 1e30, "lam": lam}
    run = nb.fit(partial(nb.Single_layer_classifier, 3, 3), part, part, **settings)
    assert math.isnan(run.train) and math.isnan(run.valid) and len(run.log) == rows


def test_fit_has_one_blas_thread(nb):
    threads = set()

    def look(model):
        blas = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
        threads.update(pool["num_threads"] for pool in blas)

    settings = {"epochs": 1, "batch_size": 4, "learning_rate": 0.1}
    with threadpool_limits(2, "blas"):
        nb.fit(partial(Pulled, look=look), points(nb, 0, 8), **settings)
    assert threads == {1}


def test_runs_are_the_same_for_any_number_of_processes(nb, monkeypatch):
    """And in the order of the calls. (The number of processes only rises: to end one
    that is no longer needed may take joblib a minute.)"""
    rng = np.random.default_rng(0)
    part = nb.Part(rng.random((600, 784), np.float32), rng.integers(0, 10, 600), "")
    settings = {"epochs": 2, "batch_size": 50, "learning_rate": 0.1}
    make = partial(nb.MLP, 784, 64, 10)
    calls = [joblib.delayed(nb.fit)(make, part, seed=s, **settings) for s in (5, 3, 8)]
    found = []
    for number in 1, 2, 4:

        def parallel(n_jobs, number=number, **options):
            assert n_jobs == -1  # as many as there are cores
            return joblib.Parallel(number, **options)

        monkeypatch.setattr(nb, "Parallel", parallel)
        runs = nb.side_by_side(calls, "")
        assert [run.seed for run in runs] == [5, 3, 8]
        found.append([(run.log, run.model.layers[0].W.tobytes()) for run in runs])
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("error", [OSError, PicklingError, ZeroDivisionError])
def test_where_processes_fail(nb, monkeypatch, error):
    """The calls run in this process, one after the other. Another error is theirs."""

    def parallel(n_jobs, **options):
        def results(calls):
            for function, args, kwargs in calls[: 4 if n_jobs == 1 else 2]:
                yield function(*args, **kwargs)
            if n_jobs != 1:
                raise error("after two results")

        return results

    monkeypatch.setattr(nb, "Parallel", parallel)
    calls = [joblib.delayed(pow)(k, 2) for k in range(4)]
    with pytest.raises(error) if error is ZeroDivisionError else nullcontext():
        assert nb.side_by_side(calls, "work") == [0, 1, 4, 9]


GRID = {"learning_rate": [1, 2.5, 3], "lam": [0.0, 3e-4]}
PAIRS = list(itertools.product([0.0, 3e-4], [1, 2.5, 3]))  # in the grid's order


def pair_of(run):
    return PAIRS.index((run.settings["lam"], run.settings["learning_rate"]))


@pytest.mark.parametrize(
    ("first", "again", "places"),
    [
        ([0.5, 0.9, 0.9, 0.9, 0.5, 0.9], {}, [1, 2, 3, 5]),
        ([NAN, 0.1, NAN, 0.3, 0.2, NAN], {0: [NAN] * 3}, [1, 3, 4, 0]),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], {5: (1, NAN, 1)}, [2, 3, 4, 5]),
    ],
)
def test_ties_and_runs_that_diverge(nb, monkeypatch, first, again, places):
    """Ties in the grid's order; a pair that diverges, also from one seed, is last. Of
    pair k, first[k] are right in validation from seed 0, then again[k]; in training the
    opposite."""
    again = {k: iter(again.get(k, [0.5] * 3)) for k in range(6)}

    def fit(make_model, part, valid=None, seed=0, **settings):
        assert (make_model, part, valid) == ("make", "training", "validation")
        run = nb.Run(make_model, seed, settings, [], NAN, NAN)
        accuracy = next(again[pair_of(run)]) if seed else first[pair_of(run)]
        return run._replace(train=1 - accuracy, valid=accuracy)

    monkeypatch.setattr(nb, "fit", fit)
    with joblib.parallel_config(backend="sequential"):  # so that this fit is seen
        settings = {"epochs": 7, "batch_size": 9}
        _, leaders = nb.tune("make", "training", "validation", GRID, **settings)
    found = [pair_of(runs[0]) for runs in leaders]
    assert found[-1] == places[-1] and sorted(found) == sorted(places)


def test_answers(nb, monkeypatch, capsys):
    """In order, with links; a cell run again replaces its row; notes on top; what is
    beyond the sheet below a row of its own; no line above 80 columns."""
    displayed = []
    monkeypatch.setattr(nb, "ANSWERS", {})
    monkeypatch.setattr(nb, "NOTES", [])
    monkeypatch.setattr(nb, "display", lambda it, **how: displayed.append((it, how)))
    for section, asked in ("1.9 B", "z"), ("1.10 Of A", "b"), ("6.8 C", "d"):
        nb.answer(section, asked, f"found {asked}")
        assert f"{asked}: found {asked}\n" == capsys.readouterr().out
    nb.answer("1.10 Of A", "b", f"1\n{'found ' * 20}again")
    printed = capsys.readouterr().out.split("\n")
    assert printed[:2] == ["b:", "1"] and max(map(len, printed)) <= 80
    for text in "a try", "other data", "a try":
        nb.note(text)
        assert text in capsys.readouterr().out
    update = {"display_id": "answers", "update": True}  # of the table on page 1
    assert [how for _, how in displayed] == [update] * 7
    notes, *rows = displayed[-1][0].data.split("\n|")
    assert [row.strip("| ").split(" | ") for row in rows[2:]] == [
        ["[1.9](#1.9-B)", "z", "found z"],
        ["[1.10](#1.10-Of-A)", "b", f"1<br>{'found ' * 20}again"],
        ["*beyond the sheet*"],
        ["[6.8](#6.8-C)", "d", "found d"],
    ]
    assert notes.count("a try") == 1 and "other data" in notes
