"""The transformations of JAX with the hand-written derivatives, compared with the textbook formulas."""

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
    """The results of all first-order transformations of a function."""

    def all_of(*primals):
        argnums, tangents = tuple(range(len(primals))), tuple([jnp.cos(array) for array in primals])
        value, pullback = jax.vjp(function, *primals)
        again, pushforward = jax.linearize(function, *primals)
        return [
            value_and_grad(function)(*primals),
            jax.jvp(function, primals, tangents),
            (value, pullback(jnp.cos(value))),
            (again, pushforward(*tangents)),
            jax.jacfwd(function, argnums)(*primals),
            jax.jacrev(function, argnums)(*primals),
            value_and_grad(jax.checkpoint(function))(*primals),
        ]

    return all_of


def value_and_grad(function):
    def value(*primals):
        return weighted(function(*primals))

    return lambda *primals: jax.value_and_grad(value, tuple(range(len(primals))))(*primals)


def second_order(function):
    """The second derivatives in every nesting of transformations."""

    def all_of(*primals):
        argnums = tuple(range(len(primals)))
        return [outer(inner(function, argnums), argnums)(*primals) for outer, inner in NESTINGS]

    return all_of


@every_case
def test_first_derivatives_agree_with_the_textbook(case):
    ours, theirs, primals = build(case, jnp, jnp.asarray)
    assert_close(jax.jit(first_order(ours))(*primals), jax.jit(first_order(theirs))(*primals), case, order=1)


@every_case
def test_second_derivatives_in_every_nesting_agree_with_the_textbook(case):
    ours, theirs, primals = build(case, jnp, jnp.asarray)
    assert_close(jax.jit(second_order(ours))(*primals), jax.jit(second_order(theirs))(*primals), case, order=2)


@every_case
def test_without_jit_the_gradient_is_the_same(case):
    ours, theirs, primals = build(case, jnp, jnp.asarray)
    assert_close(value_and_grad(ours)(*primals), jax.jit(value_and_grad(theirs))(*primals), case, order=1)


def test_without_jit_every_transformation_is_the_same():
    ours, theirs, primals = build(ALL_OPTIONS, jnp, jnp.asarray)
    for order, transform in ((1, first_order), (2, second_order)):
        assert_close(transform(ours)(*primals), jax.jit(transform(theirs))(*primals), ALL_OPTIONS, order=order)


@high_order_cases
def test_third_derivatives_agree_with_the_textbook(case):
    ours, theirs, primals = build(case, jnp, jnp.asarray)

    argnums, fwd, rev = tuple(range(len(primals))), jax.jacfwd, jax.jacrev
    for a, b, c in ((fwd, rev, fwd), (rev, fwd, rev), (fwd, fwd, fwd), (rev, rev, rev)):
        actual, expected = [jax.jit(a(b(c(f, argnums), argnums), argnums))(*primals) for f in (ours, theirs)]
        assert_close(actual, expected, case, order=3)


@high_order_cases
@pytest.mark.parametrize("mode", ["fwd", "rev"])
def test_finite_differences_agree_to_second_order(case, mode):
    ours, _, primals = build(case, jnp, jnp.asarray)
    check_grads(jax.jit(ours), primals, order=2, modes=[mode])


@every_case
def test_vmap_agrees_with_a_loop(case):
    ours, theirs, primals = build(case, jnp, jnp.asarray)
    others = [jnp.cos(array) for array in primals]
    loop = [jax.jit(value_and_grad(theirs))(*arrays) for arrays in (primals, others)]
    for in_axes in (0, -1):
        stacked = [jnp.stack(pair, in_axes) for pair in zip(primals, others, strict=True)]
        values, gradients = jax.jit(jax.vmap(value_and_grad(ours), in_axes))(*stacked)
        found = [(values[i], tuple([gradient[i] for gradient in gradients])) for i in range(2)]
        assert_close(found, loop, case, order=1)
