"""Question 3: Linear, ReLU, the network and the MLP, and the check of a layer."""

import itertools
import math

import numpy as np
import pytest
from conftest import (
    assert_gradient,
    assert_seeded,
    assert_weight_gradient,
    finite_difference,
)

pytestmark = pytest.mark.filterwarnings("error")


# --- Layers ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fan_in", "fan_out", "count"), [(1, 1, 1), (5, 3, 7), (4, 6, 2)]
)
def test_linear(nb, rng, fan_in, fan_out, count):
    layer = nb.Linear(fan_in, fan_out, rng, np.float64)
    assert layer.W.shape == (fan_in, fan_out) and layer.b.shape == (fan_out,)
    layer.b[...] = rng.standard_normal(fan_out)
    x, grad = (
        rng.standard_normal((count, fan_in)),
        rng.standard_normal((count, fan_out)),
    )
    out = np.einsum("ni,io->no", x, layer.W) + layer.b
    np.testing.assert_allclose(layer.forward(x), out, rtol=1e-12)

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


@pytest.mark.parametrize("shape", [(1, 3), (4, 1), (3,), (), (4, 3, 1), (3, 4)])
@pytest.mark.parametrize("kind", ["Linear", "ReLU"])
def test_gradient_of_another_shape_is_refused(nb, kind, shape):
    layer = nb.Linear(3, 3, 0) if kind == "Linear" else nb.ReLU()
    layer.forward(np.ones((4, 3)))
    with pytest.raises(ValueError) as caught:
        layer.backward(np.ones(shape))
    assert f"shape (4, 3) needed, {shape} given" in str(caught.value)


def test_input_gradient_can_be_left_out(nb, rng):
    layer = nb.Linear(5, 3, rng, np.float64)
    grad = rng.standard_normal((4, 3))
    layer.forward(rng.standard_normal((4, 5)))
    layer.backward(grad)
    expected = layer.grad_W, layer.grad_b
    assert layer.backward(grad, need_input_grad=False) is None
    np.testing.assert_equal((layer.grad_W, layer.grad_b), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [0, 4])
def test_layers_keep_their_dtype_of_an_empty_batch_too(nb, rng, dtype, count):
    linear, relu = nb.Linear(5, 3, rng, dtype), nb.ReLU()
    out = relu.forward(linear.forward(rng.random((count, 5)).astype(dtype)))
    grad = linear.backward(relu.backward(out))
    arrays = linear.W, linear.b, out, grad, linear.grad_W, linear.grad_b
    assert {array.dtype for array in arrays} == {np.dtype(dtype)}
    assert out.shape == (count, 3) and grad.shape == (count, 5)
    assert linear.grad_W.shape == (5, 3) and linear.grad_b.shape == (3,)
    assert linear.grad_W.any() == (count > 0)


@pytest.mark.parametrize(("fan_in", "fan_out"), [(784, 256), (50, 400), (400, 50)])
def test_he_initialisation(nb, rng, fan_in, fan_out):
    layer, std = nb.Linear(fan_in, fan_out, rng), math.sqrt(2 / fan_in)
    assert layer.W.std() == pytest.approx(std, rel=0.03)
    assert abs(layer.W.mean()) < 0.03 * std
    assert not layer.b.any() and layer.W.dtype == np.float32


def test_layers_take_a_seed_or_a_generator(nb):
    assert_seeded(lambda rng: nb.Linear(5, 3, rng).W)
    assert_seeded(lambda rng: nb.MLP(5, 4, 3, rng).layers[0].W)
    assert_seeded(lambda rng: nb.MLP(5, 4, 3, rng=rng).layers[2].W)


# --- The MLP -----------------------------------------------------------------------


@pytest.fixture
def mlp(nb, rng):
    """An MLP of 5, 6 and 3 units in float64, with biases that are not zero."""
    model = nb.MLP(5, 6, 3, rng, np.float64)
    for layer in model.layers[::2]:
        layer.b[...] = rng.standard_normal(layer.b.shape)
    return model


def test_mlp_is_linear_relu_linear(nb, mlp):
    assert [type(layer) for layer in mlp.layers] == [nb.Linear, nb.ReLU, nb.Linear]
    assert [layer.W.shape for layer in mlp.weighted()] == [(5, 6), (6, 3)]
    assert {layer.W.dtype for layer in nb.MLP(5, 6, 3).weighted()} == {np.dtype("f4")}


def test_mlp_scores(mlp, rng):
    (first, _, second), x = mlp.layers, rng.standard_normal((8, 5))
    expected = np.maximum(x @ first.W + first.b, 0) @ second.W + second.b
    np.testing.assert_allclose(mlp.forward(x), expected, rtol=1e-12)


def test_the_layers_of_an_mlp_start_differently(nb):
    first, _, second = nb.MLP(4, 4, 4, 3).layers
    assert not np.array_equal(first.W, second.W)


# --- Any layers in a row -----------------------------------------------------------


class Recorder:
    """A layer that adds 1, and writes down what backward is given."""

    def __init__(self):
        self.calls = []

    def forward(self, x):
        return x + 1

    def backward(self, grad, need_input_grad=True):
        self.calls.append((grad, need_input_grad))
        return 2 * grad


class Leaving(Recorder):
    """A layer that leaves its input's gradient, and returns something else."""

    def backward(self, grad, need_input_grad=True):
        self.grad_input = super().backward(grad, need_input_grad)
        return -1000.0


