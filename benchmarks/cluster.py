"""Show that the notebook's grids run on a cluster unchanged, and to the same digits.

python benchmarks/cluster.py [--share SHARE] [--workers WORKERS]

Sections 1.8 and 3.4 on a share of MNIST: once with joblib's default backend, once on a
cluster of dask, here of processes on this machine. The exit code is 1 if a digit of a
trial, or a bit of a leader's weights, differs.
"""

import argparse
import sys
import time
from functools import partial
from pathlib import Path

import cloudpickle
import joblib
import numpy as np
from dask.distributed import Client, LocalCluster

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
from load_definitions import ROOT, load_definitions

SOFTMAX_GRID = {
    "lam": [0.0, 3e-5, 3e-4, 3e-3],
    "learning_rate": [0.02, 0.1, 0.5, 2.0, 10.0],
}
MLP_GRID = {"batch_size": [16, 32, 64, 128], "learning_rate": [0.1, 0.2, 0.4, 0.8]}


def tune(nb, data):
    """{section: (trials, leaders)}, by the calls that the notebook makes."""
    softmax = partial(nb.Single_layer_classifier, 784, 10)
    mlp = partial(nb.MLP, 784, 256, 10)
    found = {}
    for section, make_model, grid, budget in (
        ("1.8", softmax, SOFTMAX_GRID, {"epochs": 15, "batch_size": 50}),
        ("3.4", mlp, MLP_GRID, {"epochs": 8, "lam": 3e-5}),
    ):
        trials = nb.grid_search(make_model, data.train, data.valid, grid, **budget)
        leaders = nb.fit_leaders(make_model, data.train, data.valid, trials)
        found[section] = trials, [run for group in leaders for run in group]
    return found


def digits(results):
    """All that Trials or Runs say in numbers, to the last digit (nan equals nan)."""
    return [repr((r.settings, r.train, r.valid)) for r in results]


def weights(runs):
    """The bytes of all weights and biases of each Run's model."""
    return [[value.tobytes() for value, _ in run.model.parameters()] for run in runs]


def compare(section, default, cluster):
    """Print what both backends found; whether it is the same to the bit."""
    (trials, runs), (their_trials, their_runs) = default, cluster
    print(f"\nSection {section}: settings; validation accuracy by default, by dask")
    for ours, theirs in zip(trials + runs, their_trials + their_runs, strict=True):
        seed = f", seed {ours.seed}" if hasattr(ours, "seed") else ""
        settings = ", ".join(f"{k} {v:g}" for k, v in ours.settings.items())
        print(f"{settings}{seed}: {ours.valid.accuracy!r}, {theirs.valid.accuracy!r}")
    same = digits(trials + runs) == digits(their_trials + their_runs)
    same = same and weights(runs) == weights(their_runs)
    print(f"{len(trials)} trials, {len(runs)} runs:", "equal" if same else "DIFFERENT")
    return same


def main(share, workers):
    nb = load_definitions()
    # A notebook's own functions travel to other processes by value; so shall these.
    cloudpickle.register_pickle_by_value(nb)
    names = [str(digit) for digit in range(10)]
    rng = np.random.default_rng(0)
    data = nb.load_data(ROOT / "data" / "mnist", names, rng, share)
    start = time.perf_counter()
    default = tune(nb, data)
    seconds = [time.perf_counter() - start]
    settings = {"n_workers": workers, "threads_per_worker": 1, "processes": True}
    with LocalCluster(**settings, dashboard_address=None) as cluster, Client(cluster):
        start = time.perf_counter()
        sent_once = [data.train, data.valid]  # not anew with each trial
        with joblib.parallel_config(backend="dask", scatter=sent_once):
            on_dask = tune(nb, data)
        seconds.append(time.perf_counter() - start)
    same = [compare(section, default[section], on_dask[section]) for section in default]
    print("\ndefault backend {:.1f} s, dask {:.1f} s".format(*seconds))
    return 0 if all(same) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--share", type=float, default=0.05, help="of MNIST's images")
    parser.add_argument("--workers", type=int, default=2, help="default: 2")
    sys.exit(main(**vars(parser.parse_args())))
