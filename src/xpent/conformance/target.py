"""A function of the user's own, as an implementation."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

from xpent.conformance import libraries, signatures
from xpent.conformance.cases import CLAIMS
from xpent.conformance.implementation import Implementation, ValueAndGradient


def target(
    function: Callable[..., Any],
    *,
    library: str = "numpy",
    device: str = "cpu",
    signature: str = "xpent",
    computes: str = "cross_entropy",
    value_and_grad: Callable[..., Any] | None = None,
    lacks: Mapping[str, str] | None = None,
    name: str | None = None,
) -> Implementation:
    """Make an implementation of one function.

    Parameters
    ----------
    function : function
        What is to be judged. It claims what it has parameters for, and all else, see ``lacks``.
    library : str
        Whose arrays it takes and which differentiates it: "numpy", "torch", "jax" or the import name of another
        namespace of the array API standard. JAX runs it under ``jit``, with 64-bit types enabled in the process.
    device : str
        As the library names it.
    signature : {"xpent", "torch", "optax"}
        How it is called: ``cross_entropy(logits, targets, *, axis=-1, class_weight=None, ...)`` with any of xpent's
        options; as `torch.nn.functional.cross_entropy`; as `optax.losses.softmax_cross_entropy_with_integer_labels`.
    computes : str
        "cross_entropy", "linear_cross_entropy", "softmax", "log_softmax" or "logsumexp".
    value_and_grad : function, optional
        Takes what ``function`` takes, returns its value and the gradient by the logits of the sum of it; for libraries
        that do not differentiate.
    lacks : mapping, optional
        What is not claimed, with the reason: "distributions", "second derivative", "category ignored rows" or another
        of `cases.CLAIMS`.
    name : str, optional
        For the report.

    Returns
    -------
    Implementation

    Raises
    ------
    ValueError
        If there is no such signature, function to compute, claim or device.
    Unsupported
        If the library is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from xpent.conformance import check, target
    >>> def softmax(x, *, axis=-1):
    ...     e = np.exp(x - x.max(axis, keepdims=True))
    ...     return e / e.sum(axis, keepdims=True)
    >>> check(target(softmax, computes="softmax"), cases=["softmax", "softmax-at-1e8"]).holds
    True
    """
    if signature not in signatures.SIGNATURES:
        raise ValueError(f"signature must be one of {', '.join(signatures.SIGNATURES)}, got {signature!r}")
    known = ("cross_entropy", "linear_cross_entropy", "softmax", "log_softmax", "logsumexp")
    if computes not in known:
        raise ValueError(f"computes must be one of {', '.join(known)}, got {computes!r}")
    for claim in lacks or {}:
        if claim not in CLAIMS:
            raise ValueError(f"nothing is asked that {claim!r} could take back; there are {', '.join(sorted(CLAIMS))}")
    if signature != "xpent" and computes != "cross_entropy":
        raise ValueError(f"signature {signature!r} is that of a cross_entropy, not of {computes}")
    adapt = signatures.SIGNATURES[signature]
    on = libraries.library(library, device)
    not_promised = {} if library == "numpy" else {"bits of a row": f"{library} may add in any order"}
    lines = _source(computes, function, signature)
    if value_and_grad is not None:
        lines += _source("value_and_grad", value_and_grad, signature)
    return Implementation(
        name or str(getattr(function, "__qualname__", "function")),
        on,
        {computes: adapt(function)},
        {**signatures.LACKS[signature], **not_promised, **(lacks or {})},
        derivatives=None if value_and_grad is None else ValueAndGradient(on, adapt(value_and_grad)),
        source={computes: "\n".join(lines)},
    )


def load(path: str) -> Callable[..., Any]:
    """The function that "module:function" names."""
    module, colon, name = path.partition(":")
    if not (module and colon and name):
        raise ValueError(f"a target is module:function, got {path!r}")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    if not callable(found):
        raise TypeError(f"{path} is no function but {found!r}")
    return found  # type: ignore[no-any-return]


def _source(name: str, function: Callable[..., Any], signature: str) -> list[str]:
    module, own_name = getattr(function, "__module__", "__main__"), getattr(function, "__name__", "function")
    lines = [f"from {module} import {own_name} as {name}"]
    if getattr(sys.modules.get(module), own_name, None) is not function:
        lines = [f"# {name} is the function that was checked, {function!r}"]
    if signature != "xpent":
        lines += ["from xpent.conformance import signatures", f"{name} = signatures.{signature}({name})"]
    return lines
