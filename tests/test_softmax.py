"""Question 1's data, classifier, loss, gradient check and accuracies."""

import gzip

import numpy as np
import pytest
from load_definitions import ROOT
from references import loss_of
from scipy import special

MNIST = ROOT / "data" / "mnist"

pytestmark = pytest.mark.filterwarnings("error")


def read_idx(name, header):
    """The bytes after the header of one of MNIST's files."""
    raw = gzip.decompress((MNIST / f"{name}-ubyte.gz").read_bytes())
    return np.frombuffer(raw[header:], np.uint8)


def test_load_mnist_splits_at_random_and_keeps_each_label_with_its_image(nb, tmp_path):
    """From unpacked files with the sheet's names."""
    for file in MNIST.iterdir():
        unpacked = tmp_path / file.stem.replace("-idx", ".idx")
        unpacked.write_bytes(gzip.decompress(file.read_bytes()))
    positions, prefixes = [], ("train", "train", "t10k")
    for data, prefix in zip(nb.load_mnist(tmp_path, 0.01), prefixes, strict=True):
        images = read_idx(f"{prefix}-images-idx3", 16).reshape(-1, 784)
        position = {image.tobytes(): k for k, image in enumerate(images)}
        pixels = np.rint(255 * data.x).astype(np.uint8)
        positions.append([position[image.tobytes()] for image in pixels])
        np.testing.assert_allclose(data.x, pixels / 255, rtol=1e-6)
        labels = read_idx(f"{prefix}-labels-idx1", 8)[positions[-1]]
        np.testing.assert_array_equal(data.y, labels)
        assert (data.x.dtype, data.y.dtype) == (np.float32, np.int64)
    train, validation, test = positions
    assert (len(train), len(validation)) == (420, 180)
    assert train != sorted(train) and not {*train} & {*validation}
    assert test == [*range(10_000)], "the test set is the whole file, in order"


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


@pytest.mark.parametrize("relative_error", [2e-7, -2e-7, -1, np.nan])
def test_check_gradient_fails_above_1e_7(nb, rng, relative_error):
    x = rng.standard_normal((3, 4))
    wrong = np.cos(x) * (1 + 2 * relative_error)
    with pytest.raises(AssertionError, match="sine"):
        nb.check_gradient("sine", lambda: np.sum(np.sin(x)), x, wrong)
