"""Time the notebook's code and two references, PyTorch and scikit-learn, in turns.

Prints a table. What a reference computes is compared with the notebook's result first.

python benchmarks/run.py [--rounds ROUNDS]
"""

import argparse
import gc
import math
import os
import platform
import sys
import time
import timeit
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import sklearn
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_info, threadpool_limits

try:
    import torch
    from torch import nn
except ImportError:  # main says how to install it
    torch = None

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
from load_definitions import load_definitions
from paths import ROOT

nb = load_definitions()
RATE, LAM = 0.1, 1e-5


def our_epoch(model, train, batch_size):
    """A function that runs one epoch of the notebook's trainer.

    It returns the training loss, and the final accuracy (%) on the training images."""
    settings = {"batch_size": batch_size, "learning_rate": RATE, "lam": LAM}
    one_image = nb.Dataset(train.x[:1], train.y[:1])  # for validation, to save time

    def epoch():
        run = nb.fit(lambda rng: model, train, one_image, epochs=1, **settings)
        return run.log["training loss"].item(), run.train_accuracy

    return epoch


def torch_twin(model):
    """The same model in PyTorch, with the same weights."""
    twin = nn.Sequential()
    if isinstance(model, nb.ConvNet):
        twin.append(nn.Unflatten(1, (1, 28, 28)))
    for layer in getattr(model, "layers", [model]):
        has_bias = getattr(layer, "b", None) is not None
        if isinstance(layer, nb.Convolution_Layer):
            outputs, inputs, *kernel = layer.W.shape
            geometry = kernel, layer.stride, layer.padding, layer.dilation
            twin.append(nn.Conv2d(inputs, outputs, *geometry, bias=has_bias))
        elif hasattr(layer, "W"):
            twin.append(nn.Linear(*layer.W.shape, bias=has_bias))
        elif isinstance(layer, nb.ReLU):
            twin.append(nn.ReLU())
        elif isinstance(layer, nb.Flatten):
            twin.append(nn.Flatten())
        else:
            raise TypeError(f"no PyTorch twin for {type(layer).__name__}")
        for name, parameter in twin[-1].named_parameters():
            values = layer.b if name == "bias" else layer.W
            if values.ndim == 2:
                values = values.T
            parameter.data.copy_(torch.from_numpy(values))
    return twin


def torch_epoch(model, train, batch_size):
    """our_epoch in PyTorch: shuffle, gather, step, log each batch's loss and accuracy;
    at the end, evaluate on the training images."""
    x, y = torch.from_numpy(train.x.copy()), torch.from_numpy(train.y)
    model, cross_entropy = torch_twin(model), nn.CrossEntropyLoss()
    sgd = torch.optim.SGD(model.parameters(), lr=RATE, weight_decay=2 * LAM)

    @torch.no_grad()
    def accuracy():
        scores = torch.cat([model(chunk) for chunk in x.split(250)])
        return 100 * (scores.argmax(1) == y).double().mean().item()

    def epoch():
        loss_sum = n_correct = 0
        batches = torch.randperm(len(y)).split(batch_size)
        for step, picked in enumerate(batches):
            cosine = math.cos(math.pi * step / len(batches))
            sgd.param_groups[0]["lr"] = RATE * (1 + cosine) / 2
            x_b, y_b = x[picked], y[picked]
            scores = model(x_b)
            loss = cross_entropy(scores, y_b)
            sgd.zero_grad()
            loss.backward()
            sgd.step()
            loss_sum += loss.item() * len(y_b)
            n_correct += (scores.argmax(1) == y_b).sum().item()
        return loss_sum / len(y), accuracy()

    return epoch


def sklearn_epoch(model, train, batch_size):
    """our_epoch with scikit-learn's MLPClassifier; it is a softmax classifier if there
    are no hidden layers."""
    layers = model.layers_with_weights() if isinstance(model, nb.Network) else [model]
    hidden = [layer.W.shape[1] for layer in layers[:-1]]
    classifier = MLPClassifier(
        hidden, solver="sgd", batch_size=batch_size, learning_rate_init=RATE,
        momentum=0, alpha=2 * LAM * batch_size, max_iter=1, random_state=0,
    )  # fmt: skip

    def epoch():
        loss = classifier.partial_fit(train.x, train.y, classes=range(10)).loss_
        return loss, 100 * classifier.score(train.x, train.y)

    return epoch


class Comparison(NamedTuple):
    """One row of the table: two functions that should return about the same."""

    name: str
    reference: str
    ours: Callable
    theirs: Callable
    tolerance: float  # relative difference of the results


