"""The arrays that cases are made of: 8 rows of 5 classes, where nothing else is said, so that compilers see few shapes.

Numbers are multiples of 1/8 where they can be: short to read, and the same in every dtype.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from xpent.conformance.dtypes import Numbers

ROWS, CLASSES = 8, 5
NAN, INF = np.nan, np.inf
MARGINS = np.linspace(-100, 100, 17)


def logits(*shape: int, seed: int = 11) -> Numbers:
    """Moderate numbers."""
    return eighths(np.random.default_rng(seed).normal(scale=2, size=shape or (ROWS, CLASSES)))


def eighths(x: Numbers) -> Numbers:
    """Rounded to multiples of 1/8."""
    return np.asarray(np.rint(8 * x) / 8)


def uncertain(x: Numbers, seed: int = 2) -> Numbers:
    """Labels that are not the likeliest class of their row: the textbook formulas lose little there."""
    shift = np.random.default_rng(seed).integers(1, x.shape[-1], size=x.shape[:-1])
    return np.asarray((np.argmax(x, axis=-1) + shift) % x.shape[-1])


def one_hot(labels: Numbers, classes: int = CLASSES) -> Numbers:
    """Distributions that are certain of the labels."""
    return np.eye(classes)[labels]


def with_margin(
    margin: float, classes: int = CLASSES, rows: int = ROWS, offset: float = 0.0
) -> tuple[Numbers, Numbers]:
    """Logits and labels: the label's logit is a margin above or below the largest other one."""
    rng = np.random.default_rng(int(classes + abs(margin)))
    x, labels = eighths(rng.normal(scale=2, size=(rows, classes))), rng.integers(classes, size=rows)
    is_label = np.arange(classes) == labels[:, None]
    x -= np.max(np.where(is_label, -np.inf, x), axis=-1, keepdims=True)
    return np.where(is_label, margin, x) + offset, labels


def with_margins(classes: int) -> tuple[Numbers, Numbers]:
    """Margins of the label from -100 to 100 at three offsets, fewer of many classes; numbers of all digits."""
    margins = MARGINS if classes < 100 else MARGINS[::4]
    parts = [with_margin(m, classes, 1, offset) for offset in (0.0, 1e3, 1e4) for m in margins]
    x, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return x + np.random.default_rng(classes).uniform(-0.05, 0.05, size=x.shape), labels


def with_few_values(rows: int, classes: int) -> tuple[Numbers, Numbers]:
    """Many classes with few distinct logits."""
    rng = np.random.default_rng(classes)
    return rng.integers(-32, 33, size=(rows, classes)) / 8, rng.integers(classes - 1, size=rows)


def sized(rows: int, classes: int) -> tuple[Numbers, Numbers]:
    """Labels are unlikely, and every other one is the last class, which ends a block or begins one."""
    x = np.random.default_rng(rows + classes).integers(-4, 5, size=(rows, classes)) / 4 - 4
    labels = np.where(np.arange(rows) % 2 == 0, classes - 1, np.argmin(x, axis=-1))
    x[np.arange(rows), labels] = -5.5
    return x, labels


def one_below_zero(classes: int) -> tuple[Numbers, Numbers]:
    """One row of zeros but for the logit of its label, 5, which is -1/8."""
    return np.where(np.arange(classes) == 5, -0.125, 0.0)[None], np.asarray([5])


def repeated(times: int) -> tuple[Numbers, Numbers]:
    """The 8 rows of two classes, again and again."""
    return np.tile(X[:, :2], (times, 1)), np.tile(LABELS % 2, times)


def zeros(rows: int, classes: int) -> tuple[Numbers, Numbers]:
    """Logits and labels of 0."""
    return np.zeros((rows, classes)), np.zeros(rows, dtype=np.int64)


def distributions(seed: int = 3, rows: int = ROWS, classes: int = CLASSES) -> Numbers:
    """Rows of probabilities, multiples of 1/64."""
    counts = np.random.default_rng(seed).multinomial(64 - classes, np.ones(classes) / classes, size=rows)
    return np.asarray((1 + counts) / 64)


def weights(size: int, seed: int = 4) -> Numbers:
    """Between 1/2 and 2."""
    return eighths(np.random.default_rng(seed).uniform(0.5, 2, size=size))


def replaced(x: Numbers, row: int, values: list[float] | float) -> Numbers:
    """With one row made of other values."""
    x = x.copy()
    x[row] = values
    return x


X = logits()
LABELS = uncertain(X)
Q = distributions()
CLASS_WEIGHT = weights(CLASSES)
SAMPLE_WEIGHT = weights(ROWS, seed=5)

# What `case.Generated` names: each returns the logits and the labels.
GENERATORS: dict[str, Callable[..., tuple[Numbers, Numbers]]] = {
    function.__name__: function for function in (with_margins, with_few_values, sized, one_below_zero, repeated, zeros)
}
