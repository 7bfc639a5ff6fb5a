"""Layers and MLP: gradients against finite differences; initial weights."""

import numpy as np
import pytest
from references import GEOMETRY, assert_layer_gradients, assert_network_gradients

LAYERS = {  # name: (class, sizes, options, shape of the input)
    "ReLU": ("ReLU", (), {}, (2, 3, 4, 5)),
    "Linear": ("Linear", (5, 3), {}, (4, 5)),
    "convolution": ("Convolution_Layer", (2, 3, 3), {}, (2, 2, 6, 5)),
    "strided": ("Convolution_Layer", (2, 3, 2), GEOMETRY, (2, 2, 6, 5)),
    "no bias": ("Convolution_Layer", (1, 2, 1), {"bias": False}, (3, 1, 2, 3)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_of_a_layer(nb, rng, name):
    kind, sizes, options, shape = LAYERS[name]
    if sizes:
        options = options | {"rng": rng, "dtype": np.float64}
    assert_layer_gradients(nb, getattr(nb, kind)(*sizes, **options), shape, rng)


INITIAL = {  # class: sizes, number of inputs of an output
    "Linear": ((300, 200), 300),
    "Convolution_Layer": ((8, 60, 7), 8 * 7 * 7),
    "Single_layer_classifier": ((784, 10), 2e6),
}


@pytest.mark.parametrize("kind", INITIAL)
def test_initial_weights_are_normal_with_their_standard_deviation(nb, kind):
    """He's, sqrt(2 / number of inputs of an output), or 0.001; biases are 0."""
    sizes, n_inputs = INITIAL[kind]
    layer, std = getattr(nb, kind)(*sizes, rng=0), np.sqrt(2 / n_inputs)
    again = getattr(nb, kind)(*sizes, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(layer.W, again.W)
    assert layer.W.std() == pytest.approx(std, rel=0.03)
    assert abs(layer.W.mean()) < 0.03 * std
    assert abs(layer.W).max() > 3 * std
    assert layer.W.dtype == np.float32 and not np.any(getattr(layer, "b", 0))


def test_gradients_of_the_mlp(nb, rng):
    mlp = nb.MLP(5, 6, 3, rng=rng, dtype=np.float64)
    assert_network_gradients(nb, mlp, rng.standard_normal((8, 5)), rng, lam=0.2)
