"""Question 4 and its fast layer: outputs against SciPy, CIFAR-10's bytes."""

import hashlib
import shutil
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from load_definitions import ROOT
from scipy.signal import correlate

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")
KINDS = "Convolution_Layer", "Fast_Convolution_Layer"


def by_scipy(x, W, b, stride, padding, dilation):
    """Zeros between the weights, and all but every stride-th location dropped."""
    span = dilation * (W.shape[2] - 1) + 1
    spread = np.zeros((*W.shape[:2], span, span))
    spread[:, :, ::dilation, ::dilation] = W
    x = np.pad(x, [(0, 0), (0, 0), (padding, padding), (padding, padding)])
    out = [[correlate(maps, w, "valid", "direct")[0] for w in spread] for maps in x]
    return np.array(out)[:, :, ::stride, ::stride] + b[:, None, None]


@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_every_geometry(nb, rng, k, stride, padding, dilation):
    """The definition and both layers; last rows and columns are not always read."""
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    x, W = rng.standard_normal((2, 2, 7, 8)), rng.standard_normal((3, 2, k, k))
    b = rng.standard_normal(3)
    expected = by_scipy(x, W, b, **options)
    found = [nb.convolve_by_definition(x, W, b, **options)]
    grad, grads = rng.standard_normal(expected.shape), []
    for kind in KINDS:
        layer = getattr(nb, kind)(2, 3, k, dtype=np.float64, **options)
        layer.set_weights(W)
        layer.b[:] = b
        found.append(layer.forward(x))
        assert layer.backward(grad) is layer.grad_W
        grads.append((layer.grad_W, layer.grad_b, layer.grad_input))
    for out in found:
        np.testing.assert_allclose(out, expected, rtol=0, atol=1e-12)
    for plain, fast in zip(*grads, strict=True):
        np.testing.assert_allclose(fast, plain, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(4, 1, 8, 8), (4, 3, 8, 8), (4, 2, 8, 2)])
def test_images_that_are_refused(nb, shape):
    """With other channels, which might broadcast, or smaller than the window."""
    x, W = np.zeros(shape), np.zeros((3, 2, 3, 3))
    with pytest.raises(AssertionError):
        nb.convolve_by_definition(x, W, np.zeros(3))
    for kind in KINDS:
        with pytest.raises(AssertionError):
            getattr(nb, kind)(2, 3, 3).forward(x)
    for k, options in (7, {}), (9, {"padding": 1}), (3, {"dilation": 3}):
        assert nb.output_size(7, k, **options) == 1
        with pytest.raises(AssertionError):
            nb.output_size(6, k, **options)


def test_weights_are_copied_and_of_one_shape(nb, rng):
    layer, given = nb.Convolution_Layer(2, 3, 3), rng.random((3, 2, 3, 3), np.float32)
    kept = given.copy()
    layer.set_weights(given)
    given[:] = 0
    for shape in (3, 2, 3, 4), (2, 3, 3, 3), (1, 2, 3, 3), (3, 1, 1, 1), ():
        with pytest.raises(AssertionError):
            layer.set_weights(np.zeros(shape))
    np.testing.assert_array_equal(layer.W, kept)


SAMPLE = ROOT / "data" / "cifar10_sample.bin"
ARCHIVE = "cifar-10-binary.tar.gz"
MEMBER = "cifar-10-batches-bin/data_batch_1.bin"
RECORDS = np.random.default_rng(0).integers(0, 256, (1002, 3073), np.uint8)
RECORDS[:, 0] = np.arange(1002) % 10


def assert_cifar(found, rows):
    """Images and labels are those of the records: three planes, row by row."""
    images, labels = found
    assert images.shape == (len(rows), 3, 32, 32)
    np.testing.assert_array_equal(labels, rows[:, 0])
    pixels = 255 * images[:, [0, 1, 2], [31, 4, 5], [0, 6, 7]]  # of each colour, one
    places = [1 + 31 * 32, 1 + 1024 + 4 * 32 + 6, 1 + 2 * 1024 + 5 * 32 + 7]
    np.testing.assert_allclose(pixels, rows[:, places], rtol=1e-6)


@pytest.fixture
def folder(tmp_path):
    """A data folder that has the sample only."""
    (tmp_path / "data").mkdir()
    shutil.copy(SAMPLE, tmp_path / "data")
    return tmp_path / "data"


def write_batch(folder, size=None):
    path = folder / MEMBER
    path.parent.mkdir(parents=True)
    path.write_bytes(RECORDS.tobytes()[:size])


def no_network(folder):
    raise ConnectionError


def test_load_cifar_from_the_file_or_a_download(nb, folder):
    for download in write_batch, no_network:  # the first writes the file
        assert_cifar(nb.load_cifar(folder, download=download), RECORDS[:1000])


@pytest.mark.parametrize("size", [None, 0, 1000 * 3073 - 1])
def test_load_cifar_from_the_sample(nb, folder, capsys, size):
    """Without a network, or with a file that ends early."""
    if size is not None:
        write_batch(folder, size)
    found = nb.load_cifar(str(folder), download=no_network)
    assert_cifar(found, np.fromfile(SAMPLE, np.uint8).reshape(20, 3073))
    assert "sample" in capsys.readouterr().out


@pytest.mark.parametrize("known_hash", [None, "md5:" + 32 * "0"])
def test_download_cifar(nb, folder, tmp_path, known_hash):
    """From a server in this process. It unpacks one file; an archive of another hash
    leaves nothing, and the sample stands in."""
    write_batch(tmp_path)
    (tmp_path / MEMBER).with_name("readme.html").write_text("hello")
    with tarfile.open(tmp_path / ARCHIVE, "w:gz", compresslevel=1) as tar:
        tar.add((tmp_path / MEMBER).parent, arcname="cifar-10-batches-bin")
    right_hash = "md5:" + hashlib.md5((tmp_path / ARCHIVE).read_bytes()).hexdigest()
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/{ARCHIVE}"
        options = {"url": url, "known_hash": known_hash or right_hash}
        images, _ = nb.load_cifar(folder, partial(nb.download_cifar, **options))
        server.shutdown()
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    expected = {SAMPLE.name} if known_hash else {SAMPLE.name, MEMBER, ARCHIVE}
    assert (len(images), files) == (20 if known_hash else 1000, expected)
