"""Question 4 and its fast layer: outputs against SciPy; CIFAR-10's files."""

import hashlib
import shutil
import tarfile
from functools import partial

import numpy as np
import pytest
from load_definitions import ROOT, definition_source
from scipy.signal import correlate
from small_run import assert_reported, code_cells

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

both_layers = pytest.mark.parametrize(
    "kind", ["Convolution_Layer", "Fast_Convolution_Layer"]
)


# Layers


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


@both_layers
def test_float64_images_give_float32_in_a_float32_layer(nb, rng, kind):
    layer = getattr(nb, kind)(2, 3, 3, padding=1)
    output = layer.forward(rng.random((2, 2, 6, 5)))
    assert output.dtype == np.float32
    layer.backward(output)
    assert layer.grad_W.dtype == layer.grad_input.dtype == np.float32


@both_layers
@pytest.mark.parametrize(
    "shape",
    [(4, 1, 8, 8), (4, 3, 8, 8), (4, 2, 8, 2)],
    ids=["one channel", "three channels", "too narrow"],
)
def test_layers_refuse_wrong_images(nb, kind, shape):
    """With other channels, which might broadcast, or smaller than the filter."""
    layer = getattr(nb, kind)(2, 3, 3)
    x = np.zeros(shape)
    with pytest.raises(AssertionError):
        layer.forward(x)
    with pytest.raises(AssertionError):
        nb.conv2d_naive(x, layer.W, layer.b)


@both_layers
@pytest.mark.parametrize(
    "shape", [(2, 3, 6, 4), (2, 3, 5, 6), (1, 3, 4, 6), (2, 1, 4, 6)]
)
def test_layers_refuse_a_gradient_of_another_shape(nb, kind, shape):
    """Their output has the shape (2, 3, 4, 6)."""
    layer = getattr(nb, kind)(2, 3, 3)
    layer.backward(layer.forward(np.zeros((2, 2, 6, 8))))
    with pytest.raises(AssertionError, match="4, 6"):
        layer.backward(np.zeros(shape))


@pytest.mark.parametrize(
    ("size", "geometry"), [(12, {}), (13, {"stride": 2}), (13, {"dilation": 2})]
)
def test_blur_refuses_a_layer_that_changes_the_size(nb, rng, size, geometry):
    layer = nb.Convolution_Layer(3, 3, size, bias=False, **geometry)
    with pytest.raises(AssertionError, match="same size"):
        nb.blur(rng.random((2, 3, 32, 32)), layer)


def test_set_weights_copies_the_weights(nb, rng):
    layer, weights = nb.Convolution_Layer(2, 3, 3), rng.random((3, 2, 3, 3), np.float32)
    layer.set_weights(weights)
    expected = weights.copy()
    weights[:] = 0
    np.testing.assert_array_equal(layer.W, expected)


@both_layers
@pytest.mark.parametrize(
    "shape", [(3, 2, 3, 4), (2, 3, 3, 3), (1, 2, 3, 3), (3, 1, 1, 1), ()], ids=str
)
def test_set_weights_refuses_another_shape(nb, kind, shape):
    layer = getattr(nb, kind)(2, 3, 3)
    with pytest.raises(AssertionError):
        layer.set_weights(np.zeros(shape))


# CIFAR-10

SAMPLE = ROOT / "data" / "cifar10_sample.bin"
BATCH = "cifar-10-batches-bin/data_batch_1.bin"
RECORDS = np.random.default_rng(0).integers(0, 256, (1002, 3073), np.uint8)
RECORDS[:, 0] = np.arange(1002) % 10


def assert_images_of(images, labels, records):
    """Assert that these are the images of the records: three planes, row by row."""
    assert images.shape == (len(records), 3, 32, 32)
    np.testing.assert_array_equal(labels, records[:, 0])
    for channel, row, column in (0, 31, 0), (1, 4, 6), (2, 5, 7):
        pixels = 255 * images[:, channel, row, column]
        byte = 1 + 1024 * channel + 32 * row + column
        np.testing.assert_allclose(pixels, records[:, byte], rtol=1e-6)


@pytest.fixture
def folder(tmp_path):
    """A data folder that has only the sample."""
    (tmp_path / "data").mkdir()
    shutil.copy(SAMPLE, tmp_path / "data")
    return tmp_path / "data"


def write_batch(folder, size=None):
    """Write the records, or their first bytes, to the file of CIFAR-10."""
    path = folder / BATCH
    path.parent.mkdir(parents=True)
    path.write_bytes(RECORDS.tobytes()[:size])


def fail_to_download(folder):
    raise ConnectionError


def test_load_cifar_reads_a_file_that_exists(nb, folder):
    write_batch(folder)
    images, labels = nb.load_cifar(folder, download=fail_to_download)
    assert_images_of(images, labels, RECORDS[:1000])


@pytest.mark.parametrize("size", [None, 0, 1000 * 3073 - 1])
def test_load_cifar_takes_the_sample_without_a_complete_file(nb, folder, capsys, size):
    """Without a network, or with a file that ends early; and says so."""
    if size is not None:
        write_batch(folder, size)
    images, labels = nb.load_cifar(str(folder), download=fail_to_download)
    assert_images_of(images, labels, np.fromfile(SAMPLE, np.uint8).reshape(20, 3073))
    message = capsys.readouterr().out
    assert "sample" in message and BATCH in message and "delete" in message


def test_load_cifar_loads_an_incomplete_file_again(nb, folder):
    write_batch(folder, 999 * 3073)

    def download(folder):
        (folder / BATCH).write_bytes(RECORDS.tobytes())

    assert_images_of(*nb.load_cifar(folder, download), RECORDS[:1000])


def test_questions_4_and_5_run_with_the_sample_alone(nb, folder, monkeypatch):
    """Section 4.4 reports how many images it compares."""
    shutil.copy(ROOT / "C0_weights.npy", folder.parent)
    monkeypatch.chdir(folder.parent)
    monkeypatch.setattr(nb, "ANSWERS", {})
    load_cifar = partial(nb.load_cifar, download=fail_to_download)
    names = vars(nb) | {"load_cifar": load_cifar}
    for section, cell_id, source in code_cells():
        if "4" < section < "6" and source not in definition_source():
            exec(compile(source, f"<cell {cell_id}>", "exec"), names)
    (answer,) = (nb.ANSWERS[key] for key in nb.ANSWERS if key[0].startswith("4.4"))
    assert_reported([answer], 20)


@pytest.mark.parametrize("size", [None, 3073])
def test_load_cifar_unpacks_one_file_of_the_archive(nb, folder, size):
    """An archive with the known hash is not downloaded again; an incomplete file is
    replaced."""
    if size:
        write_batch(folder, size)
    unpacked, archive = folder.parent / "unpacked", folder / "archive.tar.gz"
    write_batch(unpacked)
    (unpacked / BATCH).with_name("readme.html").write_text("hello")
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add((unpacked / BATCH).parent, arcname="cifar-10-batches-bin")
    known_hash = "md5:" + hashlib.md5(archive.read_bytes()).hexdigest()
    url = f"http://127.0.0.1:9/{archive.name}"  # where nobody answers
    download = partial(nb.download_cifar, url=url, known_hash=known_hash)
    assert_images_of(*nb.load_cifar(folder, download), RECORDS[:1000])
    assert not [*folder.rglob("readme.html")]
