"""Questions 1 and 3 as rehearsed: what is trained, chosen, tested, answered and drawn.

Speaks when what is tested is not what was chosen, when settings are not those in
SETTINGS, and when an answer, a line, a curve, a picture or a cell of a table is of
another run, set, epoch, percentage or class than its words say."""

import itertools
import math
import re

import numpy as np
import pytest
from conftest import are, difference, interval, loss_of, mean_sd, numbers, percent, says
from matplotlib.colors import to_hex
from rehearsal import fingerprints
from scipy.special import softmax
from seen import QUESTIONS, check_log, curves, hits_of, rows_of, scores_of, settings_of

SETTINGS = {  # of experiments: those that the text or the saved figures name
    "1.6": {"epochs": 10, "batch_size": 50, "learning_rate": 0.1, "lam": 1e-4},
    "1.8": {"epochs": 5, "batch_size": 50},
    "3.3": {"epochs": 8, "batch_size": 64, "learning_rate": 0.1},
    "3.4": {"epochs": 8},
}
both_questions = pytest.mark.parametrize("q", QUESTIONS)


def check_model(model, q):
    """A model of Question 1, or of Question 3 with 256 hidden units."""
    kind, shape = {1: ("Single_layer_classifier", (784, 10)), 3: ("MLP", (784, 256))}[q]
    assert type(model).__name__ == kind
    assert (model if q == 1 else model.layers[0]).W.shape == shape


def pair_of(run, given):
    """The values of the grid's settings: λ or batch size, then learning rate."""
    return [run.settings[name] for name in sorted(given["grid"])]


@both_questions
def test_the_first_run(seen, q):
    section = QUESTIONS[q][0]
    run = seen.fits(section)[0]
    lam = {} if q == 1 else {"lam": seen.chosen(1)[0].settings["lam"]}
    assert settings_of(run) == SETTINGS[section] | lam
    check_model(run.model, q)
    assert says(seen.answer(section, "validation set"), 100 * run.valid)
    columns = "epoch training loss accuracy validation loss accuracy"
    (header,) = seen.lines(section, "epoch", "loss")
    assert re.findall(r"\w+", header) == columns.split()
    lines = [line for line in seen.lines(section, "%") if re.match(r" *\d", line)]
    for row, line in zip(run.log, lines, strict=True):
        epoch, *told = row.values()
        assert says(line, epoch, *np.multiply(told, [1, 100, 1, 100]))


@both_questions
def test_losses_and_accuracies_over_the_epochs(seen, q):
    first, _, tested, *_ = QUESTIONS[q]
    for section, run in (first, seen.fits(first)[0]), (tested, seen.chosen(q)[0]):
        for quantity, factor in ("loss", 1), ("accuracy", 100):
            ax = seen.axes(section, "epoch", quantity)
            check_log(ax, run, quantity, factor)
            title = " ".join(text.get_text() for text in ax.figure.texts)
            assert ("first" if section == first else "chosen") in title


@both_questions
def test_every_choice_is_made_by_validation_on_the_whole_grid(seen, q):
    section = QUESTIONS[q][1]
    tried, leaders, given = seen.tuning(q)
    lam = {} if q == 1 else {"lam": seen.chosen(1)[0].settings["lam"]}
    budget = SETTINGS[section] | lam
    pairs = list(itertools.product(*given["grid"].values()))
    assert len(tried) == len(pairs)
    for pair in pairs:
        pair = dict(zip(given["grid"], pair, strict=True))
        (run,) = [r for r in tried if settings_of(r) == budget | pair]
        check_model(run.model, q)
        assert run.seed == tried[0].seed
    best = sorted(percent(tried, "valid"))[-4:]
    leading = [settings_of(runs[0]) for runs in leaders]
    firsts = [run for run in tried if settings_of(run) in leading]
    assert sorted(percent(firsts, "valid")) == best
    for runs in leaders:  # from three fresh seeds, the same for all
        seeds = [run.seed for run in runs]
        assert seeds == [run.seed for run in leaders[0]]
        assert len({tried[0].seed, *seeds}) == 4
        assert all(settings_of(run) == settings_of(runs[0]) for run in runs)
        assert all(len(run.log) == budget["epochs"] for run in runs)
    for name in "chosen_text", "leaders_table":
        assert seen.of(name, section)[0].given["part"] is seen.parts[1]


