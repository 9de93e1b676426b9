"""Cross-entropy of rows: the loss, its gradients, second derivatives, and reductions.

A row has logits x with maximum m, targets q_j >= 0 and class weights w_j. The class a is taken out of the sum of
exponentials, so that all terms of every sum have one sign and nothing cancels: the target t for a class index, the
first maximum for a distribution (there z = 0).

    z = x_a - m    r = sum over j != a of exp(x_j - m)    s = r + exp(z)    p = softmax(x)

    class index t    loss = w_t log1p(r / exp(z)), where exp(z) underflows w_t (log(s) - z)
                     d/dx_j = w_t exp(x_j - m) / s    d/dx_t = -w_t r / s
    distribution     loss = sum_j q_j w_j ((m - x_j) + log1p(r)),    Q = sum_k q_k w_k
                     d/dx_j = p_j Q - q_j w_j    where p_j > 1/2: (sum over k != j of q_k w_k - r q_j w_j) / s
                     d/dq_j = w_j ((m - x_j) + log1p(r))

Label smoothing turns a class index into a distribution. The z-loss adds z_loss lse^2 with lse = m + log(s), and
2 z_loss lse p_j to the gradient. Reference: Blanchard, Higham and Higham, "Accurately computing the log-sum-exp and
softmax functions", IMA J. Numer. Anal. 41(4), 2021.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from xpent._backends.base import Array, Backend
from xpent._engine.blocks import map_rows
from xpent._engine.layout import Axes, batch_shape, class_count, field_as_rows, from_rows, to_rows
from xpent._engine.rule import Argnums, Residuals, Rule, without_residuals
from xpent._losses.softmax import (
    broadcast_mask,
    centered,
    logsumexp_of_rows,
    masked_logits,
    softmax_of_rows,
)
from xpent._losses.targets import (
    Constants,
    Options,
    Scale,
    denominator,
    row_weights,
    smoothed,
    target_rows,
    target_slope,
)

Tangents = tuple[Array | None, ...]


class Rows(NamedTuple):
    """Rows of a call; their losses are multiplied by ``scale``, their gradients by ``scale`` and ``cotangent``."""

    logits: Array  # (..., C)
    mask: Array | None  # true for unmasked classes, (..., C)
    q: Array | None  # distributions, (..., C)
    class_index: Array | None  # class indices, (..., 1)
    class_weight: Array | None  # w_t, (..., 1)
    scale: Array | None  # 0 for an inactive row, NaN for an index out of range, (..., 1); None for that of `Shared`
    cotangent: Array | None  # (..., 1); a row has gradient 0 where it is 0
    maximum: Array | None = None  # m and r, where the forward pass has kept them, (..., 1)
    rest: Array | None = None


class Shared(NamedTuple):
    """Values shared by all rows of a call."""

    class_weight: Array | None  # (C,)
    label_smoothing: Scale | None
    z_loss: Scale | None
    scale: Scale
    cotangent: Array | None  # of the sum or mean of all rows


class Static(NamedTuple):
    """Static arguments of a function of rows."""

    argnums: Argnums  # sorted
    may_be_inactive: bool  # whether ``scale`` may be 0
    has_loss: bool = True
    has_statistics: bool = False  # whether m and r are returned


def losses_and_gradients(
    backend: Backend, static: Static, rows: Rows, shared: Shared, out: Array | None
) -> list[Array]:
    """The loss of each row, its gradients at the positions ``static.argnums``, and m and r; ``static`` selects them."""
    if rows.class_index is None or shared.label_smoothing is not None:
        return _of_distributions(backend, static, rows, shared, out)
    return _of_indices(backend, static, rows, shared, out)


def _of_indices(backend: Backend, static: Static, rows: Rows, shared: Shared, out: Array | None) -> list[Array]:
    xp, index, r = backend.xp, rows.class_index, rows.rest
    x = masked_logits(backend, rows.logits, rows.mask)
    scale = shared.scale if rows.scale is None else rows.scale
    is_active = _active_rows(backend, static, rows, shared)
    if rows.class_weight is not None:
        has_weight = rows.class_weight != 0.0
        is_active = has_weight if is_active is None else is_active & has_weight
    if is_active is not None:
        x = backend.neutral_rows(x, is_active)
    m: Array = rows.maximum
    largest: Array = None
    if m is None and (static.has_statistics or shared.z_loss is not None):
        largest = backend.largest(x)
        m = backend.shift(largest)
    x_t: Array = backend.take(x, index) if r is not None or shared.z_loss is not None else None
    e = None
    if r is not None:
        e, t = backend.exp(backend.subtract(x, m, out), out), xp.exp(x_t - m)
        log_ratio = backend.log_ratio(r, t, x_t - m)
    elif static.argnums:
        e, r, t, log_ratio = backend.exponentials(x, index, out)
    else:
        r, t, log_ratio = backend.exponential_sums(x, index)
    s = r + t

    results, slope = [], None
    loss = log_ratio if rows.class_weight is None else rows.class_weight * log_ratio
    if shared.z_loss is not None:
        is_masked = x_t == -math.inf  # t = 0 there, so s is not scaled
        lse = xp.where(is_masked, m + xp.log(s), x_t + xp.where(is_masked, 0.0, log_ratio))
        lse = lse if largest is None else _zero_in_masked_rows(backend, lse, largest)
        slope = 2.0 * shared.z_loss * lse  # of the z-loss with respect to lse
        loss = loss + 0.5 * slope * lse
    if static.has_loss:
        results.append(scale * loss)
    if e is not None:
        factor: Array = (scale if rows.class_weight is None else scale * rows.class_weight) / s
        if slope is None:
            gradient = _scaled(backend, backend.put(e, index, -r), factor, rows, shared)
        else:
            factor_of_z_loss = scale * slope / s
            at_target = _times_cotangent(factor_of_z_loss * t - factor * r, rows, shared)
            gradient = _scaled(backend, e, factor + factor_of_z_loss, rows, shared)
            gradient = backend.put(gradient, index, at_target)
        results.append(gradient)
    if is_active is not None:
        results = [backend.zero_rows(y, is_active) for y in results]
    return [*results, m, r] if static.has_statistics else results


def _of_distributions(backend: Backend, static: Static, rows: Rows, shared: Shared, out: Array | None) -> list[Array]:
    xp, r = backend.xp, rows.rest
    x = masked_logits(backend, rows.logits, rows.mask)
    q = _smoothed_targets(backend, x, rows, shared)
    scale = shared.scale if rows.scale is None else rows.scale
    m: Array = rows.maximum
    first = None
    if r is None:
        m, first = backend.first_maximum(x)
    has_target = backend.any_of_row(q != 0.0)
    is_active: Array = _active_rows(backend, static, rows, shared)
    is_defined = has_target | (m < math.inf)
    is_active = is_defined if is_active is None else is_active & is_defined
    is_active = None if backend.is_known_true(is_active) else is_active
    if is_active is not None:
        x, m = backend.neutral_rows(x, is_active), xp.where(is_active, m, 0.0)
    largest, m = m, backend.shift(m)
    d = backend.subtract(x, m)
    e = None
    if r is not None:
        e = backend.exp(d, out) if 0 in static.argnums else None
    elif 0 in static.argnums:
        e, r = backend.exp_and_rest(d, first, out)
    else:
        r = backend.rest_sum(x, m, first, d)
    s, log_s = 1.0 + r, xp.log1p(r)

    slope: Scale | None = None  # of the z-loss with respect to lse
    if shared.z_loss is not None:
        lse = _zero_in_masked_rows(backend, m + log_s, largest)
        slope = backend.cast(has_target, x.dtype) * (2.0 * shared.z_loss * lse)
    results = []
    if static.has_loss:
        loss = backend.total(_weighted(backend, q, log_s - d))
        results.append(scale * (loss if slope is None else loss + 0.5 * slope * lse))
    if e is not None:
        is_likely = e > 0.5 * s
        others = backend.total(xp.where(is_likely, 0.0, q))
        gradient = xp.where(is_likely, (others - r * q) / s, e * (backend.total(q) / s) - q)
        gradient = gradient if slope is None else gradient + e * (slope / s)
        results.append(_scaled(backend, gradient, scale, rows, shared))
    if 1 in static.argnums:
        factor = _times_cotangent(scale, rows, shared)
        factor = factor * target_slope(backend, x.dtype, shared.class_weight, shared.label_smoothing)
        results.append(_weighted(backend, factor + backend.xp.zeros_like(r), log_s - d))
    if is_active is not None:
        results = [backend.zero_rows(y, is_active) for y in results]
    return [*results, m, r] if static.has_statistics else results


def _smoothed_targets(backend: Backend, x: Array, rows: Rows, shared: Shared) -> Array:
    if rows.class_index is None:
        q = backend.cast(rows.q, x.dtype)
    else:
        q = backend.cast(backend.class_indices(x) == rows.class_index, x.dtype)
    return smoothed(backend, x, q, shared.class_weight, shared.label_smoothing)


def _zero_in_masked_rows(backend: Backend, lse: Array, largest: Array) -> Array:
    """The log-sum-exp for the z-loss: 0 in a fully masked row, whose loss is infinite without it."""
    return backend.xp.where(largest == -math.inf, 0.0, lse)


def _weighted(backend: Backend, q: Array, loss: Array) -> Array:
    """q * loss, where 0 times an infinite loss is 0."""
    return q * backend.xp.where(q == 0.0, 0.0, loss)


def _cotangent(rows: Rows, shared: Shared) -> Array | None:
    return shared.cotangent if rows.cotangent is None else rows.cotangent


def _times_cotangent(factor: Scale, rows: Rows, shared: Shared) -> Scale:
    cotangent = _cotangent(rows, shared)
    return factor if cotangent is None else factor * cotangent


def _scaled(backend: Backend, gradient: Array, factor: Scale, rows: Rows, shared: Shared) -> Array:
    """gradient * factor * cotangent, where 0 times a cotangent that is not finite is 0; may overwrite the gradient."""
    xp, cotangent, product = backend.xp, _cotangent(rows, shared), _times_cotangent(factor, rows, shared)
    if cotangent is None or backend.is_known_true(xp.isfinite(cotangent)):
        return backend.multiply(gradient, product)
    return xp.where((gradient == 0.0) & (factor == factor), 0.0, gradient * product)


def _active_rows(backend: Backend, static: Static, rows: Rows, shared: Shared) -> Array | None:
    """Where neither the scale nor the cotangent of a row is 0; None if that is known for all rows."""
    is_active = rows.scale != 0.0 if static.may_be_inactive else None
    cotangent = _cotangent(rows, shared)
    if cotangent is None or backend.is_known_true(cotangent != 0.0):
        return is_active
    return cotangent != 0.0 if is_active is None else is_active & (cotangent != 0.0)


class Problem(NamedTuple):
    """The arguments of a call, as rows."""

    rows: Rows  # whose fields without class axes have the shape of the batch
    shared: Shared
    denominator: Scale
    sample_weight: Array | None  # 0 in an ignored row
    depends_on_targets: bool  # whether the denominator does


def prepare(
    backend: Backend,
    primals: tuple[Array, Array],
    constants: Constants,
    options: Options,
    cotangent: Array | None = None,
    statistics: tuple[Array, ...] = (),
) -> Problem:
    """Compute the factor of each row's loss, which does not depend on the logits."""
    logits, targets = primals
    xp, axes, normalizer, reduction = backend.xp, options.axes, constants.normalizer, options.reduction
    dtype = backend.accumulation_dtype(logits.dtype)
    of_targets = target_rows(backend, targets, tuple(logits.shape), dtype, constants, options)
    is_mean_of_weights = reduction == "mean" and normalizer is None
    has_weights = of_targets.sample_weight is not None or constants.class_weight is not None
    needs_weights = is_mean_of_weights and has_weights
    if normalizer is not None and not isinstance(normalizer, float):
        normalizer, needs_weights = backend.cast(normalizer, dtype), True
    row_weight = None
    if needs_weights:
        row_weight = row_weights(backend, of_targets, targets, dtype, constants.class_weight, axes)
    count = math.prod(logits.shape) // class_count(logits.shape, axes) if reduction == "mean" else 1
    divisor = denominator(backend, row_weight, count, logits, reduction, normalizer)
    index, weight, sample, is_valid = of_targets
    scale = None
    if sample is not None or is_valid is not None:
        scale = (xp.ones_like(index, dtype=dtype) if sample is None else sample) / divisor
        scale = scale if is_valid is None else xp.where(is_valid, scale, math.nan)
    is_reduced = reduction != "none"
    rows = Rows(
        logits,
        None if constants.where is None else broadcast_mask(backend, constants.where, logits),
        targets if index is None else None,
        index,
        weight,
        scale,
        None if is_reduced else cotangent,
        *statistics,
    )
    shared = Shared(
        constants.class_weight,
        constants.label_smoothing,
        constants.z_loss,
        backend.operand(1.0 / divisor, logits),
        cotangent if is_reduced else None,
    )
    depends_on_targets = is_mean_of_weights and constants.class_weight is not None and index is None
    return Problem(rows, shared, divisor, sample, depends_on_targets)


