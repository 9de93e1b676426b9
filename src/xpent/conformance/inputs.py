"""The arrays of the cases. Most have 8 rows of 5 classes, so that few shapes need to be compiled.

Most numbers are multiples of 1/8, which are short to read and exact in every dtype.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from xpent.conformance.dtypes import Numbers

ROWS, CLASSES = 8, 5
NAN, INF = np.nan, np.inf
MARGINS = np.linspace(-100, 100, 17)


def logits(*shape: int, seed: int = 11) -> Numbers:
    """Random logits of moderate size."""
    return eighths(np.random.default_rng(seed).normal(scale=2, size=shape or (ROWS, CLASSES)))


def eighths(x: Numbers) -> Numbers:
    """Round to multiples of 1/8."""
    return np.asarray(np.rint(8 * x) / 8)


def uncertain(x: Numbers, seed: int = 2) -> Numbers:
    """Labels that are not the class with the largest logit. There the textbook formulas are accurate."""
    shift = np.random.default_rng(seed).integers(1, x.shape[-1], size=x.shape[:-1])
    return np.asarray((np.argmax(x, axis=-1) + shift) % x.shape[-1])


def one_hot(labels: Numbers, classes: int = CLASSES) -> Numbers:
    """One-hot distributions."""
    return np.eye(classes)[labels]


def with_margin(
    margin: float, classes: int = CLASSES, rows: int = ROWS, offset: float = 0.0
) -> tuple[Numbers, Numbers]:
    """Logits and labels, where the logit of the label exceeds the largest other logit by a margin."""
    rng = np.random.default_rng(int(classes + abs(margin)))
    x, labels = eighths(rng.normal(scale=2, size=(rows, classes))), rng.integers(classes, size=rows)
    is_label = np.arange(classes) == labels[:, None]
    x -= np.max(np.where(is_label, -np.inf, x), axis=-1, keepdims=True)
    return np.where(is_label, margin, x) + offset, labels


def with_margins(classes: int) -> tuple[Numbers, Numbers]:
    """Margins of the label from -100 to 100 at three offsets, with logits that are not multiples of 1/8."""
    margins = MARGINS if classes < 100 else MARGINS[::4]
    parts = [with_margin(m, classes, 1, offset) for offset in (0.0, 1e3, 1e4) for m in margins]
    x, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return x + np.random.default_rng(classes).uniform(-0.05, 0.05, size=x.shape), labels


def with_few_values(rows: int, classes: int) -> tuple[Numbers, Numbers]:
    """Logits of many classes, with few distinct values."""
    rng = np.random.default_rng(classes)
    return rng.integers(-32, 33, size=(rows, classes)) / 8, rng.integers(classes - 1, size=rows)


def sized(rows: int, classes: int) -> tuple[Numbers, Numbers]:
    """Logits and labels for tests of block sizes: every other label is the last class; labels have low probability."""
    x = np.random.default_rng(rows + classes).integers(-4, 5, size=(rows, classes)) / 4 - 4
    labels = np.where(np.arange(rows) % 2 == 0, classes - 1, np.argmin(x, axis=-1))
    x[np.arange(rows), labels] = -5.5
    return x, labels


def one_below_zero(classes: int) -> tuple[Numbers, Numbers]:
    """One row of zeros, except that the logit of its label, 5, is -1/8."""
    return np.where(np.arange(classes) == 5, -0.125, 0.0)[None], np.asarray([5])


def repeated(times: int) -> tuple[Numbers, Numbers]:
    """The 8 rows, with two classes, repeated."""
    return np.tile(X[:, :2], (times, 1)), np.tile(LABELS % 2, times)


def zeros(rows: int, classes: int) -> tuple[Numbers, Numbers]:
    """Logits and labels that are all 0."""
    return np.zeros((rows, classes)), np.zeros(rows, dtype=np.int64)


def distributions(seed: int = 3, rows: int = ROWS, classes: int = CLASSES) -> Numbers:
    """Rows of probabilities that are multiples of 1/64."""
    counts = np.random.default_rng(seed).multinomial(64 - classes, np.ones(classes) / classes, size=rows)
    return np.asarray((1 + counts) / 64)


def weights(size: int, seed: int = 4) -> Numbers:
    """Random weights between 1/2 and 2."""
    return eighths(np.random.default_rng(seed).uniform(0.5, 2, size=size))


def replaced(x: Numbers, row: int, values: list[float] | float) -> Numbers:
    """A copy with other values in one row."""
    x = x.copy()
    x[row] = values
    return x


X = logits()
LABELS = uncertain(X)
Q = distributions()
CLASS_WEIGHT = weights(CLASSES)
SAMPLE_WEIGHT = weights(ROWS, seed=5)

# The functions to which `case.Generated` refers; each returns logits and labels.
GENERATORS: dict[str, Callable[..., tuple[Numbers, Numbers]]] = {
    function.__name__: function for function in (with_margins, with_few_values, sized, one_below_zero, repeated, zeros)
}
