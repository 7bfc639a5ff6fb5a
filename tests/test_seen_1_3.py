"""Questions 1 and 3 as rehearsed: what is trained, chosen, tested, answered and drawn.
An answer, a line, a curve, a picture or a cell of a table is of the run, set, epoch,
percentage and class that its words say."""

import itertools
import math
import re

import numpy as np
import pandas as pd
import pytest
import reading
from conftest import are, difference, interval, loss_of, mean_sd, numbers, says, tells
from rehearsal import fingerprints
from scipy.special import softmax
from seen import QUESTIONS, cells, check, check_log, curves, has, hits_of, scores_of

WORDS = {"lam": "λ", "batch_size": "batch", "learning_rate": "rate"}
LOGGED = re.compile("(training|validation) (loss|accuracy)")
both_questions = pytest.mark.parametrize("q", QUESTIONS)


def check_model(model, q):
    """A model of Question 1, or of Question 3 with 256 hidden units."""
    kind, shape = {1: ("Single_layer_classifier", (784, 10)), 3: ("MLP", (784, 256))}[q]
    assert type(model).__name__ == kind
    assert (model if q == 1 else model.layers[0]).W.shape == shape


@both_questions
def test_the_first_run_is_logged(seen, q):
    section = QUESTIONS[q][0]
    call = seen.of("fit", section)[0]
    log = call.result["log"]
    check_model(call.result["model"], q)
    chosen = seen.chosen(1)["lam"].iloc[0]  # "the λ chosen there"
    assert q == 1 or call.given["lam"] == chosen
    check(seen.lines(section, "validation"), call.result["validation"])
    headers = [LOGGED.findall(line) for line in seen.lines(section)]
    (header,) = [header for header in headers if len(header) == 4]
    columns = [" ".join(words) for words in header]
    lines = [line for line in seen.lines(section) if re.match(r" *\d+  ", line)]
    for line, (epoch, row) in zip(lines, log.iterrows(), strict=True):
        assert says(line, epoch, *row[columns])


@both_questions
def test_losses_and_accuracies_over_the_epochs(seen, q):
    first = QUESTIONS[q][0]
    for quantity in "loss", "accuracy":
        ax = seen.axes(first, "epoch", quantity)
        check_log(seen.of("fit", first)[0].result["log"], ax, quantity)


@both_questions
def test_curves_of_the_first_chosen_run(seen, q):
    for quantity in "loss", "accuracy":
        ax = seen.axes(QUESTIONS[q][2], "epoch", quantity)
        check_log(seen.chosen(q)["log"].iloc[0], ax, quantity)


@both_questions
def test_the_whole_grid_is_tried_alike_and_the_choice_answered(seen, q):
    tried, grid, calls = seen.tuning(q)
    seeds = tried.groupby(list(grid))["seed"].agg(tuple)
    pairs = list(itertools.product(*grid.values()))
    assert len(tried) == 3 * len(pairs) and sorted(seeds.index) == sorted(pairs)
    assert len(set(seeds)) == 1 and len(set(seeds.iloc[0])) == 3  # the same for all
    for call, (_, row) in zip(calls, tried.iterrows(), strict=True):
        check_model(call.result["model"], q)
        pair = {name: row[name] for name in grid}
        assert call.settings() == calls[0].settings() | pair
        assert call.given["seed"] == row["seed"]
    assert "lam" in grid or calls[0].given["lam"] == seen.chosen(1)["lam"].iloc[0]
    (found,), runs = seen.answers(QUESTIONS[q][1]), seen.chosen(q)
    for name in grid:
        assert tells(found, WORDS[name], runs[name].iloc[0])
    assert tells(found, "training", *mean_sd(runs["training"]))
    assert tells(found, "validation", *mean_sd(runs["validation"]))


@both_questions
def test_the_tuning_figure_and_table(seen, q):
    section, (tried, grid, _) = QUESTIONS[q][1], seen.tuning(q)
    (down,) = grid.keys() - {"learning_rate"}
    tried = tried.assign(difference=tried["training"] - tried["validation"])
    pairs = tried.groupby([down, "learning_rate"])
    for what, y in ("validation", "validation accuracy"), ("difference", "training −"):
        drawn = curves(seen.axes(section, "learning", y))
        assert len(drawn) == len(grid[down])
        for label, (x, y) in drawn.items():
            assert sorted(x) == sorted(grid["learning_rate"])
            runs = [pairs.get_group((float(label), rate))[what] for rate in x]
            np.testing.assert_allclose(y, [np.mean(r.to_numpy()) for r in runs])
    told = cells(seen.table(section, "training validation difference"))
    assert len(told) == 3 * len(pairs)
    for text, value in told.items():
        (what,) = re.findall("difference|training|validation", text)[-1:]
        pair = tuple(map(float, re.findall(r"\d[\d.e-]*", text)))
        mean, sd = mean_sd(pairs.get_group(pair)[what].to_numpy())
        if what == "validation" and np.isfinite(mean):
            check([value], mean, sd)
        elif what != "validation":
            assert value == pytest.approx(mean, nan_ok=True), text


