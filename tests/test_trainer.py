"""The trainer, and what fits many models: tuning, fresh seeds, less data."""

import functools
import itertools
import math
import re
import time
from functools import partial

import joblib
import numpy as np
import pytest
from conftest import Echo, assert_gradient, assert_seeded, finite_difference
from scipy import special
from threadpoolctl import threadpool_info, threadpool_limits

pytestmark = pytest.mark.filterwarnings("error")

MODELS = {
    "softmax": lambda nb, dtype: nb.Single_layer_classifier(6, 3, rng=1, dtype=dtype),
    "MLP": lambda nb, dtype: nb.MLP(6, 8, 3, rng=1, dtype=dtype),
}


@pytest.fixture(params=MODELS)
def make_model(request, nb):
    """A function that makes the same fresh model at each call."""
    return lambda dtype=np.float32: MODELS[request.param](nb, dtype)


def clouds(nb, seed, name, count=90, dtype=np.float32):
    """A Part: three well separated clouds in 6 dimensions."""
    rng, y = np.random.default_rng(seed), np.arange(count) % 3
    x = rng.standard_normal((count, 6)) + 6 * np.eye(3, 6)[y]
    return nb.Part(x.astype(dtype), y, name)


def arrays_of(model):
    """The model's own weights and biases, also before there are gradients."""
    if hasattr(model, "W"):
        return [model.W]
    return [array for layer in model.weighted() for array in (layer.W, layer.b)]


def in_order(x, y, batch_size, rng):
    for start in range(0, len(x), batch_size):
        yield x[start : start + batch_size], y[start : start + batch_size]


class Pulled(Echo):
    """Scores are the inputs; one weight, with the gradient 1, records the steps."""

    def __init__(self):
        super().__init__()
        self.W, self.gradient = np.zeros(1), np.ones(1)
        self.path, self.given = [], []

    def forward(self, x):
        self.path.append(self.W.item())
        return super().forward(x)

    def backward(self, grad, lam):
        self.given.append((grad, lam))

    def parameters(self):
        return [(self.W, self.gradient)]


def scored(nb, count, wrong, name="blue"):
    """A Part of images that are their own scores; the last `wrong` are wrong."""
    y = np.arange(count) % 3
    x = np.eye(3)[np.where(np.arange(count) < count - wrong, y, (y + 1) % 3)]
    return nb.Part(x * np.linspace(1, 3, count)[:, None], y, name)


def train(nb, model, *parts, **changes):
    settings = {"epochs": 2, "batch_size": 4, "learning_rate": 0.5}
    return nb.train(model, *parts, **settings | {"batches": in_order} | changes)


# --- One step ----------------------------------------------------------------------


@pytest.mark.parametrize("lam", [0.0, 0.3])
def test_step_is_plain_gradient_descent_on_the_mean(nb, make_model, lam):
    """Each value moves by -rate * (its gradient); W's has 2 lam W added."""
    model, part = make_model(np.float64), clouds(nb, 0, "", 12, np.float64)
    values = arrays_of(model)
    before, expected = [value.copy() for value in values], []
    for value, start in zip(values, before, strict=True):

        def loss(moved, value=value, start=start):
            value[...] = moved
            result = nb.loss_function(part.y, model.forward(part.x))
            value[...] = start
            return result

        decay = 2 * lam * start if value.ndim == 2 else 0  # biases go free
        expected.append(0.1 * (finite_difference(loss, start) + decay))
    nb.take_step(model, part.x, part.y, 0.1, lam)
    for value, start, step in zip(values, before, expected, strict=True):
        assert_gradient(start - value, step)


def test_step_reports_figures_from_before_it(nb, make_model):
    model, part = make_model(np.float64), clouds(nb, 0, "", 12, np.float64)
    before = nb.evaluate(model, part)
    loss, right = nb.take_step(model, part.x, part.y, 0.5, 0.0)
    assert loss == pytest.approx(before.loss, rel=1e-12)
    assert right == 12 * before.accuracy and 0 < right < 12


