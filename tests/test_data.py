"""The data files as shipped, and what the loaders say about damaged ones."""

import gzip
import hashlib
import io
import os
import re
import runpy
import shutil
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import idx2numpy
import numpy as np
import pytest
from conftest import ROOT

FILES = {
    "train-images-idx3-ubyte.gz": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte.gz": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte.gz": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte.gz": "27ae3e4e09519cfbb04c329615203637",
}
every_file = pytest.mark.parametrize("name", FILES)
COUNTS = {"train": 20, "t10k": 9}  # of the small data set that stands in for MNIST
both_parts = pytest.mark.parametrize("part", COUNTS)


# --- MNIST -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "md5"), FILES.items())
def test_mnist_is_the_original(name, md5):
    raw = gzip.decompress((ROOT / "data/mnist" / name).read_bytes())
    assert hashlib.md5(raw).hexdigest() == md5


def test_mnist_loads(nb):
    train, test = nb.load_dataset(ROOT / "data/mnist", 10)
    assert [part[0].shape for part in (train, test)] == [(60000, 28, 28), (10000, 28, 28)]
    assert [part[1].shape for part in (train, test)] == [(60000,), (10000,)]
    assert set(train[1]) == set(test[1]) == set(range(10))


def write_idx(path, array):
    with gzip.open(path, "wb") as file:
        idx2numpy.convert_to_file(file, array)


@pytest.fixture
def small(tmp_path, rng):
    """A folder with a data set of 3 classes, images of 6x4: 20 to train, 9 to test."""
    for part, count in COUNTS.items():
        images = rng.integers(0, 256, (count, 6, 4)).astype(np.uint8)
        write_idx(tmp_path / f"{part}-images-idx3-ubyte.gz", images)
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", np.arange(count, dtype=np.uint8) % 3)
    return tmp_path


def test_other_shapes_and_classes_load(nb, small):
    for (images, labels), part in zip(nb.load_dataset(small, 3), ("train", "t10k"), strict=True):
        for array, kind in (images, "images-idx3"), (labels, "labels-idx1"):
            raw = gzip.decompress((small / f"{part}-{kind}-ubyte.gz").read_bytes())
            payload = np.frombuffer(raw, np.uint8, offset=4 + 4 * array.ndim)
            np.testing.assert_array_equal(array.ravel(), payload)
        assert images.shape[1:] == (6, 4) and images.dtype == np.uint8
        assert labels.dtype == np.int64


def test_pixels_are_rows_in_0_1(nb, rng):
    images = rng.integers(0, 256, (7, 6, 4)).astype(np.uint8)
    images[0, 0, :2] = 0, 255
    pixels = nb.to_pixels(images)
    assert pixels.shape == (7, 24) and pixels.dtype == np.float32
    assert pixels.min() == 0 and pixels.max() == 1
    np.testing.assert_array_equal(np.rint(pixels * 255), images.reshape(7, 24))


def header(raw):
    """The length of an IDX header, whose fourth byte is the number of axes."""
    return 4 + 4 * raw[3]


def flip_stored_byte(raw):
    """A gzip that decompresses to other bytes than its checksum was made from."""
    stored = bytearray(gzip.compress(raw, compresslevel=0))
    stored[-9] ^= 1  # the last byte before the checksum and the length
    return bytes(stored)


def break_deflate(raw):
    """A gzip whose first compressed block is of a kind that does not exist."""
    packed = bytearray(gzip.compress(raw))
    packed[10] = 0xFF
    return bytes(packed)


def as_int16(raw):
    payload = raw[header(raw) :]
    return raw[:2] + b"\x0b" + raw[3 : header(raw)] + payload + payload


