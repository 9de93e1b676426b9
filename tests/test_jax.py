"""Every transformation of JAX through the hand-written derivatives, beside the same of the textbook's formulas."""

import itertools

import jax
import jax.numpy as jnp
import pytest
from derivative_cases import ALL_OPTIONS, CASES, HIGH_ORDER_CASES, assert_close, build
from jax.test_util import check_grads

pytestmark = [pytest.mark.library("jax", "jax-jit"), pytest.mark.unoptimized]
every_case = pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
high_order_cases = pytest.mark.parametrize("case", HIGH_ORDER_CASES, ids=[case.id for case in HIGH_ORDER_CASES])
NESTINGS = list(itertools.product((jax.jacfwd, jax.jacrev), repeat=2))


def weighted(y):
    """A linear combination with a different coefficient for every entry."""
    return jnp.sum(jnp.linspace(2, 3, y.size, dtype=y.dtype).reshape(y.shape) * y)


def first_order(function):
    """What each transformation of first order makes of a function."""

    def all_of(*moving):
        wanted, tangents = tuple(range(len(moving))), tuple([jnp.cos(array) for array in moving])
        value, pullback = jax.vjp(function, *moving)
        again, pushforward = jax.linearize(function, *moving)
        return [
            value_and_grad(function)(*moving),
            jax.jvp(function, moving, tangents),
            (value, pullback(jnp.cos(value))),
            (again, pushforward(*tangents)),
            jax.jacfwd(function, wanted)(*moving),
            jax.jacrev(function, wanted)(*moving),
            value_and_grad(jax.checkpoint(function))(*moving),
        ]

    return all_of


def value_and_grad(function):
    def value(*moving):
        return weighted(function(*moving))

    return lambda *moving: jax.value_and_grad(value, tuple(range(len(moving))))(*moving)


def second_order(function):
    """The second derivative in every nesting."""

    def all_of(*moving):
        wanted = tuple(range(len(moving)))
        return [outer(inner(function, wanted), wanted)(*moving) for outer, inner in NESTINGS]

    return all_of


@every_case
def test_first_derivatives_agree_with_the_textbook(case):
    ours, theirs, moving = build(case, jnp, jnp.asarray)
    assert_close(jax.jit(first_order(ours))(*moving), jax.jit(first_order(theirs))(*moving), case, order=1)


@every_case
def test_second_derivatives_in_every_nesting_agree_with_the_textbook(case):
    ours, theirs, moving = build(case, jnp, jnp.asarray)
    assert_close(jax.jit(second_order(ours))(*moving), jax.jit(second_order(theirs))(*moving), case, order=2)


@every_case
def test_without_jit_the_gradient_is_the_same(case):
    ours, theirs, moving = build(case, jnp, jnp.asarray)
    assert_close(value_and_grad(ours)(*moving), jax.jit(value_and_grad(theirs))(*moving), case, order=1)


def test_without_jit_every_transformation_is_the_same():
    ours, theirs, moving = build(ALL_OPTIONS, jnp, jnp.asarray)
    for order, transform in ((1, first_order), (2, second_order)):
        assert_close(transform(ours)(*moving), jax.jit(transform(theirs))(*moving), ALL_OPTIONS, order=order)


@high_order_cases
def test_third_derivatives_agree_with_the_textbook(case):
    ours, theirs, moving = build(case, jnp, jnp.asarray)

    wanted, fwd, rev = tuple(range(len(moving))), jax.jacfwd, jax.jacrev
    for a, b, c in ((fwd, rev, fwd), (rev, fwd, rev), (fwd, fwd, fwd), (rev, rev, rev)):
        actual, expected = [jax.jit(a(b(c(f, wanted), wanted), wanted))(*moving) for f in (ours, theirs)]
        assert_close(actual, expected, case, order=3)


@high_order_cases
@pytest.mark.parametrize("mode", ["fwd", "rev"])
def test_finite_differences_agree_to_second_order(case, mode):
    ours, _, moving = build(case, jnp, jnp.asarray)
    check_grads(jax.jit(ours), moving, order=2, modes=[mode])


@every_case
def test_vmap_agrees_with_a_loop(case):
    ours, theirs, moving = build(case, jnp, jnp.asarray)
    others = [jnp.cos(array) for array in moving]
    loop = [jax.jit(value_and_grad(theirs))(*arrays) for arrays in (moving, others)]
    for in_axes in (0, -1):
        stacked = [jnp.stack(pair, in_axes) for pair in zip(moving, others, strict=True)]
        values, gradients = jax.jit(jax.vmap(value_and_grad(ours), in_axes))(*stacked)
        found = [(values[i], tuple([gradient[i] for gradient in gradients])) for i in range(2)]
        assert_close(found, loop, case, order=1)
