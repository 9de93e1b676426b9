"""Signatures: what turns a loss of another library's shape into one with xpent's arguments."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from array_api_compat import array_namespace

from xpent.conformance.libraries import Function, Unsupported


def xpent(function: Function) -> Function:
    """``function(logits, targets, *, axis=-1, class_weight=None, ...)``, as it is."""
    return functools.wraps(function)(lambda *arrays, **options: function(*arrays, **options))  # it need not hash


def torch(function: Function) -> Function:
    """``function(input, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0)``."""
    names = {"class_weight": "weight", **{n: n for n in ("ignore_index", "reduction", "label_smoothing")}}

    def cross_entropy(logits: Any, targets: Any, *, axis: int = -1, **options: Any) -> Any:
        xp = array_namespace(logits)
        if logits.ndim > 1:
            is_distribution = targets.ndim == logits.ndim
            logits = xp.moveaxis(logits, axis, 1)
            targets = xp.moveaxis(targets, axis, 1) if is_distribution else targets
        return function(logits, targets, **{names[name]: value for name, value in options.items()})

    return _with_options(cross_entropy, function, names)


def optax(function: Function) -> Function:
    """``function(logits, labels, axis=-1, where=None)``, which returns the losses of the rows."""

    def cross_entropy(logits: Any, targets: Any, *, reduction: str, **options: Any) -> Any:
        if reduction != "none":
            raise Unsupported("returns the losses of the rows")
        return function(logits, targets, **options)

    adapted = _with_options(cross_entropy, function, {"axis": "axis", "where": "where"})
    return _with_parameters(adapted, *inspect.signature(adapted).parameters, "reduction")


SIGNATURES: dict[str, Function] = {"xpent": xpent, "torch": torch, "optax": optax}


# What a loss of such a signature means differently, or not at all.
LACKS: dict[str, dict[str, str]] = {
    "xpent": {},
    "torch": {
        "several axes": "has one axis of classes",
        "integer logits": "takes logits of floating-point numbers",
        "no default for ignore_index": "ignores -100 unless told otherwise",
        "smoothing over possible classes": "spreads smoothing over all classes",
    },
    "optax": {
        "reduction='mean'": "returns the losses of the rows",
        "reduction='sum'": "returns the losses of the rows",
        "integer logits": "takes logits of floating-point numbers",
    },
}


def _with_options(adapted: Function, function: Function, names: dict[str, str]) -> Function:
    """Say that the adapted function takes those options that the function has parameters for."""
    parameters = inspect.signature(function).parameters.values()
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    has = {parameter.name for parameter in parameters}
    extra = () if "axis" in names else ("axis",)
    return _with_parameters(adapted, *extra, *(name for name, theirs in names.items() if takes_all or theirs in has))


def _with_parameters(function: Function, *names: str) -> Function:
    parameters = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in names]
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return function
