"""Time the notebook's code against PyTorch and scikit-learn, in turns; print a table.

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
from pathlib import Path
from statistics import median

import numpy as np
import sklearn
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_info, threadpool_limits

try:
    import torch
    from torch import nn
except ImportError:  # the tests do without it; main says what is missing
    torch = None

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
from load_definitions import ROOT, load_definitions

nb = load_definitions()
RATE, LAM = 0.1, 1e-5


def our_epoch(model, part, batch):
    """An epoch of the notebook's trainer; it returns the loss in training, and the
    accuracy (%) on the training images at the end."""
    settings = {"epochs": 1, "batch_size": batch, "learning_rate": RATE, "lam": LAM}
    one_image = nb.Part(part.x[:1], part.y[:1], "validation")

    def epoch():
        run = nb.fit(lambda rng: model, part, one_image, **settings)
        return run["log"]["training loss"].item(), run[part.name]

    return epoch


def torch_twin(model):
    """The same model in PyTorch, with the same weights."""
    twin = nn.Sequential()
    if isinstance(model, nb.ConvNet):
        twin.append(nn.Unflatten(1, (1, 28, 28)))
    for ours in getattr(model, "layers", [model]):
        if isinstance(ours, nb.Convolution_Layer):
            geometry = ours.W.shape[2:], ours.stride, ours.padding
            twin.append(nn.Conv2d(ours.W.shape[1], ours.W.shape[0], *geometry))
        elif hasattr(ours, "W"):
            twin.append(nn.Linear(*ours.W.shape, bias=hasattr(ours, "b")))
        else:
            twin.append(nn.ReLU() if isinstance(ours, nb.ReLU) else nn.Flatten())
        for name, theirs in twin[-1].named_parameters():
            values = ours.b if name == "bias" else ours.W
            if values.ndim == 2:
                values = values.T
            theirs.data.copy_(torch.from_numpy(values))
    return twin


def torch_epoch(model, part, batch):
    """The same in PyTorch: shuffle, gather, step, log the loss and hits of a batch; at
    the end the accuracy on the training images."""
    x, y = torch.from_numpy(part.x.copy()), torch.from_numpy(part.y)
    model, cross_entropy = torch_twin(model), nn.CrossEntropyLoss()
    sgd = torch.optim.SGD(model.parameters(), lr=RATE, weight_decay=2 * LAM)

    @torch.no_grad()
    def accuracy():
        scores = torch.cat([model(chunk) for chunk in x.split(250)])
        return 100 * (scores.argmax(1) == y).double().mean().item()

    def epoch():
        loss_sum = correct = 0
        batches = torch.randperm(len(y)).split(batch)
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
            correct += (scores.argmax(1) == y_b).sum().item()
        return loss_sum / len(y), accuracy()

    return epoch


def sklearn_epoch(model, part, batch):
    """One pass of scikit-learn's network (softmax classifier if nothing is hidden), and
    the accuracy on the training images at the end."""
    layers = model.weighted() if isinstance(model, nb.Network) else [model]
    hidden = [layer.W.shape[1] for layer in layers[:-1]]
    net = MLPClassifier(
        hidden, solver="sgd", batch_size=batch, learning_rate_init=RATE, momentum=0,
        alpha=2 * LAM * batch, max_iter=1, random_state=0,
    )  # fmt: skip

    def epoch():
        loss = net.partial_fit(part.x, part.y, classes=range(10)).loss_
        return loss, 100 * net.score(part.x, part.y)

    return epoch


def training_rows():
    """An epoch on MNIST's training images, against each opponent from fresh weights."""
    part, _, _ = nb.load_digits(ROOT / "data" / "mnist")
    for what, make_model, batch, opponent, their_epoch, aim in (
        ("softmax epoch", nb.new_softmax, 100, "PyTorch", torch_epoch, 0.5),
        ("softmax epoch", nb.new_softmax, 100, "scikit-learn", sklearn_epoch, None),
        ("MLP epoch", nb.new_mlp, 100, "PyTorch", torch_epoch, 0.8),
        ("MLP epoch", nb.new_mlp, 100, "scikit-learn", sklearn_epoch, None),
        ("ConvNet epoch", nb.ConvNet, 50, "PyTorch", torch_epoch, 1.1),
    ):
        model = make_model(rng=0)
        theirs = their_epoch(model, part, batch)  # before ours changes the weights
        yield what, opponent, our_epoch(model, part, batch), theirs, aim, 0.1


def convolution_rows(name, layer_class, aim):
    """100 images, 20 filters of 5 x 5: forward alone, and with all gradients."""
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
    yield f"{name}: forward + backward", "PyTorch", our_both, torch_both, aim, 1e-5


def seconds(timer, calls):
    """The time of a call; before it, garbage is collected and spinning threads rest."""
    gc.collect()
    time.sleep(0.05)
    return timer.timeit(calls) / calls


def table_line(rounds, what, opponent, ours, theirs, aim, tolerance):
    """Compare what both return; then time both in turns, each for 0.2 s or more."""
    pairs = [map(np.asarray, pair) for pair in zip(ours(), theirs(), strict=False)]
    same = all(np.linalg.norm(a - b) <= tolerance * np.linalg.norm(b) for a, b in pairs)
    timers = timeit.Timer(ours), timeit.Timer(theirs)  # by perf_counter, without gc
    sides = [(timer, timer.autorange()[0]) for timer in timers]
    times = [[seconds(*side) for side in sides] for _ in range(rounds)]
    our_time, their_time = (
        f"{1e3 * median(t):.1f} ms" for t in zip(*times, strict=True)
    )
    ratios = sorted(our / their for our, their in times)
    ratio = f"{median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    verdict = "" if aim is None else "met" if median(ratios) <= aim else "**missed**"
    if not same:
        verdict = "**RESULTS DIFFER**"
    return what, our_time, opponent, their_time, ratio, str(aim or ""), verdict


def main(rounds):
    if torch is None:
        sys.exit("PyTorch is missing: pip install -r benchmarks/requirements.txt")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    threadpool_limits(1)
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    blas = {f"{pool['internal_api']} {pool.get('architecture')}" for pool in pools}
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, one used; "
        f"Python {platform.python_version()}, numpy {np.__version__} "
        f"({', '.join(sorted(blas))}), torch {torch.__version__} "
        f"({torch.backends.cpu.get_cpu_capability()}), "
        f"scikit-learn {sklearn.__version__}; medians of {rounds} rounds\n"
    )
    rows = [*training_rows()]
    rows += convolution_rows("convolution", nb.Convolution_Layer, None)
    rows += convolution_rows("fast convolution", nb.Fast_Convolution_Layer, 1.0)
    header = "what", "ours", "opponent", "opponent's time", "ratio (all rounds)", "aim"
    print("|", " | ".join(header), "| |")
    print("| :-- | --: | :-- | --: | --: | --: | :-- |", flush=True)
    for row in rows:
        print("|", " | ".join(table_line(rounds, *row)), "|", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, help="default: 9")
    main(parser.parse_args().rounds)
