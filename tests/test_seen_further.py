"""Further as rehearsed on few images: widths, rules, distorted digits, two networks,
the staircase, blocks and shifts.

Speaks when a number or a curve is not of the run, rule or model that its row names."""

import math
from unittest.mock import patch

import numpy as np
import pytest
from conftest import POINTS, are, difference, exact, interval, numbers, percent, says
from rehearsal import fingerprints
from scipy import ndimage
from scipy.special import softmax
from seen import check_log, curves, hits_of, rows_of, rule_of, settings_of

SETTINGS = {  # of experiments: those that the text or the saved figures name
    "variants": {"epochs": 2, "batch_size": 100, "learning_rate": 0.1},
    "widths": {"epochs": 8, "batch_size": 128, "learning_rate": 0.1},
    "ConvNet": {"epochs": 20, "batch_size": 50, "learning_rate": 0.3},
    "wide MLP": {"epochs": 30, "batch_size": 100, "learning_rate": 0.7},
}


def test_further_seven_bugs(seen):
    _, rows = seen.table("6.1", "bug", "gradient check", "twenty", "one epoch")
    runs = [run for run in seen.fits("6.1") if run.settings["epochs"] == 1]
    twenty = [run.settings for run in seen.fits("6.1") if run not in runs]
    assert {(s["epochs"], s["batch_size"]) for s in twenty} == {(300, 20)}  # as named
    hits = [hits_of(r.model, seen.parts[1]) & (r.valid >= 0) for r in runs]  # not nan
    sounds = []
    for (_, error, learned, epoch), right in zip(rows, hits, strict=True):
        mean, deviation = difference(right, hits[0])
        assert says(epoch, 100 * np.mean(right), mean, deviation)
        found = numbers(error)[0][0] > 1e-7, numbers(learned)[0][0] < 20
        sounds.append((*found, mean < -2 * deviation))
        assert ["**" in cell for cell in (error, learned, epoch)] == [*sounds[-1]]
    (line,) = seen.lines("6.1", "sounds")
    assert says(line, 7, *np.sum(sounds, axis=0)) and all(s[0] for s in sounds[1:])
    alone = [k for k, sound in enumerate(sounds) if sound == (True, False, False)]
    assert seen.answer("6.1", "only") == "; ".join(rows[k][0] for k in alone)

    def open_relu(layer, grad, need_input_grad):
        layer.grad_input = grad

    fit, digits, before = seen.ns["fit"], seen.parts[:2], len(seen.calls)
    with patch.object(seen.ns["ReLU"], "backward", open_relu):
        again = fit(seen.ns["new_mlp"], *digits, **settings_of(runs[0]))
    (epoch,) = [epoch for name, *_, epoch in rows if "passes all" in name]
    assert says(epoch, 100 * again.valid)
    del seen.calls[before:]  # these were no part of the rehearsal


def test_further_cosines_of_minibatches(seen):
    x, y, _ = seen.parts[0]
    order = np.random.default_rng(0).permutation(len(x))
    trained, untrained = seen.chosen(1)[0].model, seen.ns["new_softmax"](rng=0)
    learned = [read for read in seen.reads if read.section == "6.2" and read.learned]
    assert sum(read.sets.total() == 1 for read in learned) == 2 * 200
    for name, model in ("untrained", untrained), ("trained", trained):
        error = softmax(x @ model.W, axis=1) - np.eye(10)[y]
        whole = x.T @ error / np.linalg.norm(x.T @ error)
        for size in 1, 500:
            picked = np.split(order, range(size, len(x), size))[:200]
            parts = [x[k].T @ error[k] for k in picked]
            cosines = [np.sum(part * whole) / np.linalg.norm(part) for part in parts]
            line = seen.lines("6.2", f"{name}, batches of {size}:")[-1]
            assert says(line, size, np.mean(cosines))


