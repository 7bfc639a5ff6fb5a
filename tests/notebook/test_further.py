"""The chapter Further: its results, worked out again. Each section has its own tests,
which go with it if it is deleted."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from reader import section_of, sources_beside
from references import (
    accuracy,
    assert_in_order,
    left_after,
    measures,
    paired_difference,
    wilson_interval,
)


def test_bugs_are_measured_on_the_right_images_and_caught_by_the_limits(run, ns):
    """Twenty images are memorised; an epoch uses the whole training set, and what it
    reports is the validation accuracy. All bugs have the first of the three seeds."""
    calls = run.calls_in("fit", "bugs-alarms")
    tables = [*ns.baseline.to_numpy(), *ns.bug_table.to_numpy()]
    assert len(calls) == 2 * len(tables), "expected two trainings for each row"
    for row, few, epoch in zip(tables, calls[::2], calls[1::2], strict=True):
        assert len(few.arguments["train"].y) == 20
        assert few.arguments["validation"] is few.arguments["train"]
        assert epoch.arguments["train"] is ns.train
        measured = few.result.train_accuracy, epoch.result.validation_accuracy
        assert [*row[1:]] == pytest.approx(measured, nan_ok=True)
    seeds = [call.arguments["seed"] for call in calls[1::2]]
    assert seeds == [0, 1, 2] + len(ns.BUGS) * [0]
    errors, memorised, epoch = ns.bug_table.to_numpy().T
    passed = errors <= 1e-7, memorised >= 100, epoch >= min(ns.baseline.iloc[:, 2])
    np.testing.assert_array_equal(ns.caught, ~np.transpose(passed))
    assert ns.caught[:, 0].all()


def test_variants_of_the_mlp(run, ns):
    """The baseline, without ReLU, from 0, from a constant; all are trained alike."""
    calls = run.calls_in("fit", "further-why")
    for row, call in zip(ns.variant_table.to_numpy(), calls, strict=True):
        model = call.result.model
        units = {tuple(column) for column in model.layers[0].W.T.round(4)}
        assert [*row] == pytest.approx((accuracy(model, ns.validation), len(units)))
        for setting in "seed", "epochs", "batch_size", "learning_rate", "lam":
            assert call.arguments[setting] == calls[0].arguments[setting]
    starts = [
        call.arguments["make_model"](rng=np.random.default_rng(0)) for call in calls
    ]
    assert [len(start.layers) for start in starts] == [3, 2, 3, 3]
    weights = [np.unique(start.layers[0].W) for start in starts]
    assert len(weights[1]) > 1 and [*map(list, weights[2:])] == [[0], [0.01]]


def test_signals_grow_or_shrink_by_the_gain(ns):
    """A ReLU network without biases is homogeneous: a gain g multiplies the signal of
    layer n by (g / √2) ** n, compared with He's gain. He's gain keeps its size."""
    gain_2, he, gain_1 = ns.signal_rms.to_numpy().T
    layer = np.arange(1, 11)
    np.testing.assert_allclose(gain_2, he * 2 ** (layer / 2))
    np.testing.assert_allclose(gain_1, he / 2 ** (layer / 2))
    input_rms = math.sqrt(np.mean(ns.validation.x**2))
    np.testing.assert_allclose(he, input_rms, rtol=0.2)


@pytest.fixture(params=[100, 50])
def in_75_dimensions(request, edit):
    """The names in which plain descent is explained, with so many steps."""
    shorter = f"n_steps = {request.param}; plain_log = plain_log[: n_steps + 1]"
    return SimpleNamespace(**edit(shorter, *sources_beside("q5-continued")))


def test_what_plain_descent_learns_in_75_dimensions(in_75_dimensions, quadratic):
    """Directions with less than half of their error left at the end; their shares of
    L² and of the squared filter error at the start."""
    ns = in_75_dimensions
    few = left_after(quadratic, ns.n_steps) < 0.5
    assert ns.learned.tolist()[::-1] == few.tolist()
    along = quadratic.start @ quadratic.eigenvectors
    delta = along[:, few] @ quadratic.eigenvectors[:, few].T
    of_few, of_all = measures(quadratic, delta), measures(quadratic, quadratic.start)
    assert ns.shares == pytest.approx(np.divide(of_few, of_all) ** 2)


def test_plain_descent_continued(in_75_dimensions, quadratic):
    """L2 distances and filter errors, from the run's last step to millions of steps."""
    ns = in_75_dimensions
    along = quadratic.start @ quadratic.eigenvectors
    for n_steps, *point in zip(ns.later_steps, *ns.plain_continued, strict=True):
        delta = along * left_after(quadratic, n_steps) @ quadratic.eigenvectors.T
        assert point == pytest.approx(measures(quadratic, delta), rel=1e-4)
    first, last = ns.later_steps[[0, -1]]
    assert first == ns.n_steps and last > 1e6


def test_optimisers_on_the_quadratic_form(ns, quadratic):
    """After as many steps as plain descent has taken."""
    rate = 1 / quadratic.eigenvalues[0]
    rules = lambda gradient: rate * gradient, ns.momentum(rate), ns.adam(0.2)
    for row, update_rule in zip(ns.optimiser_table.to_numpy(), rules, strict=True):
        delta = quadratic.start
        for _ in ns.plain_log.index[1:]:
            delta = delta - update_rule(delta @ quadratic.A)
        assert [*row] == pytest.approx(measures(quadratic, delta), rel=1e-4)


@pytest.mark.parametrize(("name", "kind"), [("convnet", "ConvNet"), ("wide", "MLP")])
def test_networks_are_trained_on_distorted_digits(run, ns, name, kind):
    model = getattr(ns, f"{name}_run").model
    assert type(model).__name__ == kind
    expected = {"train": ns.train, "batches": ns.distorted_minibatch}
    expected |= getattr(ns, f"{name}_settings")
    arguments = run.fit_of(model)
    assert all(arguments[key] is value for key, value in expected.items())


def test_models_are_compared_on_the_test_set(run, ns):
    networks = ns.softmax_model, ns.mlp_model, ns.wide_run.model, ns.convnet_run.model
    scores = [ns.one_hot_model.predict(ns.test.x)]
    scores += [network.forward(ns.test.x) for network in networks]
    previous, intervals = None, []
    for (name, row), s in zip(ns.comparison.iterrows(), scores, strict=True):
        correct = s.argmax(axis=1) == ns.test.y
        intervals.append(wilson_interval(correct))
        assert [*row[:3]] == pytest.approx(intervals[-1]), name
        if previous is not None:
            expected = paired_difference(correct, previous)
            assert [*row[3:5]] == pytest.approx(expected), name
        previous = correct
    answer = run.answer(section_of("further-staircase"))
    assert_in_order(answer, *intervals[3], *intervals[4])


def test_the_figure_of_test_errors(run, ns):
    ax, *_ = run.axes_in("staircase")
    names = [label.get_text().replace("\n", " ") for label in ax.get_xticklabels()]
    assert names == list(ns.comparison.index)
    assert f"{len(ns.mlp_model.layers[0].b)} units" in names[2]
    errors = 100 - ns.comparison.to_numpy()[:, :3]  # error, and both ends
    points, _, (bars,) = ax.containers[0].lines
    np.testing.assert_allclose(points.get_ydata().astype(float), errors[:, 0])
    ends = [segment[:, 1] for segment in bars.get_segments()]
    np.testing.assert_allclose(np.sort(ends), np.sort(errors[:, 1:]))
