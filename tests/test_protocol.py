"""Question 1's protocol with stub models, its statistics, and the figures that show it."""

import math

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from scipy.stats import binomtest

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def plots(nb):
    """The module that the notebook imports."""
    return nb.plots


def coded(marks, count=4):
    """A set of `count` images in each of 3 classes, in order; every pixel holds the mark."""
    y = np.repeat(np.arange(3), count)
    return np.full((len(y), 6), float(marks)), y


@pytest.fixture
def data(nb):
    """Sets that a stub model can tell apart by their pixels: 1 train, 2 valid, 3 test, 4 full."""
    sets = [coded(mark, count) for mark, count in ((1, 4), (2, 2), (3, 3), (4, 5))]
    return nb.Data(*sets, names=["a", "b", "c"], shape=(2, 3))


class Known:
    """A model that gets the given fraction of each set right, by the mark of its pixels."""

    def __init__(self, **fractions):
        self.fractions = dict(zip((1, 2, 3, 4), fractions.values(), strict=False))

    def forward(self, x):
        count = len(x)
        y = np.repeat(np.arange(3), count // 3)
        right = np.arange(count) < round(self.fractions[x[0, 0]] * count)
        return np.eye(3)[np.where(right, y, (y + 1) % 3)]


class Fixed:
    """A model whose scores are its inputs, so that a test writes them down."""

    def __init__(self, chunks=None):
        self.chunks = [] if chunks is None else chunks

    def forward(self, x):
        self.chunks.append(len(x))
        return np.asarray(x, float)


@pytest.fixture
def fits(nb, monkeypatch):
    """Records the calls of fit; `fits.answer` makes (model, history), or raises, for a call."""

    class Fits(list):
        answer = None

        def __call__(self, make_model, train_set, valid_set=None, seed=0, **settings):
            call = {"make": make_model, "train": train_set, "valid": valid_set, "seed": seed}
            self.append(call | {"settings": {k: v for k, v in settings.items() if k != "label"}})
            return self.answer(self[-1])

    recorded = Fits()
    monkeypatch.setattr(nb, "fit", recorded)
    return recorded


def run_of(accuracy, model=None):
    """A run (model, history) that ends at that validation accuracy, better before."""
    rows = [(1, 0.2, 0.999), (2, 0.1, accuracy)]
    return model, {"train": [(0.5, 0.4, 0.01), (1.5, 0.3, 0.02)], "valid": rows}


GRID = {"lam": (0.0, 0.5), "learning_rate": (1, 2, 3)}


# --- Tuning ----------------------------------------------------------------------------------


def test_pairs_go_row_by_row(nb):
    pairs = nb.grid_pairs(GRID)
    assert [(p["lam"], p["learning_rate"]) for p in pairs] == [
        (lam, rate) for lam in (0.0, 0.5) for rate in (1, 2, 3)
    ]
    assert all(list(pair) == ["lam", "learning_rate"] for pair in pairs)


def test_grid_search_trains_every_pair_and_reports_training_then_validation(nb, data, fits):
    def answer(call):
        lam, rate = call["settings"]["lam"], call["settings"]["learning_rate"]
        if (lam, rate) == (0.5, 3):
            raise FloatingPointError("diverged")
        train = {(0.0, 1): 3, (0.0, 2): 6, (0.0, 3): 9, (0.5, 1): 12, (0.5, 2): 0}[lam, rate]
        return Known(train=train / 12, valid=(2 if rate == 1 else 5) / 6), {}

    fits.answer = answer
    make, budget = object(), {"epochs": 7, "batch_size": 9, "lam": 99.0}
    found = nb.grid_search(make, data, GRID, **budget)
    assert [call["settings"] for call in fits] == [
        {"epochs": 7, "batch_size": 9, "lam": lam, "learning_rate": rate}
        for lam in GRID["lam"]
        for rate in GRID["learning_rate"]
    ]
    assert all(call["train"] is data.train and call["make"] is make for call in fits)
    train = np.array([[3, 6, 9], [12, 0, np.nan]]) / 12
    valid = np.array([[2, 5, 5], [2, 5, np.nan]]) / 6
    np.testing.assert_allclose(found, [train, valid])  # nan only where it must be


def test_grid_search_lets_other_errors_through(nb, data, fits):
    def answer(call):
        raise ZeroDivisionError

    fits.answer = answer
    with pytest.raises(ZeroDivisionError):
        nb.grid_search(object(), data, GRID)


def test_final_accuracy_is_the_last_validation(nb):
    assert nb.final_accuracies([run_of(0.7), run_of(0.8)]) == [0.7, 0.8]


def pairs_of(fitted):
    return [(settings["lam"], settings["learning_rate"]) for settings, _ in fitted]


def test_leaders_are_fitted_from_three_seeds_and_sorted_by_validation(nb, data, fits):
    finals = {(0.0, 3): (0.5, 0.5, 0.5), (0.5, 2): (0.9, 0.0, 0.0)}  # the best first seed
    finals |= {(0.5, 1): (0.4, 0.6, 0.8), (0.0, 1): (0.1, 0.1, 0.1)}  # the best mean
    fits.answer = lambda call: run_of(
        finals[call["settings"]["lam"], call["settings"]["learning_rate"]][call["seed"]],
        model=call["seed"],
    )
    valid = np.array([[0.3, np.nan, 0.9], [0.5, 0.8, 0.1]])
    accuracies, make = np.stack([1 - valid, valid]), object()  # training says the opposite
    fitted = nb.fit_leaders(make, data, GRID, accuracies, epochs=5, lam=99.0)
    assert pairs_of(fitted) == [(0.5, 1), (0.0, 3), (0.5, 2), (0.0, 1)]
    assert all(settings["epochs"] == 5 and len(settings) == 3 for settings, _ in fitted)
    for settings, runs in fitted:
        means = finals[settings["lam"], settings["learning_rate"]]
        assert [model for model, _ in runs] == [0, 1, 2]
        assert nb.final_accuracies(runs) == list(means)
    assert [call["seed"] for call in fits] == 4 * [0, 1, 2]
    assert all(call["train"] is data.train and call["valid"] is data.valid for call in fits)
    assert all(call["make"] is make and call["settings"]["epochs"] == 5 for call in fits)


@pytest.mark.parametrize(
    ("valid", "leaders"),
    [
        ([[0.5, 0.9, 0.9], [0.9, 0.5, 0.9]], [(0.0, 2), (0.0, 3), (0.5, 1), (0.5, 3)]),
        ([[np.nan, 0.1, np.nan], [0.3, 0.0, 0.2]], [(0.5, 1), (0.5, 3), (0.0, 2), (0.5, 2)]),
    ],
    ids=["ties", "nan"],
)
def test_ties_of_the_grid_keep_its_order_and_nan_comes_last(nb, data, fits, valid, leaders):
    fits.answer = lambda call: run_of(0.5)
    fitted = nb.fit_leaders(object(), data, GRID, np.array([np.zeros((2, 3)), valid]))
    assert pairs_of(fitted) == leaders


def test_many_ties_keep_their_order(nb, data, fits):
    fits.answer = lambda call: run_of(0.5)
    grid, accuracies = {"lam": range(8), "learning_rate": range(8)}, np.arange(128) % 2
    fitted = nb.fit_leaders(object(), data, grid, accuracies.reshape(2, 8, 8))
    assert pairs_of(fitted) == [(0, 1), (0, 3), (0, 5), (0, 7)]


# --- The test set ----------------------------------------------------------------------------


def test_fit_and_test(nb, plots, data, fits, capsys):
    first, second = (Known(train=0, valid=0, test=n / 9, full=0) for n in (6, 1))
    fits.answer = lambda call: (Known(train=0, valid=0, test=8 / 9, full=0), {})
    make, settings = object(), {"epochs": 3, "lam": 0.25}
    runs = [run_of(0.9, first), run_of(0.8, second)]
    tested, report = nb.fit_and_test("Net", make, data, settings, runs)
    (call,) = fits
    assert call["train"] is data.full and call["valid"] is None and call["seed"] == 0
    assert call["settings"] == settings and call["make"] is make
    np.testing.assert_array_equal(tested, np.arange(9) < 6)
    assert list(report.items()) == [
        ("Net validation", plots.mean_sd([0.8, 0.9])),
        ("Net test, from 12", plots.percent(*nb.wilson(np.arange(9) < 6))),
        ("Net test, from 15", plots.percent(*nb.wilson(np.arange(9) < 8))),
    ]
    said = capsys.readouterr().out
    assert said == "only the refit right : only the first model: 2 : 0, p = 0.500\n"


def test_the_refit_looks_at_nothing_but_all_training_images(nb, data, fits):
    """Neither model sees another set than the test set."""
    seen = []

    class Watched(Known):
        def forward(self, x):
            seen.append(x[0, 0])
            return super().forward(x)

    fits.answer = lambda call: (Watched(train=0, valid=0, test=1), {})
    runs = [run_of(0.9, Watched(train=0, valid=0, test=0)), run_of(0.8)]
    nb.fit_and_test("Net", object(), data, {}, runs)
    assert set(seen) == {3.0}


def test_fit_and_show(nb, plots, data, fits, monkeypatch, capsys):
    """Trains on the training set, shows the run, and quotes validation before training."""
    model, drawn = Known(train=6 / 12, valid=0), []  # a look at the test set is a KeyError
    run = run_of(0.75, model)
    fits.answer = lambda call: run
    monkeypatch.setattr(plots, "histories", lambda *given: drawn.append(given))
    make, settings = object(), {"epochs": 5, "batches": object()}
    found, answer = nb.fit_and_show("Net", make, data, **settings)
    (call,) = fits
    assert call["make"] is make and call["train"] is data.train and call["valid"] is data.valid
    assert call["settings"] == settings | {"valid_every": 5} and call["seed"] == 0
    assert found is model and drawn == [([run], "Net, distorted digits")]
    assert answer == "75.00 %, training 50.00 %"
    assert answer in capsys.readouterr().out


# --- Statistics ------------------------------------------------------------------------------


@pytest.mark.parametrize(("hits", "count"), [(0, 10), (3, 10), (10, 10), (917, 1000)])
def test_wilson_is_its_formula(nb, hits, count):
    accuracy, low, high = nb.wilson(np.arange(count) < hits)
    p, z = hits / count, 1.959963984540054
    middle = (p + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(p * (1 - p) / count + z**2 / (4 * count**2))
    assert accuracy == pytest.approx(p)
    assert (low, high) == pytest.approx((middle - half, middle + half), abs=1e-9)


def test_mcnemar_is_the_binomial_test_of_the_disagreements(nb, rng):
    a, b = rng.random((2, 200)) < [[0.8], [0.6]]
    only_a, only_b = sum(a & ~b), sum(b & ~a)
    assert only_a != only_b
    expected = binomtest(only_a, only_a + only_b, 0.5).pvalue
    assert nb.mcnemar(a, b) == pytest.approx((only_a, only_b, expected))
    assert nb.mcnemar(b, a) == pytest.approx((only_b, only_a, expected))


def test_mcnemar_without_disagreement(nb):
    same = np.array([True, False, True])
    assert nb.mcnemar(same, same) == (0, 0, 1.0)


# --- Learning curve --------------------------------------------------------------------------


def test_learning_curve(nb, data, fits, monkeypatch):
    """The stub of fit returns its call as the model; with all of the data there is no call."""
    count = 200
    x, y = np.arange(count, dtype=float)[:, None] + np.zeros(6), np.arange(count) * 7 % 3
    data = data._replace(train=(x, y))

    def evaluate(model, dataset):
        size, seed = len(model["train"][1]), model["seed"]
        if dataset is data.test:
            return -1.0, size / 1000 + seed / 10
        assert dataset[0] is model["train"][0] and dataset[1] is model["train"][1]
        return -1.0, 0.5 + size / 1000 + seed / 10

    monkeypatch.setattr(nb, "evaluate", evaluate)
    fits.answer = lambda call: (call, {})
    make, settings = object(), {"epochs": 2, "lam": 0.6}
    runs = [({"train": data.train, "seed": seed}, {}) for seed in range(3)]
    accuracies = nb.learning_curve(make, data, settings, runs)
    assert nb.FRACTIONS == (0.1, 0.2, 0.5, 1.0) and settings == {"epochs": 2, "lam": 0.6}
    sizes, seeds = np.array([20, 40, 100, 200]), np.arange(3)
    tested = sizes[:, None] / 1000 + seeds / 10
    np.testing.assert_allclose(accuracies, [0.5 + tested, tested])
    chosen = {}
    for call in fits:
        picked = call["train"][0][:, 0].astype(int)
        assert len(set(picked)) == len(picked)
        np.testing.assert_array_equal(call["train"][0], x[picked])
        np.testing.assert_array_equal(call["train"][1], y[picked])
        lam = pytest.approx(0.6 * count / len(picked))  # N lam is constant
        assert call["settings"] == {"epochs": 2, "lam": lam} and call["make"] is make
        chosen[len(picked), call["seed"]] = set(picked)
    assert len(fits) == 9 and sorted(chosen) == [(n, k) for n in sizes[:3] for k in seeds]
    for n in sizes[:3]:
        parts = [chosen[n, k] for k in seeds] + [set(range(n))]
        assert len(set(map(frozenset, parts))) == 4  # all differ, and none is simply the first n


# --- The trainer, on a stub ------------------------------------------------------------------


class Pulled:
    """One weight with a constant gradient, which counts the steps; scores are the inputs."""

    def __init__(self, rows=None):
        self.W, self.grad = np.zeros(1), np.ones(1)
        self.lams, self.path, self.rows = [], [], rows

    def forward(self, x):
        self.path.append(self.W.item())
        self.sizes = [*getattr(self, "sizes", []), len(x)]
        return x

    def backward(self, grad, lam):
        self.lams.append(lam)
        self.last = grad

    def parameters(self):
        return [(self.W, self.grad)]


def scored(count, wrong):
    """Inputs that are their own scores: the last `wrong` of the images are predicted wrong."""
    y = np.arange(count) % 3
    x = np.eye(3)[np.where(np.arange(count) < count - wrong, y, (y + 1) % 3)]
    return x * np.linspace(1, 3, count)[:, None], y


def in_order(x, y, batch_size, rng):
    for start in range(0, len(x), batch_size):
        yield x[start : start + batch_size], y[start : start + batch_size]


def train(nb, model, *sets, **changes):
    settings = {"epochs": 2, "batch_size": 4, "learning_rate": 0.5, "batches": in_order}
    return nb.train(model, *sets, **settings | {"rng": np.random.default_rng(0)} | changes)


@pytest.mark.parametrize(("count", "sizes"), [(10, [4, 4, 2]), (12, [4, 4, 4])])
def test_rates_fall_by_half_a_cosine(nb, count, sizes):
    model = Pulled()
    train(nb, model, scored(count, 0))
    expected = [0.5 * math.cos(math.pi * step / 12) ** 2 for step in range(6)]
    steps = -np.diff([*model.path, model.W.item()])
    assert steps == pytest.approx(expected)
    assert model.sizes == sizes * 2  # a short last batch counts as a step


def test_training_rows_are_means_over_images_not_batches(nb):
    x, y = scored(10, 2)  # the two wrong ones are the short last batch
    rows = train(nb, Pulled(), (x, y))["train"]
    p = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    expected = -np.log(p[np.arange(10), y]).mean(), 0.8
    assert [row[0] for row in rows] == [0.5, 1.5]
    for row in rows:
        assert row[1:] == pytest.approx(expected)


def test_lam_goes_to_backward_and_the_gradient_stays(nb):
    model = Pulled()
    train(nb, model, scored(10, 0), lam=0.25)
    assert model.lams == [0.25] * 6
    np.testing.assert_array_equal(model.grad, [1])
    model = Pulled()
    train(nb, model, scored(10, 0))
    assert model.lams == [0.0] * 6


def test_backward_gets_the_loss_gradient_of_the_batch(nb):
    model, (x, y) = Pulled(), scored(10, 3)
    train(nb, model, (x, y))
    np.testing.assert_array_equal(model.last, nb.loss_backward(y[8:], x[8:]))


@pytest.mark.parametrize(("every", "at"), [(1, [1, 2, 3, 4, 5]), (2, [1, 3, 5]), (9, [5])])
def test_validation_rows(nb, every, at):
    valid = scored(6, 3)
    history = train(nb, Pulled(), scored(8, 0), valid, epochs=5, valid_every=every)
    loss = nb.loss_function(valid[1], valid[0])
    assert history["valid"] == [(epoch, pytest.approx(loss), 0.5) for epoch in at]


@pytest.mark.parametrize("scores", [(0, np.nan, 0), (1e308, -1e308, 0)], ids=["nan", "inf"])
def test_divergence_is_an_error_in_training_and_in_validation(nb, scores):
    good, bad = scored(8, 0), scored(8, 0)
    bad[0][7] = scores
    for sets in (bad,), (good, bad):
        with pytest.raises(FloatingPointError, match="learning rate"):
            train(nb, Pulled(), *sets)
    model = Pulled()
    with pytest.raises(FloatingPointError):
        train(nb, model, bad)
    assert len(model.path) == 2 and len(model.lams) == 1  # no step after the bad loss


def test_fit_makes_and_trains_from_one_seed(nb):
    seen = []

    def make_model(rng):
        seen.append(rng.random())
        return nb.Single_layer_classifier(3, 3, rng=rng)

    settings = {"epochs": 2, "batch_size": 4, "learning_rate": 0.5, "lam": 0.125}
    sets = scored(10, 3), scored(6, 3)
    for seed in 0, 3:
        model, history = nb.fit(make_model, *sets, seed, **settings)
        rng = np.random.default_rng(seed)
        again = make_model(rng)
        assert nb.train(again, *sets, rng=rng, **settings) == history
        np.testing.assert_array_equal(model.W, again.W)
    assert seen[0] == seen[1] != seen[2] == seen[3]
    first, _ = nb.fit(make_model, *sets, **settings)
    assert seen[4] == seen[0] and not np.array_equal(first.W, model.W)


# --- Predictions -----------------------------------------------------------------------------


def test_predicted_class_is_the_largest_or_none(nb):
    scores = np.array([[3, 1, 2], [0, 0, 5], [np.nan, 8, 7], [1, np.nan, 0], [-np.inf, -9, -9]])
    np.testing.assert_array_equal(nb.predict_class(scores), [0, 2, -1, -1, 1])
    assert nb.count_correct(np.array([0, 1, 1, 0, 1]), scores) == 2
    assert isinstance(nb.count_correct(np.array([0]), scores[:1]), int)


def test_scores_come_in_chunks(nb, rng):
    x, model = rng.standard_normal((4500, 3)), Fixed()
    np.testing.assert_array_equal(nb.predict_scores(model, x), x)
    assert model.chunks == [1000, 1000, 1000, 1000, 500]
    model = Fixed()
    np.testing.assert_array_equal(nb.predict_scores(model, x[:7], chunk=3), x[:7])
    assert model.chunks == [3, 3, 1]


def test_evaluate_is_over_all_images(nb, rng):
    x, y = rng.standard_normal((4500, 3)), rng.integers(0, 3, 4500)
    loss, accuracy = nb.evaluate(Fixed(), (x, y))
    assert loss == pytest.approx(nb.loss_function(y, x))
    assert accuracy == np.mean(x.argmax(axis=1) == y)
    np.testing.assert_array_equal(nb.correct(Fixed(), (x, y)), x.argmax(axis=1) == y)


def test_class_accuracies(nb):
    y = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2])
    predicted = np.array([0, 1, 1, 1, 1, 2, 2, 0, 2])
    confusion, accuracies = nb.class_accuracies(Fixed(), (np.eye(3)[predicted], y), 3)
    np.testing.assert_array_equal(confusion, [[1, 2, 0], [0, 2, 0], [1, 0, 3]])
    expected = [nb.wilson(np.arange(n) < k) for k, n in ((1, 3), (2, 2), (3, 4))]
    assert accuracies == expected


