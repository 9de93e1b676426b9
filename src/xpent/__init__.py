"""Softmax, log-softmax, log-sum-exp and cross-entropy with hand-written derivatives, on every array library."""

from xpent._derivatives import grad, jvp, value_and_grad, vjp
from xpent._ops.cross_entropy import cross_entropy
from xpent._ops.linear import linear_cross_entropy
from xpent._ops.softmax import log_softmax, logsumexp, softmax, softmax_jacobian

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
