"""Calls: a rule and checked arguments, and the public functions that make and evaluate them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Concatenate, NamedTuple

from xpent._backends.base import Array, Backend
from xpent._backends.registry import call_key
from xpent._engine.rule import Rule
from xpent._engine.types import ArrayT, P, R

# What other libraries call the options.
_OTHER_NAMES = {
    "class_weights": "class_weight",
    "dim": "axis",
    "ignore_label": "ignore_index",
    "keep_dims": "keepdims",
    "keepdim": "keepdims",
    "lse_square_scale": "z_loss",
    "reduce": "reduction",
    "size_average": "reduction",
    "smoothing": "label_smoothing",
    "weight": "class_weight",
}


class Call(NamedTuple):
    """A rule and the checked arguments to evaluate it with."""

    backend: Backend
    rule: Rule
    primals: tuple[Array, ...]
    constants: Any
    options: Any
    is_scalar: bool = False
    check: Callable[[tuple[Array, ...], Any], Any] | None = None  # of the data of primals; returns the options
    structure: Callable[[Any], Any] | None = None  # from the outputs of the rule to what is returned

    def evaluate(self) -> Any:
        with self.backend.errstate():
            outputs = self.backend.apply(self.rule, self.primals, self.constants, self.options)
        return outputs if self.structure is None else self.structure(outputs)


# Calls without their primals. Only calls of plain arrays whose options are not arrays are kept.
_prepared: dict[Any, Call] = {}
_MOST_PREPARED = 1024
_OPTION_TYPES = {bool, float, int, str, type(None)}


def bind_call(function: Any, primals: tuple[Any, ...], options: dict[str, Any]) -> Call:
    """The call of a public function, or of a gradient of one, whose arguments have been checked.

    What depends on dtypes, shapes, devices and options alone is checked once for all calls that agree in them; the data
    are looked at in every call.
    """
    key = _key(function, primals, options)
    call = None if key is None else _prepared.get(key)
    if call is None:
        try:
            call = function.bind(*primals, **options)
        except TypeError:
            check_names(function, options)
            raise
        if key is not None:
            if len(_prepared) >= _MOST_PREPARED:
                _prepared.clear()
            _prepared[key] = call._replace(primals=())
        primals = call.primals
    backend, rule, _, constants, given, is_scalar, check, structure = call
    checked = given if check is None else check(primals, given)
    return Call(backend, rule, primals, constants, checked, is_scalar, check, structure)


def _key(function: Any, primals: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """A key of everything that a call depends on except the data, None if there is no such key."""
    arrays, types = call_key(primals), tuple(map(type, options.values()))
    if arrays is None or not _OPTION_TYPES.issuperset(types):
        return None
    return function, arrays, *options.items(), types  # equal values of different types are not equally valid


def differentiable(bind: Callable[Concatenate[ArrayT, P], Call]) -> Callable[Concatenate[ArrayT, P], ArrayT]:
    """Make a public function that evaluates the `Call` that ``bind`` returns; ``bind`` becomes an attribute of it."""

    @functools.wraps(bind)
    def function(*primals: Any, **options: Any) -> Any:
        return bind_call(function, primals, options).evaluate()

    signature = inspect.signature(bind)
    returned = next(iter(signature.parameters.values())).annotation
    function.__annotations__ = {**bind.__annotations__, "return": returned}
    function.__signature__ = signature.replace(return_annotation=returned)  # type: ignore[attr-defined]
    function.bind = bind  # type: ignore[attr-defined]
    return function


def names_options(function: Callable[P, R]) -> Callable[P, R]:
    """Make a public function raise an error that lists its options if it is called with an unknown option."""

    @functools.wraps(function)
    def wrapper(*arrays: P.args, **options: P.kwargs) -> R:
        try:
            return function(*arrays, **options)
        except TypeError:
            check_names(wrapper, options)
            raise

    return wrapper


def check_names(function: Callable[..., Any], options: dict[str, Any]) -> None:
    """Raise an error that lists the options of a public function if one of those given is not among them."""
    from difflib import get_close_matches  # needed only here, and slows down the import of xpent

    parameters = inspect.signature(function).parameters
    known = [name for name, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY]
    arrays = [name for name in parameters if name not in known]
    for name in options:
        if name not in parameters:
            synonym = _OTHER_NAMES.get(name)
            meant = [synonym] if synonym in known else get_close_matches(name, known, 1)
            hint = f"; use {meant[0]}" if meant else ""
            raise TypeError(
                f"{function.__name__} has no option {name}{hint}. Arrays are positional: {', '.join(arrays)}; "
                f"options are {', '.join(known)}"
            ) from None
