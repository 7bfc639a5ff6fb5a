"""Fixtures that the tests share."""

import socket
import warnings

import nbformat
import numpy as np
import pytest
from load_definitions import NOTEBOOK, load_definitions  # in tools/: see pyproject.toml
from small_run import small_run


@pytest.fixture(scope="session")
def nb():
    """The notebook's definitions as a module; --cov=definitions works."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the libraries say of one another
        return load_definitions()


@pytest.fixture(scope="session")
def saved():
    """The notebook as saved, with its outputs."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    return notebook


@pytest.fixture(scope="session")
def run():
    """A run of the whole notebook on few images."""
    return small_run()


@pytest.fixture(scope="session")
def ns(run):
    """The names that this run leaves behind."""
    return run.names


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """A test that looks up another host fails, even where errors are caught."""
    look_up = socket.getaddrinfo

    def guarded(host, *args, **kwargs):
        if host not in (None, "", "localhost", "127.0.0.1", "::1", "0.0.0.0"):
            pytest.fail(f"a test looked up {host}")
        return look_up(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", guarded)
    monkeypatch.setenv("NO_PROXY", "*")
