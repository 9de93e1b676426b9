"""The comparison of two loss curves, shared by the scripts in this directory."""

import sys


def compare(name: str, original: list[float], ours: list[float], u: float, drift: float = 0.01) -> None:
    """Print the first and last losses with the original loss and with xpent's; exit with an error if they disagree.

    Both start from the same weights, so the first losses may differ only by rounding errors of at most 64 u, where u is
    half the machine epsilon of the losses' dtype. Training amplifies rounding errors, so later losses may differ by a
    fraction ``drift`` of the first loss.
    """
    differences = [abs(a - b) for a, b in zip(original, ours, strict=True)]
    largest = max(differences)
    print(
        f"{name:22} original {original[0]:.6f} -> {original[-1]:.6f}   xpent {ours[0]:.6f} -> {ours[-1]:.6f}   "
        f"largest difference {largest:.1e} in {len(ours)} losses"
    )
    # The negation makes NaN losses fail.
    if not (differences[0] <= 64 * u * abs(original[0]) and largest <= drift * abs(original[0])):
        sys.exit(f"{name}: the first losses differ by {differences[0]:.1e}, and all by at most {largest:.1e}")
    if not ours[-1] < 0.7 * ours[0]:
        sys.exit(f"{name}: the loss did not decrease")
