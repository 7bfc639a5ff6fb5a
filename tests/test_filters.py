"""Question 5: the L2 loss, patches, `descend` and its rules, those of Further too,
against formulas of their own. And the difference of two accuracies."""

import numpy as np
import pytest
from conftest import patches_of

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


@pytest.mark.parametrize("scale", [1.0, 1e-100, 1e100])
def test_l2_loss_of_3_and_4_is_5(nb, scale):
    """The gradient has length 1, at a small distance as at a large one."""
    l2 = nb.L2_loss()
    distance = l2.forward(scale * np.array([[1], [2]]), scale * np.array([[4], [-2]]))
    assert type(distance) is float
    assert distance == pytest.approx(5 * scale, rel=1e-12, abs=0)
    np.testing.assert_allclose(l2.backward(), [[0.6], [-0.8]], rtol=1e-12)
    np.testing.assert_allclose(l2.backward(output_grad=-5.0), [[-3], [4]], rtol=1e-12)


@pytest.mark.parametrize(("target", "output"), [(3, 5), (5, 3), (4, 4)])
def test_l2_loss_of_bytes_at_distance_0_and_of_other_shapes(nb, target, output):
    """3 - 5 is not 254; at distance 0 the gradient is 0."""
    l2, arrays = nb.L2_loss(), np.array([[target], [output]], np.uint8)
    assert l2.forward(*arrays) == abs(output - target)
    np.testing.assert_array_equal(l2.backward(2.0), [2 * np.sign(output - target)])
    for shape in (2, 1), (3,), (1, 2, 3), ():  # these would broadcast
        with pytest.raises(AssertionError):
            l2.forward(np.zeros((2, 3)), np.zeros(shape))


def test_rules_against_sums_over_all_gradients(nb, rng):
    """Seven gradients of two filters of four weights; some are tiny. Momentum is a sum
    that forgets; Adam's means have weights that fall by 0.9 and 0.999 into the past,
    and add up to 1."""
    gradients = rng.standard_normal((7, 2, 4)) * [[1.0, 1e-8, 1e3, 1e-4]]
    momentum, adam = nb.momentum(0.25), nb.adam(0.25)
    for t, gradient in enumerate(gradients):
        age, past = np.arange(t, -1, -1), gradients[: t + 1]
        expected = 0.25 * np.tensordot(0.9**age, past, axes=1)
        np.testing.assert_allclose(momentum(gradient), expected, rtol=1e-9)
        mean = np.average(past, axis=0, weights=0.9**age)
        square = np.average(past**2, axis=0, weights=0.999**age)
        expected = 0.25 * mean / (np.sqrt(square) + 1e-8)
        np.testing.assert_allclose(adam(gradient), expected, rtol=1e-9)


@pytest.mark.parametrize("kind", ["Convolution_Layer", "Fast_Convolution_Layer"])
@pytest.mark.parametrize("squared", [None, True, False])
def test_descend(nb, rng, kind, squared):
    """By the gradient of a regression on patches of all images at once."""
    start, W0 = rng.standard_normal((2, 2, 3, 5, 5))
    x = rng.random((9, 3, 7, 6))
    C, hidden = (nb.new_layer(getattr(nb, kind), W) for W in (start, W0))
    assert C.b is None and C.W.dtype == np.float64
    target = hidden.forward(x)
    given = {} if squared is None else {"squared": squared}
    log, filters = nb.descend(C, x, target, W0, nb.momentum(1e-3), 4, **given)
    patches = patches_of(x, 5)
    np.testing.assert_array_equal(nb.patches_of(x), patches)
    W, velocity, expected = start.reshape(2, 75), 0, []
    for step in range(5):
        residual = patches @ (W - W0.reshape(2, 75)).T
        distance = np.linalg.norm(residual)
        error = np.linalg.norm(W - W0.reshape(2, 75)) / np.linalg.norm(W0)
        expected.append((distance, error))
        np.testing.assert_allclose(filters[step].reshape(2, 75), W, rtol=0, atol=1e-12)
        gradient = residual.T @ patches
        velocity = 0.9 * velocity + 1e-3 * gradient / (
            distance if squared is False else 1
        )
        W = W - velocity
    np.testing.assert_allclose(log, expected, rtol=1e-9)
    assert [*log] == ["L2 distance", "filter error"] and [*log.index] == [*range(5)]
    np.testing.assert_array_equal(C.W, filters[-1])


def test_difference_of_accuracies(nb, rng):
    """On the same images: of 40, 11 only one has right, and 4 only the other."""
    hits, others = np.repeat([[1, 0], [0, 1], [1, 1], [0, 0]], [11, 4, 20, 5], axis=0).T
    order = rng.permutation(40)
    points, error = nb.difference(hits[order] == 1, others[order] == 1)
    assert points == pytest.approx(100 * 7 / 40)
    variance = (11 + 4) / 40 - (7 / 40) ** 2
    assert error == pytest.approx(100 * np.sqrt(variance / 40))
