"""Contracts of the notebook's experiments: what was trained on what, what was chosen,
what was tested, and whether tables, figures, printed lines and answers say that.

The whole notebook is rehearsed once on few images (see rehearsal.py, which also says
what is different there); each test looks at what the witnesses wrote down, and computes
it once more with functions of its own. The definitions have unit tests elsewhere.

To add a contract, write a test that takes `seen`, the Rehearsal:

- `seen["softmax_model"]` is what that name of the notebook stands for at the end;
- `seen.of("fit", "q1-init")` are the calls of a function in a cell: `call.given` by the
  names of its parameters, `call.result`, `call.before` (the weights before the call).
  To see another function, add its name to WATCHED in rehearsal.py;
- `seen.text(cell)`, `seen.figure(cell)`, `seen.table_of(cell)`: what a cell shows.

State what must hold for any settings: take numbers, seeds and captions from what was
recorded, never from the notebook's source. A new answer of the notebook needs a
function that computes its numbers once more, registered with `@answers`."""

import copy
import gzip
import itertools
import math
import re
from collections import Counter, defaultdict
from functools import partial

import mpmath
import numpy as np
import pytest
from load_definitions import ROOT
from rehearsal import SHARE, TEST_IMAGES, rehearse
from scipy import ndimage, signal, stats
from scipy.special import logsumexp

# {(question, words of the answer's name that no other has): function(seen) -> (values,
# the numbers in its text)}
ANSWERS = {}


@pytest.fixture(scope="session")
def seen():
    """The Rehearsal."""
    return rehearse()


def answers(question, words):
    """Register a function as the recomputation of an answer."""

    def register(function):
        assert (question, words) not in ANSWERS
        ANSWERS[question, words] = function
        return function

    return register


def names_of(seen, key):
    """The names of the answers that a key of ANSWERS stands for."""
    question, words = key
    told = (name.split(": ", 1) for name in seen["ANSWERS"])
    return [f"{q}: {asked}" for q, asked in told if q == question and words in asked]


# --- Independent arithmetic -----------------------------------------------------------


def scores_of(model, x):
    return np.concatenate(
        [model.forward(x[i : i + 500]) for i in range(0, len(x), 500)]
    )


def hits_of(model, part):
    return scores_of(model, part.x).argmax(axis=1) == part.y


def accuracy_of(model, part):
    return float(np.mean(hits_of(model, part)))


def loss_of(scores, y):
    scores = np.asarray(scores, dtype=np.float64)
    return float(np.mean(logsumexp(scores, axis=1) - scores[np.arange(len(y)), y]))


def interval(hits):
    """Accuracy, and Wilson's 95 % interval."""
    n, p, z = len(hits), float(np.mean(hits)), stats.norm.ppf(0.975)
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return [p, centre - half, centre + half]


def duel(a, b):
    """How many only a gets right, and only b."""
    return [
        sum(x and not y for x, y in zip(a, b, strict=True)),
        sum(y and not x for x, y in zip(a, b, strict=True)),
    ]


def pct(value):
    return f"{100 * value:.2f} %"


def pct_interval(hits):
    value, low, high = interval(hits)
    return f"{pct(value)} ({100 * low:.2f} to {100 * high:.2f})"


def pct_spread(values):
    return f"{100 * np.mean(values):.2f} ± {100 * np.std(values, ddof=1):.2f} %"


def duel_text(a, b):
    only_a, only_b = duel(a, b)
    decided = only_a + only_b
    p = stats.binomtest(only_a, decided).pvalue if decided else 1.0
    return f"{only_a} : {only_b}, p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}"


def numbers_in(text):
    """The numbers of a text, as they are written."""
    return re.findall(r"(?<![\w.])-?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?(?!\w)", text)


def only(items):
    """The one item that there is."""
    (item,) = items
    return item


def same(a, b):
    """Whether two models or layers have the same weights, to the bit."""
    first, second = (
        [layer.W for layer in getattr(model, "layers", [model]) if hasattr(layer, "W")]
        for model in (a, b)
    )
    return all(itertools.starmap(np.array_equal, zip(first, second, strict=True)))


# --- Figures --------------------------------------------------------------------------


def curves_of(ax):
    """{label: (x, y)} of the lines of a figure's axes."""
    return {
        line.get_label(): tuple(np.asarray(line.get_data(), dtype=float))
        for line in ax.lines
    }


def pictures_of(fig):
    """The images that a figure shows, in order."""
    return [np.asarray(ax.images[0].get_array()) for ax in fig.axes if ax.images]


def titles_of(fig):
    return [ax.get_title() for ax in fig.axes if ax.images]


def texts_of(ax):
    return [text.get_text() for text in ax.texts]


def assert_same_pictures(fig, pictures):
    shown = pictures_of(fig)
    assert len(shown) == len(pictures)
    for one, other in zip(shown, pictures, strict=True):
        np.testing.assert_allclose(one, np.reshape(other, one.shape), atol=1e-6)


# --- Which images are they? -----------------------------------------------------------


def fingerprints(x):
    """A number for each row of x that says what it holds."""
    return [hash(row.tobytes()) for row in np.ascontiguousarray(x, np.float32)]


def read_mnist(seen, prefix):
    """Pixels and labels of a file of MNIST's, read without the notebook."""
    folder = ROOT / seen["DIGITS"]
    raw = gzip.decompress((folder / f"{prefix}-images-idx3-ubyte.gz").read_bytes())
    x = np.frombuffer(raw, np.uint8, offset=16).reshape(-1, seen["PIXELS"])
    raw = gzip.decompress((folder / f"{prefix}-labels-idx1-ubyte.gz").read_bytes())
    return x / np.float32(255), np.frombuffer(raw, np.uint8, offset=8).astype(int)


class Images:
    """Which rows of the files the images of an array are."""

    def __init__(self, seen):
        self.data = seen["data"]
        self.x, self.y = read_mnist(seen, "train")
        self.test_x, self.test_y = (
            array[:TEST_IMAGES] for array in read_mnist(seen, "t10k")
        )
        self.place = {mark: k for k, mark in enumerate(fingerprints(self.x))}
        self.label = dict(
            zip(self.place, self.y[list(self.place.values())], strict=True)
        )
        self.label |= dict(zip(fingerprints(self.test_x), self.test_y, strict=True))
        self.parts = {
            name: set(fingerprints(getattr(self.data, name).x))
            for name in ("train", "valid", "test")
        }
        self.known = {}

    def marks(self, x):
        """fingerprints(x), once for each array."""
        if id(x) not in self.known:
            self.known[id(x)] = fingerprints(x), x
        return self.known[id(x)][0]

    def among(self, x, *names):
        """Whether all images of x are of these parts of the data."""
        return set(self.marks(x)) <= set().union(*(self.parts[name] for name in names))

    def meets(self, x, name):
        """Whether any image of x is of that part of the data."""
        return not self.parts[name].isdisjoint(self.marks(x))

    def labelled(self, x, y):
        """Whether each image has the label that it has in the file."""
        return [self.label[mark] for mark in self.marks(x)] == np.asarray(y).tolist()


@pytest.fixture(scope="session")
def images(seen):
    return Images(seen)


def is_digits(seen, x):
    """Whether an array holds images of the data set, one in each row."""
    return np.ndim(x) == 2 and np.shape(x)[1] == seen["PIXELS"] and len(x) > 100


def from_the_file(part):
    """Whether a Part says by its name that it is taken from the file in its order."""
    return "file" in part.name


# --- What holds everywhere ------------------------------------------------------------


def test_every_cell_ran(seen):
    assert list(seen.printed) == [cell.id for cell in seen.cells]


def test_the_parts_are_disjoint_and_whole(seen, images):
    data = seen["data"]
    count = round(SHARE * len(images.y))
    assert len(data.train.y) == count * 7 // 10
    assert len(data.train.y) + len(data.valid.y) == count
    for part, name in (data.train, "train"), (data.valid, "valid"), (data.test, "test"):
        assert len(images.parts[name]) == len(part.x) == len(part.y)  # none twice
        assert images.labelled(part.x, part.y)
    assert not images.parts["train"] & images.parts["valid"]
    assert not images.parts["test"] & (images.parts["train"] | images.parts["valid"])
    np.testing.assert_array_equal(data.test.x, images.test_x)
    assert len({part.name for part in data[:3]}) == 3