DAMAGE = {
    "truncated gzip": lambda raw: gzip.compress(raw)[:-12],
    "nothing but a gzip header": lambda raw: gzip.compress(raw)[:10],
    "truncated payload": lambda raw: gzip.compress(raw[:-1]),
    "truncated header": lambda raw: gzip.compress(raw[:6]),
    "empty file": lambda raw: b"",
    "empty payload": lambda raw: gzip.compress(b""),
    "wrong magic": lambda raw: gzip.compress(b"\x01" + raw[1:]),
    "unknown type": lambda raw: gzip.compress(raw[:2] + b"\x07" + raw[3:]),
    "HTML": lambda raw: b"<!DOCTYPE html><html><body>Not found</body></html>",
    "not gzipped": lambda raw: raw,
    "wrong checksum": flip_stored_byte,
    "broken compression": break_deflate,
    "no samples": lambda raw: gzip.compress(raw[:4] + bytes(4 * raw[3])),
    "absurd size": lambda raw: gzip.compress(raw[:4] + b"\xff" * 4 * raw[3] + raw[header(raw) :]),
    "a terabyte": lambda raw: gzip.compress(b"\0\0\x08\x03" + b"\0\0\x27\x10" * 3),
    "int16": lambda raw: gzip.compress(as_int16(raw)),
    "trailing bytes": lambda raw: gzip.compress(raw + b"\0"),
    "trailing bytes after the gzip": lambda raw: gzip.compress(raw) + b"more",
}


@every_file
@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_file_is_named(nb, small, name, damage):
    path = small / name
    path.write_bytes(DAMAGE[damage](gzip.decompress(path.read_bytes())))
    with pytest.raises(ValueError, match=re.escape(name)):
        nb.load_dataset(small, 3)


@every_file
def test_missing_file_is_named(nb, small, name):
    (small / name).unlink()
    with pytest.raises(FileNotFoundError, match=re.escape(name)):
        nb.load_dataset(small, 3)


@every_file
def test_images_and_labels_swapped(nb, small, name):
    swap = {"images-idx3": "labels-idx1", "labels-idx1": "images-idx3"}
    other = re.sub("|".join(swap), lambda found: swap[found[0]], name)
    shutil.copy(small / other, small / name)
    with pytest.raises(ValueError, match=re.escape(name)):
        nb.load_dataset(small, 3)


@both_parts
@pytest.mark.parametrize("labels", [[0, 1, 2], [0] * 21], ids=["fewer", "more"])
def test_counts_that_differ(nb, small, part, labels):
    path = small / f"{part}-labels-idx1-ubyte.gz"
    write_idx(path, np.array(labels, np.uint8))
    with pytest.raises(ValueError, match=f"{re.escape(path.name)}.*{len(labels)}"):
        nb.load_dataset(small, 3)


@both_parts
@pytest.mark.parametrize("label", [3, 255])
def test_label_outside_the_classes(nb, small, part, label):
    path = small / f"{part}-labels-idx1-ubyte.gz"
    labels = np.arange(COUNTS[part], dtype=np.uint8) % 3
    labels[5] = label
    write_idx(path, labels)
    with pytest.raises(ValueError, match=f"{re.escape(path.name)}.*{label}"):
        nb.load_dataset(small, 3)


@both_parts
@pytest.mark.parametrize("shape", [(4, 6), (6, 5), (28, 28)])
def test_train_and_test_shapes_that_differ(nb, small, part, shape):
    count = COUNTS[part]
    write_idx(small / f"{part}-images-idx3-ubyte.gz", np.ones((count, *shape), np.uint8))
    with pytest.raises(ValueError, match=re.escape(str(shape))):
        nb.load_dataset(small, 3)


# --- The filters of Question 5 ---------------------------------------------------------------

FILTERS = (20, 3, 5, 5)


def test_c0_weights_are_what_the_script_draws(nb):
    shipped = nb.load_filters(ROOT / "C0_weights.npy", FILTERS)
    assert shipped.shape == FILTERS and shipped.dtype == np.float64
    assert np.abs(shipped).max() <= 1
    drawn = runpy.run_path(str(ROOT / "data/make_c0_weights.py"))["filters"]()
    np.testing.assert_allclose(shipped, drawn, rtol=0, atol=1e-12)


def test_random_filters_load_as_well(nb, tmp_path, rng):
    weights = rng.uniform(-1, 1, FILTERS)
    np.save(tmp_path / "C0.npy", weights)
    np.testing.assert_array_equal(nb.load_filters(tmp_path / "C0.npy", FILTERS), weights)


