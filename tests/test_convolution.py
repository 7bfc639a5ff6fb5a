"""Question 4: outputs against SciPy; CIFAR-10's files."""

import pickle
import shutil
from unittest.mock import Mock

import numpy as np
import pytest
from load_definitions import ROOT
from references import assert_convolves, conv2d_by_scipy

SAMPLE = ROOT / "data" / "cifar10_sample.bin"


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_the_layer_agrees_with_scipy(nb, rng, k, stride, padding, dilation):
    geometry = {"stride": stride, "padding": padding, "dilation": dilation}
    assert_convolves(nb.Convolution_Layer, rng, k, **geometry)


def test_the_definition_agrees_with_scipy(nb, rng):
    x, W = rng.standard_normal((2, 2, 7, 8)), rng.standard_normal((3, 2, 3, 3))
    geometry, b = {"stride": 2, "padding": 1, "dilation": 2}, rng.standard_normal(3)
    expected = conv2d_by_scipy(x, W, b, **geometry)
    np.testing.assert_allclose(nb.conv2d_naive(x, W, b, **geometry), expected)


def test_load_cifar_reads_a_complete_file_or_else_the_sample(nb, rng, tmp_path):
    """Three planes, row by row, after each label; also from the sheet's file."""
    shutil.copy(SAMPLE, tmp_path)
    sample = np.fromfile(SAMPLE, np.uint8).reshape(20, 3073)
    records = rng.integers(0, 256, (1002, 3073), np.uint8)
    file = tmp_path / "cifar-10-batches-bin" / "data_batch_1.bin"
    pickled = tmp_path / "cifar-10-batches-py" / "data_batch_1"
    file.parent.mkdir()
    file.write_bytes(records.tobytes()[: 1000 * 3073 - 1])
    for expected in sample, records[:1000], records[1:1001]:
        download = Mock(side_effect=ConnectionError)
        images, labels = nb.load_cifar(tmp_path, download)
        np.testing.assert_array_equal(labels, expected[:, 0])
        pixels = expected[:, 1:].reshape(-1, 3, 32, 32)
        np.testing.assert_allclose(255 * images, pixels, rtol=1e-6)
        if expected is sample:
            file.write_bytes(records.tobytes())
        else:
            pickled.parent.mkdir(exist_ok=True)
            batch = {b"data": records[1:, 1:], b"labels": records[1:, 0].tolist()}
            pickled.write_bytes(pickle.dumps(batch))