def test_the_split_is_random(seen, images):
    """The places in the file of both parts are spread over all of it, in no order."""
    for part in seen["data"].train, seen["data"].valid:
        places = np.array([images.place[mark] for mark in images.marks(part.x)])
        spread = np.bincount(places * 10 // len(images.y), minlength=10) / len(places)
        assert spread.min() > 0.03 and spread.max() < 0.25
        assert abs(stats.spearmanr(places, range(len(places))).statistic) < 0.2


def test_fits_see_training_images_only(seen, images):
    """Ours and scikit-learn's; but for those whose set is named after the file."""
    for call in seen.of("fit"):
        part = call.given["part"]
        assert images.labelled(part.x, part.y), call.cell
        if from_the_file(part):
            assert not images.meets(part.x, "test"), call.cell
        else:
            assert images.among(part.x, "train"), call.cell
    for call in seen.of("fit_sklearn"):
        assert images.among(call.given["x"], "train"), call.cell


def test_fits_see_all_training_images_or_their_set_is_named_otherwise(seen):
    train = seen["data"].train
    for call in seen.of("fit"):
        part = call.given["part"]
        if part.name == train.name:
            assert part.x is train.x and part.y is train.y, call.cell
        else:
            assert "%" in part.name, call.cell
    for call in seen.of("fit_sklearn"):
        assert call.given["x"].shape == train.x.shape, call.cell


def test_what_is_watched_in_training_is_the_validation_set(seen):
    for call in seen.of("fit") + seen.of("train"):
        valid = call.given["valid"]
        assert valid is None or valid is seen["data"].valid, call.cell


def test_minibatches_are_of_training_images(seen, images):
    """Those that loops of their own use, too."""
    x5 = seen["x5"]
    for call in seen.of("get_minibatch"):
        x = call.given["x"]
        if is_digits(seen, x) and not any(
            from_the_file(fit.given["part"]) for fit in seen.of("fit", call.cell)
        ):
            assert images.among(x, "train"), call.cell
            assert images.labelled(x, call.given["y"]), call.cell
        elif np.ndim(x) == 4:
            assert np.array_equal(x, x5), call.cell


def test_scores_of_fits_are_the_models_own(seen):
    for call in seen.of("fit"):
        run, given = call.result, call.given
        if isinstance(run, Exception):
            assert isinstance(run, FloatingPointError)
            continue
        for score, part in (run.train, given["part"]), (run.valid, given["valid"]):
            if part is None:
                assert score is None
                continue
            assert score.part == part.name, call.cell
            assert score.accuracy == pytest.approx(accuracy_of(run.model, part))
        assert run.seed == given["seed"]
        assert run.history is only(
            t.result for t in seen.of("train", call.cell) if t.result is run.history
        )


@pytest.mark.parametrize(
    ("first", "last"),
    [("1.1", "q1-leaders"), ("3.1", "q3-leaders"), ("6.5", "further-train-show")],
)
def test_the_test_set_is_closed_until_all_is_chosen(seen, images, first, last):
    """No call with test images from the first section's cells to the last choice."""
    ids = [cell.id for cell in seen.cells]
    start = next(
        i for i, c in enumerate(seen.cells) if c.heading.startswith(first + " ")
    )
    closed = set(ids[start : ids.index(last) + 1])
    for call in seen.calls:
        part = call.given.get("part")
        if call.cell in closed and part is not None:
            assert not images.meets(part.x, "test"), (call.name, call.cell)


def test_every_answer_is_recorded_once_under_its_heading(seen):
    """A cell that answers under its own heading may also answer under an earlier one of
    its question."""
    headings = {cell.id: cell.heading for cell in seen.cells}
    sections = defaultdict(set)
    for call in seen.of("record"):
        sections[call.cell].add(call.given["section"])
    for cell, given in sections.items():
        assert headings[cell] in given
        for section in given:
            assert section in headings.values() and section[:2] == headings[cell][:2]
            assert float(section.split()[0]) <= float(headings[cell].split()[0])
    assert len(seen.of("record")) == len(seen["ANSWERS"])


def test_every_answer_has_a_recomputation(seen):
    found = [only(names_of(seen, key)) for key in ANSWERS]
    assert sorted(found) == sorted(seen["ANSWERS"])


def test_the_summary_has_all_answers_in_the_order_of_the_sections(seen):
    told = seen["ANSWERS"]
    rows = [row for row in seen.table_of("summary").rows if row[2]]
    expected = Counter(
        (
            name.split(": ", 1)[1],
            answer.text,
            f"[{answer.section.split()[0]}](#{answer.section.replace(' ', '-')})",
        )
        for name, answer in told.items()
    )
    assert Counter(map(tuple, rows)) == expected
    sections = [[int(k) for k in re.findall(r"\d+", row[2])[:2]] for row in rows]
    assert sections == sorted(sections)
    assert only(seen.of("table", "summary")).given["metadata"]["results"] == {
        name: {"section": a.section, "text": a.text, "values": a.values}
        for name, a in told.items()
    }


# --- Questions 1 and 3: what is the same in both --------------------------------------


class Question:
    """Names and cells of the softmax classifier (Question 1) or MLP (Question 3)."""

    def __init__(self, seen, prefix):
        self.seen, self.prefix = seen, prefix
        self.number = {"softmax": "q1", "mlp": "q3"}[prefix]
        self.new = seen[f"new_{prefix}"]
        self.first = seen["first_run" if prefix == "softmax" else "mlp_first"]

    def __getitem__(self, name):
        """A name of the notebook that begins with the prefix."""
        return self.seen[f"{self.prefix}_{name}"]

    def cell(self, name):
        """The id of a cell."""
        other = {
            "q1-first": "q1-first-curves",
            "q3-first": "q3-first-training",
            "q1-classes": "q1-classes-show",
            "q1-mistakes": "q1-mistakes-show",
        }
        return other.get(f"{self.number}-{name}", f"{self.number}-{name}")

    def of(self, function, name):
        return self.seen.of(function, self.cell(name))

    def says(self, name, *texts):
        """Whether the numbers of texts stand together in what a cell printed."""
        return says(self.seen, self.cell(name), *texts)


def says(seen, cell, *texts):
    """Whether the numbers of texts stand together in what a cell printed."""
    wanted = numbers_in("; ".join(map(str, texts)))
    there = numbers_in(seen.text(cell))
    starts = range(len(there) - len(wanted) + 1)
    return any(there[k : k + len(wanted)] == wanted for k in starts)


@pytest.fixture(params=["softmax", "mlp"])
def q(request, seen):
    return Question(seen, request.param)


def assert_shows_histories(fig, runs):
    """The figure has loss and accuracy of the runs: means, and no other curves."""
    for ax, field, factor in zip(fig.axes, ("loss", "accuracy"), (1, 100), strict=True):
        curves = curves_of(ax)
        assert list(curves) == list(runs[0].history)
        for name, (x, y) in curves.items():
            rows = [run.history[name] for run in runs]
            means = [
                factor * np.mean([getattr(row, field) for row in epoch])
                for epoch in zip(*rows, strict=True)
            ]
            np.testing.assert_allclose(x, [row.at for row in rows[0]])
            np.testing.assert_allclose(y, means)


def test_the_first_run_is_logged_and_drawn(q):
    fits = q.seen.of("fit", f"{q.number}-first-training")
    assert q.first is only(fits).result
    data = q.seen["data"]
    assert only(fits).given["part"] is data.train
    assert only(fits).given["valid"] is data.valid
    assert only(q.of("print_log", "first")).given["run"] is q.first
    call = only(q.of("show_histories", "first"))
    assert [id(run) for run in call.given["runs"]] == [id(q.first)]
    assert_shows_histories(q.seen.figure(q.cell("first")).fig, [q.first])
    for part in data.train, data.valid:
        last = q.first.history[part.name][-1]
        assert f"{last.loss:.4f}" in q.seen.text(q.cell("first"))
    assert q.says("first", pct(accuracy_of(q.first.model, data.valid)))
    assert (
        q.seen.text(q.cell("first"))
        .rstrip()
        .endswith(pct(accuracy_of(q.first.model, data.valid)))
    )


def test_a_first_run_has_the_questions_model(q):
    assert type(q.first.model) is type(q["model"])
    assert (
        only(q.seen.of("fit", f"{q.number}-first-training")).given["make_model"]
        is q.new
    )


def test_every_pair_of_the_grid_has_the_whole_budget(q):
    grid, fits = q["grid"], q.of("fit", "tune")
    assert only(q.of("grid_search", "tune")).given["make_model"] is q.new
    pairs = {tuple(call.given[name] for name in sorted(grid)) for call in fits}
    assert pairs == set(itertools.product(*(grid[name] for name in sorted(grid))))
    assert len(fits) == len(pairs) == len(q["trials"])
    for call in fits:
        given = call.given
        assert given["part"] is q.seen["data"].train
        assert given["valid"] is q.seen["data"].valid
        assert given["make_model"] is q.new
        assert given["seed"] == fits[0].given["seed"]
        for name, value in q["settings"].items():  # of the final runs
            assert name in grid or given[name] == value
    for name, values in grid.items():
        assert q["settings"][name] in values


def test_trials_are_what_was_fitted(q):
    for call, trial in zip(q.of("fit", "tune"), q["trials"], strict=True):
        for name, value in trial.settings.items():
            assert call.given[name] == value
        if isinstance(call.result, Exception):
            assert math.isnan(trial.valid.accuracy)
            continue
        model = call.result.model
        for score, part in (trial.train, "train"), (trial.valid, "valid"):
            expected = accuracy_of(model, getattr(q.seen["data"], part))
            assert score.accuracy == pytest.approx(expected)


def cells_of_tuning_table(q, cell=None):
    """{(value down, value across): cell}, with the settings that they stand for."""
    keys = {label: name for name, label in q.seen["LABELS"].items()}
    table = q.seen.table_of(cell or q.cell("tune-show"))
    down = keys[table.rows[0][0].split(" = ")[0]]
    across = keys[table.header[1].rsplit(" ", 1)[0]]
    cells = {}
    for row in table.rows:
        for head, text in zip(table.header[1:], row[1:], strict=True):
            cells[float(row[0].split(" = ")[1]), float(head.rsplit(" ", 1)[1])] = text
    return down, across, cells


def test_the_tuning_table_has_all_pairs(q):
    down, across, cells = cells_of_tuning_table(q)
    assert {down, across} == set(q["grid"])
    assert len(cells) == len(q["trials"])
    for call in q.of("fit", "tune"):
        text = cells[call.given[down], call.given[across]]
        if isinstance(call.result, Exception):
            assert text == "diverges"
            continue
        trained, valid = (
            100 * accuracy_of(call.result.model, part) for part in q.seen["data"][:2]
        )
        assert text.split(" / ") == [
            f"{trained:.2f}", f"{valid:.2f}", f"{trained - valid:+.2f}"
        ]  # fmt: skip


def test_the_heat_map_has_all_pairs_and_frames_the_best(q):
    fig = q.seen.figure(q.cell("tune-show")).fig
    left, right = fig.axes[:2]
    valid, gap = (
        np.ma.filled(ax.images[0].get_array(), np.nan) for ax in (left, right)
    )
    down, across, cells = cells_of_tuning_table(q)
    at = {}
    for i, row in enumerate(left.get_yticklabels()):
        for j, column in enumerate(left.get_xticklabels()):
            text = cells[float(row.get_text()), float(column.get_text())]
            at[i, j] = text
            if text != "diverges":
                assert f"{valid[i, j]:.2f}" == text.split(" / ")[1]
                assert f"{gap[i, j]:+.2f}" == text.split(" / ")[2]
    assert len(at) == len(cells) == valid.size
    labels = q.seen["LABELS"]
    assert (left.get_ylabel(), left.get_xlabel()) == (labels[down], labels[across])
    frame = only(left.patches).get_bbox()
    j, i = round((frame.x0 + frame.x1) / 2), round((frame.y0 + frame.y1) / 2)
    assert valid[i, j] == np.nanmax(valid)


def test_leaders_are_the_best_trials_from_fresh_seeds(q):
    call = only(q.of("fit_leaders", "leaders"))
    assert call.given["trials"] is q["trials"] and call.given["make_model"] is q.new
    leaders = q["leaders"]
    chosen = [runs[0].settings for runs in leaders]
    accuracies = [
        (-1 if math.isnan(t.valid.accuracy) else t.valid.accuracy, t.settings in chosen)
        for t in q["trials"]
    ]
    assert sum(leads for _, leads in accuracies) == len(leaders) >= 2
    assert min(a for a, leads in accuracies if leads) >= max(
        a for a, leads in accuracies if not leads
    )
    seeds = [run.seed for run in leaders[0]]
    assert len(set(seeds)) == len(seeds) >= 3
    assert not set(seeds) & {call.given["seed"] for call in q.of("fit", "tune")}
    for runs in leaders:
        assert [run.seed for run in runs] == seeds
        assert all(run.settings == runs[0].settings for run in runs)
    fitted = {id(call.result) for call in q.of("fit", "leaders")}
    assert {id(run) for runs in leaders for run in runs} == fitted
    for call in q.of("fit", "leaders"):
        assert call.given["part"] is q.seen["data"].train
        assert call.given["make_model"] is q.new


def test_the_chosen_settings_are_best_on_validation(q):
    means = [
        np.mean([accuracy_of(run.model, q.seen["data"].valid) for run in runs])
        for runs in q["leaders"]
    ]
    assert q["runs"] is q["leaders"][int(np.argmax(means))]
    assert q["settings"] == q["runs"][0].settings
    assert means == sorted(means, reverse=True)
    order = "lam", "learning_rate", "batch_size"
    names = sorted(q["grid"], key=order[:: 1 if q.prefix == "softmax" else -1].index)
    assert q.says("leaders", *(f"{q['settings'][name]:g}" for name in names))


def test_the_leaders_table(q):
    keys = {label: name for name, label in q.seen["LABELS"].items()}
    table = q.seen.table_of(q.cell("leaders"))
    for runs, row in zip(q["leaders"], table.rows, strict=True):
        for head, text in zip(table.header[:2], row[:2], strict=True):
            assert float(text) == pytest.approx(runs[0].settings[keys[head]])
        for part, text in zip(q.seen["data"][:2], row[2:], strict=True):
            assert text == pct_spread([accuracy_of(run.model, part) for run in runs])
    for part, head in zip(q.seen["data"][:2], table.header[2:], strict=True):
        assert part.name in head
    seeds = [str(run.seed) for run in q["runs"]]
    assert numbers_in(table.header[3]) == seeds


def test_the_chosen_runs_are_drawn(q):
    call = only(q.of("show_histories", "chosen"))
    assert call.given["runs"] is q["runs"]
    assert_shows_histories(q.seen.figure(q.cell("chosen")).fig, q["runs"])
    valid = q.seen["data"].valid
    assert q.says(
        "chosen", pct_spread([accuracy_of(r.model, valid) for r in q["runs"]])
    )


def test_the_tested_model_is_a_chosen_one_of_the_printed_seed(q):
    run = only(run for run in q["runs"] if run.model is q["model"])
    test = q.seen["data"].test
    np.testing.assert_array_equal(q["hits"], hits_of(run.model, test))
    assert q.says("test", run.seed, pct_interval(hits_of(run.model, test)))
    calls = q.of("correct", "test")
    assert [c.given["part"] is test for c in calls] == [True]


def confusion_of(model, part, count):
    predicted = scores_of(model, part.x).argmax(axis=1)
    confusion = np.zeros((count, count), int)
    np.add.at(confusion, (part.y, predicted), 1)
    return confusion


def test_classes_are_the_tested_models_on_the_test_set(q):
    data = q.seen["data"]
    confusion = confusion_of(q["model"], data.test, len(data.class_names))
    np.testing.assert_array_equal(q["classes"].confusion, confusion)
    table = q.seen.table_of(q.cell("classes"))
    for k, row in enumerate(table.rows):
        hits = hits_of(q["model"], data.test)[data.test.y == k]
        _, low, high = interval(hits)
        expected = [len(hits), pct(hits.mean()), f"{100 * low:.1f} to {100 * high:.1f}"]
        assert row == [data.class_names[k], *map(str, expected)]
    accuracies = confusion.diagonal() / confusion.sum(axis=1)
    sentence = q.seen.text(q.cell("classes"))
    for word, k in (
        ("est class", accuracies.argmax()),
        ("Worst class", accuracies.argmin()),
    ):
        after = re.search(rf"{word}\b.*?(\S+), with ([\d.]+ %)", sentence).groups()
        assert after == (data.class_names[k] if word else "", pct(accuracies[k]))
    ax = q.seen.figure(q.cell("classes")).fig.axes[0]
    assert texts_of(ax) == [str(n) for n in confusion.ravel()]


def test_mistakes_are_the_tested_models(q, images):
    data, fig = q.seen["data"], q.seen.figure(q.cell("mistakes")).fig
    scores = scores_of(q["model"], data.test.x).astype(float)
    sure = (scores - logsumexp(scores, axis=1, keepdims=True)).max(axis=1)
    wrong = np.flatnonzero(scores.argmax(axis=1) != data.test.y)
    worst = wrong[np.argsort(-sure[wrong], kind="stable")][: len(pictures_of(fig))]
    assert_same_pictures(fig, data.test.x[worst])
    assert [title.replace("\n", " ") for title in titles_of(fig)] == [
        f"{data.class_names[data.test.y[k]]} → {data.class_names[scores[k].argmax()]}"
        for k in worst
    ]


def curve_fits(q):
    """[(percentage, seed, Run, Part, settings)]: all the models behind the bonus."""
    fits = []
    for call, fit in zip(
        q.of("fit_percentage", "bonus"), q.of("fit", "bonus"), strict=True
    ):
        settings = {n: fit.given[n] for n in call.given["settings"]}
        part = fit.given["part"]
        fits.append(
            (call.given["percentage"], call.given["seed"], fit.result, part, settings)
        )
    for run in q["runs"]:
        fits.append((100, run.seed, run, q.seen["data"].train, run.settings))
    return fits


def test_smaller_sets_have_the_chosen_settings_and_a_larger_lambda(q, images):
    data = q.seen["data"]
    seeds = [run.seed for run in q["runs"]]
    by_percentage = defaultdict(list)
    for percentage, seed, run, part, settings in curve_fits(q):
        by_percentage[percentage].append(seed)
        assert run.seed == seed and type(run.model) is type(q["model"])
        expected = q["settings"] | {"lam": q["settings"]["lam"] * 100 / percentage}
        assert settings == pytest.approx(expected)
        assert len(part.y) == len(data.train.y) * percentage // 100
        assert len(set(images.marks(part.x))) == len(part.y)
        assert images.among(part.x, "train") and images.labelled(part.x, part.y)
    assert set(by_percentage) >= {10, 20, 50, 100}  # the sheet's
    assert all(found == seeds for found in by_percentage.values())
    subsets = {frozenset(images.marks(part.x)) for p, _, _, part, _ in curve_fits(q)
               if p < 100}  # fmt: skip
    assert len(subsets) == len(q.of("fit", "bonus"))  # drawn anew for each seed
    assert only(q.of("learning_curve", "bonus")).given["runs"] is q["runs"]


def percentages_of(q, part):
    """{percentage: accuracies of its models}, on "train" or "test"."""
    found = defaultdict(list)
    for percentage, _, run, own, _ in curve_fits(q):
        on = own if part == "train" else q.seen["data"].test
        found[percentage].append(accuracy_of(run.model, on))
    return dict(sorted(found.items()))


def test_learning_curves_and_their_table(q):
    """Question 3 shows both models."""
    shown = [Question(q.seen, "softmax"), Question(q.seen, "mlp")]
    shown = shown[: 1 if q.prefix == "softmax" else 2]
    ax = q.seen.figure(q.cell("bonus")).fig.axes[0]
    table = q.seen.table_of(q.cell("bonus"))
    assert len(ax.containers) == len(shown) and len(table.rows) == 2 * len(shown)
    both = [table.rows[:2], table.rows[2:]]
    for one, container, rows in zip(shown, ax.containers, both, strict=False):
        tested = percentages_of(one, "test")
        x, y = (np.asarray(v, float) for v in container.lines[0].get_data())
        np.testing.assert_allclose(x, list(tested))
        np.testing.assert_allclose(y, [100 * np.mean(a) for a in tested.values()])
        bars = np.array(container.lines[2][0].get_segments())[:, :, 1]
        heights = [2 * 100 * np.std(a, ddof=1) for a in tested.values()]
        np.testing.assert_allclose(bars[:, 1] - bars[:, 0], heights, atol=1e-9)
        assert ("softmax" in container.get_label()) == (one.prefix == "softmax")
        for row, found in zip(
            rows, (tested, percentages_of(one, "train")), strict=True
        ):
            assert row[0].startswith(container.get_label())
            assert row[1:] == [pct_spread(a) for a in found.values()]
    assert [numbers_in(head)[0] for head in table.header[1:]] == [
        str(percentage) for percentage in percentages_of(q, "test")
    ]


# --- Question 1 -----------------------------------------------------------------------


def test_q1_sizes_are_printed(seen):
    for part in seen["data"][:3]:
        line = only(
            line
            for line in seen.text("q1-data").splitlines()
            if line.startswith(part.name)
        )
        assert str(part.x.shape) in line and str(part.y.shape) in line
    assert seen.text("q1-data").splitlines()[0] == str(len(seen["data"].train.x))


def test_q1_samples_are_two_of_each_class(seen, images):
    data, fig = seen["data"], seen.figure("q1-samples").fig
    pictures = only(seen.of("image_grid", "q1-samples")).given["pictures"]
    x = pictures.reshape(len(pictures), -1)
    assert images.among(x, "train") and len(set(images.marks(x))) == len(x)
    names = [data.class_names[images.label[mark]] for mark in images.marks(x)]
    assert Counter(names) == dict.fromkeys(data.class_names, 2)
    assert titles_of(fig) == names
    assert data.train.name in seen.figure("q1-samples").alt
    assert_same_pictures(fig, pictures)
    table = seen.table_of("q1-samples")
    for part, row in zip(data[:3], table.rows, strict=True):
        counts = [np.sum(part.y == k) for k in range(len(data.class_names))]
        assert row == [part.name, *map(str, counts)]


def test_q1_two_epochs_of_minibatches_differ(seen):
    lines = seen.text("q1-minibatch-demo").splitlines()
    orders = [re.findall(r"\d+", line.split(":")[1]) for line in lines]
    assert len(orders) == 2 and orders[0] != orders[1]
    for order in orders:
        assert sorted(map(int, order)) == list(range(len(seen["ten"])))


def test_q1_overflow(seen):
    scores = 255 * seen["data"].valid.x @ seen["big_model"].W
    limit = np.log(np.finfo(np.float32).max)
    naive = np.mean((scores > limit).any(axis=1))
    assert naive > 0.5
    assert says(seen, "q1-overflow", f"{naive:.0%}", "0%")


def test_q1_the_check_notices_the_mistake(seen):
    call = only(seen.of("check_gradient", "q1-gradcheck-broken"))
    assert isinstance(call.result, AssertionError)
    assert str(call.result) in seen.text("q1-gradcheck-broken")


def test_q1_first_loss_is_of_an_untrained_model(seen):
    call = only(seen.of("evaluate", "q1-first-loss"))
    part = call.given["part"]
    assert part is seen["data"].train
    W = call.given["model"].W
    assert np.std(W) < 2e-3
    expected = loss_of(part.x @ W, part.y)
    accuracy = np.mean((part.x @ W).argmax(axis=1) == part.y)
    assert says(seen, "q1-first-loss", f"{expected:.3f}", pct(accuracy))
    assert says(seen, "q1-first-loss", f"{math.log(seen['CLASSES']):.3f}")
    assert part.name in seen.text("q1-first-loss")


def gradient_of(W, x, y):
    """The mean cross-entropy's gradient with respect to W, in float64."""
    x, scores = x.astype(float), x.astype(float) @ W
    p = np.exp(scores - logsumexp(scores, axis=1, keepdims=True))
    p[np.arange(len(y)), y] -= 1
    return x.T @ p / len(y)


def cosine(a, b):
    return np.sum(a * b) / np.linalg.norm(a) / np.linalg.norm(b)


def first_batches(call, count):
    """The first mini-batches (x, y) of a call of get_minibatch, drawn once more."""
    x, y, size = (call.given[name] for name in ("x", "y", "batch_size"))
    order = copy.deepcopy(call.given["rng"]).permutation(len(y))
    parts = np.split(order, range(size, len(y), size))[:count]
    return [(x[picked], y[picked]) for picked in parts]


def test_q1_why_batches(seen):
    """Mean cosines of as many draws for the untrained and for the trained model."""
    train = seen["data"].train
    epoch, *calls = seen.of("get_minibatch", "q1-why-batches")
    weights = [seen[name].W.astype(float) for name in ("untrained_model", "one_epoch")]
    assert epoch.given["x"] is train.x and epoch.given["y"] is train.y
    losses = [loss_of(train.x @ W, train.y) for W in weights]
    assert losses[1] < losses[0] - 0.1
    lines = [numbers_in(line) for line in seen.text("q1-why-batches").splitlines()]
    assert len(lines) > 2 and lines == sorted(lines, key=lambda line: int(line[0]))
    draws = len(calls) // len(lines) // len(weights)
    assert draws >= 10 and len(calls) == draws * len(lines) * len(weights)
    for size, *printed in lines:
        for W, shown in zip(weights, printed, strict=True):
            some, calls = calls[:draws], calls[draws:]
            assert {call.given["batch_size"] for call in some} == {int(size)}
            assert all(call.given["x"] is train.x for call in some)
            exact = gradient_of(W, train.x, train.y)
            batches = [first_batches(call, 1)[0] for call in some]
            found = [cosine(gradient_of(W, *batch), exact) for batch in batches]
            assert abs(float(shown) - np.mean(found)) < 0.006


def test_q1_memorising_twenty_images(seen, images):
    x, y = seen["few_x"], seen["few_y"]
    assert len(x) == 20 and images.among(x, "train") and images.labelled(x, y)
    lines = [numbers_in(line) for line in seen.text("q1-memorise").splitlines()]
    assert float(lines[0][1]) == pytest.approx(math.log(seen["CLASSES"]), abs=0.02)
    assert float(lines[-1][1]) < 0.5 * float(lines[0][1])
    assert lines[-1][1] == f"{loss_of(seen['few_scores'], y):.3f}"
    hits = np.sum(seen["few_scores"].argmax(axis=1) == y)
    assert lines[-1][2:] == [str(hits), str(len(y))]
    last = loss_of(x @ seen["memoriser"].W, y)  # one step further
    assert -0.0006 < float(lines[-1][1]) - last < 0.01  # printed in three digits


def test_q1_the_templates_grow_with_the_steps(seen):
    """Weights after so many steps of plain descent as a name says, at a round rate."""
    train, grown = seen["data"].train, seen["grown"]
    call = only(seen.of("get_minibatch", "q1-growing"))
    assert call.given["x"] is train.x and call.given["y"] is train.y
    name = list(grown)[1]
    W = {rate: grown["start"].astype(float) for rate in (0.01, 0.05, 0.1, 0.2, 0.5, 1)}
    for x_b, y_b in first_batches(call, int(numbers_in(name)[0])):
        W = {rate: w - rate * gradient_of(w, x_b, y_b) for rate, w in W.items()}
    assert any(np.allclose(grown[name], w, rtol=0, atol=1e-5) for w in W.values())
    shown = only(seen.of("show_templates", "q1-growing-figure")).given
    assert shown["rows"] is grown and shown["titles"] is seen["data"].class_names


def test_q1_template_figures_show_the_weights(seen):
    """Under the names of their classes (those of hidden units have none)."""
    for call in seen.of("show_templates"):
        if call.cell.startswith("q1-"):
            assert call.given["titles"] is seen["data"].class_names
        grid = only(
            c
            for c in seen.of("image_grid", call.cell)
            if c.given["row_names"] == list(call.given["rows"])
        )
        expected = np.concatenate(
            [W.T / np.percentile(np.abs(W), 99.5) for W in call.given["rows"].values()]
        )
        pictures = grid.given["pictures"].reshape(len(expected), -1)
        np.testing.assert_allclose(pictures, expected, rtol=1e-5)


def test_q1_initial_weights_differ_in_their_deviation_only(seen):
    data, cell = seen["data"], "q1-init"
    table, trains = seen.table_of(cell), seen.of("train", cell)
    fits = seen.of("fit", cell)
    epochs = [int(numbers_in(head)[-1]) for head in table.header[3:]]
    assert len(table.rows) == len(fits) == len(seen["init_runs"])
    for row, fit, train, run in zip(
        table.rows, fits, trains, seen["init_runs"], strict=True
    ):
        assert run is fit.result
        changed = {"make_model"}
        for name in fit.given.keys() - changed:
            assert fit.given[name] is fits[0].given[name]
        start = only(train.before)
        assert np.std(start) == pytest.approx(float(row[1]), rel=0.05)
        assert float(row[2]) == pytest.approx(
            loss_of(data.train.x @ start, data.train.y), abs=0.0051
        )
        history = {epoch.at: epoch for epoch in run.history[data.valid.name]}
        assert row[3:] == [pct(history[epoch].accuracy) for epoch in epochs]
        assert all(data.valid.name in head for head in table.header[3:])
        if "." in row[0] or row[0].isdigit():
            assert float(row[0]) == pytest.approx(float(row[1]))
    stds = {row[0]: np.std(t.before) for row, t in zip(table.rows, trains, strict=True)}
    name = next(name for name in stds if name[0].isdigit() and float(name))
    expected = math.sqrt(2 / (seen["PIXELS"] + seen["CLASSES"]))
    xavier = stds["Xavier"] / stds[name] * float(name)
    assert xavier == pytest.approx(expected, rel=1e-5)
    first = only(seen.of("fit", "q1-first-training")).given  # "the same run"
    for name in first.keys() - {"make_model"}:
        assert all(fit.given[name] is first[name] for fit in fits), name


def test_q1_scikit_learn_gets_the_same_problem(seen, images):
    data = seen["data"]
    calls = seen.of("fit_sklearn")
    assert [type(c.given["estimator"]).__name__ for c in calls] == [
        "LogisticRegression", "LinearRegression", "LinearRegression"
    ]  # fmt: skip
    for call in calls:
        np.testing.assert_array_equal(call.given["x"], data.train.x)
    logistic, rounded, one_hot = (call.given for call in calls)
    assert [g["estimator"] for g in (logistic, rounded, one_hot)] == [
        seen["logistic"], seen["rounded"], seen["one_hot"]
    ]  # fmt: skip
    options = logistic["estimator"].get_params()
    lam = seen["softmax_settings"]["lam"]
    expected = 1 / (2 * lam * len(data.train.y)) if lam else math.inf
    assert options["C"] == pytest.approx(expected)
    assert options["fit_intercept"] is False
    assert not np.any(seen["logistic"].intercept_)
    np.testing.assert_array_equal(logistic["y"], data.train.y)
    np.testing.assert_array_equal(rounded["y"], data.train.y)
    assert one_hot["y"].shape == (len(data.train.y), seen["CLASSES"])
    assert set(np.unique(one_hot["y"])) == {0, 1}
    np.testing.assert_array_equal(one_hot["y"].argmax(axis=1), data.train.y)


def test_q1_the_longer_run_differs_in_its_epochs_only(seen):
    call = only(seen.of("fit", "q1-sklearn-fit"))
    settings = seen["softmax_settings"]
    changed = {name for name, value in settings.items() if call.given[name] != value}
    assert changed == {"epochs"} and call.given["epochs"] > settings["epochs"]
    assert call.given["part"] is seen["data"].train
    assert call.given["make_model"] is seen["new_softmax"]
    tested = only(r for r in seen["softmax_runs"] if r.model is seen["softmax_model"])
    assert call.given["seed"] == tested.seed
    assert seen["longer"] is call.result


def class_of_sklearn(seen, name, x):
    """The classes that one of the compared classifiers finds, by its name."""
    classes = np.arange(seen["CLASSES"])
    if "rounded" in name:
        distance = np.abs(seen["rounded"].predict(x)[:, None] - classes)
        return distance.argmin(axis=1)
    if "one-hot" in name:
        return seen["one_hot"].predict(x).argmax(axis=1)
    if "Logistic" in name:
        return classes[seen["logistic"].predict(x)]
    model = seen["longer"].model if "epochs" in name else seen["softmax_model"]
    return (x @ model.W).argmax(axis=1)


def test_q1_the_table_of_classifiers(seen):
    data, table = seen["data"], seen.table_of("q1-sklearn")
    assert table.header[1:4] == [part.name for part in data[:3]]
    assert data.test.name in table.header[4]
    assert len(table.rows) == 5
    ours = hits_of(seen["softmax_model"], data.test)
    for row in table.rows:
        hits = [class_of_sklearn(seen, row[0], part.x) == part.y for part in data[:3]]
        assert row[1:4] == [pct(h.mean()) for h in hits]
        assert row[4] == ("" if row[0] == "ours" else duel_text(ours, hits[2]))
        if "epochs" in row[0]:
            assert numbers_in(row[0]) == [str(seen["longer"].settings["epochs"])]


def objective(seen, W):
    train, lam = seen["data"].train, seen["softmax_settings"]["lam"]
    W = np.asarray(W, dtype=float)
    return loss_of(train.x.astype(float) @ W, train.y) + lam * np.sum(W**2)


def test_q1_the_objective(seen):
    weights = [
        seen["softmax_model"].W, seen["longer"].model.W, seen["logistic"].coef_.T
    ]  # fmt: skip
    least = objective(seen, weights[-1])
    lines = seen.text("q1-objective").splitlines()
    for W, line in zip(weights, lines, strict=True):
        told, excess = re.search(r"J = ([\d.]+), ([-+][\d.]+)%", line).groups()
        assert float(told) == pytest.approx(objective(seen, W), abs=2e-5)
        assert float(excess) == pytest.approx(
            100 * (objective(seen, W) / least - 1), abs=0.011, rel=1e-5
        )
    epochs = str(seen["longer"].settings["epochs"])
    assert [epochs in numbers_in(line.split(":")[0]) for line in lines] == [0, 1, 0]
    assert "LogisticRegression" in lines[2]


def test_q1_templates(seen):
    call = only(seen.of("show_templates", "q1-templates"))
    slow = only(seen.of("fit", "q1-templates"))
    weights = [seen["softmax_model"].W, slow.result.model.W, seen["logistic"].coef_.T]
    rates = [seen["softmax_settings"]["learning_rate"], slow.given["learning_rate"]]
    for name, value in seen["softmax_settings"].items():
        assert name == "learning_rate" or slow.given[name] == value
    names, lines = list(call.given["rows"]), seen.text("q1-templates").splitlines()
    assert [float(numbers_in(name)[0]) for name in names[:2]] == rates
    assert "scikit-learn" in names[2]
    for name, W, line in zip(names, weights, lines, strict=True):
        np.testing.assert_array_equal(call.given["rows"][name], W)
        pictures = np.asarray(W, float).T.reshape(-1, *seen["data"].shape)
        right = pictures[:, :, 1:] - pictures[:, :, :-1]
        down = pictures[:, 1:] - pictures[:, :-1]
        mean = (np.sum(right**2) + np.sum(down**2)) / (right.size + down.size)
        expected = math.sqrt(mean / (2 * np.mean(pictures**2)))
        assert float(numbers_in(line)[-1]) == pytest.approx(expected, abs=0.0051)
        assert line.startswith(name.split("\n")[0].rstrip("-"))


def errors_of(seen, cell):
    """The relative errors that the checks of a cell found."""
    return [call.result for call in seen.of("check_gradient", cell)]


@answers("Q1", "print the size")
def _(seen):
    sizes = [len(part.x) for part in seen["data"][:3]]
    return {"exact": sizes}, [f"{size:,}" for size in sizes]


@answers("Q1", "mini-batches")
def _(seen):
    return {}, []


@answers("Q1", "Single_layer_classifier")
def _(seen):
    errors = errors_of(seen, "q1-classifier-check")
    assert len(errors) == 2
    return {"error": errors}, [f"{max(errors):.0e}"]


@answers("Q1", "loss_backward")
def _(seen):
    errors = errors_of(seen, "q1-loss-check")
    assert len(errors) == 2
    return {"error": errors}, [f"{max(errors):.0e}"]


@answers("Q1", "Utility functions")
def _(seen):
    call = only(seen.of("evaluate", "q1-first-loss"))
    value = accuracy_of(call.given["model"], seen["data"].train)
    return {"accuracy": value}, [pct(value)]


def last_epoch(seen, run):
    """The answer that is a first run's last row on training images."""
    last = run.history[seen["data"].train.name][-1]
    values = {"number": last.loss, "accuracy": last.accuracy}
    return values, [f"{last.loss:.3f}", pct(last.accuracy)]


@answers("Q1", "Train for t epochs")
def _(seen):
    return last_epoch(seen, seen["first_run"])


@answers("Q1", "accuracy on the validation set")
def _(seen):
    value = accuracy_of(seen["first_run"].model, seen["data"].valid)
    return {"accuracy": value}, [pct(value)]


@answers("Q1", "Xavier")
def _(seen):
    rows = [row[0] for row in seen.table_of("q1-init").rows]
    named = "Xavier", "0.001", "1"
    found = [
        accuracy_of(seen["init_runs"][rows.index(name)].model, seen["data"].valid)
        for name in named
    ]
    texts = [pct(found[0]), named[1], pct(found[1]), named[2], pct(found[2])]
    return {"accuracy": found}, texts


@answers("Q1", "optimal λ")
def _(seen):
    chosen = [seen["softmax_settings"][name] for name in ("lam", "learning_rate")]
    count = len(seen.of("fit", "q1-tune"))
    return {"exact": [*chosen, count]}, [*(f"{v:g}" for v in chosen), count]


def over_fitting(q):
    found = [
        np.mean([accuracy_of(run.model, part) for run in q["runs"]])
        for part in q.seen["data"][:2]
    ]
    texts = [*map(pct, found), f"{100 * (found[0] - found[1]):.2f}"]
    return {"accuracy": found}, texts


@answers("Q1", "over-fitting")
def _(seen):
    found = over_fitting(Question(seen, "softmax"))
    assert says(seen, "q1-leaders", found[1][2])
    return found


def performance(q):
    hits = hits_of(q["model"], q.seen["data"].test)
    return {"accuracy": interval(hits), "images": hits.sum()}, [pct_interval(hits)]


@answers("Q1", "final performance")
def _(seen):
    return performance(Question(seen, "softmax"))


def best_and_worst(q):
    names = q.seen["data"].class_names
    confusion = confusion_of(q["model"], q.seen["data"].test, len(names))
    accuracies = confusion.diagonal() / confusion.sum(axis=1)
    pair = [int(accuracies.argmax()), int(accuracies.argmin())]
    texts = [text for k in pair for text in (names[k], pct(accuracies[k]))]
    return {"exact": pair, "accuracy": accuracies[pair]}, texts


@answers("Q1", "worst performing class")
def _(seen):
    return best_and_worst(Question(seen, "softmax"))


@answers("Q1", "scikit-learn")
def _(seen):
    found = [
        np.mean(class_of_sklearn(seen, name, part.x) == part.y)
        for name in seen["classifiers"]
        if "epochs" not in name
        for part in (seen["data"].train, seen["data"].test)
    ]
    return {"accuracy": found}, map(pct, found)


@answers("Q1", "observations")
def _(seen):
    """How far it over-fits, in points, is said here too."""
    found, texts = over_fitting(Question(seen, "softmax"))
    trained, valid = found["accuracy"]
    return {"number": 100 * (trained - valid)}, texts[2:]


def bonus(q):
    tested = percentages_of(q, "test")
    means = [np.mean(found) for found in tested.values()]
    return {"accuracy": means}, [*tested, *map(pct, means)]


@answers("Q1", "Bonus")
def _(seen):
    return bonus(Question(seen, "softmax"))


# --- Question 2 -----------------------------------------------------------------------

mpmath.mp.dps = 60


def f_exact(x, y, z):
    """Question 2's function, in mpmath."""
    u = (mpmath.cospi(x) + mpmath.sinpi(mpmath.mpf(y) / 2)) / mpmath.tanh(
        mpmath.mpf(z) ** 2
    )
    return -mpmath.log1p(mpmath.exp(-u))


def gradient_exact(point):
    """Its gradient, by differences of so many digits that they are exact in float64."""
    h, slopes = mpmath.mpf(10) ** -20, []
    for k in range(3):
        ends = []
        for sign in (1, -1):
            moved = [mpmath.mpf(value) for value in point]
            moved[k] += sign * h
            with mpmath.workdps(1000 if max(map(abs, point)) > 20 else 60):
                ends.append(f_exact(*moved))
        slopes.append(float((ends[0] - ends[1]) / (2 * h)))
    return slopes


def near(told, expected, rel=1e-3):
    """Whether a printed number is that one, where next to nothing is nothing."""
    return math.isclose(float(told), expected, rel_tol=rel, abs_tol=1e-12)


def signed_numbers(text):
    """The numbers of a text, with their signs."""
    text = text.replace("−", "-")
    return [
        float(n) for n in re.findall(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[-+]?\d+)?", text)
    ]


SHEETS_POINTS = [(2, 4, 1), (9, 14, 3), (128, 42, 666), (52, 14, 28)]


def test_q2_small_graph_and_fork(seen):
    value, *grads = signed_numbers(seen.text("q2-small-graph"))
    inputs = seen["small_graph"].values
    x, y, z = inputs["x"], inputs["y"], inputs["z"]
    assert value == (x + y) * z
    assert {z, x + y, 1} <= set(grads)
    right, wrong = signed_numbers(seen.text("q2-fork"))
    assert right == 2 * seen["fork"].values["x"] + 1 != wrong


def test_q2_the_sheets_graph_has_sigmoid_and_log(seen):
    """The nodes' names are the sheet's; f at the printed point is mpmath's."""
    graph = seen["as_asked"]
    assert [type(node).__name__ for _, node, _ in graph.nodes][-2:] == [
        "Sigmoid",
        "Log",
    ]
    told = signed_numbers(seen.text("q2-as-asked"))
    expected = gradient_exact((2, 4, 1))
    assert len(told) == 3
    assert all(abs(a - b) < 6e-5 for a, b in zip(told, expected, strict=True))


def edges_of_f(x, y, z):
    """[(from, to, value, gradient)] of the sheet's graph, by formulas."""
    a, h, s = math.cos(math.pi * x), y / 2, z * z
    b, d = math.sin(math.pi * h), math.tanh(s)
    n = a + b
    u = n / d
    v = 1 / (1 + math.exp(-u))
    du = 1 - v  # of log(sigmoid(u))
    dn, dd = du / d, -du * n / d**2
    dh, ds = dn * math.pi * math.cos(math.pi * h), dd * (1 - d * d)
    return [
        ("f", "", math.log(v), 1),
        ("v", "f", v, 1 / v),
        ("u", "v", u, du),
        ("n", "u", n, dn),
        ("d", "u", d, dd),
        ("s", "d", s, ds),
        ("z", "s", z, ds * z),
        ("z", "s", z, ds * z),
        ("a", "n", a, dn),
        ("b", "n", b, dn),
        ("h", "b", h, dh),
        ("x", "a", x, -dn * math.pi * math.sin(math.pi * x)),
        ("y", "h", y, dh / 2),
        ("half", "h", 0.5, dh * y),
    ]


def test_q2_the_drawn_graph_has_the_values_and_gradients_of_its_point(seen):
    """At each arrow both numbers; the point is the one that the title names."""
    fig = seen.figure("q2-draw")
    point = re.search(r"\((\d+), (\d+), (\d+)\)", fig.fig.axes[0].get_title()).groups()
    assert ", ".join(point) in fig.alt
    texts = fig.fig.axes[0].texts
    places = seen["places"]
    numbers = [
        (text.get_position(), text.get_color(), text.get_text())
        for text in texts
        if re.fullmatch(r"-?[\d.]+(e[-+]\d+)?", text.get_text())
    ]
    colours = seen["BLUE"], seen["ORANGE"]
    edges = edges_of_f(*map(int, point))
    assert len(numbers) == 2 * len(edges)
    for start, end, *expected in edges:
        middle = np.add(places[start], places[end]) / 2
        for colour, value in zip(colours, expected, strict=True):
            by_distance = sorted(
                (math.dist(at, middle), float(text))
                for at, drawn, text in numbers
                if drawn == colour
            )
            assert by_distance[0][0] < 0.7
            count = sum(edge[:2] == (start, end) for edge in edges)
            for _, told in by_distance[:count]:
                assert math.isclose(told, value, rel_tol=1e-3, abs_tol=1e-12)


def test_q2_where_the_nodes_break(seen):
    """The one node is right at all points; the two give what float64 makes of them."""
    table = seen.table_of("q2-break")
    broken = []
    for point, u_told, as_two, as_one in table.rows:
        x, y, z = signed_numbers(point)
        u = mpmath.cospi(x) + mpmath.sinpi(mpmath.mpf(y) / 2)
        u /= mpmath.tanh(mpmath.mpf(z) ** 2)
        assert near(u_told, float(u))
        right = [float(f_exact(x, y, z)), *gradient_exact((x, y, z))]
        told = signed_numbers(as_one)
        assert len(told) == 4 and all(map(near, told, right))
        out = 1 / (1 + math.exp(-u)) if u > -700 else 0.0
        if "ValueError" in as_two:
            assert out == 0
            broken.append(point)
            continue
        outer = float((1 - out) * (1 + mpmath.exp(u)))  # of the slope of log(sigmoid)
        expected = [math.log(out), *(slope * outer for slope in right[1:])]
        told = signed_numbers(as_two)
        assert len(told) == 4 and all(map(near, told, expected))
        if not math.isclose(outer, 1, rel_tol=1e-3):
            broken.append(point)
    assert broken
    assert {tuple(signed_numbers(row[0])) for row in table.rows} > set(SHEETS_POINTS)
    assert "LogSigmoid" in table.header[3] and "LogSigmoid" not in table.header[2]


def test_q2_numerical_care(seen):
    naive, careful, slope, exact = (
        seen.text("q2-care").replace("\n", ", ").split(", ")[:4]
    )
    assert abs(signed_numbers(naive)[-1]) > 1e-15 and signed_numbers(careful)[-1] == 0
    right = 1 / math.cosh(19) ** 2
    assert not math.isclose(signed_numbers(slope)[-1], right, rel_tol=0.1)
    assert math.isclose(signed_numbers(exact)[-1], right, rel_tol=0.05)


def test_q2_the_table_of_gradients(seen):
    """Three ways for each of the sheet's points; the numerical one is measured."""
    rows = seen.table_of("q2-gradients").rows
    measured = [call.result for call in seen.of("numerical_gradient", "q2-gradients")]
    assert len(rows) == 12 and len(measured) == 4
    for k, point in enumerate(SHEETS_POINTS):
        three = dict((row[1], row) for row in rows[3 * k : 3 * k + 3])
        assert tuple(signed_numbers(rows[3 * k][0])) == point
        expected = gradient_exact(point)
        for name in "graph", "by hand":
            assert all(map(near, three[name][2:5], expected, [1e-5] * 3))
        assert three["numerical"][2:5] == [f"{slope + 0:.6g}" for slope in measured[k]]
        given = seen.of("numerical_gradient", "q2-gradients")[k].given
        assert tuple(given["array"]) == point
        func = seen["Func"]()
        func.forward(*point)
        graph = func.backward()
        by_hand = seen["gradient_by_hand"](*point)
        for name, other in ("by hand", by_hand), ("numerical", measured[k]):
            worst = max(
                abs(a - b) / (abs(a) + abs(b))
                for a, b in zip(graph, other, strict=True)
                if a
            )
            told = float(three[name][5])
            assert abs(told - worst) <= worst / 2
        assert three["graph"][5] == ""
        assert float(three["numerical"][5]) > 1e-13  # measured, not computed


@answers("Q2", "for each node")
def _(seen):
    names = {
        call.given["name"].split(",")[0]
        for call in seen.of("check_gradient", "q2-nodes-check")
    }
    used = {type(node).__name__ for graph in (seen["func"], seen["as_asked"])
            for _, node, _ in graph.nodes}  # fmt: skip
    assert used <= names
    worst = max(errors_of(seen, "q2-nodes-check"))
    return {"exact": len(names), "error": worst}, [len(names), f"{worst:.0e}"]


@answers("Q2", "Func:")
def _(seen):
    count = len(seen["Func"]().nodes)
    return {"exact": count}, [count]


def gradient_answer(point):
    def recompute(seen):
        slopes, value = gradient_exact(point), float(f_exact(*point))
        slopes = [0.0 if abs(slope) < 1e-300 else slope for slope in slopes]
        texts = [*(f"{slope:.6g}" for slope in slopes), f"{value:.4f}"]
        return {"number": [*slopes, value]}, texts

    return recompute


for _point in SHEETS_POINTS:
    answers("Q2", f"(x, y, z) = {_point}")(gradient_answer(_point))


# --- Question 3 -----------------------------------------------------------------------


def test_q3_the_drawing_has_the_networks_shapes(seen):
    texts = texts_of(seen.figure("q3-draw").fig.axes[0])
    layers = seen["mlp_model"].layers
    assert [type(layer).__name__ for layer in layers] == ["Linear", "ReLU", "Linear"]
    first, last = layers[0].W.shape, layers[-1].W.shape
    sizes = [text.split("(N, ")[1].rstrip(")") for text in texts if "(N, " in text]
    assert sizes == list(map(str, (*first, *last)))


def test_q3_lambda_is_question_1s(seen):
    """As the text of 3.3 says."""
    lam = seen["softmax_settings"]["lam"]
    for call in seen.of("fit", "q3-first-training") + seen.of("fit", "q3-tune"):
        assert call.given["lam"] == lam


def test_q3_the_same_functions_as_in_question_1(seen):
    for function in "grid_search", "fit_leaders", "learning_curve", "score_classes":
        assert {call.cell[:2] for call in seen.of(function)} == {"q1", "q3"}, function


def test_q3_beyond_the_grid(seen):
    """Pairs outside the grid, with the grid's budget; none of them becomes a leader."""
    q, cell = Question(seen, "mlp"), "q3-beyond"
    within = q.of("fit", "tune")
    accuracies = []
    _, _, cells = cells_of_tuning_table(q, cell)
    assert len(cells) == len(seen.of("fit", cell))
    for call in seen.of("fit", cell):
        given = call.given
        pair = [given[name] for name in sorted(q["grid"])]
        assert pair not in [[c.given[n] for n in sorted(q["grid"])] for c in within]
        for name in given.keys() - set(q["grid"]):
            assert given[name] is within[0].given[name]
        valid = accuracy_of(call.result.model, seen["data"].valid)
        assert f"{100 * valid:.2f}" == cells[tuple(pair)].split(" / ")[1]
        accuracies.append(valid)
    best = max(trial.valid.accuracy for trial in q["trials"])
    assert says(seen, cell, pct(best), pct(max(accuracies)))


def test_q3_mlp_against_softmax(seen):
    test = seen["data"].test
    pair = hits_of(seen["mlp_model"], test), hits_of(seen["softmax_model"], test)
    assert says(seen, "q3-test", duel_text(*pair))


def test_q3_the_strongest_hidden_units(seen):
    first, _, last = seen["mlp_model"].layers
    strength = np.sqrt((last.W.astype(float) ** 2).sum(axis=1))
    shown = only(only(seen.of("show_templates", "q3-weights")).given["rows"].values())
    strongest = np.argsort(-strength)[: shown.shape[1]]
    np.testing.assert_array_equal(shown, first.W[:, strongest])
    alt = seen.of("show", "q3-weights")[0].given["alt"]
    assert numbers_in(alt)[0] == str(shown.shape[1])


@answers("Q3", "Linear Layer and ReLU")
def _(seen):
    errors = errors_of(seen, "q3-check-run")
    assert len(errors) == 4  # Linear: input, W, b; ReLU: input
    return {"error": max(errors)}, [f"{max(errors):.0e}"]


@answers("Q3", "2 layer MLP")
def _(seen):
    errors = errors_of(seen, "q3-network-check")
    assert len(errors) == 4
    return {"error": max(errors)}, [f"{max(errors):.0e}"]


@answers("Q3", "Train the MLP")
def _(seen):
    return last_epoch(seen, seen["mlp_first"])


@answers("Q3", "accuracy on the validation set")
def _(seen):
    value = accuracy_of(seen["mlp_first"].model, seen["data"].valid)
    return {"accuracy": value}, [pct(value)]


@answers("Q3", "optimal value")
def _(seen):
    chosen = [seen["mlp_settings"][name] for name in ("batch_size", "learning_rate")]
    count = len(seen.of("fit", "q3-tune"))
    return {"exact": [*chosen, count]}, [*(f"{v:g}" for v in chosen), count]


@answers("Q3", "over-fitting")
def _(seen):
    return over_fitting(Question(seen, "mlp"))


@answers("Q3", "final performance")
def _(seen):
    return performance(Question(seen, "mlp"))


@answers("Q3", "worst performing class")
def _(seen):
    return best_and_worst(Question(seen, "mlp"))


@answers("Q3", "observations")
def _(seen):
    test = seen["data"].test
    pair = hits_of(seen["mlp_model"], test), hits_of(seen["softmax_model"], test)
    return {"images": duel(*pair)}, [duel_text(*pair)]


@answers("Q3", "Bonus")
def _(seen):
    return bonus(Question(seen, "mlp"))


# --- Question 4 -----------------------------------------------------------------------


def correlate(images, weights, stride=1, dilation=1):
    """Cross-correlation of images (N, C, H, W) with weights (O, C, k, k), by SciPy."""
    size = weights.shape[-1]
    spread = np.zeros((*weights.shape[:2], *[dilation * (size - 1) + 1] * 2))
    spread[..., ::dilation, ::dilation] = weights
    out = [
        [
            sum(map(partial(signal.correlate, mode="valid"), image, block))
            for block in spread
        ]
        for image in images
    ]
    return np.array(out)[:, :, ::stride, ::stride]


def test_q4_cifar_is_read_as_the_file_has_it(seen):
    path = ROOT / "data" / seen["CIFAR_MEMBER"]
    if path.name != seen["cifar_source"]:  # without a network the sample is used
        path = ROOT / "data" / seen["cifar_source"]
    raw = np.fromfile(path, np.uint8).reshape(-1, 3073)[: len(seen["cifar"])]
    np.testing.assert_array_equal(seen["cifar_labels"], raw[:, 0])
    pixels = raw[:, 1:].reshape(-1, 3, 32, 32) / 255
    np.testing.assert_allclose(seen["cifar"], pixels)
    assert str(seen["cifar"].shape) in seen.text("q4-cifar-load")


def test_q4_a_line_of_pixels(seen):
    line, weights, G = seen["line"], seen["weights"], seen["G_line"]
    lines = seen.text("q4-line").splitlines()
    told = [[int(n) for n in numbers_in(text)] for text in lines]
    assert told[0] == np.correlate(line, weights, "valid").tolist()
    assert told[1] == np.correlate(line, G, "valid").tolist()
    assert told[2] == told[3] == np.convolve(G, weights, "full").tolist()
    assert "filter" in lines[1] and "input" in lines[2]


def test_q4_the_picture_of_a_convolution(seen):
    fig = seen.figure("q4-picture").fig
    panels = {}
    for ax in fig.axes:
        size = round(math.sqrt(len(ax.texts)))
        panels[ax.get_title()] = np.array([float(t) for t in texts_of(ax)]).reshape(
            size, size
        )
        framed = only(p for p in ax.patches if not p.get_fill())
        assert framed.get_width() == framed.get_height() >= 1
    image, weights, output, padded, flipped, gradient = panels.values()
    assert list(panels)[:3] == ["image", "filter", "output"]
    np.testing.assert_array_equal(flipped, weights[::-1, ::-1])
    expected = signal.correlate(image, weights, "valid")
    np.testing.assert_array_equal(output, expected)
    margin = (len(padded) - len(output)) // 2
    G = padded[margin:-margin, margin:-margin]
    assert G.any() and G.sum() == padded.sum()
    np.testing.assert_array_equal(gradient, signal.convolve(G, weights, "full"))


def test_q4_the_picture_frames_what_belongs_together(seen):
    """The framed windows of image and filter give the framed output; below too."""
    frames = []
    for ax in seen.figure("q4-picture").fig.axes:
        numbers = {t.get_position(): float(t.get_text()) for t in ax.texts}
        box = only(p for p in ax.patches if not p.get_fill()).get_bbox()
        rows = np.arange(box.y0, box.y1) + 0.5
        columns = np.arange(box.x0, box.x1) + 0.5
        frames.append(np.array([[numbers[c, r] for c in columns] for r in rows]))
    for window, weights, output in (frames[:3], frames[3:]):
        assert output.shape == (1, 1) and np.sum(window * weights) == output[0, 0]


def test_q4_the_layer_is_checked(seen):
    calls = seen.of("check_layer", "q4-check")
    assert len(calls) == 2
    assert all(type(c.given["layer"]) is seen["Convolution_Layer"] for c in calls)
    plain, other = (call.given["layer"] for call in calls)
    assert (plain.stride, plain.padding, plain.dilation) == ((1, 1), (0, 0), (1, 1))
    assert min(other.stride) > 1 and min(other.padding) > 0 and min(other.dilation) > 1
    assert len(seen.of("check_gradient", "q4-check")) == 6
    assert len(seen["conv_differences"]) == 2
    assert all(0 < difference < 1e-14 for difference in seen["conv_differences"])
    assert all(min(call.given["layer"].W.shape[2:]) > 1 for call in calls)
    for call in calls:
        layer, x = call.given["layer"], call.given["x"]
        ph, _ = layer.padding
        padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (ph, ph)))
        expected = correlate(padded, layer.W, layer.stride[0], layer.dilation[0])
        expected = expected + layer.b[:, None, None]
        np.testing.assert_allclose(layer.forward(x), expected)
    assert "gradient of the picture: True" in seen.text("q4-check")