def test_confusion_has_all_classes_even_those_never_predicted(nb):
    y = np.array([0, 1, 3, 2])
    confusion, _ = nb.class_accuracies(Fixed(), (np.eye(4)[[0, 0, 0, 0]], y), 4)
    np.testing.assert_array_equal(confusion, np.eye(4)[[0] * 4])


def test_confusion_leaves_out_what_has_no_class(nb):
    x, y = np.eye(3)[[0, 1, 2, 2]], np.array([0, 1, 2, 1])
    x[3, 0] = np.nan
    confusion, accuracies = nb.class_accuracies(Fixed(), (x, y), 3)
    np.testing.assert_array_equal(confusion, np.eye(3))
    assert [value for value, _, _ in accuracies] == [1, 0.5, 1]


def test_most_confident_mistakes(nb):
    """Confidence is a probability: the largest score is not the surest."""
    x = np.array([[9, 0, 0], [50, 49, 0], [0, 3, 0], [0, 0, 5], [1, 0, 0], [0, 4, 0.0]])
    y = np.array([0, 1, 0, 1, 2, 1])  # wrong: 1 (p 0.73), 2 (0.91), 3 (0.99), 4 (0.58)
    worst, predicted = nb.most_confident_mistakes(Fixed(), (x, y), 3)
    np.testing.assert_array_equal(worst, [3, 2, 1])
    np.testing.assert_array_equal(predicted, [2, 1, 0])
    worst, predicted = nb.most_confident_mistakes(Fixed(), (x, y), 20)  # never the right ones
    np.testing.assert_array_equal(worst, [3, 2, 1, 4])
    np.testing.assert_array_equal(predicted, [2, 1, 0, 0])
    worst, predicted = nb.most_confident_mistakes(Fixed(), (x[:1], y[:1]), 20)
    assert len(worst) == len(predicted) == 0


