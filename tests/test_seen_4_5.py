"""Questions 4 and 5 as rehearsed on few small images: what was blurred and descended,
and what answers, printed lines and pictures say of it.

Speaks when images, weights or rules are not those of the words beside them, and when a
number, a curve or a picture is not of the descent or the layer that it names."""

import itertools
import math
import re

import numpy as np
import pytest
from conftest import are, numbers, patches_of, says
from rehearsal import fingerprints
from scipy import linalg, signal
from seen import curves, rule_of


def test_q4_a_line_of_pixels_and_the_checks(seen):
    cifar, labels = seen.cifar
    assert says(seen.answer("4.1", "cifar-10"), *cifar.shape, *labels.shape)
    assert says(seen.lines("4.2", "outputs")[0], 2, 5, 8, 11)
    assert are(seen.lines("4.2", "with stride")[0], [2, 2, 8])
    assert are(seen.lines("4.2", "with dilation")[0], [2, 4, 7, 10])
    assert are(seen.lines("4.2", "with padding")[0], [1, 0, 2, 5, 8, 11, 4])
    assert are(seen.lines("4.2", "gradient, filter")[0], [3210, 4321])
    for word in "gradient, input", "flipped":
        assert says(seen.lines("4.2", word)[0], 1, 12, 120, 1200, 2000)
    for line in seen.lines("4.2", "that", "read"):  # stride 2, filter (1, 2, 3)
        assert are(line, [1, 2, 13, 20, 30])
    layers = [call.given["layer"] for call in seen.of("check_layer", "4.3")]
    geometry = [(layer.stride, layer.padding, layer.dilation) for layer in layers]
    assert geometry == [(1, 0, 1), (2, 1, 2)]
    for section in "4.3", "6.4":
        plain, both = seen.lines(section, "difference")
        assert max(numbers(line)[-1][0] for line in (plain, both)) < 1e-12
        assert plain.startswith("plain") and says(both, 2, 1, 2)
    assert len(seen.lines("4.3", "of the picture: True")) == 2


def test_q4_first_five_and_ten_random_images_are_blurred(seen):
    five, ten, *_, hundred = seen.of("blur", "4.4")
    rows = fingerprints(seen.cifar[0])
    assert fingerprints(five.given["images"]) == rows[:5]
    places = [rows.index(row) for row in fingerprints(ten.given["images"])]
    assert len(set(places)) == 10 and places != sorted(places)  # at random
    assert max(places) > 99  # of all images
    assert fingerprints(hundred.given["images"]) == rows[:100]
    bell = np.exp(-((np.arange(13) - 6) ** 2) / (2 * 1.5**2))  # as in the text
    blurring = np.eye(3)[:, :, None, None] * np.outer(bell, bell) / bell.sum() ** 2
    for call in five, ten, hundred:
        np.testing.assert_allclose(call.given["layer"].W, blurring)
    assert says(seen.answer("4.4", "10 random"), *ten.result.shape)
    (line,) = seen.lines("4.4", "from SciPy")
    assert says(line, 100) and numbers(line)[-1][0] < 1e-12
    assert says(seen.lines("4.4", "weights")[0], 3, 3, 13, 13)


def test_q4_the_picture_of_a_convolution(seen):
    axes = next(fig.axes for fig in seen.figures("4.2") if len(fig.axes) == 9)
    shown, frames = [], []
    for ax in axes:
        side = math.isqrt(len(ax.texts))
        shown.append(np.zeros((side, side)))
        for text in ax.texts:
            column, row = map(int, text.get_position())
            shown[-1][row, column] = text.get_text()
        frame = ax.patches[0]
        frames.append((frame.get_y(), frame.get_x(), frame.get_width()))
    image, filters, out, padded, flipped, to_image, again, G, to_filter = shown
    assert (out == signal.correlate2d(image, filters, "valid")).all()
    assert (to_image == signal.convolve2d(G, filters)).all() and to_image[2, 2] == 159
    assert (to_filter == signal.correlate2d(image, G, "valid")).all()
    assert to_filter[0, 0] == 560 and (again == image).all() and filters[0, 2] == 3
    assert (padded == np.pad(G, 2)).all() and (flipped == filters[::-1, ::-1]).all()
    assert frames[:3] == [(1, 1, 3), (0, 0, 3), (1, 1, 1)]  # above
    assert frames[3:6] == [(2, 2, 3), (0, 0, 3), (2, 2, 1)]
    assert frames[6:] == [(0, 0, 3), (0, 0, 3), (0, 0, 1)]
    words = ("image", "filter", "output", "padded", "flipped", "image", "image", "G")
    assert all(word in ax.get_title() for word, ax in zip(words, axes, strict=False))