def gauss(size, sigma):
    """A bell of sum 1, (size, size)."""
    bell = stats.norm.pdf(np.arange(size) - (size - 1) / 2, scale=sigma)
    return np.outer(bell, bell) / bell.sum() ** 2


def test_q4_the_filters_figure_shows_the_layers_weights(seen):
    size, sigma = seen["BLUR_SIZE"], seen["BLUR_SIGMA"]
    fig = seen.figure("q4-filters").fig
    pictures = [p for p in pictures_of(fig) if p.shape == (size, size)]
    assert len(pictures) == 10
    np.testing.assert_allclose(pictures[0], gauss(size, sigma))
    for k, block in enumerate(pictures[1:]):
        expected = gauss(size, sigma) if k % 4 == 0 else 0 * gauss(size, sigma)
        np.testing.assert_allclose(block, expected)
    nine = [ax for ax in fig.axes if ax.images][-9:]
    assert len({ax.images[0].get_clim() for ax in nine}) == 1  # one scale


def blurred(images, size, sigma):
    """What SciPy makes of images, edges replicated."""
    return ndimage.gaussian_filter(
        images,
        (0, 0, sigma, sigma),
        radius=(0, 0, size // 2, size // 2),
        mode="nearest",
    )


def test_q4_first_five_and_ten_random_images_are_blurred_and_shown(seen):
    """Each figure shows the next few of them, inputs above outputs."""
    size, sigma, cifar = seen["BLUR_SIZE"], seen["BLUR_SIGMA"], seen["cifar"]
    for call in seen.of("blur"):
        assert (call.given["size"], call.given["sigma"]) == (size, sigma)
    five, ten = (call.given["images"] for call in seen.of("blur", "q4-blur"))
    np.testing.assert_array_equal(five, cifar[:5])
    drawn = [
        int(np.flatnonzero((cifar == image).all(axis=(1, 2, 3)))[0]) for image in ten
    ]
    assert len(set(drawn)) == 10 and drawn != sorted(drawn)
    assert max(drawn) > len(cifar) / 2
    places = [*range(5), *drawn]
    for k, grid in enumerate(seen.of("image_grid", "q4-blur-show")):
        columns, fig = grid.given["columns"], seen.figure("q4-blur-show", k).fig
        here, places = places[:columns], places[columns:]
        both = np.concatenate([cifar[here], blurred(cifar[here], size, sigma)])
        assert_same_pictures(fig, both.transpose(0, 2, 3, 1).clip(0, 1))
        names = [seen["CIFAR_NAMES"][label] for label in seen["cifar_labels"][here]]
        assert titles_of(fig)[:columns] == names
        assert grid.given["row_names"][0] == "input"
        assert numbers_in(grid.given["title"])[0] == str(5 if k == 0 else 10)
    assert not places


def test_q4_the_blur_is_scipys(seen):
    """The comparison is of all images, and not of SciPy's blur with itself."""
    cifar = seen["cifar"]
    ours = only(seen.of("blur", "q4-scipy"))
    np.testing.assert_array_equal(ours.given["images"], cifar)
    scipys = blurred(cifar, seen["BLUR_SIZE"], seen["BLUR_SIGMA"])
    np.testing.assert_array_equal(seen["by_scipy"], scipys)
    worst = np.abs(ours.result - scipys).max()
    assert 0 < worst < 1e-13
    assert says(seen, "q4-scipy", f"{len(cifar):,}", f"{worst:.0e}")


def test_q4_four_geometries(seen):
    fig = seen.figure("q4-geometry-show").fig
    axes = np.reshape(fig.axes, (2, 4))
    found = set()
    for top, below in axes.T:
        stride, dilation = map(int, numbers_in(top.get_title()))
        found.add((stride, dilation))
        blur = correlate(
            seen["cifar"][:1], seen["gaussian_filters"](3, 1.0), stride, dilation
        )
        shown = np.asarray(below.images[0].get_array())
        np.testing.assert_allclose(shown, blur[0].transpose(1, 2, 0).clip(0, 1))
        sizes = numbers_in(below.get_xlabel())[-2:]
        assert sizes == [str(shown.shape[0]), str(shown.shape[1])]
        read = np.zeros((11, 11))
        read[: 2 * dilation + 1 : dilation, : 2 * dilation + 1 : dilation] += 1
        second = slice(stride, stride + 2 * dilation + 1, dilation)
        read[: 2 * dilation + 1 : dilation, second] += 2
        np.testing.assert_array_equal(
            np.reshape(top.collections[0].get_array(), (11, 11)), read
        )
    assert len(found) == 4
    names = [text.get_text() for text in fig.legends[0].texts]
    colours = [handle.get_facecolor() for handle in fig.legends[0].legend_handles]
    palette = axes[0, 0].collections[0].get_cmap()
    assert [tuple(palette(k)) for k in (1, 2, 3)] == [tuple(c) for c in colours]
    assert "first" in names[0] and "second" in names[1] and "both" in names[2]


@answers("Q4", "Download")
def _(seen):
    shape = seen["cifar"].shape
    return {"exact": shape}, [shape, seen["cifar_source"]]


@answers("Q4", "set_weights")
def _(seen):
    worst = max(seen["conv_differences"])
    return {"error": worst}, [f"{worst:.0e}"]


@answers("Q4", "backward returns")
def _(seen):
    worst = max(errors_of(seen, "q4-check"))
    return {"error": worst}, [f"{worst:.0e}"]


@answers("Q4", "visualise")
def _(seen):
    shape = 3, 3, seen["BLUR_SIZE"], seen["BLUR_SIZE"]
    return {"exact": shape}, [shape, seen["BLUR_SIGMA"]]


@answers("Q4", "first 5 images")
def _(seen):
    shape = 5, *seen["cifar"].shape[1:]
    worst = np.abs(
        seen["blur"].__wrapped__(seen["cifar"], seen["BLUR_SIZE"], seen["BLUR_SIGMA"])
        - blurred(seen["cifar"], seen["BLUR_SIZE"], seen["BLUR_SIGMA"])
    ).max()
    return {"exact": shape, "error": worst}, [shape, f"{worst:.0e}"]


@answers("Q4", "10 random images")
def _(seen):
    shape = 10, *seen["cifar"].shape[1:]
    return {"exact": shape}, [shape]


# --- Question 5 -----------------------------------------------------------------------


@pytest.fixture(scope="session")
def given_layer(seen):
    """(patches, W0 in rows, outputs): Question 5's regression, without the notebook."""
    x = seen["cifar"][:100]
    windows = np.lib.stride_tricks.sliding_window_view(x, (5, 5), axis=(2, 3))
    patches = windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, 75)
    W0 = np.load(ROOT / "C0_weights.npy").astype(float).reshape(-1, 75)
    return patches, W0, patches @ W0.T