# --- Texts and tables ------------------------------------------------------------------------


def test_texts(plots):
    assert plots.percent(0.12344) == "12.34 %"
    assert plots.percent(0.5, 0.4, 0.625) == "50.00 % (40.00 to 62.50)"
    assert plots.percent(0.5, 0.0, 0.625) == "50.00 % (0.00 to 62.50)"
    assert plots.mean_sd([0.1, 0.2, 0.6]) == f"30.00 ± {100 * math.sqrt(0.07):.2f} %"  # n - 1
    assert plots.paired(3, 12, 0.0352) == "3 : 12, p = 0.035"
    assert plots.paired(3, 40, 0.00099) == "3 : 40, p < 0.001"
    assert plots.paired(40, 3, 0.001) == "40 : 3, p = 0.001"
    assert plots.numbers([-0.0, 1 / 3, 1234567]) == ["0", "0.333333", "1.23457e+06"]
    accuracies = [(0.5, 0.4, 0.6), (0.9, 0.8, 1.0), (0.3, 0.2, 0.4)]
    found = plots.best_and_worst(accuracies, ["a", "b", "c"])
    assert found == "best b: 90.00 %, worst c: 30.00 %"


@pytest.fixture
def tables(plots, monkeypatch):
    """The Markdown texts that are displayed."""
    texts = []
    monkeypatch.setattr(plots, "display", lambda shown, metadata=None: texts.append(shown.data))
    return texts