@both_questions
def test_what_was_chosen_is_tested(seen, q):
    _, _, section, of_classes, _ = QUESTIONS[q]
    hits, test = hits_of(seen.model(q), seen.parts[2]), seen.parts[2]
    check(seen.lines(section, "validation"), *mean_sd(seen.chosen(q)["validation"]))
    check(seen.answers(section, "test"), *interval(hits))
    results = [interval(hits[test.y == k]) for k in range(10)]
    found = seen.answers(of_classes)[0]
    for word, extreme in ("best", max(results)[0]), ("worst", min(results)[0]):
        k = int(numbers(found.partition(word)[2])[0][0])
        assert results[k][0] == extreme and tells(found, word, k, *results[k])
    for text, value in cells(seen.table(of_classes, "class accuracy from to")).items():
        k = int(re.search(r"'class'\] (\d)", text)[1])
        names = dict(zip(("accuracy", "from", "to "), results[k], strict=True))
        told = [n for word, n in names.items() if word in text] or [sum(test.y == k)]
        assert [value] == pytest.approx(told), text


def less_data(seen, q):
    """(percentage, call of fit, training and test accuracy) of the bonus's runs."""
    rows = []
    for call in seen.of("fit", QUESTIONS[q][4]):
        share = len(call.given["part"].y) / len(seen.parts[0].y)
        hits = hits_of(call.result["model"], seen.parts[2])
        row = round(100 * share), call, call.result["training"], 100 * np.mean(hits)
        rows.append(row)
    return rows


@both_questions
def test_smaller_sets_have_the_chosen_settings_and_a_larger_lambda(seen, q):
    (chosen,) = [c for c in seen.tuning(q)[2] if c.result["model"] is seen.model(q)]
    settings, rows, drawn = chosen.settings(), less_data(seen, q), set()
    seeds = {(percentage, call.given["seed"]) for percentage, call, *_ in rows}
    assert len(seeds) == len(rows) == 12
    for percentage, call, *_ in rows:
        check_model(call.result["model"], q)
        lam = pytest.approx(settings["lam"] * 100 / percentage)
        assert call.settings() == settings | {"lam": lam}
        drawn.add(frozenset(fingerprints(call.given["part"].x)))
        assert len(call.given["part"].y) in map(len, drawn)  # each image once
    assert len(drawn) == 10  # at random: each seed has other images


@both_questions
def test_less_data_is_drawn_over_its_percentage(seen, q):
    section, columns = QUESTIONS[q][4], ["percentage", "call", "training", "test"]
    ax = seen.axes(section, "percentage training data", "test accuracy")
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    told = cells(seen.table(section, "training test sd"))
    assert len(labels) == (q + 1) // 2 and len(told) >= 12 * len(labels)
    for bar, label in zip(ax.containers, labels, strict=True):
        rows = less_data(seen, 3 if has("mlp", label) else 1)
        groups = pd.DataFrame(rows, columns=columns).groupby("percentage")
        of_seeds = groups[["training", "test"]].agg(["mean", "std"])
        line, _, (ends,) = bar.lines
        drawn = [line.get_ydata(), [np.ptp(s[:, 1]) / 2 for s in ends.get_segments()]]
        np.testing.assert_allclose(np.transpose(drawn), of_seeds["test"])
        assert list(line.get_xdata()) == list(of_seeds.index) == [10, 20, 50, 100]
        for text in (text for text in told if label in text):
            column = "training" if "training" in text else "test"
            expected = of_seeds[column]["std" if "sd" in text else "mean"]
            assert told[text] == pytest.approx(expected[numbers(text)[0][0]]), text
    means = of_seeds["test"]["mean"]  # of the last label's model
    check(seen.answers(section, "test"), *np.ravel([*means.items()]))


