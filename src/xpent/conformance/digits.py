"""Softmax regression on the handwritten digits of scikit-learn, by gradient descent in float64."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from xpent.conformance.dtypes import Numbers

STEPS, RATE, CLASSES, TRAINING = 300, 0.4, 10, 1347

# Gradient descent on a convex loss with this learning rate does not amplify errors, so the errors of all steps, each a
# sum over the images, add up.
ALLOWED_UNITS = STEPS * TRAINING

Step = Callable[[Numbers, Numbers], tuple[float, Numbers]]  # from logits and labels to the mean loss and its gradient


@cache
def _images() -> tuple[Numbers, Numbers]:
    """The 1797 images as rows of 64 numbers in [0, 1] and their labels, in a fixed random order."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    return images[order] / 16, labels[order]


def descend(step: Step) -> tuple[list[float], float]:
    """Train from zero weights; return the losses of all steps and the accuracy on the held-out images."""
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
def reference() -> tuple[Numbers, float]:
    """The losses and the accuracy with the textbook gradient p - y."""

    def step(logits: Numbers, labels: Numbers) -> tuple[float, Numbers]:
        y = np.eye(CLASSES)[labels]
        p = np.exp(logits) / np.sum(np.exp(logits), axis=-1, keepdims=True)
        return float(-np.mean(np.sum(y * np.log(p), axis=-1))), (p - y) / len(y)

    losses, accuracy = descend(step)
    return np.asarray(losses), accuracy
