"""vjp, jvp, grad and value_and_grad: the hand-written derivatives, callable on the arrays of any library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from xpent._backends.arrays import Array, cast, common_namespace, constant, is_floating, quiet
from xpent._backends.differentiable import Call, Differentiable, evaluating

Argnums = int | tuple[int, ...]


def vjp(
    function: Differentiable[...], /, *primals: Array, **options: Any
) -> tuple[Any, Callable[[Any], tuple[Array, ...]]]:
    """Value of a function and its pullback, the product of a cotangent with the Jacobian.

    Parameters
    ----------
    function : function
        `softmax`, `log_softmax`, `logsumexp`, `cross_entropy`, `linear_cross_entropy`, or what `grad` or
        `value_and_grad` made of one.
    *primals : arrays
        Its arrays.
    **options
        Its options.

    Returns
    -------
    value : array
        What the function returns.
    pullback : function
        Takes a cotangent of the shape of ``value``, returns a tuple with one cotangent, of the shape and dtype of the
        primal, for each primal of floating-point numbers.

    Raises
    ------
    TypeError
        If ``function`` is another function, or no primal holds floating-point numbers, or the cotangent holds none.
    ValueError
        If the cotangent has not the shape of ``value``; and all that the function raises.

    Notes
    -----
    The formulas stand in section 1 of the design; jax.vjp means the same.

    Examples
    --------
    >>> import numpy as np, xpent
    >>> value, pullback = xpent.vjp(xpent.softmax, np.asarray([0.0, 0.0]))
    >>> pullback(np.asarray([1.0, 0.0]))
    (array([ 0.25, -0.25]),)
    """
    call = _bind(function, primals, options)
    wanted = tuple([i for i, primal in enumerate(call.primals) if is_floating(primal)])
    if not wanted:
        raise TypeError(f"nothing to differentiate: no argument of {function.__name__} holds floating-point numbers")
    value = call.evaluate()

    def pullback(cotangent: Any) -> tuple[Array, ...]:
        outputs, cotangents = _flatten(value), _flatten(cotangent)
        if len(outputs) != len(cotangents):
            raise ValueError(
                f"cotangent must have the structure of the value, {len(outputs)} arrays, got {cotangent!r}"
            )
        for output, part in zip(outputs, cotangents, strict=True):
            _check_moved("cotangent", part, output)
        with quiet(call.primals[0]):
            return call.rule.vjp(cotangents, wanted, *call.primals, **call.keywords)

    return value, pullback


def jvp(
    function: Differentiable[...], /, primals: Sequence[Array], tangents: Sequence[Array | None], **options: Any
) -> tuple[Any, Any]:
    """Value of a function and its pushforward, the product of the Jacobian with tangents.

    Parameters
    ----------
    function : function
        `softmax`, `log_softmax`, `logsumexp`, `cross_entropy`, `linear_cross_entropy`, or what `grad` or
        `value_and_grad` made of one.
    primals : sequence of arrays
        Its arrays.
    tangents : sequence of arrays or None
        One for each primal, of its shape; None where a primal does not move, as integers never do.
    **options
        Its options.

    Returns
    -------
    value : array
        What the function returns.
    tangent : array
        Its change along ``tangents``, of the shape and dtype of ``value``.

    Raises
    ------
    TypeError
        If ``function`` is another function, or a tangent is not an array of floating-point numbers, or moves integers.
    ValueError
        If a tangent has not the shape of its primal, or there is none; and all that the function raises.

    Notes
    -----
    The formulas stand in section 1 of the design; jax.jvp means the same.

    Examples
    --------
    >>> import numpy as np, xpent
    >>> logits, label, v = np.asarray([0.0, 0.0]), np.asarray(1), np.asarray([1.0, 0.0])
    >>> loss, change = xpent.jvp(xpent.cross_entropy, (logits, label), (v, None))
    >>> float(change)
    0.5
    >>> gradient, product = xpent.jvp(xpent.grad(xpent.cross_entropy), (logits, label), (v, None))
    >>> product  # of the Hessian with v
    array([ 0.25, -0.25])
    """
    if not isinstance(primals, tuple | list) or not isinstance(tangents, tuple | list):
        raise TypeError("primals and tangents must be tuples with one entry for each array")
    call = _bind(function, tuple(primals), options)
    if len(tangents) != len(call.primals):
        bias = ", the bias among them" if len(call.primals) > len(primals) else ""
        raise ValueError(
            f"there must be one tangent for each of the {len(call.primals)} primals{bias}, got {len(tangents)}"
        )
    if all(tangent is None for tangent in tangents):
        raise ValueError("at least one tangent must be an array, got None for every primal")
    for primal, tangent in zip(call.primals, tangents, strict=True):
        if tangent is not None:
            _check_moved("tangent", tangent, primal)
    with quiet(call.primals[0]):
        value, tangent = call.rule.jvp(tuple(tangents), *call.primals, **call.keywords)
        return call.structure(value), call.structure(tangent)


def value_and_grad(function: Differentiable[...], /, argnums: Argnums = 0) -> Differentiable[...]:
    """Make a function that returns the value of a scalar function and its gradient, in one pass.

    Parameters
    ----------
    function : function
        `cross_entropy`, `linear_cross_entropy` or `logsumexp`.
    argnums : int or tuple of ints
        The positions of the arrays to differentiate with respect to.

    Returns
    -------
    function
        Takes the arrays and options of ``function``, returns (value, gradient): the gradient has the shape and dtype of
        its array, and is a tuple of them if ``argnums`` is a tuple. `vjp` and `jvp` differentiate it once more.

    Raises
    ------
    TypeError
        If ``function`` is another function; when called, if its output is not one number, or if ``argnums`` names no
        array, or one of integers.
    ValueError
        If ``argnums`` names an array twice; when called, all that the function raises.

    Notes
    -----
    The formulas stand in section 1 of the design; jax.value_and_grad means the same.

    Examples
    --------
    >>> import numpy as np, xpent
    >>> loss, gradient = xpent.value_and_grad(xpent.cross_entropy)(np.asarray([0.0, 0.0]), np.asarray(1))
    >>> gradient
    array([ 0.5, -0.5])
    """
    return _gradient_function(function, argnums, "value_and_grad")


def grad(function: Differentiable[...], /, argnums: Argnums = 0) -> Differentiable[...]:
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
        Takes the arrays and options of ``function``, returns its gradient, as `value_and_grad` does.

    Raises
    ------
    TypeError, ValueError
        As `value_and_grad` does.

    Notes
    -----
    The formulas stand in section 1 of the design; jax.grad means the same.

    Examples
    --------
    >>> import numpy as np, xpent
    >>> xpent.grad(xpent.logsumexp)(np.asarray([0.0, 0.0]))
    array([0.5, 0.5])
    """
    return _gradient_function(function, argnums, "grad")


