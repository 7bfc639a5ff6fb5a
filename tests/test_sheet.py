"""The 53 items of the assignment sheet, each with its evidence in the saved notebook.

SHEET says what the sheet asks for. Each test lists the items that it covers, with the
sections that hold the evidence. What the classes compute is tested elsewhere, and the
results are worked out again on few images in test_experiments*.py.
"""

import ast
import inspect
import re
import sys
from importlib.metadata import packages_distributions
from operator import attrgetter

import pytest
from paths import ROOT
from saved_notebook import read_numbers, read_sections

SHEET = {
    0: "name and number; no package that does the learning",
    # Question 1
    1: "load MNIST with idx2numpy; 70% of it trains; print the size",
    2: "a generator of random mini-batches, not the same ones for different epochs",
    3: "Single_layer_classifier: normal initial weights; try other sigma; Xavier",
    4: "forward gives the scores",
    5: "backward_Ldata and backward_Lreg, each of the size of the weights",
    6: "softmax loss and its gradient: loss_function, loss_backward",
    7: "utility functions for training and validation accuracy",
    8: "the trainer: t epochs of mini-batches, W - alpha dL/dW, lambda R(W)",
    9: "log the training loss and the training accuracy",
    10: "plot the training loss and the training accuracy",
    11: "the accuracy on the validation set",
    12: "tune two hyperparameters; find the best lambda; check for over-fitting",
    13: "plot and table of the effect of the hyperparameters",
    14: "final performance on the MNIST test set",
    15: "the best and the worst performing class",
    16: "train a linear classifier from scikit-learn",
    17: "compare training and test accuracies with scikit-learn's",
    18: "additional observations and comments",
    19: "bonus: plot percentage of training data v.s. test accuracy",
    # Question 2
    20: "a class for each node, with forward and backward",
    21: "Func: forward(x, y, z); backward(output) returns [grad_x, grad_y, grad_z]",
    22: "the gradient at (2, 4, 1)",
    23: "the gradient at (9, 14, 3)",
    24: "the gradient at (128, 42, 666)",
    25: "the gradient at (52, 14, 28)",
    # Question 3
    26: "a linear layer, forward and backward for arbitrary sizes",
    27: "ReLU, forward and backward for arbitrary sizes",
    28: "a two-layer MLP made of these modules",
    29: "train the MLP with Question 1's functions",
    30: "plot the training loss and the training accuracy of the MLP",
    31: "the MLP's accuracy on the validation set",
    32: "the best learning rate and batch size, by the same strategy; plot and table",
    33: "the MLP's final performance on the MNIST test set",
    34: "the MLP's best and worst performing class",
    35: "additional observations and comments on the MLP",
    36: "bonus: plot percentage of training data v.s. test accuracy of the MLP",
    # Question 4
    37: "Convolution_Layer with filter_size, bias, stride, padding and dilation",
    38: "forward: (B, C, H, W) to (B, O, H', W')",
    39: "backward returns a gradient of the size of the kernel",
    40: "set_weights replaces the weights",
    41: "load CIFAR-10 into a NumPy array",
    42: "set the weights for Gaussian blurring; visualise the filters",
    43: "the output for the first 5 images",
    44: "show the input and the corresponding blurred output",
    45: "Gaussian blurring of 10 random images",
    # Question 5
    46: "load C0_weights.npy, of shape (20, 3, 5, 5), as the weights of C_0",
    47: "save the output of C_0 for 100 CIFAR-10 images",
    48: "L2_loss: forward; backward of the shape of the output",
    49: "a new layer C, with weights from the uniform distribution on [-1, 1]",
    50: "train C with the L2 loss to learn the weights of C_0",
    51: "print the L2 dist between the outputs of C and of C_0",
    52: "one notebook that runs by itself beside data/ and C0_weights.npy",
}
COVERED = set()  # the items that have a test


def items(*rows, arguments=()):
    """Parametrize a test: one case per row (item, section, values of the arguments)."""
    COVERED.update(item for item, *_ in rows)
    return pytest.mark.parametrize(
        ["section", *arguments],
        [values for _, *values in rows],
        indirect=["section"],
        ids=[f"{item}: {SHEET[item]}" for item, *_ in rows],
    )


