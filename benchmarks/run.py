"""Time the notebook's code against PyTorch and scikit-learn, in turns; print a table.

python benchmarks/run.py [--rounds ROUNDS] [--threads THREADS]
"""

import argparse
import gc
import math
import operator
import os
import platform
import sys
import time
import timeit
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import sklearn
import torch
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_info, threadpool_limits
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
from load_definitions import ROOT, load_definitions

CLASSES = 10
BATCH, CONVNET_BATCH, RATE, LAM = 100, 50, 0.1, 1e-5


def our_epoch(nb, model, part, batch=BATCH):
    """An epoch of the notebook's trainer."""
    settings = {"epochs": 1, "batch_size": batch, "learning_rate": RATE, "lam": LAM}
    rng = np.random.default_rng(0)
    return lambda: nb.train(model, part, rng=rng, **settings)[part.name][0][1:]


def torch_twin(model):
    """The same model in PyTorch, with the same weights."""
    twin = nn.Sequential()
    if hasattr(model, "shape"):  # a ConvNet
        twin.append(nn.Unflatten(1, (1, *model.shape)))
    for ours in getattr(model, "layers", [model]):
        W, bias = getattr(ours, "W", np.empty(0)), hasattr(ours, "b")
        if W.ndim == 4:
            inputs, outputs, kernel = W.shape[1], W.shape[0], W.shape[2:]
            twin.append(nn.Conv2d(inputs, outputs, kernel, ours.stride, ours.padding))
        elif W.ndim == 2:
            twin.append(nn.Linear(*W.shape, bias=bias))
        else:
            twin.append(nn.Flatten() if type(ours).__name__ == "Flatten" else nn.ReLU())
        for name, theirs in twin[-1].named_parameters():
            values = ours.b if name == "bias" else W.T if W.ndim == 2 else W
            theirs.data.copy_(torch.from_numpy(values))
    return twin if len(twin) > 1 else twin[0]


def torch_epoch(model, part, gather=operator.getitem, batch=BATCH):
    """The same loop in PyTorch: shuffle, gather, step, log loss and hits of a batch."""
    x, y = torch.from_numpy(part.x), torch.from_numpy(part.y)
    model, cross_entropy = torch_twin(model), nn.CrossEntropyLoss()
    sgd = torch.optim.SGD(model.parameters(), lr=RATE, weight_decay=2 * LAM)

    def epoch():
        loss_sum = correct = 0
        batches = torch.randperm(len(y)).split(batch)
        for step, picked in enumerate(batches):
            cosine = math.cos(math.pi * step / len(batches))
            sgd.param_groups[0]["lr"] = RATE * (1 + cosine) / 2
            x_b, y_b = gather(x, picked), gather(y, picked)
            scores = model(x_b)
            loss = cross_entropy(scores, y_b)
            sgd.zero_grad()
            loss.backward()
            sgd.step()
            loss_sum += loss.item() * len(y_b)
            correct += (scores.argmax(1) == y_b).sum().item()
        return loss_sum / len(y), correct / len(y)

    return epoch


def sklearn_epoch(model, part):
    """One pass of scikit-learn's network; a softmax classifier if nothing is hidden."""
    hidden = [layer.W.shape[1] for layer in getattr(model, "layers", [])[:-1:2]]
    net = MLPClassifier(
        hidden, solver="sgd", batch_size=BATCH, learning_rate_init=RATE, momentum=0,
        alpha=2 * LAM * BATCH, max_iter=1, random_state=0,
    )  # fmt: skip
    return lambda: (net.partial_fit(part.x, part.y, classes=range(CLASSES)).loss_,)


def matrix_products(model, part):
    """Only the five products of each step of the MLP, on consecutive batches."""
    W1, W2 = model.layers[0].W.copy(), model.layers[2].W.copy()
    grad = np.random.default_rng(0).standard_normal((BATCH, CLASSES), np.float32)

    def epoch():
        for start in range(0, len(part.x), BATCH):
            x_b = part.x[start : start + BATCH]
            hidden = x_b @ W1
            _ = hidden @ W2, hidden.T @ grad, x_b.T @ (grad @ W2.T)
        return ()

    return epoch


def training_rows(nb):
    """An epoch on MNIST's training images, against each opponent from fresh weights."""
    names = [str(digit) for digit in range(CLASSES)]
    part = nb.load_data(ROOT / "data" / "mnist", names, np.random.default_rng(0)).train
    softmax = partial(nb.Single_layer_classifier, part.x.shape[1], CLASSES)
    mlp = partial(nb.MLP, part.x.shape[1], 256, CLASSES)
    select = partial(torch_epoch, gather=lambda tensor, i: tensor.index_select(0, i))
    for what, make_model, opponent, make_theirs, aim in (
        ("softmax epoch", softmax, "PyTorch", torch_epoch, 0.4),
        ("softmax epoch", softmax, "PyTorch, index_select", select, None),
        ("softmax epoch", softmax, "scikit-learn", sklearn_epoch, None),
        ("MLP epoch", mlp, "PyTorch", torch_epoch, 0.8),
        ("MLP epoch", mlp, "PyTorch, index_select", select, None),
        ("MLP epoch", mlp, "scikit-learn", sklearn_epoch, None),
        ("MLP epoch", mlp, "its matrix products", matrix_products, None),
    ):
        model = make_model(rng=np.random.default_rng(0))
        ours, theirs = our_epoch(nb, model, part), make_theirs(model, part)
        yield what, opponent, ours, theirs, aim, 0.1
    model = nb.ConvNet(rng=np.random.default_rng(0))
    ours = our_epoch(nb, model, part, CONVNET_BATCH)
    theirs = torch_epoch(model, part, batch=CONVNET_BATCH)
    yield "ConvNet epoch", "PyTorch", ours, theirs, 1.15, 0.1