def evaluate(
    backend: Backend,
    primals: tuple[Array, Array],
    constants: Constants,
    options: Options,
    argnums: Argnums = (),
    cotangent: Array | None = None,
    *,
    rounds_gradients: bool = False,
    statistics: tuple[Array, ...] = (),
    keeps_statistics: bool = False,
) -> tuple[Array | None, list[Array], tuple[Array, ...]]:
    """The loss, its gradients at the positions ``argnums``, and m and r of the rows if they are to be kept.

    With a cotangent of the loss, the gradients are multiplied by it and have the dtypes of the primals, as they have if
    they are to be rounded. With statistics from a previous call, the loss is None if it is not needed.
    """
    logits, targets = primals
    backend = backend.for_kernels(primals, constants, cotangent, statistics)
    problem = prepare(backend, primals, constants, options, cotangent, statistics)
    positions, axes = tuple(sorted(argnums)), options.axes
    batch, dtype = batch_shape(logits.shape, axes), backend.accumulation_dtype(logits.dtype)
    corrects = 1 in argnums and problem.depends_on_targets
    has_loss = len(statistics) == 0 or corrects
    static = Static(positions, problem.sample_weight is not None, has_loss, keeps_statistics)
    outputs = [(batch, dtype)] if has_loss else []
    for i in positions:
        is_final = (cotangent is not None or rounds_gradients) and not (i == 1 and corrects)
        outputs.append((tuple(logits.shape), primals[i].dtype if is_final else dtype))
    outputs += [(batch, dtype)] * 2 if keeps_statistics else []
    found = map_rows(backend, losses_and_gradients, static, problem.rows, problem.shared, axes, outputs)
    loss = found.pop(0) if has_loss else None
    if loss is not None and options.reduction != "none":
        loss = backend.sum_all(loss)
    gradients = dict(zip(positions, found, strict=False))
    if corrects:
        growth = loss * _denominator_slope(backend, problem, targets, constants, axes) / problem.denominator
        growth = from_rows(backend, growth, axes, targets.shape)
        gradients[1] = gradients[1] - (growth if cotangent is None else cotangent * growth)
    return loss, [gradients[i] for i in argnums], tuple(found[len(positions) :])