def test_q4_filters_and_blurred_images(seen):
    five, ten, *_ = seen.of("blur", "4.4")
    weights = five.given["layer"].W
    arrays, _, _ = seen.pictures("4.4", 10)
    np.testing.assert_array_equal(arrays, [weights[0, 0], *np.concatenate(weights)])
    assert seen.axes("4.4", "column", "row", "red to red").images
    for colour in "red", "green", "blue":
        column = seen.axes("4.4", x=f"from {colour}").images[0].get_array()
        row = seen.axes("4.4", y=f"to {colour}").images[0].get_array()
        assert np.any(column) == (colour == "blue") and np.any(row) == (colour == "red")
    labels, rows = seen.cifar[1], fingerprints(seen.cifar[0])
    for call in five, ten:
        both = np.concatenate([call.given["images"], call.result]).transpose(0, 2, 3, 1)
        arrays, titles, sides = seen.pictures("4.4", len(both), colours=True)
        np.testing.assert_allclose(arrays, both.clip(0, 1))
        places = [rows.index(row) for row in fingerprints(call.given["images"])]
        names = [seen.ns["CIFAR_NAMES"][labels[k]] for k in places]
        assert titles[: len(names)] == names  # the names of the ten are sorted
        assert seen.ns["CIFAR_NAMES"] == sorted(seen.ns["CIFAR_NAMES"])
        assert re.search("input|image|orig", sides[0]) and "blurred" in sides[1]


def test_q4_stride_and_dilation(seen):
    (fig,) = [fig for fig in seen.figures("4.2") if len(fig.axes) == 4]
    (legend,) = fig.legends
    for ax in fig.axes:
        stride, dilation = (int(n) for n, _ in numbers(ax.get_title()))
        mesh, rows, read = ax.collections[0], dilation * np.arange(3), np.zeros((7, 7))
        read[np.ix_(rows, rows)] += 1
        read[np.ix_(rows, rows + stride)] += 2
        np.testing.assert_array_equal(mesh.get_array().ravel(), read.ravel())
        side = (7 - 2 * dilation - 1) // stride + 1
        assert says(ax.get_xlabel(), side, side)
        for k, words in enumerate(("first", "second", "both")):
            assert words in legend.get_texts()[k].get_text()
            colour = legend.legend_handles[k].get_facecolor()
            assert mesh.to_rgba(k + 1) == pytest.approx(colour, abs=0.01)


def history_of(call):
    """(distance, filter error) of a descent, at the start and after each pass."""
    return np.array([(seen.distance, seen.error) for seen in call.result[1]])


def mean_of_ten(call):
    """The mean distance in the last ten passes of a descent."""
    return np.mean(history_of(call)[-10:, 0])


def best(seen, squared):
    """The descent of 5.3 at the best rate of its list, on ½L² or on L."""
    calls = seen.descents("5.3", squared=squared)
    return min(calls, key=lambda call: np.nan_to_num(mean_of_ten(call), nan=np.inf))


def test_q5_the_text_names_rates_of_the_lists(seen):
    on_L, on_square = (seen.descents("5.3", squared=s) for s in (False, True))
    assert 2e-3 in [rule_of(call).rate for call in on_L]
    assert 5e-6 in [rule_of(call).rate for call in on_square[1:-1]]  # "best there"


