"""The list of defects, each with the case that must fail and all categories in which it fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from xpent.conformance.cases import ALL, BY_ID
from xpent.conformance.implementation import Implementation
from xpent.conformance.libraries import library
from xpent.conformance.runner import Outcome, sweep


@dataclass(frozen=True)
class Function:
    """A function that returns the value of a call object."""

    call: type

    def __call__(self, *arrays, **options):
        return self.call(*arrays, **options).value


class Derivatives:
    """The derivatives, computed by call objects."""

    lines: ClassVar = {"vjp": (), "jvp": (), "hvp": ()}  # reproductions show only the value

    def vjp(self, function, arrays, options, argument, g):
        call = function.call(*arrays, **options)
        return call.value_with_gradient, call.vjp(argument, g)

    def jvp(self, function, arrays, options, v):
        return function.call(*arrays, **options).jvp(v)

    def hvp(self, function, arrays, options, v):
        return function.call(*arrays, **options).hvp(v)


def implementation(*calls):
    """An implementation of the functions of these classes."""
    functions = {call.function: Function(call) for call in calls}
    return Implementation(calls[0].__name__, library("numpy"), functions, derivatives=Derivatives())


@dataclass(frozen=True)
class Defect:
    """A defective implementation, the case that must fail, and all categories in which it fails."""

    call: type
    case: str
    categories: frozenset[str]
    dtype: str

    @property
    def name(self) -> str:
        return self.call.__name__

    @property
    def description(self) -> str:
        return (self.call.__doc__ or "").rstrip(".").replace("|", "\\|")

    def outcomes(self) -> list[Outcome]:
        cases = (c for c in ALL if c.function == self.call.function and c.id not in HEAVY - {self.case})
        return list(sweep(implementation(self.call), tuple(cases), (self.dtype,)))

    def failures(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes() if outcome.is_wrong]


# Cases whose exact values take seconds are omitted, unless they must fail.
HEAVY = {"50257-classes", "128256-classes", "100000-classes-in-float16", "mean-of-66000-rows-in-float16", "digits"}
GALLERY: list[Defect] = []


def caught_by(case: str, other_categories: str = "", *, dtype: str = "float32") -> Callable[[type], type]:
    """Add a defect to the gallery; categories are separated by commas."""

    def register(call: type) -> type:
        others = other_categories.split(", ") if other_categories else []
        GALLERY.append(Defect(call, case, frozenset((BY_ID[case].category, *others)), dtype))
        return call

    return register
