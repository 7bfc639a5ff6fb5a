"""Contracts of figures and tables: each curve, picture, row and bar is of the run, set,
epoch, percentage, class or shift that its label names.

From the same rehearsal as test_contracts.py. Figures are found by section and by the
quantity that their axes name, curves by the legend, tables by words of their header;
what is drawn is compared with what was recorded. It speaks when a label and what is
drawn part, and when a figure that the sheet asks for loses its axes."""

import math

import numpy as np
import pytest
from rehearsal import fingerprints, rehearse
from scipy import signal
from test_answers import (
    bowl_of_two,
    cifar_of,
    descents,
    f_of,
    shifted,
    windows_of,
)
from test_contracts import (
    QUESTIONS,
    both_questions,
    chosen,
    classify,
    duel,
    hits_of,
    interval,
    less_data,
    loops,
    loss_of,
    mean_sd,
    networks,
    numbers,
    pair_of,
    percent,
    says,
    scores_of,
    starts,
    tuning,
)


@pytest.fixture(scope="session")
def seen():
    """The Rehearsal."""
    return rehearse()


def axes_of(seen, section, x="", y="", title=""):
    """The first axes in a section whose labels and title have all these words."""
    for fig in seen.figures(section):
        for ax in fig.axes:
            said = (x, ax.get_xlabel()), (y, ax.get_ylabel()), (title, ax.get_title())
            if all(word in text for words, text in said for word in words.split()):
                return ax
    pytest.fail(f"section {section} has no axes of {x} and {y}")


def curves(ax):
    """{text of the legend: (x, y)} of the lines that look as the legend has it."""
    legend, found = ax.get_legend(), {}
    for text, handle in zip(legend.get_texts(), legend.legend_handles, strict=True):
        look = handle.get_color(), handle.get_linestyle(), handle.get_marker()
        for line in ax.lines:
            if look == (line.get_color(), line.get_linestyle(), line.get_marker()):
                x_y = list(line.get_xdata()), list(line.get_ydata())
                found[text.get_text()] = x_y
                low, high = sorted(ax.get_ylim())
                finite = [value for value in x_y[1] if math.isfinite(value)]
                assert low <= min(finite) <= max(finite) <= high, text.get_text()
    return found


def pictures(seen, section, count, colours=False):
    """Arrays, titles and texts beside them of the first figure of so many images."""
    for fig in seen.figures(section):
        axes = [ax for ax in fig.axes if ax.images]
        arrays = [np.asarray(ax.images[0].get_array()) for ax in axes]
        if len(axes) == count and (arrays[0].ndim == 3) == colours:
            break
    texts = [text.get_text() for ax in axes for text in ax.texts]
    return arrays, [ax.get_title() for ax in axes], texts


def rows_of(arrays):
    return np.reshape(arrays, (len(arrays), -1))


# --- Questions 1 and 3 ----------------------------------------------------------------


@both_questions
def test_losses_and_accuracies_over_the_epochs(seen, q):
    first, _, tested, *_ = QUESTIONS[q]
    for section, run in (first, seen.fits(first)[0]), (tested, chosen(seen, q)[0]):
        for quantity, factor in ("loss", 1), ("accuracy", 100):
            ax = axes_of(seen, section, "epoch", quantity)
            assert ("nats" if factor == 1 else "%") in ax.get_ylabel()
            check_log(ax, run, quantity, factor)
            title = " ".join(text.get_text() for text in ax.figure.texts)
            assert ("chosen" if section == first else "first") not in title


def check_log(ax, run, quantity, factor):
    assert [label.split(",")[0] for label in curves(ax)] == ["training", "validation"]
    for label, (x, y) in curves(ax).items():
        name = label.split(",")[0]
        half = 0.5 if name == "training" else 0  # a mean over the epoch
        assert x == [row["epoch"] - half for row in run.log]
        assert y == [factor * row[f"{name} {quantity}"] for row in run.log]