def _denominator_slope(backend: Backend, problem: Problem, targets: Array, constants: Constants, axes: Axes) -> Array:
    """d denominator / d target_j where the denominator is the sum of the row weights: s w_j; (..., C)."""
    dtype = backend.accumulation_dtype(problem.rows.logits.dtype)
    x, w = backend.cast(to_rows(backend, targets, axes), dtype), backend.cast(constants.class_weight, dtype)
    weight = backend.xp.zeros_like(x) + w
    return weight if problem.sample_weight is None else problem.sample_weight[..., None] * weight


# First order


def _loss(backend: Backend, primals: tuple[Array, Array], constants: Constants, options: Options) -> Array:
    return evaluate(backend, primals, constants, options)[0]


def _loss_and_gradients(
    backend: Backend, primals: tuple[Array, Array], constants: Constants, options: Options
) -> tuple[Array, ...]:
    rounds = options.rounds_gradients
    loss, gradients, _ = evaluate(backend, primals, constants, options, options.argnums, rounds_gradients=rounds)
    return (loss, *gradients)


def _forward(
    backend: Backend, argnums: Argnums, primals: tuple[Array, Array], constants: Constants, options: Options
) -> tuple[Array, Residuals]:
    logits, kernels = primals[0], backend.for_kernels(primals, constants)
    if kernels.differentiates:
        loss, _, statistics = evaluate(backend, primals, constants, options, keeps_statistics=True)
        return loss, Residuals(statistics)
    is_rounded = logits.dtype != backend.accumulation_dtype(logits.dtype)
    # A gradient that is rounded to half precision can be reused only if the cotangent is 1, and checking this on a GPU
    # requires a transfer.
    is_useful = not is_rounded or kernels.inspectable(logits) is not None
    if options.reduction == "none" or argnums != (0,) or not is_useful or not kernels.keeps_gradients():
        return _loss(kernels, primals, constants, options), Residuals()
    loss, gradients, _ = evaluate(kernels, primals, constants, options, argnums, rounds_gradients=True)
    return loss, Residuals(gradients=tuple(gradients))


