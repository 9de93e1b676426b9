"""An implementation: functions, the library whose arrays they take, and what they claim to do."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from xpent.conformance.case import OPTIONS, Capability, Case
from xpent.conformance.libraries import Argument, Arrays, Function, Library, Options, Unsupported


@dataclass(frozen=True, eq=False)
class Implementation:
    """What is to be checked.

    Attributes
    ----------
    name : str
        For the reader of a report.
    library : Library
        Whose arrays the functions take, and which differentiates them.
    functions : mapping
        Functions with the arguments that xpent's have, by xpent's names: ``cross_entropy``, ``linear_cross_entropy``,
        ``softmax``, ``log_softmax``, ``logsumexp``; some of them.
    lacks : mapping
        What it does not claim, with the reason. An option that a function has no parameter for is not claimed, either.
    excludes : mapping
        Categories of cases that are not run, with the reason.
    dtypes : tuple of str, optional
        The floating-point dtypes it takes; all of its library's if None.
    derivatives : object, optional
        Has ``vjp``, ``jvp`` and ``hvp`` as `Library` has, and may have ``lines``; the library itself if None.
    source : mapping
        Lines of Python that bind a function to its name, by name; they begin what reproduces a failure.
    packages : tuple of str
        The distributions it comes from, for a report; the library's if there are none.
    masked_rows_are_nan : bool
        Whether NaN is accepted for a fully masked row, too, which is what the textbook formula gives.
    """

    name: str
    library: Library
    functions: Mapping[str, Function]
    lacks: Mapping[Capability, str] = field(default_factory=dict)
    excludes: Mapping[str, str] = field(default_factory=dict)
    dtypes: tuple[str, ...] | None = None
    derivatives: Any = None
    source: Mapping[str, str] = field(default_factory=dict)
    packages: tuple[str, ...] = ()
    masked_rows_are_nan: bool = True

    @property
    def versions(self) -> str:
        """The packages and their versions."""
        return ", ".join(f"{p} {version(p)}" for p in self.packages) or f"{self.library.name} {self.library.version}"

    def source_of(self, function: str) -> str:
        """Lines of Python that bind a function to its name."""
        universal = f"from xpent.conformance import implementation\n{function} = implementation({self.name!r})"
        return self.source.get(function, f"{universal}.functions[{function!r}]")

    def claims(self, function: str) -> frozenset[Capability]:
        """What a function claims to do."""
        parameters = parameters_of(self.functions[function])
        missing = set() if parameters is None else {option for option in OPTIONS if option not in parameters}
        if "reduction" in missing:  # what is computed then is the mean
            missing |= {Capability.SUM, Capability.NONE, Capability.UNKNOWN_REDUCTION}
        return frozenset(Capability) - missing - self.lacks.keys()

    def reason_against(self, case: Case, dtype: str) -> str | None:
        """Why a case cannot be run in a dtype, or None."""
        if dtype not in (self.dtypes or self.library.dtypes) or dtype not in self.library.dtypes:
            return f"does not take {dtype}"
        if case.function not in self.functions:
            return f"has no {case.function}"
        if case.category in self.excludes:
            return self.excludes[case.category]
        claims = self.claims(case.function)
        for need in case.requirements:
            if need not in claims:
                return self.lacks.get(need, f"has no parameter {need.partition('=')[0]}")
        return None

    def reduction(self, function: str, *preferred: str) -> str | None:
        """The first of the reductions that it claims."""
        claims = self.claims(function)
        for reduction in preferred:
            if Capability(f"reduction={reduction!r}") in claims:
                return reduction
        raise Unsupported(f"claims none of the reductions {', '.join(preferred)}")

    def takes(self, function: str, option: str) -> bool:
        """Whether there is a parameter for an option."""
        parameters = parameters_of(self.functions[function])
        return parameters is None or option in parameters


def parameters_of(function: Function) -> frozenset[str] | None:
    """Names of the parameters; None for any. Of a ``torch.nn.Module`` they are those of its ``forward``."""
    forward = None if inspect.isroutine(function) else getattr(function, "forward", None)
    parameters = inspect.signature(forward or function).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return frozenset(parameter.name for parameter in parameters)


class ValueAndGradient:
    """Derivatives of an implementation that has a function for (value, gradient) of its loss."""

    lines: Mapping[str, tuple[str, ...]] = {"vjp": ("print(value_and_grad({arrays}{options})[1])",)}

    def __init__(self, library: Library, value_and_grad: Function) -> None:
        self.library, self.value_and_grad = library, value_and_grad

    def vjp(
        self,
        function: Function,  # noqa: ARG002 - its value comes with the gradient
        arrays: Arrays,
        options: Options,
        argument: Argument,
        cotangent: Any,
    ) -> tuple[Any, Any]:
        """Value and gradient."""
        if argument != 0 or cotangent is not None:
            raise Unsupported("value_and_grad returns the gradient of the loss with respect to the logits only")
        return self.library.call(self.value_and_grad, arrays, options)  # type: ignore[no-any-return]

    def jvp(self, *_: Any) -> Any:
        """None."""
        raise Unsupported("value_and_grad has no forward mode")

    def hvp(self, *_: Any) -> Any:
        """None."""
        raise Unsupported("value_and_grad has no second derivative")
