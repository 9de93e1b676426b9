"""The rows that many cases share: 8 of 5 classes, so that a compiler sees few shapes.

Their numbers are multiples of 1/8: short to read, and the same in every dtype.
"""

from __future__ import annotations

import numpy as np

from xpent.conformance.dtypes import Numbers

ROWS, CLASSES = 8, 5


def logits(*shape: int, seed: int = 11) -> Numbers:
    """Moderate numbers."""
    return eighths(np.random.default_rng(seed).normal(scale=2, size=shape or (ROWS, CLASSES)))


def eighths(x: Numbers) -> Numbers:
    """Rounded to multiples of 1/8."""
    return np.asarray(np.rint(8 * x) / 8)


def uncertain(x: Numbers, seed: int = 2) -> Numbers:
    """For each row some class that is not the likeliest: the textbook formulas lose little there."""
    shift = np.random.default_rng(seed).integers(1, x.shape[-1], size=x.shape[:-1])
    return np.asarray((np.argmax(x, axis=-1) + shift) % x.shape[-1])


def one_hot(labels: Numbers, classes: int = CLASSES) -> Numbers:
    """Distributions that are sure of the labels."""
    return np.eye(classes)[labels]


def ahead(margin: float, classes: int = CLASSES, rows: int = ROWS, offset: float = 0.0) -> tuple[Numbers, Numbers]:
    """Logits and labels: the label's logit is a margin above or below the largest other one."""
    rng = np.random.default_rng(int(classes + abs(margin)))
    x, labels = eighths(rng.normal(scale=2, size=(rows, classes))), rng.integers(classes, size=rows)
    is_label = np.arange(classes) == labels[:, None]
    x -= np.max(np.where(is_label, -np.inf, x), axis=-1, keepdims=True)
    return np.where(is_label, margin, x) + offset, labels


def distributions(seed: int = 3, rows: int = ROWS, classes: int = CLASSES) -> Numbers:
    """Rows of probabilities, multiples of 1/64."""
    counts = np.random.default_rng(seed).multinomial(64 - classes, np.ones(classes) / classes, size=rows)
    return np.asarray((1 + counts) / 64)


def weights(size: int, seed: int = 4) -> Numbers:
    """Between 1/2 and 2."""
    return eighths(np.random.default_rng(seed).uniform(0.5, 2, size=size))


X = logits()
LABELS = uncertain(X)
Q = distributions()
CLASS_WEIGHT = weights(CLASSES)
SAMPLE_WEIGHT = weights(ROWS, seed=5)
NAN, INF = np.nan, np.inf


def replaced(x: Numbers, row: int, values: list[float] | float) -> Numbers:
    """With one row made of other values."""
    x = x.copy()
    x[row] = values
    return x
