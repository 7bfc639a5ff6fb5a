"""Contracts of Questions 2, 4, 5 and of Further, and of Question 3 beside Question 1:
what was run, and what answers and printed lines say.

From the same rehearsal as test_contracts.py. The sheet's four points have each its own
f and gradient; the first five images are the first five; descents run under the right
names, from weights uniform in [-1, 1]; the printed distance is the trained layer's;
networks, blocks and shifts are what their words say. It speaks when a line or an answer
has the number of another run, set, order or point."""

import itertools
import math
import re

import mpmath
import numpy as np
import pytest
from rehearsal import fingerprints, rehearse
from test_contracts import (
    SETTINGS,
    check_model,
    chosen,
    classify,
    duel,
    hits_of,
    interval,
    networks,
    numbers,
    pair_of,
    percent,
    says,
    settings_of,
    starts,
    tuning,
)

POINTS = (2, 4, 1), (9, 14, 3), (128, 42, 666), (52, 14, 28)  # the sheet's


@pytest.fixture(scope="session")
def seen():
    """The Rehearsal."""
    return rehearse()


# --- Question 2 -----------------------------------------------------------------------


def f_of(x, y, z):
    """u, f, ∂f/∂x, ∂f/∂y, ∂f/∂z, from 60 digits."""
    with mpmath.workdps(60):
        n, d = mpmath.cospi(x) + mpmath.sinpi(y / 2), mpmath.tanh(mpmath.mpf(z) ** 2)
        slope = 1 / (1 + mpmath.exp(n / d))
        f_x = -slope * mpmath.pi * mpmath.sinpi(x) / d
        f_y = slope * mpmath.pi * mpmath.cospi(y / 2) / (2 * d)
        f_z = -slope * n / d**2 * (1 - d**2) * 2 * z
        f = -mpmath.log1p(mpmath.exp(-n / d))
        return [float(value) for value in (n / d, f, f_x, f_y, f_z)]


def are(text, values, rel=1e-3):
    """Whether the numbers of a text are exactly these values, zeros as zeros."""
    return [n for n, _ in numbers(text)] == pytest.approx(values, rel=rel, abs=1e-99)


def test_q2_answers_are_of_the_sheets_points(seen):
    header, rows = seen.table("2.4", "∂f/∂x", "∂f/∂y", "∂f/∂z")
    columns = [header.index(f"∂f/∂{name}") for name in "xyz"]
    assert columns == sorted(columns)
    for k, point in enumerate(POINTS):
        _, f, *gradient = f_of(*point)
        found, _, value = seen.answer("2.4", str(point)).partition("f =")
        assert are(found, gradient, 1e-5) and says(value, f)
        for name, row in zip(
            ("graph", "hand", "numerical"), rows[3 * k :], strict=False
        ):
            told = " ".join(row[c] for c in columns)
            assert name in row[1] and (row[0] == str(point) or name != "graph")
            assert says(told, *gradient) or are(told, gradient, 1e-4), row
    header, rows = seen.table("2.3", "(x, y, z)", "u")
    assert re.match("u Sigmoid.*LogSigmoid", " ".join(header[1:]))
    points = [tuple(n for n, _ in numbers(row[0])) for row in rows]
    assert set(POINTS) < set(points)
    for point, (_, u, as_two, as_one) in zip(points, rows, strict=True):
        assert are(u, f_of(*point)[:1]) and are(as_one, f_of(*point)[1:])
        assert as_two == as_one or point not in POINTS
    assert "ValueError" in rows[0][2] and are(rows[1][2], [0, 0, 0, 0])


def test_q2_printed_lines(seen):
    assert says(seen.lines("2.1", "g =")[0], 12)
    assert says(seen.lines("2.1", "slope")[0], 3, 7)
    for name, value in zip("xyz", (4, 4, 3), strict=True):
        assert f"'{name}': {value}" in seen.lines("2.1", "gradients")[0]
    computed = {"sin(128": math.sin(128 * math.pi), "at 19": 1 - math.tanh(19) ** 2}
    for word, value in computed.items():
        assert are(seen.lines("2.2", word)[0].split("computed")[1], [value], 0.05)
    assert seen.lines("2.2", "-800", "OverflowError")
    _, f, *gradient = f_of(2, 4, 1)
    assert says(seen.lines("2.3", "f =")[0], f)
    assert says(seen.lines("2.3", "∂f/∂x, ∂f/∂y, ∂f/∂z] =")[0], *gradient)