def one_wrong(value):
    weights = np.zeros(FILTERS)
    weights[3, 1, 4, 0] = value
    return weights


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((20, 5, 5, 3)), r"\(20, 5, 5, 3\)"),
        (np.zeros((20, 75)), r"\(20, 75\)"),
        (np.float64(1), r"\(\)"),
        (np.zeros((0, 3, 5, 5)), r"\(0, 3, 5, 5\)"),
        (one_wrong(np.nan), "finite"),
        (one_wrong(-np.inf), "finite"),
        (np.zeros(FILTERS, object), "pickle"),
        (np.zeros(FILTERS, np.float32), "float32"),
        (np.zeros(FILTERS, int), "int64"),
        (np.zeros(FILTERS, complex), "complex128"),
    ],
)
def test_filters_that_do_not_fit(nb, tmp_path, array, says):
    np.save(tmp_path / "C0.npy", array, allow_pickle=True)
    with pytest.raises(ValueError, match=says) as caught:
        nb.load_filters(tmp_path / "C0.npy", FILTERS)
    assert "C0.npy" in str(caught.value)


def npy_bytes():
    file = io.BytesIO()
    np.save(file, np.zeros(FILTERS))
    return file.getvalue()


def npz_bytes():
    file = io.BytesIO()
    np.savez(file, W=np.zeros(FILTERS))
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>Not found</html>", npy_bytes()[:-1], npy_bytes()[:50], npz_bytes()],
    ids=["empty", "HTML", "truncated", "truncated header", "npz"],
)
def test_filters_that_are_no_npy(nb, tmp_path, content):
    (tmp_path / "C0.npy").write_bytes(content)
    with pytest.raises(ValueError, match=r"C0\.npy"):
        nb.load_filters(tmp_path / "C0.npy", FILTERS)


def test_missing_filters(nb, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"C0\.npy"):
        nb.load_filters(tmp_path / "C0.npy", FILTERS)


# --- CIFAR-10 --------------------------------------------------------------------------------

SAMPLE = ROOT / "data/cifar10_sample.bin"
MEMBER = "cifar-10-batches-bin/data_batch_1.bin"


def records(labels, seed=1):
    """CIFAR-10 records with these labels and random pixels: (N, 3073) uint8."""
    rows = np.random.default_rng(seed).integers(0, 256, (len(labels), 3073)).astype(np.uint8)
    rows[:, 0] = labels
    return rows


def test_sample_holds_20_images(nb):
    images, labels = nb.read_cifar(SAMPLE)
    assert images.shape == (20, 3, 32, 32) and images.dtype == np.uint8
    assert labels.shape == (20,) and labels.max() < len(nb.CIFAR_NAMES) == 10
    assert len(np.unique(images, axis=0)) == 20


def test_sample_pixels_are_in_their_places(nb):
    """In a photograph a pixel is like its neighbours and its colours are alike: planes first."""
    images = nb.read_cifar(SAMPLE)[0].astype(float)
    contrast = np.abs(images - images.mean(axis=(2, 3), keepdims=True)).mean()
    for axis in 1, 2, 3:
        assert np.abs(np.diff(images, axis=axis)).mean() < 0.75 * contrast


@pytest.mark.parametrize(("count", "used"), [(20, 20), (1000, 1000), (1003, 1000)])
def test_cifar_records_are_read(nb, tmp_path, count, used):
    rows = records(np.arange(count) % 10)
    rows.tofile(tmp_path / "batch.bin")
    images, labels = nb.read_cifar(tmp_path / "batch.bin")
    assert images.shape == (used, 3, 32, 32)
    np.testing.assert_array_equal(labels, rows[:used, 0])
    pixel = 1 + 2 * 1024 + 5 * 32 + 7  # blue, row 5, column 7
    np.testing.assert_array_equal(images[:, 2, 5, 7], rows[:used, pixel])


@pytest.mark.parametrize(
    "content",
    [b"", records([1] * 19).tobytes(), records([1] * 20).tobytes() + b"\0", b"<html>" * 9999],
    ids=["empty", "19 records", "one byte more", "HTML"],
)
def test_cifar_file_of_wrong_size(nb, tmp_path, content):
    path = tmp_path / MEMBER
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"data_batch_1\.bin.*{len(content)}"):
        nb.load_cifar(tmp_path, url="http://127.0.0.1:9/")


