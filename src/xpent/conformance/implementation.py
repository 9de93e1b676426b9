"""An implementation: functions, the library whose arrays they take, and the features they support."""

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
    """The functions to check, their array library and the features they support.

    Attributes
    ----------
    name : str
        The name in reports.
    library : Library
        The library whose arrays the functions take, and which differentiates them.
    functions : mapping
        Functions with the arguments of xpent's, by name: some of ``cross_entropy``, ``linear_cross_entropy``,
        ``softmax``, ``log_softmax`` and ``logsumexp``.
    lacks : mapping
        The features that are not supported, with the reasons. Options for which a function has no parameter need not
        be listed.
    excludes : mapping
        The categories of cases that are not run, with the reasons.
    dtypes : tuple of str, optional
        The supported floating-point dtypes; all dtypes of the library if None.
    derivatives : object, optional
        An object with the methods ``vjp``, ``jvp`` and ``hvp`` of `Library`, and optionally ``lines``; the library
        itself if None.
    source : mapping
        Python statements that import or define each function, by name, for the code that reproduces a failure.
    packages : tuple of str
        The distribution packages whose versions are reported; that of the library if empty.
    masked_rows_are_nan : bool
        Whether NaN is also accepted for fully masked rows. It is the result of the textbook formula.
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
        """Python statements that import or define a function."""
        universal = f"from xpent.conformance import implementation\n{function} = implementation({self.name!r})"
        return self.source.get(function, f"{universal}.functions[{function!r}]")

    def capabilities(self, function: str) -> frozenset[Capability]:
        """The features that a function supports."""
        parameters = parameters_of(self.functions[function])
        missing = set() if parameters is None else {option for option in OPTIONS if option not in parameters}
        if "reduction" in missing:  # then the function returns the mean
            missing |= {Capability.SUM, Capability.NONE, Capability.UNKNOWN_REDUCTION}
        return frozenset(Capability) - missing - self.lacks.keys()

    def reason_against(self, case: Case, dtype: str) -> str | None:
        """The reason why a case cannot be run in a dtype, or None if it can."""
        if dtype not in (self.dtypes or self.library.dtypes) or dtype not in self.library.dtypes:
            return f"does not support {dtype}"
        if case.function not in self.functions:
            return f"has no {case.function}"
        if case.category in self.excludes:
            return self.excludes[case.category]
        capabilities = self.capabilities(case.function)
        for need in case.requirements:
            if need not in capabilities:
                return self.lacks.get(need, f"has no parameter {need.partition('=')[0]}")
        return None

    def reduction(self, function: str, *preferred: str) -> str | None:
        """The first of the preferred reductions that a function supports."""
        capabilities = self.capabilities(function)
        for reduction in preferred:
            if Capability(f"reduction={reduction!r}") in capabilities:
                return reduction
        raise Unsupported(f"supports none of the reductions {', '.join(preferred)}")

    def takes(self, function: str, option: str) -> bool:
        """Whether a function has a parameter for an option."""
        parameters = parameters_of(self.functions[function])
        return parameters is None or option in parameters


def parameters_of(function: Function) -> frozenset[str] | None:
    """The names of the parameters (of ``forward`` for a ``torch.nn.Module``), or None if it takes any keyword."""
    forward = None if inspect.isroutine(function) else getattr(function, "forward", None)
    parameters = inspect.signature(forward or function).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return frozenset(parameter.name for parameter in parameters)


class ValueAndGradient:
    """Derivatives of a loss that comes with a function that returns (value, gradient)."""

    lines: Mapping[str, tuple[str, ...]] = {"vjp": ("print(value_and_grad({arrays}{options})[1])",)}

    def __init__(self, library: Library, value_and_grad: Function) -> None:
        self.library, self.value_and_grad = library, value_and_grad

    def vjp(
        self,
        function: Function,  # noqa: ARG002 - value_and_grad also returns its value
        arrays: Arrays,
        options: Options,
        argument: Argument,
        cotangent: Any,
    ) -> tuple[Any, Any]:
        """Return the value and the gradient with respect to the logits."""
        if argument != 0 or cotangent is not None:
            raise Unsupported("value_and_grad returns only the gradient of the loss with respect to the logits")
        return self.library.call(self.value_and_grad, arrays, options)  # type: ignore[no-any-return]

    def jvp(self, *_: Any) -> Any:
        """Raise `Unsupported`."""
        raise Unsupported("value_and_grad has no forward mode")

    def hvp(self, *_: Any) -> Any:
        """Raise `Unsupported`."""
        raise Unsupported("value_and_grad has no second derivative")
