"""vjp, jvp, grad and value_and_grad: the hand-written derivatives, for the arrays of any library."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Concatenate, overload

from xpent._backends.base import Backend
from xpent._backends.registry import backend_of
from xpent._engine.call import Call, bind_call
from xpent._engine.types import Array, ArrayT, P, R

Argnums = int | tuple[int, ...]


def vjp(
    function: Callable[Concatenate[ArrayT, P], R], primal: ArrayT, /, *primals: P.args, **options: P.kwargs
) -> tuple[R, Callable[[R], tuple[ArrayT, ...]]]:
    """Value of a function and its pullback, which multiplies a cotangent by the Jacobian.

    Parameters
    ----------
    function : function
        `softmax`, `log_softmax`, `logsumexp`, `cross_entropy`, `linear_cross_entropy`, or a function returned by `grad`
        or `value_and_grad`.
    primal : array
        The first array argument of ``function``.
    *primals : arrays
        The other array arguments.
    **options
        The options of ``function``.

    Returns
    -------
    value : array
        The value of the function.
    pullback : function
        Takes a cotangent of the shape of ``value`` and returns a tuple with one cotangent for each floating-point
        primal, of its shape and dtype.

    Raises
    ------
    TypeError
        If ``function`` is not one of these, no primal holds floating-point numbers, or the cotangent is not an array of
        floating-point numbers of the same library; also where ``function`` itself raises it.
    ValueError
        If the cotangent does not have the structure and shape of ``value``; also where ``function`` itself raises it.

    Notes
    -----
    The same as jax.vjp, with hand-written derivatives. The pullback of `softmax` is v -> p (v - sum(p v)), of
    `log_softmax` g -> g - p sum(g), of `logsumexp` g -> g p, with p the softmax of the row. That of `cross_entropy` is
    the gradient given in its documentation, times the cotangent.

    Examples
    --------
    >>> import numpy as np, xpent
    >>> value, pullback = xpent.vjp(xpent.softmax, np.asarray([0.0, 0.0]))
    >>> pullback(np.asarray([1.0, 0.0]))
    (array([ 0.25, -0.25]),)
    """
    call = _bind(function, (primal, *primals), options)
    backend = call.backend
    argnums = tuple([i for i, primal in enumerate(call.primals) if backend.is_floating(primal)])
    if not argnums:
        raise TypeError(f"nothing to differentiate: no argument of {function.__name__} holds floating-point numbers")
    value = call.evaluate()

    def pullback(cotangent: Any) -> tuple[Any, ...]:
        outputs, cotangents = _flatten(value), _flatten(cotangent)
        if len(outputs) != len(cotangents):
            raise ValueError(
                f"cotangent must have the structure of the value, {len(outputs)} arrays, got {cotangent!r}"
            )
        for output, part in zip(outputs, cotangents, strict=True):
            _check_direction(backend, "cotangent", part, output)
        cotangents, primals, constants = backend.own((cotangents, call.primals, call.constants))
        arguments = (cotangents, argnums, primals, constants, call.options)
        kernels = backend.for_kernels(cotangents, primals, constants)
        with backend.errstate():
            if kernels.differentiates:
                return call.rule.vjp(backend, *arguments)
            return call.rule.backward(kernels, (), *arguments)

    return value, pullback


def jvp(
    function: Callable[Concatenate[ArrayT, ...], R],
    /,
    primals: tuple[ArrayT, *tuple[Array, ...]] | list[ArrayT],
    tangents: Sequence[Array | None],
    **options: Any,
) -> tuple[R, R]:
    """Value of a function and its directional derivative, the product of the Jacobian with tangents.

    Parameters
    ----------
    function : function
        `softmax`, `log_softmax`, `logsumexp`, `cross_entropy`, `linear_cross_entropy`, or a function returned by `grad`
        or `value_and_grad`.
    primals : tuple or list of arrays
        The array arguments of ``function``.
    tangents : tuple or list of arrays or None
        One for each primal, of its shape; None for zero, and for primals that hold integers.
    **options
        The options of ``function``.

    Returns
    -------
    value : array
        The value of the function.
    tangent : array
        The directional derivative along ``tangents``, of the shape and dtype of ``value``.

    Raises
    ------
    TypeError
        If ``function`` is not one of these, primals or tangents are not a tuple or list, or a tangent is not an array
        of floating-point numbers of the same library or is given for a primal that holds integers; also where
        ``function`` itself raises it.
    ValueError
        If there is not one tangent for each primal, all are None, or one does not have the shape of its primal; also
        where ``function`` itself raises it.

    Notes
    -----
    The same as jax.jvp, with hand-written derivatives. The tangent of `softmax` is p (v - sum(p v)), of
    `log_softmax` v - sum(p v), of `logsumexp` sum(p v), and of the gradient of `cross_entropy` for a class index
    p (v - sum(p v)), with p the softmax of the row and v the tangent of the logits.

    Examples
    --------
    >>> import numpy as np, xpent
    >>> logits, label, v = np.asarray([0.0, 0.0]), np.asarray(1), np.asarray([1.0, 0.0])
    >>> loss, change = xpent.jvp(xpent.cross_entropy, (logits, label), (v, None))
    >>> float(change)
    0.5
    >>> gradient, product = xpent.jvp(xpent.grad(xpent.cross_entropy), (logits, label), (v, None))
    >>> product  # the Hessian times v
    array([ 0.25, -0.25])
    """
    if not isinstance(primals, tuple | list) or not isinstance(tangents, tuple | list):
        kinds = f"{type(primals).__name__} and {type(tangents).__name__}"
        raise TypeError(f"primals and tangents must be tuples or lists with one entry for each array, got {kinds}")
    call = _bind(function, tuple(primals), options)
    if len(tangents) != len(call.primals):
        bias = ", including the bias" if len(call.primals) > len(primals) else ""
        raise ValueError(
            f"there must be one tangent for each of the {len(call.primals)} primals{bias}, got {len(tangents)}"
        )
    if all(tangent is None for tangent in tangents):
        raise ValueError("at least one tangent must be an array, got None for every primal")
    for primal, tangent in zip(call.primals, tangents, strict=True):
        if tangent is not None:
            _check_direction(call.backend, "tangent", tangent, primal)
    arrays = call.backend.own((tuple(tangents), call.primals, call.constants))
    with call.backend.errstate():
        pair = call.rule.jvp(call.backend, *arrays, call.options)
    value, tangent = pair if call.structure is None else map(call.structure, pair)
    return value, tangent


@overload
def value_and_grad(function: Callable[P, R], /, argnums: int = 0) -> Callable[P, tuple[R, R]]: ...


@overload
def value_and_grad(function: Callable[P, R], /, argnums: tuple[int, ...]) -> Callable[P, tuple[R, tuple[R, ...]]]: ...


def value_and_grad(function: Callable[P, R], /, argnums: Argnums = 0) -> Callable[P, Any]:
    """Make a function that returns the value and the gradient of a scalar function, in one pass.

    Parameters
    ----------
    function : function
        `cross_entropy`, `linear_cross_entropy` or `logsumexp`.
    argnums : int or tuple of ints
        The positions of the arrays to differentiate with respect to.

    Returns
    -------
    function
        Takes the arrays and options of ``function`` and returns (value, gradient). The gradient has the shape and dtype
        of its array; if ``argnums`` is a tuple, it is a tuple of such arrays. The function can be pickled, and
        differentiated again with `vjp` and `jvp`.

    Raises
    ------
    TypeError
        If ``function`` is not one of these, or ``argnums`` is not an int or a tuple of ints. When called, if the output
        is not a scalar, or ``argnums`` is out of range or the position of an array of integers; also where ``function``
        itself raises it.
    ValueError
        If ``argnums`` names a position twice. When called, where ``function`` itself raises it.

    Notes
    -----
    The same as jax.value_and_grad, with hand-written derivatives: the gradient of `cross_entropy` is given in its
    documentation, that of `logsumexp` is the softmax.

    Examples
    --------
    >>> import numpy as np, xpent
    >>> loss, gradient = xpent.value_and_grad(xpent.cross_entropy)(np.asarray([0.0, 0.0]), np.asarray(1))
    >>> gradient
    array([ 0.5, -0.5])
    """
    return _GradientFunction(value_and_grad, function, argnums)


@overload
def grad(function: Callable[P, R], /, argnums: int = 0) -> Callable[P, R]: ...


@overload
def grad(function: Callable[P, R], /, argnums: tuple[int, ...]) -> Callable[P, tuple[R, ...]]: ...


def grad(function: Callable[P, R], /, argnums: Argnums = 0) -> Callable[P, Any]:
    """Make a function that returns the gradient of a scalar function.

    Parameters
    ----------
    function : function
        `cross_entropy`, `linear_cross_entropy` or `logsumexp`.
    argnums : int or tuple of ints
        The positions of the arrays to differentiate with respect to.

    Returns
    -------
    function
        Takes the arrays and options of ``function`` and returns the gradient described in `value_and_grad`.

    Raises
    ------
    TypeError, ValueError
        As described in `value_and_grad`.

    Notes
    -----
    The same as jax.grad, with hand-written derivatives: the gradient of `cross_entropy` is given in its documentation,
    that of `logsumexp` is the softmax.

    Examples
    --------
    >>> import numpy as np, xpent
    >>> xpent.grad(xpent.logsumexp)(np.asarray([0.0, 0.0]))
    array([0.5, 0.5])
    """
    return _GradientFunction(grad, function, argnums)


def _bind(function: Callable[..., Any], primals: tuple[Any, ...], options: dict[str, Any]) -> Call:
    _check_function(function)
    return bind_call(function, primals, options)


def _check_function(function: Callable[..., Any]) -> None:
    if not hasattr(function, "bind"):
        raise TypeError(
            "function must be softmax, log_softmax, logsumexp, cross_entropy or linear_cross_entropy of xpent, or a "
            f"function returned by grad or value_and_grad, with its options given in the call; got {function!r}. To "
            "differentiate another function that calls one of these, use the automatic differentiation of the array "
            "library, or the chain rule: for logits = f(w), multiply xpent.grad(xpent.cross_entropy)(logits, targets) "
            "by the derivative of f"
        )


def _check_direction(backend: Backend, name: str, direction: Array, like: Array) -> None:
    """Check a tangent or cotangent of an array."""
    if not backend.is_floating(like):
        raise TypeError(f"{name} must be None for an array of integers, got one for {like.dtype}")
    found = backend_of({name: direction, "value" if name == "cotangent" else "primal": like})
    if not backend.converts(found):
        kind = f"{type(direction).__module__}.{type(direction).__qualname__}"
        raise TypeError(f"{name} must be an array of the library of the primals, got {kind}")
    if not backend.is_floating(direction):
        raise TypeError(f"{name} must hold floating-point numbers, got {direction.dtype}")
    if tuple(direction.shape) != tuple(like.shape):
        raise ValueError(f"{name} must have the shape {tuple(like.shape)}, got {tuple(direction.shape)}")


def _flatten(structure: Any) -> tuple[Array, ...]:
    if isinstance(structure, tuple):
        return tuple([array for part in structure for array in _flatten(part)])
    return (structure,)


class _GradientFunction:
    """A function returned by `grad` or `value_and_grad`; it can be pickled."""

    def __init__(self, transform: Callable[..., Any], function: Callable[..., Any], argnums: Argnums) -> None:
        _check_function(function)
        positions = argnums if isinstance(argnums, tuple) else (argnums,)
        if not positions or not all(isinstance(i, int) and not isinstance(i, bool) for i in positions):
            raise TypeError(f"argnums must be an int or a tuple of ints, got {argnums!r}")
        if len(set(positions)) != len(positions):
            raise ValueError(f"argnums must not name a position twice, got {argnums!r}")
        self.transform, self.function, self.argnums, self.positions = transform, function, argnums, positions
        self.has_value = transform is value_and_grad
        self.__name__ = self.__qualname__ = f"{transform.__name__}({function.__name__})"

    @property
    def __signature__(self) -> inspect.Signature:
        signature = inspect.signature(self.function)
        array = signature.return_annotation
        gradients = f"tuple[{', '.join([array] * len(self.positions))}]"
        returned = gradients if isinstance(self.argnums, tuple) else array
        return signature.replace(return_annotation=f"tuple[{array}, {returned}]" if self.has_value else returned)

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        name, parameters = self.function.__name__, list(self.__signature__.parameters)
        # The bias of linear_cross_entropy is its first option, so its position follows those of the other arrays.
        arrays = " and ".join([f"``{parameters[i]}``" for i in self.positions if 0 <= i < len(parameters)])
        computed = f"Value of `{name}` and its gradient" if self.has_value else f"Gradient of `{name}`"
        shape = f"of the shape and dtype of {arrays}"
        gradient = f"a tuple of arrays {shape}" if isinstance(self.argnums, tuple) else f"an array {shape}"
        return (
            f"{computed} with respect to {arrays}.\n\n"
            f"Takes the arrays and options of `{name}`, whose value must be a scalar.\n\n"
            f"Returns {'the value and ' if self.has_value else ''}{gradient}."
        )

    def __call__(self, *primals: Any, **options: Any) -> Any:
        return bind_call(self, primals, options).evaluate()

    def __get__(self, instance: Any, owner: Any = None) -> _GradientFunction:
        return self  # help() takes an object with this method for a function, and shows its signature

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _GradientFunction) and self.__reduce__() == other.__reduce__()

    def __hash__(self) -> int:
        return hash(self.__reduce__())

    def __reduce__(self) -> tuple[Any, ...]:
        return self.transform, (self.function, self.argnums)

    def __repr__(self) -> str:
        return f"<function {self.__name__}>"

    def bind(self, *primals: Any, **options: Any) -> Call:
        """The call that evaluates the gradient."""
        call: Call = self.function.bind(*primals, **options)  # type: ignore[attr-defined]
        backend, both, argnums = call.backend, call.rule.value_and_grad, self.argnums
        if not call.is_scalar or both is None:
            raise TypeError(
                f"{self.transform.__name__} requires a scalar output of {self.function.__name__}; for an array, use vjp"
            )
        for i in self.positions:
            if not 0 <= i < len(call.primals):
                raise TypeError(
                    f"argnums must lie in [0, {len(call.primals)}), got {i}; class and sample weights are constants"
                )
            if not backend.is_floating(call.primals[i]):
                raise TypeError(f"array {i} holds {call.primals[i].dtype}, which has no gradient")
        count = len(self.positions)
        dtypes = [call.primals[i].dtype for i in self.positions]

        def structure(outputs: tuple[Any, ...]) -> Any:
            values, gradients = outputs[:-count], outputs[-count:]
            gradients = tuple([backend.cast(g, dtype) for g, dtype in zip(gradients, dtypes, strict=True)])
            packed = gradients if isinstance(argnums, tuple) else gradients[0]
            return (*values, packed) if values else packed

        rule = both if self.has_value else call.rule.gradient
        assert rule is not None
        argnums_of_rule = tuple([backend.static_int(i) for i in self.positions])
        # The derivatives of rounded gradients would be less accurate.
        options_of_rule = call.options._replace(argnums=argnums_of_rule, rounds_gradients=not backend.differentiates)
        return Call(backend, rule, call.primals, call.constants, options_of_rule, False, call.check, structure)