def measure(given_layer, W):
    """(distance of the outputs, relative error of the filters)."""
    patches, W0, outputs = given_layer
    W = np.reshape(W, W0.shape)
    distance = np.linalg.norm(patches @ W.T - outputs)
    return float(distance), float(np.linalg.norm(W - W0) / np.linalg.norm(W0))


def alike(told, expected):
    """Numbers agree, or both are rounding errors."""
    return math.isclose(told, expected, rel_tol=1e-6) or max(told, expected) < 1e-7


DESCENTS = ["descent on L", "descent on ½L²", "whitened descent"]


def test_q5_the_target_is_c0s_output(seen, given_layer):
    _, W0, outputs = given_layer
    np.testing.assert_array_equal(seen["W0"].reshape(W0.shape), W0)
    np.testing.assert_array_equal(seen["C0"].W, seen["W0"])
    assert type(seen["C0"]) is seen["Convolution_Layer"]
    np.testing.assert_array_equal(seen["x5"], seen["cifar"][:100])
    target = seen["target"].transpose(0, 2, 3, 1).reshape(outputs.shape)
    np.testing.assert_allclose(target, outputs)
    shapes = seen["W0"].shape, seen["x5"].shape, seen["target"].shape
    assert says(seen, "q5-c0", *shapes)


