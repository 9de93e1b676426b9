"""An implementation: functions, the library whose arrays they take, and what they do not claim to do."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from typing import Any

from xpent.conformance.libraries import Arrays, Function, Library, Moved, Options, Unsupported

OPTIONS = (
    "axis", "where", "class_weight", "sample_weight", "ignore_index", "label_smoothing", "z_loss", "normalizer",
    "bias", "softcap", "reduction",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Implementation:
    """What is to be judged.

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
        What it does not claim, with the reason: the name of an option or of anything else in `Case.requirements`, a
        quantity such as "second derivative", or a category. An option that a function has no parameter for is lacking,
        too.
    dtypes : tuple of str, optional
        The floating-point dtypes it takes; all of its library's if None.
    derivatives : object, optional
        Has ``vjp``, ``jvp`` and ``hvp`` as `Library` has, and may have ``lines``; the library itself if None.
    source : mapping
        Lines of Python that bind a function to its name, by name; they begin what reproduces a failure.
    packages : tuple of str
        The distributions it comes from, for a report; the library's if there are none.
    """

    name: str
    library: Library
    functions: Mapping[str, Function]
    lacks: Mapping[str, str] = field(default_factory=dict)
    dtypes: tuple[str, ...] | None = None
    derivatives: Any = None
    source: Mapping[str, str] = field(default_factory=dict)
    packages: tuple[str, ...] = ()

    @property
    def versions(self) -> str:
        """What is judged, exactly."""
        return ", ".join(f"{p} {version(p)}" for p in self.packages) or f"{self.library.name} {self.library.version}"

    def source_of(self, function: str) -> str:
        """Lines of Python that bind a function to its name."""
        universal = f"from xpent.conformance import implementation\n{function} = implementation({self.name!r})"
        return self.source.get(function, f"{universal}.functions[{function!r}]")

    def reason_against(self, function: str, requirements: list[str]) -> str | None:
        """Why these requirements are not met, or None."""
        if function not in self.functions:
            return f"has no {function}"
        parameters = _parameters(self.functions[function])
        for need in requirements:
            if need in self.lacks:
                return self.lacks[need]
            option = need.partition("=")[0]
            is_default = need == "reduction='mean'"  # what a loss without the option returns
            if option in OPTIONS and not is_default and parameters is not None and option not in parameters:
                return f"takes no {option}"
        return None

    def reduction(self, function: str, *preferred: str) -> str | None:
        """The first of the reductions that it claims."""
        for reduction in preferred:
            if self.reason_against(function, [f"reduction={reduction!r}"]) is None:
                return reduction
        raise Unsupported(f"claims none of the reductions {', '.join(preferred)}")

    def takes(self, function: str, option: str) -> bool:
        """Whether there is a parameter for an option."""
        parameters = _parameters(self.functions[function])
        return parameters is None or option in parameters


@cache
def _parameters(function: Function) -> frozenset[str] | None:
    """Names of the parameters; None for any."""
    parameters = inspect.signature(function).parameters.values()
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
        moved: Moved,
        cotangent: Any,
    ) -> tuple[Any, Any]:
        """Value and gradient."""
        if moved != 0 or cotangent is not None:
            raise Unsupported("value_and_grad returns the gradient of the loss by the logits alone")
        return self.library.call(self.value_and_grad, arrays, options)  # type: ignore[no-any-return]

    def jvp(self, *_: Any) -> Any:
        """None."""
        raise Unsupported("value_and_grad has no forward mode")

    def hvp(self, *_: Any) -> Any:
        """None."""
        raise Unsupported("value_and_grad has no second derivative")
