"""Question 5: descent with a whitened gradient finds every filter; plain descent does not."""

import numpy as np
import pytest
from load_definitions import ROOT

pytestmark = pytest.mark.filterwarnings("error")


def test_fresh_layer(nb):
    """Always the same weights, uniform in [-1, 1]; the layers share no array."""
    first, again = nb.fresh_layer(), nb.fresh_layer()
    assert type(first) is nb.Fast_Convolution_Layer and first.b is None
    assert first.W.shape == (20, 3, 5, 5) and first.W.dtype == np.float64
    assert (first.stride, first.padding, first.dilation) == ((1, 1), (0, 0), (1, 1))
    assert np.abs(first.W).max() == pytest.approx(1, abs=0.01) and np.abs(first.W).max() <= 1
    assert first.W.mean() == pytest.approx(0, abs=0.05)
    assert first.W.std() == pytest.approx(1 / np.sqrt(3), abs=0.02)
    np.testing.assert_array_equal(first.W, again.W)
    first.W[...] = 0
    assert again.W.all()


@pytest.fixture(params=[100, 20, "the shipped sample"])
def task(nb, rng, request):
    """(images, the outputs of hidden filters, those filters, the matrix A of the patches)"""
    hidden = nb.fresh_layer()
    if request.param == "the shipped sample":  # 20 photographs: A has a condition of 5 million
        x = nb.read_cifar(ROOT / "data" / "cifar10_sample.bin")[0] / 255
        hidden.set_weights(np.load(ROOT / "C0_weights.npy"))
    else:
        x = rng.random((request.param, 3, 16, 16))
        hidden.set_weights(rng.uniform(-1, 1, hidden.W.shape))
    windows = np.lib.stride_tricks.sliding_window_view(x, (5, 5), axis=(2, 3))
    patches = np.moveaxis(windows, 1, 3).reshape(-1, 75)
    return x, hidden.forward(x), hidden.W, patches.T @ patches


def descend(nb, task, rate, inverse):
    """(the history of 20 passes, the filters found)"""
    C, (x, target, true, _) = nb.fresh_layer(), task
    rng = np.random.default_rng(0)
    return nb.descend(C, x, target, true, rate, rng, passes=20, inverse=inverse), C.W


def test_whitened_descent_arrives(nb, task):
    history, W = descend(nb, task, 2.0, np.linalg.inv(task[3]))
    assert history[0, 1] > 1
    assert history[-1, 1] < 1e-12 and history[-1, 0] < 1e-11 * history[0, 0]
    np.testing.assert_allclose(W, task[2], rtol=0, atol=1e-11)


def test_plain_descent_does_not(nb, task):
    """At half the largest rate; it is also that of the identity in place of A^-1."""
    rate = 5 / np.linalg.eigvalsh(task[3])[-1]
    plain, W = descend(nb, task, rate, None)
    assert 0.1 < plain[-1, 1] < plain[0, 1]
    same, same_W = descend(nb, task, rate, np.eye(75))
    np.testing.assert_allclose(same, plain, rtol=1e-10)
    np.testing.assert_allclose(same_W, W, rtol=1e-10, atol=1e-12)
