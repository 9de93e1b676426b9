"""Softmax regression on the handwritten digits of scikit-learn, one source for NumPy, PyTorch and JAX."""

import argparse
import importlib
import importlib.util

import numpy as np
from array_api_compat import array_namespace
from rich.console import Console
from rich.progress import track
from sklearn.datasets import load_digits

import xpent

LIBRARIES = {"numpy": "numpy", "torch": "torch", "jax": "jax.numpy"}
STEPS, RATE, MOMENTUM = 300, 0.2, 0.9


def digits():
    """Images as rows of 64 numbers in [0, 1] and their labels, in a fixed random order."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    return (images[order] / 16).astype("float32"), labels[order]


def descend(images, labels, weight, bias, steps):
    """The loss, weight and bias after gradient descent with momentum; the logits are not stored as a whole."""
    loss_and_gradients = xpent.value_and_grad(xpent.linear_cross_entropy, (1, 3))  # the bias is the last primal
    velocities = (0.0, 0.0)
    for _ in steps:
        loss, gradients = loss_and_gradients(images, weight, labels, bias=bias)
        velocities = [MOMENTUM * v - RATE * g for v, g in zip(velocities, gradients, strict=True)]
        weight, bias = weight + velocities[0], bias + velocities[1]
    return loss, weight, bias


def accuracy(images, labels, weight, bias):
    """The fraction of images whose largest logit is that of the label."""
    xp = array_namespace(images)
    return float(xp.mean(xp.astype(xp.argmax(images @ weight.T + bias, axis=1) == labels, images.dtype)))


def main(arguments=None):
    """Train on two thirds of the images, and print the accuracy on the others."""
    installed = [name for name, module in LIBRARIES.items() if importlib.util.find_spec(module.partition(".")[0])]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--library", choices=LIBRARIES, action="append", help="default: all that are installed")
    results = []
    for library in parser.parse_args(arguments).library or installed:
        xp = importlib.import_module(LIBRARIES[library])
        images, labels = map(xp.asarray, digits())
        weight, bias = map(xp.asarray, (np.zeros((10, 64), dtype="float32"), np.zeros(10, dtype="float32")))
        held_out = len(labels) // 3
        bar = track(range(STEPS), description=f"{library:6}", console=Console(stderr=True))
        loss, weight, bias = descend(images[held_out:], labels[held_out:], weight, bias, bar)
        loss, held_out_accuracy = float(loss), accuracy(images[:held_out], labels[:held_out], weight, bias)
        print(f"{library:6} loss {loss:.6f}, accuracy {held_out_accuracy:.2%} on {held_out} held-out images")
        results.append((loss, held_out_accuracy))
    return results


if __name__ == "__main__":
    main()
