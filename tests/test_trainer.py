"""The trainer, the runs, tuning, less data; then answers, tables and figures.

It speaks when a training would not be what its settings say, when a choice would be made
on anything but validation, when figures would depend on the number of cores, or when a
table or a figure shows another number than it was given, or under another's label."""

import itertools
import math
from functools import partial

import joblib
import numpy as np
import pytest
from conftest import Echo, assert_seeded
from scipy import special
from sklearn.model_selection import ParameterGrid
from threadpoolctl import threadpool_info, threadpool_limits

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(params=["softmax", "MLP"])
def make_model(request, nb):
    """make_model(rng=...) for the clouds."""
    if request.param == "MLP":
        return partial(nb.MLP, 6, 8, 3)
    return partial(nb.Single_layer_classifier, 6, 3)


def clouds(nb, seed, name, count=90):
    """A Part: three well separated clouds in 6 dimensions."""
    rng, y = np.random.default_rng(seed), np.arange(count) % 3
    x = rng.standard_normal((count, 6)) + 6 * np.eye(3, 6)[y]
    return nb.Part(x.astype(np.float32), y, name)


def points(nb, seed, count):
    """A Part whose images are three scores."""
    rng = np.random.default_rng(seed)
    return nb.Part(rng.standard_normal((count, 3)), rng.integers(0, 3, count), "points")


def loss_and_accuracy(part):
    logs = special.log_softmax(part.x, axis=1)[np.arange(len(part.y)), part.y]
    return -logs.mean(), np.mean(part.x.argmax(axis=1) == part.y)


def in_order(x, y, batch_size, rng):
    for start in range(0, len(x), batch_size):
        yield x[start : start + batch_size], y[start : start + batch_size]


def weights(model):
    return np.concatenate([value.ravel() for value, _ in model.parameters()])


class Pulled(Echo):
    """Scores are the inputs; one weight, of the gradient 1, writes down the steps."""

    def __init__(self, rng=None):
        super().__init__()
        self.W, self.path, self.given = np.zeros(1), [], []

    def backward(self, grad, lam):
        self.path.append(self.W.item())
        self.given.append((grad, lam))

    def parameters(self):
        return [(self.W, np.ones(1))]


def train(nb, model, *parts, **changes):
    settings = {"epochs": 2, "batch_size": 4, "learning_rate": 0.5}
    return nb.train(model, *parts, **settings | {"batches": in_order} | changes)


# --- Training ----------------------------------------------------------------------


def test_a_step_is_the_formula(nb, rng):
    """W -= rate * (grad + lam * 2W); its row is from before it, validation from after."""
    part, valid = (nb.Part(*points(nb, k, 7)[:2], "") for k in (0, 1))
    model = nb.Single_layer_classifier(3, 3, std=1, rng=rng, dtype=np.float64)
    W = model.W.copy()
    grad = part.x.T @ (special.softmax(part.x @ W, axis=1) - np.eye(3)[part.y]) / 7
    settings = {"epochs": 1, "batch_size": 7, "learning_rate": 0.25, "lam": 0.125}
    (row,) = train(nb, model, part, valid, **settings)
    np.testing.assert_allclose(model.W, W - 0.25 * (grad + 0.25 * W), rtol=1e-12)
    expected = [1]
    for (x, y, _), matrix in (part, W), (valid, model.W):
        expected += loss_and_accuracy(nb.Part(x @ matrix, y, ""))
    assert list(row.values()) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("count", [10, 12])
def test_rates_fall_by_half_a_cosine(nb, count, times):
    """A short last batch is a step; where `batches` yields more than counted, the
    rate stays 0: it never rises again."""

    def batches(*given):
        return itertools.chain(*(in_order(*given) for _ in range(times)))

    model = Pulled()
    train(nb, model, points(nb, 0, count), batches=batches)
    expected = [0.5 * math.cos(math.pi * step / 12) ** 2 for step in range(6)]
    steps = -np.diff([*model.path, model.W.item()])
    assert len(steps) == 6 * times
    assert steps == pytest.approx(expected + [0] * (len(steps) - 6), abs=1e-12)