@both_questions
def test_the_tuning_figure_and_tables(seen, q):
    section = QUESTIONS[q][1]
    tried, leaders, given = tuning(seen, q)
    down, across = sorted(given["grid"])
    word = {"lam": "λ", "batch_size": "batch size"}[down]

    def told(run):
        train, valid = 100 * run.train, 100 * run.valid
        return run.settings[across], train, valid, train - valid

    runs_of = {value: [] for value in given["grid"][down]}
    for run in sorted(tried, key=lambda run: run.settings[across]):
        runs_of[run.settings[down]].append(told(run))
    for y, k in ("validation accuracy %", 2), ("training validation", 3):
        ax = axes_of(seen, section, "learning rate", y)
        for label, drawn in curves(ax).items():
            expected = runs_of[float(label.split("=")[1])]
            expected = np.transpose([(t[0], t[k]) for t in expected])
            np.testing.assert_allclose(drawn, expected)
        assert len(curves(ax)) == len(runs_of) and word in label
    header, rows = seen.table(section, "training / validation / difference")
    assert len(rows) == len(runs_of) and "learning rate" in header[1]
    for name, *cells in rows:
        assert name.startswith(word)
        runs = zip(header[1:], cells, runs_of[float(name.split("=")[1])], strict=True)
        for rate, cell, (value, *expected) in runs:
            assert says(rate, value) and says(cell, *expected)
    header, rows = seen.table(section, "training", "validation (%), seeds")
    assert header[0] == word and says(header[-1], *(run.seed for run in leaders[0]))
    means = [np.mean(percent(runs, "valid")) for runs in leaders]
    assert means == sorted(means, reverse=True)
    for runs, (value, rate, trained, valid) in zip(leaders, rows, strict=True):
        assert says(f"{value} {rate}", *pair_of(runs[0], given))
        assert says(trained, *mean_sd(percent(runs, "train")))
        assert says(valid, *mean_sd(percent(runs, "valid")))


@both_questions
def test_the_table_of_classes(seen, q):
    test = seen.parts[2]
    hits = hits_of(chosen(seen, q)[0].model, test)
    header, rows = seen.table(QUESTIONS[q][3], "class, test set")
    assert header[1:] == list("0123456789")
    expected = np.transpose([interval(hits[test.y == k]) for k in range(10)])
    words = "images", "accuracy", "from", "to"
    for k, values in enumerate([np.bincount(test.y), *expected]):
        assert words[k] in rows[k][0] and says(" ".join(rows[k][1:]), *values)


@both_questions
def test_less_data_is_drawn_over_its_percentage(seen, q):
    section, test = QUESTIONS[q][4], seen.parts[2]
    ax = axes_of(seen, section, "percentage training data", "test accuracy %")
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


def test_q1_sets_samples_and_initial_weights(seen):
    header, rows = seen.table("1.1", "images of class")
    for part, (name, *counts) in zip(seen.parts, rows, strict=True):
        assert name == part.name and says(" ".join(counts), *np.bincount(part.y))
    arrays, titles, _ = pictures(seen, "1.1", 20)
    shown = [seen.sets[row] for row in fingerprints(rows_of(arrays))]
    assert shown == [("training", int(k)) for k in titles]
    assert len(set(fingerprints(rows_of(arrays)))) == 20
    header, rows = seen.table("1.7", "initial weights", "σ", "first training loss")
    calls, training = seen.of("fit", "1.7"), seen.parts[0]
    for call, model, row in zip(calls, starts(calls), rows, strict=True):
        name, sd, first, *cells = row
        assert float(sd) == pytest.approx(model.W.std(), rel=0.03)
        assert (name == "Xavier" and sd == "0.05") or float(name) == float(sd)
        assert says(first, loss_of(scores_of(model, training.x), training.y))
        for column, cell in zip(header[3:], cells, strict=True):
            told = call.result.log[int(numbers(column)[0][0]) - 1]
            assert says(cell, 100 * told["validation accuracy"])
            assert "validation" in column


def test_templates_are_the_weights(seen):
    _, grown, _ = loops(seen)
    _, _, names = pictures(seen, "1.6", 20)
    steps = [0 if "start" in name else int(numbers(name)[0][0]) for name in names]
    assert steps == [0, 10]  # there are no more in the rehearsal
    first, _, second = chosen(seen, 3)[0].model.layers
    strongest = np.argsort(-np.linalg.norm(second.W, axis=1))[:5]
    for section, words, weights, count in (
        ("1.6", ("start", "10 steps"), [grown[k].W for k in steps], 20),
        ("3.6", ("incoming",), [first.W[:, strongest]], 5),
    ):
        arrays, titles, names = pictures(seen, section, count)
        scales = [np.percentile(np.abs(W), 99.5) for W in weights]
        scaled = [W.T / scale for W, scale in zip(weights, scales, strict=True)]
        np.testing.assert_allclose(rows_of(arrays), np.concatenate(scaled), atol=1e-5)
        for word, name, scale in zip(words, names, scales, strict=True):
            assert word in name and says(name, scale)
        assert section == "3.6" or titles[:10] == list("0123456789")


