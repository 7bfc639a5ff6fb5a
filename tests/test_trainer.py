"""The trainer, the choice of settings, parallel runs, and initial weights."""

import itertools
import math
import subprocess
import sys
from functools import partial

import numpy as np
import pandas as pd
import pytest
from load_definitions import definition_source
from references import accuracy_of, loss_of, passes, train_by_loop

pytestmark = pytest.mark.filterwarnings("error")


def arrays_of(model):
    """What is trained of a softmax classifier or an MLP, by name."""
    if hasattr(model, "W"):
        return {"W": model.W}
    first, _, second = model.layers
    return {"W1": first.W, "b1": first.b, "W2": second.W, "b2": second.b}


SHAPES = {"Single_layer_classifier": (3, 3), "MLP": (3, 4, 3)}


@pytest.mark.parametrize("falling", [True, False])
@pytest.mark.parametrize(("lam", "seed"), [(0, 7), (0.125, 6)])
@pytest.mark.parametrize("name", SHAPES)
def test_fit_agrees_with_a_plain_loop(nb, rng, name, lam, seed, falling):
    """One generator draws the weights and all orders, training is logged before each
    update and validation after each epoch, and a short last batch is a step, too. All
    weights and biases are trained; the penalty is on the weights."""
    make_model = partial(getattr(nb, name), *SHAPES[name], dtype=np.float64)
    sizes, rows = (10, 15), []
    datasets = [nb.Dataset(rng.random((n, 3)), rng.integers(0, 3, n)) for n in sizes]
    (train, validation), rng = datasets, np.random.default_rng(seed)
    start = [*arrays_of(make_model(rng=rng)).values()]
    for arrays, seen in train_by_loop([*start], train, rng, 3, 4, 0.5, lam, falling):
        sets = seen, (passes(validation.x, 0, *arrays)[0], validation.y)
        rows.append([f(*data) for data in sets for f in (loss_of, accuracy_of)])
    settings = {"epochs": 3, "batch_size": 4, "learning_rate": 0.5}
    settings |= {"lam": lam, "falling": falling}
    run = nb.fit(make_model, *datasets, seed, **settings)
    trained = arrays_of(run.model).items()
    for (array_name, array), old in zip(trained, start, strict=True):
        assert not np.array_equal(array, old), f"{array_name} is not trained"
    for (array_name, array), expected in zip(trained, arrays, strict=True):
        message = f"{array_name} is not what plain steps make of it"
        np.testing.assert_allclose(array, expected, rtol=1e-12, err_msg=message)
    np.testing.assert_allclose(run.log[nb.LOG_COLUMNS], rows, rtol=1e-12)
    assert [*run.log.index] == [1, 2, 3]
    scores, _ = passes(train.x, 0, *arrays)
    assert run.train_accuracy == accuracy_of(scores, train.y)
    assert run.validation_accuracy == rows[-1][-1]


def test_a_network_trains_what_its_layers_name(nb, rng):
    """Also parameters with other names. A layer without any passes through, and one
    that is not asked for its input's gradient keeps none."""

    class Scale:
        names, gamma = ("gamma",), np.array([2.0, -1.0])

        def forward(self, x):
            self.x = x
            return self.gamma * x

        def backward(self, grad):
            self.grad_gamma, self.grad_input = (grad * self.x).sum(0), grad * self.gamma

    network = nb.Network([nb.Linear(3, 2, rng=0, dtype=np.float64), Scale(), nb.ReLU()])
    x, y = rng.random((5, 3)), np.array([0, 1, 1, 0, 1])
    network.backward(nb.loss_backward(y, network.forward(x)))
    linear, scale, _ = network.layers
    expected = linear.W, linear.b, scale.gamma
    for (value, gradient), own in zip(network.parameters(), expected, strict=True):
        assert value is own
        nb.check_gradient("", lambda: loss_of(network.forward(x), y), value, gradient)
    assert linear.grad_input is None
    assert not [*nb.Network([nb.ReLU()]).parameters()]


@pytest.mark.parametrize(("rate", "lam"), [(50, 0.1), (1e20, 0), (1e20, 0.1)])
def test_a_diverging_run_of_tune_has_no_accuracies(nb, rng, rate, lam):
    """In the end, in its log, too; without an error or a warning."""
    data = nb.Dataset(rng.random((90, 784), np.float32), rng.integers(0, 3, 90))
    settings = {"epochs": 9, "batch_size": 9, "learning_rate": rate, "lam": lam}
    run = nb.quiet_fit(partial(nb.MLP, 784, 64, 10), data, data, **settings)
    assert math.isnan(run.train_accuracy) and math.isnan(run.validation_accuracy)
    assert run.log.filter(like="accuracy").iloc[-1].isna().all()


@pytest.mark.parametrize("other", [70, math.nan], ids=["mean", "diverged"])
def test_select_best_has_the_best_mean_validation_accuracy(nb, other):
    """Over two seeds. The best single run, 99, has a bad or a diverged twin."""
    grid = {"batch_size": [50, 100], "learning_rate": [0.1, 2]}
    trials = pd.DataFrame(itertools.product(*grid.values(), [3, 5]), dtype=object)
    trials.columns = [*grid, "seed"]
    trials["validation_accuracy"] = [80, 82, 91, 93, 85, 87, other, 99]
    settings, runs = nb.select_best(trials, grid)
    assert settings == {"batch_size": 50, "learning_rate": 2}
    assert [*runs["validation_accuracy"]] == [91, 93]
    # With NumPy's numbers, NumPy 2 would train in float64.
    assert [type(value) for value in settings.values()] == [int, int]


IN_PARALLEL = """
import inspect

rng = np.random.default_rng(0)
data = Dataset(rng.random((600, 784), np.float32), rng.integers(0, 10, 600))
settings = {"epochs": 2, "batch_size": 50, "learning_rate": 0.1}
train_mlp = partial(fit, make_mlp, data, data, **settings)
runs = run_parallel([delayed(train_mlp)(seed) for seed in range(4)], "")
assert "return" in inspect.getsource(Linear.forward)
for seed, run in enumerate(runs):
    assert run.log.equals(train_mlp(seed).log), "not the same to the last bit"


class ReLU(ReLU):
    pass  # as edited


assert type(MLP(3, 4, 3).layers[1]) is ReLU, "an edited class has no effect"
"""


def test_parallel_runs_are_the_same_and_leave_classes_as_they_were(tmp_path):
    """In processes. As in a notebook, classes are in __main__; they keep their source,
    and can be edited."""
    script = tmp_path / "script.py"
    script.write_text(definition_source() + IN_PARALLEL, "utf-8")
    subprocess.run([sys.executable, script], check=True)
