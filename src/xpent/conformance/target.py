"""Make an implementation of a function of the user."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from xpent.conformance import libraries, signatures
from xpent.conformance.case import Capability
from xpent.conformance.cases import CATEGORIES
from xpent.conformance.implementation import Implementation, ValueAndGradient

CATEGORY = "category "  # prefix of the name of a category in ``lacks``


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
    """Make an implementation of a function.

    Parameters
    ----------
    function : function
        The function to check, or an instance of ``torch.nn.Module``. It is called only with the options for which it
        or its ``forward`` has parameters. Other features are assumed to be supported, see ``lacks``.
    library : str
        The library whose arrays the function takes and which differentiates it: "numpy", "torch", "jax" or the import
        name of another array API namespace. JAX functions run under ``jit``, with 64-bit types enabled.
    device : str
        The device, in the notation of the library.
    signature : {"xpent", "torch", "optax"}
        The calling convention: that of xpent, ``cross_entropy(logits, targets, *, axis=-1, class_weight=None, ...)``
        with any of its options; of `torch.nn.functional.cross_entropy`; or of
        `optax.losses.softmax_cross_entropy_with_integer_labels`.
    computes : str
        The mathematical function: "cross_entropy", "linear_cross_entropy", "softmax", "log_softmax" or "logsumexp".
    value_and_grad : function, optional
        A function with the same arguments that returns the value and the gradient of its sum with respect to the
        logits; for libraries without autodiff.
    lacks : mapping, optional
        The features that are not supported, with the reasons: "distributions", "second derivative" or another value of
        `case.Capability`, or "category ignored rows" for all cases of a category.
    name : str, optional
        The name in the report.

    Returns
    -------
    Implementation

    Raises
    ------
    TypeError
        If the function is a class.
    ValueError
        If the signature, the function to compute, a capability, a category or the device is unknown.
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
    if inspect.isclass(function):
        raise TypeError(f"{function.__qualname__} is a class; pass a function or a callable instance")
    if signature not in signatures.SIGNATURES:
        raise ValueError(f"signature must be one of {', '.join(signatures.SIGNATURES)}, got {signature!r}")
    known = ("cross_entropy", "linear_cross_entropy", "softmax", "log_softmax", "logsumexp")
    if computes not in known:
        raise ValueError(f"computes must be one of {', '.join(known)}, got {computes!r}")
    if signature != "xpent" and computes != "cross_entropy":
        raise ValueError(f"signature {signature!r} requires computes='cross_entropy', got {computes!r}")
    lacking, excluded = _unsupported(lacks or {})
    adapt = signatures.SIGNATURES[signature]
    on = libraries.library(library, device)
    if library != "numpy":
        lacking = {Capability.BATCH_INVARIANCE: f"{library} does not guarantee the order of summation", **lacking}
    lines = _source(computes, function, signature)
    if value_and_grad is not None:
        lines += _source("value_and_grad", value_and_grad, signature)
    return Implementation(
        name or str(getattr(function, "__qualname__", type(function).__qualname__)),
        on,
        {computes: adapt(function)},
        {**signatures.LACKS[signature], **lacking},
        excluded,
        derivatives=None if value_and_grad is None else ValueAndGradient(on, adapt(value_and_grad)),
        source={computes: "\n".join(lines)},
    )


def _unsupported(lacks: Mapping[str, str]) -> tuple[dict[Capability, str], dict[str, str]]:
    """The capabilities and the categories that are not supported, with the reasons."""
    known = [*map(str, Capability), *(CATEGORY + category for category in CATEGORIES)]
    for name in lacks:
        if name not in known:
            raise ValueError(f"there is no capability {name!r}{nearest(name, known)}")
    categories = {name.removeprefix(CATEGORY): why for name, why in lacks.items() if name.startswith(CATEGORY)}
    return {Capability(name): why for name, why in lacks.items() if not name.startswith(CATEGORY)}, categories


def nearest(name: str, known: list[str]) -> str:
    """Suggest known names that are similar to a mistyped one, or all of them if they are few."""
    if len(known) <= 5:
        return f"; there are {', '.join(known)}"
    matches = get_close_matches(name, known, n=3, cutoff=0.5)
    matches += [other for other in known if name and name in other and other not in matches][: 5 - len(matches)]
    return f"; did you mean {' or '.join(map(repr, matches))}?" if matches else ""


def load(path: str) -> Callable[..., Any]:
    """Import a function by its name "module:function"."""
    module, colon, name = path.partition(":")
    if not (module and colon and name):
        raise ValueError(f"a target must have the form module:function, got {path!r}")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    if inspect.isclass(found):
        raise TypeError(f"{path} is a class; name a function or a callable instance")
    if not callable(found):
        raise TypeError(f"{path} must be a function, got {found!r}")
    return found  # type: ignore[no-any-return]


def _source(name: str, function: Callable[..., Any], signature: str) -> list[str]:
    module, own_name = getattr(function, "__module__", "__main__"), getattr(function, "__name__", "function")
    lines = [f"from {module} import {own_name}" + (f" as {name}" if own_name != name else "")]
    if getattr(sys.modules.get(module), own_name, None) is not function:
        lines = [f"# {name} is the checked function {function!r}"]
    if signature != "xpent":
        lines += ["from xpent.conformance import signatures", f"{name} = signatures.{signature}({name})"]
    return lines