def convolution_rows(name, layer_class, aim):
    """A convolution of 100 images with 20 filters, without and with its gradients."""
    rng = np.random.default_rng(0)
    layer, x = layer_class(3, 20, 5, rng=rng), rng.random((100, 3, 32, 32), np.float32)
    grad = rng.standard_normal((100, 20, 28, 28), np.float32)
    inputs = [torch.tensor(a, requires_grad=True) for a in (x, layer.W, layer.b)]
    torch_grad, conv2d = torch.from_numpy(grad), nn.functional.conv2d

    def our_both():
        out, grad_W = layer.forward(x), layer.backward(grad)
        return out, layer.grad_input, grad_W, layer.grad_b

    def torch_both():
        out = conv2d(*inputs)
        return out.detach(), *torch.autograd.grad(out, inputs, torch_grad)

    forward = lambda: (layer.forward(x),), torch.no_grad()(lambda: (conv2d(*inputs),))
    yield f"{name}: forward", "PyTorch", *forward, None, 1e-5
    both = our_both, torch_both
    yield f"{name}: forward + backward", "PyTorch", *both, aim, 1e-5


def agree(ours, theirs, tolerance):
    """Whether both sides computed the same, in the norm, as far as both say."""
    pairs = [map(np.asarray, pair) for pair in zip(ours, theirs, strict=False)]
    return all(np.linalg.norm(a - b) <= tolerance * np.linalg.norm(b) for a, b in pairs)


def seconds(timer, calls):
    """The time of a call; before it, garbage is collected and spinning threads rest."""
    gc.collect()
    time.sleep(0.05)
    return timer.timeit(calls) / calls


def table_line(rounds, what, opponent, ours, theirs, aim, tolerance):
    """Compare what both return; then time both in turns, each for 0.2 s or more."""
    same = agree(ours(), theirs(), tolerance)
    timers = timeit.Timer(ours), timeit.Timer(theirs)  # by perf_counter, without gc
    sides = [(timer, timer.autorange()[0]) for timer in timers]
    times = [[seconds(*side) for side in sides] for _ in range(rounds)]
    our_time, their_time = (
        f"{1e3 * median(t):.1f} ms" for t in zip(*times, strict=True)
    )
    ratios = sorted(our / their for our, their in times)
    verdict = ""
    if aim is not None:
        verdict = "met" if median(ratios) <= aim else "**missed**"
        if ratios[0] <= aim < ratios[-1]:
            verdict += ", within noise"
    if not same:
        verdict = "**RESULTS DIFFER**"
    ratio = f"{median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    return what, our_time, opponent, their_time, ratio, str(aim or ""), verdict


def processor():
    """The name of the processor, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1] for line in lines if line.startswith("model name")]
    return names[0].strip() if names else platform.machine()


def main(rounds, threads):
    nb = load_definitions()
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    threadpool_limits(threads)
    blas = {
        f"{pool['internal_api']} {pool.get('architecture', '')}".strip()
        for pool in threadpool_info()
        if pool["user_api"] == "blas"
    }
    print(
        f"{processor()}, {os.cpu_count()} cores, {threads} of them used; "
        f"Python {platform.python_version()}, numpy {np.__version__} "
        f"({', '.join(sorted(blas))}), torch {torch.__version__} "
        f"({torch.backends.cpu.get_cpu_capability()}), "
        f"scikit-learn {sklearn.__version__}; medians of {rounds} rounds"
        f"{'' if rounds >= 7 else ': too few to say anything'}\n"
    )
    rows = [*training_rows(nb)]
    rows += convolution_rows("convolution", nb.Convolution_Layer, None)
    rows += convolution_rows("fast convolution", nb.Fast_Convolution_Layer, 1.3)
    header = "what", "ours", "opponent", "opponent's time", "ratio (all rounds)", "aim"
    print("|", " | ".join(header), "| |")
    print("| :-- | --: | :-- | --: | --: | --: | :-- |", flush=True)
    for row in rows:
        print("|", " | ".join(table_line(rounds, *row)), "|", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, help="default: 9")
    parser.add_argument("--threads", type=int, default=1, help="default: 1, as in fit")
    main(**vars(parser.parse_args()))
