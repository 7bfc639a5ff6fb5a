"""MNIST as shipped, what the readers make of files, sound or not, and mini-batches."""

import gzip
import hashlib
import re
import shutil

import numpy as np
import pytest
from load_definitions import ROOT

pytestmark = pytest.mark.filterwarnings("error")

FILES = {
    "train-images-idx3-ubyte.gz": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte.gz": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte.gz": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte.gz": "27ae3e4e09519cfbb04c329615203637",
}
COUNTS = {"train": 20, "t10k": 9}  # of the small data set that stands in for MNIST
NAMES = ["a", "b", "c"]
both_prefixes = pytest.mark.parametrize("prefix", COUNTS)


@pytest.mark.parametrize(("name", "md5"), FILES.items())
def test_mnist_is_the_original(name, md5):
    raw = gzip.decompress((ROOT / "data/mnist" / name).read_bytes())
    assert hashlib.md5(raw).hexdigest() == md5


def test_mnist_loads(nb):
    digits, rng = list("0123456789"), np.random.default_rng(0)
    data = nb.load_data(ROOT / "data/mnist", digits, rng)
    for part, count in (data.train, 42000), (data.valid, 18000), (data.test, 10000):
        assert part.x.shape == (count, 784) and part.x.dtype == np.float32
        assert part.y.shape == (count,) and part.y.dtype == np.int64
        assert part.x.min() == 0 and part.x.max() == 1
        assert set(part.y) == set(range(10))
    assert data.shape == (28, 28) and data.class_names == digits


# --- A small data set --------------------------------------------------------------


def write_idx(path, array, code=8):
    """An array in IDX format: the type's code, the axes and their lengths, the data."""
    header = bytes([0, 0, code, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    path.write_bytes(gzip.compress(header + array.tobytes()))


def images_file(prefix):
    return f"{prefix}-images-idx3-ubyte.gz"


def labels_file(prefix):
    return f"{prefix}-labels-idx1-ubyte.gz"


@pytest.fixture
def contents(rng):
    """{prefix: (images, labels)}: the first pixel of an image tells its place."""
    made = {}
    for prefix, count in COUNTS.items():
        images = rng.integers(0, 256, (count, 6, 4)).astype(np.uint8)
        images[:, 0, 0] = np.arange(count)
        made[prefix] = images, rng.permutation(np.arange(count) % 3).astype(np.uint8)
    return made


@pytest.fixture
def small(tmp_path, contents):
    """A folder with these files: 3 classes, images of 6 x 4, 20 to train, 9 to test."""
    for prefix, (images, labels) in contents.items():
        write_idx(tmp_path / images_file(prefix), images)
        write_idx(tmp_path / labels_file(prefix), labels)
    return tmp_path


def load(nb, folder, seed=0, **options):
    return nb.load_data(folder, NAMES, np.random.default_rng(seed), **options)


def places(part, images, labels):
    """Where the images of a part stand in the file; pixels and labels must follow."""
    found = np.rint(255 * part.x[:, 0]).astype(int)
    np.testing.assert_array_equal(np.rint(255 * part.x), images.reshape(-1, 24)[found])
    np.testing.assert_array_equal(part.y, labels[found])
    return found.tolist()


@both_prefixes
def test_load_part(nb, small, contents, prefix):
    x, y, shape = nb.load_part(small, prefix, 3)
    images, labels = contents[prefix]
    assert x.dtype == np.float32 and y.dtype == np.int64 and shape == (6, 4)
    np.testing.assert_allclose(x, images.reshape(-1, 24) / 255, rtol=1e-6)
    np.testing.assert_array_equal(y, labels)


def test_the_split_is_70_to_30_disjoint_and_covering(nb, small, contents):
    data = load(nb, small)
    train, valid = (places(p, *contents["train"]) for p in (data.train, data.valid))
    assert (len(train), len(valid)) == (14, 6)
    assert sorted(train + valid) == list(range(20))
    assert places(data.test, *contents["t10k"]) == list(range(9))
    assert data.class_names == NAMES and data.shape == (6, 4)


def test_parts_have_names_of_their_own(nb, small):
    data = load(nb, small)
    names = [part.name for part in (data.train, data.valid, data.test)]
    assert names == ["training", "validation", "test"]


def test_the_split_is_random_by_seed(nb, small, contents):
    first, again, other = (
        places(load(nb, small, seed).train, *contents["train"]) for seed in (5, 5, 6)
    )
    assert first == again
    assert len({frozenset(first), frozenset(other), frozenset(range(14))}) == 3


@pytest.mark.parametrize(
    ("share", "sizes"), [(1.0, (14, 6)), (0.5, (7, 3)), (0.34, (4, 3)), (0.1, (1, 1))]
)
def test_a_share_of_the_training_images(nb, small, contents, share, sizes):
    data, whole = load(nb, small, share=share), load(nb, small)
    train, valid = (places(p, *contents["train"]) for p in (data.train, data.valid))
    assert (len(train), len(valid)) == sizes and len({*train, *valid}) == sum(sizes)
    assert train == places(whole.train, *contents["train"])[: len(train)]
    assert len(data.test.y) == 9


# --- Files that are wrong ----------------------------------------------------------


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


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_file_is_named(nb, small, damage):
    path = small / images_file("train")
    path.write_bytes(DAMAGE[damage](gzip.decompress(path.read_bytes())))
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))} is not a .*IDX"):
        nb.read_idx(path)


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_named(nb, small, name):
    (small / name).unlink()
    with pytest.raises(ValueError, match=rf"{re.escape(name)}.*FileNotFound"):
        load(nb, small)