def test_backward_gets_the_batchs_loss_gradient_and_lam(nb):
    model, part = Pulled(), points(nb, 0, 10)
    train(nb, model, part, lam=0.25)
    train(nb, model, part)  # no penalty, unless asked for
    assert [lam for _, lam in model.given] == 6 * [0.25] + 6 * [0]
    for (grad, _), start in zip(model.given, itertools.cycle((0, 4, 8))):
        x, y = part.x[start : start + 4], part.y[start : start + 4]
        expected = (special.softmax(x, axis=1) - np.eye(3)[y]) / len(y)
        np.testing.assert_allclose(grad, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("dropped", [False, True])
def test_training_rows_are_means_over_the_images_seen(nb, dropped):
    """A short last batch weighs less; what the generator drops is not counted."""
    part = points(nb, 0, 10)
    seen = nb.Part(part.x[:8], part.y[:8], "") if dropped else part
    given = {"batches": lambda *_: in_order(seen.x, seen.y, 4, None)}
    for epoch, row in enumerate(train(nb, Pulled(), part, **given), 1):
        assert list(row) == ["epoch", "training loss", "training accuracy"]
        expected = (epoch, *loss_and_accuracy(seen))
        assert tuple(row.values()) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("epochs", "every", "at"),
    [(3, None, [1, 2, 3]), (5, 2, [2, 4, 5]), (4, 2, [2, 4]), (3, 9, [3])],
)
def test_rows_every_few_epochs_and_after_the_last(nb, epochs, every, at):
    model, part, valid = Pulled(), points(nb, 0, 8), points(nb, 1, 5)
    given = {"log_every": every} if every else {}
    log = train(nb, model, part, valid, epochs=epochs, **given)
    assert [row["epoch"] for row in log] == at
    for row in log:
        found = row["validation loss"], row["validation accuracy"]
        assert found == pytest.approx(loss_and_accuracy(valid), rel=1e-12)
    calls = [[4, 4, 5] if k in at else [4, 4] for k in range(1, epochs + 1)]
    assert model.counts == [*itertools.chain(*calls)]  # no epoch validates unasked


def test_all_epochs_use_one_generator_and_the_batch_size(nb, make_model):
    draws = []

    def batches(x, y, batch_size, rng):
        draws.append((rng.random(), len(x), len(y), batch_size))
        yield x, y

    train(nb, Pulled(), points(nb, 0, 9), epochs=3, rng=5, batches=batches)
    expected = np.random.default_rng(5).random(3)
    assert draws == [(draw, 9, 9, 4) for draw in expected]

    def trained(rng):  # by default, with the mini-batches of section 1.2
        model = make_model(rng=1)
        settings = {"epochs": 2, "batch_size": 7, "learning_rate": 0.1}
        nb.train(model, clouds(nb, 0, ""), rng=rng, **settings)
        return weights(model)

    assert_seeded(trained)


def test_training_learns_in_float32_and_leaves_the_data_alone(nb, make_model):
    model, part, valid = make_model(rng=1), clouds(nb, 0, ""), clouds(nb, 1, "")
    part.x.flags.writeable = part.y.flags.writeable = False
    settings = {"epochs": 10, "batch_size": 20, "learning_rate": 0.2, "lam": 1e-4}
    log = nb.train(model, part, valid, rng=2, **settings)
    assert log[-1]["training loss"] < 0.3 * log[0]["training loss"]
    assert min(log[-1]["training accuracy"], log[-1]["validation accuracy"]) > 0.95
    arrays = [model.forward(part.x), *itertools.chain(*model.parameters())]
    assert {array.dtype for array in arrays} == {np.dtype(np.float32)}


