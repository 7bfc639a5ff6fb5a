"""Input from which NumPy or pandas would compute a wrong number is refused."""

import numpy as np
import pandas as pd
import pytest
from load_definitions import ROOT

DIVERGED = {"lam": [0, 1], "validation_accuracy": np.nan}

CALLS = {
    "one label, 3 rows": lambda nb: nb.loss_function(np.zeros(1, int), np.eye(3)),
    "weights": lambda nb: nb.Convolution_Layer(1, 1, 3).set_weights(np.eye(3)),
    "outputs": lambda nb: nb.L2_loss().forward(np.zeros((2, 3)), np.zeros(3)),
    "float32": lambda nb: nb.numerical_gradient(float, np.zeros(2, np.float32)),
    "node twice": lambda nb: nb.Graph(dict.fromkeys("pq", (nb.Add(), "x", "y"))),
    "name twice": lambda nb: nb.Graph({"x": (nb.Tanh(), "x")}).forward(x=1.0),
    "labels (N, 1)": lambda nb: nb.loss_backward(np.zeros((3, 1), int), np.eye(3)),
    "label -1": lambda nb: nb.loss_function(np.array([0, 1, -1]), np.eye(3)),
    "u of -720": lambda nb: nb.Func().forward(1, 0, 720**-0.5),
    "backward first": lambda nb: nb.Func().backward(1.0),
    "earlier pass": lambda nb: (f := nb.Func()).backward(
        [f.forward(2, 4, 1), f.forward(2, 4, -1)][0]  # of the same value
    ),
    "no epochs": lambda nb: nb.fit(0, 0, 0, epochs=0, batch_size=9, learning_rate=1),
    "batch of 0": lambda nb: nb.fit(0, 0, 0, epochs=9, batch_size=0, learning_rate=1),
    "layer twice": lambda nb: nb.Network(2 * [nb.Linear(3, 3)]),
    "share": lambda nb: nb.load_mnist(ROOT / "data/mnist", share=1.5),
    "tiny share": lambda nb: nb.load_mnist(ROOT / "data/mnist", share=1e-4),
    "all diverged": lambda nb: nb.select_best(pd.DataFrame(DIVERGED), {"lam": [0, 1]}),
    "third setting": lambda nb: nb.show_tuning(None, dict.fromkeys("abc"), "MLP"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_guard_refuses(nb, call):
    with pytest.raises(AssertionError):
        call(nb)