@pytest.mark.parametrize("file", [images_file, labels_file])
@pytest.mark.parametrize(("code", "dtype"), [(9, "int8"), (12, ">i4"), (13, ">f4")])
def test_file_of_other_numbers_than_bytes(nb, small, contents, file, code, dtype):
    path, ones = small / file("t10k"), np.ones((9, 6, 4), dtype)
    write_idx(path, ones if file is images_file else ones[:, 0, 0], code)
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))} .*{dtype}.*bytes"):
        load(nb, small)


@both_prefixes
@pytest.mark.parametrize("swapped", [images_file, labels_file])
def test_images_and_labels_swapped(nb, small, prefix, swapped):
    """One file stands in both places: the message shows what is needed, and found."""
    for file in images_file, labels_file:
        if file is not swapped:
            shutil.copy(small / swapped(prefix), small / file(prefix))
    with pytest.raises(ValueError) as caught:
        load(nb, small)
    said, count = str(caught.value), COUNTS[prefix]
    shape = (count, 6, 4) if swapped is images_file else (count,)
    assert f"{small}, {prefix}" in said and f"{shape} and {shape} were found" in said
    assert "images (N, H, W) and labels (N,) are needed" in said


@both_prefixes
@pytest.mark.parametrize("count", [0, 3, 21])
def test_counts_that_differ(nb, small, prefix, count):
    write_idx(small / labels_file(prefix), np.zeros(count, np.uint8))
    with pytest.raises(ValueError, match=rf"{prefix}:.*needed.*\({count},\)"):
        load(nb, small)


@both_prefixes
def test_no_images_at_all(nb, small, prefix):
    write_idx(small / images_file(prefix), np.zeros((0, 6, 4), np.uint8))
    write_idx(small / labels_file(prefix), np.zeros(0, np.uint8))
    with pytest.raises(ValueError, match=rf"{prefix}:.*needed.*\(0, 6, 4\)"):
        load(nb, small)


@both_prefixes
@pytest.mark.parametrize("label", [3, 255])
def test_label_outside_the_classes(nb, small, contents, prefix, label):
    labels = contents[prefix][1]
    labels[5] = label
    write_idx(small / labels_file(prefix), labels)
    with pytest.raises(ValueError, match=rf"{prefix}:.*label is {label}.*3 classes"):
        load(nb, small)


@both_prefixes
@pytest.mark.parametrize("shape", [(4, 6), (6, 5)])
def test_train_and_test_shapes_that_differ(nb, small, prefix, shape):
    images = np.ones((COUNTS[prefix], *shape), np.uint8)
    write_idx(small / images_file(prefix), images)
    with pytest.raises(ValueError) as caught:
        load(nb, small)
    said = {"train": (6, 4), "t10k": (6, 4)} | {prefix: shape}
    text = f"training images {said['train']}, test images {said['t10k']}"
    assert str(small) in str(caught.value) and text in str(caught.value)


# --- Mini-batches ------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 4, 23, 24, 100])
def test_every_sample_comes_once_with_its_label(nb, rng, batch_size):
    y = np.arange(23)
    x = np.stack([y, -y, 10 * y], axis=1).astype(np.float32)
    batches = list(nb.get_minibatch(x, y, batch_size, rng))
    full, rest = divmod(23, batch_size)
    assert [len(y_b) for _, y_b in batches] == [batch_size] * full + [rest] * (rest > 0)
    x_seen, y_seen = map(np.concatenate, zip(*batches, strict=True))
    np.testing.assert_array_equal(np.sort(y_seen), y)
    np.testing.assert_array_equal(x_seen, x[y_seen])
    assert x_seen.dtype == x.dtype


def test_samples_of_any_shape(nb, rng):
    x, y = rng.random((5, 2, 3, 4)), np.arange(5)
    for x_b, y_b in nb.get_minibatch(x, y, 2, rng):
        np.testing.assert_array_equal(x_b, x[y_b])


def test_each_epoch_has_an_order_of_its_own_by_the_generator(nb):
    def orders(seed):
        rng, y = np.random.default_rng(seed), np.arange(50)
        for _ in range(2):
            batches = nb.get_minibatch(y[:, None], y, 8, rng)
            yield tuple(np.concatenate([y_b for _, y_b in batches]))

    first, second = orders(5)
    assert len({first, second, tuple(range(50))}) == 3
    assert [*orders(5)] == [first, second] != [*orders(6)]


@pytest.mark.parametrize("share", [0, -0.5, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(nb, small, share):
    with pytest.raises(ValueError, match="share of the images"):
        load(nb, small, share=share)


def test_more_labels_than_inputs_are_refused(nb, rng):
    with pytest.raises(ValueError, match="4 inputs and 5 labels"):
        next(nb.get_minibatch(np.zeros((4, 2)), np.zeros(5, int), 2, rng))