def test_softmax_step_is_exactly_the_formula(nb, rng):
    """W -= rate * (grad + lam * 2W)."""
    x, y = rng.standard_normal((7, 5)), rng.integers(0, 4, 7)
    model = nb.Single_layer_classifier(5, 4, std=1, rng=rng, dtype=np.float64)
    W = model.W.copy()
    grad = x.T @ (special.softmax(x @ W, axis=1) - np.eye(4)[y]) / 7
    nb.take_step(model, x, y, 0.25, 0.125)
    np.testing.assert_allclose(model.W, W - 0.25 * (grad + 0.25 * W), rtol=1e-12)


# --- Training ----------------------------------------------------------------------


@pytest.mark.parametrize(("count", "sizes"), [(10, [4, 4, 2]), (12, [4, 4, 4])])
def test_rates_fall_by_half_a_cosine(nb, count, sizes):
    model = Pulled()
    train(nb, model, scored(nb, count, 0))
    expected = [0.5 * math.cos(math.pi * step / 12) ** 2 for step in range(6)]
    steps = -np.diff([*model.path, model.W.item()])
    assert steps == pytest.approx(expected, rel=1e-12)
    assert model.counts == sizes * 2  # a short last batch counts as a step


def test_backward_gets_the_batchs_loss_gradient_and_lam(nb):
    model, part = Pulled(), scored(nb, 10, 3)
    train(nb, model, part, lam=0.25)
    train(nb, model, part)  # lam is 0 if not given
    assert [lam for _, lam in model.given] == 6 * [0.25] + 6 * [0]
    for (grad, _), start in zip(model.given, itertools.cycle((0, 4, 8))):
        batch = slice(start, start + 4)
        expected = nb.loss_backward(part.y[batch], part.x[batch])
        np.testing.assert_array_equal(grad, expected)
    np.testing.assert_array_equal(model.gradient, [1])


@pytest.mark.parametrize("dropped", [False, True])
def test_training_rows_are_means_over_the_images_seen(nb, dropped):
    """Over images, not batches; without those that the generator drops."""
    part = scored(nb, 10, 3)  # the last batch is short, and has two of the wrong ones

    def batches(*given):
        return itertools.islice(in_order(*given), 2 if dropped else 3)

    history = train(nb, Pulled(), part, batches=batches)
    seen = nb.Part(part.x[:8], part.y[:8], "") if dropped else part
    _, loss, accuracy = nb.evaluate(Echo(), seen)
    assert list(history) == ["blue"] and accuracy == (7 / 8 if dropped else 0.7)
    for row, middle in zip(history["blue"], (0.5, 1.5), strict=True):
        assert type(row) is nb.Epoch
        assert row == pytest.approx((middle, loss, accuracy), rel=1e-12)


@pytest.mark.parametrize(
    ("epochs", "every", "at"),
    [(3, None, [1, 2, 3]), (5, 2, [2, 4, 5]), (4, 2, [2, 4]), (3, 9, [3])],
)
def test_validation_every_few_epochs_and_after_the_last(nb, epochs, every, at):
    model, parts = Pulled(), (scored(nb, 8, 0), scored(nb, 5, 2, "red"))
    given = {"valid_every": every} if every else {}
    history = train(nb, model, *parts, epochs=epochs, **given)
    assert list(history) == ["blue", "red"] and len(history["blue"]) == epochs
    _, loss, accuracy = nb.evaluate(Echo(), parts[1])
    assert history["red"] == [(epoch, loss, accuracy) for epoch in at]
    calls = [[4, 4, 5] if k in at else [4, 4] for k in range(1, epochs + 1)]
    assert model.counts == [*itertools.chain(*calls)]  # at the end of the epoch


def test_validation_row_is_the_model_at_the_end_of_its_epoch(nb, make_model):
    model, valid = make_model(), clouds(nb, 1, "red")
    history = train(nb, model, clouds(nb, 0, "blue"), valid, rng=0)
    assert history["red"][-1] == (2, *nb.evaluate(model, valid)[1:])


