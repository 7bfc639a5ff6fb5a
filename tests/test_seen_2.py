"""Question 2 as rehearsed: tables, answers, printed lines and the drawn graph against
100 digits at the sheet's four points. (test_graph.py tests its definitions.)"""

import math
import re

import numpy as np
from conftest import POINTS, exact
from seen import are, numbers, says


def f_of(*point):
    """u, f, ∂f/∂x, ∂f/∂y, ∂f/∂z."""
    return [float(value) for value in exact(*point)]


def test_q2_answers_are_of_the_sheets_points(seen):
    header, rows = seen.table("2.4", "∂f/∂x", "∂f/∂y", "∂f/∂z")
    columns = [header.index(f"∂f/∂{name}") for name in "xyz"]
    assert columns == sorted(columns)
    for k, point in enumerate(POINTS):
        _, f, *gradient = f_of(*point)
        found, _, value = seen.answer("2.4", str(point)).partition("f =")
        assert are(found, gradient, 1e-5) and says(value, f)
        for name, row in zip(
            ("graph", "hand", "numerical"), rows[3 * k :], strict=False
        ):
            told = " ".join(row[c] for c in columns)
            assert name in row[1] and (row[0] == str(point) or name != "graph")
            assert says(told, *gradient) or are(told, gradient, 1e-4), row
    header, rows = seen.table("2.3", "(x, y, z)", "u")
    assert re.match("u Sigmoid.*LogSigmoid", " ".join(header[1:]))
    points = [tuple(n for n, _ in numbers(row[0])) for row in rows]
    assert set(POINTS) < set(points)
    for point, (_, u, as_two, as_one) in zip(points, rows, strict=True):
        assert are(u, f_of(*point)[:1]) and are(as_one, f_of(*point)[1:])
        assert as_two == as_one or point not in POINTS
    assert "ValueError" in rows[0][2] and are(rows[1][2], [0, 0, 0, 0])


def test_q2_printed_lines(seen):
    assert says(seen.lines("2.1", "g =")[0], 12)
    assert says(seen.lines("2.1", "slope")[0], 3, 7)
    for name, value in zip("xyz", (4, 4, 3), strict=True):
        assert f"'{name}': {value}" in seen.lines("2.1", "gradients")[0]
    computed = {"sin(128": math.sin(128 * math.pi), "at 19": 1 - math.tanh(19) ** 2}
    for word, value in computed.items():
        assert are(seen.lines("2.2", word)[0].split("computed")[1], [value], 0.05)
    assert seen.lines("2.2", "-800", "OverflowError")
    _, f, *gradient = f_of(2, 4, 1)
    assert says(seen.lines("2.3", "f =")[0], f)
    assert says(seen.lines("2.3", "∂f/∂x, ∂f/∂y, ∂f/∂z] =")[0], *gradient)


def test_q2_the_drawn_graph(seen):
    _, f, dx, dy, dz = f_of(2, 4, 1)
    d, slope = math.tanh(1), 1 - math.exp(f)
    n = slope / d  # ∂f/∂n, where n = 1 and u = 1 / d
    expected = [(2, dx), (4, dy), (0.5, 8 * dy), (2, 2 * dy), (1, n), (0, n), (1, n)]
    expected += [(1, dz / 2)] * 3 + [(d, -slope / d**2), (1 / d, slope)]
    expected += [(math.exp(f), math.exp(-f)), (f, 1)]
    texts = [
        t for fig in seen.figures("2.3") for t in fig.axes[0].texts if t.get_text()
    ]
    texts = [text for text in texts if not text.get_bbox_patch()]  # no nodes
    drawn = []  # the value stands above its gradient, in another colour
    for value, grad in zip(texts[::2], texts[1::2], strict=True):
        drawn.append((float(value.get_text()), float(grad.get_text())))
        above, below = value.get_position()[1], grad.get_position()[1]
        assert above > below and value.get_color() == seen.ns["BLUE"]
        assert grad.get_color() == seen.ns["ORANGE"]
    expected = [(float(f"{a:.3g}"), float(f"{b:.3g}")) for a, b in expected]
    np.testing.assert_allclose(sorted(drawn), sorted(expected), atol=1e-9)