@both_questions
def test_what_was_chosen_is_answered(seen, q):
    section, runs = QUESTIONS[q][1], seen.chosen(q)
    _, leaders, given = seen.tuning(q)
    hits = [seen.mean_hits(two) for two in leaders]
    tied = []
    for others, of_others in zip(leaders[1:], hits[1:], strict=True):
        below, error = difference(hits[0], of_others)
        tied += [pair_of(others[0], given)] if below <= 2 * error else []
    found, _, others = seen.answer(section, "optimal").partition("tied")
    assert leaders[0] is runs and says(found, *pair_of(runs[0], given))
    assert others.count("learning rate") == len(tied)
    assert not tied or says(others, *itertools.chain(*tied))
    trained, valid = (np.mean(percent(runs, name)) for name in ("train", "valid"))
    found = seen.answer(section, "over-fitting")
    assert says(found, trained, valid, trained - valid)


@both_questions
def test_the_tuning_figure_and_tables(seen, q):
    section = QUESTIONS[q][1]
    tried, leaders, given = seen.tuning(q)
    down, across = sorted(given["grid"])
    word = {"lam": "λ", "batch_size": "batch size"}[down]

    def told(run):
        train, valid = 100 * run.train, 100 * run.valid
        return run.settings[across], train, valid, train - valid

    runs_of = {value: [] for value in given["grid"][down]}
    for run in sorted(tried, key=lambda run: run.settings[across]):
        runs_of[run.settings[down]].append(told(run))
    for y, k in ("validation accuracy %", 2), ("training validation", 3):
        ax = seen.axes(section, "learning rate", y)
        for label, drawn in curves(ax).items():
            expected = runs_of[float(label.split("=")[1])]
            expected = np.transpose([(t[0], t[k]) for t in expected])
            np.testing.assert_allclose(drawn, expected)
        assert len(curves(ax)) == len(runs_of) and word in label
    header, rows = seen.table(section, "training / validation", "difference")
    assert len(rows) == len(runs_of)
    for name, *cells in rows:
        assert name.startswith(word)
        runs = zip(header[1:], cells, runs_of[float(name.split("=")[1])], strict=True)
        for rate, cell, (value, *expected) in runs:
            assert says(rate, value) and says(cell, *expected)
            best = expected[1] == max(percent(tried, "valid"))
            assert cell.startswith("**") == cell.endswith("**") == best
    header, rows = seen.table(section, "seeds", "training (%)", "validation (%)")
    assert says(header[0], *(run.seed for run in leaders[0]))
    means = [np.mean(percent(runs, "valid")) for runs in leaders]
    assert means == sorted(means, reverse=True)
    best = seen.mean_hits(leaders[0])
    for runs, (pair, trained, valid, below) in zip(leaders, rows, strict=True):
        found = difference(best, seen.mean_hits(runs))
        assert says(below, *found) or runs is leaders[0]
        assert says(pair, *pair_of(runs[0], given))
        assert says(trained, *mean_sd(percent(runs, "train")))
        assert says(valid, *mean_sd(percent(runs, "valid")))


@both_questions
def test_what_was_chosen_is_tested(seen, q):
    section, runs, test = QUESTIONS[q][2], seen.chosen(q), seen.parts[2]
    (line,) = seen.lines(section, "validation:")
    assert says(line, *mean_sd(percent(runs, "valid")))
    hits = hits_of(runs[0].model, test)
    found = seen.answer(section, "test set")
    assert says(found, *interval(hits)) and f"seed {runs[0].seed}" in found
    header, rows = seen.table(QUESTIONS[q][3], "class, test set")
    found = seen.answer(QUESTIONS[q][3], "best performing class")
    results = [interval(hits[test.y == k]) for k in range(10)]
    accuracies = [accuracy for accuracy, _, _ in results]
    for text, choose in zip(found.split("worst"), (np.argmax, np.argmin), strict=True):
        k = choose(accuracies)
        (_, low, high), (text, near) = results[k], text.split("overlapping")
        assert says(text, k, *results[k])
        others = [j for j, (_, a, b) in enumerate(results) if a <= high and low <= b]
        assert [n for n, _ in numbers(near)] == [j for j in others if j != k]
    assert header[1:] == list("0123456789")
    expected = np.bincount(test.y), *np.transpose(results)
    words = "images", "accuracy", "from", "to"
    for word, (name, *cells), values in zip(words, rows, expected, strict=True):
        assert word in name and says(" ".join(cells), *values)


