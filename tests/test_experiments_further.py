"""The chapter Further: its results, worked out again. Each section has its own tests,
which go with it if it is deleted."""

import math

import numpy as np
import pytest
from references import (
    accuracy_of,
    assert_gradient,
    paired_difference,
    patches_by_loop,
    wilson_interval,
)
from saved_notebook import read_numbers
from small_run import assert_reported


def accuracy(model, dataset):
    return accuracy_of(model.forward(dataset.x), dataset.y)


# Seven bugs, three checks


def test_bugs_are_measured_on_the_right_images(run, ns):
    """Twenty images are memorised; an epoch uses the whole training set, and what it
    reports is the validation accuracy."""
    calls = run.calls_of("fit", "bugs-alarms")
    tables = [*ns.baseline.to_numpy(), *ns.bug_table.to_numpy()]
    for row, few, epoch in zip(tables, calls[::2], calls[1::2], strict=True):
        assert len(few.arguments["train"].y) == 20
        assert few.arguments["validation"] is few.arguments["train"]
        assert epoch.arguments["train"] is ns.train
        assert epoch.arguments["validation"] is ns.validation
        assert epoch.arguments["epochs"] == 1
        measured = few.result.train_accuracy, epoch.result.validation_accuracy
        assert list(row[1:]) == pytest.approx(measured, nan_ok=True)
    assert ns.baseline["one epoch"].nunique() == len(ns.baseline)  # three seeds


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
    assert_reported(run.lines["6.1"], *caught.sum(axis=0))
    ax = run.figure("bugs-figure").axes[0]
    coloured = np.reshape(ax.collections[0].get_array(), caught.shape)
    np.testing.assert_array_equal(coloured, caught)
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == list(ns.bug_table.index) and ax.yaxis_inverted()


def test_networks_are_correct_again_after_the_bugs(ns):
    network = ns.MLP(6, 5, 4, rng=0, dtype=np.float64)
    for check in ns.gradients_to_check(network, ns.check_x, ns.check_y, lam=0.1):
        _, function, array, gradient = check
        assert_gradient(gradient, ns.numerical_gradient(function, array))


# Initialisation and ReLU


def test_variants_of_the_mlp(run, ns):
    """A row's name says what its network has: all weights equal, or no ReLU. All are
    trained alike."""
    calls = run.calls_of("fit", "further-why")
    for (name, row), call in zip(ns.variant_table.iterrows(), calls, strict=True):
        start = call.arguments["make_model"](rng=np.random.default_rng(0))
        first = start.layers[0].W
        constant = read_numbers(name)
        assert np.unique(first).tolist() == constant if constant else first.std() > 0.01
        assert (len(start.layers) == 2) == ("ReLU" in name)
        model = call.result.model
        units = {tuple(column) for column in model.layers[0].W.T.round(4)}
        assert list(row) == pytest.approx((accuracy(model, ns.validation), len(units)))
        for setting in "seed", "epochs", "batch_size", "learning_rate", "lam":
            assert call.arguments[setting] == calls[0].arguments[setting]


def test_signals_grow_or_shrink_by_the_gain(ns):
    """A ReLU network without biases is homogeneous: a gain g multiplies the signal of
    layer n by (g / √2) ** n, compared with He's gain. He's gain keeps its size."""
    he = ns.signal_rms["gain √2 (He)"]
    layer = ns.signal_rms.index.to_numpy()
    np.testing.assert_allclose(ns.signal_rms["gain 2"], he * 2 ** (layer / 2))
    np.testing.assert_allclose(ns.signal_rms["gain 1"], he / 2 ** (layer / 2))
    input_rms = math.sqrt(np.mean(ns.validation.x**2))
    np.testing.assert_allclose(he, input_rms, rtol=0.2)


# Momentum and Adam