def cells(text):
    lines = text.replace("\N{NO-BREAK SPACE}", " ").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_table(plots, tables):
    plots.table(["what", "n", "share"], [("x", 3, "5 %"), ("y", 4, "6 %")])
    assert tables == [
        "| what | n | share |\n| :-- | --: | --: |\n| x | 3 | 5\N{NO-BREAK SPACE}% |\n"
        "| y | 4 | 6\N{NO-BREAK SPACE}% |"
    ]


def test_table_carries_its_metadata(plots, monkeypatch):
    calls = []
    monkeypatch.setattr(plots, "display", lambda shown, metadata: calls.append(metadata))
    plots.table(["item"], [], metadata={"results": {}})
    assert calls == [{"results": {}}]


def test_progress_is_a_line_that_goes(plots, capsys):
    assert list(plots.progress("abc", None)) == ["a", "b", "c"]
    assert capsys.readouterr() == ("", "")
    assert list(plots.progress("abc", "training")) == ["a", "b", "c"]
    out, err = capsys.readouterr()
    assert "training: " in out and not out.rstrip("\r").rpartition("\r")[2].strip() and err == ""


def test_candidates_table(plots, tables):
    fitted = [
        ({"learning_rate": 2.0, "epochs": 5, "lam": 3e-4}, [run_of(0.5), run_of(0.7)]),
        ({"learning_rate": 0.1, "epochs": 5, "lam": 0.0}, [run_of(0.4), run_of(0.4)]),
    ]
    plots.candidates(GRID, fitted, [0.75, 0.25])
    assert cells(tables[0]) == [
        ["λ", "learning rate", "training, first seed", "validation, all seeds"],
        [":--", "--:", "--:", "--:"],
        ["0.0003", "2", "75.00 %", "60.00 ± 14.14 %"],
        ["0", "0.1", "25.00 %", "40.00 ± 0.00 %"],
    ]