def test_q1_sizes_samples_and_the_first_loss(seen):
    for part in seen.parts:
        assert are(seen.lines("1.1", part.name)[0], [*part.x.shape, *part.y.shape])
    given, training = seen.pictures("1.1"), seen.parts[0]
    shown = [seen.sets[row] for row in fingerprints(given["images"])]
    of_each = [("training", int(name)) for name in given["names"]]
    assert len(shown) > 0 and shown == of_each * (len(shown) // 10)
    assert seen.lines("1.4", "assertionerror")  # of the gradient without y
    (W, *_) = [read.W for read in seen.reads if read.section == "1.5"]
    right = np.mean((training.x @ W).argmax(axis=1) == training.y)
    check(seen.lines("1.5"), loss_of(training.x @ W, training.y), 100 * right)


@pytest.fixture
def loop(seen):
    """The bare loop of 1.6: what its model read and learned, in order, and labels."""
    fitted = [id(call.result["model"]) for call in seen.of("fit", "1.6")]
    reads = [read for read in seen.reads if read.section == "1.6" and read.learned]
    reads = [read for read in reads if id(read.model) not in fitted]
    for read in reads:
        read.y = np.array([seen.sets[row][1] for row in fingerprints(read.x)])
    return reads


def test_q1_the_sheets_step_to_the_letter(seen, loop):
    """At one constant rate, with the sum over the mini-batch; each image once an
    epoch."""
    training, rates = seen.parts[0], []
    for first, second in [*itertools.pairwise(loop)][::20]:
        G = first.x.T @ (softmax(first.x @ first.W, axis=1) - np.eye(10)[first.y])
        step = second.W - first.W
        rates.append(-np.sum(step * G) / np.sum(G * G))
        np.testing.assert_allclose(step, -rates[-1] * G, atol=1e-5)
    np.testing.assert_allclose(rates, rates[0], rtol=1e-3)
    start, end = (read.W[~training.x.any(axis=0)] for read in (loop[0], loop[-1]))
    shrunk = 1 - np.sum(end * start) / np.sum(start**2)  # where there is never ink
    lam = shrunk / (2 * rates[0] * (len(loop) - 1))
    assert lam == pytest.approx(seen.of("fit", "1.6")[0].given["lam"], rel=0.1)
    steps = math.ceil(len(training.y) / len(loop[0].y))
    for k in range(0, len(loop), steps):
        images = np.concatenate([read.x for read in loop[k : k + steps]])
        assert sorted(fingerprints(images)) == sorted(fingerprints(training.x))


def test_q1_the_loop_says_its_losses_and_shows_its_weights(seen, loop):
    for line in seen.lines("1.6", "step loss"):
        read = loop[int(numbers(line)[0][0])]
        assert says(line, loss_of(read.x @ read.W, read.y))
    accuracy = 100 * np.mean(hits_of(loop[0].model, seen.parts[1]))
    check(seen.lines("1.6", "steps validation"), len(loop), accuracy)
    given = seen.pictures("1.6")
    assert [int(name) for name in given["names"]] == list(range(10))
    rows = given["images"].reshape(-1, 10, 784)
    for row, name in zip(rows, given["row_names"], strict=True):
        (step, _), (scale, half), *_ = numbers(name)
        W = loop[int(step)].W.T
        factor = np.sum(W * row) / np.sum(row**2)
        assert factor == pytest.approx(scale, abs=half)
        np.testing.assert_allclose(row * factor, W, atol=1e-6)


def test_q1_initial_weights(seen):
    """The runs differ in the deviation of their weights only, and are told by it."""
    calls, first = seen.of("fit", "1.7"), seen.of("fit", "1.6")[0]  # "the same run"
    assert {call.given["seed"] for call in calls} == {first.given["seed"]}
    assert all(call.settings() == first.settings() for call in calls)
    training, told = seen.parts[0], seen.table("1.7", "σ xavier epoch first loss")
    found = seen.answers("1.7")[0]
    rows = zip(told.iterrows(), calls, seen.starts(calls), strict=True)
    for (name, row), call, start in rows:
        sd = math.sqrt(2 / 794) if has("xavier", name) else float(name)
        assert start.W.std() == pytest.approx(sd, rel=0.03)
        assert tells(f" {found}", f" {name}", call.result["validation"])
        for column, value in row.items():
            expected = loss_of(scores_of(start, training.x), training.y)
            if "loss" not in column:
                log = call.result["log"]["validation accuracy"]
                expected = log[int(numbers(column)[0][0])]
            assert value == pytest.approx(expected, rel=1e-5), (name, column)


def test_q1_scikit_learn_gets_the_same_problem(seen):
    """At what each has fitted, its objective on the training images is flat."""
    (x, y, _), _, test = training, *_ = seen.parts
    Y = np.eye(10)[y]
    for dimensions, targets in (1, y), (2, Y):
        residual = seen.by_sklearn("Linear", dimensions).predict(x) - targets
        assert np.linalg.norm(x.T @ residual) < 0.01 * np.linalg.norm(x.T @ targets)
    logistic, lam = seen.by_sklearn("Logistic", 2), seen.chosen(1)["lam"].iloc[0]
    assert pytest.approx(1 / (2 * lam * len(y))) == logistic.C
    W = logistic.coef_.T
    gradient = x.T @ (softmax(x @ W, axis=1) - Y) / len(y) + 2 * lam * W
    assert not logistic.fit_intercept and np.abs(gradient).max() < 2e-4
    table, (found,) = seen.table("1.11", "ours rounded log"), seen.answers("1.11")
    for text, value in cells(table).items():
        part = training if "train" in text else test
        right = seen.classify(text, part.x) == part.y
        assert value == pytest.approx(100 * np.mean(right)), text
    for name, row in table.iterrows():
        assert tells(found, name, *row)


@both_questions
def test_beyond_an_edge_of_the_grid_a_step_is_tried(seen, saved, q):
    """Where the saved answer has a setting at an edge (0 has no beyond). What a further
    run and the chosen one of its seed reach in validation is printed."""
    section, (_, _, calls), runs = QUESTIONS[q][1], seen.tuning(q), seen.chosen(q)
    cells_there = reading.sections(saved)[section]
    outputs = [out for c in cells_there for out in c.get("outputs", ())]
    text = " ".join(out.get("text", "") for out in outputs)
    further = [c for c in seen.of("fit", section) if all(c is not k for k in calls)]
    for name, values in seen.of("tune", section)[0].given["whole"].items():
        told = re.search(rf"{WORDS[name]}[\w ]* ([\d.e-]+)", text)
        assert told, f"{section}: no saved output tells the {name}"
        tried = [call.given[name] - runs[name].iloc[0] for call in further]
        if float(told[1]) == min(values) > 0:
            assert min(tried, default=0) < 0, f"no {name} below {told[1]} is tried"
        if float(told[1]) == max(values):
            assert max(tried, default=0) > 0, f"no {name} above {told[1]} is tried"
    for call in further:
        (same,) = [r for _, r in runs.iterrows() if r["seed"] == call.given["seed"]]
        both = call.result["validation"], same["validation"]
        check(seen.lines(section, "validation"), *both)


def test_q3_difference_and_weights(seen):
    one, three = (hits_of(seen.model(q), seen.parts[2]) for q in QUESTIONS)
    check(seen.lines("3.5", "mlp softmax"), *difference(three, one))
    shown = seen.pictures("3.5")["images"].reshape(-1, 784)  # each of another unit
    far = np.abs(shown[:, None] - seen.model(3).layers[0].W.T).max(axis=2)
    assert far.min(axis=1).max() == 0
    assert len(set(far.argmin(axis=1))) == len(shown) > 1


def test_q3_one_digit_both_ways(seen):
    """Barely wrong; what stands below is the gradient of what stands above."""
    (first, _, second), validation = seen.model(3).layers, seen.parts[1]
    scores = scores_of(seen.model(3), validation.x)
    p = softmax(scores, axis=1)
    of_label = p[np.arange(len(p)), validation.y]
    wrong = p.argmax(axis=1) != validation.y
    (k,) = np.flatnonzero(of_label == of_label[wrong].max())
    x, label = validation.x[k], validation.y[k]
    a, Y = x @ first.W + first.b, np.eye(10)[label]
    to_h = (p[k] - Y) @ second.W.T
    to_a = to_h * (a > 0)
    expected = {"x": x, "a": a, "h": np.maximum(a, 0), "s": scores[k], "p": p[k]}
    gradients = to_a @ first.W.T, to_a, to_h, p[k] - Y, -Y / p[k]
    expected |= {f"∂L/∂{n}": g for n, g in zip("xahsp", gradients, strict=True)}
    fig = seen.axes("3.6", title="∂L/∂x").figure
    assert says(fig.get_suptitle(), label, p[k].argmax(), -math.log(of_label[k]))
    shown = set()
    for ax in fig.axes:
        name = re.search(r"∂L/∂[xahsp]|\b[xahsp]\b(?= =|$)", ax.get_title())[0]
        bars = [bar.get_width() for bar in ax.patches]
        array = np.ravel(bars or ax.images[0].get_array())
        np.testing.assert_allclose(array, expected[name], rtol=1e-3, atol=1e-5)
        assert not bars or ax.yaxis_inverted()  # class 0 on top
        shown.add(name)
    assert shown == expected.keys()