def test_further_variants_and_widths(seen):
    calls = seen.of("fit", "6.2")
    calls = [c for c in calls if c.result.settings == SETTINGS["variants"]]
    lines = seen.lines("6.2", "validation", "hidden units")
    assert ["should be" in line for line in lines] == [True, False, False, False]
    for call, model, line in zip(calls, seen.starts(calls), lines, strict=True):
        weights = [layer.W for layer in model.layers if hasattr(layer, "W")]
        assert len(model.layers) == (2 if "without ReLU" in line else 3)
        value = numbers(line)[0][0] if "all weights" in line else weights[0]
        assert np.allclose(weights[0], value, rtol=1e-6)
        units = np.unique(call.result.model.layers[0].W.round(4), axis=1).shape[1]
        assert says(line.split("validation")[1], 100 * call.result.valid, units)
    _, rows = seen.table("6.2", "hidden units", "training", "validation")
    expected = SETTINGS["widths"] | {"lam": seen.chosen(1)[0].settings["lam"]}
    runs = [run for run in seen.fits("6.2") if settings_of(run) == expected]
    for units, *cells in rows:
        same = [run for run in runs if run.model.layers[0].W.shape[1] == int(units)]
        assert len({run.seed for run in same}) == len(same) == 3  # "three seeds each"
        for text, name in zip(cells, ("train", "valid"), strict=True):
            errors = [100 - value for value in percent(same, name)]
            assert says(text, min(errors), max(errors))


def test_further_gains_have_the_same_draws(seen):
    ax = seen.axes("6.2", "layer", "activations")
    rms = {label.split(" (")[0]: np.array(y) for label, (_, y) in curves(ax).items()}
    pixels = seen.parts[1].x
    assert rms["gain 1"][0] == pytest.approx(np.sqrt(np.mean(pixels**2) / 2), rel=0.1)
    assert {tuple(x) for x, _ in curves(ax).values()} == {tuple(range(1, 11))}
    for name, gain in ("gain 1", 1), ("gain √2", math.sqrt(2)), ("gain 2", 2):
        expected = rms["gain 1"] * gain ** np.arange(1, 11)
        np.testing.assert_allclose(rms[name], expected, rtol=1e-4)
        (line,) = seen.lines("6.2", name, "rms")
        assert says(line.split("rms")[1], min(expected), max(expected), share=0.03)
        assert says(line.split("end")[1], expected[-1], share=0.03)


def test_further_where_rounding_lies(seen):
    big = seen.ns["Single_layer_classifier"](784, 10, std=0.05, rng=0)
    overflows = (big.forward(255 * seen.parts[1].x) > np.log(3.4e38)).any(axis=1)
    naive, shifted = seen.lines("6.3", "nan in")
    assert says(naive, 100 * np.mean(overflows), share=0.03) and says(shifted, 0)
    lines = [seen.lines("6.3", w, "computed")[0] for w in ("sin", "tanh", "log")]
    (k, _), (x, _), (u, _) = (numbers(line)[0] for line in lines)
    assert says(lines[0], k, 0, math.sin(k * math.pi)) and k == int(k)
    assert says(lines[1], x, math.cosh(x) ** -2, 1 - math.tanh(x) ** 2)
    assert says(lines[2], u, u) and u < -700 and "range error" in lines[2]
    assert says(seen.lines("6.4", "loop takes")[0], 3)  # as rehearsed
    _, rows = seen.table("6.3", "(x, y, z)", "u", " Sigmoid", "LogSigmoid")
    points = [tuple(n for n, _ in numbers(row[0])) for row in rows]
    assert set(POINTS) < set(points)
    for point, (_, u, as_two, as_one) in zip(points, rows, strict=True):
        assert are(u, exact(*point)[:1]) and are(as_one, exact(*point)[1:])
        assert as_two == as_one or point not in POINTS
    assert "ValueError" in rows[0][2] and are(rows[1][2], [0, 0, 0, 0])


def test_further_rules_are_those_of_their_rows(seen):
    _, rows = seen.table("6.5", "rule", "low", "middle", "high")
    middle = {"momentum": 1e-5, "Adam": 0.2}  # the best of their rows, as saved
    assert [name for name, *_ in rows] == [*middle]
    for name, *cells in rows:
        calls = seen.descents("6.5", name.capitalize())
        rates = [rule_of(call).rate / middle[name] for call in calls]
        assert rates == pytest.approx([0.5, 1, 2])
        for text, call in zip(cells, calls, strict=True):
            start, *_, end = call.result[1]
            fell = end.distance < start.distance
            assert fell != ("diverges" in text)
            assert says(text, rule_of(call).rate, *end[: 2 * fell], share=0.03)


