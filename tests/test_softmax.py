"""Question 1's data, model, loss, gradient check, accuracies and intervals."""

import gzip
import math

import numpy as np
import pytest
from conftest import Echo, assert_gradient, assert_seeded, finite_difference, loss_of
from scipy import special

pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.parametrize(("share", "sizes"), [(1.0, (14, 6)), (0.34, (4, 3))])
def test_parts(nb, rng, tmp_path, share, sizes):
    """From 20 + 9 images whose first pixel is their place in the file: pixels and
    labels follow, no image is twice, and the split is random."""
    files = {}
    for prefix, count in ("train", 20), ("t10k", 9):
        images = rng.integers(0, 256, (count, 28, 28)).astype(np.uint8)
        images[:, 0, 0] = np.arange(count)
        files[prefix] = images, rng.integers(0, 10, count).astype(np.uint8)
        for array, kind in zip(
            files[prefix], ("images-idx3", "labels-idx1"), strict=True
        ):
            shape = np.array(array.shape, ">u4").tobytes()
            idx = bytes([0, 0, 8, array.ndim]) + shape + array.tobytes()
            (tmp_path / f"{prefix}-{kind}-ubyte.gz").write_bytes(gzip.compress(idx))

    parts = nb.load_digits(tmp_path, share)
    assert [part.name for part in parts] == ["training", "validation", "test"]
    places = [np.rint(255 * part.x[:, 0]).astype(int).tolist() for part in parts]
    for part, prefix, place in zip(
        parts, ("train", "train", "t10k"), places, strict=True
    ):
        images, labels = files[prefix]
        expected = images.reshape(-1, 784)[place] / 255
        np.testing.assert_allclose(part.x, expected, rtol=1e-6)
        np.testing.assert_array_equal(part.y, labels[place])
        assert part.x.dtype == np.float32 and part.y.dtype == np.int64
    train, valid, test = places
    assert (len(train), len(valid), test) == (*sizes, [*range(9)])
    assert len({*train, *valid}) == sum(sizes) and train != sorted(train)


@pytest.mark.parametrize("batch_size", [1, 4, 23, 24])
def test_minibatches_have_every_sample_once_with_its_label(nb, rng, batch_size):
    x, y = rng.random((23, 2, 3), dtype=np.float32), np.arange(23)
    batches = list(nb.get_minibatch(x, y, batch_size, rng))
    full, rest = divmod(23, batch_size)
    assert [len(y_b) for _, y_b in batches] == [batch_size] * full + [rest] * (rest > 0)
    x_seen, y_seen = map(np.concatenate, zip(*batches, strict=True))
    assert sorted(y_seen) == [*range(23)] != [*y_seen]
    np.testing.assert_array_equal(x_seen, x[y_seen])


def test_order_and_weights_come_from_the_seed_or_generator(nb):
    y = np.arange(50)

    def order(rng):
        return np.concatenate([y_b for _, y_b in nb.get_minibatch(y, y, 8, rng)])

    assert_seeded(order)
    assert_seeded(lambda rng: nb.Single_layer_classifier(5, 4, rng=rng).W)
    weights = nb.new_softmax(std=0.05, rng=0).W
    assert (weights.shape, weights.dtype) == ((784, 10), np.float32)
    assert weights.std() == pytest.approx(0.05, rel=0.03)
    assert abs(weights.mean()) < 0.0015 and abs(weights).max() > 0.15


@pytest.mark.parametrize(
    ("dtype", "scale", "rtol"),
    [(np.float64, 3, 1e-12), (np.float64, 1e4, 1e-12), (np.float32, 1e4, 1e-6)],
)
def test_loss_and_gradient_are_scipys(nb, rng, dtype, scale, rtol):
    """However large the scores; each row has its own largest."""
    scores = scale * rng.standard_normal((7, 4)) * [[1], [9], [1], [0], [2], [5], [1]]
    scores, y = scores.astype(dtype), rng.integers(0, 4, 7)
    logs = special.log_softmax(scores.astype(float), axis=1)
    grad = (np.exp(logs) - np.eye(4)[y]) / 7
    np.testing.assert_allclose(nb.softmax(scores), np.exp(logs), rtol, atol=1e-30)
    loss = nb.loss_function(y, scores)
    assert loss == pytest.approx(-np.mean(logs[np.arange(7), y]), rel=rtol)
    assert type(loss) is float
    found = nb.loss_backward(y, scores)
    np.testing.assert_allclose(found, grad, rtol, atol=1e-15)
    assert found.dtype == dtype


