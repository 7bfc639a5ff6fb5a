"""Figures of Questions 2 and 4, and 5.4's valley."""

import numpy as np
import pytest
from reader import read_notebook, read_sections
from scipy import ndimage
from scipy.signal import convolve, correlate


@pytest.mark.parametrize(("figure", "n"), [(0, 5), (1, 10)])
def test_blurred_images_and_edges(run, ns, figure, n):
    """The first 5, and 10 at random; below them SciPy's blur, and each pixel's right
    neighbour less the pixel, where 0 is grey. Above, all filters of the blur."""
    arguments = run.calls_in("show_images", "q4-blur")[figure].arguments
    images, blurred, edges = np.split(arguments["images"], 3)
    pictures = ns.cifar.transpose(0, 2, 3, 1)
    matches = [(pictures == image).all(axis=(1, 2, 3)) for image in images]
    chosen = [int(np.argmax(match)) for match in matches]
    assert arguments["columns"] == len(set(chosen)) == n
    assert chosen == [*range(5)] if n == 5 else max(chosen) > 100
    text = read_sections(read_notebook())["4.4"].source("markdown")
    assert f"${ns.sigma}$ pixels" in text
    sigmas = 0, ns.sigma, ns.sigma, 0
    radius = 0, *np.array(ns.blur_layer.W.shape[2:]) // 2, 0
    expected = ndimage.gaussian_filter(images, sigmas, mode="nearest", radius=radius)
    np.testing.assert_allclose(blurred, expected, atol=1e-12)
    jumps = np.diff(images, axis=2, append=images[:, :, -1:])
    np.testing.assert_allclose(edges, (0.5 + jumps).clip(0, 1), atol=1e-12)
    (kernels,) = run.calls_in("show_images", "q4-kernel")
    planes = kernels.arguments["images"].reshape(ns.blur_layer.W.shape)
    np.testing.assert_array_equal(planes, ns.blur_layer.W)


GRAPHS = {"small_graph": ("q2-small-picture", 0), "fork": ("q2-small-picture", 1)}
GRAPHS["func"] = "q2-draw", 0


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_has_its_values_gradients_and_local_derivatives(run, ns, name):
    """Each is drawn in its colour. What comes back to a box adds up to its gradient."""
    (cell_id, k), graph = GRAPHS[name], getattr(ns, name)
    if name == "func":
        graph.backward(graph.forward(2.25, 4.5, 0.9))
    ax, boxes, arrows = run.calls_in("draw_graph", cell_id)[k].arguments.values()
    shown = {
        (*text.get_position(), text.get_color()): text.get_text().strip()
        for text in ax.texts
    }
    for value_name, (_, x, y, value, gradient) in boxes.items():
        assert value == graph.values[value_name]
        assert gradient == graph.grads[value_name]
        back = [
            f * graph.grads[head] for tail, head, f, _ in arrows if tail == value_name
        ]
        assert not back or sum(back) == pytest.approx(gradient)
        for color, number in (ns.BLUE, value), (ns.ORANGE, gradient):
            text = f"{number:.3g}".replace("-", "−")
            assert shown[x, y, color].removeprefix("= ") == text
    inputs = [source for _, *sources in graph.nodes.values() for source in sources]
    assert len(arrows) == len([source for source in inputs if source in boxes])
    factors = [f"×{factor:.3g}".replace("-", "−") for *_, factor, _ in arrows]
    assert [text for text in shown.values() if text.startswith("×")] == factors


def test_descents_in_the_valley_of_two_weights(run):
    """5.4's factors of the steep and the flat component of δ = (1, 1) + ½ (1, -1)."""
    cases = (40, 0, 1 - 0.01 / 1.21), (4, -1.2, 1 - 0.022 / 1.21), (4, 0.5, 0.5)
    axes = run.axes_in("q5-three-descents")
    for ax, (n_steps, steep, flat) in zip(axes, cases, strict=True):
        (path,) = [x.get_data() for x in ax.lines if len(x.get_xdata()) > 1]
        k = np.arange(n_steps + 1)
        components = [1.0 * steep**k, 0.5 * flat**k]
        np.testing.assert_allclose(path, [[1, 1], [1, -1]] @ np.array(components))


def test_conjugate_gradients_beside_steepest_descent(run):
    """Of 5.6, by the formulas; a name has the colour of its path."""
    A, start = np.array([[10, 6], [6, 10]]), np.array([1.25, -0.75])
    creeping = [start]
    for _ in range(10):
        g = A @ creeping[-1]
        creeping.append(creeping[-1] - g @ g / (g @ A @ g) * g)
    expected = {"β = 0:": creeping, "β = 0.36": [*creeping[:2], [0, 0]]}
    (ax,) = run.axes_in("q5-cg-figure")
    lines = [line for line in ax.lines if len(line.get_xdata()) > 1]
    paths = {line.get_color(): line.get_xydata() for line in lines}
    for name, path in expected.items():
        (color,) = [t.get_color() for t in ax.texts if name in t.get_text()]
        np.testing.assert_allclose(paths.pop(color), path, atol=1e-9)
    assert not paths


def test_convolutions_in_numbers(run):
    """4.2's image, filter and G, and below each name what it is."""
    x, K = np.arange(16).reshape(4, 4) % 7, np.array([[1, 2], [3, 4]])
    G = np.diag([1, 10, 100])
    expected = {"image": x, "filter": K, "output": correlate(x, K, "valid")}
    expected |= {"G in a border of zeros": np.pad(G, 1), "G": G}
    expected |= {"rotated filter": K[::-1, ::-1], "∂L/∂image": convolve(G, K)}
    expected |= {"∂L/∂filter": correlate(x, G, "valid")}
    for cell_id in "q4-picture", "q4-input-gradient":
        (ax,) = run.axes_in(cell_id)
        texts = [(*np.round(t.get_position(), 2), t.get_text()) for t in ax.texts]
        numbers = {(left, top): text for left, top, text in texts}
        for left, top, name in texts:
            for (i, j), number in np.ndenumerate(expected.pop(name, ())):
                place = round(left + j + 0.5, 2), round(top + i + 0.75, 2)
                assert numbers[place] == f"{number:.0f}", name
    assert not expected