def test_further_distorted_digits(seen):
    (call,) = seen.of("distorted_minibatch", "6.6")
    digits = call.given["x"][::4]
    assert {seen.sets[row][0] for row in fingerprints(digits)} == {"training"}
    shown = rows_of(seen.pictures("6.6", 20)[0]).reshape(5, 4, 784)
    for k, four in enumerate(shown):  # all different, nearest to their digit
        assert len(set(fingerprints(four))) == 4
        far = np.linalg.norm(four.mean(axis=0) - digits, axis=1)
        assert np.argmin(far) == k
    old = np.asarray(seen.axes("6.6", title="old").images[0].get_array())
    for k, name in enumerate(("one bump", "all parts")):  # a bent line was straight
        starts = np.indices((28, 28)) - seen.ns["fields"][:, k].reshape(2, 28, 28)
        bent = seen.axes("6.6", title=f"{name}: new image").collections
        for lines, start in zip(bent, starts, strict=True):
            for level, path in zip(lines.levels, lines.get_paths(), strict=True):
                at = path.vertices.round().astype(int).T[::-1]
                np.testing.assert_allclose(start[tuple(at)], level, atol=1.2)
    for name in "one bump", "all parts":  # an arrow ends at its pixel
        ax = seen.axes("6.6", title=f"{name} arrows")
        new, arrows = np.asarray(ax.images[0].get_array()), ax.collections[0]
        column, row = np.array(arrows.get_offsets()).T.astype(int)
        starts_at = row - arrows.V, column - arrows.U
        grey = ndimage.map_coordinates(old, starts_at, order=1)
        np.testing.assert_allclose(new[row, column], grey, atol=1e-5)
        assert arrows.pivot == "tip" and arrows.scale == 1
        assert np.ptp(new[row, column]) > 0.5
        assert (np.ptp(arrows.U - arrows.V) > 0) == (name == "all parts")


def test_further_two_networks_are_trained_on_distorted_digits(seen):
    wide, conv = seen.networks()
    for run, name, word in (wide, "wide MLP", "800"), (conv, "ConvNet", "ConvNet"):
        settings = dict(settings_of(run))
        assert settings.pop("batches").__name__ == "distorted_minibatch"
        assert settings == SETTINGS[name] and run.seed == 0  # "from seed 0"
        assert run.settings["log_every"] == 4
        (line,) = seen.lines("6.7", word, "training images, not distorted")
        assert says(line.split("distorted")[1], 100 * run.train)
        ax = seen.axes("6.7", "epoch", "accuracy %", name.split()[-1])
        check_log(ax, run, "accuracy", 100)
        assert ["not" in label for label in curves(ax)] == [False, True]
    assert wide.model.layers[0].W.shape == (784, 800)
    found = seen.answer("6.7", "validation accuracy")
    assert says(found, 100 * wide.valid, 100 * conv.valid)


def test_further_inside_the_convnet(seen):
    model, x = seen.networks()[1].model, seen.parts[1].x[:1].reshape(1, 1, 28, 28)
    expected = [x[0, 0]]
    for k in 2, 4:  # a convolution and its ReLU
        for layer in model.layers[k - 2 : k]:
            x = layer.forward(x)
        expected += [*x[0]]
    filters, maps = model.layers[0].W[:, 0], expected[1:17]
    pictures = *filters[:8], *expected[:9], *filters[8:], *maps[8:], *expected[17:]
    axes = [ax for fig in seen.figures("6.7")[1:] for ax in fig.axes if ax.images]
    for image, picture in zip((ax.images[0] for ax in axes), pictures, strict=True):
        np.testing.assert_allclose(image.get_array(), picture, rtol=1e-5, atol=1e-5)
        low, high = image.get_clim()
        assert low in (0, -high) and high >= np.abs(image.get_array()).max()
    assert len({ax.images[0].get_clim() for ax in axes}) == 4  # kinds of pictures
    *_, above, below = seen.figures("6.7")
    for fig, *shown in (above, filters, maps), (below, expected[17:]):
        told = {n for n, _ in numbers(fig.texts[-1].get_text())}  # "16 filters, 5 × 5"
        assert told and told <= {n for arrays in shown for n in np.shape(arrays)}


