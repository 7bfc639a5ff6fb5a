"""The chapter Further: its results, worked out again. Each section has its own tests,
which go with it if it is deleted."""

import math

import numpy as np
import pytest
from references import (
    accuracy_of,
    paired_difference,
    patches_by_loop,
    wilson_interval,
)
from scipy import ndimage
from scipy.special import softmax
from small_run import assert_reported, labels_by_image, numbers_in, small_run


@pytest.fixture(scope="module")
def run():
    return small_run()


@pytest.fixture(scope="module")
def ns(run):
    return run.names


def accuracy(model, dataset):
    return accuracy_of(model.forward(dataset.x), dataset.y)


# Seven bugs, three checks


def test_bugs_are_measured_on_the_right_images(run, ns):
    """Twenty images are memorised; an epoch uses the whole training set, and what it
    reports is the validation accuracy."""
    calls = run.calls_of("fit", "bugs-alarms")
    memorised, epochs = calls[::2], calls[1::2]
    tables = [*ns.baseline.to_numpy(), *ns.bug_table.to_numpy()]
    for row, few, epoch in zip(tables, memorised, epochs, strict=True):
        assert len(few.arguments["train"].y) == 20
        assert few.arguments["validation"] is few.arguments["train"]
        assert epoch.arguments["train"] is ns.train
        assert epoch.arguments["validation"] is ns.validation
        assert epoch.arguments["epochs"] == 1
        measured = few.result.train_accuracy, epoch.result.validation_accuracy
        assert list(row[1:]) == pytest.approx(measured, nan_ok=True)


def test_correct_networks_differ_in_their_seed(run, ns):
    calls = run.calls_of("fit", "bugs-alarms")[: 2 * len(ns.baseline)]
    assert len({call.arguments["seed"] for call in calls}) == len(ns.baseline)
    assert ns.baseline["one epoch"].nunique() > 1


def test_bugs_are_caught_by_the_limits_of_their_checks(run, ns):
    errors, memorised, epoch = ns.bug_table.to_numpy().T
    lowest = min(ns.baseline["one epoch"])
    caught = np.transpose(
        [
            [not error <= 1e-7 for error in errors],
            [not percentage >= 100 for percentage in memorised],  # nan is caught
            [not percentage >= lowest for percentage in epoch],
        ]
    )
    assert caught[:, 0].all()
    assert_reported(run.answers("bugs-figure"), *caught.sum(axis=0))

    ax = run.figure("bugs-figure").axes[0]
    coloured = np.reshape(ax.collections[0].get_array(), caught.shape)
    np.testing.assert_array_equal(coloured, caught)
    assert ax.yaxis_inverted()
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == list(ns.bug_table.index)
    for text in ax.texts:
        column, row = (int(position) for position in text.get_position())
        value = ns.bug_table.iloc[row, column]
        if np.isfinite(value):
            assert_reported([text.get_text()], value)
        else:
            assert not numbers_in(text.get_text())


def test_networks_are_correct_again_after_the_bugs(ns):
    model = ns.MLP(6, 5, 4, rng=0, dtype=float)
    scores = model.forward(ns.check_x)
    G = (softmax(scores, axis=1) - np.eye(4)[ns.check_y]) / len(scores)
    np.testing.assert_allclose(ns.loss_backward(ns.check_y, scores), G)
    model.backward(G, lam=0.1)
    second = model.layers[2]
    np.testing.assert_allclose(second.grad_b, G.sum(axis=0))
    expected = second.x.T @ G + 0.2 * second.W
    np.testing.assert_allclose(second.grad_W, expected)


# Initialisation and ReLU


def test_variants_of_the_mlp(run, ns):
    """A row's name says what its network has: all weights equal, or no ReLU."""
    calls = run.calls_of("fit", "further-why")
    for (name, row), call in zip(ns.variant_table.iterrows(), calls, strict=True):
        start = call.arguments["make_model"](rng=np.random.default_rng(0))
        weights = start.layers_with_weights()
        if numbers_in(name):
            (value, _), *_ = numbers_in(name)
            for layer in weights:
                np.testing.assert_array_equal(layer.W, value)
        else:
            for layer in weights:
                assert layer.W.std() > 0.01
        assert (len(start.layers) == len(weights)) == ("ReLU" in name)
        model = call.result.model
        units = {tuple(column) for column in model.layers[0].W.T.round(4)}
        measured = accuracy(model, ns.validation), len(units)
        assert list(row) == pytest.approx(measured)


