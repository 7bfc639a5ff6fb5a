"""The data files as shipped, and what the loaders say about damaged ones."""

import gzip
import hashlib
import io
import os
import re
import runpy
import shutil
import socket
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from load_definitions import ROOT

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


@pytest.fixture(scope="module")
def mnist(nb):
    return nb.load_data(ROOT / "data/mnist", list("0123456789"), np.random.default_rng(0))


def test_mnist_loads(mnist):
    for part, count in (mnist.train, 42000), (mnist.valid, 18000), (mnist.test, 10000):
        x, y = part
        assert x.shape == (count, 784) and x.dtype == np.float32 and x.flags.c_contiguous
        assert y.shape == (count,) and y.dtype == np.int64 and set(y) == set(range(10))
        assert x.min() == 0 and x.max() == 1
    assert mnist.full[0].shape == (60000, 784) and mnist.full[1].shape == (60000,)
    assert mnist.shape == (28, 28) and mnist.names == list("0123456789")


def write_idx(path, array):
    """An array of bytes in IDX format: the number of axes, their lengths, the bytes."""
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    path.write_bytes(gzip.compress(header + array.tobytes()))


NAMES = ["a", "b", "c"]


@pytest.fixture
def small(tmp_path, rng):
    """A folder with a data set of 3 classes, images of 6x4: 20 to train, 9 to test."""
    for part, count in COUNTS.items():
        images = rng.integers(0, 256, (count, 6, 4)).astype(np.uint8)
        images[0, 0, :2] = 0, 255
        write_idx(tmp_path / f"{part}-images-idx3-ubyte.gz", images)
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", np.arange(count, dtype=np.uint8) % 3)
    return tmp_path


def load(nb, folder, seed=0):
    return nb.load_data(folder, NAMES, np.random.default_rng(seed))


def payload(folder, part, kind, axes):
    """What a file holds after its header."""
    raw = gzip.decompress((folder / f"{part}-{kind}-ubyte.gz").read_bytes())
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * axes)


@both_parts
def test_a_part_is_what_the_files_hold(nb, small, part):
    x, y, shape = nb.load_part(small, part, 3)
    assert shape == (6, 4) and x.shape == (COUNTS[part], 24)
    assert x.dtype == np.float32 and y.dtype == np.int64
    assert x.min() == 0 and x.max() == 1
    np.testing.assert_array_equal(np.rint(x.ravel() * 255), payload(small, part, "images-idx3", 3))
    np.testing.assert_array_equal(y, payload(small, part, "labels-idx1", 1))


def test_full_and_test_keep_the_files_order(nb, small):
    data = load(nb, small)
    for found, part in (data.full, "train"), (data.test, "t10k"):
        x, y, _ = nb.load_part(small, part, 3)
        np.testing.assert_array_equal(found[0], x)
        np.testing.assert_array_equal(found[1], y)
    assert data.names == NAMES and data.shape == (6, 4)


def places(data, part):
    """Where the images of a part are in the file, by their pixels; the labels must follow."""
    order = {image.tobytes(): k for k, image in enumerate(data.full[0])}
    assert len(order) == len(data.full[0])
    found = [order[image.tobytes()] for image in part[0]]
    np.testing.assert_array_equal(part[1], data.full[1][found])
    return found


def test_the_split_is_70_to_30_disjoint_and_covering(nb, small):
    data = load(nb, small)
    train, valid = places(data, data.train), places(data, data.valid)
    assert (len(train), len(valid)) == (14, 6)
    assert sorted(train + valid) == list(range(20))


def test_the_split_is_random_by_seed(nb, small):
    first, again, other = (
        places(data, data.train) for data in (load(nb, small, s) for s in (5, 5, 6))
    )
    assert first == again and set(first) != set(other)
    assert set(first) != set(range(14)) and set(other) != set(range(14))


def flip_stored_byte(raw):
    """A gzip that decompresses to other bytes than its checksum was made from."""
    stored = bytearray(gzip.compress(raw, compresslevel=0))
    stored[-9] ^= 1  # the last byte before the checksum and the length
    return bytes(stored)