def shifted(seen, name, pixels):
    """Whether a model gets the test images right when moved to the right."""
    images = seen.parts[2].x.reshape(-1, 28, 28)
    moved = np.zeros_like(images)
    moved[:, :, pixels:] = images[:, :, : 28 - pixels]
    return seen.classify(name, moved.reshape(-1, 784)) == seen.parts[2].y


def test_further_answers_on_the_test_set(seen):
    test = seen.parts[2]
    wide, conv = (hits_of(run.model, test) for run in seen.networks())
    found = seen.answer("6.8", "test accuracy")
    assert says(found, *interval(wide), *interval(conv))
    for pixels in 2, 4, 6:
        (line,) = seen.lines("6.9", f"by {pixels} pixels")
        ink = test.x.reshape(-1, 28, 28)[:, :, 28 - pixels :].any(axis=(1, 2))
        assert says(line, 100 * np.mean(ink), share=1)
    right = [np.mean(shifted(seen, "ConvNet, distorted", k)) for k in (2, 4, 6)]
    assert says(seen.answer("6.9", "convnet"), *(100 * share for share in right))
    _, rows = seen.table("6.8", "model", "accuracy", "better than the model above")
    before = None
    for name, accuracy, against in rows:
        hits = seen.classify(name, test.x) == test.y
        assert says(accuracy, *interval(hits))
        assert before is None or says(against, *difference(hits, before))
        before = hits


def test_further_blocks(seen):
    """Standard errors of an accuracy and of a difference, by the length of a block, in
    each half of the file from its own mean."""
    header, rows = seen.table("6.8", "images in a block", "blocks", "softmax")
    assert [int(row[0]) for row in rows] == [1, 50, 200]  # ten blocks at least
    wide, conv = (hits_of(run.model, seen.parts[2]) for run in seen.networks())
    for column, name in enumerate(header[2:], start=2):
        label = name.split(":")[0].replace("ConvNet", "ConvNet, distorted")
        hits = seen.classify(label, seen.parts[2].x) == seen.parts[2].y
        values = conv * 1.0 - wide if " − " in name else hits
        errors = []
        for length, blocks, *told in rows:
            means = np.reshape(values, (2, -1, int(length))).mean(axis=2)  # of halves
            off = means - means.mean(axis=1, keepdims=True)
            assert off.size == int(blocks)
            errors.append(100 * math.sqrt(np.sum(off**2) / (off.size - 2) / off.size))
            assert says(told[column - 2], errors[-1]), name
    found = seen.answer("6.8", "convnet − mlp")  # of the last column
    assert says(found, 100 * np.mean(values), min(errors), max(errors))


def test_further_the_staircase_and_shifts(seen):
    test = seen.parts[2]
    ax = seen.axes("6.8", y="test error %")
    assert ax.get_yscale() == "log"
    names = [text.get_text().replace("\n", " ") for text in ax.get_xticklabels()]
    for k, (name, bar) in enumerate(zip(names, ax.containers, strict=True)):
        value, low, high = interval(seen.classify(name, test.x) == test.y)
        (x, y), ends = bar.lines[0].get_xydata()[0], bar.lines[2][0].get_segments()[0]
        assert (x, y) == (k, pytest.approx(100 - value))
        np.testing.assert_allclose(ends[:, 1], [100 - high, 100 - low])
        assert says(ax.texts[k].get_text(), y) and ax.texts[k].xy == (x, y)
    (step,) = (line for line in ax.lines if line.get_drawstyle() == "steps-mid")
    errors = [bar.lines[0].get_ydata()[0] for bar in ax.containers]
    np.testing.assert_allclose(step.get_ydata(), errors)
    ax = seen.axes("6.9", "shift right", "test accuracy %")
    assert list(curves(ax)) == names and len(names) == 5
    for name, (x, y) in curves(ax).items():
        assert x == list(range(len(x)))
        for pixels in 0, 3, 6:
            expected = 100 * np.mean(shifted(seen, name, pixels))
            assert y[pixels] == pytest.approx(expected)