def test_variants_are_trained_alike(run):
    calls = run.calls_of("fit", "further-why")
    names = "seed", "epochs", "batch_size", "learning_rate", "lam"
    assert len({tuple(call.arguments[name] for name in names) for call in calls}) == 1


def test_signals_grow_or_shrink_by_the_gain(ns):
    """A ReLU network without biases is homogeneous: a gain g multiplies the signal of
    layer n by (g / √2) ** n, compared with He's gain. He's gain keeps its size."""
    he = ns.signal_rms["gain √2 (He)"]
    layer = ns.signal_rms.index.to_numpy()
    np.testing.assert_allclose(ns.signal_rms["gain 2"], he * 2 ** (layer / 2))
    np.testing.assert_allclose(ns.signal_rms["gain 1"], he / 2 ** (layer / 2))
    input_rms = math.sqrt(np.mean(ns.validation.x**2))
    np.testing.assert_allclose(he, input_rms, rtol=0.2)


# A faster convolution


def test_the_fast_layer_is_compared_with_the_loop(ns):
    assert type(ns.loop) is ns.Convolution_Layer
    assert type(ns.fast) is ns.Fast_Convolution_Layer
    for name in "W", "b", "out", "grad_W", "grad_b", "grad_input":
        ours, reference = getattr(ns.fast, name), getattr(ns.loop, name)
        np.testing.assert_allclose(ours, reference, rtol=1e-9, atol=1e-12)
    assert np.abs(ns.loop.grad_input).max() > 0


def test_the_outputs_of_the_fast_layer_are_correlations(ns):
    """SciPy's correlation at every second position of the padded images."""
    padded = np.pad(ns.x5[:1], ((0, 0), (0, 0), (1, 1), (1, 1)))[0]
    for o in range(2):
        image = sum(ndimage.correlate(padded[c], ns.fast.W[o, c]) for c in range(3))
        valid = image[2:-2:2, 2:-2:2]  # where the filter does not leave the image
        np.testing.assert_allclose(ns.fast.out[0, o], valid, atol=1e-12)


# Momentum and Adam


def test_optimisers_on_the_quadratic_form(ns):
    """After as many steps as plain descent has taken."""
    patches = patches_by_loop(ns.x5, 5)
    A, W0 = patches.T @ patches, ns.W0.reshape(20, 75)
    for name, row in ns.optimiser_table.iterrows():
        rate = 1 / np.linalg.eigvalsh(A)[-1] if "μ" in name else numbers_in(name)[0][0]
        delta = (ns.W_start - ns.W0).reshape(20, 75)
        velocity = mean = square = 0
        for n in range(1, len(ns.log_half_L2)):
            gradient = delta @ A
            velocity = 0.9 * velocity + gradient
            mean = 0.9 * mean + 0.1 * gradient
            square = 0.999 * square + 0.001 * gradient**2
            if "momentum" in name:
                update = velocity
            elif "Adam" in name:
                unbiased = square / (1 - 0.999**n)
                update = mean / (1 - 0.9**n) / (np.sqrt(unbiased) + 1e-8)
            else:
                update = gradient
            delta = delta - rate * update
        distance, error = np.linalg.norm(patches @ delta.T), np.linalg.norm(delta)
        expected = distance, error / np.linalg.norm(W0)
        assert list(row) == pytest.approx(expected, rel=1e-4), name


# Distorted digits


def test_distorted_samples(run, ns):
    """The first column is undistorted; in another, all three rows are moved alike."""
    arguments = run.images("further-samples")
    assert arguments["columns"] == len(arguments["column_labels"])
    tiles = arguments["images"].reshape(3, -1, 28, 28)
    train_images = labels_by_image(ns.train)
    assert all(tiles[row, 0].tobytes() in train_images for row in (0, 1))
    pixels = np.indices((28, 28), dtype=float)
    for column, displacement in enumerate(ns.field.swapaxes(0, 1)):
        places = pixels - displacement.reshape(2, 28, 28)
        for row in range(3):
            expected = ndimage.map_coordinates(
                tiles[row, 0], places, order=1, mode="grid-constant"
            )
            np.testing.assert_allclose(tiles[row, column], expected, atol=1e-4)
        assert (column == 0) == (np.abs(displacement).max() == 0)


# A convolutional network