# --- Question 3 beside Question 1 -----------------------------------------------------


def test_q3_beyond_the_grid_is_half_the_smallest_batch(seen):
    tried, leaders, given = tuning(seen, 3)
    known = [*tried, *itertools.chain(*leaders)]
    runs = [run for run in seen.fits("3.4") if not any(run is k for k in known)]
    best = settings_of(chosen(seen, 3)[0])
    rates = [run.settings["learning_rate"] for run in runs]
    assert sorted(rates) == [best["learning_rate"] / 2, best["learning_rate"]]
    size = min(given["grid"]["batch_size"]) // 2
    for run, rate in zip(runs, rates, strict=True):
        assert settings_of(run) == best | {"batch_size": size, "learning_rate": rate}
        assert run.seed == tried[0].seed
        check_model(run.model, 3)
    top = max(tried, key=lambda run: run.valid)
    (line,) = seen.lines("3.4", "best of the grid", "validation")
    assert says(line, *pair_of(top, given), 100 * top.valid)
    best_hits = hits_of(top.model, seen.parts[1]).astype(float)
    for run, line in zip(runs, seen.lines("3.4", "beyond it"), strict=True):
        difference = 100 * (hits_of(run.model, seen.parts[1]) - best_hits)
        error = difference.std() / math.sqrt(len(difference))
        told = 100 * run.valid, difference.mean(), error
        assert says(line, *pair_of(run, given), *told)


def test_q3_mlp_against_softmax(seen):
    mlp, softmax = (hits_of(chosen(seen, q)[0].model, seen.parts[2]) for q in (3, 1))
    (line,) = seen.lines("3.5", "only the MLP, only the softmax")
    assert says(line, *duel(mlp, softmax))


# --- Question 4 -----------------------------------------------------------------------


def cifar_of(seen):
    return seen.of("load_cifar")[0].result[0]


def test_q4_a_line_of_pixels_and_the_checks(seen):
    cifar, labels = seen.of("load_cifar")[0].result
    assert says(seen.answer("4.1", "cifar-10"), *cifar.shape, *labels.shape)
    assert says(seen.lines("4.2", "outputs")[0], 2, 5, 8, 11)
    assert says(seen.lines("4.2", "gradient, filter")[0], 3210, 4321)
    for word in "gradient, input", "flipped":
        assert says(seen.lines("4.2", word)[0], 1, 12, 120, 1200, 2000)
    layers = [call.given["layer"] for call in seen.of("check_layer", "4.3")]
    geometry = [(layer.stride, layer.padding, layer.dilation) for layer in layers]
    assert geometry == [(1, 0, 1), (2, 1, 2)]
    for section in "4.3", "6.2":
        plain, both = seen.lines(section, "difference")
        assert max(numbers(line)[-1][0] for line in (plain, both)) < 1e-12
        assert plain.startswith("plain") and says(both, 2, 1, 2)
    assert len(seen.lines("4.3", "of the picture: True")) == 2


def test_q4_first_five_and_ten_random_images_are_blurred(seen):
    five, ten, *_, hundred = seen.of("blur", "4.4")
    rows = fingerprints(cifar_of(seen))
    assert fingerprints(five.given["images"]) == rows[:5]
    places = [rows.index(row) for row in fingerprints(ten.given["images"])]
    assert len(set(places)) == 10 and places != sorted(places)  # at random
    assert max(places) > 99  # of all images
    assert fingerprints(hundred.given["images"]) == rows[:100]
    for call in five, ten, hundred:
        assert call.given["size"] == 13 and call.given["sigma"] == 1.5  # as in the text
    assert says(seen.answer("4.4", "first 5"), *five.result.shape)
    assert says(seen.answer("4.4", "10 random"), *ten.result.shape)
    (line,) = seen.lines("4.4", "from SciPy")
    assert says(line, 100) and numbers(line)[-1][0] < 1e-12
    assert says(seen.lines("4.4", "weights")[0], 3, 3, 13, 13)