# --- Figures ---------------------------------------------------------------------------------


def lines_of(ax):
    return {line.get_label(): np.array(line.get_data()) for line in ax.lines}


def test_histories(plots, shown):
    train = [(0.5, 2.0, 0.5), (1.5, 1.0, 0.75)]
    other = [(0.5, 4.0, 0.7), (1.5, 1.0, 0.95)]
    valid = [[(2, 0.5, accuracy)] for accuracy in (0.8, 0.9)]
    histories = zip((train, other), valid, strict=True)
    runs = [(None, {"train": t, "valid": v}) for t, v in histories]
    plots.histories(runs, "Title")
    ((fig, alt),) = shown
    loss, error = fig.axes
    assert "Title" in alt and fig._suptitle.get_text() == "Title"
    assert loss.get_ylabel() == "cross-entropy (nats)" and error.get_ylabel() == "error (%)"
    assert loss.get_xlabel() == error.get_xlabel() == "epoch"
    assert loss.get_yscale() == error.get_yscale() == "log"
    for ax, train_y, valid_y in (loss, [3, 1], [0.5]), (error, [40, 15], [15]):
        lines = lines_of(ax)
        assert list(lines) == ["training", "validation"]
        np.testing.assert_allclose(lines["training"], [[0.5, 1.5], train_y])
        np.testing.assert_allclose(lines["validation"], [[2], valid_y])
    (legend,) = fig.legends
    assert [text.get_text() for text in legend.get_texts()] == ["training", "validation"]
    band = loss.collections[0].get_paths()[0].vertices  # mean ± sample deviation
    at_first = band[band[:, 0] == 0.5][:, 1]
    assert (at_first.min(), at_first.max()) == pytest.approx((3 - 2**0.5, 3 + 2**0.5))