def test_cifar_label_above_9(nb, tmp_path):
    records([3] * 20 + [10]).tofile(tmp_path / "batch.bin")
    with pytest.raises(ValueError, match=r"batch\.bin.*20.*10"):
        nb.read_cifar(tmp_path / "batch.bin")


# --- The download, from a server on this machine ---------------------------------------------


def archive_of(rows):
    """A .tar.gz laid out as the real one, holding one batch."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, content in ("cifar-10-batches-bin/readme.html", b"hello"), (MEMBER, rows):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


ROWS = records(np.arange(30) % 10, seed=2)
ARCHIVE = archive_of(ROWS.tobytes())
GOOD_HASH = "md5:" + hashlib.md5(ARCHIVE).hexdigest()
RESPONSES = {  # path: (status, promised length, body)
    "/good": (200, len(ARCHIVE), ARCHIVE),
    "/wrong-bytes": (200, len(ARCHIVE), ARCHIVE[::-1]),
    "/not-found": (404, 9, b"Not found"),
    "/server-error": (503, 0, b""),
    "/cut-short": (200, len(ARCHIVE), ARCHIVE[:-100]),
    "/empty": (200, 0, b""),
}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        status, length, body = RESPONSES[self.path]
        self.server.asked.append(self.path)
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server():
    """Serves RESPONSES; .url is its address, .asked lists the paths asked for."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url, server.asked = f"http://127.0.0.1:{server.server_port}", []
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def folder(tmp_path):
    """A data folder that has the sample only."""
    shutil.copy(SAMPLE, tmp_path)
    return tmp_path


def listing(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def visible_lines(text):
    """The lines that a terminal still shows once the progress bars have gone."""
    shown = (line.rstrip("\r").rsplit("\r", 1)[-1].strip() for line in text.split("\n"))
    return [line for line in shown if line]


def check_good_download(nb, folder, server):
    images, labels, source = nb.load_cifar(folder, f"{server.url}/good", GOOD_HASH)
    assert source == "data_batch_1.bin"
    np.testing.assert_array_equal(images.reshape(30, -1), ROWS[:, 1:])
    np.testing.assert_array_equal(labels, ROWS[:, 0])
    assert listing(folder) == ["cifar-10-batches-bin", MEMBER, "cifar10_sample.bin"]
    assert (folder / MEMBER).read_bytes() == ROWS.tobytes()


def check_falls_back(nb, folder, url, capsys):
    before = listing(folder)
    images, _, source = nb.load_cifar(folder, url, GOOD_HASH)
    assert source == SAMPLE.name and len(images) == 20
    printed = capsys.readouterr()
    (line,) = visible_lines(printed.out)
    assert "sample" in line and printed.err == ""
    assert listing(folder) == before


def test_download(nb, folder, server, capsys):
    check_good_download(nb, folder, server)
    assert visible_lines(capsys.readouterr().out) == []
    server.asked.clear()
    check_good_download(nb, folder, server)
    assert server.asked == []  # what is there is not fetched again


@pytest.mark.parametrize("path", [path for path in RESPONSES if path != "/good"])
def test_failed_download_leaves_nothing(nb, folder, server, capsys, path):
    server.asked.clear()
    check_falls_back(nb, folder, server.url + path, capsys)
    assert path in server.asked
    check_good_download(nb, folder, server)  # and the next run works


@pytest.mark.parametrize(
    ("content", "error"),
    [(None, FileNotFoundError), (b"short", ValueError)],
    ids=["missing", "cut"],
)
def test_bad_sample_is_named(nb, tmp_path, content, error):
    if content:
        (tmp_path / SAMPLE.name).write_bytes(content)
    with pytest.raises(error, match=re.escape(SAMPLE.name)):
        nb.load_cifar(tmp_path, "http://127.0.0.1:9/", GOOD_HASH)


def test_no_server(nb, folder, capsys):
    check_falls_back(nb, folder, "http://127.0.0.1:9/", capsys)


def test_read_only_folder(nb, folder, server, capsys, monkeypatch):
    def refuse(path, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", refuse)  # what tempfile calls: root may write anywhere
        patch.setattr(os, "open", refuse)
        check_falls_back(nb, folder, f"{server.url}/good", capsys)
    check_good_download(nb, folder, server)
