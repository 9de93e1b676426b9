"""Softmax regression on scikit-learn's digits by `scipy.optimize.minimize` with gradients."""

from types import ModuleType

import numpy as np
import scipy.optimize
import scipy.special
from compare import compare
from sklearn.datasets import load_digits

import xpent.scipy


def train(special: ModuleType) -> list[float]:
    """Minimize the mean loss with an L2 penalty by L-BFGS, and return the values of the objective."""
    images, labels = load_digits(return_X_y=True)
    images, one_hot = images / 16, np.eye(10)[labels]

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weight = flat.reshape(64, 10)
        logits = images @ weight
        losses = special.logsumexp(logits, axis=1) - (one_hot * logits).sum(1)
        gradient = images.T @ (special.softmax(logits, axis=1) - one_hot) / len(images)
        return losses.mean() + 5e-4 * np.sum(flat**2), gradient.ravel() + 1e-3 * flat

    values = [objective(np.zeros(640))[0]]

    def record(intermediate_result: scipy.optimize.OptimizeResult) -> None:
        values.append(float(intermediate_result.fun))

    scipy.optimize.minimize(
        objective, np.zeros(640), jac=True, method="L-BFGS-B", callback=record, options={"maxiter": 50}
    )
    return values


def main() -> None:
    """Minimize with the functions of SciPy and of xpent."""
    compare("scipy", train(scipy.special), train(xpent.scipy), u=2.0**-53)


if __name__ == "__main__":
    main()