@pytest.mark.parametrize(
    ("run_name", "settings_name", "class_name"),
    [
        ("convnet_run", "convnet_settings", "ConvNet"),
        ("wide_run", "wide_settings", "MLP"),
    ],
)
def test_networks_are_trained_on_distorted_digits(
    run, ns, run_name, settings_name, class_name
):
    model, settings = getattr(ns, run_name).model, getattr(ns, settings_name)
    arguments = run.fit_of(model)
    assert type(model) is getattr(ns, class_name)
    assert arguments["train"] is ns.train
    assert arguments["batches"] is ns.distorted_minibatch
    assert {name: arguments[name] for name in settings} == settings
    lines = [line for line in run.lines("further-train") if class_name in line]
    assert_reported(lines, accuracy(model, ns.train), accuracy(model, ns.validation))


def test_inside_the_convnet(run, ns):
    """Each row has a digit, a filter, and the filter's map; then the second maps."""
    first, second = ns.convnet_run.model.layers[0], ns.convnet_run.model.layers[2]
    x = ns.validation.x[:1].reshape(1, 1, 28, 28)
    maps = ns.conv2d_naive(x, first.W, first.b, stride=2, padding=1).clip(0)
    second_maps = ns.conv2d_naive(maps, second.W, second.b, stride=2).clip(0)[0]
    shown = run.images("further-inside")["images"]
    np.testing.assert_allclose(shown, second_maps, rtol=1e-4, atol=1e-5)

    fig = run.figure("further-inside")
    arrays = [np.array(ax.images[0].get_array()) for ax in fig.axes if ax.images]
    digits, filters, filter_maps = (
        [array for array in arrays if len(array) == size] for size in (28, 5, 13)
    )
    assert all(np.array_equal(digit, x[0, 0]) for digit in digits)
    for weights, filter_map in zip(filters, filter_maps, strict=True):
        (k,) = np.flatnonzero((first.W[:, 0] == weights).all(axis=(1, 2)))
        np.testing.assert_allclose(filter_map, maps[0, k], rtol=1e-4, atol=1e-5)


# Five models compared, and shifted digits


@pytest.fixture
def scores_of(ns):
    """{name in `models`: function that gives the scores of images}."""
    functions = {
        "linear": ns.one_hot_model.predict,
        "softmax": ns.softmax_model.forward,
        "256": ns.mlp_model.forward,
        "800": ns.wide_run.model.forward,
        "ConvNet": ns.convnet_run.model.forward,
    }
    scores_of = {}
    for name in ns.models:
        (scores_of[name],) = [f for word, f in functions.items() if word in name]
    return scores_of


def test_models_are_compared_on_the_test_set(ns, scores_of):
    previous = None
    for name, (*interval, gain, std_error) in ns.comparison.iterrows():
        correct = scores_of[name](ns.test.x).argmax(axis=1) == ns.test.y
        assert interval == pytest.approx(wilson_interval(correct)), name
        if previous is not None:
            expected = paired_difference(correct, previous)
            assert (gain, std_error) == pytest.approx(expected), name
        previous = correct


def test_models_trained_on_distorted_digits_are_reported(run, ns):
    values = []
    for model in ns.wide_run.model, ns.convnet_run.model:
        scores = model.forward(ns.test.x)
        values += wilson_interval(scores.argmax(axis=1) == ns.test.y)
    assert_reported(run.answers("further-staircase"), *values)


def test_the_figure_of_test_errors(run, ns):
    ax = run.figure("staircase").axes[0]
    names = [label.get_text().replace("\n", " ") for label in ax.get_xticklabels()]
    assert names == list(ns.comparison.index)
    errors = 100 - ns.comparison.to_numpy()[:, :3]  # error, and both ends
    points, _, (bars,) = ax.containers[0].lines
    np.testing.assert_allclose(points.get_ydata().astype(float), errors[:, 0])
    ends = [segment[:, 1] for segment in bars.get_segments()]
    np.testing.assert_allclose(np.sort(ends), np.sort(errors[:, 1:]))
    for k, text in enumerate(ax.texts):
        assert_reported([text.get_text()], errors[k, 0])


def test_accuracies_on_shifted_digits(ns, scores_of):
    images = ns.test.x.reshape(-1, 28, 28)
    for pixels, row in ns.shifted.iloc[::3].iterrows():
        moved = np.zeros_like(images)
        moved[:, :, pixels:] = images[:, :, : 28 - pixels]
        for name, percentage in row.items():
            scores = scores_of[name](moved.reshape(-1, 784))
            assert percentage == pytest.approx(accuracy_of(scores, ns.test.y)), name