def test_q1_surest_mistakes(seen):
    test, model = seen.parts[2], chosen(seen, 1)[0].model
    scores = scores_of(model, test.x)
    predicted = scores.argmax(axis=1)
    ax = axes_of(seen, "1.10", "predicted", "true")
    assert len(ax.texts) == 100
    for text in ax.texts:
        k, j = (round(at) for at in text.get_position())
        assert int(text.get_text()) == np.sum((test.y == j) & (predicted == k))
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    p = (predicted != test.y) / p.sum(axis=1)
    arrays, titles, _ = pictures(seen, "1.10", 13)
    rows = fingerprints(test.x)
    shown = [rows.index(row) for row in fingerprints(rows_of(arrays[1:]))]
    assert p[shown] == pytest.approx(np.sort(p)[:-13:-1], abs=1e-6)
    assert titles[1:] == [f"{test.y[k]} → {predicted[k]}" for k in shown]


def test_q1_the_table_of_classifiers(seen):
    header, rows = seen.table("1.11", "accuracy", "only ours : only it right")
    parts = {part.name: part for part in seen.parts}
    ours = hits_of(chosen(seen, 1)[0].model, parts["test"])
    assert len(rows) == 5 and header[1:4] == list(parts)
    for name, *cells, against in rows:
        for set_name, cell in zip(header[1:4], cells, strict=True):
            hits = classify(seen, name, parts[set_name].x) == parts[set_name].y
            assert says(cell, 100 * np.mean(hits))
        assert name == "ours" or says(against, *duel(ours, hits))


# --- Questions 2, 4 and 5 -------------------------------------------------------------


def test_q2_the_drawn_graph(seen):
    _, f, dx, dy, dz = f_of(2, 4, 1)
    d, slope = math.tanh(1), 1 - math.exp(f)
    n = slope / d  # ∂f/∂n, where n = 1 and u = 1 / d
    expected = [(2, dx), (4, dy), (0.5, 8 * dy), (2, 2 * dy), (1, n), (0, n), (1, n)]
    expected += [(1, dz / 2)] * 3 + [(d, -slope / d**2), (1 / d, slope)]
    expected += [(math.exp(f), math.exp(-f)), (f, 1)]
    texts = [
        t for fig in seen.figures("2.3") for t in fig.axes[0].texts if t.get_text()
    ]
    texts = [text for text in texts if not text.get_bbox_patch()]  # no nodes
    drawn = []  # the value stands above its gradient, in another colour
    for value, grad in zip(texts[::2], texts[1::2], strict=True):
        drawn.append((float(value.get_text()), float(grad.get_text())))
        above, below = value.get_position()[1], grad.get_position()[1]
        assert above > below and value.get_color() == seen.ns["BLUE"]
        assert grad.get_color() == seen.ns["ORANGE"]
    expected = [(float(f"{a:.3g}"), float(f"{b:.3g}")) for a, b in expected]
    np.testing.assert_allclose(sorted(drawn), sorted(expected), atol=1e-9)


def test_q4_the_picture_of_a_convolution(seen):
    axes = next(fig.axes for fig in seen.figures("4.2") if len(fig.axes) == 9)
    shown, frames = [], []
    for ax in axes:
        side = math.isqrt(len(ax.texts))
        shown.append(np.reshape([int(t.get_text()) for t in ax.texts], (side, side)))
        frame = ax.patches[0]
        frames.append((frame.get_y(), frame.get_x(), frame.get_width()))
    image, filters, out, padded, flipped, to_image, again, G, to_filter = shown
    assert (out == signal.correlate2d(image, filters, "valid")).all()
    assert (to_image == signal.convolve2d(G, filters)).all() and to_image[2, 2] == 159
    assert (to_filter == signal.correlate2d(image, G, "valid")).all()
    assert to_filter[0, 0] == 560 and (again == image).all()
    assert (padded == np.pad(G, 2)).all() and (flipped == filters[::-1, ::-1]).all()
    top, middle, bottom = frames[:3], frames[3:6], frames[6:]
    assert top == [(1, 1, 3), (0, 0, 3), (1, 1, 1)]
    assert middle == [(2, 2, 3), (0, 0, 3), (2, 2, 1)]
    assert bottom == [(0, 0, 3), (0, 0, 3), (0, 0, 1)]
    words = ("image", "filter", "output", "padded", "flipped", "image", "image", "G")
    assert all(word in ax.get_title() for word, ax in zip(words, axes, strict=False))