@pytest.mark.parametrize("make", MODELS)
def test_the_generator_decides_the_order_and_nothing_else(nb, make):
    """One generator for all epochs; by default the mini-batches are Question 1's."""

    def trained(rng):
        model = MODELS[make](nb, np.float32)
        settings = {"epochs": 2, "batch_size": 7, "learning_rate": 0.1}
        nb.train(model, clouds(nb, 0, "blue"), rng=rng, **settings)
        return np.concatenate([array.ravel() for array in arrays_of(model)])

    assert_seeded(trained)


def test_each_epoch_goes_on_with_one_generator(nb):
    draws = []

    def batches(x, y, batch_size, rng):
        draws.append((rng.random(), len(x), len(y), batch_size))
        yield x, y

    train(nb, Pulled(), scored(nb, 9, 0), epochs=3, rng=5, batches=batches)
    expected = np.random.default_rng(5).random(3)
    assert draws == [(draw, 9, 9, 4) for draw in expected]


def test_training_learns_separable_data(nb, make_model):
    model, valid = make_model(), clouds(nb, 1, "red")
    settings = {"epochs": 10, "batch_size": 20, "learning_rate": 0.2, "lam": 1e-4}
    history = nb.train(model, clouds(nb, 0, "blue"), valid, rng=2, **settings)
    losses = [row.loss for row in history["blue"]]
    assert losses[-1] < 0.3 * losses[0]
    assert min(rows[-1].accuracy for rows in history.values()) > 0.95


def test_training_stays_in_float32_and_leaves_the_data_alone(nb, make_model):
    model, part = make_model(), clouds(nb, 0, "blue")
    part.x.flags.writeable = part.y.flags.writeable = False
    train(nb, model, part, part, lam=0.1, rng=0)
    arrays = [model.forward(part.x), *itertools.chain(*model.parameters())]
    assert {array.dtype for array in arrays} == {np.dtype(np.float32)}


@pytest.mark.parametrize("rate", [1e4, 1e10, 1e30])
def test_divergence_stops_and_blames_the_rate(nb, make_model, rate):
    part = clouds(nb, 0, "blue")
    with pytest.raises(FloatingPointError, match=r"loss is (nan|inf).*lower the rate"):
        train(nb, make_model(), part, epochs=50, learning_rate=rate, lam=0.1)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_stop_training(nb, make_model, bad):
    model = make_model()
    arrays_of(model)[0][0, 0] = bad
    with pytest.raises(FloatingPointError, match="rate"):
        train(nb, model, clouds(nb, 0, "blue"))


# --- A run from one seed -----------------------------------------------------------