def test_histories_of_one_run_have_no_band(plots, shown):
    run = None, {"train": [(0.5, 2.0, 0.5), (1.5, 1.0, 0.75)], "valid": [(1, 2, 0.5), (2, 1, 0.6)]}
    plots.histories([run], "One")
    band = shown[0][0].axes[0].collections[0].get_paths()[0].vertices
    assert set(map(tuple, band)) == {(0.5, 2), (1.5, 1)}


@pytest.mark.parametrize(("low", "high", "between"), [(2, 9, True), (0.02, 2000, False)])
def test_log_axis_has_plain_numbers(plots, low, high, between):
    """Also between the powers of ten, if there is room."""
    fig, ax = plt.subplots()
    ax.plot([0, 1], [low, high])
    plots.log_axis(ax.yaxis)
    fig.canvas.draw()
    major, minor = ({t.get_text() for t in ax.get_yticklabels(minor=m)} for m in (False, True))
    plt.close(fig)
    assert ax.get_yscale() == "log" and ax.get_xscale() == "linear"
    assert {"1", "10"} <= major and all(f"{float(text):g}" == text for text in major)
    assert ("2" in minor) == any(minor) == between


def cell_texts(ax, shape):
    found = {t.get_position(): t.get_text() for t in ax.texts}
    return [[found[j, i] for j in range(shape[1])] for i in range(shape[0])]