def test_training_ends_before_a_step_whose_loss_is_not_finite(nb):
    model, part = Pulled(), points(nb, 0, 12)
    part.x[5] = np.nan  # in the second of three batches
    assert train(nb, model, part) == [] and len(model.given) == 1


# --- A run from one seed -----------------------------------------------------------


def test_fit_makes_and_trains_from_one_seed(nb, make_model):
    """The same by hand, to the bit: one generator, for weights and then order."""
    part, valid = clouds(nb, 0, "", 50), clouds(nb, 1, "", 40)
    settings = {"epochs": 2, "batch_size": 7, "learning_rate": 0.1, "lam": 0.01}
    run = nb.fit(make_model, part, valid, seed=3, **settings)
    rng = np.random.default_rng(3)
    model = make_model(rng=rng)
    log = nb.train(model, part, valid, rng=rng, **settings)
    assert (run.seed, run.settings, run.log) == (3, settings, log)
    np.testing.assert_array_equal(weights(run.model), weights(model))
    assert run.train == nb.evaluate(model, part)[1]
    assert run.valid == nb.evaluate(model, valid)[1] == log[-1]["validation accuracy"]
    alone = nb.fit(make_model, part, seed=3, **settings)
    assert math.isnan(alone.valid) and alone.train == run.train


@pytest.mark.parametrize(
    ("rate", "lam", "size", "rows"), [(1e30, 0.1, 30, 0), (1e30, 1e20, 90, 1)]
)
def test_a_run_that_diverges_has_no_accuracy(nb, make_model, rate, lam, size, rows):
    """No error, no warning; also where only the very last step diverges."""
    settings = {"batch_size": size, "learning_rate": rate, "lam": lam}
    parts = clouds(nb, 0, ""), clouds(nb, 1, "")
    run = nb.fit(make_model, *parts, epochs=1, **settings)
    assert math.isnan(run.train) and math.isnan(run.valid) and len(run.log) == rows


def test_fit_has_one_blas_thread(nb):
    threads = []

    class Watched(Pulled):
        def forward(self, x):
            blas = [p for p in threadpool_info() if p["user_api"] == "blas"]
            threads.extend(pool["num_threads"] for pool in blas)
            return super().forward(x)

    settings = {"epochs": 1, "batch_size": 4, "learning_rate": 0.1}
    with threadpool_limits(2, "blas"):
        nb.fit(Watched, points(nb, 0, 8), **settings)
    assert set(threads) == {1}


# --- Side by side ------------------------------------------------------------------


def test_runs_are_the_same_for_any_number_of_processes(nb, monkeypatch):
    """And in the order of the calls. (BLAS adds up in another order if it has more
    threads: fit leaves it one.) The number of processes only rises: to end one that is
    no longer needed may take joblib a minute."""
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
        found.append([(run.log, weights(run.model).tobytes()) for run in runs])
    assert found[0] == found[1] == found[2]


def refusing(error, done):
    """In place of joblib's Parallel: with processes, fails after some results."""

    def parallel(n_jobs, **options):
        def results(calls):
            for function, args, kwargs in calls[: None if n_jobs == 1 else done]:
                yield function(*args, **kwargs)
            if n_jobs != 1:
                raise error

        return results

    return parallel


@pytest.mark.parametrize("done", [0, 2])
def test_without_processes_the_calls_run_one_after_the_other(
    nb, monkeypatch, capsys, done
):
    calls = [joblib.delayed(pow)(k, 2) for k in range(4)]
    for error in PermissionError("none here"), nb.PicklingError("not to be sent"):
        monkeypatch.setattr(nb, "Parallel", refusing(error, done))
        assert nb.side_by_side(calls, "work") == [0, 1, 4, 9]
        assert str(error) in capsys.readouterr().out
    monkeypatch.setattr(nb, "Parallel", refusing(ZeroDivisionError("ours"), done))
    with pytest.raises(ZeroDivisionError, match="ours"):
        nb.side_by_side(calls, "work")


# --- Tuning ------------------------------------------------------------------------

