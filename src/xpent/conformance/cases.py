"""Cases: a function with its inputs, and exactly what it and its derivatives must be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpent.conformance import oracle
from xpent.conformance.oracle import Exact, Numbers

MARGINS = tuple(float(margin) for margin in np.linspace(-100, 100, 17))
OFFSETS = (0.0, 1e3, 1e4)
CLASSES = (2, 3, 10, 1000)


@dataclass(frozen=True)
class Quantity:
    """One thing to compute, its exact value and how far from it an answer may be.

    Errors are counted in units of u times ``scale``; ``allowed`` of them are ours to make. ``condition`` of them are
    granted to the textbook formulas, which subtract numbers as large as the logits.
    """

    name: str
    kind: str  # "value", "vjp", "jvp" or "hvp", the product of the Hessian with a tangent
    options: dict[str, Any]
    direction: Numbers | None  # cotangent or tangent
    exact: Exact
    scale: Exact
    allowed: Numbers
    condition: Numbers
    position: int = 0  # of the array that moves


@dataclass(frozen=True)
class Case:
    """A function of xpent, its arrays and the quantities to compute."""

    title: str
    function: str
    arrays: tuple[Numbers, ...]
    quantities: tuple[Quantity, ...]


def cases(dtype: str) -> Iterator[Case]:
    """All cases, with inputs that are exact in the dtype."""
    rng = np.random.default_rng(20261121)
    for classes in CLASSES:
        yield _index_case(*_margin_rows(rng, classes, dtype))
    x, labels = _margin_rows(rng, 10, dtype, margins=MARGINS[::2])
    g, v = (rng.normal(size=x.shape).astype(dtype) for _ in range(2))
    yield _softmax_case(x, g, v)
    yield _log_softmax_case(x, g, v)
    yield _logsumexp_case(x, g[:, 0], v)
    q = rng.dirichlet(np.ones(10), size=len(x)).astype(dtype)
    w = rng.uniform(0.5, 2, size=10).astype(dtype)
    yield _cross_entropy_case("distributions", x, q, v, {"class_weight": w})
    options = {
        "class_weight": w,
        "sample_weight": rng.uniform(0.5, 2, size=len(x)).astype(dtype),
        "ignore_index": int(labels[0]),
        "label_smoothing": 0.125,
        "z_loss": 2.0**-10,
        "where": (np.arange(10) == labels[:, None]) | (rng.uniform(size=x.shape) < 0.75),
    }
    yield _cross_entropy_case("every option", x, labels, v, options)


def _margin_rows(
    rng: np.random.Generator, classes: int, dtype: str, margins: tuple[float, ...] = MARGINS
) -> tuple[Numbers, Numbers]:
    """Logits and labels: the label's logit is a margin above or below the largest other one."""
    rows, labels = [], []
    for offset in OFFSETS:
        for margin in margins:
            row = rng.normal(scale=2, size=classes)
            label = int(rng.integers(classes))
            row -= np.max(np.delete(row, label))
            row[label] = margin
            rows.append(row + offset)
            labels.append(label)
    return np.asarray(rows).astype(dtype), np.asarray(labels)


def _spread(x: Numbers) -> Numbers:
    """How far the logits of a row lie below their maximum, (..., 1)."""
    return np.asarray(np.ptp(x.astype(np.float64), axis=-1, keepdims=True))


def _condition(x: Numbers) -> Numbers:
    return np.asarray(8 + 4 * np.max(np.abs(x.astype(np.float64)), axis=-1, keepdims=True))


def _along(function: Callable[[Exact], Exact], x: Numbers, v: Numbers) -> Exact:
    """The derivative along v by a central difference, whose error lies far beyond the digits asked for."""
    step = oracle.exact(np.asarray(2.0**-130))
    above, below = (function(oracle.exact(x) + sign * step * oracle.exact(v)) for sign in (1, -1))
    return np.asarray((above - below) / (2 * step), dtype=object)


def _sum(x: Exact) -> Exact:
    return np.asarray(np.sum(x, axis=-1, keepdims=True), dtype=object)


def _softmax_case(x: Numbers, g: Numbers, v: Numbers) -> Case:
    p, condition = oracle.softmax(x), _condition(x)
    once, twice = 4 + _spread(x), 2 * (4 + 2 * _spread(x))
    quantities = [Quantity("value", "value", {}, None, p, p, once, condition)]
    for name, direction in (("vjp", g), ("jvp", v)):
        exact = _along(oracle.softmax, x, direction)  # the Jacobian is symmetric
        scale = p * (abs(oracle.exact(direction)) + _sum(p * abs(oracle.exact(direction))))
        quantities.append(Quantity(name, name, {}, direction, exact, scale, twice, condition))
    return Case("softmax", "softmax", (x,), tuple(quantities))


