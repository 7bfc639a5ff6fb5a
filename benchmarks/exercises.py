"""What comes out of the notebook's exercises: measured with its own code, into a CSV.

python benchmarks/exercises.py [q1] [q2] [q3] [q5]
"""

import csv
import sys
from functools import partial
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
from load_definitions import ROOT, load_definitions

nb = load_definitions()
HEADER = "exercise", "settings", "seed", "measure", "value"
SEEDS, LAM = range(3), 3e-5

# The calls into the notebook.


def load_digits():
    names = [str(digit) for digit in range(10)]
    return nb.load_data(ROOT / "data" / "mnist", names, np.random.default_rng(0))


def dead_units(model, x):
    """How many hidden units are 0 for every row of x."""
    first, relu = model.layers[:2]
    chunks = (x[i : i + 1000] for i in range(0, len(x), 1000))
    active = [relu.forward(first.forward(part)).any(axis=0) for part in chunks]
    return int((~np.any(active, axis=0)).sum())


def given_layer():
    """(first 100 CIFAR-10 images, the filters W0, their outputs)."""
    x = nb.load_cifar(ROOT / "data")[0][:100] / 255
    if len(x) < 100:
        sys.exit("Question 5 needs 100 images of CIFAR-10: see data/README.md")
    C0 = nb.new_layer(nb.Fast_Convolution_Layer)
    C0.set_weights(nb.load_filters(ROOT / "C0_weights.npy", C0.W.shape))
    return x, C0.W, C0.forward(x)


# The exercises: each yields rows of the table.


def shifted(part, by=3):
    """Each image moved to the right; what leaves the picture is lost."""
    images = part.x.reshape(-1, 28, 28)
    moved = np.pad(images, ((0, 0), (0, 0), (by, 0)))[:, :, :28]
    return part._replace(x=np.ascontiguousarray(moved).reshape(part.x.shape))


def q1():
    """Softmax on digits that stand three pixels to the right."""
    data, make = load_digits(), partial(nb.Single_layer_classifier, 784, 10)
    trains = {"as they are": data.train, "shifted": shifted(data.train)}
    valids = {"as they are": data.valid, "shifted": shifted(data.valid)}
    settings = {"epochs": 15, "batch_size": 50, "learning_rate": 2, "lam": LAM}
    for name, part in trains.items():
        for seed in SEEDS:
            model = nb.fit(make, part, seed=seed, **settings).model
            for where, valid in valids.items():
                accuracy = f"{100 * nb.evaluate(model, valid).accuracy:.2f}"
                measure = f"accuracy (%), validation images {where}"
                yield "Q1", f"training images {name}", seed, measure, accuracy


def q2():
    """Which of the derivatives of f change when y becomes 5."""
    for point in (2, 4, 1), (2, 5, 1):
        func = nb.Func()
        func.forward(*point)
        for name, slope in zip("xyz", func.backward(), strict=True):
            yield "Q2", f"at {point}", "", f"df/d{name}", f"{slope + 0:.6g}"


def q3():
    """Can 16 hidden units, given ten times the epochs, do what 64 do?"""
    data = load_digits()
    for units, epochs, rate in (16, 80, 0.2), (16, 80, 0.8), (64, 8, 0.2):
        settings = {"epochs": epochs, "batch_size": 64, "learning_rate": rate}
        settings |= {"lam": LAM, "valid_every": epochs}
        for seed in SEEDS:
            make = partial(nb.MLP, 784, units, 10)
            run = nb.fit(make, data.train, data.valid, seed, **settings)
            about = "Q3", f"{units} units, {epochs} epochs, rate {rate}", seed
            for score in run.train, run.valid:
                error = f"{100 - 100 * score.accuracy:.2f}"
                yield *about, f"{score.part} error (%)", error
            yield *about, "dead hidden units", dead_units(run.model, data.train.x)


def q5():
    """Noise of deviation 0.1 on the outputs that the convolution learns from."""
    x, W0, clean = given_layer()
    windows = np.lib.stride_tricks.sliding_window_view(x, (5, 5), axis=(2, 3))
    patches = windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, W0[0].size)
    A = patches.T @ patches
    variance = len(W0) * np.trace(np.linalg.inv(A))  # of the weights, for noise of sd 1
    expected = 0.1 * np.sqrt(variance) / np.linalg.norm(W0)
    yield "Q5", "least squares", "", "filter error, expected", f"{expected:.4g}"
    for seed in SEEDS:
        noise = np.random.default_rng(seed).standard_normal(clean.shape)
        target = clean + 0.1 * noise
        outputs = target.transpose(0, 2, 3, 1).reshape(-1, len(W0))
        W = np.linalg.lstsq(patches, outputs, rcond=None)[0].T.reshape(W0.shape)
        along = (W - W0).reshape(len(W0), -1) @ np.linalg.eigh(A)[1]  # flattest first
        share = (along[:, :10] ** 2).sum() / (along**2).sum()
        error = np.linalg.norm(W - W0) / np.linalg.norm(W0)
        yield "Q5", "least squares", seed, "filter error", f"{error:.4g}"
        measure = "share of the squared error along the ten flattest of 75 directions"
        yield "Q5", "least squares", seed, measure, f"{share:.4g}"
        for rate in 2.0, 0.5:
            C, rule = nb.new_layer(nb.Fast_Convolution_Layer), nb.Whitened(rate, A)
            history = nb.descend(C, x, target, W0, rule, 60, seed=seed).history
            for passes in 20, 60:
                name = f"whitened descent, rate {rate}, {passes} passes"
                error = f"{history[passes].error:.4g}"
                yield "Q5", name, seed, "filter error", error


def measure_into(table, parts, names):
    """Write the rows of the named parts, {name: function}; those of others stay."""
    rows = []
    if table.exists():
        with table.open(newline="", encoding="utf-8") as file:
            rows = [r for r in list(csv.reader(file))[1:] if r[0].lower() not in names]
    with threadpool_limits(1, "blas"):
        for name in names:
            for row in parts[name]():
                print(*row, sep=", ", flush=True)
                rows.append(row)
    order = list(parts)
    rows.sort(key=lambda row: order.index(row[0].lower()))
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([HEADER, *rows])


EXERCISES = {"q1": q1, "q2": q2, "q3": q3, "q5": q5}

if __name__ == "__main__":
    table = Path(__file__).resolve().with_suffix(".csv")
    names = [name.lower() for name in sys.argv[1:]] or list(EXERCISES)
    measure_into(table, EXERCISES, names)
