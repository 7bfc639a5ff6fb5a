"""Facts that the notebook's text quotes from runs outside it: measured, into a CSV.

python benchmarks/facts.py [blocks] [templates] [small_batches]

A further fact is a function that yields rows (its name, settings, seed, measure,
value), and an entry in FACTS. "blocks" reads the test set; nothing is chosen by it.
"""

import sys
from functools import partial
from pathlib import Path

import numpy as np
from exercises import LAM, SEEDS, load_digits, measure_into, nb

SOFTMAX = partial(nb.Single_layer_classifier, 784, 10)
CHOSEN = {"epochs": 15, "batch_size": 50, "learning_rate": 2, "lam": LAM}


def variance_ratio(hits, size=200):
    """The variance of blocks' accuracies over that of as many independent images."""
    accuracies, p = hits.reshape(-1, size).mean(axis=1), hits.mean()
    return accuracies.var(ddof=1) / (p * (1 - p) / size)


def blocks():
    """Do 200 consecutive test images vary as 200 independent ones would?"""
    data = load_digits()
    about = "blocks", "softmax classifier, rate 2, 15 epochs"
    measure = "variance of 50 blocks of 200 test images over the binomial one, "
    for seed in SEEDS:
        model = nb.fit(SOFTMAX, data.train, seed=seed, **CHOSEN).model
        hits = nb.correct(model, data.test).astype(float)
        rng = np.random.default_rng(seed)
        shuffled = [variance_ratio(rng.permutation(hits)) for _ in range(1000)]
        ratios = {
            "in file order": variance_ratio(hits),
            "in file order, first 5,000 alone (25 blocks)": variance_ratio(hits[:5000]),
            "in file order, last 5,000 alone (25 blocks)": variance_ratio(hits[5000:]),
            "mean of 1,000 shuffles": np.mean(shuffled),
            "largest of 1,000 shuffles": max(shuffled),
        }
        for name, ratio in ratios.items():
            yield *about, seed, measure + name, f"{ratio:.2f}"
        parts = {
            "all": hits,
            "the first 5,000": hits[:5000],
            "the last 5,000": hits[5000:],
        }
        for name, some in parts.items():
            accuracy = f"{100 * some.mean():.2f}"
            yield *about, seed, f"accuracy (%), test images: {name}", accuracy


def templates(seed=1):
    """Are templates less grainy at a small rate, or only not yet at the minimum?"""
    data = load_digits()
    for rate, epochs in (2, 15), (0.1, 15), (0.1, 150):
        settings = CHOSEN | {"learning_rate": rate, "epochs": epochs}
        run = nb.fit(SOFTMAX, data.train, seed=seed, **settings)
        W = run.model.W.astype(float)
        about = "templates", f"softmax classifier, rate {rate}, {epochs} epochs", seed
        yield *about, "roughness", f"{nb.roughness(W, data.shape):.3f}"
        objective = run.train.loss + LAM * np.sum(W**2)
        yield *about, "loss + penalty, training images", f"{objective:.5f}"


def small_batches():
    """Are batches below the grid of section 3.4 better, over the leaders' seeds?"""
    data = load_digits()
    make_model = partial(nb.MLP, 784, 256, 10)
    for batch_size, rate in (32, 0.4), (16, 0.4), (8, 0.2):
        settings = {"batch_size": batch_size, "learning_rate": rate, "valid_every": 8}
        for seed in 1, 2, 3:
            run = nb.fit(
                make_model, data.train, data.valid, seed, epochs=8, lam=LAM, **settings
            )
            about = "small_batches", f"MLP, batches of {batch_size}, rate {rate}", seed
            accuracy = f"{100 * run.valid.accuracy:.2f}"
            yield *about, "accuracy (%), validation images", accuracy


FACTS = {"blocks": blocks, "templates": templates, "small_batches": small_batches}

if __name__ == "__main__":
    table = Path(__file__).resolve().with_suffix(".csv")
    measure_into(table, FACTS, [name.lower() for name in sys.argv[1:]] or list(FACTS))