GRID = {"learning_rate": [1, 2.5, 3], "lam": [0.0, 3e-4]}
PAIRS = list(itertools.product([0.0, 3e-4], [1, 2.5, 3]))  # lam outside


def pair_of(run):
    return PAIRS.index((run.settings["lam"], run.settings["learning_rate"]))


@pytest.fixture
def fits(nb, monkeypatch, one_process):
    """The calls of fit; fits.valid(place of the pair, seed) is the validation accuracy.

    Training accuracy is the opposite, so that a choice by it would show."""

    class Fits(list):
        def __call__(self, make_model, part, valid=None, seed=0, **settings):
            self.append((make_model, part, valid))
            run = nb.Run(make_model, seed, settings, [], math.nan, math.nan)
            accuracy = self.valid(pair_of(run), seed)
            return run._replace(train=1 - accuracy, valid=accuracy)

    monkeypatch.setattr(nb, "fit", recorded := Fits())
    return recorded


def tune(nb, fits, first, again, **options):
    """nb.tune, where pair k has the accuracy first[k], and again[k][j] from the j-th
    fresh seed."""
    seeds = options.get("seeds", (1, 2, 3))

    def valid(k, seed):
        return again[k][seeds.index(seed)] if seed else first[k]

    fits.valid = valid
    return nb.tune("make", "part", "valid", GRID, epochs=7, batch_size=9, **options)


def test_tune_chooses_by_validation(nb, fits):
    """All pairs at the full budget from seed 0, the four best again from other seeds;
    sorted by the mean of these, not by their first or their best accuracy."""
    first = [0.3, math.nan, 0.9, 0.5, 0.8, 0.1]
    again = {2: (0.5, 0.5), 4: (0.9, 0.0), 3: (0.4, 0.8), 0: (0.1, 0.1)}
    tried, leaders = tune(nb, fits, first, again, seeds=(7, 9))
    budget = {"epochs": 7, "batch_size": 9}
    assert [pair_of(run) for run in tried] == [0, 1, 2, 3, 4, 5]
    assert {run.seed for run in tried} == {0}
    for run in tried:
        pair = {name: run.settings[name] for name in GRID}
        assert run.settings == budget | pair | {"log_every": 7}
    np.testing.assert_array_equal([run.valid for run in tried], first)
    assert [[pair_of(run) for run in runs] for runs in leaders] == [
        [3, 3], [2, 2], [4, 4], [0, 0]
    ]  # fmt: skip
    for runs in leaders:
        assert [run.seed for run in runs] == [7, 9]
        assert [run.valid for run in runs] == list(again[pair_of(runs[0])])
        assert all(run.settings.items() >= budget.items() for run in runs)
        assert {run.settings["log_every"] for run in runs} == {1}  # for their curves
    assert fits == [("make", "part", "valid")] * (6 + 4 * 2)


NAN = math.nan


@pytest.mark.parametrize(
    ("first", "again", "order"),
    [
        ([0.5, 0.9, 0.9, 0.9, 0.5, 0.9], {}, [1, 2, 3, 5]),
        ([NAN, 0.1, NAN, 0.3, 0.2, NAN], {0: [NAN] * 3}, [1, 3, 4, 0]),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], {5: (1, NAN, 1)}, [2, 3, 4, 5]),
    ],
    ids=["ties keep the grid's order", "what has diverged is last", "from one seed"],
)
def test_ties_and_diverging_runs(nb, fits, first, again, order):
    same = dict.fromkeys(range(6), (0.5, 0.5, 0.5))
    _, leaders = tune(nb, fits, first, same | again)
    places = [pair_of(runs[0]) for runs in leaders]
    assert places[-1] == order[-1] and sorted(places) == sorted(order)
    seeds = {tuple(run.seed for run in runs) for runs in leaders}
    assert len(seeds) == 1 and len({0, *seeds.pop()}) == 4  # three, all fresh


