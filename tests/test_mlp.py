"""Question 3: Linear, ReLU, and the MLP built from them."""

import itertools
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


@pytest.mark.parametrize("shape", [(4, 6), (4, 4), (4, 5, 1)])
def test_wrong_width_is_an_error(nb, shape):
    with pytest.raises(ValueError, match="5"):
        nb.Linear(5, 3).forward(np.zeros(shape))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_empty_batch_gives_empty_outputs(nb, dtype):
    linear, relu = nb.Linear(5, 3, dtype=dtype), nb.ReLU()
    out = relu.forward(linear.forward(np.zeros((0, 5), dtype)))
    assert out.shape == (0, 3) and out.dtype == dtype
    assert linear.backward(relu.backward(np.zeros((0, 3), dtype))).shape == (0, 5)
    assert linear.grad_W.shape == (5, 3) and not linear.grad_W.any() and not linear.grad_b.any()
    assert nb.MLP(5, 4, 3, dtype=dtype).forward(np.zeros((0, 5), dtype)).shape == (0, 3)


def test_loss_of_an_empty_batch_is_an_error(nb):
    for function in nb.loss_function, nb.loss_backward:
        with pytest.raises(ValueError, match=r"\(0, 3\)"):
            function(np.zeros(0, int), nb.MLP(5, 4, 3).forward(np.zeros((0, 5))))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_layers_keep_their_dtype(nb, rng, dtype):
    linear, relu = nb.Linear(5, 3, rng, dtype), nb.ReLU()
    out = relu.forward(linear.forward(rng.random((4, 5)).astype(dtype)))
    grad_x = linear.backward(relu.backward(out))
    arrays = linear.W, linear.b, out, grad_x, linear.grad_W, linear.grad_b
    assert {array.dtype for array in arrays} == {np.dtype(dtype)}


@pytest.mark.parametrize("make", [lambda nb: nb.Linear(5, 3), lambda nb: nb.MLP(5, 4, 3)])
def test_without_a_generator_every_layer_starts_anew(nb, make):
    first, second = make(nb), make(nb)
    x = np.ones((1, 5), np.float32)
    assert not np.array_equal(first.forward(x), second.forward(x))


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


# --- Any layers in a row ---------------------------------------------------------------------


class Recorder:
    """A layer without weights that adds 1, and writes down what backward is given."""

    def __init__(self):
        self.calls = []

    def forward(self, x):
        return x + 1

    def backward(self, grad, need_input_grad=True):
        self.calls.append((grad, need_input_grad))
        return 2 * grad


def test_only_the_first_layer_is_spared_its_input_gradient(nb):
    layers = [Recorder() for _ in range(3)]
    network = nb.Network(layers)
    assert network.forward(10) == 13
    network.backward(1.0)
    assert [layer.calls for layer in layers] == [[(4.0, False)], [(2.0, True)], [(1.0, True)]]
    network.backward(1.0, lam=0.5)  # nothing to regularise
    assert network.weighted == [] == network.parameters()


def test_a_network_of_any_depth(nb, rng):
    """Gradients of four layers of weights, and the order of weighted and parameters()."""
    sizes = [4, 6, 5, 6, 3]
    linear = [nb.Linear(a, b, rng, np.float64) for a, b in itertools.pairwise(sizes)]
    network = nb.Network([linear[0], nb.ReLU(), linear[1], linear[2], nb.ReLU(), linear[3]])
    x, y = rng.standard_normal((5, 4)), rng.integers(0, 3, 5)
    for layer in linear:
        layer.b[...] = rng.standard_normal(layer.b.shape)

    def objective():
        penalty = sum(np.sum(layer.W**2) for layer in linear)
        return nb.loss_function(y, network.forward(x)) + 0.2 * penalty

    network.backward(nb.loss_backward(y, network.forward(x)), 0.2)
    assert all(a is b for a, b in zip(network.weighted, linear, strict=True))
    pairs = iter(network.parameters())
    for layer in linear:
        for name in "W", "b":
            value, grad = next(pairs)
            assert value is getattr(layer, name) and grad is getattr(layer, f"grad_{name}")
            assert_weight_gradient(layer, name, grad, objective)
    assert next(pairs, None) is None


def test_mlp_is_linear_relu_linear(nb, mlp):
    assert isinstance(mlp, nb.Network)
    assert [type(layer) for layer in mlp.layers] == [nb.Linear, nb.ReLU, nb.Linear]
    assert [layer.W.shape for layer in mlp.weighted] == [(5, 6), (6, 3)]
    assert {layer.W.dtype for layer in nb.MLP(5, 6, 3).weighted} == {np.dtype(np.float32)}


def test_mlp_is_he_initialised(nb, rng):
    first, second = nb.MLP(300, 500, 100, rng).weighted
    assert first.W.std() == pytest.approx(math.sqrt(2 / 300), rel=0.02)
    assert second.W.std() == pytest.approx(math.sqrt(2 / 500), rel=0.02)


# --- The notebook's own check ----------------------------------------------------------------


def test_check_layer_prints_an_error_for_each_array(nb, rng, capsys):
    def arrays():
        return [line.split(" relative")[0].strip() for line in capsys.readouterr().out.splitlines()]

    nb.check_layer(nb.Linear(5, 4, rng, np.float64), rng.standard_normal((6, 5)), rng)
    assert arrays() == ["Linear by input", "Linear by W", "Linear by b"]
    nb.check_layer(nb.ReLU(), rng.standard_normal((6, 5)), rng)
    assert arrays() == ["ReLU by input"]
    for kind in "Convolution_Layer", "Fast_Convolution_Layer", "Convolution":
        conv = getattr(nb, kind)(2, 3, 3, rng=rng, dtype=np.float64)
        assert 0 < nb.check_layer(conv, rng.standard_normal((2, 2, 5, 5)), rng) < 1e-7
        assert arrays() == [f"{kind} by {name}" for name in ("input", "W", "b")]


@pytest.mark.parametrize("errors", [(3e-9, 2e-9, 1e-9), (1e-9, 3e-9, 2e-9), (1e-9, 2e-9, 3e-9)])
def test_check_layer_returns_the_largest_error(nb, rng, monkeypatch, errors):
    each = iter(errors)
    monkeypatch.setattr(nb, "check_gradient", lambda *arguments: next(each))
    layer = nb.Linear(5, 4, rng, np.float64)
    assert nb.check_layer(layer, rng.standard_normal((6, 5)), rng) == 3e-9
    assert next(each, None) is None


@pytest.mark.parametrize("wrong", ["input", "W", "b"])
@pytest.mark.filterwarnings("ignore")
def test_check_layer_finds_a_wrong_gradient(nb, rng, wrong):
    class Broken(nb.Linear):
        def backward(self, grad, need_input_grad=True):
            grad_x = super().backward(grad)
            self.grad_W = self.grad_W * (1.001 if wrong == "W" else 1)
            self.grad_b = self.grad_b * (1.001 if wrong == "b" else 1)
            return grad_x * (1.001 if wrong == "input" else 1)

    with pytest.raises(AssertionError, match=f"Broken by {wrong}"):
        nb.check_layer(Broken(5, 4, rng, np.float64), rng.standard_normal((6, 5)), rng)
