"""Real data: softmax regression on the handwritten digits of scikit-learn, the same on every library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import xpent
from xpent.conformance.implementations import Implementation
from xpent.conformance.oracle import Numbers

STEPS, RATE, CLASSES, TRAINING = 300, 0.4, 10, 1347


@dataclass(frozen=True)
class Run:
    """One training: by whose gradient, with what outcome."""

    implementation: str
    gradient: str
    final_loss: float  # nats
    accuracy: float  # on the images held out
    trajectory: list[float]


def load() -> tuple[Numbers, Numbers]:
    """The 1797 images as rows of 64 numbers in [0, 1] and their labels, in a fixed random order."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    return images[order] / 16, labels[order]


def train(implementation: Implementation, images: Numbers, labels: Numbers, *, by_hand: bool) -> Run:
    """Plain gradient descent from zero, in float64."""
    x, y = implementation.asarray(images[:TRAINING]), implementation.asarray(labels[:TRAINING])
    weight = implementation.asarray(np.zeros((images.shape[1], CLASSES)))
    bias = implementation.asarray(np.zeros(CLASSES))
    step = implementation.compile(_by_hand if by_hand else _by_autodiff(implementation))
    trajectory = []
    for _ in range(STEPS):
        loss, d_weight, d_bias = step(weight, bias, x, y)
        trajectory.append(float(loss))
        weight, bias = weight - RATE * d_weight, bias - RATE * d_bias
    scores = images[TRAINING:] @ implementation.to_numpy(weight) + implementation.to_numpy(bias)
    accuracy = float(np.mean(np.argmax(scores, axis=-1) == labels[TRAINING:]))
    gradient = "by hand" if by_hand else f"{implementation.own_name}, autodiff"
    return Run(implementation.name, gradient, trajectory[-1], accuracy, trajectory)


def _by_hand(weight: Any, bias: Any, x: Any, y: Any) -> tuple[Any, Any, Any]:
    # dW = X^T (p - y), db = sum(p - y), with p - y = d loss / d logits
    loss, d_logits = xpent.value_and_grad(xpent.cross_entropy)(x @ weight + bias, y)
    return loss, x.T @ d_logits, d_logits.sum(0)


def _by_autodiff(implementation: Implementation) -> Any:
    transforms = implementation.transforms

    def step(weight: Any, bias: Any, x: Any, y: Any) -> tuple[Any, Any, Any]:
        def loss(weight: Any, bias: Any) -> Any:
            return implementation.own["cross_entropy"](x @ weight + bias, y, reduction="mean")

        value, pullback = transforms.vjp(loss, weight, bias)  # type: ignore[union-attr]
        return (value, *pullback(value / value))

    return step


def allowed_difference() -> float:
    """How far two trajectories may part, in nats.

    Descent on a convex loss at this rate does not spread errors, so they add up: each step rounds sums over the images.
    """
    return STEPS * TRAINING * 2.0**-53
