"""What follows if a reader edits a cell: the new definition is used in everything that
is made afterwards, and other networks than ours run through to the end."""

import contextlib
import io
import re
import subprocess
import sys
from unittest.mock import Mock

import joblib
import numpy as np
import pytest
from load_definitions import ROOT
from small_run import assert_reported, code_cells, small_run

# A definition that is edited and run again


PARALLEL_RUN = """\
from load_definitions import definition_source
exec(definition_source())
rng = np.random.default_rng(0)
data = Dataset(rng.random((60, 784), np.float32), rng.integers(0, 10, 60))
settings = {"epochs": 1, "batch_size": 20, "learning_rate": 0.1}
train_one = partial(fit, make_mlp, data, data, **settings)
if STOPPED:
    def tqdm(results, *args, **options):
        yield next(results)
        raise KeyboardInterrupt
try:
    run_parallel([delayed(train_one)(seed) for seed in range(8)], "")
except KeyboardInterrupt:
    print("stopped")
exec(EDITED)
print(np.abs(make_mlp(rng=0).layers[0].W).sum())
"""


def source_of(cell_id):
    sources = {name: source for _, name, source in code_cells()}
    assert cell_id in sources, f"the notebook has no code cell {cell_id}"
    return sources[cell_id]


@pytest.mark.parametrize("stopped", [False, True], ids=["finished", "stopped"])
def test_an_edited_class_takes_effect_after_a_parallel_run(stopped):
    """In a process of its own, as the classes of its `__main__` go to workers by value
    and come back."""
    edited = source_of("q3-linear").replace("math.sqrt(2 / in_features)", "0")
    code = PARALLEL_RUN.replace("STOPPED", str(stopped)).replace("EDITED", repr(edited))
    command = [sys.executable, "-c", code]
    run = subprocess.run(
        command, capture_output=True, encoding="utf-8", cwd=ROOT / "tools"
    )
    assert run.returncode == 0, run.stderr
    *_, last = run.stdout.split()
    assert ("stopped" in run.stdout) == stopped
    assert float(last) == 0, "make_mlp uses the old class Linear"


def test_tune_uses_the_trainer_that_was_run_last(nb, monkeypatch):
    edited = Mock(return_value=nb.Run(None, None))
    monkeypatch.setattr(nb, "fit", edited)
    with joblib.parallel_config(backend="sequential"):
        nb.tune(None, None, None, {"lam": [0, 1]}, epochs=2)
    assert edited.call_count == 6


def test_fit_uses_the_mini_batches_that_were_run_last(nb, rng, monkeypatch):
    edited = Mock(wraps=nb.get_minibatch)
    monkeypatch.setattr(nb, "get_minibatch", edited)
    data = nb.Dataset(rng.random((9, 784), np.float32), rng.integers(0, 10, 9))
    nb.fit(nb.make_softmax, data, data, epochs=2, batch_size=4, learning_rate=0.1)
    assert edited.call_count == 2


@contextlib.contextmanager
def namespace_of(ns):
    """The namespace in which the small run's functions look up names; restored."""
    namespace = ns.with_bug.__globals__
    before = {**namespace, "In": [*namespace["In"]]}
    try:
        yield namespace
    finally:
        namespace.clear()
        namespace.update(before)