def less_data(seen, q):
    """{percentage: Runs} of the bonus."""
    fitted = {10: [], 20: [], 50: [], 100: seen.chosen(q)}
    for call in seen.of("fit", QUESTIONS[q][4]):
        share = len(call.given["part"].y) / len(seen.parts[0].y)
        fitted[round(100 * share)].append(call.result)
    return fitted


@both_questions
def test_smaller_sets_have_the_chosen_settings_and_a_larger_lambda(seen, q):
    curve, whole = less_data(seen, q), seen.chosen(q)
    for percentage, runs in curve.items():
        for run, reference in zip(runs, whole, strict=True):
            check_model(run.model, q)
            lam = pytest.approx(reference.settings["lam"] * 100 / percentage)
            assert settings_of(run) == settings_of(reference) | {"lam": lam}
            assert run.seed == reference.seed
    calls = seen.of("fit", QUESTIONS[q][4])
    drawn = {frozenset(fingerprints(c.given["part"].x)) for c in calls}
    assert all(len(c.given["part"].y) in map(len, drawn) for c in calls)  # each once
    assert len(drawn) == 9  # at random: each seed has other images
    tested = {k: [hits_of(r.model, seen.parts[2]) for r in curve[k]] for k in curve}
    means = [(k, 100 * np.mean(hits)) for k, hits in tested.items()]
    assert says(seen.answer(QUESTIONS[q][4], "test accuracy"), *itertools.chain(*means))


@both_questions
def test_less_data_is_drawn_over_its_percentage(seen, q):
    section, test = QUESTIONS[q][4], seen.parts[2]
    ax = seen.axes(section, "percentage training data", "test accuracy %")
    _, rows = seen.table(section, "10%", "20%", "50%", "100%")
    labels = [bar.get_label() for bar in ax.containers]
    assert labels == [text.get_text() for text in ax.get_legend().get_texts()]
    assert len(labels) == (q + 1) // 2 and len(rows) == 2 * len(labels)
    for bar, label in zip(ax.containers, labels, strict=True):
        curve = less_data(seen, 3 if "MLP" in label else 1)
        hits = [[hits_of(run.model, test) for run in runs] for runs in curve.values()]
        tested = 100 * np.mean(hits, axis=2)
        trained = [percent(runs, "train") for runs in curve.values()]
        line, _, (ends,) = bar.lines
        assert list(line.get_xdata()) == list(curve)
        np.testing.assert_allclose(line.get_ydata(), np.mean(tested, axis=1))
        lengths = [np.ptp(segment[:, 1]) for segment in ends.get_segments()]
        np.testing.assert_allclose(lengths, 2 * np.std(tested, axis=1, ddof=1))
        for word, values in ("test set", tested), ("trained on", trained):
            (row,) = [row for row in rows if label in row[0] and word in row[0]]
            for cell, of_seeds in zip(row[1:], values, strict=True):
                assert says(cell, *mean_sd(of_seeds))


def test_q1_sizes_and_minibatches(seen):
    training, validation, _ = seen.parts
    found = seen.answer("1.1", "size")
    assert says(found, len(training.y), len(validation.y))
    assert f"{len(training.y)}" in seen.lines("1.1")
    for part in seen.parts:
        (line,) = seen.lines("1.1", f"{part.name}:", "images", "labels")
        assert are(line, [*part.x.shape, *part.y.shape])
    epochs = [re.findall(r"\d", t)[1:] for t in seen.lines("1.2", "epoch")]
    assert len(epochs) == 2 and epochs[0] != epochs[1]
    assert all(sorted(order) == list("0123456789") for order in epochs)
    assert {c.given["batch_size"] for c in seen.of("get_minibatch", "1.2")} == {4}


