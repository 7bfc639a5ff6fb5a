"""Question 5: L2 loss, gradient descent, update rules, against formulas."""

import numpy as np
import pytest
from references import assert_gradient, patches_by_loop

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


# L2 loss


def test_gradient_of_the_l2_distance(nb, rng):
    target, output = rng.standard_normal((2, 3, 4))
    l2 = nb.L2_loss()
    l2.forward(target, output)

    def distance():
        return np.linalg.norm(output - target)

    numerical = nb.numerical_gradient(distance, output)
    assert_gradient(l2.backward(), numerical)
    assert_gradient(l2.backward(output_grad=-5.0), -5 * numerical)


@pytest.mark.parametrize(("target", "output"), [(3, 5), (5, 3), (4, 4)])
def test_l2_loss_of_bytes(nb, target, output):
    """In bytes, 3 - 5 would be 254. At distance 0 the gradient is 0."""
    l2, arrays = nb.L2_loss(), np.array([[target], [output]], np.uint8)
    assert l2.forward(*arrays) == abs(output - target)
    np.testing.assert_array_equal(l2.backward(2.0), [2 * np.sign(output - target)])


@pytest.mark.parametrize("shape", [(2, 1), (3,), (1, 2, 3), ()], ids=str)
def test_l2_loss_refuses_another_shape(nb, shape):
    """All of these would broadcast."""
    with pytest.raises(AssertionError):
        nb.L2_loss().forward(np.zeros((2, 3)), np.zeros(shape))


# Gradient descent


def descent_by_regression(patches, W, W0, update_rule, squared):
    """Four steps for the linear regression of W0's outputs on all patches."""
    distances, filters = [], []
    for _ in range(5):
        residual = patches @ (W - W0).T
        distances.append(np.linalg.norm(residual))
        filters.append(W)
        gradient = residual.T @ patches  # of half the squared distance
        W = W - update_rule(gradient if squared else gradient / distances[-1])
    return distances, filters


@pytest.mark.parametrize("kind", ["Convolution_Layer", "Fast_Convolution_Layer"])
@pytest.mark.parametrize("squared", [True, False])
def test_gradient_descent_agrees_with_linear_regression(nb, rng, kind, squared):
    """The update rule gets one row per filter."""
    images = rng.random((9, 3, 7, 6))
    W, W0 = rng.standard_normal((2, 2, 75))
    P = rng.uniform(0, 1e-3, (75, 75))

    def update_rule(gradient):
        return gradient @ P

    C, C0 = (
        nb.make_layer(getattr(nb, kind), weights.reshape(2, 3, 5, 5))
        for weights in (W, W0)
    )
    target = C0.forward(images)
    distances, filters = nb.gradient_descent(C, images, target, update_rule, 4, squared)
    patches = patches_by_loop(images, 5)
    expected = descent_by_regression(patches, W, W0, update_rule, squared)
    np.testing.assert_allclose(distances, expected[0], rtol=1e-9)
    np.testing.assert_allclose(np.reshape(filters, (5, 2, 75)), expected[1], rtol=1e-9)


def test_gradient_descent_refuses_a_layer_with_biases(nb, rng):
    """They would not be trained."""
    C = nb.Convolution_Layer(3, 2, 5)
    x = rng.random((1, 3, 6, 6))
    with pytest.raises(AssertionError, match="bias"):
        nb.gradient_descent(C, x, C.forward(x), lambda grad: grad, 1)


# Update rules


@pytest.fixture
def gradients(rng):
    """Seven gradients of two filters with four weights; some are tiny, some large."""
    return rng.standard_normal((7, 2, 4)) * [[1.0, 1e-8, 1e3, 1e-4]]


def test_momentum_is_a_sum_of_past_gradients_that_decays(nb, gradients):
    update_rule = nb.momentum(0.25)
    for t, gradient in enumerate(gradients):
        age = np.arange(t, -1, -1)
        expected = 0.25 * np.tensordot(0.9**age, gradients[: t + 1], axes=1)
        np.testing.assert_allclose(update_rule(gradient), expected, rtol=1e-9)


def test_adam_divides_a_mean_gradient_by_a_root_mean_square(nb, gradients):
    """Weighted means over the past, with weights that decay by 0.9 and 0.999."""
    update_rule = nb.adam(0.25)
    for t, gradient in enumerate(gradients):
        age, past = np.arange(t, -1, -1), gradients[: t + 1]
        mean = np.average(past, axis=0, weights=0.9**age)
        mean_square = np.average(past**2, axis=0, weights=0.999**age)
        expected = 0.25 * mean / (np.sqrt(mean_square) + 1e-8)
        np.testing.assert_allclose(update_rule(gradient), expected, rtol=1e-9)
