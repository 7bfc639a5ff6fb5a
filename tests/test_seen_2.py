"""Question 2 as rehearsed: table, answers and the drawn graph against 100 digits.
(test_graph.py tests its definitions.)"""

import math

import numpy as np
import pytest
from conftest import POINTS, are, exact, numbers
from matplotlib.colors import to_rgb
from seen import cells, has


def test_q2_gradients_at_the_sheets_points(seen):
    told = [call.given for call in seen.of("answer", "2.4")]
    table = cells(seen.table("2.4", "graph"))
    for point, given in zip(POINTS, told, strict=True):
        gradient = [float(slope) for slope in exact(*point)[2:]]
        assert are(given["asked"], point) and are(given["found"], gradient, 1e-5)
        for name, slope in zip("xyz", gradient, strict=True):
            (shown,) = [
                n for t, n in table.items() if has(f"{point} graph /∂{name}", t)
            ]
            assert shown == pytest.approx(slope, rel=1e-9, abs=1e-99), (point, name)


def test_q2_the_drawn_graph(seen):
    """At each arrow the value that goes forward and the gradient that comes back."""
    ax = seen.figures("2.3")[0].axes[0]
    x, y, z = [n for n, _ in numbers(ax.get_title())][:3]
    _, f, dx, dy, dz = map(float, exact(x, y, z))
    assert 0 not in (dx, dy, dz)  # all three flow
    cosine, sine = math.cos(math.pi * x), math.sin(math.pi * y / 2)
    n, d, slope = cosine + sine, math.tanh(z * z), 1 - math.exp(f)
    expected = [(x, dx), (y, dy), (0.5, 2 * y * dy), (y / 2, 2 * dy)]
    expected += [(number, slope / d) for number in (cosine, sine, n)]
    expected += [(z, dz / 2), (z, dz / 2), (z * z, dz / (2 * z))]
    expected += [(d, -slope * n / d**2), (n / d, slope)]
    expected += [(math.exp(f), math.exp(-f)), (f, 1)]
    nodes = [text for text in ax.texts if text.get_bbox_patch()]
    texts = [text for text in ax.texts if text.get_text() and text not in nodes]
    drawn = []  # the value stands above its gradient, in another colour
    for value, gradient in zip(texts[::2], texts[1::2], strict=True):
        drawn.append((float(value.get_text()), float(gradient.get_text())))
        assert value.get_position()[1] > gradient.get_position()[1]
        cold, warm = to_rgb(value.get_color()), to_rgb(gradient.get_color())
        assert cold[2] - cold[0] > warm[2] - warm[0]
    expected = [(float(f"{a:.3g}"), float(f"{b:.3g}")) for a, b in expected]
    np.testing.assert_allclose(sorted(drawn), sorted(expected), atol=1e-9)
    arrows = [text for text in ax.texts if getattr(text, "arrow_patch", None)]
    assert len(arrows) == len(drawn) and all(a.xy[0] > a.xyann[0] for a in arrows)