WRONG = [0, -1, 2], [0, 3, 1], [0, 1], [0.0, 1.0, 2.0], [True] * 3


@pytest.mark.parametrize("labels", WRONG, ids=str)
def test_labels_that_are_refused(nb, rng, labels):
    """NumPy takes -1 for the last class, and booleans for a mask."""
    for function in nb.loss_function, nb.loss_backward:
        with pytest.raises((AssertionError, IndexError)):
            function(np.array(labels), rng.standard_normal((3, 3)))


@pytest.mark.parametrize("lam", [0.0, 0.3])
def test_classifier(nb, rng, lam):
    """Scores without a bias; gradients of loss, sum of W squared, both together."""
    model = nb.Single_layer_classifier(5, 4, std=1, rng=rng, dtype=np.float64)
    x, y = rng.standard_normal((7, 5)), rng.integers(0, 4, 7)
    scores = np.einsum("ni,im->nm", x, model.W)
    np.testing.assert_allclose(model.forward(x), scores, rtol=1e-12)

    def loss():
        return nb.loss_function(y, model.forward(x))

    def square():
        return np.sum(model.W**2)

    grad = nb.loss_backward(y, scores)
    assert_gradient(model.backward_Ldata(grad), finite_difference(loss, model.W))
    assert_gradient(model.backward_Lreg(), finite_difference(square, model.W))
    model.backward(grad, lam)
    both = finite_difference(lambda: loss() + lam * square(), model.W)
    assert_gradient(model.grad_W, both)
    ((value, gradient),) = model.parameters()
    assert value is model.W and gradient is model.grad_W


def test_gradient_check_has_a_bound_of_1e_7(nb, rng, capsys):
    """It prints the relative error, fails above the bound, and keeps the array."""
    array = rng.standard_normal((3, 4))
    right = np.cos(array)

    def check(wrong):
        gradient = right * (1 + 2 * wrong)  # a relative error of |wrong|
        nb.check_gradient("sine", lambda: np.sum(np.sin(array)), array, gradient)

    check(0.5e-7)
    assert "5.0e-08" in capsys.readouterr().out
    np.testing.assert_array_equal(np.cos(array), right)
    for wrong in 2e-7, -2e-7, 1e-3, -1, np.nan:
        with pytest.raises(AssertionError, match="sine"):
            check(wrong)
    for size, wrong in (1, np.ones((1, 4))), (1e-9, np.full((3, 4), 1.001e-9)):
        with pytest.raises(AssertionError):  # of another shape; small and wrong
            nb.check_gradient("", lambda size=size: size * np.sum(array), array, wrong)


def test_scores_come_in_chunks_and_are_judged_together(nb, rng):
    x, y, echo = rng.standard_normal((2600, 3)), rng.integers(0, 3, 2600), Echo()
    loss, accuracy = nb.evaluate(echo, nb.Part(x, y, ""))
    assert sum(echo.counts) == 2600 and max(echo.counts) <= 1000
    assert loss == pytest.approx(loss_of(x, y), rel=1e-12)
    assert accuracy == 100 * np.mean(x.argmax(axis=1) == y)
    np.testing.assert_array_equal(nb.predict(echo, x), x.argmax(axis=1))


@pytest.mark.parametrize(("right", "count"), [(0, 20), (9, 10), (9257, 10000)])
def test_interval_is_wilsons(nb, right, count):
    """The two true accuracies that are 1.96 standard errors from the measured one."""
    hits = np.random.default_rng(0).permutation(count) < right
    found, low, high = nb.interval(hits)
    assert found == pytest.approx(100 * right / count)
    for end in low, high:
        error = math.sqrt(end * (100 - end) / count)
        assert abs(found - end) == pytest.approx(1.959964 * error, abs=1e-5)
    assert low - 1e-9 <= found < high
    text = nb.interval_text(hits)
    assert all(f"{abs(number):.2f}" in text for number in (found, low, high))