def _bind(function: Differentiable[...], primals: tuple[Array, ...], options: dict[str, Any]) -> Call:
    _check_function(function)
    return function.bind(*primals, **options)


def _check_function(function: Differentiable[...]) -> None:
    if not hasattr(function, "bind"):
        raise TypeError(
            "function must be softmax, log_softmax, logsumexp, cross_entropy or linear_cross_entropy of xpent, or "
            f"what grad or value_and_grad made of one, and takes its options when called; got {function!r}"
        )


def _check_moved(name: str, moved: Array, like: Array) -> None:
    if not is_floating(like):
        raise TypeError(f"{name} must be None for integers, which do not move: they are {like.dtype}")
    common_namespace(**{name: moved, "its primal": like})
    if not is_floating(moved):
        raise TypeError(f"{name} must hold floating-point numbers, got {moved.dtype}")
    if tuple(moved.shape) != tuple(like.shape):
        raise ValueError(f"{name} must have the shape {tuple(like.shape)}, got {tuple(moved.shape)}")


def _flatten(structure: Any) -> tuple[Array, ...]:
    if isinstance(structure, tuple):
        return tuple([array for part in structure for array in _flatten(part)])
    return (structure,)


def _gradient_function(function: Differentiable[...], argnums: Argnums, name: str) -> Differentiable[...]:
    _check_function(function)
    wanted = argnums if isinstance(argnums, tuple) else (argnums,)
    if not wanted or not all(isinstance(i, int) for i in wanted):
        raise TypeError(f"argnums must be an int or a tuple of ints, got {argnums!r}")
    if len(set(wanted)) != len(wanted):
        raise ValueError(f"argnums must name an array once, got {argnums!r}")

    def bind(*primals: Array, **options: Any) -> Call:
        call = _bind(function, primals, options)
        rule = call.rule.value_and_gradient if name == "value_and_grad" else call.rule.gradient
        if not call.is_scalar or rule is None:
            raise TypeError(f"{name} needs one number as the output of {function.__name__}; use vjp for an array")
        for i in wanted:
            if not 0 <= i < len(call.primals):
                raise TypeError(
                    f"argnums must lie in [0, {len(call.primals)}), got {i}; class and sample weights are constants"
                )
            if not is_floating(call.primals[i]):
                raise TypeError(f"array {i} holds {call.primals[i].dtype}, which has no gradient")

        def structure(outputs: tuple[Array, ...]) -> Any:
            values, gradients = outputs[: -len(wanted)], outputs[-len(wanted) :]
            gradients = tuple([cast(g, call.primals[i].dtype) for i, g in zip(wanted, gradients, strict=True)])
            packed = gradients if isinstance(argnums, tuple) else gradients[0]
            return (*values, packed) if values else packed

        keywords = {**call.keywords, "wanted": tuple([constant(i) for i in wanted])}
        return Call(rule, call.primals, keywords, structure=structure)

    bind.__name__ = f"{name}({function.__name__})"
    return evaluating(bind)
