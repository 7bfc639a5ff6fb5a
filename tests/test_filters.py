"""Question 5: the L2 loss, the given filters, the rules of descent (those of Further
too), and `descend`, against formulas of their own."""

from functools import partial

import numpy as np
import pytest
from conftest import patches_of

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


@pytest.mark.parametrize("scale", [1.0, 1e-100, 1e100])
def test_l2_loss_of_3_and_4_is_5(nb, scale):
    """The gradient has length 1, at a small distance as at a large one."""
    l2 = nb.L2_loss()
    distance = l2.forward(scale * np.array([[1], [2]]), scale * np.array([[4], [-2]]))
    assert type(distance) is float
    assert distance == pytest.approx(5 * scale, rel=1e-12, abs=0)
    np.testing.assert_allclose(l2.backward(), [[0.6], [-0.8]], rtol=1e-12)
    np.testing.assert_allclose(l2.backward(output_grad=-5.0), [[-3], [4]], rtol=1e-12)


@pytest.mark.parametrize(("target", "output"), [(3, 5), (5, 3), (4, 4)])
def test_l2_loss_of_bytes_at_distance_0_and_of_other_shapes(nb, target, output):
    """3 - 5 is not 254; at distance 0 the gradient is 0."""
    l2, arrays = nb.L2_loss(), np.array([[target], [output]], np.uint8)
    assert l2.forward(*arrays) == abs(output - target)
    np.testing.assert_array_equal(l2.backward(2.0), [2 * np.sign(output - target)])
    for shape in (2, 1), (3,), (1, 2, 3), ():  # these would broadcast
        with pytest.raises(ValueError):
            l2.forward(np.zeros((2, 3)), np.zeros(shape))


@pytest.mark.parametrize(
    "wrong", [[1, np.nan], [-np.inf, 1], [0, 0], [1], [[1, 2]], np.ones(2, object)]
)
def test_load_filters(nb, tmp_path, wrong):
    np.save(tmp_path / "w.npy", np.float32([0, 3]))
    found = nb.load_filters(tmp_path / "w.npy", (2,))
    np.testing.assert_array_equal(found, [0, 3])
    assert found.dtype == np.float64
    np.save(tmp_path / "w.npy", wrong)
    with pytest.raises(ValueError):
        nb.load_filters(tmp_path / "w.npy", (2,))
    (tmp_path / "w.npy").write_text("0 3")
    with pytest.raises(ValueError, match="magic string"):  # no unsafe advice
        nb.load_filters(tmp_path / "w.npy", (2,))


def test_rules_against_sums_over_all_gradients(nb, rng):
    """Seven gradients of two filters of four weights; some are tiny. Momentum is a sum
    that forgets; Adam's means have weights that fall by 0.9 and 0.999 into the past,
    and add up to 1."""
    gradients = rng.standard_normal((7, 2, 1, 2, 2)) * [[1.0, 1e-8], [1e3, 1e-4]]
    root = rng.standard_normal((4, 4))
    A = root @ root.T + np.eye(4)
    rules = nb.Plain(0.25), nb.Momentum(0.25), nb.Adam(0.25), nb.Whitened(0.25, A)
    steps = [[rule(gradient) for gradient in gradients] for rule in rules]
    for t, (plain, momentum, adam, whitened) in enumerate(zip(*steps, strict=True)):
        age, past = np.arange(t, -1, -1), gradients[: t + 1]
        mean = np.average(past, axis=0, weights=0.9**age)
        square = np.average(past**2, axis=0, weights=0.999**age)
        np.testing.assert_allclose(plain, 0.25 * past[-1], rtol=1e-9)
        expected = 0.25 * np.tensordot(0.9**age, past, axes=1)
        np.testing.assert_allclose(momentum, expected, rtol=1e-9)
        expected = 0.25 * mean / (np.sqrt(square) + 1e-8)
        np.testing.assert_allclose(adam, expected, rtol=1e-9)
        undone = (whitened.reshape(2, 4) @ A).reshape(past[-1].shape)
        np.testing.assert_allclose(undone, 0.25 * past[-1], rtol=0, atol=1e-9)
    for A in root[:, :3] @ root[:, :3].T, np.ones((4, 4)):  # a direction is missing
        with pytest.raises(np.linalg.LinAlgError):
            nb.Whitened(0.25, A)


@pytest.mark.parametrize("squared", [True, False])
def test_descend(nb, rng, monkeypatch, squared):
    """With momentum, in its own mini-batches, by the gradient of a regression on
    patches."""
    seen, draw = [], nb.get_minibatch

    def recorded(*given):
        seen.extend(draw(*given))
        return seen[-5:]

    monkeypatch.setattr(nb, "get_minibatch", recorded)
    given = {"bias": False, "dtype": np.float64, "rng": rng}
    layer, hidden = (nb.Convolution_Layer(2, 3, 2, **given) for _ in range(2))
    x, W0 = rng.random((41, 2, 6, 5)), hidden.W
    target = hidden.forward(x)
    start, watch = layer.W.copy(), partial(nb.measure, x=x, target=target, W0=W0)
    given = {"passes": 3} if squared else {"passes": 3, "squared": False}
    C, history = nb.descend(layer, x, target, nb.Momentum(1e-3), watch=watch, **given)
    assert C is layer
    assert layer.grad_input is None  # nobody needs it
    assert [len(x_b) for x_b, _ in seen] == 3 * [9, 9, 9, 9, 5]
    first, second, _ = np.split(np.concatenate([x_b for x_b, _ in seen]), 3)
    assert not np.array_equal(first, second)  # a fresh order
    np.testing.assert_array_equal(np.sort(first, axis=0), np.sort(x, axis=0))

    def residual(x, target):
        return patches_of(x, 2) @ W.T - target.transpose(0, 2, 3, 1).reshape(-1, 3)

    W, velocity, expected = start.reshape(3, 8), 0, []
    for step, (x_b, target_b) in enumerate([*seen, (x, target)]):
        if step % 5 == 0:
            error = np.linalg.norm(W - W0.reshape(3, 8)) / np.linalg.norm(W0)
            expected.append((np.linalg.norm(residual(x, target)), error))
        if step < 15:
            delta = residual(x_b, target_b)
            size = 1 if squared else np.linalg.norm(delta)
            velocity = 0.9 * velocity + 1e-3 * delta.T @ patches_of(x_b, 2) / size
            W = W - velocity
    found = [(measured.distance, measured.error) for measured in history]
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    np.testing.assert_allclose(C.W.reshape(3, 8), W, rtol=0, atol=1e-9)
    np.testing.assert_array_equal([history[0].W, history[-1].W], [start, C.W])
    mean = np.mean([distance for distance, _ in expected[-2:]])
    assert nb.mean_distance(history, 2) == pytest.approx(mean)
    with pytest.raises(ValueError):  # the rule has no steps for a bias
        nb.descend(nb.Convolution_Layer(2, 3, 2), x, target, nb.Plain(1e-3))
