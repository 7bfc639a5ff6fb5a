"""Question 5: the L2 loss, and filters recovered from their outputs."""

import numpy as np
import pytest
from conftest import assert_gradient, assert_weight_gradient, finite_difference

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def outputs(rng):
    """Two arrays of outputs (2, 3, 4, 5)."""
    return rng.standard_normal((2, 2, 3, 4, 5))


def test_distance_and_gradient(nb, outputs):
    loss, (target, output) = nb.L2_loss(), outputs
    distance = loss.forward(target, output)
    assert distance == pytest.approx(np.sqrt(np.sum((target - output) ** 2)), rel=1e-14)
    assert nb.L2_loss().forward(output, target) == pytest.approx(distance)
    numerical = finite_difference(lambda moved: nb.L2_loss().forward(target, moved), output)
    assert_gradient(loss.backward(), numerical)
    assert np.linalg.norm(loss.backward()) == pytest.approx(1)  # however close the two are


def test_output_grad_scales(nb, outputs):
    loss = nb.L2_loss()
    loss.forward(*outputs)
    np.testing.assert_allclose(loss.backward(-2.5), -2.5 * loss.backward(), rtol=1e-14)


def test_chained_with_the_loss_it_is_half_the_square(nb, outputs):
    loss, (target, output) = nb.L2_loss(), outputs
    grad = loss.backward(output_grad=loss.forward(target, output))
    half_square = finite_difference(lambda moved: 0.5 * np.sum((moved - target) ** 2), output)
    assert_gradient(grad, half_square)


def test_no_distance_no_gradient(nb, outputs):
    loss, (output, _) = nb.L2_loss(), outputs
    assert loss.forward(output, output.copy()) == 0
    np.testing.assert_array_equal(loss.backward(), np.zeros_like(output))
    np.testing.assert_array_equal(loss.backward(3.0), np.zeros_like(output))


@pytest.mark.parametrize("shape", [(2, 3, 4, 6), (3, 4, 5), (1, 3, 4, 5), ()])
def test_shapes_that_differ(nb, outputs, shape):
    with pytest.raises(ValueError) as caught:
        nb.L2_loss().forward(outputs[0], np.zeros(shape))
    assert str(shape) in str(caught.value) and "(2, 3, 4, 5)" in str(caught.value)


def test_backward_before_forward_says_so(nb):
    with pytest.raises(RuntimeError, match="forward"):
        nb.L2_loss().backward()


# --- Learning a convolution ------------------------------------------------------------------


def smooth_images(rng, count=30, size=12):
    """Images whose neighbouring pixels are alike, as in photographs: (count, 3, size, size)."""
    noise = rng.uniform(0, 1, (count, 3, size + 2, size + 2))
    rows = noise[:, :, 2:] + noise[:, :, 1:-1] + noise[:, :, :-2]
    return (rows[..., 2:] + rows[..., 1:-1] + rows[..., :-2]) / 9


@pytest.fixture
def task(nb, rng):
    """(a layer with random weights, images, the outputs of hidden filters, those filters)."""
    hidden, C = (
        nb.Convolution_Layer(3, 4, 3, bias=False, rng=rng, dtype=np.float64) for _ in range(2)
    )
    for layer in hidden, C:
        layer.set_weights(rng.uniform(-1, 1, layer.W.shape))
    x = smooth_images(rng)
    return C, x, hidden.forward(x), hidden.W


def distance(W, true):
    return np.linalg.norm(W - true) / np.linalg.norm(true)


def test_gradient_through_the_layer(nb, task):
    C, x, target, _ = task
    loss = nb.L2_loss()
    loss.forward(target, C.forward(x))
    grad = C.backward(loss.backward())
    assert_weight_gradient(C, "W", grad, lambda: np.linalg.norm(C.forward(x) - target))


def test_descent_through_loss_and_layer_comes_closer(nb, task):
    C, x, target, true = task
    loss, errors, losses = nb.L2_loss(), [], []
    for _ in range(50):
        losses.append(loss.forward(target, C.forward(x)))
        errors.append(distance(C.W, true))
        C.set_weights(C.W - 1e-5 * C.backward(loss.backward(output_grad=losses[-1])))
    assert np.all(np.diff(losses) < 0) and np.all(np.diff(errors) < 0)


@pytest.mark.parametrize("steps", [40, 80])
def test_conjugate_gradients_recover_the_filters(nb, task, steps):
    """27 unknowns a filter: 40 steps are plenty, and more do no harm."""
    C, x, target, true = task
    assert distance(C.W, true) > 0.5
    errors = [distance(W, true) for W in nb.conjugate_gradients(C, x, target, steps)]
    assert errors[0] > 1e-3
    assert errors[-1] <= 1e-8


@pytest.mark.parametrize("known", [1, 4])
def test_conjugate_gradients_leave_right_filters_alone(nb, task, known):
    """The first filters, or all four, are right from the start: a residual of exactly 0."""
    C, x, target, true = task
    C.set_weights(np.concatenate([true[:known], C.W[known:]]))
    for W in nb.conjugate_gradients(C, x, C.forward(x) if known == 4 else target, 40):
        np.testing.assert_allclose(W[:known], true[:known], rtol=0, atol=1e-12)
    assert distance(W, true) <= 1e-8
