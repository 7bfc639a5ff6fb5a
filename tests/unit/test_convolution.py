"""Question 4 and its fast layer: outputs against SciPy; CIFAR-10's files."""

import hashlib
import shutil
import tarfile
from functools import partial
from unittest.mock import Mock

import numpy as np
import pytest
from paths import ROOT
from scipy.signal import correlate


def conv2d_by_scipy(x, W, b, stride, padding, dilation):
    """A dense correlation with zeros between the weights; then every stride-th output
    is kept."""
    span = dilation * (W.shape[2] - 1) + 1
    spread = np.zeros((*W.shape[:2], span, span))
    spread[:, :, ::dilation, ::dilation] = W
    x = np.pad(x, [(0, 0), (0, 0), (padding, padding), (padding, padding)])
    outputs = [
        [correlate(image, filter_, "valid", "direct")[0] for filter_ in spread]
        for image in x
    ]
    return np.array(outputs)[:, :, ::stride, ::stride] + b[:, None, None]


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_outputs_agree_with_scipy(nb, rng, k, stride, padding, dilation):
    """The last rows and columns of an image are not always read."""
    geometry = {"stride": stride, "padding": padding, "dilation": dilation}
    x, W = rng.standard_normal((2, 2, 7, 8)), rng.standard_normal((3, 2, k, k))
    b = rng.standard_normal(3)
    outputs = [nb.conv2d_naive(x, W, b, **geometry)]
    for layer_class in nb.Convolution_Layer, nb.Fast_Convolution_Layer:
        layer = layer_class(2, 3, k, dtype=np.float64, **geometry)
        layer.set_weights(W)
        layer.b[:] = b
        outputs.append(layer.forward(x))
    expected = conv2d_by_scipy(x, W, b, **geometry)
    for output in outputs:
        np.testing.assert_allclose(output, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["Convolution_Layer", "Fast_Convolution_Layer"])
def test_a_float32_layer_computes_in_float32_and_copies_its_weights(nb, rng, kind):
    layer = getattr(nb, kind)(2, 3, 3, padding=1)
    weights = rng.random((3, 2, 3, 3))
    layer.set_weights(weights)
    output = layer.forward(rng.random((2, 2, 6, 5)))
    weights[:] = 0
    assert layer.W.all()
    layer.backward(output)
    for array in output, layer.grad_W, layer.grad_input:
        assert array.dtype == np.float32


SAMPLE = ROOT / "data" / "cifar10_sample.bin"
BATCH = "cifar-10-batches-bin/data_batch_1.bin"
fail_to_download = Mock(side_effect=ConnectionError)
RECORDS = np.random.default_rng(0).integers(0, 256, (1002, 3073), np.uint8)


def assert_images_of(images, labels, records):
    """Assert that these are the images of the records: three planes, row by row."""
    np.testing.assert_array_equal(labels, records[:, 0])
    expected = records[:, 1:].reshape(-1, 3, 32, 32)
    np.testing.assert_allclose(255 * images, expected, rtol=1e-6)


@pytest.fixture
def folder(tmp_path):
    """A data folder that has only the sample."""
    (tmp_path / "data").mkdir()
    shutil.copy(SAMPLE, tmp_path / "data")
    return tmp_path / "data"


def write_batch(folder, size=None):
    """Write the records, or their first bytes, to the file of CIFAR-10."""
    (folder / BATCH).parent.mkdir(parents=True, exist_ok=True)
    (folder / BATCH).write_bytes(RECORDS.tobytes()[:size])


def test_load_cifar_reads_a_complete_file_loads_it_again_or_takes_the_sample(
    nb, folder, capsys
):
    sample = np.fromfile(SAMPLE, np.uint8).reshape(20, 3073)
    assert_images_of(*nb.load_cifar(str(folder), fail_to_download), sample)
    write_batch(folder, 1000 * 3073 - 1)
    assert_images_of(*nb.load_cifar(folder, fail_to_download), sample)
    assert capsys.readouterr().out.count(BATCH) == 2
    assert_images_of(*nb.load_cifar(folder, write_batch), RECORDS[:1000])
    assert_images_of(*nb.load_cifar(folder, fail_to_download), RECORDS[:1000])


def test_load_cifar_unpacks_one_file_of_the_archive(nb, folder):
    """An archive with the known hash is not downloaded again."""
    unpacked, archive = folder.parent / "unpacked", folder / "archive.tar.gz"
    write_batch(unpacked)
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add((unpacked / BATCH).parent, arcname="cifar-10-batches-bin")
    known_hash = "md5:" + hashlib.md5(archive.read_bytes()).hexdigest()
    url = f"http://127.0.0.1:9/{archive.name}"  # where nobody answers
    download = partial(nb.download_cifar, url=url, known_hash=known_hash)
    assert_images_of(*nb.load_cifar(folder, download), RECORDS[:1000])
