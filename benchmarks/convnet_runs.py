"""Train variants of the ConvNet, and the wide MLP, on distorted digits; append each run to a CSV.

python benchmarks/convnet_runs.py NAME [NAME ...] [--seeds SEED ...]
"""

import argparse
import csv
import itertools
import os
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
from load_definitions import ROOT, load_definitions

nb = load_definitions()
TABLE = Path(__file__).resolve().with_suffix(".csv")
NET = {"channels": (16, 48), "kernels": (5, 5), "strides": (2, 2), "paddings": (1, 0),
       "hidden": (128,), "epochs": 24, "batch_size": 50, "learning_rate": 0.3, "lam": 0.0,
       "elastic": nb.ELASTIC}  # fmt: skip
MLP = NET | {"channels": (), "hidden": (800,), "batch_size": 100, "learning_rate": 0.7}
SETTINGS = {f"MLP {n}": MLP | {"epochs": n} for n in (25, 30, 35, 40)}
SETTINGS |= {name: NET | changes for name, changes in {
    "16-48": {},
    "16-48, longer": {"epochs": 28},
    "16-48, rate 0.15": {"learning_rate": 0.15},
    "16-48, rate 0.5": {"learning_rate": 0.5},
    "16-48, batch 100": {"batch_size": 100, "learning_rate": 0.6, "epochs": 28},
    "16-48, elastic 0.9": {"elastic": 0.9},
    "8-48": {"channels": (8, 48), "epochs": 36},
    "16-32, 5-5": {"channels": (16, 32), "paddings": (0, 2), "epochs": 28},
    "24-48, 5-5": {"channels": (24, 48), "paddings": (0, 2), "epochs": 18},
    "16-32, 5-3, longer": {"channels": (16, 32), "kernels": (5, 3), "paddings": (0, 0),
                           "epochs": 48},
}.items()}  # fmt: skip


class Variant(nb.ConvNet):
    """The ConvNet with other numbers; without channels it is an MLP."""

    def __init__(self, s, rng):
        layers, depth, size = [], 1, 28
        geometry = zip(s["kernels"], s["strides"], s["paddings"], strict=True)
        for count, (k, stride, p) in zip(s["channels"], geometry, strict=False):
            convolution = nb.Convolution(depth, count, k, stride=stride, padding=p, rng=rng)
            layers += [convolution, nb.ReLU()]
            depth, size = count, (size + 2 * p - k) // stride + 1
        layers.append(nb.Flatten())
        for sizes in itertools.pairwise((depth * size**2, *s["hidden"], 10)):
            layers += [nb.Linear(*sizes, rng), nb.ReLU()]
        nb.Network.__init__(self, layers[:-1])


def run(name, seed, data):
    """Train once; a row of the table."""
    s, nb.ELASTIC = SETTINGS[name], SETTINGS[name]["elastic"]
    settings = {key: s[key] for key in ("epochs", "batch_size", "learning_rate", "lam")}
    settings["batches"] = partial(nb.distorted_minibatch, shape=data.shape)
    start = time.perf_counter()
    model, _ = nb.fit(partial(Variant, s), data.train, seed=seed, **settings)
    seconds, load = time.perf_counter() - start, os.getloadavg()[0]
    texts = {key: "-".join(map(str, v)) if isinstance(v, tuple) else v for key, v in s.items()}
    return {"name": name, **texts, "seed": seed, "seconds": f"{seconds:.0f}", "load": f"{load:.1f}",
            "valid accuracy": f"{nb.evaluate(model, data.valid)[1]:.5f}"}  # fmt: skip


def main(names, seeds):
    data = nb.load_data(ROOT / "data" / "mnist", range(10), np.random.default_rng(0))
    for name, seed in itertools.product(names, seeds):
        row, new = run(name, seed, data), not TABLE.exists()
        with TABLE.open("a", newline="") as file:
            csv.writer(file).writerows([row] * new + [row.values()])
        print(*row.values(), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", choices=SETTINGS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    main(**vars(parser.parse_args()))