def test_q4_filters_and_blurred_images(seen):
    five, ten, *_ = seen.of("blur", "4.4")
    bell = np.exp(-((np.arange(13) - 6) ** 2) / (2 * 1.5**2))
    bell = np.outer(bell, bell) / bell.sum() ** 2
    arrays, _, _ = pictures(seen, "4.4", 10)
    np.testing.assert_allclose(arrays, [bell, *([bell, *[0 * bell] * 3] * 3)[:9]])
    for colour in "red", "green", "blue":
        column = axes_of(seen, "4.4", x=f"from {colour}").images[0].get_array()
        row = axes_of(seen, "4.4", y=f"to {colour}").images[0].get_array()
        assert np.any(column) == (colour == "blue") and np.any(row) == (colour == "red")
    labels, rows = seen.of("load_cifar")[0].result[1], fingerprints(cifar_of(seen))
    for call in five, ten:
        both = np.concatenate([call.given["images"], call.result]).transpose(0, 2, 3, 1)
        arrays, titles, sides = pictures(seen, "4.4", len(both), colours=True)
        np.testing.assert_allclose(arrays, both.clip(0, 1))
        places = [rows.index(row) for row in fingerprints(call.given["images"])]
        names = [seen.ns["CIFAR_NAMES"][labels[k]] for k in places]
        assert titles[: len(names)] == names
        assert "input" in sides[0] and "blurred" in sides[1]
    axes = next(fig.axes for fig in seen.figures("4.5") if len(fig.axes) == 8)
    for above, below in zip(axes[:4], axes[4:], strict=True):
        stride, dilation = (int(n) for n, _ in numbers(above.get_title()))
        rows, read = dilation * np.arange(3), np.zeros((11, 11))
        read[np.ix_(rows, rows)] += 1
        read[np.ix_(rows, rows + stride)] += 2
        np.testing.assert_array_equal(
            above.collections[0].get_array().ravel(), read.ravel()
        )
        side = (11 - 2 * dilation) // stride + 1
        assert np.shape(below.images[0].get_array()) == (side, side, 3)
        assert numbers(below.get_xlabel())[-1][0] == side


def test_q5_descents_spectrum_and_filters(seen):
    on_L, on_square = (descents(seen, "5.3", squared=s)[0] for s in (False, True))
    for k, word in enumerate(("distance", "error")):
        ax = axes_of(seen, "5.3", "passes", word)
        for label, (x, y) in curves(ax).items():
            history = (on_square if label.endswith("½L²") else on_L).result[1]
            assert y == list(history[:, k]) and x == list(range(61))
        assert len(curves(ax)) == 2
    start, W0 = on_square.given["start"], on_square.given["W0"]
    patches = windows_of(cifar_of(seen)[:100])
    mu, vectors = np.linalg.eigh(patches.T @ patches)
    left = axes_of(seen, "5.4", "eigen", "eigenvalue")
    right = axes_of(seen, "5.4", "eigen", "error")
    x, y = left.lines[0].get_data()
    np.testing.assert_allclose(y[np.argsort(x)], mu[::-1], rtol=1e-6)
    for label, (x, y) in curves(right).items():
        W = start if "start" in label else on_square.result[0].W
        along = np.linalg.norm((W - W0).reshape(20, 75) @ vectors, axis=0)
        np.testing.assert_allclose(np.array(y)[np.argsort(x)], along[::-1], rtol=1e-3)
    assert len(curves(right)) == 2
    stages = {"true": W0, "start": start, "plain": on_square.result[0].W}
    stages["whitened"] = seen.of("descend", "5.6")[0].result[0].W
    arrays, titles, names = pictures(seen, "5.7", 80, colours=True)
    assert names == list(stages) and titles[:20] == [str(k) for k in range(1, 21)]
    colours = np.concatenate([stages[name] for name in names]).clip(-1, 1) / 2 + 0.5
    np.testing.assert_allclose(arrays, colours.transpose(0, 2, 3, 1))