def test_a_grid_that_diverges_everywhere(nb, fits):
    with pytest.raises(ValueError, match="rate"):
        tune(nb, fits, [NAN] * 6, {})
    assert len(fits) == 6


def test_tune_on_real_runs(nb, one_process):
    """One rate learns, one diverges; the figures are those of fit."""
    parts = clouds(nb, 0, ""), clouds(nb, 1, "")
    make = partial(nb.Single_layer_classifier, 6, 3)
    grid, budget = {"lam": [0.1], "learning_rate": [1e30, 0.01]}, {"epochs": 1}
    tried, leaders = nb.tune(make, *parts, grid, batch_size=30, **budget)
    run = nb.fit(make, *parts, **tried[1].settings)
    assert (tried[1].train, tried[1].valid) == (run.train, run.valid)
    assert math.isnan(tried[0].valid)
    for runs, rate in zip(leaders, (0.01, 1e30), strict=True):
        assert {run.settings["learning_rate"] for run in runs} == {rate}


# --- Less data ---------------------------------------------------------------------


def test_learning_curve(nb, monkeypatch, one_process):
    """Other images for each seed, each at most once; lam grows as 1 / N."""
    x = np.arange(200.0)[:, None]
    part, settings = nb.Part(x, np.arange(200) * 7 % 3, "blue"), {"epochs": 2, "lam": 6}

    def fit(make_model, part, valid=None, seed=0, **settings):
        return nb.Run((make_model, part, valid), seed, settings, [], 0.5, math.nan)

    monkeypatch.setattr(nb, "fit", fit)
    whole = [nb.Run(None, seed, settings, [], 0.5, 0.5) for seed in (4, 2, 3)]
    curve = nb.learning_curve("make", part, whole)
    assert list(curve) == [10, 20, 50, 100] and curve.pop(100) is whole
    assert settings == {"epochs": 2, "lam": 6}
    for percentage, runs in curve.items():
        assert [run.seed for run in runs] == [4, 2, 3]
        chosen = {frozenset(range(2 * percentage))}  # not the first ones
        for run in runs:
            make, some, valid = run.model
            places = some.x[:, 0].astype(int)
            assert len(places) == len({*places}) == 2 * percentage
            np.testing.assert_array_equal(some.y, part.y[places])
            expected = {"epochs": 2, "lam": pytest.approx(600 / percentage)}
            assert run.settings == expected and (make, valid) == ("make", None)
            chosen.add(frozenset(places))
        assert len(chosen) == 4


# --- Answers, tables, pictures -----------------------------------------------------


@pytest.fixture
def displayed(nb, monkeypatch):
    """What IPython is given to display, and how; there are no answers and notes yet."""
    given = []
    monkeypatch.setattr(nb, "ANSWERS", {})
    monkeypatch.setattr(nb, "NOTES", [])
    monkeypatch.setattr(nb, "display", lambda it, **how: given.append((it, how)))
    return given


def test_answers(nb, displayed, capsys):
    """By section as numbers; a cell that is run again replaces its row; notes on top."""
    for section, asked in ("1.10", "b"), ("10.1", "c"), ("1.9", "z"), ("1.9", "a"):
        nb.answer(section, asked, f"found {asked}")
        assert f"{asked}: found {asked}" in capsys.readouterr().out
    nb.answer("1.10", "b", "found again")
    for text in "a try", "other data", "a try":
        nb.note(text)
        assert text in capsys.readouterr().out
    assert len(displayed) == 8
    for _, how in displayed:  # each time the table on page 1 is brought up to date
        assert how == {"display_id": "answers", "update": True}
    text = displayed[-1][0].data
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if "|" in line]
    assert rows[2:] == [
        ["1.9", "z", "found z"],
        ["1.9", "a", "found a"],
        ["1.10", "b", "found again"],
        ["10.1", "c", "found c"],
    ]
    notes = text.partition("|")[0]
    assert notes.count("a try") == 1 and "other data" in notes


