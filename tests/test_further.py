"""The last chapter, Further: its definitions against independent references, and what
it answers on page 1. Delete this file with the chapter."""

import re

import numpy as np
import pandas as pd
import pytest
from load_definitions import ROOT
from reader import code_cells, read_notebook, read_sections
from references import (
    GEOMETRIES,
    accuracy,
    assert_convolves,
    assert_in_order,
    wilson_interval,
)
from scipy.ndimage import map_coordinates


@pytest.mark.parametrize(("k", "stride", "padding", "dilation"), GEOMETRIES)
def test_the_fast_layer_agrees_with_scipy(nb, rng, k, stride, padding, dilation):
    assert_convolves(nb.Fast_Convolution_Layer, rng, k, stride, padding, dilation)


def test_gradients_of_the_convnet(nb, rng):
    """Of each W and b, about 20 entries are checked."""
    convnet = nb.ConvNet(rng=rng, dtype=np.float64)
    x, y = rng.standard_normal((3, 784)), rng.integers(0, 3, 3)
    checks = [*nb.gradients_to_check(convnet, x, y, 0.2)]
    assert len(checks) == 8
    for _, function, array, gradient in checks:
        step = 1 + array.size // 20
        numerical = nb.numerical_gradient(function, array.reshape(-1)[::step])
        analytic = gradient.reshape(-1)[::step]
        assert np.any(analytic) and nb.relative_error(analytic, numerical) < 1e-6


def test_numbers_of_weights_and_of_benchmarks_in_6_2(nb):
    text = read_sections(read_notebook())["6.2"].source("markdown")
    sizes = [k.W.size + k.b.size for k in nb.ConvNet(rng=0).trained]
    in_mlp = sum(k.W.size + k.b.size for k in nb.make_mlp(rng=0).trained)
    counts = [*sizes, sum(sizes), in_mlp]
    assert_in_order(text, *(f"{count:,}" for count in counts))
    runs = pd.read_csv(ROOT / "benchmarks" / "convnet_runs.csv")
    runs = runs[runs["epochs"] == runs["model"].map({"MLP": 30, "ConvNet": 20})]
    accuracies = runs.groupby(["model", "distorted"])["accuracy"]
    means, stds = accuracies.mean(), accuracies.std()
    for model in "MLP", "ConvNet":
        keys = (model, False), (model, True)
        shown = [f"{means[key]:.2f} ± {stds[key]:.2f}" for key in keys]
        assert re.search(rf"(?m)^\| {model}.* \| {' . '.join(shown)} \|$", text)


@pytest.mark.parametrize("reach", [0.0, 0.8, 2.5, 60.0])
def test_warp_agrees_with_scipy(nb, rng, reach):
    """Bilinear between pixels, and 0 outside of the image."""
    images = rng.random((3, 784), dtype=np.float32)
    displacement = rng.uniform(-reach, reach, (2, 3, 784)).astype(np.float32)
    warped = nb.warp(images, displacement)
    assert warped.dtype == np.float32
    for n, image in enumerate(images.reshape(3, 28, 28)):
        positions = np.indices((28, 28)) - displacement[:, n].reshape(2, 28, 28)
        expected = map_coordinates(image, positions, order=1, mode="grid-constant")
        np.testing.assert_allclose(warped[n].reshape(28, 28), expected, atol=1e-5)


def test_arrows_point_from_where_a_pixel_is_read(run):
    field, distorted, *_ = run.axes_in("further-samples")
    (arrows,), (image,), (new,) = field.collections, field.images, distorted.images
    tips = arrows.XY[:, ::-1].astype(int)  # pivot "tip": row, column
    tails = tips - np.column_stack([arrows.V, arrows.U])
    read = map_coordinates(image.get_array(), tails.T, order=1, mode="grid-constant")
    np.testing.assert_allclose(new.get_array()[tuple(tips.T)], read, atol=1e-4)
    assert (arrows.pivot, arrows.angles, arrows.scale) == ("tip", "xy", 1)


def test_distorted_digits_keep_their_places(nb, rng):
    """A uniformly grey image keeps its grey in the middle, and loses it at the edge.
    Rows and columns move independently."""
    greys = np.linspace(0.1, 1, 25, dtype=np.float32)
    images = nb.distort(np.repeat(greys[:, None], 784, axis=1), rng)
    np.testing.assert_allclose(images[:, 14 * 28 + 14], greys, rtol=1e-4)
    assert np.ptp(images, axis=1).min() > 0.01
    rows, columns = nb.random_displacements(500, rng)
    assert abs(np.corrcoef(rows.ravel(), columns.ravel())[0, 1]) < 0.1


def test_the_convnet_is_trained_on_distorted_digits(run, ns):
    """Its accuracies on all images, as they are, are printed."""
    model, datasets = ns.convnet_run.model, (ns.train, ns.validation)
    expected = {"make_model": ns.ConvNet, "augment": ns.distort}
    expected |= ns.convnet_settings | {"train": ns.train}
    arguments = run.fit_of(model)
    assert all(arguments[key] is value for key, value in expected.items())
    parts = [accuracy(model, dataset) for dataset in datasets]
    assert_in_order(run.printed["6.2"], "accuracy", *parts)


