"""Signatures: what turns a loss of another library's shape into one with xpent's arguments."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from array_api_compat import array_namespace

from xpent.conformance.case import Capability
from xpent.conformance.implementation import parameters_of
from xpent.conformance.libraries import Function, Unsupported


class Adapted:
    """A loss with xpent's arguments, made of one with others; its signature has these options, or any if None."""

    def __init__(self, call: Function, options: Iterable[str] | None) -> None:
        self.call = call
        parameters = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in options or ()]
        if options is None:
            parameters = [inspect.Parameter("options", inspect.Parameter.VAR_KEYWORD)]
        self.__signature__ = inspect.Signature(parameters)

    def __call__(self, *arrays: Any, **options: Any) -> Any:
        """The value."""
        return self.call(*arrays, **options)


def xpent(function: Function) -> Function:
    """``function(logits, targets, *, axis=-1, class_weight=None, ...)``, as it is."""
    return Adapted(function, parameters_of(function))


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

    return Adapted(cross_entropy, ("axis", *_taken(function, names)))


def optax(function: Function) -> Function:
    """``function(logits, labels, axis=-1, where=None)``, which returns the losses of the rows."""

    def cross_entropy(logits: Any, targets: Any, *, reduction: str, **options: Any) -> Any:
        if reduction != "none":
            raise Unsupported("returns the losses of the rows")
        return function(logits, targets, **options)

    return Adapted(cross_entropy, (*_taken(function, {"axis": "axis", "where": "where"}), "reduction"))


def _taken(function: Function, names: Mapping[str, str]) -> tuple[str, ...]:
    """The options of a function, of those with these names in its own signature."""
    parameters = parameters_of(function)
    return tuple(name for name, own in names.items() if parameters is None or own in parameters)


SIGNATURES: dict[str, Function] = {"xpent": xpent, "torch": torch, "optax": optax}


# What a loss of such a signature means differently, or not at all.
LACKS: dict[str, dict[Capability, str]] = {
    "xpent": {},
    "torch": {
        Capability.SEVERAL_CLASS_AXES: "has one axis of classes",
        Capability.INTEGER_LOGITS: "takes floating-point logits",
        Capability.NO_DEFAULT_IGNORE_INDEX: "ignores -100 by default",
        Capability.SMOOTHING_OF_UNMASKED: "spreads smoothing over all classes",
    },
    "optax": {
        Capability.MEAN: "returns the losses of the rows",
        Capability.SUM: "returns the losses of the rows",
        Capability.INTEGER_LOGITS: "takes floating-point logits",
    },
}