def _backward(
    backend: Backend,
    saved: tuple[Array, ...],
    cotangents: tuple[Array],
    argnums: Argnums,
    primals: tuple[Array, Array],
    constants: Constants,
    options: Options,
) -> tuple[Array, ...]:
    if is_zero(backend, cotangents[0]):
        return zeros_of(backend, primals, argnums)
    _, found, _ = evaluate(backend, primals, constants, options, argnums, cotangents[0], statistics=saved)
    return tuple([backend.cast(g, primals[i].dtype) for i, g in zip(argnums, found, strict=True)])


def _vjp(
    backend: Backend,
    cotangents: tuple[Array],
    argnums: Argnums,
    primals: tuple[Array, Array],
    constants: Constants,
    options: Options,
) -> tuple[Array, ...]:
    (g,) = cotangents
    _, *gradients = LOSS_AND_GRADIENTS(backend, primals, constants, options._replace(argnums=argnums))
    g = g[..., None] if options.reduction == "none" else g
    gradients = [to_rows(backend, gradient, options.axes) for gradient in gradients]
    masks = _gradient_masks(backend, gradients, argnums, primals, constants, options)
    found = []
    for i, y, mask in zip(argnums, gradients, masks, strict=True):
        product = backend.times_gradient(backend.xp.where(mask, backend.cast(g, y.dtype), 0.0), y)
        product = from_rows(backend, product, options.axes, primals[i].shape)
        found.append(backend.cast(product, primals[i].dtype))
    return tuple(found)