DAMAGE = {
    "truncated gzip": lambda raw: gzip.compress(raw)[:-12],
    "truncated payload": lambda raw: gzip.compress(raw[:-1]),
    "empty file": lambda raw: b"",
    "wrong magic": lambda raw: gzip.compress(b"\x01" + raw[1:]),
    "HTML": lambda raw: b"<!DOCTYPE html><html><body>Not found</body></html>",
    "wrong checksum": flip_stored_byte,
}


@every_file
@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_file_is_named(nb, small, name, damage):
    path = small / name
    path.write_bytes(DAMAGE[damage](gzip.decompress(path.read_bytes())))
    with pytest.raises(ValueError, match=re.escape(str(path))):
        load(nb, small)


@every_file
def test_missing_file_is_named(nb, small, name):
    (small / name).unlink()
    with pytest.raises(ValueError, match=rf"{re.escape(name)}.*FileNotFound.*git checkout"):
        load(nb, small)


@every_file
def test_images_and_labels_swapped(nb, small, name):
    """The message names the part's label file, and shows both shapes."""
    swap = {"images-idx3": "labels-idx1", "labels-idx1": "images-idx3"}
    other = re.sub("|".join(swap), lambda found: swap[found[0]], name)
    shutil.copy(small / other, small / name)
    part = name.partition("-")[0]
    with pytest.raises(ValueError, match=rf"{part}-labels.*labels \({COUNTS[part]},.*images \("):
        load(nb, small)


@both_parts
@pytest.mark.parametrize("labels", [[], [0, 1, 2], [0] * 21], ids=["none", "fewer", "more"])
def test_counts_that_differ(nb, small, part, labels):
    path = small / f"{part}-labels-idx1-ubyte.gz"
    write_idx(path, np.array(labels, np.uint8))
    with pytest.raises(ValueError, match=rf"{re.escape(path.name)}.*\({len(labels)},\)"):
        load(nb, small)


@both_parts
def test_no_images_at_all(nb, small, part):
    write_idx(small / f"{part}-images-idx3-ubyte.gz", np.zeros((0, 6, 4), np.uint8))
    path = small / f"{part}-labels-idx1-ubyte.gz"
    write_idx(path, np.zeros(0, np.uint8))
    with pytest.raises(ValueError, match=re.escape(path.name)):
        load(nb, small)


@both_parts
@pytest.mark.parametrize("label", [3, 255])
def test_label_outside_the_classes(nb, small, part, label):
    path = small / f"{part}-labels-idx1-ubyte.gz"
    labels = np.arange(COUNTS[part], dtype=np.uint8) % 3
    labels[5] = label
    write_idx(path, labels)
    with pytest.raises(ValueError, match=rf"{re.escape(path.name)}.*3 classes"):
        load(nb, small)


@both_parts
@pytest.mark.parametrize("shape", [(4, 6), (6, 5)])
def test_train_and_test_shapes_that_differ(nb, small, part, shape):
    count = COUNTS[part]
    write_idx(small / f"{part}-images-idx3-ubyte.gz", np.ones((count, *shape), np.uint8))
    with pytest.raises(ValueError, match=rf"{re.escape(str(small))}.*{re.escape(str(shape))}"):
        load(nb, small)


# --- The filters of Question 5 ---------------------------------------------------------------


def test_c0_weights_are_what_the_script_draws():
    shipped = np.load(ROOT / "C0_weights.npy")
    assert shipped.shape == (20, 3, 5, 5) and shipped.dtype == np.float64
    assert np.abs(shipped).max() <= 1
    drawn = runpy.run_path(str(ROOT / "data/make_c0_weights.py"))["filters"]()
    np.testing.assert_allclose(shipped, drawn, rtol=0, atol=1e-12)


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
    [b"", records([1] * 20).tobytes() + b"\0", records([1] * 20).tobytes()[:-1], b"<html>" * 999],
    ids=["empty", "one byte more", "one byte less", "HTML"],
)
def test_cifar_file_of_wrong_size(nb, tmp_path, content):
    path = tmp_path / MEMBER
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(str(path))):
        nb.load_cifar(tmp_path, url="http://127.0.0.1:9/")