def test_q5_all_descents_begin_alike_and_learn_the_given_layer(seen):
    W0 = seen.of("load_filters")[0].result
    x, calls = seen.cifar[0][:100], seen.of("descend")
    target = (patches_of(x, 5) @ W0.reshape(20, 75).T).reshape(100, 8, 8, 20)
    target = target.transpose(0, 3, 1, 2)
    for call in calls:
        C, W = call.given["C"], call.result[0].W
        np.testing.assert_array_equal(call.given["x"], x)
        np.testing.assert_allclose(call.given["target"], target, atol=1e-12)
        np.testing.assert_array_equal(call.given["start"], calls[0].given["start"])
        fast = "Fast_" * (call.section == "6.5")
        assert type(C).__name__ == f"{fast}Convolution_Layer" and C.b is None
        assert call.given["passes"] == (20 if call.section == "5.5" else 60)
        if np.isfinite(W).all():
            distance = np.linalg.norm(patches_of(x, 5) @ (W - W0).reshape(20, 75).T)
            error = np.linalg.norm(W - W0) / np.linalg.norm(W0)
            told = history_of(call)[-1]
            np.testing.assert_allclose(told, (distance, error), rtol=1e-6, atol=1e-9)
    start = np.sort(calls[0].given["start"].ravel())
    np.testing.assert_allclose(start, np.linspace(-1, 1, 1500), atol=0.1)  # uniform


def test_q5_lines_of_the_descents(seen):
    assert says(seen.lines("5.1", "distance")[0], 5, 0.6, 0.8)
    own, squared = (history_of(best(seen, s)) for s in (False, True))
    header, rows = seen.table("5.3", "rate", "distance", "last ten", "filter error")
    calls = seen.descents("5.3", squared=False) + seen.descents("5.3")
    for call, (name, *cells) in zip(calls, rows, strict=True):
        loss = "½L²" if call.given["squared"] else "L"
        assert name.startswith(f"{loss}, ") and says(name, rule_of(call).rate)
        assert ("best" in name) == (call is best(seen, call.given["squared"]))
        distance, error = history_of(call)[-1]
        assert says(" ".join(cells), distance, mean_of_ten(call), error)
    (header,) = seen.lines("5.3", "pass ")
    assert re.search("on L: distance *filter error *on ½L²: distance *filter", header)
    whitened = history_of(seen.of("descend", "5.5")[0])
    for section, histories in ("5.3", (own, squared)), ("5.5", (whitened,)):
        lines = [t for t in seen.lines(section) if re.match(r" *\d+ ", t)]
        passes = [int(numbers(line)[0][0]) for line in lines]
        assert passes[0] == 0 and passes[-1] == len(histories[0]) - 1
        for k, line in zip(passes, lines, strict=True):
            assert says(line, k, *itertools.chain(*(h[k] for h in histories)))


def test_q5_whitened_descent_finds_the_filters(seen):
    (call,) = seen.of("descend", "5.5")
    learned, history, rule = call.result[0], history_of(call), rule_of(call)
    patches, W0 = patches_of(call.given["x"], 5), seen.of("load_filters")[0].result
    assert type(rule).__name__ == "Whitened" and rule.rate == 2  # "with η = 2"
    assert call.given["squared"]
    A = patches.T @ patches  # from the images alone
    np.testing.assert_allclose(rule.inverse @ A, np.eye(75), atol=1e-6)
    own, squared = (history_of(best(seen, s)) for s in (False, True))
    assert min(own[-1, 1], squared[-1, 1]) > 0.3  # plain descent does not
    error = np.linalg.norm(learned.W - W0) / np.linalg.norm(W0)
    assert error < 1e-12 and history[-1, 0] < 1e-9
    for word, first, k in ("filter error", error, 1), ("l2 dist", history[-1, 0], 0):
        plain, whitened = seen.answer("5.5", word).split("whitened")
        assert numbers(whitened)[0][0] == pytest.approx(first, rel=0.6, abs=0)
        told = re.match(r".*on L (.*), on ½L² (.*) \(at the start ([\d.]+)", plain)
        assert says(told[1], own[-1, k]) and says(told[2], squared[-1, k])
        assert says(told[3], own[0, k])
    batches = seen.ns["get_minibatch"](call.given["x"], call.given["x"], 20, 0)
    windows = [patches_of(x_b, 5) for x_b, _ in batches]
    shares = [linalg.eigvalsh(of_batch.T @ of_batch, A) for of_batch in windows]
    (line,) = seen.lines("5.5", "factors")
    assert says(line, 1 - 2 * np.max(shares), 1 - 2 * np.min(shares))
    (line,) = seen.lines("5.5", "left by a step")
    assert says(line.split(":")[1], *(history[1:6, 1] / history[:5, 1]) ** 0.2)


