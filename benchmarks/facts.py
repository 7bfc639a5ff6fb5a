"""Is MNIST's training file in random order, as page 1 says it is not? -> facts.csv.

python benchmarks/facts.py

A softmax classifier is trained on the first 70% of the file, with the settings chosen
in 1.8, and judged on each sixth of the rest. The test set is never read.
"""

import csv
import gzip
import sys
from pathlib import Path

import idx2numpy
import numpy as np
from scipy.stats import chi2_contingency

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
from load_definitions import ROOT, load_definitions

nb = load_definitions()
MNIST = ROOT / "data" / "mnist"
FILES = "images-idx3", "labels-idx1"
HEADER = "seed", "measure", "value"
CHOSEN = {"epochs": 5, "batch_size": 50, "learning_rate": 2, "lam": 3e-5}


def read(name):
    """The array in one of MNIST's files."""
    with gzip.open(MNIST / f"{name}-ubyte.gz") as file:
        return idx2numpy.convert_from_string(file.read())


def file_order(seeds):
    """Rows as in HEADER."""
    x, y = (read(f"train-{name}") for name in FILES)
    x = x.reshape(-1, 784).astype(np.float32) / 255
    y = y.astype(int)
    cut = len(y) * 7 // 10
    first = nb.Part(x[:cut], y[:cut], "first")
    rest = nb.Part(x[cut:], y[cut:], "rest")
    for seed in seeds:
        model = nb.fit(nb.new_softmax, first, rest, seed, **CHOSEN)["model"]
        sixths = (nb.predict(model, rest.x) == rest.y).reshape(6, -1)
        for k, accuracy in enumerate(100 * sixths.mean(axis=1), start=1):
            yield seed, f"accuracy (%), sixth {k} of the rest", f"{accuracy:.2f}"
        right = sixths.sum(axis=1)
        p = chi2_contingency([right, sixths.shape[1] - right]).pvalue
        yield seed, "chi-square p, six equal accuracies", f"{p:.1g}"


if __name__ == "__main__":
    rows = [HEADER, *file_order(range(3))]
    with Path(__file__).with_suffix(".csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
