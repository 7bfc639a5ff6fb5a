"""What definitions do with seeds, and with input that is wrong."""

import math

import numpy as np
import pytest
from references import assert_seeded


def minibatches(nb, function, rng):
    x = np.repeat(np.linspace(0.1, 1, 25, dtype=np.float32)[:, None], 784, axis=1)
    batches = getattr(nb, function)(x, np.arange(25), 10, np.random.default_rng(rng))
    return np.concatenate([x_b for x_b, _ in batches])


SEEDED = {  # name: function of the definitions and a seed
    "classifier": lambda nb, rng: nb.Single_layer_classifier(5, 4, rng=rng).W,
    "Linear": lambda nb, rng: nb.Linear(5, 4, rng=rng).W,
    "convolution": lambda nb, rng: nb.Convolution_Layer(1, 2, 3, rng=rng).W,
    "MLP, first": lambda nb, rng: nb.MLP(5, 6, 3, rng=rng).layers[0].W,
    "MLP, last": lambda nb, rng: nb.MLP(5, 6, 3, rng=rng).layers[2].W,
    "ConvNet, first": lambda nb, rng: nb.ConvNet(rng=rng).layers[0].W,
    "ConvNet, second": lambda nb, rng: nb.ConvNet(rng=rng).layers[2].W,
    "ConvNet, last": lambda nb, rng: nb.ConvNet(rng=rng).layers[-1].W,
    "mini-batches": lambda nb, rng: minibatches(nb, "get_minibatch", rng),
    "distorted": lambda nb, rng: minibatches(nb, "distorted_minibatch", rng),
}


@pytest.mark.parametrize("name", SEEDED)
def test_random_numbers_are_drawn_from_the_seed(nb, name):
    assert_seeded(lambda rng: SEEDED[name](nb, rng))


LABELS = [0, -1, 2], [0, 3, 1], [1], [[0], [1], [2]], [0.0, 1.0, 2.0], [True] * 3
IMAGES = (4, 1, 8, 8), (4, 3, 8, 8), (4, 2, 8, 2)  # for filters (3, 2, 3, 3)
REFUSED = [  # function, arguments
    *[("load_mnist", "", share) for share in (5, 0, -0.5, 1.01)],
    *[("loss_function", np.array(y), np.ones((3, 3))) for y in LABELS],
    *[("loss_backward", np.array(y), np.ones((3, 3))) for y in LABELS],
    ("check_gradient", "", lambda: 0.0, np.ones((3, 4)), np.ones((1, 4))),
    ("numerical_gradient", lambda: 0.0, np.zeros(3, np.float32)),
    ("tune", None, None, None, {"seed": [1]}),
    *[("output_size", 8, 3, *g) for g in ((0,), (-1,), (1, 0, 0), (1, 0, -1))],
    *[("conv2d_naive", np.zeros(s), np.ones((3, 2, 3, 3)), np.ones(3)) for s in IMAGES],
]


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row[0])
def test_functions_refuse_wrong_arguments(nb, row):
    function, *arguments = row
    with pytest.raises((AssertionError, IndexError)):
        getattr(nb, function)(*arguments)


@pytest.mark.parametrize("kind", ["Convolution_Layer", "Fast_Convolution_Layer"])
@pytest.mark.parametrize(
    ("method", "shape"),
    [
        *[("forward", shape) for shape in IMAGES],
        *[("backward", s) for s in ((2, 3, 6, 4), (2, 3, 5, 6), (1, 3, 4, 6))],
        *[("set_weights", s) for s in ((3, 2, 3, 4), (2, 3, 3, 3), (1, 2, 3, 3), ())],
    ],
)
def test_layers_refuse_arrays_of_another_shape(nb, kind, method, shape):
    """Many of them would broadcast."""
    layer = getattr(nb, kind)(2, 3, 3)
    layer.forward(np.zeros((2, 2, 6, 8)))  # its output has the shape (2, 3, 4, 6)
    with pytest.raises(AssertionError):
        getattr(layer, method)(np.zeros(shape))


@pytest.mark.parametrize("shape", [(2, 1), (3,), (1, 2, 3), ()], ids=str)
def test_l2_loss_refuses_another_shape(nb, shape):
    with pytest.raises(AssertionError):
        nb.L2_loss().forward(np.zeros((2, 3)), np.zeros(shape))


def test_layers_that_do_not_fit_are_refused(nb, rng):
    """A blur keeps the size; gradient descent trains no biases; a node or layer that is
    used twice would keep the inputs of its last use only."""
    for size, geometry in (12, {}), (13, {"stride": 2}), (13, {"dilation": 2}):
        layer = nb.Convolution_Layer(3, 3, size, bias=False, **geometry)
        with pytest.raises(AssertionError):
            nb.blur(rng.random((2, 3, 32, 32)), layer)
    C, x = nb.Convolution_Layer(3, 2, 5), rng.random((1, 3, 6, 6))
    with pytest.raises(AssertionError):
        nb.gradient_descent(C, x, C.forward(x), lambda grad: grad, 1)
    square = nb.Multiply()
    with pytest.raises(AssertionError):
        nb.Graph({"p": (square, "x", "x"), "q": (square, "p", "x")})
    with pytest.raises(AssertionError):
        nb.Network([nb.ReLU()] * 2)
    with pytest.raises(AssertionError):  # the inner one would not be trained
        nb.Network([nb.Network([nb.Linear(3, 3)]), nb.Linear(3, 3)])
    with pytest.raises(AssertionError):  # a node would overwrite the input
        nb.Graph({"x": (nb.Add(), "x", "y")}).forward(x=1, y=2)


@pytest.mark.parametrize("function", ["get_minibatch", "distorted_minibatch"])
@pytest.mark.parametrize("batch_size", [2, 0, -1])
def test_minibatches_refuse_a_seed_and_sizes_below_1(nb, rng, function, batch_size):
    """A seed would give the same mini-batches in every epoch."""
    rng_or_seed = 0 if batch_size > 0 else rng
    x = rng.random((6, 784))
    batches = getattr(nb, function)(x, np.arange(6), batch_size, rng_or_seed)
    with pytest.raises(AssertionError):
        next(batches)


def test_func_refuses_z_0_overflow_and_the_output_of_an_earlier_forward(nb):
    func = nb.Func()
    for point in (1, 2, 0), (1, 2, 1e-170), (1, 3, 0.05):
        with pytest.raises((ArithmeticError, ValueError)):
            func.forward(*point)
    earlier, latest = func.forward(2, 4, 1), func.forward(0.3, 1.7, 0.6)
    for output in earlier, 0.0, 1.0, math.nan, -latest:
        with pytest.raises(AssertionError):
            func.backward(output)
