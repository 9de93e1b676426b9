"""The comparison of two loss curves that all scripts in this folder make."""

import sys


def compare(name: str, original: list[float], ours: list[float], u: float, drift: float = 0.01) -> None:
    """Print how a training went with the original loss and with xpent's; exit with an error if they disagree.

    Both trainings start from the same weights, so the first losses may differ by rounding errors alone: by 64 u, where
    u is half the machine epsilon of the losses' dtype. Training amplifies rounding errors, so later losses may drift
    apart by a share of the first loss.
    """
    differences = [abs(a - b) for a, b in zip(original, ours, strict=True)]
    largest = max(differences)
    print(
        f"{name:22} original {original[0]:.6f} -> {original[-1]:.6f}   xpent {ours[0]:.6f} -> {ours[-1]:.6f}   "
        f"largest difference {largest:.1e} in {len(ours)} losses"
    )
    # Negated, so that a loss of NaN fails.
    if not (differences[0] <= 64 * u * abs(original[0]) and largest <= drift * abs(original[0])):
        sys.exit(f"{name}: the first losses differ by {differences[0]:.1e}, all by {largest:.1e} at most")
    if not ours[-1] < 0.7 * ours[0]:
        sys.exit(f"{name}: the loss did not go down")
