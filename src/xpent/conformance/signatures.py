"""Adapters that turn a loss with the signature of another library into one with xpent's arguments."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from array_api_compat import array_namespace

from xpent.conformance.case import Capability
from xpent.conformance.implementation import parameters_of
from xpent.conformance.libraries import Function, Unsupported


class Adapted:
    """A loss with xpent's arguments that calls another one; ``options`` are its keywords, or None for any."""

    def __init__(self, call: Function, options: Iterable[str] | None) -> None:
        self.call = call
        parameters = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in options or ()]
        if options is None:
            parameters = [inspect.Parameter("options", inspect.Parameter.VAR_KEYWORD)]
        self.__signature__ = inspect.Signature(parameters)

    def __call__(self, *arrays: Any, **options: Any) -> Any:
        """Call the loss."""
        return self.call(*arrays, **options)


def xpent(function: Function) -> Function:
    """``function(logits, targets, *, axis=-1, class_weight=None, ...)``, unchanged."""
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
    """``function(logits, labels, axis=-1, where=None)``, which returns one loss per row."""

    def cross_entropy(logits: Any, targets: Any, *, reduction: str, **options: Any) -> Any:
        if reduction != "none":
            raise Unsupported("returns one loss per row")
        return function(logits, targets, **options)

    return Adapted(cross_entropy, (*_taken(function, {"axis": "axis", "where": "where"}), "reduction"))


def _taken(function: Function, names: Mapping[str, str]) -> tuple[str, ...]:
    """The options for which a function has a parameter; ``names`` maps options to its parameter names."""
    parameters = parameters_of(function)
    return tuple(name for name, own in names.items() if parameters is None or own in parameters)


SIGNATURES: dict[str, Function] = {"xpent": xpent, "torch": torch, "optax": optax}


# Features that a loss with such a signature defines differently or does not have.
LACKS: dict[str, dict[Capability, str]] = {
    "xpent": {},
    "torch": {
        Capability.SEVERAL_CLASS_AXES: "supports one class axis",
        Capability.INTEGER_LOGITS: "requires floating-point logits",
        Capability.NO_DEFAULT_IGNORE_INDEX: "ignores -100 by default",
        Capability.SMOOTHING_OF_UNMASKED: "smooths over all classes, including masked ones",
    },
    "optax": {
        Capability.MEAN: "returns one loss per row",
        Capability.SUM: "returns one loss per row",
        Capability.INTEGER_LOGITS: "requires floating-point logits",
    },
}
