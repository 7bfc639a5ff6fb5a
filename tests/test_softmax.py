"""Question 1's data, classifier, loss, gradient check and accuracies."""

import gzip

import numpy as np
import pytest
from references import loss_of
from scipy import special

pytestmark = pytest.mark.filterwarnings("error")


def write_idx(path, array):
    """Write an array of bytes in MNIST's file format, IDX."""
    shape = np.array(array.shape, ">u4").tobytes()
    header = bytes([0, 0, 8, array.ndim]) + shape
    path.write_bytes(gzip.compress(header + array.tobytes()))


def test_load_mnist_splits_at_random_and_keeps_each_label_with_its_image(
    nb, rng, tmp_path
):
    """The first pixel of each image is its position in the file."""
    files = {}
    for prefix, count in ("train", 20), ("t10k", 9):
        images = rng.integers(0, 256, (count, 28, 28)).astype(np.uint8)
        images[:, 0, 0] = np.arange(count)
        labels = rng.integers(0, 10, count).astype(np.uint8)
        files[prefix] = images.reshape(-1, 784), labels
        write_idx(tmp_path / f"{prefix}-images-idx3-ubyte.gz", images)
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte.gz", labels)
    positions, parts = [], (files["train"], files["train"], files["t10k"])
    for data, (images, labels) in zip(nb.load_mnist(tmp_path), parts, strict=True):
        picked = np.rint(255 * data.x[:, 0]).astype(int)
        np.testing.assert_allclose(data.x, images[picked] / 255, rtol=1e-6)
        np.testing.assert_array_equal(data.y, labels[picked])
        assert (data.x.dtype, data.y.dtype) == (np.float32, np.int64)
        positions.append(picked.tolist())
    train, validation, test = positions
    assert (len(train), len(validation)) == (14, 6)
    assert sorted(train + validation) == [*range(20)]
    assert train != sorted(train)
    assert test == [*range(9)], "the test set is the whole file, in order"


@pytest.mark.parametrize("batch_size", [1, 4, 23, 24])
def test_minibatches_have_every_sample_once_with_its_label(nb, rng, batch_size):
    """In another order in the next epoch."""
    x, y = rng.random((23, 2, 3), dtype=np.float32), np.arange(23)
    batches = list(nb.get_minibatch(x, y, batch_size, rng))
    full, rest = divmod(23, batch_size)
    sizes = [len(y_b) for _, y_b in batches]
    assert sizes == [batch_size] * full + [rest] * (rest > 0)
    all_x, all_y = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
    assert sorted(all_y) == [*range(23)]
    np.testing.assert_array_equal(all_x, x[all_y])
    next_y = np.concatenate([y for _, y in nb.get_minibatch(x, y, batch_size, rng)])
    assert next_y.tolist() != all_y.tolist()


@pytest.mark.parametrize(
    ("dtype", "scale", "rtol"),
    [(np.float64, 3, 1e-12), (np.float64, 1e4, 1e-12), (np.float32, 1e4, 1e-6)],
)
def test_loss_and_its_gradient_agree_with_scipy(nb, rng, dtype, scale, rtol):
    """However large the scores are; each row has its own largest score."""
    row_scales = [[1], [9], [1], [0], [2], [5], [1]]
    scores = (scale * rng.standard_normal((7, 4)) * row_scales).astype(dtype)
    y = rng.integers(0, 4, 7)
    p = special.softmax(scores.astype(float), axis=1)

    np.testing.assert_allclose(nb.softmax(scores), p, rtol, atol=1e-30)
    loss = nb.loss_function(y, scores)
    assert loss == pytest.approx(loss_of(scores.astype(float), y), rel=rtol)
    assert type(loss) is float
    gradient = nb.loss_backward(y, scores)
    np.testing.assert_allclose(gradient, (p - np.eye(4)[y]) / 7, rtol, atol=1e-15)
    assert gradient.dtype == dtype


def test_numerical_gradient_agrees_with_derivatives(nb, rng):
    """All tests of gradients rely on it; the array is left as it was."""
    x, y = rng.uniform(0.5, 2, (2, 3, 4))
    before = x.copy()
    numerical = nb.numerical_gradient(lambda: np.sum(y * np.log(x) + np.sin(x)), x)
    np.testing.assert_allclose(numerical, y / x + np.cos(x), rtol=1e-7)
    with pytest.raises(ZeroDivisionError):
        nb.numerical_gradient(lambda: 1 / 0, x)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("relative_error", [2e-7, -2e-7, -1, np.nan])
def test_check_gradient_fails_above_1e_7(nb, rng, relative_error):
    x = rng.standard_normal((3, 4))
    wrong = np.cos(x) * (1 + 2 * relative_error)
    with pytest.raises(AssertionError, match="sine"):
        nb.check_gradient("sine", lambda: np.sum(np.sin(x)), x, wrong)