def bowl_of_two(seen):
    """The mean of p pᵀ over all pairs of neighbouring pixels of the red channel."""
    red = seen.cifar[0][:100, 0]
    pairs = np.stack([red[:, :, :-1].ravel(), red[:, :, 1:].ravel()])
    return pairs @ pairs.T / pairs.shape[1]


def test_q5_lines_of_the_spectrum(seen):
    A2 = bowl_of_two(seen)
    assert says(seen.lines("5.4", "A =")[0], *A2.ravel())
    values, vectors = np.linalg.eigh(A2)
    lines = seen.lines("5.4", "root")
    for value, vector, line in zip(values, vectors.T, lines, strict=True):
        assert says(line, value, value**0.5)
        assert says(line, *vector) or says(line, *-vector)
    patches = patches_of(seen.cifar[0][:100], 5)
    (mu, vectors), mean = np.linalg.eigh(patches.T @ patches), patches.mean(axis=0)
    call, W0 = best(seen, True), seen.of("load_filters")[0].result
    rate, ends = rule_of(call).rate, (call.given["start"], call.result[0].W)
    along = [np.linalg.norm((W - W0).reshape(20, 75) @ vectors, axis=0) for W in ends]
    have = np.sum(along[1] <= along[0] / math.e)
    for word, *expected in (
        ("eigenvalues from", mu[-1], mu[0]),
        ("condition", mu[-1] / mu[0]),
        ("stable rate", 10 / mu[-1], rate),
        ("steps per factor e", 5 / (rate * mu[0])),
        ("directions", 300, np.sum(5 / (rate * mu) <= 300), 75, have),
        ("mean patch", len(patches) * mean @ mean),
    ):
        assert says(seen.lines("5.7", word)[0], *expected, share=0.03), word
    calls = seen.descents("5.3", squared=False)[1:]
    for call, line in zip(calls, seen.lines("5.7", "floor"), strict=True):
        rate, seen_there = rule_of(call).rate, history_of(call)[-40:, 0].mean()
        assert says(line, rate, math.sqrt(5) * rate * mu[-1] / 10, 40, seen_there)
    (line,) = seen.lines("5.7", "filter error")
    assert numbers(line)[0][0] < 1e-9


def test_q5_descents_spectrum_and_filters(seen):
    on_L, on_square = (best(seen, s) for s in (False, True))
    for k, word in enumerate(("distance", "error")):
        ax = seen.axes("5.3", "passes", word)
        for label, (x, y) in curves(ax).items():
            rate = numbers(label)[-1][0]
            calls = seen.descents("5.3", squared="½L²" in label)
            call = min(calls, key=lambda call: abs(rule_of(call).rate - rate))
            assert y == list(history_of(call)[:, k]) and x == list(range(61))
        assert len(curves(ax)) == 3
        assert any(says(label, 2e-3) for label in curves(ax))  # "at twice the best"
    start, W0 = on_square.given["start"], seen.of("load_filters")[0].result
    patches = patches_of(seen.cifar[0][:100], 5)
    mu, vectors = np.linalg.eigh(patches.T @ patches)
    left = seen.axes("5.7", "eigen", "eigenvalue")
    right = seen.axes("5.7", "eigen", "error")
    assert left.get_yscale() == "log"
    x, y = left.lines[0].get_data()
    np.testing.assert_allclose(y[np.argsort(x)], mu[::-1], rtol=1e-6)
    for label, (x, y) in curves(right).items():
        W = start if "start" in label else on_square.result[0].W
        along = np.linalg.norm((W - W0).reshape(20, 75) @ vectors, axis=0)
        np.testing.assert_allclose(np.array(y)[np.argsort(x)], along[::-1], rtol=1e-3)
    assert len(curves(right)) == 2
    stages = {"true": W0, "start": start}
    stages |= {"on L": on_L.result[0].W, "on ½L²": on_square.result[0].W}
    stages["whitened"] = seen.of("descend", "5.5")[0].result[0].W
    arrays, titles, names = seen.pictures("5.6", 100, colours=True)
    assert names == list(stages) and titles[:20] == [str(k) for k in range(1, 21)]
    colours = np.concatenate([stages[name] for name in names]).clip(-1, 1) / 2 + 0.5
    np.testing.assert_allclose(arrays, colours.transpose(0, 2, 3, 1))