def test_q5_l2_is_checked(seen):
    distance = math.dist(seen["near"], seen["far"])
    told = signed_numbers(seen.text("q5-l2-check"))
    assert told[0] > 0 and says(seen, "q5-l2-check", f"{round(distance, 6)}")
    assert 0 < only(errors_of(seen, "q5-l2-check")) < 1e-7


def test_q5_the_layer_itself_descends_from_uniform_weights(seen):
    calls = seen.of("descend")
    assert len(calls) == len(DESCENTS)
    for call in calls:
        assert type(call.given["C"]) is seen["Convolution_Layer"]
        W = only(call.before)
        assert stats.kstest(W.ravel(), stats.uniform(-1, 2).cdf).pvalue > 1e-3
        assert np.abs(W).max() <= 1
        np.testing.assert_array_equal(call.given["x"], seen["x5"])
        assert call.given["target"] is seen["target"]
        np.testing.assert_array_equal(call.given["W0"], seen["W0"])


def test_q5_each_descent_is_what_its_name_says(seen):
    assert list(seen["descents"]) == DESCENTS
    for name, call in zip(DESCENTS, seen.of("descend"), strict=True):
        assert seen["descents"][name] is call.result
        assert call.given["squared"] is (name != "descent on L")
        kind = "Whitened" if "whitened" in name else "Plain"
        assert type(call.given["rule"]).__name__ == kind
        assert len(call.result.history) == call.given["passes"] + 1


