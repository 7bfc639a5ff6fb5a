"""Questions 2, 4 and 5: gradients, blurred images, and descents, worked out again."""

import shutil
from unittest.mock import Mock

import numpy as np
import pytest
from paths import ROOT
from reader import code_cells
from references import POINTS, assert_in_order, exact, left_after, measures
from scipy import ndimage


@pytest.mark.parametrize("point", POINTS)
def test_gradients_at_the_points_of_the_sheet(run, ns, point):
    gradient = [float(number) + 0.0 for number in exact(*point)[2:]]  # no -0.0
    backprop, numerical = ns.backprop[str(point)], ns.numerical[str(point)]
    assert [*backprop] == pytest.approx(gradient, rel=1e-9, abs=1e-99)
    assert [*numerical] == pytest.approx(gradient, rel=1e-6, abs=1e-10)
    assert_in_order(run.answer("2.4"), point, *(f"{number:.6g}" for number in gradient))


def test_gradients_on_the_arrows_of_the_graph(ns):
    """How f changes if only this arrow brings a new value."""
    inputs = {name: ns.func.values[name] for name in ("x", "y", "z", "half")}
    nodes, expected = ns.Func().nodes, {("f", "", 0): 1.0}
    for name, (node, *sources) in nodes.items():
        for k, source in enumerate(sources):
            ends = [*sources[:k], "new", *sources[k + 1 :]]
            graph = ns.Graph(nodes | {name: (node, *ends)})
            value = ns.func.values[source]
            above = graph.forward(**inputs, new=value + 1e-6)
            below = graph.forward(**inputs, new=value - 1e-6)
            expected[source, name, k] = (above - below) / 2e-6
    ends, gradients = zip(*((a[:2], a[2]) for a in ns.arrows), strict=True)
    assert [*ends] == [(tail, head) for tail, head, _ in expected]
    assert [*gradients] == pytest.approx([*expected.values()], rel=1e-6, abs=1e-8)


def test_results_that_the_text_works_out_by_hand(ns):
    assert ns.small_graph.grads == {"x": 4, "y": 4, "z": 3, "q": 4, "g": 1}
    assert ns.fork.grads["x"] == 7
    assert ns.grad_weights.tolist() == [3210, 4321]
    assert ns.grad_line.tolist() == [1, 12, 120, 1200, 2000]


@pytest.mark.parametrize(("figure", "n"), [(0, 5), (1, 10)])
def test_blurred_images(run, ns, figure, n):
    """The first 5, and 10 at random; their labels above them, SciPy's blur below."""
    arguments = run.calls_in("show_images", "q4-blur")[figure].arguments
    images, blurred = np.split(arguments["images"], 2)
    pictures = ns.cifar.transpose(0, 2, 3, 1)
    matches = [(pictures == image).all(axis=(1, 2, 3)) for image in images]
    chosen = [int(np.argmax(match)) for match in matches]
    assert arguments["columns"] == len(set(chosen)) == n
    assert (chosen == [*range(n)]) == (n == 5)
    names = [ns.CIFAR_NAMES[ns.cifar_labels[k]] for k in chosen]
    assert arguments["column_labels"] == names
    sigmas = 0, ns.sigma, ns.sigma, 0
    radius = 0, *np.array(ns.blur_layer.W.shape[2:]) // 2, 0
    expected = ndimage.gaussian_filter(images, sigmas, mode="nearest", radius=radius)
    np.testing.assert_allclose(blurred, expected, atol=1e-12)


def descend(quadratic, kind, n_steps):
    """All errors delta (20, 75), before each step and at the end."""
    A, inverse = quadratic.A, np.linalg.inv(quadratic.A)
    deltas = [quadratic.start]
    for _ in range(n_steps):
        delta = deltas[-1]
        gradient = delta @ A
        step = {
            "L": 0.001 * gradient / np.sqrt(np.sum(gradient * delta)),
            "plain": gradient / quadratic.eigenvalues[0],
            "halving": 0.5 * gradient @ inverse,
        }
        deltas.append(delta - step[kind])
    return deltas


def test_questions_4_and_5_run_with_the_sample_alone(nb, tmp_path, monkeypatch):
    """Without CIFAR-10 and a network."""
    (tmp_path / "data").mkdir()
    for file in "C0_weights.npy", "data/cifar10_sample.bin":
        shutil.copy(ROOT / file, tmp_path / file)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(nb, "ANSWERS", {})
    monkeypatch.setattr(nb.pooch, "retrieve", Mock(side_effect=ConnectionError))
    names = {**vars(nb)}
    for section, cell_id, source in code_cells():
        if section[:2] in ("4.", "5."):
            exec(compile(source, f"<{cell_id}>", "exec"), names)
    assert len(names["cifar"]) == 20


def test_the_given_layer_and_the_start(ns, quadratic):
    n_images, n_filters, height, width = ns.target.shape
    expected = (quadratic.patches @ quadratic.W0.T).reshape(n_images, height, width, -1)
    np.testing.assert_allclose(ns.target, expected.transpose(0, 3, 1, 2), atol=1e-12)
    assert (n_images, n_filters) == (100, 20)
    evenly_spaced = np.linspace(-1, 1, ns.W_start.size)
    np.testing.assert_allclose(np.sort(ns.W_start.ravel()), evenly_spaced, atol=0.1)


@pytest.mark.parametrize("kind", ["L", "plain", "halving"])
def test_descents_are_those_of_the_quadratic_form(ns, quadratic, kind):
    log, filters = getattr(ns, f"{kind}_log"), getattr(ns, f"{kind}_filters")
    deltas = descend(quadratic, kind, len(log) - 1)
    for row, W, delta in zip(log.to_numpy(), filters, deltas, strict=True):
        expected = measures(quadratic, delta)
        assert [*row] == pytest.approx(expected, rel=1e-5, abs=1e-7)
        np.testing.assert_allclose((W - ns.W0).reshape(20, 75), delta, atol=1e-9)


def test_errors_along_the_eigenvectors(ns, quadratic):
    """At the start and after 100 plain steps; eigenvalues ascend."""
    np.testing.assert_allclose(ns.eigenvalues[::-1], quadratic.eigenvalues, rtol=1e-6)
    before = np.linalg.norm(quadratic.start @ quadratic.eigenvectors, axis=0)
    after = before * left_after(quadratic, 100)
    np.testing.assert_allclose(ns.before[::-1], before, rtol=1e-4)
    np.testing.assert_allclose(ns.after[::-1], after, rtol=1e-4, atol=1e-7)


def test_learned_and_plain_results_are_reported(run, ns, quadratic):
    """For the L2 distance and for the filter error: with A⁻¹, on L, on ½L², at the
    start."""
    kinds = "L", "plain"
    deltas = [*(descend(quadratic, kind, 100)[-1] for kind in kinds), quadratic.start]
    expected = np.transpose([measures(quadratic, delta) for delta in deltas])
    newton = [f"{value:.0e}" for value in ns.newton_log.to_numpy()[-1]]
    distances = [f"{value:.0f}" for value in expected[0]]
    errors = [f"{value:.2f}" for value in expected[1]]
    parts = newton[0], *distances, newton[1], *errors
    assert_in_order(run.answer("5.5"), *parts)
