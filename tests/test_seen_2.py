"""Question 2 as rehearsed: tables, answers, printed lines and the drawn graph against
100 digits at the sheet's four points. (test_graph.py tests its definitions.)"""

import math

import numpy as np
import pytest
from conftest import POINTS, are, exact, says


def test_q2_answers_are_of_the_sheets_points(seen):
    header, rows = seen.table("2.4", "∂f/∂x", "∂f/∂y", "∂f/∂z")
    columns = [header.index(f"∂f/∂{name}") for name in "xyz"]
    assert columns == [2, 3, 4]
    lines = seen.answer("2.4", "gradient").split("\n")
    for k, (point, line) in enumerate(zip(POINTS, lines, strict=True)):
        _, f, *gradient = exact(*point)
        found, value = line.split(", f = ")
        assert are(found, [*point, *gradient], 1e-5) and says(value, f)
        graph, numerical = rows[2 * k : 2 * k + 2]
        assert graph[:2] == [str(point), "graph"] and numerical[1] == "numerical"
        at, func = np.array(point, dtype=float), seen.ns["Func"]()
        slopes = seen.ns["numerical_gradient"](lambda f=func, at=at: f.forward(*at), at)
        assert are(" ".join(graph[2:]), gradient, 1e-5)
        assert are(" ".join(numerical[2:]), slopes, 1e-5)


def test_q2_printed_lines(seen):
    assert says(seen.lines("2.1", "g =")[0], 12)
    nodes = "Add", "Multiply", "Divide", "CosPi", "SinPi", "Tanh", "Sigmoid", "Log"
    assert all(seen.lines("2.2", name, "relative error") for name in nodes)
    assert says(seen.lines("2.1", "slope")[0], 3, 7)
    for name, value in zip("xyz", (4, 4, 3), strict=True):
        assert f"'{name}': {value}" in seen.lines("2.1", "gradients")[0]
    _, f, *gradient = exact(2, 4, 1)
    assert says(seen.lines("2.3", "f =")[0], f)
    assert says(seen.lines("2.3", "∂f/∂x, ∂f/∂y, ∂f/∂z] =")[0], *gradient)


@pytest.mark.parametrize("x", [2, 2.25])
def test_q2_the_drawn_graph(seen, x):
    _, f, dx, dy, dz = map(float, exact(x, 4, 1))
    n, d, slope = math.cos(math.pi * x), math.tanh(1), 1 - math.exp(f)
    by_n = slope / d
    expected = [(x, dx), (4, dy), (0.5, 8 * dy), (2, 2 * dy)]
    expected += [(n, by_n), (0, by_n), (n, by_n), (1, dz / 2), (1, dz / 2), (1, dz / 2)]
    expected += [(d, -slope * n / d**2), (n / d, slope)]
    expected += [(math.exp(f), math.exp(-f)), (f, 1)]
    ax = seen.axes("2.3", title=str((x, 4, 1)))
    nodes = [text for text in ax.texts if text.get_bbox_patch()]
    nodes.sort(key=lambda text: text.get_position())
    names = ["".join(text.get_text().split()) for text in nodes]  # from left to right
    assert " ".join(names) == "z 1/2 y x × × tanh sinπ· cosπ· + a/b σ log"
    texts = [text for text in ax.texts if text.get_text() and text not in nodes]
    drawn = []  # the value stands above its gradient, in another colour
    for value, grad in zip(texts[::2], texts[1::2], strict=True):
        drawn.append((float(value.get_text()), float(grad.get_text())))
        above, below = value.get_position()[1], grad.get_position()[1]
        assert above > below and value.get_color() == seen.ns["BLUE"]
        assert grad.get_color() == seen.ns["ORANGE"]
    arrows = [text for text in ax.texts if getattr(text, "arrow_patch", None)]
    for arrow in arrows:  # to the right; numbers stand beside them, not at nodes
        assert arrow.xy[0] > arrow.xyann[0]
        assert type(arrow.arrow_patch.get_arrowstyle()).__name__[-1] != "A"  # backward
    for text in texts:
        far = [math.dist(text.get_position(), node.get_position()) for node in nodes]
        assert len(arrows) == len(drawn) and min(far) > 0.4
    expected = [(float(f"{a:.3g}"), float(f"{b:.3g}")) for a, b in expected]
    np.testing.assert_allclose(sorted(drawn), sorted(expected), atol=1e-9)