def test_q5_paths_in_the_bowl(seen):
    A2 = bowl_of_two(seen)
    for title in "η 1 / μ 40", "η 2.1", "η whitened":
        ax = axes_of(seen, "5.4", title=title)
        whitened = "whitened" in ax.get_title()
        matrix = np.eye(2) if whitened else A2 / np.linalg.eigvalsh(A2)[1]
        path = ax.lines[0].get_xydata()
        (rate, _), *_, (steps, _) = numbers(ax.get_title())
        np.testing.assert_allclose(path[1:], path[:-1] - rate * path[:-1] @ matrix)
        assert len(path) == steps + 1
        contours = [path for c in ax.collections for path in c.get_paths()]
        assert len(contours) > 3
        for line in contours:
            height = np.sum(line.vertices @ A2 * line.vertices, axis=1) / 2
            np.testing.assert_allclose(height, height.mean(), rtol=0.1, atol=1e-3)


# --- Further --------------------------------------------------------------------------


def test_further_gains_have_the_same_draws(seen):
    ax = axes_of(seen, "6.1", "layer", "rms")
    rms = {label.split(" (")[0]: np.array(y) for label, (_, y) in curves(ax).items()}
    pixels = seen.parts[1].x
    assert rms["gain 1"][0] == pytest.approx(np.sqrt(np.mean(pixels**2) / 2), rel=0.1)
    assert {tuple(x) for x, _ in curves(ax).values()} == {tuple(range(1, 11))}
    for name, gain in ("gain 1", 1), ("gain √2", math.sqrt(2)), ("gain 2", 2):
        expected = rms["gain 1"] * gain ** np.arange(1, 11)
        np.testing.assert_allclose(rms[name], expected, rtol=1e-4)
        (line,) = seen.lines("6.1", name, "rms")
        assert says(line.split("rms")[1], min(expected), max(expected), expected[-1])


def test_further_distorted_digits(seen):
    (call,) = seen.of("distorted_minibatch", "6.4")
    digits = call.given["x"][::4]
    assert {seen.sets[row][0] for row in fingerprints(digits)} == {"training"}
    shown = rows_of(pictures(seen, "6.4", 20)[0]).reshape(5, 4, 784)
    for k, four in enumerate(shown):  # all different, nearest to their digit
        assert len(set(fingerprints(four))) == 4
        far = np.linalg.norm(four.mean(axis=0) - digits, axis=1)
        assert np.argmin(far) == k
    titled = [axes_of(seen, "6.4", title=f"{t} arrows") for t in ("one bump", "all")]
    bump, every = (ax.collections[0] for ax in titled)
    assert np.ptp(every.U - every.V) > 0 == np.ptp(bump.U - bump.V)


def test_further_training_of_the_networks(seen):
    for run, word in zip(networks(seen), ("MLP", "ConvNet"), strict=True):
        ax = axes_of(seen, "6.5", "epoch", "accuracy %", word)
        check_log(ax, run, "accuracy", 100)
        assert ["not" in label for label in curves(ax)] == [False, True]


def test_further_the_staircase_and_shifts(seen):
    test = seen.parts[2]
    ax = axes_of(seen, "6.6", y="test error %")
    names = [text.get_text().replace("\n", " ") for text in ax.get_xticklabels()]
    for k, (name, bar) in enumerate(zip(names, ax.containers, strict=True)):
        value, low, high = interval(classify(seen, name, test.x) == test.y)
        (x, y), ends = bar.lines[0].get_xydata()[0], bar.lines[2][0].get_segments()[0]
        assert (x, y) == (k, pytest.approx(100 - value))
        np.testing.assert_allclose(ends[:, 1], [100 - high, 100 - low])
        assert says(ax.texts[k].get_text(), y) and ax.texts[k].xy == (x, y)
    ax = axes_of(seen, "6.7", "shift right", "test accuracy %")
    assert list(curves(ax)) == names and len(names) == 5
    for name, (x, y) in curves(ax).items():
        assert x == list(range(len(x)))
        for pixels in 0, 3, 6:
            expected = 100 * np.mean(shifted(seen, name, pixels))
            assert y[pixels] == pytest.approx(expected)