@pytest.fixture
def section(saved, request):
    """A section of the saved notebook, by its number."""
    return read_sections(saved)[request.param]


def test_each_item_has_a_test():
    assert COVERED == set(SHEET) == set(range(53))


# The notebook as a whole


@items((0, "page 1"))
def test_name_and_number(section):
    assert "Rishav Saha" in section.markdown and "22573" in section.markdown


@items((0, "all"), (52, "all"))
def test_only_required_packages_are_imported(section):
    """So the notebook needs no other file, and no package does the learning."""
    lines = (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    required = {re.split("[^A-Za-z0-9_-]", line)[0].lower() for line in lines}
    nodes = list(ast.walk(ast.parse(section.code)))
    imports = [node for node in nodes if isinstance(node, ast.Import)]
    modules = {alias.name for node in imports for alias in node.names}
    modules |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    packages = {module.partition(".")[0] for module in modules}
    distributions = packages_distributions()  # {package: what installs it}
    for package in packages - sys.stdlib_module_names:
        names = {name.lower() for name in distributions.get(package, [])}
        assert names & required, package
    assert "neural_network" not in section.code  # a part of scikit-learn


# Code


@items(
    (3, "1.3", "Single_layer_classifier", "input_size output_size"),
    (4, "1.3", "Single_layer_classifier.forward", "input_x"),
    (5, "1.3", "Single_layer_classifier.backward_Ldata", "grad_from_loss"),
    (6, "1.4", "loss_function", "input_y scores"),
    (6, "1.4", "loss_backward", "input_y scores"),
    (21, "2.3", "Func.forward", "x y z"),
    (21, "2.3", "Func.backward", "output"),
    (37, "4.3", "Convolution_Layer", "filter_size bias stride padding dilation"),
    (38, "4.3", "Convolution_Layer.forward", "input"),
    (39, "4.3", "Convolution_Layer.backward", "grad_of_output_size"),
    (40, "4.3", "Convolution_Layer.set_weights", "new_weights"),
    (48, "5.1", "L2_loss.forward", "C0_output C_output"),
    (48, "5.1", "L2_loss.backward", "output_grad"),
    arguments=["name", "parameters"],
)
def test_definition_has_the_names_of_the_sheet(section, nb, name, parameters):
    assert re.search(rf"^(class|def) {name.partition('.')[0]}\b", section.code, re.M)
    signature = inspect.signature(attrgetter(name)(nb))
    assert set(parameters.split()) <= set(signature.parameters)


@items(
    (1, "1.1", "idx2numpy"),
    (7, "1.6", "evaluate"),
    (8, "1.6", "get_minibatch loss_backward backward_Ldata backward_Lreg"),
    (16, "1.11", "LinearRegression"),
    (29, "3.3", "fit"),
    (32, "3.4", "tune"),
    (36, "3.8", "fit_subsets"),
    (46, "5.2", "set_weights"),
    (49, "5.3", "uniform"),
    (50, "5.3", "Convolution_Layer L2_loss backward"),
    arguments=["names"],
)
def test_code_uses_these_names(section, names):
    assert set(names.split()) <= section.identifiers


# Prints, figures, tables and text


@items(
    (6, "1.4", "", 3),
    (20, "2.2", "", 8),
    (26, "3.1", "Linear", 3),
    (27, "3.1", "ReLU", 1),
    (28, "3.2", "", 4),
    (39, "4.3", "Convolution_Layer", 3),
    (48, "5.1", "", 1),
    arguments=["name", "count"],
)
def test_gradient_checks_are_printed(section, name, count):
    """At least `count` lines with `name` end in an error of at most 1e-7."""
    lines = [line for line in section.printed.splitlines() if name in line]
    errors = [number for line in lines for number in read_numbers(line)[-1:]]
    assert sum(0 <= error <= 1e-7 for error in errors) >= count


@items(
    (1, "1.1", (42000, 784)),
    (41, "4.1", (1000, 3, 32, 32)),
    (43, "4.4", (5, 3, 32, 32)),
    (46, "5.2", (20, 3, 5, 5)),
    (47, "5.2", (100, 20, 28, 28)),
    arguments=["shape"],
)
def test_shape_is_printed(section, shape):
    assert str(shape) in section.printed


@items(
    (10, "1.6", "training loss accuracy"),
    (13, "1.8", ""),
    (19, "1.13", "percentage training data test accuracy"),
    (30, "3.3", "training loss accuracy"),
    (32, "3.4", ""),
    (36, "3.8", "percentage training data test accuracy"),
    (42, "4.4", "gaussian filters"),
    (44, "4.4", "first 5 input blurred"),
    (45, "4.4", "10 random blurred"),
    (46, "5.6", "20 filters"),
    arguments=["words"],
)
def test_figure_is_shown(section, words):
    """Its alternative text has these words."""
    texts = [re.findall(r"\w+", alt.lower()) for alt, _ in section.figures]
    assert any(set(words.split()) <= set(text) for text in texts)


@items((2, "1.2"))
def test_minibatches_differ_between_epochs(section):
    """Two lines show the same samples, with the mini-batches in brackets."""
    lines = [re.findall(r"\[(.*?)\]", line) for line in section.printed.splitlines()]
    assert all(len(batches) > 1 for batches in lines)
    first, second = [" ".join(batches).split() for batches in lines]
    assert sorted(first) == sorted(second) and first != second


@items(
    (9, "1.6", "training loss", "training accuracy"),
    (11, "1.6", "validation loss", "validation accuracy"),
    (29, "3.3", "training loss", "training accuracy"),
    (31, "3.3", "validation loss", "validation accuracy"),
    (50, "5.3", "L2 distance", "filter error"),
    arguments=["loss", "measure"],
)
def test_log_is_printed(section, loss, measure):
    assert re.search(f"{loss} +{measure}", section.printed)
    assert len(re.findall(r"^\d+ .*\d$", section.printed, re.M)) >= 4


@items(
    (3, "1.7", "0.001 Xavier epoch"),
    (13, "1.8", "training validation gap learning rate"),
    (15, "1.10", "class accuracy"),
    (17, "1.11", "ours LogisticRegression training test"),
    (19, "1.13", "softmax 20 50 100 training test"),
    (32, "3.4", "training validation gap learning rate"),
    (34, "3.6", "class accuracy"),
    (36, "3.8", "softmax MLP 20 50 100 training test"),
    arguments=["words"],
)
def test_table_is_shown(section, words):
    (table,) = [t for t in section.displayed("text/plain") if not t.startswith("<")]
    assert set(words.split()) <= set(re.findall(r"[\w.]+", table))


@items(
    (12, "1.8", "fitting"),
    (14, "1.9", "test set"),
    (15, "1.10", "best class worst class"),
    (22, "2.4", "(2, 4, 1)"),
    (23, "2.4", "(9, 14, 3)"),
    (24, "2.4", "(128, 42, 666)"),
    (25, "2.4", "(52, 14, 28)"),
    (32, "3.4", "batch size learning rate"),
    (33, "3.5", "test set"),
    (34, "3.6", "best class worst class"),
    (50, "5.5", "learn C_0"),
    (51, "5.5", "L2 dist"),
    arguments=["words"],
)
def test_answer_is_on_page_1(section, words):
    """A question and its result have these words."""
    texts = [f"{question}: {result}" for question, result in section.answers.items()]
    assert any(all(word in text for word in words.split()) for text in texts)


@items((18, "1.12"), (35, "3.7"))
def test_observations_are_written_down(section):
    text = section.markdown.partition("\n")[2]  # without the heading
    assert len(re.findall(r"\w+", text)) > 10


@items((12, "1.8", "softmax_grid"), (32, "3.4", "mlp_grid"), arguments=["grid_name"])
def test_best_pair_at_an_edge_is_compared_with_another(section, ns, grid_name):
    """A printed line has another pair, and ends in its accuracy."""
    (result,) = section.answers.values()
    setting, rate, *_ = read_numbers(result)
    settings, rates = map(sorted, getattr(ns, grid_name).values())
    lines = [line for line in section.printed.splitlines() if line.endswith("%")]
    others = [line for line in lines if not {setting, rate} <= {*read_numbers(line)}]
    setting_is_inside = setting in settings[1:-1] or setting == 0
    assert others or (setting_is_inside and rate in rates[1:-1]), (
        "the best pair is at an edge of the grid: print the accuracy of a pair beyond "
        "this edge, as section 3.4 does"
    )