def test_q1_checks_before_the_first_run(seen):
    assert says(seen.lines("1.4", "p [")[0], 0.2, 0.3, 0.5, 0.2, -0.7, 0.5)
    assert says(seen.lines("1.4", "loss 1")[0], -math.log(0.3))
    calls = seen.of("check_gradient")
    wrong = [c.section for c in calls if isinstance(c.result, AssertionError)]
    assert wrong == ["1.4"] and seen.lines("1.4", "AssertionError")
    (line,), training = seen.lines("1.5", "training images"), seen.parts[0]
    W = next(read for read in seen.reads if read.section == "1.5").W
    scores = training.x @ W
    right = np.mean(scores.argmax(axis=1) == training.y)
    assert says(line, loss_of(scores, training.y), 100 * right)
    assert W.std() == pytest.approx(1e-3, rel=0.1)
    assert says(seen.lines("1.5", "log 10")[0], math.log(10))


def loop(seen):
    """The bare loop of 1.6, as reads."""
    return [r for r in seen.reads if r.section == "1.6" and r.x is not None]


def test_q1_the_sheets_step_to_the_letter(seen):
    """At a constant rate, with the sum over the mini-batch; ten times all images."""
    reads, training = loop(seen), seen.parts[0]
    model = reads[0].model
    reads = [read for read in reads if read.learned and read.model is model][:170]
    for first, second in itertools.pairwise([*reads[:3], *reads[-3:]]):
        if first is not reads[2]:
            Y = np.eye(10)[[seen.sets[row][1] for row in fingerprints(first.x)]]
            G = first.x.T @ (softmax(first.x @ first.W, axis=1) - Y)
            step = -0.002 * (G + 1e-4 * 2 * first.W)
            np.testing.assert_allclose(second.W - first.W, step, atol=1e-6)
    start, end = (read.W[~training.x.any(axis=0)] for read in (reads[0], reads[-1]))
    shrunk = 1 - np.sum(end * start) / np.sum(start**2)  # where there is never ink
    assert shrunk == pytest.approx(0.002 * 1e-4 * 2 * 169, rel=0.1)
    passes = math.ceil(len(training.y) / 50)
    for epoch in range(10):
        images = [read.x for read in reads[epoch * passes : (epoch + 1) * passes]]
        assert sorted(map(len, images)) == sorted([50] * (passes - 1) + [40])
        assert len(set(fingerprints(np.concatenate(images)))) == len(training.y)
    lines = seen.lines("1.6", "step ")
    for line in lines:
        read = reads[int(numbers(line)[0][0])]
        y = np.array([seen.sets[row][1] for row in fingerprints(read.x)])
        scores = read.x @ read.W
        right = np.sum(scores.argmax(axis=1) == y)
        assert says(line, loss_of(scores, y), right, len(y))
    accuracy = 100 * np.mean(hits_of(model, seen.parts[1]))
    assert len(lines) > 2 and says(seen.lines("1.6", "after")[0], 10 * passes, accuracy)
    assert says(seen.answer("1.6", "validation").partition("sheet")[2], accuracy)


def test_q1_initial_weights_differ_in_their_deviation_only(seen):
    runs = seen.fits("1.7")
    first = seen.fits("1.6")[0]  # "the same run"
    assert all(settings_of(run) == settings_of(first) for run in runs)
    assert {run.seed for run in runs} == {first.seed}
    spread = [model.W.std() for model in seen.starts(seen.of("fit", "1.7"))]
    found = seen.answer("1.7", "xavier")
    for name, sd in ("Xavier", math.sqrt(2 / 794)), ("0.001", 1e-3), (", 1", 1):
        k = np.argmin(np.abs(np.subtract(spread, sd)))
        assert spread[k] == pytest.approx(sd, rel=0.03)
        assert says(re.search(rf"{name}:? ([\d.]+%)", found)[1], 100 * runs[k].valid)


