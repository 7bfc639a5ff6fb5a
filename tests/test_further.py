"""Further: distorted digits, against SciPy. (Its faster convolution, rules and ConvNet
are in test_convolution.py, test_filters.py and test_layers.py.)

Speaks when pixels move another way than their arrows say, when distortions are larger
than the text says, or when they repeat, lose their labels or ignore the seed."""

import numpy as np
import pytest
from conftest import assert_seeded
from scipy.ndimage import map_coordinates

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


@pytest.mark.parametrize("reach", [0.0, 0.8, 2.5, 60.0])
def test_warp_reads_against_the_arrows(nb, rng, reach):
    """Linear between pixels, and 0 outside."""
    images = rng.random((3, 784), dtype=np.float32)
    field = rng.uniform(-reach, reach, (2, 3, 784)).astype(np.float32)
    given = images.copy(), field.copy()
    found = nb.warp(images, field)
    assert found.dtype == np.float32
    for n, image in enumerate(images.reshape(3, 28, 28)):
        places = np.indices((28, 28)) - field[:, n].reshape(2, 28, 28)
        expected = map_coordinates(image, places, order=1, mode="grid-constant")
        np.testing.assert_allclose(found[n].reshape(28, 28), expected, atol=1e-4)
    np.testing.assert_array_equal(images, given[0])
    np.testing.assert_array_equal(field, given[1])


def test_whole_pixels_move_along_the_arrow(nb):
    """An arrow of 2 down and 3 right; what leaves the image is gone."""
    images = np.zeros((2, 28, 28), np.float32)
    images[0, 10, 12] = images[1, 26, 20] = images[1, 0, 0] = 1
    arrows = np.ones((2, 2, 784), np.float32) * np.float32([[[2]], [[3]]])
    found = nb.warp(images.reshape(2, 784), arrows).reshape(2, 28, 28)
    assert np.argwhere(found > 1e-4).tolist() == [[0, 12, 15], [1, 2, 3]]
    np.testing.assert_allclose(found.sum(axis=(1, 2)), 1, rtol=1e-4)


def test_displacement_basis(nb):
    """Bumps with squares that add up to 1 at each pixel, smooth over 6 pixels: noise
    spread by a Gaussian is correlated as exp(-distance^2 / 4 sigma^2)."""
    bumps, affine = np.split(nb.displacement_basis().astype(float), [-3])
    covariance = bumps.T @ bumps
    np.testing.assert_allclose(np.diag(covariance), 1, atol=1e-5)
    row, column = places = np.indices((28, 28)).reshape(2, -1)
    distance = np.linalg.norm(places[:, :, None] - places[:, None], axis=0)
    inner = np.all((places >= 6) & (places < 22), axis=0)
    expected = np.exp(-(distance[inner] ** 2) / (4 * 6**2))
    np.testing.assert_allclose(covariance[inner], expected, atol=0.06)
    expected = [row - 13.5, column - 13.5, np.ones(784)]
    np.testing.assert_allclose(affine, expected, rtol=1e-6)


DEFAULT = {"elastic": 1.2, "affine": (0.15, 0.15, 1.0)}  # as in the text


@pytest.mark.parametrize("given", [{}, {"elastic": 0.5, "affine": (0.3, 0.2, 2.0)}])
def test_sizes_of_the_distortions(nb, monkeypatch, given):
    """Bumps normal, affine part uniform, each independent of all others: found again
    from the arrows that warp is given."""
    arrows, warp = [], nb.warp
    monkeypatch.setattr(
        nb, "warp", lambda x, field: arrows.append(field) or warp(x, field)
    )
    x = np.ones((600, 784), np.float32)
    for x_b, _ in nb.distorted_minibatch(x, np.arange(600), 200, 0, **given):
        assert x_b.dtype == np.float32
    flat = np.concatenate(arrows, axis=1).reshape(1200, 784).astype(float)
    basis = nb.displacement_basis().astype(float)
    found = np.linalg.lstsq(basis.T, flat.T, rcond=None)[0]
    np.testing.assert_allclose(found.T @ basis, flat, atol=1e-3)
    found = found.reshape(len(basis), 2, 600)  # (field, down or right, image)
    elastic, affine = (DEFAULT | given).values()
    assert found[:-3].std(axis=(0, 2)) == pytest.approx([elastic] * 2, rel=0.03)
    assert np.abs(found[:-3]).max() > 3 * elastic
    for values, largest in zip(found[-3:], affine, strict=True):
        assert np.abs(values).max(axis=1) == pytest.approx([largest] * 2, rel=0.02)
        assert values.std(axis=1) == pytest.approx([largest / 3**0.5] * 2, rel=0.08)
    rows = found.reshape(-1, 600)
    assert np.abs(np.corrcoef(rows) - np.eye(len(rows))).max() < 0.25


def test_every_image_once_with_its_label_and_new_each_time(nb, rng):
    """An image of one grey keeps it in the middle."""
    x = np.repeat(np.linspace(0.1, 1, 25, dtype=np.float32)[:, None], 784, axis=1)
    batches = list(nb.distorted_minibatch(x, np.arange(25), 10, 0))
    assert [len(y_b) for _, y_b in batches] == [10, 10, 5]
    seen, order = map(np.concatenate, zip(*batches, strict=True))
    assert sorted(order) == list(range(25)) != list(order)
    np.testing.assert_allclose(seen[:, 14 * 28 + 14], x[order, 0], rtol=1e-4)
    same = np.repeat(rng.random((1, 784), dtype=np.float32), 6, axis=0)

    def distorted(rng):
        batches = nb.distorted_minibatch(same, np.arange(6), 3, rng)
        return np.concatenate([x_b for x_b, _ in batches])

    assert_seeded(distorted)
    seen = np.concatenate([same[:1], distorted(rng), distorted(rng)])
    different = np.abs(seen[:, None] - seen).mean(axis=2)
    assert different[~np.eye(13, dtype=bool)].min() > 0.02
