"""Softmax, log-softmax, log-sum-exp and cross-entropy with hand-written derivatives, on every array library."""

from xpent._functions import (
    cross_entropy,
    linear_cross_entropy,
    log_softmax,
    logsumexp,
    softmax,
    softmax_jacobian,
)
from xpent._transforms import grad, jvp, value_and_grad, vjp

__version__ = "0.1.0"

__all__ = [
    "cross_entropy",
    "grad",
    "jvp",
    "linear_cross_entropy",
    "log_softmax",
    "logsumexp",
    "softmax",
    "softmax_jacobian",
    "value_and_grad",
    "vjp",
]