def is_zero(backend: Backend, cotangent: Array) -> bool:
    """Whether a cotangent of shape () is known to be 0."""
    return cotangent.ndim == 0 and backend.is_known_true(cotangent == 0.0)


def zeros_of(backend: Backend, primals: tuple[Array, ...], argnums: Argnums) -> tuple[Array, ...]:
    """Gradients of 0 with respect to the primals at the positions ``argnums``."""
    return tuple([backend.zeros(tuple(primals[i].shape), primals[i].dtype, primals[i]) for i in argnums])


def _gradient_masks(
    backend: Backend, gradients: Sequence[Array], argnums: Argnums, primals: Any, constants: Constants, options: Options
) -> list[Array]:
    """Where the derivative may be nonzero, as rows.

    Tangents elsewhere, in inactive rows and at masked classes, may be NaN or infinite and must be set to 0. For a class
    index this is where the gradient is not 0. For distributions, smoothing or the z-loss a gradient may be 0 where its
    derivative is not, as at uniform logits and targets.
    """
    is_nonzero = [gradient != 0.0 for gradient in gradients]
    if primals[0].ndim != primals[1].ndim and constants.label_smoothing is None and constants.z_loss is None:
        return is_nonzero
    problem = prepare(backend, primals, constants, options)
    rows = _as_rows(backend, problem.rows, options.axes)
    x = masked_logits(backend, rows.logits, rows.mask)
    is_active = backend.largest(x) < math.inf
    if rows.class_weight is not None and constants.label_smoothing is None:
        is_active = is_active & (rows.class_weight != 0.0)
    if problem.sample_weight is not None:
        is_active = is_active & (rows.scale != 0.0)
    of_primals = is_active & (x != -math.inf), is_active
    return [mask | of_primals[i] for i, mask in zip(argnums, is_nonzero, strict=True)]