def test_q5_the_true_filters_reach_no_gradient(seen):
    """With other filters to be measured against, the outputs come as close."""
    for call in seen.of("descend"):
        given = call.given | {"C": seen["new_layer"](seen["Convolution_Layer"])}
        given["C"].set_weights(only(call.before))
        given |= {"W0": np.ones_like(call.given["W0"]), "passes": 1}
        again = seen["descend"].__wrapped__(**given)
        for k in range(2):
            old, new = call.result.history[k], again.history[k]
            assert old.distance == pytest.approx(new.distance)
            assert old.error != pytest.approx(new.error)


def test_q5_the_whitened_rule_knows_the_images_only(seen, given_layer):
    patches, *_ = given_layer
    rule = seen.of("descend")[2].given["rule"]
    product = rule.inverse @ (patches.T @ patches)
    np.testing.assert_allclose(product, np.eye(75), atol=1e-5)


def test_q5_histories_begin_and_end_with_the_weights(seen, given_layer):
    for call in seen.of("descend"):
        history, W = call.result.history, call.result.W
        for row, weights in (history[0], only(call.before)), (history[-1], W):
            assert all(map(alike, row, measure(given_layer, weights)))


def test_q5_the_logs_are_the_histories(seen):
    header, *lines = seen.text("q5-descent").splitlines()
    assert header.index(DESCENTS[0]) < header.index(DESCENTS[1])
    for line in lines:
        k, *texts = line.split()
        expected = []
        for name in DESCENTS[:2]:
            row = seen["descents"][name].history[int(k)]
            expected += [f"{row.distance:.0f}", f"{row.error:.3f}"]
        assert texts == expected
    passes = len(seen["descents"][DESCENTS[0]].history) - 1
    assert [lines[0].split()[0], lines[-1].split()[0]] == ["0", str(passes)]
    history = seen["descents"][DESCENTS[2]].history
    for line in seen.text("q5-whitened-run").splitlines()[1:]:
        k, distance, error = line.split()
        row = history[int(k)]
        assert [distance, error] == [f"{row.distance:.2e}", f"{row.error:.2e}"]
    assert int(k) == len(history) - 1


@pytest.mark.parametrize(("cell", "count"), [("q5-descent-show", 2), ("q5-methods", 3)])
def test_q5_descents_are_drawn(seen, cell, count):
    fig = seen.figure(cell).fig
    assert len(fig.axes) == 2
    for ax, field in zip(fig.axes, ("distance", "error"), strict=True):
        assert field in ax.get_ylabel()
        curves = curves_of(ax)
        assert list(curves) == DESCENTS[:count]
        for name, (x, y) in curves.items():
            history = seen["descents"][name].history
            np.testing.assert_array_equal(x, range(len(history)))
            np.testing.assert_array_equal(y, [getattr(row, field) for row in history])


def bowl_of(seen):
    """(A, steepest eigenvalue, the pairs of neighbours) of the bowl of two pixels."""
    x = seen["cifar"][:100, 0]
    pairs = np.stack([x[:, :, :-1].ravel(), x[:, :, 1:].ravel()])
    A = pairs @ pairs.T / pairs.shape[1]
    return A, np.linalg.eigvalsh(A)[-1], pairs


def test_q5_paths_in_the_bowl(seen):
    A, steepest, _ = bowl_of(seen)
    told = signed_numbers(seen.text("q5-bowl"))
    np.testing.assert_allclose(told[:4], A.ravel(), atol=6e-4)
    np.testing.assert_allclose(told[4:], np.linalg.eigvalsh(A), atol=6e-5)
    fig = seen.figure("q5-bowl-show").fig
    values, vectors = np.linalg.eigh(A)
    root = vectors @ np.diag(np.sqrt(values)) @ vectors.T
    start = seen["start"]
    assert len(fig.axes) == len(seen["bowl_paths"]) + 1
    for ax in fig.axes:
        path = np.array(ax.lines[0].get_data()).T
        rate = float(numbers_in(ax.get_title())[0])
        white = "whitened" in ax.get_title()
        matrix = np.eye(2) if white else A / steepest
        factor = np.eye(2) - rate * matrix
        expected = [root @ start if white else start]
        for _ in range(len(path) - 1):
            expected.append(factor @ expected[-1])
        np.testing.assert_allclose(path, expected, atol=1e-9)
        assert np.allclose(ax.lines[1].get_data(), 0)
    rates = [float(numbers_in(ax.get_title())[0]) for ax in fig.axes[:-1]]
    assert min(rates) < 1 < 2 < max(rates)


def test_q5_the_spectrum(seen, given_layer):
    patches, W0, _ = given_layer
    A, mean = patches.T @ patches, patches.mean(axis=0)
    values, vectors = np.linalg.eigh(A)
    centred = (patches - mean).T @ (patches - mean)
    expected = [
        f"{values[-1]:.3g}", f"{values[0]:.3g}", f"{np.linalg.cond(A):.2g}",
        f"{10 / values[-1]:.2g}", f"{len(patches) * mean @ mean:.3g}",
        f"{np.linalg.cond(centred):.2g}",
    ]  # fmt: skip
    told = signed_numbers(seen.text("q5-spectrum"))
    np.testing.assert_allclose(told, list(map(float, expected)), rtol=0.011)
    left, right = seen.figure("q5-spectrum-show").fig.axes
    x, y = left.lines[0].get_data()
    np.testing.assert_allclose(np.array(y)[np.argsort(x)], values[::-1], rtol=1e-6)
    curves = curves_of(right)
    weights = only(seen.of("descend")[1].before), seen["descents"][DESCENTS[1]].W
    for (name, (x, y)), W in zip(curves.items(), weights, strict=True):
        along = np.linalg.norm((W.reshape(W0.shape) - W0) @ vectors, axis=0)
        np.testing.assert_allclose(y[np.argsort(x)], along[::-1], rtol=1e-4, atol=1e-9)
        assert ("start" in name) == (W is weights[0])
    assert DESCENTS[1] in list(curves)[1]


def test_q5_where_the_own_gradient_stops(seen, given_layer):
    patches, *_ = given_layer
    steepest = np.linalg.eigvalsh(patches.T @ patches)[-1]
    call = seen.of("descend")[0]
    predicted = math.sqrt(5) * call.given["rule"].rate * steepest / 10
    told = numbers_in(seen.text("q5-own"))
    history = call.result.history[-int(told[1]) :]
    mean = np.mean([row.distance for row in history])
    assert [told[0], told[2]] == [f"{predicted:.0f}", f"{mean:.0f}"]


def test_q5_least_squares(seen, given_layer):
    distance, error = measure(given_layer, seen["regression"].W)
    told = signed_numbers(seen.text("q5-lstsq"))
    assert alike(told[0], distance) and alike(told[1], error) and error < 1e-10
    assert not np.array_equal(seen["regression"].W, seen["W0"])


def test_q5_the_table_of_ends(seen, given_layer):
    first, *rows, last = seen.table_of("q5-methods").rows
    start = measure(given_layer, only(seen.of("descend")[1].before))
    assert first[1:] == ["0", *(f"{value:.2g}" for value in start)]
    assert [row[0] for row in rows] == DESCENTS
    for row in rows:
        descent = seen["descents"][row[0]]
        expected = measure(given_layer, descent.W)
        assert row[1] == str(len(descent.history) - 1)
        for told, value in zip(row[2:], expected, strict=True):
            assert told == f"{value:.2g}" or max(float(told), value) < 1e-7
    assert last[0] == "least squares" and max(map(float, last[2:])) < 1e-7


def test_q5_the_printed_distance(seen, given_layer):
    told = signed_numbers(seen.text("q5-distance"))[-1]
    distance = measure(given_layer, seen["descents"][DESCENTS[2]].W)[0]
    assert told < 100 * distance and distance < 100 * told
    np.testing.assert_array_equal(seen["learned"].W, seen["descents"][DESCENTS[2]].W)


def test_q5_true_filters_stand_above_the_learned_ones(seen):
    rows = {
        "true": seen["W0"],
        "start": only(seen.of("descend")[1].before),
        "plain": seen["descents"][DESCENTS[1]].W,
        "whitened": seen["descents"][DESCENTS[2]].W,
    }
    grids, shown = seen.of("image_grid", "q5-filters"), 0
    for k, grid in enumerate(grids):
        assert grid.given["row_names"] == list(rows)
        columns = grid.given["columns"]
        part = slice(shown, shown + columns)
        pictures = np.concatenate([W[part] for W in rows.values()])
        pictures = pictures.transpose(0, 2, 3, 1).clip(-1, 1) / 2 + 0.5
        np.testing.assert_array_equal(grid.given["pictures"], pictures)
        assert_same_pictures(seen.figure("q5-filters", k).fig, pictures)
        assert numbers_in(grid.given["title"]) == [str(shown + 1), str(shown + columns)]
        shown += columns
    assert shown == len(seen["W0"])


@answers("Q5", "L2_loss")
def _(seen):
    error = only(errors_of(seen, "q5-l2-check"))
    return {"error": error}, [f"{error:.0e}"]


@answers("Q5", "Load C0_weights")
def _(seen):
    count = len(seen["cifar"][:100])
    shapes = (20, 3, 5, 5), (count, 3, 32, 32), (count, 20, 28, 28)
    return {"exact": [*shapes[0], *shapes[2]]}, shapes


def ends_of(seen):
    """The last Measures of the three descents (checked above)."""
    return [seen["descents"][name].history[-1] for name in DESCENTS]


@answers("Q5", "to learn C_0")
def _(seen):
    own, squared, whitened = ends_of(seen)
    texts = [f"{own.error:.2f}", f"{squared.error:.2f}", f"{whitened.error:.0e}"]
    return {"number": [own.error, squared.error], "error": whitened.error}, texts


@answers("Q5", "Print L2 dist")
def _(seen):
    *plain, whitened = (row.distance for row in ends_of(seen))
    told = seen["final_distance"]  # checked above; rounding differs
    texts = [f"{told:.1e}", *(f"{distance:.0f}" for distance in plain)]
    return {"error": whitened, "number": plain}, texts


# --- Further --------------------------------------------------------------------------


