"""Figures of Questions 2 and 4, and 5.4's valley."""

import re

import numpy as np
import pytest
from reader import read_notebook, read_sections
from scipy import ndimage
from scipy.signal import convolve, correlate


@pytest.mark.parametrize(("figure", "n"), [(0, 5), (1, 10)])
def test_blurred_images(run, ns, figure, n):
    """The first 5, and 10 at random; their labels above them, SciPy's blur below."""
    arguments = run.calls_in("show_images", "q4-blur")[figure].arguments
    images, blurred = np.split(arguments["images"], 2)
    pictures = ns.cifar.transpose(0, 2, 3, 1)
    matches = [(pictures == image).all(axis=(1, 2, 3)) for image in images]
    chosen = [int(np.argmax(match)) for match in matches]
    assert arguments["columns"] == len(set(chosen)) == n
    assert chosen == [*range(5)] if n == 5 else max(chosen) > 100
    names = [ns.CIFAR_NAMES[ns.cifar_labels[k]] for k in chosen]
    assert arguments["column_labels"] == names
    text = read_sections(read_notebook())["4.4"].source("markdown")
    assert f"${ns.sigma}$ pixels" in text
    sigmas = 0, ns.sigma, ns.sigma, 0
    radius = 0, *np.array(ns.blur_layer.W.shape[2:]) // 2, 0
    expected = ndimage.gaussian_filter(images, sigmas, mode="nearest", radius=radius)
    np.testing.assert_allclose(blurred, expected, atol=1e-12)
    (call,) = run.calls_in("show_images", "q4-kernel")
    assert call.arguments["title"].endswith("column = from, row = to")


GRAPHS = {"small_graph": ("q2-small-picture", 0), "fork": ("q2-small-picture", 1)}
GRAPHS["func"] = "q2-draw", 0
SIGNS = {"Add": "+", "Multiply": "×", "Divide": "÷", "CosPi": "cos(π·)"}
SIGNS |= {"SinPi": "sin(π·)", "Tanh": "tanh", "Sigmoid": "σ", "Log": "log"}


@pytest.mark.parametrize("name", GRAPHS)
def test_arrows_of_a_graph_have_its_values_and_gradients(run, ns, name):
    """Those of the arrows that leave a box add up to its gradient, beside forks."""
    (cell_id, k), graph, sums = GRAPHS[name], getattr(ns, name), {}
    arguments = run.calls_in("draw_graph", cell_id)[k].arguments
    numbers = {ns.BLUE: [], ns.ORANGE: []}
    for tail, _, value, gradient in arguments["arrows"]:
        assert value == graph.values[tail]
        sums[tail] = sums.get(tail, 0) + gradient
        numbers[ns.BLUE].append(value)
        numbers[ns.ORANGE].append(gradient)
    assert sums == pytest.approx(graph.grads)
    boxes = arguments["boxes"]
    for value_name, (node, *_) in graph.nodes.items():
        *given, sign = boxes[value_name][0].split(": ")
        assert sign == SIGNS[type(node).__name__] and given in ([], [value_name])
    tails = [tail for tail, *_ in arguments["arrows"]]
    forks = [t for t in graph.values.keys() - graph.nodes.keys() if tails.count(t) > 1]
    numbers[ns.ORANGE][:0] = [sums[fork] for fork in forks]
    for color, expected in numbers.items():
        shown = [t for t in arguments["ax"].texts if t.get_color() == color]
        texts = [f"{number:.3g}".replace("-", "−") for number in expected]
        assert [text.get_text() for text in shown] == texts
    assert [text.xy for text in shown[: len(forks)]] == [boxes[k][1:] for k in forks]


