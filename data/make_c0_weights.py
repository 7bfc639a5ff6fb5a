"""Write C0_weights.npy: 20 filters (3 colours x 5 x 5) that a reader recognises by eye.

They are of the kinds that first layers of trained networks learn. Run it from anywhere:
python data/make_c0_weights.py
"""

from pathlib import Path

import numpy as np

WHITE, RED_GREEN = (1, 1, 1), (1, -1, 0)  # weights of R, G, B
BLUE_YELLOW = (-0.5, -0.5, 1)


def gabor(angle, period, phase, sigma=1.4):
    """A wave under a Gaussian window (5, 5): angle in degrees, period in pixels."""
    v, u = np.mgrid[-2:3, -2:3]
    along = u * np.cos(np.radians(angle)) + v * np.sin(np.radians(angle))
    window = np.exp(-(u**2 + v**2) / (2 * sigma**2))
    wave = window * np.cos(2 * np.pi * along / period + phase)
    return wave - window * wave.sum() / window.sum()  # blind to the mean brightness


def centre_surround():
    """A narrow Gaussian less a wide one (5, 5), of sum 0."""
    v, u = np.mgrid[-2:3, -2:3]
    narrow, wide = (np.exp(-(u**2 + v**2) / (2 * s**2)) for s in (0.8, 1.6))
    return narrow / narrow.sum() - wide / wide.sum()


def filters():
    """The 20 filters (20, 3, 5, 5), each scaled to a largest absolute weight of 1."""
    angles, edge = (0, 45, 90, 135), -np.pi / 2
    drawn = [(WHITE, gabor(angle, 6, edge)) for angle in angles]
    drawn += [(WHITE, gabor(angle, 4, 0)) for angle in angles]
    drawn += [(WHITE, gabor(angle, 2.5, 0)) for angle in (0, 90)]
    drawn += [(WHITE, sign * centre_surround()) for sign in (1, -1)]
    drawn += [
        (c, s * centre_surround()) for c in (RED_GREEN, BLUE_YELLOW) for s in (1, -1)
    ]
    drawn += [
        (c, gabor(angle, 6, edge))
        for c in (RED_GREEN, BLUE_YELLOW)
        for angle in (0, 90)
    ]
    stack = np.stack([np.multiply.outer(colour, pattern) for colour, pattern in drawn])
    return stack / np.abs(stack).max(axis=(1, 2, 3), keepdims=True)


if __name__ == "__main__":
    np.save(Path(__file__).resolve().parent.parent / "C0_weights.npy", filters())