def _as_rows(backend: Backend, rows: Rows, axes: Axes) -> Rows:
    ndim = rows.logits.ndim
    return Rows._make([a if a is None else field_as_rows(backend, a, axes, ndim) for a in rows])


def _jvp(
    backend: Backend, tangents: Tangents, primals: tuple[Array, Array], constants: Constants, options: Options
) -> tuple[Array, Array]:
    argnums = tuple([i for i, tangent in enumerate(tangents) if tangent is not None])
    loss, *gradients = LOSS_AND_GRADIENTS(backend, primals, constants, options._replace(argnums=argnums))
    gradients = [to_rows(backend, gradient, options.axes) for gradient in gradients]
    masks = _gradient_masks(backend, gradients, argnums, primals, constants, options)
    change: Scale = 0.0
    for i, y, mask in zip(argnums, gradients, masks, strict=True):
        v = backend.xp.where(mask, to_rows(backend, backend.cast(tangents[i], y.dtype), options.axes), 0.0)
        product = v * y if i == 0 and backend.transposes_jvp else backend.times_gradient(v, y)
        change = change + backend.total(product)[..., 0]
    return loss, change if options.reduction == "none" else backend.xp.sum(change)


# Second order, for tangents u of the logits and d of the targets, with b_j = slope_j d_j the tangent of q_j w_j:
#
#     of the gradient with respect to the logits     p (Q (u - sum(p u)) + sum(b)) - b
#     of its z-loss term 2 z lse p                   2 z p (lse (u - sum(p u)) + sum(p u))
#     of the gradient with respect to the targets    slope (sum(p u) - u)
#
# and, where the denominator D depends on the targets, the quotient rule. The Hessian is symmetric, so its product with
# tangents is its product with cotangents, too.