def test_the_figure_of_test_errors(run, ns):
    """Each model's name, point, accuracy and interval; the best one is on page 1."""
    networks = ns.softmax_model, ns.mlp_model, ns.convnet_run.model
    scores = [network.forward(ns.test.x) for network in networks]
    scores = [ns.one_hot_model.predict(ns.test.x), *scores]
    intervals = [wilson_interval(s.argmax(axis=1) == ns.test.y) for s in scores]
    assert_in_order(run.answer("6.2"), *intervals[3])
    ax, *_ = run.axes_in("staircase")
    ticks = [100 - float(label.get_text()) for label in ax.get_xticklabels()]
    np.testing.assert_allclose(ax.get_xticks(), ticks)
    kinds = "regression", "softmax", f"{len(ns.mlp_model.layers[0].b)} units", "ConvNet"
    names, bars = ax.get_yticklabels(), ax.containers
    rows = zip(kinds, names, bars, ax.texts, intervals, strict=True)
    for k, (kind, name, bar, text, interval) in enumerate(rows):
        assert kind in name.get_text()
        np.testing.assert_allclose(bar[0].get_xydata(), [[100 - interval[0], k]])
        (ends,) = bar[2][0].get_segments()
        np.testing.assert_allclose(ends[:, 0], 100 - np.array(interval)[[2, 1]])
        assert name.get_position()[1] == text.get_position()[1] == k
        assert_in_order(text.get_text(), *interval)


def test_bugs_caught_by_checks_that_train(run, ns):
    """Twenty images and one epoch, of three seeds without a bug, then of each bug; in
    the figure, a row for each bug, dark where it is caught."""
    calls = run.calls_in("fit", "bugs-alarms")
    assert [call.arguments["seed"] for call in calls] == [0, 0, 1, 1, 2, 2] + 7 * [0, 0]
    assert all(call.arguments["train"] is ns.twenty for call in calls[::2])
    memorised = np.array([call.result.train_accuracy for call in calls[::2]])
    after_epoch = np.array([call.result.validation_accuracy for call in calls[1::2]])
    rows = np.concatenate([ns.correct_networks, ns.bug_table])[:, 1:]
    np.testing.assert_array_equal(rows.T, [memorised, after_epoch])
    assert_in_order(run.printed["6.1"], "correct", *after_epoch[:3].tolist())
    numbers, limit = ns.bug_table.to_numpy(), min(after_epoch[:3])
    assert all(checks[0] <= 1e-7 for checks in ns.correct_networks)
    passed = numbers[:, 0] <= 1e-7, numbers[:, 1] == 100, numbers[:, 2] >= limit
    caught = ~np.transpose(passed)
    tally = "of 7: gradient check {}, twenty images {}, one epoch {}"
    assert tally.format(*caught.sum(axis=0)) in run.printed["6.1"]
    (ax,) = run.axes_in("bugs-figure")
    np.testing.assert_array_equal(ax.collections[0].get_array().reshape(7, 3), caught)
    assert [label.get_text() for label in ax.get_yticklabels()] == [*ns.bug_table.index]
    shown = {text.get_position(): text.get_text() for text in ax.texts}
    for (row, column), number in np.ndenumerate(numbers):
        text = (
            f"{number:.2f}%".replace("nan%", "diverges") if column else f"{number:.3g}"
        )
        assert shown[column + 0.5, row + 0.5] == text


def test_bugs_that_cannot_be_planted_are_skipped_with_a_line(run, ns, capsys):
    """After a reader's edit, a line is not found, or a function is not used."""
    edited = "edited", ns.Linear.backward, "np.sum(grad, axis=0)", "grad"
    unused = "unused", ns.Add.backward, "grad, grad", "grad, -grad"
    names = run.namespace | {"BUGS": [edited, unused, ns.BUGS[5]]}
    sources = {cell_id: source for _, cell_id, source in code_cells()}
    exec(sources["bugs-alarms"], names)
    assert [key.split("\n")[0] for key in names["measured"]] == [ns.BUGS[5][0]]
    parts = "Linear.backward?", "skipped edited", "skipped unused"
    printed = capsys.readouterr().out
    assert_in_order(printed, *parts)
    assert printed.count("skipped") == 2
    exec(sources["bugs-figure"], names)
    assert "Bugs caught, of 1:" in capsys.readouterr().out


@pytest.mark.parametrize("first", [0, 1], ids=["convolution", "Flatten"])
def test_any_layer_may_be_first_and_a_convolution_may_have_no_bias(nb, rng, first):
    """Each W and b is trained and checked."""
    options = {"rng": rng, "dtype": np.float64}
    convolution = nb.Convolution_Layer(1, 1, 3, padding=1, bias=False, **options)
    layers = [convolution, nb.Flatten(), nb.Linear(16, 3, **options)][first:]
    network, x = nb.Network(layers), rng.standard_normal((5, 1, 4, 4))
    checks = [*nb.gradients_to_check(network, x, rng.integers(0, 3, 5), 0.2)]
    arrays = [layer.W for layer in layers if hasattr(layer, "W")] + [layers[-1].b]
    for check, array in zip(checks, arrays, strict=True):
        assert check[2] is array
        nb.check_gradient(*check)
    assert len([*network.parameters()]) == len(arrays)
