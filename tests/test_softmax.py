"""Question 1's data, model, loss, gradient check, accuracies and statistics."""

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
        labels = rng.integers(0, 10, count).astype(np.uint8)
        files[prefix] = images.reshape(-1, 784), labels
        for array, ending in (images, "images-idx3"), (labels, "labels-idx1"):
            shape = np.array(array.shape, ">u4").tobytes()
            idx = bytes([0, 0, 8, array.ndim]) + shape + array.tobytes()
            (tmp_path / f"{prefix}-{ending}-ubyte.gz").write_bytes(gzip.compress(idx))

    parts = nb.load_digits(tmp_path, share)
    assert [part.name for part in parts] == ["training", "validation", "test"]
    assert [len(part.y) for part in parts] == [*sizes, 9]
    places = []
    for part, prefix in zip(parts, ("train", "train", "t10k"), strict=True):
        images, labels = files[prefix]
        place = np.rint(255 * part.x[:, 0]).astype(int)
        np.testing.assert_allclose(part.x, images[place] / 255, rtol=1e-6)
        np.testing.assert_array_equal(part.y, labels[place])
        assert part.x.dtype == np.float32 and part.y.dtype == np.int64
        places.append(place.tolist())
    train, valid, test = places
    assert len({*train, *valid}) == sum(sizes) and test == [*range(9)]
    assert train != sorted(train)


@pytest.mark.parametrize(
    ("shape", "share", "told"),
    [((3, 28, 28), 1, "2 labels for 3 images"), ((2, 9, 9), 1, r"\(9, 9\)")]
    + [((2, 28, 28), share, "share") for share in (-0.5, 0, 1.5, math.nan)],
)
def test_data_that_make_no_sense(nb, monkeypatch, shape, share, told):
    files = {"images": np.zeros(shape, np.uint8), "labels": np.zeros(2, np.uint8)}
    monkeypatch.setattr(nb, "read_idx", lambda path: files[path.split("-")[1]])
    with pytest.raises(ValueError, match=told):
        nb.load_digits("folder", share)


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


def test_labels_and_batch_sizes_that_are_wrong(nb, rng):
    """Negative labels would count from the end, a column would broadcast."""
    for labels in [0, -1, 2], [0, 1], [0, 1, 2, 3], [[0], [1], [2]], np.eye(4):
        with pytest.raises(ValueError):
            nb.loss_function(np.array(labels, int), rng.standard_normal((3, 4)))
    for labels, size in (4, 0), (4, -1), (5, 2), (3, 2):
        with pytest.raises(ValueError):
            next(nb.get_minibatch(np.zeros((4, 2)), np.zeros(labels, int), size, 0))


@pytest.mark.parametrize("lam", [0.0, 0.3])
def test_classifier(nb, rng, lam):
    """Scores without a bias; gradients of the mean loss, of the sum of W squared, and
    of both together."""
    model = nb.Single_layer_classifier(5, 4, std=1, rng=rng, dtype=np.float64)
    x, y = rng.standard_normal((7, 5)), rng.integers(0, 4, 7)
    scores = np.einsum("ni,im->nm", x, model.W)
    np.testing.assert_allclose(model.forward(x), scores, rtol=1e-12)

    def loss():
        return nb.loss_function(y, model.forward(x))

    def square():
        return np.sum(model.W**2)

    grad = nb.loss_backward(y, scores)
    of_square = finite_difference(square, model.W)
    of_both = finite_difference(lambda: loss() + lam * square(), model.W)
    assert_gradient(model.backward_Ldata(grad), finite_difference(loss, model.W))
    assert_gradient(model.backward_Lreg(), of_square)
    model.backward(grad, lam)
    assert_gradient(model.grad_W, of_both)
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
    assert "sine" in (line := capsys.readouterr().out) and "5.0e-08" in line
    np.testing.assert_array_equal(np.cos(array), right)
    for wrong in 2e-7, -2e-7, 1e-3, -1, np.nan:
        with pytest.raises(AssertionError, match="sine"):
            check(wrong)


def test_scores_come_in_chunks_and_are_judged_together(nb, rng):
    x, y, echo = rng.standard_normal((2500, 3)), rng.integers(0, 3, 2500), Echo()
    loss, accuracy = nb.evaluate(echo, nb.Part(x, y, ""))
    assert sum(echo.counts) == 2500 and max(echo.counts) == 250
    assert loss == pytest.approx(loss_of(x, y), rel=1e-12)
    assert accuracy == np.mean(x.argmax(axis=1) == y) and type(accuracy) is float
    np.testing.assert_array_equal(nb.predict(echo, x), x.argmax(axis=1))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_have_overflowed_have_no_accuracy(nb, bad):
    """argmax alone would take such an image for right."""
    part = nb.Part(np.array([[bad, 0], [0, 1.0]]), np.array([0, 1]), "")
    with np.errstate(invalid="ignore"):
        assert math.isnan(nb.evaluate(Echo(), part)[1])
    assert nb.predict(Echo(), part.x).tolist() == [-1, 1]
