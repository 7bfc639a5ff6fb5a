"""Question 2: the drawn graph and the reported gradients, against 100 digits."""

import math

import pytest
from references import POINTS, exact
from small_run import assert_reported, numbers_in, small_run


@pytest.fixture(scope="module")
def run():
    return small_run()


def values_in(text):
    return [value for value, _ in numbers_in(text)]


@pytest.mark.parametrize("point", POINTS)
def test_gradients_at_the_points_of_the_sheet(run, point):
    answers = [call.arguments for call in run.calls_of("record_answer", "2.4")]
    (result,) = [a["result"] for a in answers if values_in(a["question"]) == [*point]]
    gradient = [float(derivative) for derivative in exact(*point)[2:]]
    assert values_in(result) == pytest.approx(gradient, rel=1e-5, abs=1e-99)


@pytest.mark.parametrize("point", POINTS)
def test_table_of_gradients(run, point):
    gradient = [float(derivative) for derivative in exact(*point)[2:]]
    backprop = list(run.names.backprop[str(point)])
    numerical = list(run.names.numerical[str(point)])
    assert backprop == pytest.approx(gradient, rel=1e-9, abs=1e-99)
    assert numerical == pytest.approx(gradient, rel=1e-6, abs=1e-10)


def test_wrong_digits_are_printed_beside_correct_ones(run):
    assert_reported(run.lines("2.2"), math.sin(128 * math.pi))
    slope = 4 / (math.exp(20) + math.exp(-20)) ** 2  # 1 - tanh(20)²
    assert_reported(run.lines("2.2"), 0, slope)


def test_the_drawn_graph(run):
    """Beside each arrow: the value that goes forward, above the gradient that comes
    back."""
    ax = run.figure("q2-draw").axes[0]
    x, y, z = values_in(ax.get_title())
    _, f, df_dx, df_dy, df_dz = map(float, exact(x, y, z))
    cosine, sine = math.cos(math.pi * x), math.sin(math.pi * y / 2)
    n, d, df_du = cosine + sine, math.tanh(z * z), 1 - math.exp(f)
    expected = [  # (value, gradient) on each arrow
        (x, df_dx),
        (y, df_dy),
        (0.5, 2 * y * df_dy),
        (y / 2, 2 * df_dy),
        (cosine, df_du / d),
        (sine, df_du / d),
        (n, df_du / d),
        (z, df_dz / 2),
        (z, df_dz / 2),
        (z * z, df_dz / (2 * z)),
        (d, -df_du * n / d**2),
        (n / d, df_du),
        (math.exp(f), math.exp(-f)),
        (f, 1),
    ]
    labels = [t for t in ax.texts if t.get_text() and not t.get_bbox_patch()]
    drawn = []
    for value, gradient in zip(labels[::2], labels[1::2], strict=True):
        assert value.get_position()[1] > gradient.get_position()[1]
        drawn.append((float(value.get_text()), float(gradient.get_text())))
    for pair, expected_pair in zip(sorted(drawn), sorted(expected), strict=True):
        assert pair == pytest.approx(expected_pair, rel=6e-3)  # three digits