def test_descents_in_the_valley_of_two_weights(run):
    """5.4's factors of the steep and the flat component of δ = (1, 1) + ½ (1, -1). The
    last path begins where steps to the lowest L along the gradient creep (β = 0)."""
    cases = (40, 0, 1 - 0.01 / 1.21), (4, -1.2, 1 - 0.022 / 1.21), (7, 0.5, 0.5)
    *axes, last = run.axes_in("q5-three-descents")
    for ax, (n_steps, steep, flat) in zip(axes, cases, strict=True):
        (path,) = [x.get_data() for x in ax.lines if len(x.get_xdata()) > 1]
        k = np.arange(n_steps + 1)
        components = [1.0 * steep**k, 0.5 * flat**k]
        np.testing.assert_allclose(path, [[1, 1], [1, -1]] @ np.array(components))
        assert f"{n_steps} steps" in ax.get_title()
    A, creeping = np.array([[0.61, 0.6], [0.6, 0.61]]), [np.array([1.02, -0.98])]
    for _ in range(20):
        g = A @ creeping[-1]
        creeping.append(creeping[-1] - g @ g / (g @ A @ g) * g)
    beta = np.divide(*[(A @ delta) @ (A @ delta) for delta in creeping[1::-1]])
    assert last.get_title() == f"CG, β = {beta:.2f}: 2 steps"
    paths = [x.get_xydata() for x in last.lines if len(x.get_xdata()) > 1]
    for path, expected in zip(paths, ([*creeping[:2], [0, 0]], creeping), strict=True):
        np.testing.assert_allclose(path, expected, atol=1e-9)


def test_pixels_read_by_two_outputs_and_the_number_of_outputs(run):
    """4.2: in the colours of the legend, and in the title."""
    axes = run.axes_in("q4-geometry")
    patches = axes[0].figure.legends[0].get_patches()  # neither, output 1, 2, both
    colours = np.array([patch.get_facecolor() for patch in patches])
    for ax in axes:
        stride, other, *n = map(int, re.findall(r"\d+", ax.get_title()))
        padding, dilation = (other, 1) if "padding" in ax.get_title() else (0, other)
        side, span = 7 + 2 * padding, 2 * dilation + 1
        assert n == 2 * [len(range(0, side - span + 1, stride))]
        read_by = np.zeros((side, side), int)
        for k, u, v in np.ndindex(2, 3, 3):
            read_by[u * dilation, k * stride + v * dilation] += k + 1
        shown = ax.collections[0].get_facecolors().reshape(-1, 4)
        np.testing.assert_allclose(shown, colours[read_by.ravel()])
        assert ax.patches[0].get_xy() == (padding, padding) and ax.yaxis_inverted()


PRODUCTS = {  # of 4.2: cell: first array, second array, their cross-correlation
    "q4-picture": lambda x, K, G: (x, K, correlate(x, K, "valid")),
    "q4-input-gradient": lambda x, K, G: (np.pad(G, 1), K[::-1, ::-1], convolve(G, K)),
    "q4-filter-gradient": lambda x, K, G: (x, G, correlate(x, G, "valid")),
}


@pytest.mark.parametrize("cell_id", PRODUCTS)
def test_convolutions_in_numbers(run, ns, cell_id):
    """The tables; the equation ends with the framed number of the last one."""
    (ax,) = run.axes_in(cell_id)
    arrays = PRODUCTS[cell_id](ns.picture, np.array([[1, 2], [3, 4]]), ns.G)
    for table, expected in zip(ax.tables, arrays, strict=True):
        cells = {k: cell.get_text().get_text() for k, cell in table.get_celld().items()}
        for position, number in np.ndenumerate(expected):
            assert cells.pop(position) == str(number)
        assert not cells
    equation = ax.texts[-1].get_text()
    products, total = equation.removesuffix(" →").split(" = ")
    terms = [np.prod([*map(int, term.split("·"))]) for term in products.split("+")]
    assert sum(terms) == int(total) == arrays[-1][1, 1]
    k, frames = len(arrays[1]), [patch.get_bbox().bounds for patch in ax.patches]
    assert frames == [(1, 2, k, k), (6, 1, k, k), (19, 2, 1, 1)]