def test_heat_maps(plots, shown):
    trained = np.array([[0.99, 0.80, 0.70], [0.90, 0.95, np.nan]])
    valid = np.array([[0.80, 0.85, 0.71], [0.60, 0.84, np.nan]])
    plots.heat_maps(np.array([trained, valid]), GRID, "Toy")
    ((fig, alt),) = shown
    left, right = fig.axes
    assert "Toy" in alt and "λ" in alt and "learning rate" in alt
    assert cell_texts(left, (2, 3)) == [["80.00", "85.00", "71.00"], ["60.00", "84.00", "–"]]
    assert cell_texts(right, (2, 3)) == [["19.00", "-5.00", "-1.00"], ["30.00", "11.00", "–"]]
    np.testing.assert_allclose(left.images[0].get_array().filled(np.nan), 100 * valid)
    np.testing.assert_allclose(right.images[0].get_array().filled(np.nan), 100 * (trained - valid))
    assert left.images[0].get_clim() == pytest.approx((82, 85))
    assert right.images[0].get_clim() == pytest.approx((-30, 30))
    assert left.get_title().startswith("validation") and right.get_title().startswith("training −")
    colours = {t.get_text(): t.get_color() for t in left.texts}  # against yellow, dark and nothing
    assert (colours["85.00"], colours["60.00"], colours["–"]) == ("black", "white", "black")
    (frame,) = left.patches
    assert not right.patches and not frame.get_fill()
    assert (frame.get_center()[0], frame.get_center()[1]) == pytest.approx((1, 0))  # 85.00
    for ax in left, right:
        assert ax.get_ylabel() == "λ" and ax.get_xlabel() == "learning rate"
        assert [t.get_text() for t in ax.get_xticklabels()] == ["1", "2", "3"]
        assert [t.get_text() for t in ax.get_yticklabels()] == ["0", "0.5"]


def test_images_and_their_titles(plots, shown):
    pictures = np.arange(5)[:, None, None] / 10 + np.zeros((5, 2, 3))
    plots.images(pictures, "Five", list("vwxyz"), columns=3, row_names=["top", "below"])
    ((fig, alt),) = shown
    assert alt == "Five" == fig._suptitle.get_text() and len(fig.axes) == 6
    for k, title in enumerate("vwxyz"):
        np.testing.assert_array_equal(fig.axes[k].images[0].get_array(), pictures[k])
        assert fig.axes[k].get_title() == title
    assert not fig.axes[5].images and fig.axes[5].get_title() == ""
    assert [ax.get_ylabel() for ax in fig.axes] == ["top", "", "", "below", "", ""]


def test_mistakes_are_titled_true_to_predicted(plots, shown, data):
    x, y = data.test
    data = data._replace(test=(x + np.arange(9)[:, None], y))
    plots.mistakes(data, np.array([7, 1, 4]), np.array([0, 2, 0]), "Wrong")
    ((fig, alt),) = shown
    assert alt.startswith("Wrong: its 3 most confident mistakes")
    for ax, k, title in zip(fig.axes, (7, 1, 4), ("c → a", "a → c", "b → a"), strict=False):
        np.testing.assert_array_equal(ax.images[0].get_array(), np.full((2, 3), 3.0 + k))
        assert ax.get_title() == title


def test_templates(plots, shown, rng):
    rows = {"first": rng.standard_normal((6, 3)), "second": 5 * rng.standard_normal((6, 3))}
    plots.templates(rows, ["a", "b", "c"], (2, 3), "Weights")
    ((fig, alt),) = shown
    assert "orange for" in alt
    for row, W in enumerate(rows.values()):
        for k in range(3):
            ax = fig.axes[3 * row + k]
            expected = W[:, k].reshape(2, 3) / np.percentile(abs(W), 99.5)
            np.testing.assert_allclose(ax.images[0].get_array(), expected)
            assert ax.images[0].get_clim() == (-1, 1)
    assert [ax.get_title() for ax in fig.axes] == ["a", "b", "c", "", "", ""]
    assert [fig.axes[k].get_ylabel() for k in (0, 3)] == ["first", "second"]