def test_q1_scikit_learn_gets_the_same_problem(seen):
    training, _, test = seen.parts
    ours, logistic = seen.chosen(1)[0], seen.by_sklearn("Logistic")
    lam = ours.settings["lam"]
    assert pytest.approx(1 / (2 * lam * len(training.y))) == logistic.C
    assert not logistic.fit_intercept and logistic.n_iter_.max() < logistic.max_iter
    (longer,) = seen.fits("1.11")  # "nine times the epochs"
    assert settings_of(longer) == settings_of(ours) | {"epochs": 45}
    assert longer.seed == ours.seed
    labels = seen.answer("1.11", "training / test").split("\n")
    assert labels[0].startswith("ours ") and len(labels) == 4
    for label in labels:
        right = [np.mean(seen.classify(label, p.x) == p.y) for p in (training, test)]
        assert says(label, 100 * right[0], 100 * right[1])
    header, rows = seen.table("1.11", "accuracy", "ours − it", "± standard error", "J")
    J = [text for *_, text in rows]
    assert J[2:4] == ["", ""]
    for k, W in (0, ours.model.W), (1, longer.model.W), (4, logistic.coef_.T):
        W = W.astype(np.float64)
        assert says(J[k], loss_of(training.x @ W, training.y) + lam * np.sum(W**2))
    hits = hits_of(ours.model, test)
    assert len(rows) == 5 and header[1:4] == [part.name for part in seen.parts]
    for name, *cells, against, _ in rows:
        for part, cell in zip(seen.parts, cells, strict=True):
            right = seen.classify(name, part.x) == part.y
            assert says(cell, 100 * np.mean(right))
        assert name == "ours" or says(against, *difference(hits, right))


def test_q1_sets_samples_and_initial_weights(seen):
    header, rows = seen.table("1.1", "images of class")
    for part, (name, *counts) in zip(seen.parts, rows, strict=True):
        assert name == part.name and says(" ".join(counts), *np.bincount(part.y))
    arrays, titles, _ = seen.pictures("1.1", 20)
    shown = [seen.sets[row] for row in fingerprints(rows_of(arrays))]
    assert shown == [("training", int(k)) for k in titles]
    assert len(set(fingerprints(rows_of(arrays)))) == 20
    header, rows = seen.table("1.7", "initial weights", "σ", "first training loss")
    calls, training = seen.of("fit", "1.7"), seen.parts[0]
    for call, model, row in zip(calls, seen.starts(calls), rows, strict=True):
        name, sd, first, *cells = row
        assert float(sd) == pytest.approx(model.W.std(), rel=0.03)
        assert says(sd, math.sqrt(2 / 794) if name == "Xavier" else float(name))
        assert says(first, loss_of(scores_of(model, training.x), training.y))
        for column, cell in zip(header[3:], cells, strict=True):
            told = call.result.log[int(numbers(column)[0][0]) - 1]
            assert says(cell, 100 * told["validation accuracy"])


def test_templates_are_the_weights(seen):
    grown = loop(seen)
    arrays, titles, names = seen.pictures("1.6", 30)
    steps = [int(numbers(name)[0][0]) for name in names]
    assert steps == [0, 10, 50]  # there are no more in the rehearsal
    assert titles[:10] == list("0123456789")
    weights = [grown[k].W for k in steps]
    scales = [np.percentile(np.abs(W), 99.5) for W in weights]
    scaled = [W.T / scale for W, scale in zip(weights, scales, strict=True)]
    np.testing.assert_allclose(rows_of(arrays), np.concatenate(scaled), atol=1e-5)
    for name, scale in zip(names, scales, strict=True):
        assert " st" in name and says(name, scale)
    fig = next(fig for fig in seen.figures("1.6") if len(fig.axes) == 30)
    assert {ax.images[0].get_clim() for ax in fig.axes} == {(-1, 1)}


def test_q1_surest_mistakes(seen):
    test, model = seen.parts[2], seen.chosen(1)[0].model
    scores = scores_of(model, test.x)
    predicted = scores.argmax(axis=1)
    ax = seen.axes("1.10", "predicted", "true")
    assert len(ax.texts) == 100
    for text in ax.texts:
        k, j = (round(at) for at in text.get_position())
        assert int(text.get_text()) == np.sum((test.y == j) & (predicted == k))
    mistakes = np.zeros((10, 10))
    np.add.at(mistakes, (test.y, predicted), test.y != predicted)
    light = ax.images[0].to_rgba(ax.images[0].get_array())[..., :3].sum(axis=2)
    of_mistakes = light[mistakes > 0]  # "the darker, the more", and not all alike
    assert light[mistakes == mistakes.max()].max() == of_mistakes.min()
    assert of_mistakes.min() < 0.8 * of_mistakes.max() < light.max()
    p = (predicted != test.y) * softmax(scores, axis=1).max(axis=1)
    arrays, titles, _ = seen.pictures("1.10", 13)
    rows = fingerprints(test.x)
    shown = [rows.index(row) for row in fingerprints(rows_of(arrays[1:]))]
    assert p[shown] == pytest.approx(np.sort(p)[:-13:-1], abs=1e-6)
    assert titles[1:] == [f"{test.y[k]} → {predicted[k]}" for k in shown]