def test_table(nb, displayed):
    nb.table(["what", "n", "share"], [("x", 3, "5%"), ("y", 4, "6%")])
    rows = ["| what | n | share |", "| :-- | --: | --: |"]
    rows += ["| x | 3 | 5% |", "| y | 4 | 6% |"]
    assert displayed[0][0].data == "\n".join(rows)


def test_show_gives_the_alternative_text_and_closes_the_figure(nb, displayed):
    fig = nb.plt.figure()
    nb.show(fig, "what it shows")
    assert displayed == [(fig, {"metadata": {"image/png": {"alt": "what it shows"}}})]
    assert not nb.plt.fignum_exists(fig.number)


def test_image_grid(nb, shown, rng):
    pictures = rng.random((5, 2, 3))
    titles, names = list("vwxyz"), ["top", "low"]
    fig = nb.plt.figure()
    nb.image_grid(pictures, "Five", titles, 3, names, vmin=-2, vmax=5)
    nb.image_grid(pictures, "Five", titles, 3, names, fig, vmin=-2, vmax=5)
    ((own, alt),) = shown  # a figure that was handed in is not shown yet
    assert "Five" in alt and "top" in alt
    for figure in own, fig:
        assert figure.get_suptitle() == "Five" and len(figure.axes) == 6
        for ax, picture in zip(figure.axes, pictures, strict=False):
            np.testing.assert_array_equal(ax.images[0].get_array(), picture)
            assert ax.images[0].get_clim() == (-2, 5)
        assert [ax.get_title() for ax in figure.axes] == [*titles, ""]
        texts = [[text.get_text() for text in ax.texts] for ax in figure.axes]
        assert texts == [["top"], [], [], ["low"], [], []]


def test_templates(nb, shown, rng):
    """Columns of W as images, each row on its own scale, which its name gives."""
    rows = {name: k * rng.standard_normal((784, 3)) for k, name in enumerate("pq", 1)}
    nb.show_templates(rows, ["a", "b", "c"], "Weights")
    ((fig, _),) = shown
    for (row, (name, W)), k in itertools.product(enumerate(rows.items()), range(3)):
        ax, scale = fig.axes[3 * row + k], np.percentile(abs(W), 99.5)
        (image,) = ax.images
        np.testing.assert_allclose(image.get_array(), W[:, k].reshape(28, 28) / scale)
        assert image.get_clim() == (-1, 1)
        assert ax.get_title() == ("" if row else "abc"[k])
        name_and_scale = [text.get_text() for text in ax.texts]
        assert bool(name_and_scale) == (k == 0)
        for text in name_and_scale:
            assert name in text and f"{scale:.2g}" in text
    positive = image.cmap(0.9)  # "orange for", so warm
    assert positive[0] > positive[2]


# --- What a run, a tuning, less data look like ---------------------------------------


@pytest.fixture
def run(nb):
    """Five epochs; numbers that tell where they belong."""
    names = "training loss", "training accuracy", "validation loss"
    names += ("validation accuracy",)
    log = [
        {"epoch": k} | {name: k / 10 + j / 100 for j, name in enumerate(names)}
        for k in range(1, 6)
    ]
    return nb.Run(None, 0, {"epochs": 5}, log, 0.5, 0.5)


@pytest.mark.parametrize(("every", "epochs"), [(2, [1, 2, 4, 5]), (3, [1, 3, 5])])
def test_print_log(nb, run, capsys, every, epochs):
    nb.print_log(run, **{} if every == 2 else {"every": every})
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == " ".join(run.log[0]).split()
    expected = [f"{k} 0.{k}000 {k}1.00% 0.{k}200 {k}3.00%" for k in epochs]
    assert [" ".join(line.split()) for line in lines] == expected
    assert {len(line) for line in lines} == {len(header)}


