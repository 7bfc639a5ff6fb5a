"""What the tests share: the notebook's definitions as a module, and independent references."""

import os
import socket
import subprocess
import sys
import warnings

import numpy as np
import pytest
from load_definitions import ROOT, load_definitions  # in tools/, which pyproject.toml names


@pytest.fixture(scope="session")
def nb():
    """The notebook's definitions, without its training cells: `pytest --cov=definitions` works."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the libraries say of one another
        return load_definitions()


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """A test that looks up any host but this machine fails, even where errors are caught."""
    look_up = socket.getaddrinfo

    def guarded(host, *args, **kwargs):
        if host not in (None, "", "localhost", "127.0.0.1", "::1", "0.0.0.0"):
            pytest.fail(f"a test looked up {host}")
        return look_up(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", guarded)
    for name in "http_proxy", "https_proxy", "all_proxy":
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def shown(nb, monkeypatch):
    """The figures that plots.show is given, (fig, alternative text), drawn to the end."""
    figures = []

    def show(fig, alt):
        fig.canvas.draw()
        figures.append((fig, alt))

    monkeypatch.setattr(nb.plots, "show", show)
    yield figures
    nb.plots.plt.close("all")


def finite_difference(function, array, h=1e-5):
    """The gradient of a scalar function(array) by central differences; the array is kept."""
    grad = np.empty_like(array)
    for index in np.ndindex(array.shape):
        above, below = array.copy(), array.copy()
        above[index] += h
        below[index] -= h
        grad[index] = (function(above) - function(below)) / (2 * h)
    return grad


def assert_gradient(analytic, numerical, bound=1e-7):
    """Two gradients of one shape agree: ||a - n|| / (||a|| + ||n||) is at most the bound."""
    assert np.shape(analytic) == np.shape(numerical)
    size = np.linalg.norm(analytic) + np.linalg.norm(numerical)
    assert size > 0, "both gradients are zero: this checks nothing"
    assert np.linalg.norm(np.subtract(analytic, numerical)) <= bound * size


def with_weights(layer, name, value, function):
    """function() while the layer's attribute of that name holds the value."""
    kept = getattr(layer, name)
    setattr(layer, name, value)
    try:
        return function()
    finally:
        setattr(layer, name, kept)


def assert_weight_gradient(layer, name, analytic, function, bound=1e-7):
    """The analytic gradient of function() for the layer's attribute of that name is right."""
    numerical = finite_difference(
        lambda value: with_weights(layer, name, value, function), getattr(layer, name)
    )
    assert_gradient(analytic, numerical, bound)


def run_tool(*arguments, cwd=None, root=ROOT, **environment):
    """What tools/run_notebook.py does from a terminal that shows UTF-8 unless told otherwise."""
    command = [sys.executable, root / "tools" / "run_notebook.py", *arguments]
    environment = {"PYTHONIOENCODING": "utf-8"} | environment
    return subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        encoding=environment["PYTHONIOENCODING"],
    )