def test_optimisers_on_the_quadratic_form(ns):
    """After as many steps as plain descent has taken."""
    patches = patches_by_loop(ns.photos, 5)
    A, W0 = patches.T @ patches, ns.W0.reshape(20, 75)
    for name, row in ns.optimiser_table.iterrows():
        rate = 1 / np.linalg.eigvalsh(A)[-1] if "μ" in name else read_numbers(name)[0]
        rules = {"momentum": ns.momentum(rate), "Adam": ns.adam(rate)}
        update_rule = rules.get(name.split(",")[0], lambda grad, rate=rate: rate * grad)
        delta = (ns.W_start - ns.W0).reshape(20, 75)
        for _ in ns.plain_log.index[1:]:
            delta = delta - update_rule(delta @ A)
        error = np.linalg.norm(delta) / np.linalg.norm(W0)
        expected = np.linalg.norm(patches @ delta.T), error
        assert list(row) == pytest.approx(expected, rel=1e-4), name


# A convolutional network


def test_networks_are_trained_on_distorted_digits(run, ns):
    for class_name, fitted, settings in (
        ("ConvNet", ns.convnet_run, ns.convnet_settings),
        ("MLP", ns.wide_run, ns.wide_settings),
    ):
        model, arguments = fitted.model, run.fit_of(fitted.model)
        assert type(model).__name__ == class_name
        assert arguments["train"] is ns.train
        assert arguments["batches"] is ns.distorted_minibatch
        assert {name: arguments[name] for name in settings} == settings
        lines = [line for line in run.lines["further-train"] if class_name in line]
        accuracies = accuracy(model, ns.train), accuracy(model, ns.validation)
        assert_reported(lines, *accuracies)


# Five models compared, and shifted digits


@pytest.fixture(scope="module")
def scores_of(ns):
    """{name in `models`: function that gives the scores of images}."""
    functions = [
        ns.one_hot_model.predict,
        ns.softmax_model.forward,
        ns.mlp_model.forward,
        ns.wide_run.model.forward,
        ns.convnet_run.model.forward,
    ]
    return dict(zip(ns.models, functions, strict=True))


def test_models_are_compared_on_the_test_set(run, ns, scores_of):
    previous, intervals = None, []
    for name, (*interval, gain, std_error) in ns.comparison.iterrows():
        correct = scores_of[name](ns.test.x).argmax(axis=1) == ns.test.y
        intervals.append(wilson_interval(correct))
        assert interval == pytest.approx(intervals[-1]), name
        if previous is not None:
            expected = paired_difference(correct, previous)
            assert (gain, std_error) == pytest.approx(expected), name
        previous = correct
    assert_reported(run.answers("Five models"), *intervals[3], *intervals[4])


def test_the_figure_of_test_errors(run, ns):
    ax = run.figure("staircase").axes[0]
    names = [label.get_text().replace("\n", " ") for label in ax.get_xticklabels()]
    assert names == list(ns.comparison.index)
    errors = 100 - ns.comparison.to_numpy()[:, :3]  # error, and both ends
    points, _, (bars,) = ax.containers[0].lines
    np.testing.assert_allclose(points.get_ydata().astype(float), errors[:, 0])
    ends = [segment[:, 1] for segment in bars.get_segments()]
    np.testing.assert_allclose(np.sort(ends), np.sort(errors[:, 1:]))


def test_accuracies_on_shifted_digits(ns, scores_of):
    images = ns.test.x.reshape(-1, 28, 28)
    for pixels, row in ns.shifted.iloc[::3].iterrows():
        moved = np.zeros_like(images)
        moved[:, :, pixels:] = images[:, :, : 28 - pixels]
        for name, percentage in row.items():
            scores = scores_of[name](moved.reshape(-1, 784))
            assert percentage == pytest.approx(accuracy_of(scores, ns.test.y)), name


def test_limits_are_named_above_the_figure_of_bugs(run, ns):
    ax = run.figure("bugs-figure").axes[0]
    check, twenty, epoch = [label.get_text() for label in ax.get_xticklabels()]
    assert read_numbers(check) == [1e-7]
    assert_reported([epoch], ns.baseline["one epoch"].min())
    assert [t.split(":")[0] for t in (check, twenty, epoch)] == ns.check_names


def test_baseline_has_the_seeds_of_its_rows(run, ns):
    calls = run.calls_of("fit", "bugs-alarms")
    seeds = [call.arguments["seed"] for call in calls[1::2]]
    rows = [*ns.baseline.index]
    assert seeds == rows + len(ns.BUGS) * rows[:1]
