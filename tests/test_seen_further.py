"""Further as rehearsed on few images: bugs, variants, rules, distorted digits, two
networks, the staircase and shifts. A section that is not there is not tested."""

import numpy as np
import pytest
from conftest import difference, interval, numbers, patches_of, says, tells
from matplotlib.collections import QuadMesh
from seen import check, curves, has, hits_of


def test_further_bugs_light_the_lamps_of_their_alarms(seen):
    """Fits come in pairs, few images and an epoch: three right, then a pair a bug."""
    section = seen.about("bugs alarms")
    calls = seen.of("fit", section)
    few = [call for call in calls if call.given["valid"] is call.given["part"]]
    learned = [call.result[call.given["part"].name] for call in few]
    epochs = [c.result["validation"] for c in calls if "validation" in c.result]
    ax = seen.figures(section)[0].axes[0]
    (mesh,) = (c for c in ax.collections if isinstance(c, QuadMesh))
    lit = mesh.get_array().reshape(-1, 3)
    texts = sorted((text.get_position()[::-1], text.get_text()) for text in ax.texts)
    texts = np.reshape([text for _, text in texts], (-1, 3))
    for row, *runs, lamps in zip(texts, learned[3:], epochs[3:], lit, strict=True):
        error = numbers(row[0])[0][0]
        for text, value in zip(row[1:], runs, strict=True):
            assert says(text, value) or (np.isnan(value) and not numbers(text))
        quiet = error <= 1e-7, runs[0] == 100, runs[1] >= min(epochs[:3])
        assert [not lamp for lamp in lamps] == [*quiet]
    assert ax.yaxis_inverted() and lit[:, 0].all()
    check(seen.answers(section), *lit.sum(axis=0))


def test_further_variants(seen):
    section = seen.about("each part")
    calls, table = seen.of("fit", section), seen.table(section, "validation units")
    rows = {name.lower(): row for name, row in table.iterrows()}
    for call, model in zip(calls, seen.starts(calls), strict=True):
        first, *_ = weights = [layer.W for layer in model.layers if hasattr(layer, "W")]
        name = "should be"
        if len(weights) == len(model.layers):
            name = "without relu"
        elif np.ptp(first) == 0:
            name = f"all weights {first[0, 0]:g}"
        (row,) = [row for text, row in rows.items() if text.endswith(name)]
        units = np.unique(call.result["model"].layers[0].W.round(4), axis=1).shape[1]
        assert [*row] == [call.result["validation"], units], name


def test_further_rules_are_those_of_their_rows(seen):
    """Momentum and Adam, run here on the quadratic form, end where their rows say."""
    section, first = seen.about("rules"), seen.of("descend")[0]
    patches, W0 = patches_of(first.given["x"], 5), first.given["W0"]
    A = patches.T @ patches
    for name, row in seen.table(section, "momentum adam").iterrows():
        rate = numbers(name)[0][0] / (np.linalg.eigvalsh(A)[-1] if "μ" in name else 1)
        delta = (first.given["start"] - W0).reshape(20, 75)
        v = mean = square = 0
        for n in range(1, len(first.result[1])):
            G = delta @ A
            v = 0.9 * v + G if has("momentum", name) else G
            mean, square = 0.9 * mean + 0.1 * G, 0.999 * square + 0.001 * G**2
            if has("adam", name):
                v = mean / (1 - 0.9**n) / (np.sqrt(square / (1 - 0.999**n)) + 1e-8)
            delta = delta - rate * v
        distance, error = np.linalg.norm(patches @ delta.T), np.linalg.norm(delta)
        expected = {"L2 distance": distance, "filter error": error / np.linalg.norm(W0)}
        assert dict(row) == pytest.approx(expected, rel=1e-4), name


def test_further_networks_are_trained_on_distorted_digits(seen):
    section = seen.about("convolutional network")
    for call, word in zip(seen.networks(), ("mlp", "convnet"), strict=True):
        assert call.given["batches"].__name__ == "distorted_minibatch"
        assert len(call.given["part"].y) == len(seen.parts[0].y)
        (line,) = seen.lines(section, f"{word} training validation")
        assert tells(line, "training", call.result["training"])
        hits = hits_of(call.result["model"], seen.parts[1])
        assert tells(line, "validation", 100 * np.mean(hits))


def test_further_inside_the_convnet(seen):
    """In each row a digit, a filter, and the filter's map; the second layer's maps."""
    section, conv = seen.about("convolutional network"), seen.networks()[1]
    layers, x = conv.result["model"].layers, seen.parts[1].x[:1].reshape(1, 1, 28, 28)
    maps = layers[1].forward(layers[0].forward(x))
    second = layers[3].forward(layers[2].forward(maps))[0]
    shown = seen.pictures(section, len(second))["images"]
    np.testing.assert_allclose(shown, second, rtol=1e-5, atol=1e-5)
    fig = max(seen.figures(section), key=lambda fig: len(fig.axes))
    arrays = [np.asarray(ax.images[0].get_array()) for ax in fig.axes if ax.images]
    assert all(np.array_equal(a, x[0, 0]) for a in arrays if len(a) == 28)
    filters, its_maps = ([a for a in arrays if len(a) == n] for n in (5, 13))
    for weights, its_map in zip(filters, its_maps, strict=True):
        (k,) = np.flatnonzero((layers[0].W[:, 0] == weights).all(axis=(1, 2)))
        np.testing.assert_allclose(its_map, maps[0, k], rtol=1e-5, atol=1e-5)


def test_further_the_staircase(seen):
    section, test, before = seen.about("staircase"), seen.parts[2], None
    table, errors = seen.table(section, "accuracy from to above"), {}
    for name, (*told, above, deviation) in table.iterrows():
        hits = seen.classify(name, test.x) == test.y
        assert told == pytest.approx(interval(hits)), name
        if before is not None:
            assert (above, deviation) == pytest.approx(difference(hits, before)), name
        before, errors[name] = hits, 100 - np.array(interval(hits))
    for name in table.index[-2:]:  # beyond the sheet
        told = 100 - errors[name]
        assert any(tells(text, name, *told) for text in seen.answers(section)), name
    ax = seen.axes(section, y="test error")
    names = [label.get_text().replace("\n", " ") for label in ax.get_xticklabels()]
    assert names == [*errors]
    errors, (bar,) = np.array([*errors.values()]), ax.containers
    np.testing.assert_allclose(np.float64(bar.lines[0].get_ydata()), errors[:, 0])
    ends = [segment[:, 1] for segment in bar.lines[2][0].get_segments()]
    np.testing.assert_allclose(np.sort(ends), np.sort(errors[:, 1:]))
    assert says(" ".join(text.get_text() for text in ax.texts), *errors[:, 0])


def test_further_shifted_digits(seen):
    drawn = curves(seen.axes(seen.about("shifted"), "shift right", "test accuracy"))
    images, labels = seen.parts[2].x.reshape(-1, 28, 28), seen.parts[2].y
    assert len(drawn) >= 5
    for name, (x, y) in drawn.items():
        for pixels in 0, 3, 6:
            moved = np.zeros_like(images)
            moved[:, :, pixels:] = images[:, :, : 28 - pixels]
            right = seen.classify(name, moved.reshape(-1, 784)) == labels
            expected = 100 * np.mean(right)
            assert y[list(x).index(pixels)] == pytest.approx(expected), name
