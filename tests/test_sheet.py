"""The 53 items of the assignment sheet, with their evidence in the saved notebook."""

import re
from itertools import product

import pytest
from load_definitions import ROOT
from reader import Section, read_answers, read_notebook, read_sections

# item: what the sheet asks for | section | where the evidence is | words or code of it
SHEET = """\
0: name and number | page 1 | text | Rishav Saha & 22573
1: load MNIST with idx2numpy | 1.1 | code | idx2numpy.convert
1: 70% of it trains; print the size | 1.1 | prints | training: 42000 & (42000, 784)
2: random mini-batches, other ones in each epoch | 1.2 | prints | epoch 1 [ & epoch 2 [
3: normal initial weights | 1.3 | code | class Single_layer_classifier
3: try other sigma; Xavier | 1.7 | prints | 0.001 & Xavier & 0.3
4: forward gives the scores | 1.3 | code | def forward(self, input_x)
5: backward | 1.3 | code | backward_Ldata(self, grad_from_loss) & backward_Lreg(self)
5: both are right | 1.4 | prints | loss w.r.t. W & penalty w.r.t. W
6: softmax loss | 1.4 | code | loss_function(input_y, scores) & loss_backward(input_y
6: it is right | 1.4 | prints | loss w.r.t. scores
7: utilities for the accuracy | 1.5 | code | def evaluate(model, dataset)
8: the trainer | 1.6 | code | get_minibatch( & loss_backward( & Ldata( & Lreg( & alpha
9: log of training loss and accuracy | 1.6 | prints | epoch 10: training loss
10: plot of training loss and accuracy | 1.6 | figures | loss and accuracy & training
11: the accuracy on the validation set | 1.6 | prints | validation accuracy
12: the best lambda; over-fitting | 1.8 | prints | best: λ & overfitting & gap
13: plot of the hyperparameters | 1.8 | figures | validation accuracy
14: performance on the MNIST test set | 1.9 | prints | test accuracy & 95% CI
15: the best and the worst class | 1.10 | prints | best class: & worst class:
15: all ten | 1.10 | prints | 5     6     7     8     9 & accuracy (%)
16: a linear classifier from scikit-learn | 1.11 | code | LinearRegression().fit(
17: compare it with ours | 1.11 | prints | training accuracy & test accuracy & ours
18: additional observations | 1.12 | text | Overfitting
19: bonus: plot | 1.13 | figures | est accuracy vs. percentage of training data
19: bonus: table | 1.13 | prints | percentage & test (%)
20: a class for each node | 2.2 | prints | Add & Divide & CosPi & SinPi & Sigmoid & Log
21: Func | 2.3 | code | class Func & forward(self, x, y, z) & backward(self, output)
22: the gradient at (2, 4, 1) | 2.4 | answers | (2, 4, 1): [0, 0.43721, -0.306972]
23: at (9, 14, 3) | 2.4 | answers | (9, 14, 3): [0, -1.14834, 2.67216e-07]
24: at (128, 42, 666) | 2.4 | answers | (128, 42, 666): [0, -0.422452, 0]
25: at (52, 14, 28) | 2.4 | answers | (52, 14, 28): [0, -0.422452, 0]
22: printed | 2.4 | prints | (2, 4, 1) & (9, 14, 3) & (128, 42, 666) & (52, 14, 28)
26: a linear layer | 3.1 | prints | Linear w.r.t. input & Linear w.r.t. W
27: ReLU | 3.1 | prints | ReLU w.r.t. input
28: a two-layer MLP made of these | 3.2 | prints | W1 & b1 & W2 & b2 & relative error
29: train it with Question 1's functions | 3.4 | code | fit(make_mlp, train, validation
29: its log | 3.4 | prints | training loss & training accuracy
30: plot its training loss and accuracy | 3.5 | figures | loss and accuracy & training
31: its accuracy on the validation set | 3.5 | prints | validation accuracy
32: best rate and batch size | 3.4 | prints | chosen: batch size & learning rate
32: plot | 3.4 | figures | validation accuracy
32: one step beyond the grid | 3.4 | prints | both halved
33: the MLP on the MNIST test set | 3.5 | prints | test accuracy & 95% CI
34: its best and worst class | 3.7 | prints | best class: & worst class:
35: additional observations | 3.8 | text | overfitting
36: bonus: plot | 3.9 | figures | est accuracy vs. percentage of training data & MLP
36: bonus: its numbers | 3.9 | prints | 10%: & 20%: & 50%: & 100%:
37: the layer | 4.3 | code | filter_size & bias= & stride= & padding= & dilation=
38: forward | 4.3 | code | class Convolution_Layer & def forward(self, input)
39: backward | 4.3 | code | def backward(self, grad_of & return self.grad_W
39: it is right | 4.3 | prints | stride 2, padding 1, dilation 2: largest relative error
40: set_weights | 4.3 | code | def set_weights(self, new_weights)
41: load CIFAR-10 into an array | 4.1 | prints | (1000, 3, 32, 32)
42: the filters for Gaussian blurring, visualised | 4.4 | figures | filters
43: the output for the first 5 images | 4.4 | prints | First 5 & (5, 3, 32, 32)
44: show the input and the output | 4.4 | figures | before and after
45: Gaussian blurring of 10 random images | 4.4 | prints | 10 random & (10, 3, 32, 32)
46: C0_weights.npy, as the weights of C_0 | 5.2 | prints | weights (20, 3, 5, 5)
46: the 20 filters | 5.7 | figures | filters
47: the output of C_0 for 100 images | 5.2 | prints | (100, 20, 28, 28)
48: L2_loss | 5.1 | code | forward(self, C0_output, C_output) & backward(self, output_
48: it is right | 5.1 | prints | L2 loss & relative error
49: C with weights from the uniform distribution | 5.3 | code | .uniform(-1, 1
50: train C with the L2 loss | 5.3 | code | Convolution_Layer( & L2_loss() & backward(
50: its log | 5.3 | prints | L2 distance & filter error
50: the filters end right | 5.6 | answers | Filter error of C & e-1
51: L2 dist between the outputs of C and C_0 | 5.6 | prints | of C and of C_0: & e-1
52: a notebook beside data/ and C0_weights.npy | 5.2 | code | np.load("C0_weights.npy")
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
        "prints": ["\n".join([section.printed, *tables_in(section)])],
        "figures": section.alternative_texts,
        "answers": [": ".join([q, text]) for (n, q), text in answers if n == number],
    }[kind]
    words = evidence.split(" & ")
    shown = any(all(word in text for word in words) for text in candidates)
    assert shown, f"not in the {kind} of section {number}: {words}"


def tables_in(section):
    return [text for text in section.displayed("text/plain") if text[0] != "<"]


@pytest.mark.parametrize(("number", "model"), [("1.8", "softmax"), ("3.4", "mlp")])
def test_items_13_and_32_have_all_pairs_in_a_table(saved, ns, number, model):
    """Each pair has its mean accuracy, its standard deviation, and its gap."""
    table = tables_in(read_sections(saved)[number])[-1]
    pairs = [*product(*getattr(ns, f"{model}_grid").values())]
    assert table.count("±") == len(pairs)
    assert len(re.findall(r"(?<!\S)\d+\.\d\d(?!\S)", table)) == 3 * len(pairs)


def test_items_0_and_52_import_neither_a_learning_framework_nor_our_modules(saved):
    code = Section(saved.cells).source("code")
    imported = {*re.findall(r"(?m)^ *(?:import|from) (\w+)", code)}
    ours = {path.stem for path in ROOT.glob("*/*.py")}
    frameworks = {"torch", "tensorflow", "keras", "caffe", "jax", "theano", "mxnet"}
    assert "numpy" in imported and not imported & (ours | frameworks)
