"""Question 4: outputs against SciPy; CIFAR-10's files."""

import hashlib
import io
import os
import pickle
import shutil
import tarfile
from types import SimpleNamespace
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


@pytest.fixture
def cifar(nb, rng, tmp_path):
    """Files in a folder with the sample; cifar.check asserts what is loaded."""
    shutil.copy(SAMPLE, tmp_path)
    records = rng.integers(0, 256, (1002, 3073), np.uint8)
    sample = np.fromfile(SAMPLE, np.uint8).reshape(20, 3073)
    file, pickled = tmp_path / nb.CIFAR_FILE, tmp_path / nb.CIFAR_PICKLE

    def check(expected, download=Mock(side_effect=ConnectionError)):  # noqa: B008
        images, labels = nb.load_cifar(tmp_path, download)
        np.testing.assert_array_equal(labels, expected[:, 0])
        pixels = expected[:, 1:].reshape(-1, 3, 32, 32)
        np.testing.assert_allclose(255 * images, pixels, rtol=1e-6)

    return SimpleNamespace(**locals())


def test_load_cifar_finds_an_intact_file_or_else_the_sample(cifar, capsys):
    """Three planes, row by row, after each label; also from the sheet's file."""
    records, file, pickled = cifar.records, cifar.file, cifar.pickled
    file.parent.mkdir()
    pickled.parent.mkdir()
    file.write_bytes(records.tobytes()[: 1000 * 3073 - 1])
    cifar.check(cifar.sample)
    batch = {b"data": records[1:, 1:], b"labels": records[1:, 0].tolist()}
    pickled.write_bytes(pickle.dumps(batch))
    cifar.check(records[1:1001])
    pickled.write_bytes(b"broken")
    file.write_bytes(records.tobytes())
    cifar.check(records[:1000])
    printed = capsys.readouterr().out
    assert str(file) in printed and str(pickled) in printed


@pytest.mark.parametrize("fault", [None, "cut", "wrong", "full disk"])
def test_a_download_is_whole_or_leaves_nothing(nb, cifar, monkeypatch, fault):
    records, folder = cifar.records, cifar.tmp_path
    digest = hashlib.sha256(records[:1000].tobytes()).hexdigest()
    monkeypatch.setattr(nb, "CIFAR_SHA256", "0" if fault == "wrong" else digest)
    if fault == "full disk":
        monkeypatch.setattr(nb.Path, "write_bytes", Mock(side_effect=OSError))
    with tarfile.open(folder / "served", "w:gz") as archive:
        member = tarfile.TarInfo(nb.CIFAR_FILE)
        member.size = records.nbytes
        archive.addfile(member, io.BytesIO(records.tobytes()))
    if fault == "cut":
        os.truncate(folder / "served", 1_000_000)
    url, before = (folder / "served").as_uri(), {*folder.iterdir()}
    expected = cifar.sample if fault else records[:1000]
    cifar.check(expected, lambda path, _: nb.download_cifar(path, url))
    left = {*folder.iterdir()} - before
    assert left == (set() if fault else {cifar.file.parent})