# --- Question 5 -----------------------------------------------------------------------


def windows_of(images):
    """The patches (n, 75) of images, one for each place of a 5 x 5 filter."""
    view = np.lib.stride_tricks.sliding_window_view(images, (5, 5), axis=(2, 3))
    return view.transpose(0, 2, 3, 1, 4, 5).reshape(-1, 75)


def rule_of(call):
    return call.given["make_rule"]()


def descents(seen, section, rule="Plain", squared=True):
    """The calls of descend by a rule, on ½L² or on L, by growing rate."""
    calls = [c for c in seen.of("descend", section) if c.given["squared"] == squared]
    return sorted(
        (c for c in calls if type(rule_of(c)).__name__ == rule),
        key=lambda call: rule_of(call).rate,
    )


def test_q5_all_descents_begin_alike_and_learn_the_given_layer(seen):
    W0 = seen.of("load_filters")[0].result
    x, calls = cifar_of(seen)[:100], seen.of("descend")
    target = (windows_of(x) @ W0.reshape(20, 75).T).reshape(100, 8, 8, 20)
    for call in calls:
        C = call.given["C"]
        np.testing.assert_array_equal(call.given["x"], x)
        np.testing.assert_allclose(call.given["target"], target.transpose(0, 3, 1, 2))
        np.testing.assert_array_equal(call.given["W0"], W0)
        np.testing.assert_array_equal(call.given["start"], calls[0].given["start"])
        fast = "Fast_" * (call.section == "6.3")
        assert type(C).__name__ == f"{fast}Convolution_Layer" and C.b is None
        assert call.given["passes"] == (20 if call.section == "5.6" else 60)
    start = np.sort(calls[0].given["start"].ravel())
    np.testing.assert_allclose(start, np.linspace(-1, 1, 1500), atol=0.1)  # uniform
    found = seen.answer("5.2", "save the output of 100")
    assert says(found, *W0.shape, *x.shape, *calls[0].given["target"].shape)


def test_q5_lines_of_the_descents(seen):
    assert says(seen.lines("5.1", "distance")[0], 5, 0.6, 0.8)
    (on_L,), (on_square,) = (descents(seen, "5.3", squared=s) for s in (False, True))
    own, squared = on_L.result[1], on_square.result[1]
    (header,) = seen.lines("5.3", "pass ")
    assert re.search("on L: distance *filter error *on ½L²: distance *filter", header)
    assert re.search("pass *distance *filter error", seen.lines("5.6", "pass ")[0])
    whitened = seen.of("descend", "5.6")[0].result[1]
    for section, histories in ("5.3", (own, squared)), ("5.6", (whitened,)):
        lines = [t for t in seen.lines(section) if re.match(r" *\d+ ", t)]
        passes = [int(numbers(line)[0][0]) for line in lines]
        assert passes[0] == 0 and passes[-1] == len(histories[0]) - 1
        for k, line in zip(passes, lines, strict=True):
            assert says(line, k, *itertools.chain(*(h[k] for h in histories)))
    for word, history in ("on L,", own), ("on ½L²,", squared):
        line = seen.lines("5.3", word, "left")[0].split("left:")[1]
        assert says(line, *(100 * history[-1] / history[0]))
        assert re.search("distance.*error", line)


def test_q5_whitened_descent_finds_the_filters(seen):
    (call,) = seen.of("descend", "5.6")
    (learned, history), rule = call.result, rule_of(call)
    patches, W0 = windows_of(call.given["x"]), call.given["W0"]
    assert type(rule).__name__ == "Whitened" and rule.rate == 2  # "with η = 2"
    assert call.given["squared"]
    A = patches.T @ patches  # from the images alone
    np.testing.assert_allclose(rule.inverse @ A, np.eye(75), atol=1e-6)
    own, squared = (
        descents(seen, "5.3", squared=s)[0].result[1] for s in (False, True)
    )
    error = np.linalg.norm(learned.W - W0) / np.linalg.norm(W0)
    assert error < 1e-12 and history[-1, 0] < 1e-9
    for word, first, k in ("relative error", error, 1), ("l2 dist", history[-1, 0], 0):
        plain, whitened = seen.answer("5.6", word).split("whitened")
        assert numbers(whitened)[0][0] == pytest.approx(first, rel=0.6, abs=0)
        told = re.match(r".*on L (.*), on ½L² (.*) \(at the start (.*)\)", plain)
        assert says(told[1], own[-1, k]) and says(told[2], squared[-1, k])
        assert says(told[3], own[0, k])