def test_q3_beyond_the_grid(seen):
    tried, leaders, given = seen.tuning(3)
    known = [*tried, *itertools.chain(*leaders)]
    runs = [run for run in seen.fits("3.4") if not any(run is k for k in known)]
    sizes, rates = given["grid"]["batch_size"], given["grid"]["learning_rate"]
    top = max(tried, key=lambda run: run.valid)
    (line,) = seen.lines("3.4", "best of the grid", "validation")
    assert says(line, *pair_of(top, given), 100 * top.valid)
    lines, best = seen.lines("3.4", "beyond it"), seen.mean_hits([top])
    for run, line in zip(runs, lines, strict=True):
        size, rate = pair_of(run, given)
        assert size < min(sizes) or rate > max(rates)
        changed = {"batch_size": size, "learning_rate": rate}
        assert settings_of(run) == settings_of(top) | changed and run.seed == top.seed
        check_model(run.model, 3)
        found = difference(seen.mean_hits([run]), best)
        assert says(line, size, rate, 100 * run.valid, *found)


def test_q3_one_digit_both_ways(seen):
    """Barely wrong; what stands below is the gradient of what stands above."""
    model, validation = seen.chosen(3)[0].model, seen.parts[1]
    first, second = model.weighted()
    scores = scores_of(model, validation.x)
    p = softmax(scores, axis=1)
    of_label = p[np.arange(len(p)), validation.y]
    (k,) = np.flatnonzero(of_label == of_label[~hits_of(model, validation)].max())
    (fig,), shown = seen.figures("3.6"), []
    for ax in fig.axes:
        bars = [bar.get_width() for bar in ax.patches]
        shown.append(np.asarray(bars or ax.images[0].get_array()).ravel())
    x, a, h, s, p_k, *gradients = shown
    label = validation.y[k]
    np.testing.assert_array_equal(x, validation.x[k])
    Y = np.eye(10)[label]
    to_h = (p[k] - Y) @ second.W.T
    to_a = to_h * (a > 0)
    expected = [x @ first.W + first.b, np.maximum(a, 0), scores[k], p[k]]
    expected += [to_a @ first.W.T, to_a, to_h, p[k] - Y, -Y / p[k]]
    for array, one in zip([a, h, s, p_k, *gradients], expected, strict=True):
        np.testing.assert_allclose(array, one, rtol=1e-3, atol=1e-5)
    assert says(fig.texts[-1].get_text(), label, p[k].argmax(), -math.log(of_label[k]))
    words = "pixels", "ReLU", "hidden units", "scores", "probability"
    for ax, word in zip(fig.axes, words * 2, strict=True):
        assert word in ax.get_title()
    maps = [i for ax in fig.axes for i in ax.images if i.get_cmap().name == "PuOr_r"]
    assert len(maps) == 5 and not any(sum(i.get_clim()) for i in maps)  # white at 0
    arrows = ["".join(text.get_text() for text in ax.texts) for ax in fig.axes]
    assert arrows == [*"→→→→", "", *"←←←←", ""]
    for bars in (ax.patches for ax in fig.axes if ax.patches):  # "label (blue)"
        told = [to_hex(bars[j].get_facecolor()).upper() for j in (label, p[k].argmax())]
        assert told == [seen.ns["BLUE"], seen.ns["ORANGE"]]


def test_q3_checks_and_mlp_against_softmax(seen):
    for call in seen.of("check_gradient", "3.2"):
        assert call.given["array"].ndim == 1 + ("W" in call.given["name"])
    inputs = [call.given["x"] for call in seen.of("check_layer", "3.1")]
    assert all(np.min(x) < 0 < np.max(x) for x in inputs)  # both sides of ReLU
    one, three = (hits_of(seen.chosen(q)[0].model, seen.parts[2]) for q in QUESTIONS)
    (line,) = seen.lines("3.5", "above the softmax classifier")
    assert says(line, *difference(three, one))
