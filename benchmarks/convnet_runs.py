"""Train the ConvNet, the wide MLP or a variant of them; append a row to a CSV file.

python benchmarks/convnet_runs.py NAME [NAME ...] [--seeds SEED ...] [--share SHARE]

The measured accuracy is that on the validation images; the test set is never read. With
a share of the images below 1, for a quick trial, rows are printed but not kept.
"""

import argparse
import csv
import itertools
import math
import os
import sys
import time
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
from load_definitions import ROOT, load_definitions

nb = load_definitions()
TABLE = Path(__file__).resolve().with_suffix(".csv")
NET = {
    "channels": (16, 48), "kernels": (5, 5), "strides": (2, 2), "paddings": (1, 0),
    "hidden": (128,), "epochs": 20, "batch_size": 50, "learning_rate": 0.3, "lam": 0.0,
    "elastic": 1.2,
}  # fmt: skip
SMALL_KERNELS = {"channels": (16, 32), "kernels": (5, 3), "paddings": (0, 0)}
MLP = NET | {"channels": (), "kernels": (), "strides": (), "paddings": ()}
MLP |= {"hidden": (800,), "epochs": 30, "batch_size": 100, "learning_rate": 0.7}
SETTINGS = {  # elastic None: undistorted images
    "ConvNet": NET,
    "ConvNet, not distorted": NET | {"elastic": None},
    "wide MLP": MLP,
    "wide MLP, not distorted": MLP | {"elastic": None},
    "16-48": NET | {"epochs": 24},
    "16-48, longer": NET | {"epochs": 28},
    "16-48, rate 0.15": NET | {"epochs": 24, "learning_rate": 0.15},
    "16-48, rate 0.5": NET | {"epochs": 24, "learning_rate": 0.5},
    "16-48, batch 100": NET | {"epochs": 28, "batch_size": 100, "learning_rate": 0.6},
    "16-48, elastic 0.9": NET | {"epochs": 24, "elastic": 0.9},
    "8-48": NET | {"epochs": 36, "channels": (8, 48)},
    "16-32, 5-5": NET | {"epochs": 28, "channels": (16, 32), "paddings": (0, 2)},
    "24-48, 5-5": NET | {"epochs": 18, "channels": (24, 48), "paddings": (0, 2)},
    "16-32, 5-3, longer": NET | {"epochs": 48} | SMALL_KERNELS,
    "MLP 35": MLP | {"epochs": 35},
}


class Variant(nb.ConvNet):
    """The ConvNet with other sizes."""

    def __init__(self, settings, rng):
        layers = []
        depth, size = 1, 28
        keys = "channels", "kernels", "strides", "paddings"
        columns = [settings[key] for key in keys]
        for channels, kernel, stride, padding in zip(*columns, strict=True):
            options = {"stride": stride, "padding": padding, "rng": rng}
            layers.append(nb.Fast_Convolution_Layer(depth, channels, kernel, **options))
            layers.append(nb.ReLU())
            depth, size = channels, nb.output_size(size, kernel, stride, padding)
        classifier = nb.MLP(depth * size**2, *settings["hidden"], 10, rng=rng)
        nb.Network.__init__(self, [*layers, nb.Flatten(), *classifier.layers])


def as_text(value):
    """A setting as the table has it: (5, 3) as 5-3."""
    return "-".join(map(str, value)) if isinstance(value, tuple) else value


def measure(name, seed, train, validation):
    """Train once; return a row of the table, in the order of its header."""
    settings = SETTINGS[name]
    keys = "epochs", "batch_size", "learning_rate", "lam"
    fit_settings = {key: settings[key] for key in keys}
    if settings["elastic"] is not None:
        fit_settings["batches"] = partial(
            nb.distorted_minibatch, elastic=settings["elastic"]
        )
    if settings["channels"]:
        make_model = partial(Variant, settings)
    else:
        make_model = partial(nb.MLP, 784, *settings["hidden"], 10)
    one_image = nb.Dataset(validation.x[:1], validation.y[:1])  # to save time
    start = time.perf_counter()
    run = nb.fit(make_model, train, one_image, seed, **fit_settings)
    seconds = time.perf_counter() - start
    _, accuracy = nb.evaluate(run.model, validation)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else math.nan
    values = [as_text(value) for value in settings.values()]
    return [
        name,
        *values,
        seed,
        f"{seconds:.0f}",
        f"{load:.1f}",
        f"{accuracy / 100:.5f}",
    ]


def main(names, seeds, share):
    """Train every named variant from every seed."""
    train, validation, _ = nb.load_mnist(ROOT / "data" / "mnist", share)
    for name, seed in itertools.product(names, seeds):
        row = measure(name, seed, train, validation)
        print(*row, sep=", ", flush=True)
        if share == 1:
            with TABLE.open("a", newline="", encoding="utf-8") as file:
                csv.writer(file, lineterminator="\n").writerow(row)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", choices=SETTINGS, metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="SEED")
    parser.add_argument("--share", type=float, default=1.0, help="of the images")
    main(**vars(parser.parse_args()))