def curves(ax):
    """{label: the points of the curve}; the legend must show them all."""
    found = {line.get_label(): line.get_xydata().T for line in ax.lines}
    assert [text.get_text() for text in ax.get_legend().texts] == list(found)
    return found


def test_show_run(nb, run, shown):
    nb.show_run(run, "Title")
    ((fig, alt),) = shown
    assert "Title" in fig.get_suptitle() and "Title" in alt
    for ax, quantity in zip(fig.axes, ("loss", "accuracy"), strict=True):
        assert quantity in ax.get_ylabel() and "epoch" in ax.get_xlabel()
        drawn = curves(ax)
        assert list(drawn) == ["training", "validation"]
        for part, shift in ("training", 0.5), ("validation", 0):  # a mean: the middle
            y = np.array([row[f"{part} {quantity}"] for row in run.log])
            if quantity == "accuracy":
                assert "%" in ax.get_ylabel()
                y = 100 * y
            np.testing.assert_allclose(drawn[part], [np.arange(1, 6) - shift, y])


@pytest.fixture
def tried(nb):
    """Runs of all pairs of GRID; the last one has diverged."""
    trained = [0.99, 0.80, 0.70, 0.90, 0.95, math.nan]
    valid = [0.80, 0.85, 0.71, 0.60, 0.84, math.nan]
    runs = zip(ParameterGrid(GRID), trained, valid, strict=True)
    return [nb.Run(None, 0, {"epochs": 5} | pair, [], *two) for pair, *two in runs]


def test_tuning_table(nb, tables, tried):
    nb.tuning_table(tried, GRID)
    ((header, *rows),) = tables
    assert header[0].startswith("training / validation / difference")
    assert header[1:] == [f"{nb.LABELS['learning_rate']} {k}" for k in (1, 2.5, 3)]
    assert [row[0] for row in rows] == [f"{nb.LABELS['lam']} = {k}" for k in (0, 3e-4)]
    assert [row[1:] for row in rows] == [
        ["99.00 / 80.00 / +19.00", "80.00 / 85.00 / -5.00", "70.00 / 71.00 / -1.00"],
        ["90.00 / 60.00 / +30.00", "95.00 / 84.00 / +11.00", "diverges"],
    ]


def test_show_tuning(nb, shown, tried):
    nb.show_tuning(tried, GRID, "Toy")
    ((fig, alt),) = shown
    left, right = fig.axes
    assert "Toy" in fig.get_suptitle() and "Toy" in alt
    assert "validation accuracy" in left.get_ylabel() and "%" in left.get_ylabel()
    assert "training − validation" in right.get_ylabel()
    valid, gap = [[80, 85, 71], [60, 84, NAN]], [[19, -5, -1], [30, 11, NAN]]
    for ax, expected in (left, valid), (right, gap):
        drawn = curves(ax)
        assert list(drawn) == [f"{nb.LABELS['lam']} = {value}" for value in (0, 3e-4)]
        for points, y in zip(drawn.values(), expected, strict=True):
            np.testing.assert_allclose(points, [[1, 2.5, 3], y])
        assert ax.get_xlabel() == nb.LABELS["learning_rate"]
        assert [t.get_text() for t in ax.get_xticklabels()] == ["1", "2.5", "3"]


def test_labels_of_the_settings(nb):
    assert nb.LABELS["lam"] == "λ" and "rate" in nb.LABELS["learning_rate"]
    assert nb.LABELS["batch_size"] == "batch size"


@pytest.fixture
def leaders(nb):
    """Three pairs from two seeds: mean validation accuracies of 60, 59 and 50%."""
    given = [
        ((3e-4, 2.5), [(0.9, 0.5), (0.8, 0.7)]),
        ((0.0, 1), [(0.3, 0.59), (0.3, 0.59)]),
        ((0.0, 3), [(0.3, 0.5), (0.3, 0.5)]),
    ]
    return [
        [
            nb.Run(None, seed, {"epochs": 5, "lam": lam, "learning_rate": rate}, [], *a)
            for seed, a in zip((7, 9), accuracies, strict=True)
        ]
        for (lam, rate), accuracies in given
    ]