def test_further_variants_differ_only_in_what_they_say(seen):
    cell = "further-why"
    fits, trains = seen.of("fit", cell), seen.of("train", cell)
    lines = seen.text(cell).splitlines()
    assert len(fits) == len(lines) == len(seen["variants"]) == 4
    starts = {}
    for line, name, fit, train in zip(
        lines, seen["variants"], fits, trains, strict=True
    ):
        for key in fit.given.keys() - {"make_model"}:
            assert fit.given[key] is fits[0].given[key]
        assert fit.given["part"] is seen["data"].train
        kinds = [type(layer).__name__ for layer in train.given["model"].layers]
        relu = [] if "without ReLU" in name else ["ReLU"]
        assert kinds == ["Linear", *relu, "Linear"]
        starts[name] = train.before
        model = fit.result.model
        value = accuracy_of(model, seen["data"].valid)
        different = len({column.tobytes() for column in model.layers[0].W.T})
        assert line.startswith(name)
        assert numbers_in(line[len(name) :]) == numbers_in(f"{pct(value)} {different}")
        assert seen["data"].valid.name in line
    normal = starts[next(iter(starts))]
    for name, start in starts.items():
        if "all weights" in name:
            value = np.float32(numbers_in(name)[0])
            assert all((value == W).all() for W in start)
        else:
            assert all(map(np.array_equal, start, normal))
    assert np.std(normal[0]) == pytest.approx(math.sqrt(2 / seen["PIXELS"]), rel=0.05)


def test_further_gains_have_the_same_draws(seen):
    sizes = [np.array(rms) for rms in seen["activations"].values()]
    one, he, two = sizes
    layers = np.arange(1, len(one) + 1)
    np.testing.assert_allclose(he / one, 2 ** (layers / 2), rtol=1e-6)
    np.testing.assert_allclose(two / he, 2 ** (layers / 2), rtol=1e-6)
    x = seen["data"].valid.x
    assert he[0] == pytest.approx(math.sqrt(np.mean(x[:500] ** 2)), rel=0.15)
    assert he[0] / 3 < he[-1] < 3 * he[0]
    curves = curves_of(seen.figure("further-he").fig.axes[0])
    assert list(curves) == list(seen["activations"])
    for (x, y), rms in zip(curves.values(), sizes, strict=True):
        np.testing.assert_allclose(y, rms)
        np.testing.assert_array_equal(x, layers)
    for line, name, rms in zip(
        seen.text("further-he").splitlines(), curves, sizes, strict=True
    ):
        told = numbers_in(line[len(name) :])
        assert line.startswith(name) and told == [f"{rms[0]:.2g}", f"{rms[-1]:.2g}"]
    assert [name.split()[1][0] for name in curves] == ["1", "√", "2"]


def test_further_hidden_units(seen):
    data, cell = seen["data"], "further-units"
    calls, fits = seen.of("fit_width", cell), seen.of("fit", cell)
    table = seen.table_of(cell)
    by_width = defaultdict(list)
    for call, fit in zip(calls, fits, strict=True):
        model = fit.result.model
        assert model.layers[0].W.shape[1] == call.given["units"]
        assert fit.given["seed"] == call.given["seed"]
        assert fit.given["part"] is data.train
        for key, value in calls[0].given["settings"].items():
            assert fit.given[key] == value
        scores = data.train.x @ model.layers[0].W + model.layers[0].b
        dead = int((scores.max(axis=0) <= 0).sum())
        errors = [100 - 100 * accuracy_of(model, part) for part in data[:2]]
        assert call.result == pytest.approx((*errors, dead))
        by_width[call.given["units"]].append((fit.given["seed"], *errors, dead))
    assert [row[0] for row in table.rows] == list(map(str, by_width))
    for row, results in zip(table.rows, by_width.values(), strict=True):
        seeds, *errors, dead = zip(*results, strict=True)
        assert len(set(seeds)) == len(seeds) == 5
        assert row[1:3] == [f"{min(e):.1f} to {max(e):.1f}" for e in errors]
        assert row[3] == ", ".join(map(str, dead))
    for part, head in zip(data[:2], table.header[1:3], strict=True):
        assert part.name in head
    for name in "epochs", "lam":
        assert calls[0].given["settings"][name] == seen["mlp_settings"][name]
    assert seen["mlp_model"].layers[0].W.shape[1] == max(by_width)


def test_further_the_files_order(seen, images):
    """Trained on the first 70 % of what is kept of the file, tested on the rest."""
    kept = round(SHARE * len(images.y))
    cut = kept * 7 // 10
    call = only(seen.of("fit", "further-order"))
    part, tail = call.given["part"], seen["tail"]
    np.testing.assert_array_equal(part.x, images.x[:cut])
    np.testing.assert_array_equal(part.y, images.y[:cut])
    np.testing.assert_array_equal(tail.x, images.x[cut:kept])
    np.testing.assert_array_equal(tail.y, images.y[cut:kept])
    for name, value in seen["softmax_settings"].items():
        assert call.given[name] == value
    assert call.given["make_model"] is seen["new_softmax"]
    hits = np.array_split(hits_of(call.result.model, tail), 6)
    counts = [[h.sum(), (~h).sum()] for h in hits]
    p = stats.chi2_contingency(counts).pvalue
    assert says(seen, "further-order", *(pct(h.mean()) for h in hits), f"{p:.1g}")


def test_further_five_ways_begin_and_are_measured_alike(seen, given_layer):
    patches, W0, outputs = given_layer
    call = only(seen.of("descend_all"))
    given, count = call.given, len(seen["x5"])
    np.testing.assert_array_equal(
        given["W"], only(seen.of("descend")[1].before).reshape(W0.shape)
    )
    np.testing.assert_array_equal(given["W0"], W0)
    A, T, p, t, locations = given["matrices"]
    P = patches.reshape(count, -1, 75)
    np.testing.assert_allclose(A[-1], P[-1].T @ P[-1])
    np.testing.assert_allclose(A.sum(axis=0), patches.T @ patches)
    np.testing.assert_allclose(T.sum(axis=0), outputs.T @ patches, atol=1e-6)
    np.testing.assert_allclose(p.sum(axis=0), patches.sum(axis=0))
    np.testing.assert_allclose(t.sum(axis=0), outputs.sum(axis=0), atol=1e-6)
    assert locations == P.shape[1]
    assert seen["ways"] is call.result
    name = only(names_of(seen, ("Further", "ways down")))
    assert str(given["passes"]) in numbers_in(name)
    assert all(len(errors) == given["passes"] + 1 for errors in seen["ways"].values())


def test_further_ways_have_the_rules_of_their_names(seen):
    kinds = {"plain": "Plain", "momentum": "Momentum", "Adam": "Adam",
             "centred": "Plain", "whitened": "Whitened"}  # fmt: skip
    rules = only(seen.of("descend_all")).given["rules"]
    assert {name for name, _ in rules} == set(kinds) == set(seen["best_ways"])
    for (name, rate), (rule, centred) in rules.items():
        assert type(rule).__name__ == kinds[name] and rule.rate == rate
        assert bool(centred) == (name == "centred")
    assert len({id(rule) for rule, _ in rules.values()}) == len(rules)


def test_further_the_ways_are_those_of_question_5(seen):
    """The same rule and rate through the same mini-batches gives the same errors."""
    compared = 0
    for call in seen.of("descend")[1:]:
        kind = {"Plain": "plain", "Whitened": "whitened"}[
            type(call.given["rule"]).__name__
        ]
        errors = seen["ways"].get((kind, call.given["rule"].rate))
        if errors is not None:
            history = [row.error for row in call.result.history]
            assert all(map(alike, history, errors))
            compared += 1
    assert compared


def test_further_the_best_rates_are_shown(seen):
    left, right = seen.figure("further-ways").fig.axes
    ends = defaultdict(dict)
    for (name, rate), errors in seen["ways"].items():
        ends[name][rate] = errors[-1] if np.isfinite(errors[-1]) else math.inf
    best = {name: min(found, key=found.get) for name, found in ends.items()}
    curves = curves_of(right)
    assert list(curves) == list(best) == list(seen["best_ways"])
    table = seen.table_of("further-ways")
    paths = dict(zip(best, curves_of(left).values(), strict=True))  # in the same order
    for one, other in zip(left.lines, right.lines, strict=True):
        assert one.get_linestyle() == other.get_linestyle()
        assert one.get_color() == other.get_color()
    for (name, rate), row in zip(best.items(), table.rows, strict=True):
        errors = seen["ways"][name, rate]
        np.testing.assert_array_equal(curves[name][1], errors)
        assert row[0] == name and row[2:] == [f"{rate:g}", f"{errors[-1]:.2g}"]
        x, y = paths[name]
        end = math.hypot(x[-1], y[-1]) / math.hypot(x[0], y[0])
        assert row[1] == f"{end:.2g}"
    assert numbers_in(table.header[1]) == [str(len(x) - 1)]


def test_further_paths_in_the_bowl(seen):
    A, _, pairs = bowl_of(seen)
    lines = curves_of(seen.figure("further-ways").fig.axes[0]).values()
    paths = dict(zip(seen["best_ways"], lines, strict=True))
    for path in paths.values():
        assert (path[0][0], path[1][0]) == tuple(seen["start"])
    B = np.cov(pairs, bias=True)
    for name, matrix in ("plain", A), ("centred", B):
        d = np.array(paths[name])
        step = (d[:, 0] - d[:, 1]) @ np.linalg.pinv(matrix @ d[:, :1]).T
        rate = float(np.squeeze(step))
        for k in range(30):
            np.testing.assert_allclose(
                d[:, k + 1], d[:, k] - rate * matrix @ d[:, k], atol=1e-9
            )
        assert rate == pytest.approx(1 / np.linalg.eigvalsh(matrix)[-1])
    d = np.array(paths["momentum"])
    velocity = d[:, :-1] - d[:, 1:]
    pull = velocity[:, 1:] - 0.9 * velocity[:, :-1]
    rates = pull / (A @ d[:, 1:-1])
    np.testing.assert_allclose(rates, rates[0, 0], rtol=1e-6)
    d = np.array(paths["Adam"])
    assert np.allclose(np.abs(d[:, 1] - d[:, 0]), np.abs(d[0, 1] - d[0, 0]))
    d = np.array(paths["whitened"])
    np.testing.assert_allclose(d[:, 1:] / d[:, :-1], d[0, 1] / d[0, 0], rtol=1e-6)


def test_further_the_fast_layer(seen):
    tiny, x = seen["tiny"], np.arange(1.0, 10).reshape(3, 3)
    for line in seen.text("further-fast-rows").splitlines():
        u, v, *pixels = map(int, numbers_in(line))
        assert pixels == x[u : u + 2, v : v + 2].ravel().astype(int).tolist()
    assert type(tiny) is seen["Fast_Convolution_Layer"] and u == v == 1
    told = signed_numbers(seen.text("further-fast-check"))
    assert max(told) < 1e-14
    assert 0 < max(seen["fast_differences"]) < 1e-14  # of two layers, not of one
    assert len(seen["fast_differences"]) == 8


def test_further_arrows(seen):
    """A picture is the digit read where its arrows point; fields add up as they say."""
    fig, data = seen.figure("further-arrows-show").fig, seen["data"]
    digit = seen["one_digit"].reshape(data.shape)
    places = np.indices(data.shape)
    for ax, (name, field) in zip(fig.axes, seen["fields"].items(), strict=True):
        field = field.reshape(2, *data.shape)
        expected = ndimage.map_coordinates(
            digit, places + field, order=1, mode="grid-constant"
        )
        shown = np.asarray(ax.images[0].get_array())
        np.testing.assert_allclose(shown, expected, atol=1e-5)
        assert ax.get_title() == name
        arrows = only(c for c in ax.collections if hasattr(c, "U"))
        rows, columns = arrows.Y.astype(int), arrows.X.astype(int)
        np.testing.assert_allclose(np.ravel(arrows.U), field[1][rows, columns].ravel())
        np.testing.assert_allclose(np.ravel(arrows.V), field[0][rows, columns].ravel())
    none, one, three, bumps, both = seen["fields"].values()
    assert not np.any(none)
    assert np.abs(one).max() > 0.5
    ranks = [
        np.linalg.matrix_rank(f.reshape(2, *data.shape)[0], tol=1e-3)
        for f in (one, three)
    ]
    assert ranks[0] == 1 < ranks[1] <= 3
    row, column = np.indices(data.shape).reshape(2, -1)
    affine = np.column_stack([row, column, np.ones(len(row))])
    for difference in both - bumps:
        assert np.any(difference)
        _, residual, *_ = np.linalg.lstsq(affine, difference, rcond=None)
        assert residual < 1e-6


def nearest_labels(images, x, data):
    """The labels of the training images that are nearest to the rows of x."""
    train = data.train.x
    distance = (train**2).sum(1) - 2 * x @ train.T
    return data.train.y[distance.argmin(axis=1)]


