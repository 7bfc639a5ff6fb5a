"""The 53 items of the assignment sheet, with their evidence in the saved notebook."""

import re

import pytest
from load_definitions import ROOT
from reader import Cells, read_answers, read_notebook, read_sections

# item: what the sheet asks for | section | where the evidence is | words or code of it
SHEET = """\
0: name and number | page 1 | text | Rishav Saha & 22573
1: load MNIST with idx2numpy | 1.1 | code | idx2numpy.convert
1: 70% of it trains; print the size | 1.1 | prints | training: 42000 & (42000, 784)
2: random mini-batches, other ones in each epoch | 1.2 | prints | epoch 1 [ & epoch 2 [
3: normal initial weights; try other sigma; Xavier | 1.7 | prints | 0.001 & Xavier & 0.3
4: forward gives the scores | 1.5 | prints | loss 2.3 & accuracy
5, 6: backward; softmax loss | 1.4 | prints | w.r.t. scores & w.r.t. W & ‖W‖² w.r.t. W
7: utilities for the accuracy | 1.5 | prints | loss & accuracy
8, 9: the trainer; its log | 1.6 | prints | training loss & training accuracy & total
10: plot of training loss and accuracy | 1.6 | figures | loss and accuracy & training
11: the accuracy on the validation set | 1.6 | prints | Validation accuracy
13: plot of the hyperparameters | 1.8 | figures | validation & accuracy
12, 13: best λ; over-fitting; table | 1.8 | prints | Best λ & overfitting & gap & ±
14: performance on the MNIST test set | 1.9 | prints | Test accuracy & 95% CI
15: best and worst class | 1.10 | prints | best class: & worst class:
15: and all | 1.10 | figures | true classes & accuracies
16, 17: scikit-learn's linear classifier | 1.11 | prints | ours & LinearRegression
18: additional observations | 1.12 | text | Overfitting
19: bonus: plot | 1.13 | figures | test accuracy & percentage
19: bonus: its numbers | 1.13 | prints | 10%: & 20%: & 50%: & 100%:
20: their gradients | 2.2 | prints | relative error of 8 nodes
21: Func | 2.3 | prints | gradients: [
22, 23: gradients, printed | 2.4 | prints | (2, 4, 1) & (9, 14, 3) & 2.67216e-07
24, 25: gradients, printed | 2.4 | prints | (128, 42, 666) & (52, 14, 28) & -0.422452
26, 27: linear layer and ReLU | 3.1 | prints | Linear w.r.t. W & ReLU w.r.t. input
28: a two-layer MLP made of these | 3.2 | prints | W1 & b1 & W2 & b2 & relative error
29: train it with Question 1's functions | 3.4 | prints | training loss & accuracy
30: plot its training loss and accuracy | 3.5 | figures | loss and accuracy & training
32: plot | 3.4 | figures | validation & accuracy
32: best pair; table | 3.4 | prints | Best batch size & validation accuracy & gap & ±
31, 33: its accuracies | 3.5 | prints | Validation accuracy & Test accuracy & 95% CI
34: its best and worst class | 3.7 | prints | best class: & worst class:
35: additional observations | 3.8 | text | overfitting
36: bonus: plot | 3.9 | figures | test accuracy & percentage & MLP
36: bonus: its numbers | 3.9 | prints | 10%: & 20%: & 50%: & 100%:
37, 39: the layer; backward | 4.3 | prints | stride 2, padding 1 & Layer w.r.t. W
40, 42: set_weights; filters for Gaussian blurring | 4.4 | figures | Gaussian filters
41: load CIFAR-10 into an array | 4.1 | prints | (1000, 3, 32, 32)
38, 43: forward; the first 5 images | 4.4 | prints | outputs & (5, 3, 32, 32) & SciPy
44: show the input and the output | 4.4 | figures | First 5 images & blur
45: Gaussian blurring of 10 random images | 4.4 | figures | 10 random images & blur
46: the 20 filters | 5.7 | figures | filters
46, 47: C_0; its outputs | 5.2 | prints | weights (20, 3, 5, 5) & (100, 20, 28, 28)
48: L2_loss | 5.1 | prints | L2 loss & relative error
49: C with random weights | 5.3 | answers | at the random start
50: train C with the L2 loss | 5.3 | prints | L2 distance & filter error & 100 steps
50: a log | 5.6 | prints | step & L2 distance & filter error
50: by gradients alone | 5.6 | answers | filter error & 300 steps of conjugate
50: the filters end right | 5.6 | answers | filter error of C & e-1
51: L2 dist between the outputs of C and C_0 | 5.3 | prints | of C and of C_0 & steps
51: L2 dist between the outputs of C and C_0 | 5.6 | prints | of C and of C_0 & e-1
"""
ROWS = [row.split(" | ") for row in SHEET.splitlines()]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_item_of_the_sheet(row):
    """Figures are known by their alternative texts; one of them has all the words."""
    _, number, kind, evidence = row
    section = read_sections(read_notebook())[number]
    answers = read_answers(read_notebook()).items()
    candidates = {
        "text": [section.source("markdown")],
        "code": [section.source("code")],
        "prints": ["\n".join([section.printed, *section.displayed("text/plain")])],
        "figures": section.alternative_texts,
        "answers": [": ".join([q, text]) for (n, q), text in answers if n == number],
    }[kind]
    words = evidence.split(" & ")
    shown = any(all(word in text for word in words) for text in candidates)
    assert shown, f"not in the {kind} of section {number}: {words}"


def test_item_20_a_class_for_each_node(nb):
    """Func is made of all eight. Each has its own forward and backward."""
    kinds = {type(node) for node, *_ in nb.Func().nodes.values()}
    assert len(kinds) == 8
    assert all({"forward", "backward"} <= vars(kind).keys() for kind in kinds)


def test_item_32_a_step_beyond_the_grid_is_no_better():
    """Its mean is not higher by as much as the standard error of the difference."""
    printed = read_sections(read_notebook())["3.4"].printed
    line = r"difference (\S+) points, standard error (\S+)"
    difference, standard_error = map(float, re.search(line, printed).groups())
    assert 0 < difference < standard_error  # what the text says


def test_items_0_and_52_import_neither_a_learning_framework_nor_our_modules(saved):
    code = Cells(saved.cells).source("code")
    imported = {*re.findall(r"(?m)^ *(?:import|from) (\w+)", code)}
    ours = {path.stem for path in ROOT.glob("*/*.py")}
    frameworks = {"torch", "tensorflow", "keras", "caffe", "jax", "theano", "mxnet"}
    assert "numpy" in imported and not imported & (ours | frameworks)
