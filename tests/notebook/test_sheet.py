"""The 53 items of the assignment sheet, with their evidence in the saved notebook."""

import inspect
import re
from operator import attrgetter

import pytest
from reader import names_in, read_answers, read_notebook, read_sections

# item: what the sheet asks for | section | kind of evidence | evidence
SHEET = """\
0: name | page 1 | text | Rishav Saha
0: number | page 1 | text | 22573
1: load MNIST with idx2numpy | 1.1 | names | idx2numpy
1: 70% of it trains; print the size | 1.1 | prints | (42000, 784)
2: random mini-batches, other ones in each epoch | 1.2 | names | get_minibatch
3: normal initial weights | 1.3 | defines | Single_layer_classifier input_size
3: try other sigma; Xavier | 1.7 | tables | 1
4: forward gives the scores | 1.3 | defines | Single_layer_classifier.forward input_x
5: dL/dW of the data | 1.3 | defines | Single_layer_classifier.backward_Ldata
5: dL/dW of the penalty | 1.3 | defines | Single_layer_classifier.backward_Lreg
6: softmax loss | 1.4 | defines | loss_function input_y scores
6: and its gradient | 1.4 | defines | loss_backward input_y scores
7: training and validation accuracy | 1.6 | names | evaluate
8: the trainer | 1.6 | names | get_minibatch loss_backward backward_Ldata backward_Lreg
9: log the training loss and accuracy | 1.6 | prints | training loss
10: plot the training loss and accuracy | 1.6 | figures | 2
11: the accuracy on the validation set | 1.6 | prints | validation accuracy
12: the best lambda; over-fitting | 1.8 | answers | 1
13: table of the effect of the hyperparameters | 1.8 | tables | 1
13: plot of it | 1.8 | figures | 1
14: performance on the MNIST test set | 1.9 | answers | 1
15: the best and the worst class | 1.10 | answers | 1
16: a linear classifier from scikit-learn | 1.11 | names | LinearRegression
17: compare accuracies with scikit-learn's | 1.11 | tables | 1
18: additional observations | 1.12 | words | 10
19: bonus: plot percentage of data v.s. test accuracy | 1.13 | figures | 1
20: a class for each node, with forward and backward | 2.2 | checks | 8
21: Func: forward | 2.3 | defines | Func.forward x y z
21: Func: backward | 2.3 | defines | Func.backward output
22: the gradient at (2, 4, 1) | 2.4 | prints | (2, 4, 1): [
23: the gradient at (9, 14, 3) | 2.4 | prints | (9, 14, 3): [
24: the gradient at (128, 42, 666) | 2.4 | prints | (128, 42, 666): [
25: the gradient at (52, 14, 28) | 2.4 | prints | (52, 14, 28): [
26: a linear layer | 3.1 | checks | 4
27: ReLU | 3.1 | defines | ReLU.forward x
28: a two-layer MLP made of these | 3.2 | checks | 4
29: train it with Question 1's functions | 3.3 | names | fit
30: plot its training loss and accuracy | 3.3 | figures | 1
31: its accuracy on the validation set | 3.3 | prints | validation accuracy
32: the best learning rate and batch size | 3.4 | answers | 1
32: plot | 3.4 | figures | 1
32: table | 3.4 | tables | 1
33: the MLP on the MNIST test set | 3.5 | answers | 1
34: its best and worst class | 3.6 | answers | 1
35: additional observations | 3.7 | words | 10
36: bonus: percentage of data v.s. test accuracy | 3.8 | figures | 1
37: the layer | 4.3 | defines | Convolution_Layer bias stride padding dilation
38: forward: (B, C, H, W) to (B, O, H', W') | 4.3 | defines | Convolution_Layer.forward
39: backward returns a gradient | 4.3 | checks | 3
40: set_weights | 4.3 | defines | Convolution_Layer.set_weights new_weights
41: load CIFAR-10 into an array | 4.1 | prints | (1000, 3, 32, 32)
42: weights for Gaussian blurring; visualise them | 4.4 | figures | 3
43: the output for the first 5 images | 4.4 | prints | (5, 3, 32, 32)
44: show the input and the output | 4.4 | names | show_images
45: Gaussian blurring of 10 random images | 4.4 | prints | (10, 3, 32, 32)
46: C0_weights.npy, as the weights of C_0 | 5.2 | prints | (20, 3, 5, 5)
47: the output of C_0 for 100 images | 5.2 | prints | (100, 20, 28, 28)
48: L2_loss: forward | 5.1 | defines | L2_loss.forward C0_output C_output
48: backward of the shape of the output | 5.1 | defines | L2_loss.backward output_grad
49: C with weights from the uniform distribution | 5.3 | names | uniform
50: train C with the L2 loss | 5.3 | names | Convolution_Layer L2_loss backward
51: print the L2 dist between the outputs of C and C_0 | 5.5 | answers | 2
52: one notebook beside data/ and C0_weights.npy | 5.2 | names | load
"""
ROWS = [row.split(" | ") for row in SHEET.splitlines()]


def has(nb, number, kind, evidence):
    """Whether a section has some evidence."""
    section = read_sections(read_notebook())[number]
    code, text = section.source("code"), section.source("markdown")
    tables = [t for t in section.displayed("text/plain") if t[0] != "<"]
    counts = {
        "words": len(text.split()) - 5,  # without the heading
        "checks": section.printed.count("relative error"),
        "figures": len(section.displayed("image/png")),
        "tables": len(tables),
        "answers": [n for n, _ in read_answers(read_notebook())].count(number),
    }
    if kind in counts:
        return counts[kind] >= int(evidence)
    if kind == "defines":
        name, *parameters = evidence.split()
        signature = inspect.signature(attrgetter(name)(nb))
        found = re.search(rf"(?m)^(class|def) {name.partition('.')[0]}\b", code)
        return found and {*parameters} <= {*signature.parameters}
    if kind == "names":
        return {*evidence.split()} <= names_in(code)
    shown = {"prints": "\n".join([section.printed, *tables]), "text": text}
    return evidence in shown[kind]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_item_of_the_sheet(nb, row):
    _, number, kind, evidence = row
    assert has(nb, number, kind, evidence), f"section {number}, {kind}: {evidence}"