@pytest.mark.parametrize("label", [10, 255])
def test_cifar_label_above_9(nb, tmp_path, label):
    records([3] * 20 + [label]).tofile(tmp_path / "batch.bin")
    with pytest.raises(ValueError, match=r"batch\.bin"):
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
FORGED = archive_of(records([1] * 30).tobytes())  # sound, but not what the hash is of
RESPONSES = {  # path: (status, promised length, body)
    "/good": (200, len(ARCHIVE), ARCHIVE),
    "/wrong-bytes": (200, len(ARCHIVE), ARCHIVE[::-1]),
    "/not-found": (404, 9, b"Not found"),
    "/server-error": (503, 0, b""),
    "/cut-short": (200, len(ARCHIVE), ARCHIVE[:-100]),
    "/empty": (200, 0, b""),
    "/forged": (200, len(FORGED), FORGED),
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
    expected = "cifar-10-batches-bin", MEMBER, "cifar-10-binary.tar.gz", SAMPLE.name
    assert listing(folder) == sorted(expected)  # nothing else is unpacked
    assert (folder / MEMBER).read_bytes() == ROWS.tobytes()


def check_falls_back(nb, folder, url, capsys):
    before = listing(folder)
    images, _, source = nb.load_cifar(folder, url, GOOD_HASH)
    assert source == SAMPLE.name and len(images) == 20
    printed = capsys.readouterr()
    (line,) = visible_lines(printed.out)
    assert "sample" in line and printed.err == ""
    assert listing(folder) == before


def test_download(nb, folder, server, capsys, caplog, monkeypatch):
    monkeypatch.setattr(nb.pooch.get_logger(), "handlers", [caplog.handler])
    check_good_download(nb, folder, server)
    printed = capsys.readouterr()
    assert visible_lines(printed.out) == [] and printed.err == "" and not caplog.records
    server.asked.clear()
    check_good_download(nb, folder, server)
    (folder / MEMBER).unlink()
    check_good_download(nb, folder, server)
    assert server.asked == []  # what is there is not fetched again


def test_the_archive_is_the_dataset_home_pages(nb, folder, monkeypatch):
    asked = []

    def refuse(*given):
        asked.append(given)
        raise ConnectionError

    monkeypatch.setattr(nb.pooch, "retrieve", refuse)
    assert nb.load_cifar(folder)[2] == SAMPLE.name
    ((url, md5, name, where, *_),) = asked
    assert url == "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
    assert md5 == "md5:c32a1d4ab5d03f1284b67883e8d87530"
    assert where == folder and url.endswith(name)


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


def test_patience_ends(nb, folder, capsys, monkeypatch):
    """Within a minute; pooch 1.7 would wait for ever unless told otherwise."""
    import requests  # what pooch downloads with

    asked = []

    def get(url, **options):
        asked.append((url, options["timeout"]))
        raise requests.exceptions.ConnectTimeout(url)

    monkeypatch.setattr(requests, "get", get)
    check_falls_back(nb, folder, "http://127.0.0.1:9/file", capsys)
    ((url, timeout),) = asked
    assert url == "http://127.0.0.1:9/file" and timeout <= 60


def test_server_that_says_nothing(nb, folder, capsys, monkeypatch):
    """It takes the connection and never answers; with little patience here."""
    patient = nb.pooch.HTTPDownloader
    monkeypatch.setattr(
        nb.pooch, "HTTPDownloader", lambda **options: patient(**options | {"timeout": 0.2})
    )
    with socket.create_server(("127.0.0.1", 0)) as silent:
        check_falls_back(nb, folder, f"http://127.0.0.1:{silent.getsockname()[1]}/", capsys)


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