def test_q5_filters_out_of_noise(seen):
    """Each tile has the same filters, of its pass and of its rule."""
    plain, whitened = best(seen, True), seen.of("descend", "5.5")[0]
    W0 = seen.of("load_filters")[0].result
    fig = next(fig for fig in seen.figures("5.6") if len(fig.axes) == 14)
    places = [8 + 56 * k + 10 * i for k in range(3) for i in range(5)]
    shown = set()
    for k, ax in enumerate(fig.axes):
        name = fig.axes[k - k % 7].get_ylabel().split()[0]
        history = {"plain": plain, "whitened": whitened}[name].result[1]
        W = W0
        if ax.get_title() != "true":
            at = history[int(numbers(ax.get_title())[0][0])]
            W = at.W
            assert says(ax.get_xlabel(), at.error)
        picture = np.asarray(ax.images[0].get_array())[np.ix_(places, places[:10])]
        tiles = picture.reshape(3, 5, 2, 5, 3).transpose(0, 2, 4, 1, 3).reshape(6, 75)
        far = np.abs(tiles[:, None] - (W.reshape(20, 75).clip(-1, 1) / 2 + 0.5))
        assert far.max(axis=2).min(axis=1) == pytest.approx(0, abs=1e-9)
        shown.add(tuple(far.max(axis=2).argmin(axis=1)))
    assert len(shown) == 1


def test_q5_paths_in_the_bowl(seen):
    """Creeping; thrown to and fro, its steps numbered; and the round bowl's, whose
    coordinates are the valley's times the root of A."""
    A2 = bowl_of_two(seen)
    values, vectors = np.linalg.eigh(A2)
    root, corners, paths = vectors * values**0.5 @ vectors.T, [[1, 1], [1, -1]], []
    for title, matrix, loss, change in (
        ("η 1 / μ 40", A2 / values[1], A2, None),
        ("η 2.1 / μ", A2 / values[1], A2, None),
        ("valley", np.eye(2), A2, np.eye(2)),
        ("round bowl", np.eye(2), np.eye(2), root),
    ):
        ax = seen.axes("5.4", title=title)
        path, told = ax.lines[0].get_xydata(), numbers(ax.get_title())
        names = ax.get_xlabel() + ax.get_ylabel()
        assert re.search("₁.*₂", names) and ("′" in names) == (title == "round bowl")
        rate, steps = (told[0][0], told[-1][0]) if "μ" in title else (0.3, 12)
        np.testing.assert_allclose(path[1:], path[:-1] - rate * path[:-1] @ matrix)
        assert len(path) == steps + 1
        paths.append(path)
        for line in (line for c in ax.collections for line in c.get_paths()):
            height = np.sum(line.vertices @ loss * line.vertices, axis=1) / 2
            np.testing.assert_allclose(height, height.mean(), rtol=0.1, atol=1e-3)
        places = [tuple(text.xy) for text in ax.texts]
        if change is not None:
            np.testing.assert_allclose(places, corners @ change)
            assert all(says(text.get_text(), *text.xy) for text in ax.texts)
        elif places:
            np.testing.assert_array_equal(places, path)
            assert [int(t.get_text()) for t in ax.texts] == list(range(len(path)))
    np.testing.assert_allclose(paths[3], paths[2] @ root)
    drawn = [ax.lines[0].get_xydata() for ax in seen.figures("5.4")[0].axes]
    assert [np.ptp(path[-2:]) > 1 for path in drawn] == [False, True]
