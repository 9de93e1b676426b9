"""Real data: softmax regression on the handwritten digits of scikit-learn, by plain gradient descent in float64."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from functools import cache

import numpy as np

from xpent.conformance.checks import Verdict
from xpent.conformance.dtypes import EPSILON, Numbers
from xpent.conformance.libraries import Unsupported
from xpent.conformance.trial import Raised, Trial

STEPS, RATE, CLASSES, TRAINING = 300, 0.4, 10, 1347

# Descent on a convex loss at this rate does not spread errors, so they add up: each step rounds sums over the images.
ALLOWED_UNITS = STEPS * TRAINING


def trains(trial: Trial) -> Verdict:
    """Every loss on the way is that of the textbook formula, in units of u, and the images held out are recognised."""
    if importlib.util.find_spec("sklearn") is None:
        raise Unsupported("scikit-learn, whose digits these are, is not installed")
    library, options = trial.library, {"reduction": "mean"}
    if not trial.implementation.takes("cross_entropy", "reduction"):
        options = {}

    def step(logits: Numbers, labels: Numbers) -> tuple[float, Numbers]:
        arrays = library.asarray(logits, "float64"), library.asarray(labels, "int64")
        value, gradient = trial.vjp(arrays, options, 0, None)
        if value.shape != () or gradient.shape != logits.shape:
            raise Raised(f"the mean has the shape {value.shape}, its gradient {gradient.shape}")
        return float(value), gradient

    losses, accuracy = _descend(step)
    right, their_accuracy = _reference()
    difference = np.nan_to_num(np.abs(np.asarray(losses) - right), nan=math.inf)
    error = float(np.max(difference)) / (EPSILON["float64"] / 2)
    verdict = Verdict({"loss": error}, error / ALLOWED_UNITS)
    verdict.note = f"final loss {losses[-1]:.12f} nats, {accuracy:.2%} of the images held out are recognised"
    if not error <= ALLOWED_UNITS:
        verdict.wrong.append(f"a loss is {error:.2g} u off where {ALLOWED_UNITS} u are allowed: {verdict.note}")
    if accuracy != their_accuracy:
        verdict.wrong.append(f"{verdict.note}, instead of {their_accuracy:.2%}")
    return verdict


@cache
def _images() -> tuple[Numbers, Numbers]:
    """The 1797 images as rows of 64 numbers in [0, 1] and their labels, in a fixed random order."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    return images[order] / 16, labels[order]


def _descend(step: Callable[[Numbers, Numbers], tuple[float, Numbers]]) -> tuple[list[float], float]:
    """The losses on the way from weights of zero, and the share of the images held out that are recognised."""
    images, labels = _images()
    x, y = images[:TRAINING], labels[:TRAINING]
    weight, bias, losses = np.zeros((x.shape[1], CLASSES)), np.zeros(CLASSES), []
    for _ in range(STEPS):
        loss, d_logits = step(x @ weight + bias, y)
        losses.append(loss)
        weight, bias = weight - RATE * x.T @ d_logits, bias - RATE * np.sum(d_logits, axis=0)
    scores = images[TRAINING:] @ weight + bias
    return losses, float(np.mean(np.argmax(scores, axis=-1) == labels[TRAINING:]))


@cache
def _reference() -> tuple[Numbers, float]:
    """The same by p - y, the textbook's gradient."""

    def step(logits: Numbers, labels: Numbers) -> tuple[float, Numbers]:
        y = np.eye(CLASSES)[labels]
        p = np.exp(logits) / np.sum(np.exp(logits), axis=-1, keepdims=True)
        return float(-np.mean(np.sum(y * np.log(p), axis=-1))), (p - y) / len(y)

    losses, accuracy = _descend(step)
    return np.asarray(losses), accuracy