def _hessian_product(
    backend: Backend, tangents: Tangents, primals: tuple[Array, Array], constants: Constants, options: Options
) -> list[Array]:
    """The product of the Hessian with tangents of the primals, at the positions ``options.argnums``."""
    xp, axes, (logits, targets) = backend.xp, options.axes, primals
    problem = prepare(backend, primals, constants, options)
    rows = _as_rows(backend, problem.rows, axes)
    x = masked_logits(backend, rows.logits, rows.mask)
    ones = xp.ones_like(backend.one_of_row(x))  # PyTorch rounds Python numbers to float32 in nested forward mode
    scale = ones * problem.shared.scale if rows.scale is None else rows.scale
    slope = ones * target_slope(backend, x.dtype, constants.class_weight, constants.label_smoothing)
    q = _smoothed_targets(backend, x, rows, problem.shared)
    m, has_target = backend.largest(x), backend.any_of_row(q != 0.0)

    def tangent_rows(tangent: Array | None) -> Array:
        return xp.zeros_like(x) if tangent is None else to_rows(backend, backend.cast(tangent, x.dtype), axes)

    u, d = map(tangent_rows, tangents)
    is_active = has_target if rows.class_weight is not None else has_target | (m < math.inf)
    if problem.sample_weight is not None:
        is_active = is_active & (scale != 0.0)
    sums = backend.shift(m) + backend.total(q) + scale
    is_number = sums == sums
    # A logit has a gradient if its class is unmasked or has a target, or if the row is NaN.
    has_gradient = is_active & ((x != -math.inf) | (q != 0.0) | ~is_number)
    u, d = xp.where(has_gradient, u, 0.0), xp.where(is_active, d, 0.0)
    x, q, scale = (xp.where(is_active, y, 0.0) for y in (x, q, scale))
    p = softmax_of_rows(backend, x)
    lse = None if constants.z_loss is None else xp.where(m == -math.inf, 0.0, logsumexp_of_rows(backend, x))
    if not backend.transposes_jvp and not backend.is_known_true(is_number):
        # With tangents of 0, the product of a row of NaN is 0.
        counts = is_number | backend.any_of_row((u != 0.0) | (d != 0.0))
        p, q, scale, lse = (y if y is None else xp.where(counts, y, 0.0) for y in (p, q, scale, lse))
    b = slope * d
    deviation = centered(backend, u, p)
    curvature, level = backend.total(q), backend.total(b)
    if constants.z_loss is not None:
        z = constants.z_loss * backend.cast(is_active & has_target, x.dtype)
        curvature = curvature + 2.0 * z * lse
        level = level + 2.0 * z * backend.total(p * u)
    products = [
        scale * xp.where(has_gradient, p * (curvature * deviation + level) - b, 0.0),
        -scale * slope * deviation,
    ]
    if problem.depends_on_targets:
        change_of_denominator = xp.where(is_active, _denominator_slope(backend, problem, targets, constants, axes), 0.0)
        both = options._replace(argnums=(0, 1))
        _, *gradients = LOSS_AND_GRADIENTS(backend, primals, constants, both)
        growth = xp.sum(change_of_denominator * d) / problem.denominator
        products = [
            product - backend.times_gradient(growth, to_rows(backend, gradient, axes))
            for product, gradient in zip(products, gradients, strict=True)
        ]
        _, change = _jvp(backend, tangents, primals, constants, options)
        products[1] = products[1] - change * change_of_denominator / problem.denominator
    return [from_rows(backend, products[i], axes, logits.shape) for i in options.argnums]


def loss_rules(
    loss: Any, loss_and_gradients: Any, forward: Any, backward: Any, vjp: Any, jvp: Any, hessian_product: Any
) -> tuple[Rule, Rule]:
    """The rule of a loss, and the rule of the loss together with its gradients, whose derivative is the Hessian."""

    def both_vjp(
        backend: Backend, cotangents: Tangents, argnums: Argnums, primals: Any, constants: Any, options: Any
    ) -> tuple[Array, ...]:
        options = options._replace(rounds_gradients=False)
        of_loss, *of_gradients = cotangents
        parts = []
        if of_loss is not None:
            parts.append(vjp(backend, (of_loss,), argnums, primals, constants, options))
        if any(u is not None for u in of_gradients):
            given = dict(zip(options.argnums, of_gradients, strict=True))
            tangents = tuple([given.get(i) for i in range(len(primals))])
            parts.append(hessian_product(backend, tangents, primals, constants, options._replace(argnums=argnums)))
        return tuple([backend.cast(sum(part), primals[i].dtype) for i, *part in zip(argnums, *parts, strict=True)])

    def both_jvp(
        backend: Backend, tangents: Tangents, primals: Any, constants: Any, options: Any
    ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        values = both(backend, primals, constants, options)
        options = options._replace(rounds_gradients=False)
        _, change = jvp(backend, tangents, primals, constants, options)
        return values, (change, *hessian_product(backend, tangents, primals, constants, options))

    both = without_residuals(loss_and_gradients, both_vjp, both_jvp)
    return Rule(loss, vjp, jvp, forward, backward, both), both


CROSS_ENTROPY, LOSS_AND_GRADIENTS = loss_rules(
    _loss, _loss_and_gradients, _forward, _backward, _vjp, _jvp, _hessian_product
)
