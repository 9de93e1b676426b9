"""optax."""

from __future__ import annotations

from typing import Any

from xpent.conformance import signatures
from xpent.conformance.implementation import Implementation
from xpent.conformance.libraries import library

_LACKS = {**signatures.LACKS["optax"], "bits of a row": "does not promise them"}
_NO_INDICES = {"indices": "takes distributions", "integer distributions": "takes distributions of floats"}


def _of(name: str, function: str, lacks: dict[str, str]) -> Implementation:
    import optax

    source = (
        f"from optax.losses import {function} as cross_entropy\nfrom xpent.conformance import signatures\n"
        "cross_entropy = signatures.optax(cross_entropy)"
    )
    functions: dict[str, Any] = {"cross_entropy": signatures.optax(getattr(optax.losses, function))}
    return Implementation(
        name,
        library("jax"),
        functions,
        {**_LACKS, **lacks},
        source={"cross_entropy": source},
        packages=("optax", "jax"),
    )


def integer() -> Implementation:
    """``optax.losses.softmax_cross_entropy_with_integer_labels``."""
    lacks = {"distributions": "takes labels", "uint64 labels": "takes labels of at most 32 unsigned bits"}
    return _of("optax integer", "softmax_cross_entropy_with_integer_labels", lacks)


def soft() -> Implementation:
    """``optax.losses.softmax_cross_entropy``."""
    return _of("optax soft", "softmax_cross_entropy", _NO_INDICES)


def safe() -> Implementation:
    """``optax.losses.safe_softmax_cross_entropy``."""
    return _of("optax safe", "safe_softmax_cross_entropy", _NO_INDICES)
