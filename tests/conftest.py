"""Fixtures that the tests share."""

import warnings
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
from load_definitions import load_definitions  # in tools/: see pyproject.toml
from reader import read_notebook
from references import patches_by_loop
from small_run import SmallRun


@pytest.fixture(scope="session")
def nb():
    """The notebook's definitions as a module; --cov=definitions works."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the libraries say of one another
        return load_definitions()


@pytest.fixture(scope="session")
def saved():
    """The notebook as saved, with its outputs."""
    notebook = read_notebook()
    nbformat.validate(notebook)
    return notebook


@pytest.fixture(scope="session")
def run():
    """A run of the whole notebook on few images."""
    return SmallRun()


@pytest.fixture(scope="session")
def ns(run):
    """The names that this run leaves behind."""
    return SimpleNamespace(**run.namespace)


@pytest.fixture(scope="session")
def quadratic(ns):
    """Question 5 as a quadratic form: patches, A = the sum of p pᵀ, and from the
    singular values of the patches (not from A) its eigenvalues and eigenvectors."""
    patches = patches_by_loop(ns.cifar[:100], 5)
    _, singular_values, Vt = np.linalg.svd(patches, full_matrices=False)
    return SimpleNamespace(
        patches=patches,
        A=patches.T @ patches,
        eigenvalues=singular_values**2,  # descending
        eigenvectors=Vt.T,
        W0=ns.W0.reshape(20, 75),
        start=(ns.W_start - ns.W0).reshape(20, 75),
    )


@pytest.fixture
def edit(run):
    """A function that runs sources in the small run's namespace, which it returns."""
    with run.restored():
        yield run.execute


@pytest.fixture
def rng():
    return np.random.default_rng(0)