def test_fit_makes_and_trains_from_one_seed(nb, make_model):
    """The same by hand, to the bit: one generator, for weights and then order."""
    part, valid = clouds(nb, 0, "blue", 50), clouds(nb, 1, "red", 40)
    settings = {"epochs": 2, "batch_size": 7, "learning_rate": 0.1, "lam": 0.01}

    def make(rng):
        model = make_model()
        for array in arrays_of(model):
            array += rng.standard_normal(array.shape)
        return model

    run = nb.fit(make, part, valid, seed=3, **settings)
    rng = np.random.default_rng(3)
    model = make(rng)
    history = nb.train(model, part, valid, rng=rng, **settings)
    assert (run.seed, run.settings, run.history) == (3, settings, history)
    for found, expected in zip(*map(arrays_of, (run.model, model)), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert run.train == nb.evaluate(model, part) and run.train.part == "blue"
    assert run.valid == nb.evaluate(model, valid) and run.valid.part == "red"
    alone = nb.fit(make, part, seed=3, **settings)
    assert alone.valid is None and alone.train == run.train
    assert list(alone.history) == ["blue"]
    default, zero = (nb.fit(make, part, **settings, **s) for s in ({}, {"seed": 0}))
    assert default.history == zero.history != alone.history and default.seed == 0


def test_fit_has_one_blas_thread(nb):
    threads = []

    class Watched(Pulled):
        def forward(self, x):
            blas = [p for p in threadpool_info() if p["user_api"] == "blas"]
            threads.extend(pool["num_threads"] for pool in blas)
            return super().forward(x)

    settings = {"epochs": 1, "batch_size": 4, "learning_rate": 0.1}
    with threadpool_limits(2, "blas"):
        nb.fit(lambda rng: Watched(), scored(nb, 8, 0), **settings)
    assert set(threads) == {1}


@pytest.mark.parametrize(("every", "epochs"), [(2, [1, 2, 4, 5]), (3, [1, 3, 5])])
def test_print_log(nb, capsys, every, epochs):
    history = {
        name: [nb.Epoch(k, k / 10 + shift, k / 100 + shift) for k in range(1, 6)]
        for name, shift in (("blue", 0.0), ("red", 0.5))
    }
    run = nb.Run(None, 0, {"epochs": 5}, history, None, None)
    nb.print_log(run, **{} if every == 2 else {"every": every})
    header, *lines = capsys.readouterr().out.splitlines()
    names = re.findall("blue|red", header)
    assert [*dict.fromkeys(names)] == ["blue", "red"]  # in order, once or twice each
    expected = [f"{k} 0.{k}000 {k}.00 % {(k + 5) / 10:.4f} 5{k}.00 %" for k in epochs]
    assert [" ".join(line.split()) for line in lines] == expected
    assert {len(line) for line in lines} == {len(header)}


# --- Side by side ------------------------------------------------------------------


@pytest.fixture
def jobs(nb, monkeypatch):
    """jobs(n): side_by_side has that many processes, not as many as there are cores."""

    def set_number(number):
        def parallel(n_jobs, **options):
            assert n_jobs == -1
            return joblib.Parallel(n_jobs=number, **options)

        monkeypatch.setattr(nb, "Parallel", parallel)

    return set_number


def first_ends_last(k, sign):
    """The first call waits for a sign of the second: they must run at once."""
    deadline = time.monotonic() + 60
    while k == 0 and not sign.exists():
        assert time.monotonic() < deadline, "the calls do not run side by side"
        time.sleep(0.01)
    if k == 1:
        sign.touch()
    return k


def test_results_are_in_order_whichever_ends_first(nb, jobs, tmp_path):
    jobs(2)
    calls = [joblib.delayed(first_ends_last)(k, tmp_path / "sign") for k in range(5)]
    assert nb.side_by_side(calls, "") == [0, 1, 2, 3, 4]


@pytest.fixture
def quick_bar(nb, monkeypatch):
    """The bar is drawn at each of its steps."""
    monkeypatch.setattr(nb, "tqdm", functools.partial(nb.tqdm, mininterval=0))


@pytest.mark.parametrize("done", [0, 2])
def test_without_processes_the_calls_run_one_after_the_other(
    nb, monkeypatch, quick_bar, capsys, done
):
    """Where the system refuses a process, at once or after two results."""
    ran = []

    def call(k, plus):
        ran.append(k)
        return k + plus

    def refusing(calls):
        for function, args, options in calls[:done]:
            yield function(*args, **options)
        raise PermissionError("no processes here")

    monkeypatch.setattr(nb, "Parallel", lambda **options: refusing)
    calls = [joblib.delayed(call)(k, plus=10) for k in range(4)]
    assert nb.side_by_side(calls, "work") == [10, 11, 12, 13]
    assert ran == [0, 1, 2, 3]
    assert "4/4" in capsys.readouterr().out


def fail(error):
    if error:
        raise error
    return "fine"


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize(
    "error", [ZeroDivisionError("ours"), FileNotFoundError("ours")]
)
def test_an_error_inside_a_call_reaches_the_caller(nb, jobs, number, error):
    jobs(number)
    calls = [joblib.delayed(fail)(e) for e in (None, error, None)]
    with pytest.raises(type(error), match="ours"):
        nb.side_by_side(calls, "")


def test_figures_are_the_same_to_the_bit_for_any_number_of_jobs(nb, jobs):
    """BLAS adds up in another order if it has more threads: fit leaves it one.

    The last test with processes: joblib may wait a minute for one to end that it no
    longer needs, so that their number should never fall."""
    rng = np.random.default_rng(0)
    x, y = rng.random((600, 784), np.float32), rng.integers(0, 10, 600)
    part, settings = nb.Part(x, y, "blue"), {"epochs": 2, "batch_size": 50}

    def make(rng):
        return nb.MLP(784, 64, 10, rng=rng)

    calls = [
        joblib.delayed(nb.fit)(make, part, seed=seed, learning_rate=0.1, **settings)
        for seed in range(4)
    ]
    found = []
    for number in 1, 2, 4:
        jobs(number)
        runs = nb.side_by_side(calls, "")
        weights = [[w.tobytes() for w in arrays_of(run.model)] for run in runs]
        found.append([(run.history, run.train) for run in runs] + weights)
    assert found[0] == found[1] == found[2]
    assert len({run.train.loss for run in runs}) == 4  # four seeds


def test_one_bar_that_goes(nb, one_process, quick_bar, capsys):
    calls = [joblib.delayed(abs)(-k) for k in range(3)]
    assert nb.side_by_side(calls, "work") == [0, 1, 2]
    out, err = capsys.readouterr()
    bars = [text for text in out.split("\r") if text.strip()]
    assert all(text.startswith("work: ") for text in bars) and "\n" not in out + err
    assert [text.partition("/3")[0][-1] for text in bars] == list("0123")
    assert out.endswith("\r") and err == ""
    assert not out.rstrip("\r").rpartition("\r")[2].strip()  # the line is empty again


def test_no_calls_no_results(nb, one_process):
    assert nb.side_by_side([], "") == []


# --- Tuning ------------------------------------------------------------------------


@pytest.fixture
def fits(nb, monkeypatch, one_process):
    """The calls of fit; fits.answer(call) makes the accuracies (train, valid)."""

    class Fits(list):
        answer = None

        def __call__(self, make_model, part, valid=None, seed=0, **settings):
            self.append((make_model, part, valid, seed, settings))
            trained, validated = self.answer(settings | {"seed": seed})
            scores = nb.Score("blue", 0.1, trained), nb.Score("red", 0.2, validated)
            return nb.Run(make_model, seed, settings, {}, *scores)

    monkeypatch.setattr(nb, "fit", recorded := Fits())
    return recorded


GRID = {"learning_rate": [1, 2, 3], "lam": [0.0, 0.5]}
PAIRS = [
    {"lam": lam, "learning_rate": rate} for lam in (0.0, 0.5) for rate in (1, 2, 3)
]


def place_of(settings):
    """The place of a pair in PAIRS."""
    return PAIRS.index({name: settings[name] for name in GRID})


def test_grid_search_trains_every_pair_and_keeps_both_scores(nb, fits):
    """Validated once, at the end; the budget goes to every pair."""

    def answer(call):
        k = place_of(call)
        if k == 4:
            raise FloatingPointError("diverged")
        return k / 10, (5 - k) / 20

    fits.answer = answer
    make, parts = object(), (scored(nb, 6, 0, "blue"), scored(nb, 3, 0, "red"))
    budget = {"epochs": 7, "batch_size": 9}
    trials = nb.grid_search(make, *parts, GRID, **budget)
    assert [trial.settings for trial in trials] == [budget | pair for pair in PAIRS]
    for (made, part, valid, seed, settings), pair in zip(fits, PAIRS, strict=True):
        assert made is make and part is parts[0] and valid is parts[1] and seed == 0
        assert settings == budget | pair | {"valid_every": 7}
    for k, trial in enumerate(trials):
        assert (trial.train.part, trial.valid.part) == ("blue", "red")
        expected = (np.nan, np.nan) if k == 4 else (k / 10, (5 - k) / 20)
        found = trial.train.accuracy, trial.valid.accuracy
        np.testing.assert_array_equal(found, expected)


def test_grid_search_on_real_runs(nb, one_process):
    """One rate learns, one diverges; the figures are those of fit."""
    parts = clouds(nb, 0, "blue"), clouds(nb, 1, "red")

    def make(rng):
        return nb.Single_layer_classifier(6, 3, rng=rng)

    grid, budget = {"lam": [0.1], "learning_rate": [0.2, 1e10]}, {"epochs": 3}
    learned, diverged = nb.grid_search(make, *parts, grid, batch_size=9, **budget)
    run = nb.fit(make, *parts, **learned.settings)
    assert (learned.train, learned.valid) == (run.train, run.valid)
    assert [score.part for score in diverged[1:]] == ["blue", "red"]
    assert np.isnan([[score.loss, score.accuracy] for score in diverged[1:]]).all()


def test_grid_search_lets_other_errors_through(nb, fits):
    def answer(call):
        raise ZeroDivisionError

    fits.answer = answer
    with pytest.raises(ZeroDivisionError):
        nb.grid_search(None, None, None, GRID, epochs=1)


def trials_of(nb, accuracies):
    """Trials of PAIRS with these accuracies on validation; on training the opposite."""
    return [
        nb.Trial(
            pair | {"epochs": 5}, nb.Score("blue", 0, 1 - a), nb.Score("red", 0, a)
        )
        for pair, a in zip(PAIRS, accuracies, strict=True)
    ]


def places_of(leaders):
    return [place_of(runs[0].settings) for runs in leaders]


def test_leaders_are_fitted_from_fresh_seeds_and_sorted_by_their_mean(nb, fits):
    finals = {2: (0.5, 0.5, 0.5), 4: (0.9, 0.0, 0.0)}  # the best first seed
    finals |= {3: (0.4, 0.6, 0.8), 0: (0.1, 0.1, 0.1)}  # the best mean

    def answer(call):
        accuracy = finals[place_of(call)][call["seed"] - 1]
        return 1 - accuracy, accuracy

    fits.answer = answer
    make, parts = object(), (object(), object())
    trials = trials_of(nb, [0.3, np.nan, 0.9, 0.5, 0.8, 0.1])
    leaders = nb.fit_leaders(make, *parts, trials)
    assert places_of(leaders) == [3, 2, 4, 0]
    for runs, k in zip(leaders, (3, 2, 4, 0), strict=True):
        assert [run.seed for run in runs] == [1, 2, 3]
        assert [run.valid.accuracy for run in runs] == list(finals[k])
        assert all(run.settings == PAIRS[k] | {"epochs": 5} for run in runs)
    assert len(fits) == 12
    for made, part, valid, *_ in fits:
        assert made is make and part is parts[0] and valid is parts[1]


@pytest.mark.parametrize(
    ("accuracies", "leaders"),
    [
        ([0.5, 0.9, 0.9, 0.9, 0.5, 0.9], [1, 2, 3, 5]),
        ([np.nan, 0.1, np.nan, 0.3, 0.0, np.nan], [3, 1, 4]),
        ([np.nan] * 5 + [0.2], [5]),
    ],
    ids=["ties", "three converge", "one converges"],
)
def test_ties_keep_the_grids_order_and_what_diverged_is_out(
    nb, fits, accuracies, leaders
):
    fits.answer = lambda call: (0.5, 0.5)
    found = nb.fit_leaders(None, None, None, trials_of(nb, accuracies))
    assert places_of(found) == leaders and {len(runs) for runs in found} == {3}


def test_count_and_seeds_of_the_leaders(nb, fits):
    fits.answer = lambda call: (0.5, 0.5)
    trials = trials_of(nb, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    found = nb.fit_leaders(None, None, None, trials, seeds=(7, 9), count=2)
    assert places_of(found) == [5, 4]
    assert [[run.seed for run in runs] for runs in found] == [[7, 9], [7, 9]]


def test_no_pair_converges(nb, fits):
    with pytest.raises(ValueError, match="converges: lower the learning rates"):
        nb.fit_leaders(None, None, None, trials_of(nb, [np.nan] * 6))
    assert fits == []


def test_a_leader_that_diverges_from_one_seed_is_out(nb, fits):
    def answer(call):
        if place_of(call) == 5 and call["seed"] == 2:
            raise FloatingPointError("diverged")
        return 0.5, 0.5

    fits.answer = answer
    trials = trials_of(nb, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert places_of(nb.fit_leaders(None, None, None, trials)) == [4, 3, 2]


def test_divergence_in_the_last_step_is_noticed(nb, rng):
    part = nb.Part(rng.random((4, 3), dtype=np.float32), np.arange(4) % 2, "some")
    make = partial(nb.Single_layer_classifier, 3, 2)
    settings = {"epochs": 1, "batch_size": 4, "learning_rate": 1e30, "lam": 1e20}
    with pytest.raises(FloatingPointError, match="last step"):
        nb.fit(make, part, **settings)
    assert np.isnan(nb.try_settings(make, part, part, settings).valid.accuracy)


# --- Less data ---------------------------------------------------------------------


def test_learning_curve(nb, fits, monkeypatch):
    """Smaller sets are drawn by seed and fitted anew; the runs are the points at 100 %.

    A model is its training images here, and its accuracy on test their number."""
    count = 200
    x, y = (
        np.arange(count, dtype=float)[:, None] + np.zeros(6),
        np.arange(count) * 7 % 3,
    )
    train, test = nb.Part(x, y, "blue"), nb.Part(x[:9], y[:9], "green")
    data = nb.Data(train, scored(nb, 3, 0, "red"), test, ["a", "b", "c"], (2, 3))

    def evaluate(model, part):
        assert part is test
        return nb.Score(part.name, 0.0, len(model) / 1000)

    def fit(make_model, part, valid=None, seed=0, **settings):
        fits.append((make_model, part, valid, seed, settings))
        score = nb.Score(part.name, 0.0, 0.5 + seed / 10)
        return nb.Run(part.y, seed, settings, {}, score, None)

    monkeypatch.setattr(nb, "evaluate", evaluate)
    monkeypatch.setattr(nb, "fit", fit)
    make, settings = object(), {"epochs": 2, "lam": 0.6}
    whole = [
        nb.Run(y, seed, settings, {}, nb.Score("blue", 0.0, seed / 100), None)
        for seed in (1, 2, 3)
    ]
    points = nb.learning_curve(make, data, whole)
    assert settings == {"epochs": 2, "lam": 0.6} and nb.PERCENTAGES == [10, 20, 50, 100]
    places = [(k, seed) for k in nb.PERCENTAGES for seed in (1, 2, 3)]
    assert [(point.percentage, point.seed) for point in points] == places
    chosen = {}
    assert len(fits) == 9
    for (made, part, valid, seed, given), place in zip(fits, places, strict=False):
        picked = part.x[:, 0].astype(int)
        np.testing.assert_array_equal(part.x, x[picked])
        np.testing.assert_array_equal(part.y, y[picked])
        k = len(picked) // 2
        assert len(set(picked)) == len(picked) and (k, seed) == place
        assert given == {"epochs": 2, "lam": pytest.approx(0.6 * 100 / k)}
        assert made is make and valid is None
        assert f"{k} %" in part.name and "blue" in part.name
        chosen[k, seed] = frozenset(picked)
    for k in nb.PERCENTAGES[:-1]:  # all differ, and none is simply the first 2 k
        assert len({frozenset(range(2 * k)), *(chosen[k, s] for s in (1, 2, 3))}) == 4
    for point in points:
        small = point.percentage < 100
        trained = 0.5 + point.seed / 10 if small else point.seed / 100
        assert point.train.accuracy == trained
        assert point.test == ("green", 0.0, point.percentage / 500)


def test_at_percentage(nb):
    points = [
        nb.CurvePoint(k, s, nb.Score("", 0, k + s), nb.Score("", 0, k - s))
        for k in (10, 100)
        for s in (1, 2)
    ]
    assert nb.at_percentage(points, 10, "train") == [11, 12]
    assert nb.at_percentage(points, 100, "test") == [99, 98]