def _log_softmax_case(x: Numbers, g: Numbers, v: Numbers) -> Case:
    value, p, condition = oracle.log_softmax(x), oracle.softmax(x), _condition(x)
    once, g_exact, v_exact = 4 + _spread(x), oracle.exact(g), oracle.exact(v)
    vjp, jvp = g_exact - p * _sum(g_exact), _along(oracle.log_softmax, x, v)
    vjp_scale, jvp_scale = abs(g_exact) + p * _sum(abs(g_exact)), abs(v_exact) + _sum(p * abs(v_exact))
    return Case(
        "log_softmax",
        "log_softmax",
        (x,),
        (
            Quantity("value", "value", {}, None, value, abs(value), once, condition),
            Quantity("vjp", "vjp", {}, g, vjp, vjp_scale, 10 + once, condition),
            Quantity("jvp", "jvp", {}, v, jvp, jvp_scale, 10 + once, condition),
        ),
    )


def _logsumexp_case(x: Numbers, g: Numbers, v: Numbers) -> Case:
    value, p, condition = oracle.logsumexp(x), oracle.softmax(x), _condition(x)
    maximum = np.max(oracle.exact(x), axis=-1, keepdims=True)
    vjp, jvp = oracle.exact(g)[:, None] * p, _along(oracle.logsumexp, x, v)
    jvp_scale = _sum(p * abs(oracle.exact(v)))
    once = 4 + _spread(x)
    return Case(
        "logsumexp",
        "logsumexp",
        (x,),
        tuple(
            Quantity(name, name, {}, direction, exact, scale, allowed, bound)
            for name, direction, exact, scale, allowed, bound in (
                ("value", None, value[:, 0], (abs(maximum) + value - maximum)[:, 0], once[:, 0], condition[:, 0]),
                ("vjp", g, vjp, abs(vjp), 1 + once, condition),
                ("jvp", v, jvp[:, 0], jvp_scale[:, 0], 10 + once[:, 0], condition[:, 0]),
            )
        ),
    )


def _index_case(x: Numbers, labels: Numbers) -> Case:
    """The bar: (4 + |x_t - m| + max |x_j - m|) u of the loss and of every entry of the gradient."""
    answer, condition = oracle.cross_entropy(x, labels, reduction="none"), _condition(x)
    label_logit = np.take_along_axis(x, labels[:, None], axis=-1).astype(np.float64)
    allowed = 4 + (np.max(x, axis=-1, keepdims=True) - label_logit) + _spread(x)
    one = np.ones((), dtype=x.dtype)
    loss = Quantity(
        "loss", "value", {"reduction": "none"}, None, answer.loss, abs(answer.loss), allowed[:, 0], condition[:, 0]
    )
    gradient = Quantity(
        "gradient", "vjp", {"reduction": "sum"}, one, answer.gradient, abs(answer.gradient), allowed, condition
    )
    return Case(f"cross_entropy, C = {x.shape[-1]}", "cross_entropy", (x, labels), (loss, gradient))


def _cross_entropy_case(title: str, x: Numbers, targets: Numbers, v: Numbers, options: dict[str, Any]) -> Case:
    def gradient(x: Exact) -> Exact:
        return oracle.cross_entropy(x, targets, **options).gradient

    def loss(x: Exact) -> Exact:
        return oracle.cross_entropy(x, targets, **options).loss

    answer, condition, one = oracle.cross_entropy(x, targets, **options), _condition(x), np.ones((), dtype=x.dtype)
    once, worst = 8 + 2 * _spread(x), np.max(condition)
    is_in = options.get("where", True)
    p, size = oracle.softmax(np.where(is_in, x, -np.inf)), abs(oracle.exact(v))
    total = _sum(answer.gradient_scale) + options.get("z_loss", 0.0)
    quantities = [
        Quantity("loss", "value", options, None, answer.loss, answer.loss_scale, np.max(once), worst),
        Quantity("gradient", "vjp", options, one, answer.gradient, answer.gradient_scale, once, condition),
        Quantity(
            "jvp",
            "jvp",
            options,
            v,
            _along(loss, x, v),
            np.asarray(np.sum(answer.gradient_scale * size), dtype=object),
            10 + np.max(once),
            worst,
        ),
        Quantity(
            "Hessian product",
            "hvp",
            options,
            v,
            _along(gradient, x, v),
            total * p * (size + _sum(p * size)),
            2 * once,
            condition,
        ),
    ]
    if targets.ndim == 2:
        weight = oracle.exact(options["class_weight"])
        share = weight / np.sum(oracle.exact(targets) * weight)
        scale = share * (abs(oracle.log_softmax(x)) + abs(answer.loss))
        quantities.append(
            Quantity(
                "targets' gradient", "vjp", options, one, answer.gradient_of_targets, scale, once, condition, position=1
            )
        )
    return Case(f"cross_entropy, {title}", "cross_entropy", (x, targets), tuple(quantities))