def run_again(namespace, *sources):
    """Run cells as Jupyter does; return what they print."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        for source in sources:
            namespace["In"].append(source)
            exec(source, namespace)
    return output.getvalue()


LINEAR_NO_BIAS = """\
class LinearNoBias(Linear):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        del self.b
"""


@pytest.mark.parametrize("edit", ["", LINEAR_NO_BIAS], ids=["as it is", "a subclass"])
def test_all_bugs_are_caught_after_class_linear_was_run_again(ns, edit):
    """A subclass whose name begins like that of Linear is not taken for it."""
    sources = [source_of(cell) for cell in ("bugs", "bugs-alarms", "bugs-verdict")]
    with namespace_of(ns) as namespace:
        text = run_again(namespace, source_of("q3-linear"), edit, *sources)
    assert_reported([text.splitlines()[-1]], len(ns.BUGS))


def test_a_layer_may_have_no_biases(nb, rng):
    namespace = {"Linear": nb.Linear}
    exec(LINEAR_NO_BIAS, namespace)
    layer = namespace["LinearNoBias"](4, 3, rng=rng)
    network = nb.Network([layer])
    layer.forward = lambda x: x @ layer.W
    layer.x = rng.random((5, 4), np.float32)
    network.backward(layer.forward(layer.x))
    assert [value is layer.W for value, _ in network.parameters()] == [True]


# Another network


@pytest.fixture(scope="module")
def deeper():
    """A run with 300 hidden units in each of two hidden layers."""
    (ours,) = re.findall(r"partial\(MLP, 784, \d+, 10\)", source_of("q3-network"))
    old = "super().__init__([first, ReLU(), second])"
    middle = "middle = Linear(hidden_units, hidden_units, rng=rng, dtype=dtype)"
    new = "super().__init__([first, ReLU(), middle, ReLU(), second])"
    return small_run(
        (ours, "partial(MLP, 784, 300, 10)"),
        (old, f"{middle}\n        {new}"),
    )


def test_a_deeper_mlp_has_all_its_gradients_checked(deeper):
    names = [line.split()[-4] for line in deeper.lines["3.2"]]
    assert names == ["W1", "b1", "W2", "b2", "W3", "b3"]


def test_labels_name_the_number_of_hidden_units(deeper):
    assert_reported(deeper.lines["3.3"], 300)
    assert "MLP, 300 units" in deeper.names.comparison.index
    labels = deeper.figure("staircase").axes[0].get_xticklabels()
    assert "MLP, 300 units" in [label.get_text() for label in labels]


def test_shifted_digits_name_the_number_of_hidden_units(deeper):
    assert "MLP, 300 units" in deeper.names.shifted.columns


def test_arrays_of_another_mlp_are_drawn(deeper):
    """Its hidden units in a square of 18 × 18, which they do not fill."""
    axes = deeper.figure("q3-digit").axes
    for column in 1, 2:
        array = axes[column].images[0].get_array()
        assert (
            array.shape == (18, 18) and np.ma.count(np.ma.masked_invalid(array)) == 300
        )
    assert [len(ax.patches) for ax in axes] == 2 * [0, 0, 0, 10, 10]


def test_variants_have_the_units_of_our_mlp(deeper):
    (constant,) = {
        call.result.model.layers[0].W.shape
        for call in deeper.calls_of("fit", "further-why")
    }
    assert constant == (784, 300)


LEAKY_RELU = """\
class LeakyReLU:
    def forward(self, x):
        self.x = x
        return np.where(x > 0, x, x / 10)

    def backward(self, grad):
        self.grad_input = grad * np.where(self.x > 0, 1, 0.1)
"""
DROPOUT = """\
class Dropout:
    def forward(self, x):
        self.mask = 2 * (np.random.default_rng(0).random(x.shape) < 0.5)
        return x * self.mask

    def backward(self, grad):
        self.grad_input = grad * self.mask
"""
OTHER_MODELS = {  # name: (definition, layers)
    "ten units": ("", "Linear(784, 10), ReLU(), Linear(10, 10)"),
    "leaky ReLU": (LEAKY_RELU, "Linear(784, 300), LeakyReLU(), Linear(300, 10)"),
    "Dropout": (DROPOUT, "Linear(784, 256), ReLU(), Dropout(), Linear(256, 10)"),
}


@pytest.mark.parametrize("name", OTHER_MODELS)
def test_one_digit_passes_through_another_mlp(ns, name):
    """Scores and probabilities are bars; everything else is drawn as a square."""
    definition, layers = OTHER_MODELS[name]
    shown = []
    with namespace_of(ns) as namespace:
        run_again(namespace, definition, f"mlp_model = Network([{layers}])")
        namespace["show"] = lambda fig, alt: shown.append(fig)
        run_again(namespace, source_of("q3-digit-passes"), source_of("q3-digit"))
    assert [len(ax.patches) for ax in shown[0].axes] == 2 * [0, 0, 0, 10, 10]


# Other grids


def test_tuning_cells_refuse_other_settings_before_they_train(ns):
    for cell, name in ("q1-tune-run", "softmax_grid"), ("q3-tune", "mlp_grid"):
        source = source_of(cell).replace('"learning_rate": [', '"epochs": [')
        with namespace_of(ns) as namespace:
            namespace["tune"] = Mock(side_effect=RuntimeError("trained"))
            with pytest.raises(AssertionError, match="later cells"):
                run_again(namespace, source)
        assert name in source


def test_any_setting_of_a_grid_is_shown_by_its_name(nb, monkeypatch):
    displayed = []
    monkeypatch.setattr(nb, "display", lambda thing, **_: displayed.append(thing))
    columns = ["some_setting", "learning_rate", "train_accuracy", "validation_accuracy"]
    trials = nb.pd.DataFrame(
        [[1, 0.1, 90.0, 80.0], [2, 0.1, 91.0, 82.0]], columns=columns
    )
    nb.show_tuning(trials, "some_setting", "title")
    figure, table = displayed
    assert figure.axes[1].get_legend().get_title().get_text() == "some setting"
    assert "some setting" in table["text/plain"]


def test_best_says_that_every_setting_diverged(nb):
    trials = nb.pd.DataFrame({"lam": [0, 1], "validation_accuracy": [np.nan] * 2})
    with pytest.raises(AssertionError, match="diverged"):
        nb.best(trials, {"lam": [0, 1]})
