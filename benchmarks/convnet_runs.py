"""Train variants of the ConvNet, and the wide MLP, on distorted digits, into a CSV.

python benchmarks/convnet_runs.py NAME [NAME ...] [--seeds SEED ...] [--share SHARE]

The CSV holds the runs behind the choice that were kept. Of the wide MLP these are the
numbers of epochs only: the runs behind its rate, its width and the strength of the
distortions were not kept. With a share of the images below 1, for a try, a run is
printed and not added.
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
NET = {
    "channels": (16, 48), "kernels": (5, 5), "strides": (2, 2), "paddings": (1, 0),
    "hidden": (128,), "epochs": 24, "batch_size": 50, "learning_rate": 0.3, "lam": 0.0,
    "elastic": nb.ELASTIC,
}  # fmt: skip
MLP = NET | {"channels": (), "hidden": (800,), "batch_size": 100, "learning_rate": 0.7}
SMALL_KERNELS = {"channels": (16, 32), "kernels": (5, 3), "paddings": (0, 0)}
SETTINGS = {f"MLP {n}": MLP | {"epochs": n} for n in (25, 30, 35, 40)} | {
    "16-48": NET,
    "16-48, longer": NET | {"epochs": 28},
    "16-48, rate 0.15": NET | {"learning_rate": 0.15},
    "16-48, rate 0.5": NET | {"learning_rate": 0.5},
    "16-48, batch 100": NET | {"batch_size": 100, "learning_rate": 0.6, "epochs": 28},
    "16-48, elastic 0.9": NET | {"elastic": 0.9},
    "8-48": NET | {"channels": (8, 48), "epochs": 36},
    "16-32, 5-5": NET | {"channels": (16, 32), "paddings": (0, 2), "epochs": 28},
    "24-48, 5-5": NET | {"channels": (24, 48), "paddings": (0, 2), "epochs": 18},
    "16-32, 5-3, longer": NET | SMALL_KERNELS | {"epochs": 48},
}


class Variant(nb.ConvNet):
    """The ConvNet with other numbers; without channels it is an MLP."""

    def __init__(self, s, rng):
        layers, depth, size, self.shape = [], 1, 28, (28, 28)
        geometry = zip(s["kernels"], s["strides"], s["paddings"], strict=True)
        for count, (kernel, stride, padding) in zip(
            s["channels"], geometry, strict=False
        ):
            options = {"stride": stride, "padding": padding, "rng": rng}
            layers.append(nb.Fast_Convolution_Layer(depth, count, kernel, **options))
            layers.append(nb.ReLU())
            depth, size = count, nb.output_size(size, kernel, stride, padding)
        layers.append(nb.Flatten())
        for sizes in itertools.pairwise((depth * size**2, *s["hidden"], 10)):
            layers += [nb.Linear(*sizes, rng), nb.ReLU()]
        nb.Network.__init__(self, layers[:-1])


def run(name, seed, data):
    """Train once; a row of the table."""
    s = SETTINGS[name]
    nb.ELASTIC = s["elastic"]  # distorted_minibatch reads it
    settings = {key: s[key] for key in ("epochs", "batch_size", "learning_rate", "lam")}
    settings["batches"] = partial(nb.distorted_minibatch, shape=data.shape)
    start = time.perf_counter()
    model = nb.fit(partial(Variant, s), data.train, seed=seed, **settings).model
    seconds, load = time.perf_counter() - start, os.getloadavg()[0]
    texts = {
        k: "-".join(map(str, v)) if isinstance(v, tuple) else v for k, v in s.items()
    }
    accuracy = nb.evaluate(model, data.valid).accuracy
    measured = {"seconds": f"{seconds:.0f}", "load": f"{load:.1f}"}
    measured["valid accuracy"] = f"{accuracy:.5f}"
    return {"name": name, **texts, "seed": seed, **measured}


def main(names, seeds, share):
    digits = [str(digit) for digit in range(10)]
    rng = np.random.default_rng(0)
    data = nb.load_data(ROOT / "data" / "mnist", digits, rng, share)
    for name, seed in itertools.product(names, seeds):
        row, new = run(name, seed, data), not TABLE.exists()
        if share == 1:
            with TABLE.open("a", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([row] * new + [row.values()])
        print(*row.values(), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", choices=SETTINGS, metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="SEED")
    parser.add_argument(
        "--share", type=float, default=1.0, help="of the images, for a try"
    )
    main(**vars(parser.parse_args()))