def test_classes(plots, shown):
    confusion = np.array([[7, 1, 2], [0, 9, 1], [4, 1, 5]])
    accuracies = [(0.7, 0.6, 0.75), (0.9, 0.85, 0.92), (0.5, 0.3, 0.7)]
    plots.classes(confusion, accuracies, ["a", "b", "c"], "Toy")
    ((fig, alt),) = shown
    left, right = fig.axes
    assert alt.startswith("Toy: test accuracy") and fig._suptitle.get_text() == alt
    marked = {line.get_label(): line for line in left.lines[-2:]}
    positions = {name: (*line.get_xdata(), *line.get_ydata()) for name, line in marked.items()}
    assert positions == {"best": (90, "b"), "worst": (50, "c")}
    assert to_hex(marked["best"].get_color()).upper() == plots.GREEN
    assert to_hex(marked["worst"].get_color()).upper() == plots.ORANGE
    (bars,) = left.collections
    intervals = [(s[0, 0], s[1, 0]) for s in bars.get_segments()]
    np.testing.assert_allclose(intervals, [(60, 75), (85, 92), (30, 70)])
    assert left.yaxis_inverted()
    np.testing.assert_array_equal(right.images[0].get_array(), confusion)
    assert right.get_ylabel() == "true" and right.get_xlabel() == "predicted"
    assert right.images[0].get_clim()[1] == pytest.approx(2.5 * 4)  # the largest mistake


def test_learning_curves(plots, shown, tables):
    trained = np.array([[0.9, 1.0], [0.8, 0.9]])
    tested = np.array([[0.5, 0.7], [0.75, 0.75]])
    curves = {"one": (trained, tested), "two": (trained, tested / 2)}
    text = plots.learning_curves(curves, (0.1, 1.0), 420)
    assert text == "30.00 ± 7.07 % to 37.50 ± 0.00 %"
    ((fig, alt),) = shown
    (ax,) = fig.axes
    lines = lines_of(ax)
    np.testing.assert_allclose(lines["one"], [[42, 420], [40, 25]])
    np.testing.assert_allclose(lines["two"], [[42, 420], [70, 62.5]])
    assert ax.get_xlabel() == "training images" and ax.get_ylabel() == "test error (%)"
    assert ax.get_xscale() == "log" and "test error" in alt
    assert [t.get_text() for t in ax.get_xticklabels()] == ["42", "420"]
    assert cells(tables[0]) == [
        ["accuracy", "10% of the data", "100% of the data"],
        [":--", "--:", "--:"],
        ["one: training", "95.00 ± 7.07 %", "85.00 ± 7.07 %"],
        ["one: test", "60.00 ± 14.14 %", "75.00 ± 0.00 %"],
        ["two: training", "95.00 ± 7.07 %", "85.00 ± 7.07 %"],
        ["two: test", "30.00 ± 7.07 %", "37.50 ± 0.00 %"],
    ]


def test_staircase(plots, shown):
    steps = {"one": (0.8, 0.75, 0.9), "two, of a longer name": (0.98, 0.97, 0.985)}
    plots.staircase(steps)
    ((fig, alt),) = shown
    (ax,) = fig.axes
    assert alt == "Test error, with 95 % intervals: one, two, of a longer name"
    assert ax.get_ylabel() == "test error (%)" and ax.get_yscale() == "log"
    names = [label.get_text().replace("\n", " ") for label in ax.get_xticklabels()]
    assert names == [*steps]
    (bars,) = ax.collections
    np.testing.assert_allclose(bars.get_segments(), [[[0, 10], [0, 25]], [[1, 1.5], [1, 3]]])
    for line in ax.lines[:2]:  # the steps, and the points
        np.testing.assert_allclose(line.get_xydata(), [[0, 20], [1, 2]])
    assert [(t.get_text(), t.xy) for t in ax.texts] == [
        ("20.00 %", (0, pytest.approx(20))), ("2.00 %", (1, pytest.approx(2)))
    ]  # fmt: skip


def test_a_figure_is_displayed_once_with_its_text_and_closed(plots, monkeypatch):
    calls = []
    monkeypatch.setattr(plots, "display", lambda fig, metadata: calls.append((fig, metadata)))
    fig = plt.figure()
    plots.show(fig, "what it shows")
    assert calls == [(fig, {"image/png": {"alt": "what it shows"}})]
    assert not plt.fignum_exists(fig.number)
