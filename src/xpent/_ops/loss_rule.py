"""The rule of a loss, from its gradients and the product of its Hessian with tangents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xpent._backends.arrays import Array, cast
from xpent._backends.differentiable import Rule, Wanted

Tangents = tuple[Array | None, ...]


def rule_of_loss(
    loss_and_gradients: Callable[..., tuple[Array, ...]],
    gradient_product: Callable[..., list[Array]],
    jvp: Callable[..., tuple[Array, Array]],
    hessian_product: Callable[..., list[Array]],
    keeps_gradients: Callable[..., bool],
) -> tuple[Rule, Rule]:
    """The rule of a loss, and that of the loss together with gradients, whose derivative is the Hessian.

    The Hessian is symmetric: its product with tangents is its product with cotangents, too.

    ``loss_and_gradients(*primals, wanted, **keywords)``
        the loss, and the gradients with respect to the primals whose positions are in ``wanted``.
    ``gradient_product(cotangent, wanted, *primals, **keywords)``
        these gradients times the cotangent of the loss.
    ``jvp(tangents, *primals, **keywords)``
        the loss and its tangent.
    ``hessian_product(tangents, wanted, *primals, **keywords)``
        the tangents of these gradients.
    ``keeps_gradients``
        see `Rule`.
    """

    def value(*primals: Array, **keywords: Any) -> Array:
        return loss_and_gradients(*primals, wanted=(), **keywords)[0]

    def vjp(cotangents: tuple[Array], needed: Wanted, *primals: Array, **keywords: Any) -> tuple[Array, ...]:
        products = gradient_product(cotangents[0], needed, *primals, **keywords)
        return tuple([cast(product, primals[i].dtype) for i, product in zip(needed, products, strict=True)])

    def both_vjp(
        cotangents: tuple[Array | None, ...], needed: Wanted, *primals: Array, wanted: Wanted, **keywords: Any
    ) -> tuple[Array, ...]:
        of_loss, *of_gradients = cotangents
        parts = []
        if of_loss is not None:
            parts.append(gradient_product(of_loss, needed, *primals, **keywords))
        if any(u is not None for u in of_gradients):
            given = dict(zip(wanted, of_gradients, strict=True))
            tangents = tuple([given.get(i) for i in range(len(primals))])
            parts.append(hessian_product(tangents, needed, *primals, **keywords))
        return tuple([cast(sum(part), primals[i].dtype) for i, *part in zip(needed, *parts, strict=True)])

    def both_jvp(
        tangents: Tangents, *primals: Array, wanted: Wanted, **keywords: Any
    ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        values = both(*primals, wanted=wanted, **keywords)
        _, change = jvp(tangents, *primals, **keywords)
        return values, (change, *hessian_product(tangents, wanted, *primals, **keywords))

    both = Rule(loss_and_gradients, both_vjp, both_jvp)
    return Rule(value, vjp, jvp, both, keeps_gradients), both
