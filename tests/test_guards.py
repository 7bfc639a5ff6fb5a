"""Input from which NumPy or pandas would compute a wrong number is refused."""

import math

import numpy as np
import pandas as pd
import pytest


def backward_from_other_shape(layer_class):
    layer = layer_class(1, 1, 3)
    layer.forward(np.zeros((1, 1, 5, 5)))  # its outputs have shape (1, 1, 3, 3)
    layer.backward(np.zeros((1, 1, 4, 4)))


DIVERGED = {"lam": [0, 1], "validation_accuracy": math.nan}
MIXED = {"lam": 0, "learning_rate": 1, "seed": 1, "epochs": [5, 9]}
CALLS = {
    "one label, 3 rows": lambda nb: nb.loss_function(np.zeros(1, int), np.eye(3)),
    "weights": lambda nb: nb.Convolution_Layer(1, 1, 3).set_weights(np.eye(3)),
    "outputs": lambda nb: nb.L2_loss().forward(np.zeros((2, 3)), np.zeros(3)),
    "gradient": lambda nb: backward_from_other_shape(nb.Convolution_Layer),
    "fast": lambda nb: backward_from_other_shape(nb.Fast_Convolution_Layer),
    "float32": lambda nb: nb.numerical_gradient(float, np.zeros(2, np.float32)),
    "node twice": lambda nb: nb.Graph(dict.fromkeys("pq", (nb.Add(), "x", "y"))),
    "name twice": lambda nb: nb.Graph({"x": (nb.Tanh(), "x")}).forward(x=1.0),
    "layer twice": lambda nb: nb.Network(2 * [nb.ReLU()]),
    "share": lambda nb: nb.load_mnist("data/mnist", share=1.5),
    "all diverged": lambda nb: nb.select_best(pd.DataFrame(DIVERGED), {"lam": [0, 1]}),
    "third setting": lambda nb: nb.show_tuning(pd.DataFrame(MIXED), "lam", "title"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_guard_refuses(nb, call):
    with pytest.raises(AssertionError):
        call(nb)