def test_leaders_table(nb, tables, leaders):
    nb.leaders_table(leaders, GRID)
    ((header, *rows),) = tables
    assert header[:2] == [nb.LABELS["lam"], nb.LABELS["learning_rate"]]
    assert "training" in header[2] and "validation" in header[3] and "7, 9" in header[3]
    assert rows == [
        ["0.0003", "2.5", "85.00% ± 7.07%", "60.00% ± 14.14%"],
        ["0", "1", "30.00% ± 0.00%", "59.00% ± 0.00%"],
        ["0", "3", "30.00% ± 0.00%", "50.00% ± 0.00%"],
    ]


@pytest.mark.parametrize(
    ("count", "tied"), [(100, [1]), (2401, []), (2399, [1]), (20, [1, 3])]
)
def test_a_tie_is_reported_as_a_tie(nb, leaders, count, tied):
    """The standard error is 4.9 points for 100 images, 1 for 2,400, 11 for 20."""
    part = nb.Part(None, np.zeros(count), "")
    error = math.sqrt(0.6 * 0.4 / count)
    assert nb.standard_error(0.6, part) == pytest.approx(error)
    text = nb.chosen_text(leaders, GRID, part)
    texts = {k: f"{nb.LABELS['learning_rate']} {k}" for k in (1, 3)}
    assert text.startswith(nb.pair_text(leaders[0][0], GRID))
    assert "0.0003" in text and "2.5" in text
    assert [k for k in texts if texts[k] in text] == tied
    assert (f"{100 * error:.2f}" in text) == bool(tied)


def test_show_learning_curves(nb, shown, tables):
    """Accuracies on the Part that is given, mean ± sd, over the percentages."""

    class Right:
        """Takes this fraction of the images for class 0."""

        def __init__(self, fraction):
            self.fraction = fraction

        def forward(self, x):
            return np.column_stack([x[:, 0] < self.fraction, np.full(len(x), 0.5)])

    part = nb.Part(np.arange(0.5, 200)[:, None] / 200, np.zeros(200, int), "kites")
    both = {
        name: {
            k: [nb.Run(Right(k / 200 + d), 0, {}, [], 0.9, 0.1) for d in spread]
            for k in (10, 20, 50, 100)
        }
        for name, spread in (("one", (0, 0.1)), ("two", (0, 0)))
    }
    found = nb.show_learning_curves(both, part, "Less")
    ((fig, alt),) = shown
    (ax,) = fig.axes
    assert "Less" in ax.get_title() and "Less" in alt
    assert "kites" in ax.get_ylabel() and "percentage" in ax.get_xlabel()
    assert [text.get_text() for text in ax.get_legend().texts] == list(both)
    one, two = (container.lines for container in ax.containers)
    for (line, *_), y in (one, [10, 15, 30, 55]), (two, [5, 10, 25, 50]):
        np.testing.assert_allclose(line.get_xydata().T, [[10, 20, 50, 100], y])
    sd = 100 * np.std([0, 0.1], ddof=1)
    np.testing.assert_allclose(one[2][0].get_segments()[0][:, 1], [10 - sd, 10 + sd])
    ((header, *rows),) = tables
    assert header[1:] == ["10%", "20%", "50%", "100%"]
    for row, name, what in zip(
        rows, ("one", "one", "two", "two"), ("kites", "trained") * 2, strict=True
    ):
        assert name in row[0] and what in row[0]
    assert rows[0][1:] == [f"{mean}.00% ± {sd:.2f}%" for mean in (10, 15, 30, 55)]
    assert rows[1][1:] == rows[3][1:] == ["90.00% ± 0.00%"] * 4
    means = zip((10, 20, 50, 100), (5, 10, 25, 50), strict=True)
    assert found["two"] == ", ".join(f"{k}%: {mean}.00%" for k, mean in means)
