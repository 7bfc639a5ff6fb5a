"""Train the ConvNet, the wide MLP or a variant; print the accuracy.

python benchmarks/convnet_runs.py MODEL [--plain] [--epochs EPOCHS] [--seed SEED] ...

Prints a row of convnet_runs.csv: the settings, and the accuracy in % on the validation
images; the test set is never used. The digits are distorted, unless --plain is given.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
from load_definitions import ROOT, load_definitions

nb = load_definitions()


class Variant(nb.ConvNet):
    """The ConvNet with other sizes: a tuple for its two convolutions each."""

    def __init__(self, channels, kernels, paddings, *, rng):
        layers, depth, size = [], 1, 28
        for filters, kernel, padding in zip(channels, kernels, paddings, strict=True):
            options = {"stride": 2, "padding": padding, "rng": rng}
            layers.append(nb.Fast_Convolution_Layer(depth, filters, kernel, **options))
            layers.append(nb.ReLU())
            depth, size = filters, nb.output_size(size, kernel, 2, padding)
        classifier = nb.MLP(depth * size**2, 128, 10, rng=rng)
        nb.Network.__init__(self, [*layers, nb.Flatten(), *classifier.layers])


MODELS = {
    "ConvNet": nb.ConvNet,
    "ConvNet-16-32": partial(Variant, (16, 32), (5, 5), (0, 2)),
    "ConvNet-16-32-small": partial(Variant, (16, 32), (5, 3), (0, 0)),
    "ConvNet-24-48": partial(Variant, (24, 48), (5, 5), (0, 2)),
    "MLP": partial(nb.MLP, 784, 800, 10),
}


def main(model, distorted, seed, **settings):
    """Train once; print a row of the table."""
    train, validation, _ = nb.load_mnist(ROOT / "data" / "mnist")
    one_image = nb.Dataset(validation.x[:1], validation.y[:1])  # to save time
    augment = nb.distort if distorted else None
    fit = partial(nb.fit, MODELS[model], train, one_image, seed, augment=augment)
    accuracy = nb.evaluate(fit(**settings).model, validation)[1]
    print(model, distorted, *settings.values(), seed, f"{accuracy:.3f}", sep=",")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--plain", dest="distorted", action="store_false")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch_size", type=int, default=50)
    parser.add_argument("--learning_rate", type=float, default=0.3)
    parser.add_argument("--seed", type=int, default=0)
    main(**vars(parser.parse_args()))
