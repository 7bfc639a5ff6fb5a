"""Question 3: Linear, ReLU, and the MLP built from them."""

import math

import numpy as np
import pytest
from conftest import assert_gradient, assert_weight_gradient, finite_difference

pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.parametrize(("fan_in", "fan_out", "count"), [(1, 1, 1), (5, 3, 7), (4, 6, 2)])
def test_linear(nb, rng, fan_in, fan_out, count):
    layer = nb.Linear(fan_in, fan_out, rng, np.float64)
    assert layer.W.shape == (fan_in, fan_out) and layer.b.shape == (fan_out,)
    layer.b[...] = rng.standard_normal(fan_out)
    x, grad = rng.standard_normal((count, fan_in)), rng.standard_normal((count, fan_out))
    out = np.einsum("ni,io->no", x, layer.W) + layer.b
    np.testing.assert_allclose(layer.forward(x), out, atol=1e-14)

    def weighted_sum(x=x):
        return np.sum(grad * layer.forward(x))

    assert_gradient(layer.backward(grad), finite_difference(weighted_sum, x))
    assert_weight_gradient(layer, "W", layer.grad_W, weighted_sum)
    assert_weight_gradient(layer, "b", layer.grad_b, weighted_sum)


@pytest.mark.parametrize("shape", [(4, 5), (7,), (2, 3, 4, 5)])
def test_relu(nb, rng, shape):
    layer = nb.ReLU()
    x = rng.choice([-1, 1], shape) * rng.uniform(0.01, 2, shape)
    grad, kept = rng.standard_normal(shape), x.copy()
    np.testing.assert_array_equal(layer.forward(x), np.where(x > 0, x, 0))
    numerical = finite_difference(lambda x: np.sum(grad * nb.ReLU().forward(x)), x)
    assert_gradient(layer.backward(grad), numerical)
    np.testing.assert_array_equal(x, kept)


def test_relu_at_the_kink(nb):
    layer = nb.ReLU()
    layer.forward(np.array([0.0, -0.0, 1e-300, -1e-300]))
    np.testing.assert_array_equal(layer.backward(np.ones(4)), [0, 0, 1, 0])


def test_input_gradient_can_be_left_out(nb, rng):
    layer = nb.Linear(5, 3, rng, np.float64)
    grad = rng.standard_normal((4, 3))
    layer.forward(rng.standard_normal((4, 5)))
    layer.backward(grad)
    with_input = layer.grad_W.copy(), layer.grad_b.copy()
    assert layer.backward(grad, need_input_grad=False) is None
    for a, b in zip(with_input, (layer.grad_W, layer.grad_b), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("shape", [(4, 6), (4, 4), (5,), (4, 5, 1)])
def test_wrong_width_says_both(nb, shape):
    with pytest.raises(ValueError, match=r"5") as caught:
        nb.Linear(5, 3).forward(np.zeros(shape))
    assert str(shape) in str(caught.value)


@pytest.mark.parametrize("make", [lambda nb: nb.Linear(5, 3), lambda nb: nb.ReLU()])
def test_backward_before_forward_says_so(nb, make):
    with pytest.raises(RuntimeError, match="forward"):
        make(nb).backward(np.zeros((4, 3)))


@pytest.mark.parametrize(("fan_in", "fan_out"), [(784, 256), (50, 400), (400, 50)])
def test_he_initialisation(nb, rng, fan_in, fan_out):
    layer = nb.Linear(fan_in, fan_out, rng)
    std = math.sqrt(2 / fan_in)
    assert layer.W.std() == pytest.approx(std, rel=0.03)
    assert abs(layer.W.mean()) < 0.03 * std
    assert not layer.b.any()


@pytest.fixture
def mlp(nb, rng):
    """An MLP of 5, 6 and 3 units in float64, with biases that are not zero."""
    model = nb.MLP(5, 6, 3, rng, np.float64)
    for layer in model.layers[::2]:
        layer.b[...] = rng.standard_normal(layer.b.shape)
    return model


@pytest.fixture
def batch(mlp, rng):
    """Inputs (8, 5) that keep every hidden unit away from its kink, and labels (8,)."""
    x = rng.standard_normal((200, 5))
    hidden = x @ mlp.layers[0].W + mlp.layers[0].b
    return x[np.abs(hidden).min(axis=1) > 1e-2][:8], rng.integers(0, 3, 8)


def test_mlp_scores(mlp, batch):
    first, _, second = mlp.layers
    expected = np.maximum(batch[0] @ first.W + first.b, 0) @ second.W + second.b
    np.testing.assert_allclose(mlp.forward(batch[0]), expected, atol=1e-14)


@pytest.mark.parametrize("lam", [0.0, 0.3])
def test_mlp_gradients(nb, mlp, batch, lam):
    """The mean loss + lam * sum of W^2 of both layers; the biases are not regularised."""
    x, y = batch
    linear = mlp.layers[::2]

    def objective():
        penalty = sum(np.sum(layer.W**2) for layer in linear)
        return nb.loss_function(y, mlp.forward(x)) + lam * penalty

    mlp.backward(nb.loss_backward(y, mlp.forward(x)), lam)
    for layer in linear:
        for name in "W", "b":
            assert_weight_gradient(layer, name, getattr(layer, f"grad_{name}"), objective)


def test_parameters_are_the_layers_own_arrays(nb, mlp, batch):
    x, y = batch
    mlp.backward(nb.loss_backward(y, mlp.forward(x)))
    own = [(layer.W, layer.grad_W) for layer in mlp.layers[::2]]
    own += [(layer.b, layer.grad_b) for layer in mlp.layers[::2]]
    found = [(id(value), id(grad)) for value, grad in mlp.parameters()]
    assert sorted(found) == sorted((id(value), id(grad)) for value, grad in own)


def test_mlp_starts_with_two_different_layers_from_one_seed(nb):
    first, again = (nb.MLP(4, 4, 4, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first.layers[0].W, again.layers[0].W)
    assert not np.array_equal(first.layers[0].W, first.layers[2].W)
