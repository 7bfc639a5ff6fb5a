"""Question 4: outputs against SciPy; CIFAR-10's files."""

import pickle
import shutil
from unittest.mock import Mock

import numpy as np
import pytest
from load_definitions import ROOT
from references import GEOMETRIES, assert_convolves

SAMPLE = ROOT / "data" / "cifar10_sample.bin"


@pytest.mark.parametrize(("k", "stride", "padding", "dilation"), GEOMETRIES)
def test_the_layer_agrees_with_scipy(nb, rng, k, stride, padding, dilation):
    assert_convolves(nb.Convolution_Layer, rng, k, stride, padding, dilation)


def test_the_names_of_cifars_classes_are_in_the_order_of_its_labels(nb):
    names = "airplane automobile bird cat deer dog frog horse ship truck"
    assert " ".join(nb.CIFAR_NAMES) == names


def test_load_cifar_reads_a_complete_file_or_else_the_sample(nb, rng, tmp_path):
    """Three planes, row by row, after each label; also from the sheet's file."""
    shutil.copy(SAMPLE, tmp_path)
    records = rng.integers(0, 256, (1002, 3073), np.uint8)
    file = tmp_path / "cifar-10-batches-bin" / "data_batch_1.bin"
    pickled = tmp_path / "cifar-10-batches-py" / "data_batch_1"

    def assert_loaded(expected):
        images, labels = nb.load_cifar(tmp_path, Mock(side_effect=ConnectionError))
        np.testing.assert_array_equal(labels, expected[:, 0])
        pixels = expected[:, 1:].reshape(-1, 3, 32, 32)
        np.testing.assert_allclose(255 * images, pixels, rtol=1e-6)

    file.parent.mkdir()
    file.write_bytes(records.tobytes()[: 1000 * 3073 - 1])
    assert_loaded(np.fromfile(SAMPLE, np.uint8).reshape(20, 3073))
    file.write_bytes(records.tobytes())
    assert_loaded(records[:1000])
    pickled.parent.mkdir()
    batch = {b"data": records[1:, 1:], b"labels": records[1:, 0].tolist()}
    pickled.write_bytes(pickle.dumps(batch))
    assert_loaded(records[1:1001])
