"""Draw docs/accuracy.png: the relative error of the loss in float32 against the margin of the label."""

from pathlib import Path

import jax.numpy as jnp
import matplotlib.pyplot as plt
import mpmath
import numpy as np
import optax
import scipy.special
import torch

import xpent

# At larger margins the loss is a subnormal number in float32.
MARGINS = np.linspace(0.0, 86.0, 345, dtype=np.float32)
LOGITS, LABELS = np.stack([MARGINS, 0 * MARGINS], axis=1), np.zeros(len(MARGINS), dtype=np.int64)


def losses() -> dict[str, np.ndarray]:
    """The losses of two logits (margin, 0) with label 0."""
    of_torch = torch.from_numpy(LOGITS), torch.from_numpy(LABELS)
    of_jax = jnp.asarray(LOGITS), jnp.asarray(LABELS)
    return {
        "PyTorch": torch.nn.functional.cross_entropy(*of_torch, reduction="none").numpy(),
        "optax": np.asarray(optax.softmax_cross_entropy_with_integer_labels(*of_jax)),
        "SciPy": -scipy.special.log_softmax(LOGITS, axis=1)[:, 0],
        "xpent on NumPy": xpent.cross_entropy(LOGITS, LABELS, reduction="none"),
        "xpent in PyTorch": xpent.cross_entropy(*of_torch, reduction="none").numpy(),
        "xpent in JAX": np.asarray(xpent.cross_entropy(*of_jax, reduction="none")),
    }


def main() -> None:
    """Draw the errors; the smallest shown is that of a correctly rounded number."""
    exact = np.asarray([float(mpmath.log1p(mpmath.exp(-float(margin)))) for margin in MARGINS])
    figure, axes = plt.subplots(figsize=(8.0, 3.6), dpi=200, layout="constrained")
    colors = {"NumPy": "#0072B2", "PyTorch": "#D55E00", "JAX": "#009E73", "optax": "#009E73", "SciPy": "#0072B2"}
    places = {"PyTorch": (38, 2.2), "optax": (47, 2.2), "SciPy": (54, 2.2)}
    for name, found in losses().items():
        error = np.maximum(np.abs(found - exact) / exact, 2.0**-25)
        is_ours, color = name.startswith("xpent"), colors[name.split()[-1]]
        axes.semilogy(MARGINS, error, color=color, lw=2.5 if is_ours else 1.2, ls="-" if is_ours else "--")
        if not is_ours:
            axes.text(*places[name], name, color=color)
    for place, name in ((38, "xpent on NumPy"), (53, "in PyTorch"), (64, "in JAX")):
        axes.text(place, 5e-7, name, color=colors[name.split()[-1]])
    axes.set(
        xlabel="margin of the label: its logit minus the other", ylabel="relative error of the loss",
        title="xpent's loss keeps its digits where other losses become 0 (float32)",
        xlim=(0, 86), ylim=(1e-8, 20),
    )  # fmt: skip
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(Path(__file__).with_suffix(".png"))


if __name__ == "__main__":
    main()
