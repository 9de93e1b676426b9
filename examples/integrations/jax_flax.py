"""A Flax NNX network, trained with optax under jit on scikit-learn's digits."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from compare import compare
from flax import nnx
from sklearn.datasets import load_digits

import xpent.optax

STEPS, BATCH = 60, 128


class Network(nnx.Module):
    """Two linear layers."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first, self.second = nnx.Linear(64, 64, rngs=rngs), nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Compute the logits of images."""
        return self.second(nnx.relu(self.first(x)))


def train(losses_of_rows: Callable[..., jax.Array], targets: jax.Array, images: jax.Array) -> list[float]:
    """Train, and return the losses."""
    network = Network(nnx.Rngs(0))
    optimizer = nnx.Optimizer(network, optax.adam(1e-2), wrt=nnx.Param)

    @nnx.jit
    def step(network: Network, optimizer: Any, x: jax.Array, t: jax.Array) -> jax.Array:
        loss, gradients = nnx.value_and_grad(lambda network: losses_of_rows(network(x), t).mean())(network)
        optimizer.update(network, gradients)
        return loss

    losses = []
    for key in jax.random.split(jax.random.key(0), STEPS):
        indices = jax.random.randint(key, (BATCH,), 0, len(images))
        losses.append(float(step(network, optimizer, images[indices], targets[indices])))
    return losses


def main() -> None:
    """Train with class indices and with smoothed labels, each with optax's loss and with xpent's."""
    images, labels = load_digits(return_X_y=True)
    images, labels = jnp.asarray(images / 16, dtype=jnp.float32), jnp.asarray(labels)
    smoothed = optax.smooth_labels(jax.nn.one_hot(labels, 10), 0.1)
    for name, targets in (("softmax_cross_entropy_with_integer_labels", labels), ("softmax_cross_entropy", smoothed)):
        curves = [train(getattr(module, name), targets, images) for module in (optax.losses, xpent.optax)]
        compare("flax, labels" if targets is labels else "flax, smoothed", *curves, u=2.0**-24)


if __name__ == "__main__":
    main()