def test_only_the_first_layer_is_spared_its_input_gradient(nb):
    layers = [Recorder() for _ in range(3)]
    network = nb.Network(layers)
    assert network.forward(10) == 13
    network.backward(1.0, lam=0.5)  # nothing to punish
    calls = [layer.calls for layer in layers]
    assert calls == [[(4.0, False)], [(2.0, True)], [(1.0, True)]]
    assert network.weighted() == [] == network.parameters()


def test_the_gradient_that_a_layer_leaves_is_handed_down(nb):
    layers = [Recorder(), Leaving(), Recorder()]
    network = nb.Network(layers)
    for grad in 1.0, 3.0:
        network.backward(grad)
        assert [layer.calls[-1][0] for layer in layers] == [4 * grad, 2 * grad, grad]


def test_a_layer_that_stands_twice_is_refused(nb):
    """One ReLU for two places would pass the gradient by its second input."""
    relu = nb.ReLU()
    with pytest.raises(ValueError, match="layer object of its own"):
        nb.Network([nb.Linear(4, 4), relu, nb.Linear(4, 4), relu])
    assert len(nb.Network([nb.ReLU(), nb.ReLU()]).layers) == 2


@pytest.mark.parametrize("lam", [None, 0.2])
def test_a_network_of_any_depth(nb, rng, lam):
    """Gradients of the mean loss + lam * sum of all W squared; biases go free."""
    sizes = [4, 6, 5, 6, 3]
    linear = [nb.Linear(a, b, rng, np.float64) for a, b in itertools.pairwise(sizes)]
    first, second, third, fourth = linear
    network = nb.Network([first, nb.ReLU(), second, third, nb.ReLU(), fourth])
    x, y = rng.standard_normal((5, 4)), rng.integers(0, 3, 5)
    for layer in linear:
        layer.b[...] = rng.standard_normal(layer.b.shape)

    def objective():
        penalty = sum(np.sum(layer.W**2) for layer in linear)
        return nb.loss_function(y, network.forward(x)) + (lam or 0) * penalty

    given = {} if lam is None else {"lam": lam}
    network.backward(nb.loss_backward(y, network.forward(x)), **given)
    assert all(a is b for a, b in zip(network.weighted(), linear, strict=True))
    own = [(layer.W, layer.grad_W) for layer in linear]
    own += [(layer.b, layer.grad_b) for layer in linear]
    found = network.parameters()
    assert [[*map(id, pair)] for pair in found] == [[*map(id, pair)] for pair in own]
    for layer in linear:
        for name in "W", "b":
            grad = getattr(layer, f"grad_{name}")
            assert_weight_gradient(layer, name, grad, objective)


def test_a_layer_without_a_bias_has_one_parameter(nb, rng):
    first, second = nb.Linear(5, 4, rng), nb.Linear(4, 3, rng)
    network = nb.Network([first, second])
    network.backward(np.ones_like(network.forward(rng.random((2, 5)))))
    first.b = None
    values = [id(value) for value, _ in network.parameters()]
    assert values == [id(first.W), id(second.W), id(second.b)]


# --- The notebook's own check ------------------------------------------------------


def checked(capsys):
    """The names that check_layer has printed."""
    lines = capsys.readouterr().out.splitlines()
    return [line.partition(" relative")[0].split()[-1] for line in lines]


def test_check_layer_prints_an_error_for_each_array(nb, rng, capsys):
    x, linear = rng.standard_normal((6, 5)), nb.Linear(5, 4, rng, np.float64)
    assert 0 < nb.check_layer(linear, x, rng) < 1e-7
    assert checked(capsys) == ["input", "W", "b"]
    nb.check_layer(nb.ReLU(), x, rng)
    assert checked(capsys) == ["input"]


@pytest.mark.parametrize("errors", [(3, 2, 1), (1, 3, 2), (1, 2, 3)])
def test_check_layer_returns_the_largest_error(nb, rng, monkeypatch, errors):
    each = iter(errors)
    monkeypatch.setattr(nb, "check_gradient", lambda *arguments: next(each))
    layer = nb.Linear(5, 4, rng, np.float64)
    assert nb.check_layer(layer, rng.standard_normal((6, 5)), rng) == 3
    assert next(each, None) is None


@pytest.mark.parametrize("wrong", ["input", "W", "b", "left", None])
@pytest.mark.filterwarnings("ignore")
def test_check_layer_finds_a_wrong_gradient(nb, rng, wrong):
    """Also one that is left in grad_input, where backward returns something else."""

    class Broken(nb.Linear):
        def backward(self, grad, need_input_grad=True):
            grad_x = super().backward(grad)
            self.grad_W = self.grad_W * (1.001 if wrong == "W" else 1)
            self.grad_b = self.grad_b * (1.001 if wrong == "b" else 1)
            if wrong in ("left", None):
                self.grad_input = grad_x * (1.001 if wrong else 1)
                return self.grad_W
            return grad_x * (1.001 if wrong == "input" else 1)

    layer, x = Broken(5, 4, rng, np.float64), rng.standard_normal((6, 5))
    if wrong is None:
        assert nb.check_layer(layer, x, rng) < 1e-7
    else:
        name = "input" if wrong == "left" else wrong
        with pytest.raises(AssertionError, match=f"Broken, with respect to {name} "):
            nb.check_layer(layer, x, rng)