def training_comparisons():
    """One epoch on MNIST's training images, each from fresh weights."""
    train, _, _ = nb.load_mnist(ROOT / "data" / "mnist")
    for name, make_model, batch_size, reference, their_epoch in (
        ("softmax epoch", nb.make_softmax, 100, "PyTorch", torch_epoch),
        ("softmax epoch", nb.make_softmax, 100, "scikit-learn", sklearn_epoch),
        ("MLP epoch", nb.make_mlp, 100, "PyTorch", torch_epoch),
        ("MLP epoch", nb.make_mlp, 100, "scikit-learn", sklearn_epoch),
        ("ConvNet epoch", nb.ConvNet, 50, "PyTorch", torch_epoch),
    ):
        model = make_model(rng=0)
        # Theirs first: it copies the weights, before our epochs change them.
        theirs = their_epoch(model, train, batch_size)
        ours = our_epoch(model, train, batch_size)
        yield Comparison(name, reference, ours, theirs, tolerance=0.1)


def convolution_comparisons(name, layer_class):
    """100 images, 20 filters of 5 x 5: forward alone, and with all gradients."""
    rng = np.random.default_rng(0)
    layer, x = layer_class(3, 20, 5, rng=rng), rng.random((100, 3, 32, 32), np.float32)
    grad = rng.standard_normal((100, 20, 28, 28), np.float32)
    inputs = [torch.tensor(a, requires_grad=True) for a in (x, layer.W, layer.b)]
    torch_grad, conv2d = torch.from_numpy(grad), nn.functional.conv2d

    def our_forward():
        return (layer.forward(x),)

    @torch.no_grad()
    def torch_forward():
        return (conv2d(*inputs),)

    def our_backward():
        output, grad_W = layer.forward(x), layer.backward(grad)
        return output, layer.grad_input, grad_W, layer.grad_b

    def torch_backward():
        output = conv2d(*inputs)
        return output.detach(), *torch.autograd.grad(output, inputs, torch_grad)

    forward, backward = (our_forward, torch_forward), (our_backward, torch_backward)
    yield Comparison(f"{name}: forward", "PyTorch", *forward, tolerance=1e-5)
    name = f"{name}: forward + backward"
    yield Comparison(name, "PyTorch", *backward, tolerance=1e-5)


def results_agree(comparison):
    """Call both functions; compare the arrays that they return."""
    for ours, theirs in zip(comparison.ours(), comparison.theirs(), strict=True):
        ours, theirs = np.asarray(ours), np.asarray(theirs)
        difference = np.linalg.norm(ours - theirs)
        if not difference <= comparison.tolerance * np.linalg.norm(theirs):
            return False
    return True


def seconds_per_call(timer, n_calls):
    """Time some calls, after the garbage is collected and spinning threads rest."""
    gc.collect()
    time.sleep(0.05)
    return timer.timeit(n_calls) / n_calls


def table_row(comparison, rounds):
    """Compare the results; then time both in turns, each for 0.2 s or more."""
    agree = results_agree(comparison)
    our_timer = timeit.Timer(comparison.ours)  # with perf_counter, without gc
    their_timer = timeit.Timer(comparison.theirs)
    our_calls, _ = our_timer.autorange()
    their_calls, _ = their_timer.autorange()
    our_times, their_times = [], []
    for _ in range(rounds):
        our_times.append(seconds_per_call(our_timer, our_calls))
        their_times.append(seconds_per_call(their_timer, their_calls))
    ratios = [
        ours / theirs for ours, theirs in zip(our_times, their_times, strict=True)
    ]
    ratio = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    return [
        comparison.name,
        f"{1e3 * median(our_times):.1f} ms",
        comparison.reference,
        f"{1e3 * median(their_times):.1f} ms",
        ratio if agree else f"{ratio} **RESULTS DIFFER**",
    ]


def environment():
    """The machine and the versions, on one line."""
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    blas = {f"{pool['internal_api']} {pool.get('architecture')}" for pool in pools}
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, one used; "
        f"Python {platform.python_version()}, numpy {np.__version__} "
        f"({', '.join(sorted(blas))}), torch {torch.__version__} "
        f"({torch.backends.cpu.get_cpu_capability()}), "
        f"scikit-learn {sklearn.__version__}"
    )


def main(rounds):
    """Print the table."""
    if torch is None:
        sys.exit("PyTorch is missing: pip install -r benchmarks/requirements.txt")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    threadpool_limits(1)
    print(f"{environment()}; medians of {rounds} rounds\n")
    comparisons = [
        *training_comparisons(),
        *convolution_comparisons("convolution", nb.Convolution_Layer),
        *convolution_comparisons("fast convolution", nb.Fast_Convolution_Layer),
    ]
    print("| benchmark | ours | reference | reference's time | ratio (all rounds) |")
    print("| :-- | --: | :-- | --: | --: |", flush=True)
    for comparison in comparisons:
        print("|", " | ".join(table_row(comparison, rounds)), "|", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, help="default: 9")
    main(parser.parse_args().rounds)