def bowl_of_two(seen):
    """The mean of p pᵀ over all pairs of neighbouring pixels of the red channel."""
    red = cifar_of(seen)[:100, 0]
    pairs = np.stack([red[:, :, :-1].ravel(), red[:, :, 1:].ravel()])
    return pairs @ pairs.T / pairs.shape[1]


def test_q5_lines_of_the_spectrum(seen):
    A2 = bowl_of_two(seen)
    assert says(seen.lines("5.4", "A =")[0], *A2.ravel())
    values, vectors = np.linalg.eigh(A2)
    for value, vector, line in zip(
        values, vectors.T, seen.lines("5.4", "root"), strict=True
    ):
        assert says(line, value, value**0.5)
        assert says(line, *vector) or says(line, *-vector)
    patches = windows_of(cifar_of(seen)[:100])
    mu, mean = np.linalg.eigvalsh(patches.T @ patches), patches.mean(axis=0)
    own, squared = (descents(seen, "5.3", squared=s)[0] for s in (False, True))
    rate, floor = rule_of(squared).rate, own.result[1][-40:, 0].mean()
    for word, *expected in (
        ("eigenvalues from", mu[-1], mu[0]),
        ("condition", mu[-1] / mu[0]),
        ("stable rate", 10 / mu[-1], rate),
        ("steps per factor e", 5 / (rate * mu[0])),
        ("directions", 300, np.sum(5 / (rate * mu) <= 300), 75),
        ("mean patch", len(patches) * mean @ mean),
        ("predicted", math.sqrt(5) * rule_of(own).rate * mu[-1] / 10, floor),
    ):
        assert says(seen.lines("5.4", word)[0], *expected), word
    (line,) = seen.lines("5.5", "distance", "error of the filters")
    assert max(n for n, _ in numbers(line)) < 1e-9


# --- Further --------------------------------------------------------------------------


def test_further_variants_and_widths(seen):
    calls = seen.of("fit", "6.1")
    calls = [c for c in calls if c.result.settings == SETTINGS["variants"]]
    lines = seen.lines("6.1", "hidden units", "validation")
    assert ["should be" in line for line in lines] == [True, False, False, False]
    for call, model, line in zip(calls, starts(calls), lines, strict=True):
        weights = [layer.W for layer in model.layers if hasattr(layer, "W")]
        assert len(model.layers) == (2 if "without ReLU" in line else 3)
        value = numbers(line)[0][0] if "all weights" in line else weights[0]
        assert np.allclose(weights[0], value, rtol=1e-6)
        units = np.unique(call.result.model.layers[0].W.round(4), axis=1).shape[1]
        assert says(line.split("validation")[1], 100 * call.result.valid, units)
    header, rows = seen.table("6.1", "hidden units")
    assert "training error" in header[1] and "validation error" in header[2]
    expected = SETTINGS["widths"] | {"lam": chosen(seen, 1)[0].settings["lam"]}
    runs = [run for run in seen.fits("6.1") if settings_of(run) == expected]
    for units, *cells in rows:
        same = [run for run in runs if run.model.layers[0].W.shape[1] == int(units)]
        assert len({run.seed for run in same}) == len(same) == 3  # "three seeds each"
        for text, name in zip(cells, ("train", "valid"), strict=True):
            errors = [100 - value for value in percent(same, name)]
            assert says(text, min(errors), max(errors))