def test_further_samples_of_distorted_digits(seen, images):
    data = seen["data"]
    bent = only(seen.of("image_grid", "further-samples")).given["pictures"]
    repeated = only(seen.of("distorted_minibatch", "further-samples")).given["x"]
    assert images.among(repeated, "train") and len(set(images.marks(repeated))) == 5
    assert len(bent) == len(repeated) == 20
    rows = bent.reshape(len(bent), -1)
    assert len(set(fingerprints(rows))) == len(rows) and not images.among(rows, "train")
    distance = ((rows[:, None] - repeated[None, ::4]) ** 2).sum(axis=2)
    own = distance[np.arange(20), np.arange(20) // 4]
    others = (distance.sum(axis=1) - own) / 4
    assert np.mean(own < others) > 0.8  # in the order of the digits
    assert data.train.name in seen.of("image_grid", "further-samples")[0].given["title"]


def networks(seen):
    """{name of the model in 6.6: its Run}."""
    return {"MLP": seen["wide_run"], "ConvNet": seen["convnet_run"]}


def test_further_two_networks_are_trained_on_distorted_digits(seen, images):
    cell, data = "further-train", seen["data"]
    fits = seen.of("fit", cell)
    assert len(fits) == 2
    assert {id(fit.result) for fit in fits} == set(map(id, networks(seen).values()))
    for fit in fits:
        assert fit.given["part"] is data.train and fit.given["valid"] is data.valid
    epochs = sum(fit.given["epochs"] for fit in fits)
    calls = seen.of("distorted_minibatch", cell)
    assert len(calls) == epochs and all(c.given["x"] is data.train.x for c in calls)
    assert all(c.given["y"] is data.train.y for c in calls)
    steps = seen.of("take_step", cell)
    assert steps
    for step in steps:
        x_b, y_b = step.given["x_b"], step.given["y_b"]
        marks = fingerprints(x_b)
        assert not images.parts["train"] & set(marks) and len(set(marks)) == len(marks)
        assert np.mean(nearest_labels(images, x_b, data) == y_b) > 0.5


def test_further_the_networks_are_what_their_names_say(seen):
    runs = networks(seen)
    kinds = [type(layer).__name__ for layer in runs["ConvNet"].model.layers]
    assert kinds.count("Fast_Convolution_Layer") == 2
    kinds = [type(layer).__name__ for layer in runs["MLP"].model.layers]
    assert kinds == ["Linear", "ReLU", "Linear"]


def test_further_training_of_the_networks_is_drawn(seen):
    fig, runs = seen.figure("further-train-show").fig, networks(seen)
    for ax, (name, run) in zip(fig.axes, runs.items(), strict=True):
        assert name in ax.get_title()
        curves = curves_of(ax)
        assert list(curves) == [part.name for part in seen["data"][:2]]
        for part, (x, y) in curves.items():
            rows = run.history[part]
            np.testing.assert_allclose(x, [row.at for row in rows])
            np.testing.assert_allclose(y, [100 * row.accuracy for row in rows])
        for number in re.findall(r"(\d+) units", ax.get_title()):
            assert run.model.layers[0].W.shape[1] == int(number)
    lines = seen.text("further-train-show").splitlines()
    for line, (name, run) in zip(lines, runs.items(), strict=True):
        train, valid, _ = seen["data"][:3]
        told = [pct(accuracy_of(run.model, part)) for part in (valid, train)]
        assert line.startswith(name) and line.count("%") == 2
        assert numbers_in(line)[-2:] == numbers_in(" ".join(told))
        assert line.index(valid.name) < line.index(train.name)


def staircase(seen):
    """{name of the model: its hits on a Part, as a function}, by what the names say."""
    found = {}
    for name in seen["models"]:
        if "regression" in name:

            def of(part):
                return seen["one_hot"].predict(part.x).argmax(axis=1) == part.y
        else:
            model = (
                seen["softmax_model"] if "softmax" in name
                else seen["convnet_run"].model if "ConvNet" in name
                else seen["wide_run"].model if "distorted" in name
                else seen["mlp_model"]
            )  # fmt: skip
            if "units" in name:
                units = re.search(r"(\d+) units", name)[1]
                assert model.layers[0].W.shape[1] == int(units)

            def of(part, model=model):
                return hits_of(model, part)

        found[name] = of
    return found


def test_further_the_staircase(seen):
    test, models = seen["data"].test, staircase(seen)
    assert len(models) == 5
    hits = {name: of(test) for name, of in models.items()}
    table = seen.table_of("further-staircase")
    first, *rows = table.rows
    assert first == [next(iter(hits)), pct_interval(next(iter(hits.values()))), "", ""]
    for row, (before, after) in zip(rows, itertools.pairwise(hits), strict=True):
        against = duel_text(hits[after], hits[before])
        assert row == [after, pct_interval(hits[after]), before, against]
    assert test.name in table.header[1]
    ax = seen.figure("staircase").fig.axes[0]
    bars = only(ax.containers)
    errors = [100 - 100 * np.mean(h) for h in hits.values()]
    np.testing.assert_allclose(np.asarray(bars.lines[0].get_ydata(), float), errors)
    for segment, h in zip(bars.lines[2][0].get_segments(), hits.values(), strict=True):
        _, low, high = interval(h)
        np.testing.assert_allclose(segment[:, 1], [100 - 100 * high, 100 - 100 * low])
    assert texts_of(ax) == [f"{error:.2f} %" for error in errors]
    names = [tick.get_text().replace("\n", " ") for tick in ax.get_xticklabels()]
    assert names == list(hits)
    steps = only(line for line in ax.lines if line.get_drawstyle().startswith("steps"))
    np.testing.assert_allclose(steps.get_ydata(), errors)


def test_further_shifted_digits(seen):
    test, models = seen["data"].test, staircase(seen)
    pictures = test.x.reshape(-1, *seen["data"].shape)
    curves = curves_of(seen.figure("further-shift").fig.axes[0])
    assert list(curves) == list(models)
    for name, of in models.items():
        x, y = curves[name]
        np.testing.assert_array_equal(x, range(len(x)))
        for pixels, told in zip(x.astype(int), y, strict=True):
            if "ConvNet" in name and pixels % 2:
                continue  # slow
            moved = np.zeros_like(pictures)
            moved[:, :, pixels:] = pictures[:, :, : pictures.shape[2] - pixels]
            part = test._replace(x=moved.reshape(test.x.shape))
            assert told == pytest.approx(100 * np.mean(of(part)))
    assert "right" in seen.figure("further-shift").fig.axes[0].get_xlabel()


@answers("Further", "ways down")
def _(seen):
    ends = defaultdict(list)
    for (name, _), errors in seen["ways"].items():
        ends[name].append(errors[-1] if np.isfinite(errors[-1]) else math.inf)
    best = {name: min(found) for name, found in ends.items()}
    slow = [value for name, value in best.items() if name != "whitened"]
    values = {"number": slow, "error": best["whitened"]}
    return values, [f"{value:.2g}" for value in best.values()]


@answers("Further", "validation")
def _(seen):
    valid = seen["data"].valid
    found = [accuracy_of(run.model, valid) for run in networks(seen).values()]
    units = seen["wide_run"].model.layers[0].W.shape[1]
    return {"accuracy": found}, [units, *map(pct, found)]


@answers("Further", "The same MLP and ConvNet")
def _(seen):
    hits = [hits_of(r.model, seen["data"].test) for r in networks(seen).values()]
    return {"accuracy": list(map(interval, hits))}, map(pct_interval, hits)


@answers("Further", "only one gets right")
def _(seen):
    mlp, convnet = (
        hits_of(run.model, seen["data"].test) for run in networks(seen).values()
    )
    return {"images": duel(convnet, mlp)}, [duel_text(convnet, mlp)]


@answers("Further", "shifted")
def _(seen):
    test, found = seen["data"].test, []
    pictures = test.x.reshape(-1, *seen["data"].shape)
    for pixels in 2, 4, 6:
        moved = np.roll(pictures, pixels, axis=2)
        moved[:, :, :pixels] = 0
        part = test._replace(x=moved.reshape(test.x.shape))
        found.append(accuracy_of(seen["convnet_run"].model, part))
    return {"accuracy": found}, map(pct, found)


# --- The answers, by the functions above ----------------------------------------------


@pytest.mark.parametrize("key", ANSWERS, ids=": ".join)
def test_the_answer_is_the_recomputed_one(seen, key):
    """Its numbers, and those that stand in its text."""
    answer = seen["ANSWERS"][only(names_of(seen, key))]
    values, texts = ANSWERS[key](seen)
    assert answer.values.keys() == values.keys()
    for kind, expected in values.items():
        told = np.asarray(answer.values[kind], dtype=float)
        expected = np.asarray(expected, dtype=float)
        assert told.size == expected.size
        told, expected = told.ravel(), expected.ravel()
        if kind == "error":  # of which the order of magnitude counts
            assert np.all(told < 100 * expected + 1e-14)
            assert np.all(expected < 100 * told + 1e-14)
        else:
            np.testing.assert_allclose(told, expected, rtol=1e-6)
    assert numbers_in(answer.text) == numbers_in("; ".join(map(str, texts)))


# --- Words in the order of their numbers, and what a second look found ---------------


def in_order(text, *words):
    """Whether the words stand in a text, one after the other."""
    return re.search(".*?".join(map(re.escape, words)), text, re.DOTALL) is not None


def test_q1_columns_say_what_their_numbers_are(seen):
    head = seen.table_of("q1-init").header
    assert "σ" in head[1] and "loss" in head[2]
    assert in_order(seen.table_of("q1-sklearn").header[4], "only ours", "only it")
    text = seen["ANSWERS"][only(names_of(seen, ("Q1", "worst performing class")))].text
    assert in_order(text, "best", "worst")


def test_q2_columns_say_what_their_numbers_are(seen):
    head = seen.table_of("q2-gradients").header
    assert [text[-1] for text in head[2:5]] == ["x", "y", "z"]


def test_q3_sentences_name_first_what_is_counted_first(seen):
    assert in_order(seen.text("q3-test"), "only the MLP", "only the softmax")
    for words, first, second in (
        ("worst performing class", "best", "worst"),
        ("observations", "MLP", "softmax"),
    ):
        answer = seen["ANSWERS"][only(names_of(seen, ("Q3", words)))]
        assert in_order(answer.text, first, second)


def test_q5_columns_say_what_their_numbers_are(seen):
    for cell, count in ("q5-descent", 2), ("q5-whitened-run", 1):
        header = seen.text(cell).splitlines()[0]
        assert re.findall("distance|error", header) == count * ["distance", "error"]
    head = seen.table_of("q5-methods").header
    assert "distance" in head[2] and "error" in head[3]
    left, right = seen.figure("q5-spectrum-show").fig.axes
    assert "eigenvalue" in left.get_ylabel() and "error" in right.get_ylabel()
    *pixels, whitened = seen.figure("q5-bowl-show").fig.axes
    assert all("first pixel" in ax.get_xlabel() for ax in pixels)
    assert "second pixel" in pixels[0].get_ylabel() and "′" in whitened.get_xlabel()


def test_further_columns_say_what_their_numbers_are(seen):
    head = seen.table_of("further-staircase").header[3]
    assert in_order(head, "only it", "only the other")
    for words in "validation", "The same MLP and ConvNet":
        answer = seen["ANSWERS"][only(names_of(seen, ("Further", words)))]
        assert in_order(answer.text, "MLP", "ConvNet")
    assert "dead" in seen.table_of("further-units").header[3]
    assert "rms" in seen.figure("further-he").fig.axes[0].get_ylabel()
    ax = seen.figure("further-ways-show").fig.axes[0]
    assert "first" in ax.get_xlabel() and "second" in ax.get_ylabel()


def test_further_the_groups_of_the_summary_are_the_sections_questions(seen):
    group = ""
    for first, _, link in seen.table_of("summary").rows:
        if not link:
            group = first
            continue
        question = link[1]  # of "[1.4](#1.4-...)"
        assert ("Beyond" if question == "6" else f"Question {question}") in group


def test_q1_each_column_of_samples_is_a_class(seen):
    call = only(seen.of("image_grid", "q1-samples"))
    titles = np.reshape(call.given["titles"], (-1, call.given["columns"]))
    assert len(titles) == 2 and np.array_equal(*titles)


def test_q1_the_loss_by_hand(seen):
    exponentials, label = np.exp(seen["three_scores"][0]), seen["second_class"][0]
    p = exponentials / exponentials.sum()
    told = signed_numbers(seen.text("q1-loss-check"))[:7]
    truth = np.arange(len(p)) == label
    np.testing.assert_allclose(told, [*p, -np.log(p[label]), *(p - truth)], atol=6e-4)
    assert label == 1  # "the second class", as the text has it


def test_q1_the_same_loop_memorises_and_grows(seen):
    """Both from the same weights at the same rate."""
    x, y, grown = seen["few_x"], seen["few_y"], seen["grown"]
    start = seen["new_softmax"](rng=0).W.astype(float)
    steps = int(numbers_in(seen.text("q1-memorise").splitlines()[-1])[0]) + 1
    batches = seen.of("get_minibatch", "q1-growing")[0]
    name = list(grown)[1]

    def descended(rate, batches):
        W = start.copy()
        for x_b, y_b in batches:
            W -= rate * gradient_of(W, x_b, y_b)
        return W

    found = [
        rate
        for rate in (0.01, 0.05, 0.1, 0.2, 0.5, 1)
        if np.allclose(
            descended(rate, steps * [(x, y)]), seen["memoriser"].W, atol=1e-4
        )
        and np.allclose(
            descended(rate, first_batches(batches, int(numbers_in(name)[0]))),
            grown[name],
            atol=1e-5,
        )
    ]
    assert len(found) == 1


def test_q1_scikit_learns_classifiers_have_converged_and_are_plain(seen):
    logistic = seen["logistic"]
    assert logistic.n_iter_.max() < logistic.get_params()["max_iter"]
    for regression in seen["rounded"], seen["one_hot"]:
        assert regression.get_params() == type(regression)().get_params()


def test_q2_each_node_of_the_drawing_has_its_sign(seen):
    signs = {
        "CosPi": "cos π·", "SinPi": "sin π·", "Add": "+", "Multiply": "×",
        "Divide": "÷", "Tanh": "tanh", "Sigmoid": "σ", "Log": "log",
    }  # fmt: skip
    texts = seen.figure("q2-draw").fig.axes[0].texts
    at = {text.get_position(): text.get_text() for text in texts}
    for edge, node, _ in seen["as_asked"].nodes:
        assert at[seen["places"][edge]] == signs[type(node).__name__]
    assert [at[seen["places"][name]] for name in ("x", "y", "z")] == ["x", "y", "z"]


def test_q3_the_drawing_has_the_gradients_in_their_places(seen):
    """Only what has passed the ReLU backward has its mask."""
    texts = seen.figure("q3-draw").fig.axes[0].texts
    places = sorted((*t.get_position(), t.get_text()) for t in texts if t.get_text())
    below = [text for _, y, text in places if y < 0]
    assert ["odot" in text for text in below] == [False, True, False, False]
    assert "not needed" in below[0] and "W_2" in below[2] and "p" in below[3]


def test_q3_network_checks_are_of_what_they_name(seen):
    layers = seen["small"].weighted()
    for call in seen.of("check_gradient", "q3-network-check"):
        kind, number = call.given["name"][-2:]
        assert call.given["array"] is getattr(layers[int(number) - 1], kind)


def test_q3_beyond_is_one_step_at_the_best_rate_and_half_of_it(seen):
    best = max(seen["mlp_trials"], key=lambda t: t.valid.accuracy).settings
    given = [call.given for call in seen.of("fit", "q3-beyond")]
    assert {g["batch_size"] for g in given} == {best["batch_size"] // 2}
    rate = best["learning_rate"]
    assert {g["learning_rate"] for g in given} == {rate / 2, rate}


def test_q4_the_blocks_of_the_filters_are_labelled(seen):
    nine = np.reshape(
        [ax for ax in seen.figure("q4-filters").fig.axes if ax.images][-9:], (3, 3)
    )
    colours = "red", "green", "blue"
    assert [ax.get_xlabel() for ax in nine[2]] == [f"from {c}" for c in colours]
    assert [ax.get_ylabel() for ax in nine[:, 0]] == [f"to {c}" for c in colours]
    size = seen["BLUR_SIZE"]
    assert str((3, 3, size, size)) in str(
        [sub.get_suptitle() for sub in seen.figure("q4-filters").fig.subfigs]
    )


def test_further_each_network_has_its_own_settings(seen):
    for fit in seen.of("fit", "further-train"):
        convnet = isinstance(fit.result.model, seen["ConvNet"])
        own = seen["convnet_settings" if convnet else "wide_settings"]
        assert {name: fit.given[name] for name in own} == own
