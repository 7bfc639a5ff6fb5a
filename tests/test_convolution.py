"""Question 4: outputs and gradients against SciPy; CIFAR-10's files."""

import hashlib
import io
import os
import pickle
import shutil
import tarfile

import numpy as np
import pytest
from load_definitions import ROOT
from references import GEOMETRIES, assert_convolves

SAMPLE = ROOT / "data" / "cifar10_sample.bin"
IMAGES = np.fromfile(SAMPLE, np.uint8).reshape(20, 3073)  # of the sample


@pytest.mark.parametrize(("k", "stride", "padding", "dilation"), GEOMETRIES)
def test_the_layer_agrees_with_scipy(nb, rng, k, stride, padding, dilation):
    assert_convolves(nb.Convolution_Layer, rng, k, stride, padding, dilation)


@pytest.fixture
def records(nb, rng, monkeypatch):
    """1,002 records, of which the first 1,000 stand for CIFAR-10's."""
    records = rng.integers(0, 256, (1002, 3073), np.uint8)
    digest = hashlib.sha256(records[:1000].tobytes()).hexdigest()
    monkeypatch.setattr(nb, "CIFAR_SHA256", digest)
    return records


@pytest.fixture
def load(nb, tmp_path, capsys):
    """Load CIFAR-10 from a folder with the sample, or from a file `served` there;
    assert what is loaded, and return what is printed."""
    shutil.copy(SAMPLE, tmp_path)

    def load(expected):
        images, labels = nb.load_cifar(tmp_path, (tmp_path / "served").as_uri())
        np.testing.assert_array_equal(labels, expected[:1000, 0])
        pixels = expected[:1000, 1:].reshape(-1, 3, 32, 32)
        np.testing.assert_allclose(255 * images, pixels, rtol=1e-6)
        return capsys.readouterr().out

    return load


def test_load_cifar_finds_an_intact_file_or_else_the_sample(
    nb, tmp_path, records, load
):
    """Three planes, row by row, after each label; also from the sheet's file. A file
    with other images is not used, and a line says so."""
    file, pickled = tmp_path / nb.CIFAR_FILE, tmp_path / nb.CIFAR_PICKLE
    file.parent.mkdir()
    pickled.parent.mkdir()
    file.write_bytes(records.tobytes()[: 1000 * 3073 - 1])
    assert f"Cannot load {file}" in load(IMAGES)
    file.write_bytes(records.tobytes())
    assert load(records) == ""
    for first in 0, 1:
        batch = {b"data": records[first:, 1:], b"labels": records[first:, 0].tolist()}
        pickled.write_bytes(pickle.dumps(batch))
        assert ("not CIFAR-10's first" in load(records)) == (first == 1)
    os.truncate(pickled, 1_000_000)
    assert f"Cannot load {pickled}" in load(records)


FAULTS = {None: "Downloading", "cut": "ReadError", "wrong": "not CIFAR-10's"}


@pytest.mark.parametrize("fault", FAULTS)
def test_downloads_are_kept(nb, tmp_path, records, load, fault):
    """First, a line says that it begins; after a fault, what was wrong."""
    served = tmp_path / "served"
    (tmp_path / nb.CIFAR_FILE).parent.mkdir()  # as a damaged file leaves it
    if fault == "wrong":
        records[0, 9] ^= 1
    with tarfile.open(served, "w:gz") as archive:
        member = tarfile.TarInfo(nb.CIFAR_FILE)
        member.size = records.nbytes
        archive.addfile(member, io.BytesIO(records.tobytes()))
    if fault == "cut":
        os.truncate(served, 1_000_000)
    printed = load(IMAGES if fault else records)
    assert printed.startswith("Downloading") and FAULTS[fault] in printed
    assert (tmp_path / nb.CIFAR_FILE).exists() == (fault is None)