def test_further_rules_are_those_of_their_rows(seen):
    _, rows = seen.table("6.3", "low rate", "high rate")
    assert len(rows) == 4
    for name, *cells in rows:
        rule = name.split(",")[0].capitalize(), name.endswith("½L²")
        calls = descents(seen, "6.3", *rule)
        for text, call in zip(cells, calls, strict=True):
            end = [] if "diverges" in text else call.result[1][-1]
            assert says(text, rule_of(call).rate, *end)
        for call in descents(seen, "5.3", *rule):  # "the middle ones ... Question 5's"
            assert rule_of(call).rate == rule_of(calls[1]).rate


def test_further_two_networks_are_trained_on_distorted_digits(seen):
    wide, conv = networks(seen)
    for run, name, word in (wide, "wide MLP", "800"), (conv, "ConvNet", "ConvNet"):
        settings = dict(settings_of(run))
        assert settings.pop("batches").__name__ == "distorted_minibatch"
        assert settings == SETTINGS[name] and run.seed == 0  # "from seed 0"
        assert run.settings["log_every"] == 4  # "every fourth epoch", page 1
        (line,) = seen.lines("6.5", word, "training images, not distorted")
        assert says(line.split("distorted")[1], 100 * run.train)
    assert wide.model.layers[0].W.shape == (784, 800)
    found = seen.answer("6.5", "validation accuracy")
    assert re.search("MLP.*ConvNet", found)
    assert says(found, 100 * wide.valid, 100 * conv.valid)


def test_further_answers_on_the_test_set(seen):
    test = seen.parts[2]
    wide, conv = (hits_of(run.model, test) for run in networks(seen))
    found = seen.answer("6.6", "test accuracy")
    assert re.match("MLP.*ConvNet", found)
    assert says(found, *interval(wide), *interval(conv))
    assert says(seen.answer("6.6", "convnet : mlp"), *duel(conv, wide))
    for pixels in 2, 4, 6:
        (line,) = seen.lines("6.7", f"by {pixels} pixels")
        ink = test.x.reshape(-1, 28, 28)[:, :, 28 - pixels :].any(axis=(1, 2))
        assert says(line, 100 * np.mean(ink))
    right = [np.mean(shifted(seen, "ConvNet, distorted", k)) for k in (2, 4, 6)]
    assert says(seen.answer("6.7", "convnet"), *(100 * share for share in right))
    _, rows = seen.table("6.6", "model", "only it right : only the model above")
    before = None
    for name, accuracy, against in rows:
        hits = classify(seen, name, test.x) == test.y
        assert says(accuracy, *interval(hits))
        assert before is None or says(against, *duel(hits, before))
        before = hits


def shifted(seen, name, pixels):
    """Whether a model gets the test images right when moved to the right."""
    images = seen.parts[2].x.reshape(-1, 28, 28)
    moved = np.zeros_like(images)
    moved[:, :, pixels:] = images[:, :, : 28 - pixels]
    return classify(seen, name, moved.reshape(-1, 784)) == seen.parts[2].y


def test_further_blocks(seen):
    test = seen.parts[2]
    header, rows = seen.table("6.6", "variance ratio")
    assert says(header[0], 200) and "half" in header[2] and len(rows) == 6
    for name, *cells in rows:
        one, _, other = name.partition(" − ")  # the last row has a difference
        names = [f"{n}, distorted" for n in (one, other)] if other else [name]
        hits = [classify(seen, n, test.x) == test.y for n in names]
        values = hits[0].astype(float) - (hits[1] if other else 0)
        halves = values - np.repeat(
            values.reshape(2, -1).mean(axis=1), len(values) // 2
        )
        for drawn, cell in zip((values, halves), cells, strict=True):
            means = drawn.reshape(-1, 200).mean(axis=1)
            assert says(cell, means.var(ddof=1) * 200 / values.var()), name
    means = values.reshape(-1, 200).mean(axis=1)  # the last row: ConvNet against MLP
    signs = np.array(list(itertools.product([-1, 1], repeat=len(means))))  # all
    p = np.mean(np.abs(signs @ means) >= abs(means.sum()) - 1e-12)
    found = seen.answer("6.6", "convnet : mlp").split("by blocks")[1]
    assert numbers(found)[-1][0] == pytest.approx(p, rel=0.15, abs=0.002)
