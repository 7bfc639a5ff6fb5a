"""Measure what the notebook's text quotes from outside: facts.csv, exercises.csv.

python benchmarks/facts.py

Each function below yields rows (name, settings, seed, measure, value). It takes half
a minute, on one thread, and writes both files anew. The test set is never read.
"""

import csv
import sys
from functools import partial
from pathlib import Path

import numpy as np
from scipy.stats import chi2_contingency
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
from load_definitions import ROOT, load_definitions

nb = load_definitions()
MNIST = ROOT / "data" / "mnist"
HEADER = "name", "settings", "seed", "measure", "value"
SEEDS = range(3)
SOFTMAX = partial(nb.Single_layer_classifier, 784, 10)
CHOSEN = {"epochs": 5, "batch_size": 50, "learning_rate": 2, "lam": 3e-5}


def file_order():
    """1.1: is the training file in random order? Trained on its first 70%."""
    x = nb.read_idx(MNIST / "train-images-idx3-ubyte.gz").reshape(-1, 784)
    x = x.astype(np.float32) / np.float32(255)
    y = nb.read_idx(MNIST / "train-labels-idx1-ubyte.gz").astype(np.int64)
    cut = len(y) * 7 // 10
    first = nb.Part(x[:cut], y[:cut], "first 70% of the file")
    about = "1.1", "softmax classifier, trained on the first 42,000 of the file"
    for seed in SEEDS:
        model = nb.fit(SOFTMAX, first, seed=seed, **CHOSEN).model
        sixths = (nb.predict(model, x[cut:]) == y[cut:]).reshape(6, -1)
        for k, accuracy in enumerate(100 * sixths.mean(axis=1), start=1):
            measure = f"accuracy (%), sixth {k} of the rest"
            yield *about, seed, measure, f"{accuracy:.2f}"
        right = sixths.sum(axis=1)
        p = chi2_contingency([right, sixths.shape[1] - right]).pvalue
        yield *about, seed, "chi-square p, six equal accuracies", f"{p:.1g}"


def moved(part):
    """The images three pixels further right, as in the exercise of Question 1."""
    images = np.roll(part.x.reshape(-1, 28, 28), 3, axis=2)
    return part._replace(x=images.reshape(-1, 784))


def exercise_1():
    """Does a softmax classifier mind where the digits stand?"""
    training, validation, _ = nb.load_digits(MNIST)
    cases = [
        ("neither moved", training, validation),
        ("training and validation images moved", moved(training), moved(validation)),
        ("validation images moved", training, moved(validation)),
    ]
    for name, part, valid in cases:
        for seed in SEEDS:
            run = nb.fit(SOFTMAX, part, valid, seed, **CHOSEN)
            yield "Q1", name, seed, "validation accuracy (%)", f"{100 * run.valid:.2f}"


def exercise_5():
    """Noise of deviation 0.1 on the outputs that the convolution learns from."""
    W0 = nb.load_filters(ROOT / "C0_weights.npy", (20, 3, 5, 5))
    x = nb.load_cifar(ROOT / "data")[0][:100]
    if len(x) < 100:
        sys.exit("Question 5 needs 100 images of CIFAR-10: see data/README.md")
    C0 = nb.new_layer(nb.Fast_Convolution_Layer)
    C0.set_weights(W0)
    target = C0.forward(x)
    windows = np.lib.stride_tricks.sliding_window_view(x, (5, 5), axis=(2, 3))
    patches = windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, 75)
    A = patches.T @ patches
    outputs = target.transpose(0, 2, 3, 1).reshape(-1, 20)  # as in 5.8
    for seed in SEEDS:
        normal = np.random.default_rng(seed).standard_normal(outputs.shape)
        noisy = outputs + 0.1 * normal
        solution = np.linalg.lstsq(patches, noisy, rcond=None)[0]
        error = np.linalg.norm(solution.T.reshape(W0.shape) - W0) / np.linalg.norm(W0)
        yield "Q5", "least squares", seed, "filter error", f"{error:.4f}"
        rows, columns = target.shape[2:]
        noisy = noisy.reshape(-1, rows, columns, 20).transpose(0, 3, 1, 2)
        for rate in 2.0, 0.5:
            rule = nb.Whitened(rate, A)
            watch = partial(nb.measure, x=x, target=noisy, W0=W0)
            C = nb.new_layer(nb.Fast_Convolution_Layer)
            _, history = nb.descend(C, x, noisy, rule, passes=60, watch=watch)
            for passes in 20, 60:
                settings = f"whitened descent, rate {rate}, {passes} passes"
                error = f"{history[passes].error:.4f}"
                yield "Q5", settings, seed, "filter error", error


def write(name, functions):
    """The rows of the functions, into a CSV beside this file."""
    rows = [HEADER]
    for function in functions:
        for row in function():
            print(*row, sep=", ", flush=True)
            rows.append(row)
    with Path(__file__).with_name(name).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


if __name__ == "__main__":
    with threadpool_limits(1, "blas"):
        write("facts.csv", [file_order])
        write("exercises.csv", [exercise_1, exercise_5])
