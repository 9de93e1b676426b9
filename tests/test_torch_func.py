"""Forward mode, torch.func and vmap in every nesting, and gradcheck of PyTorch."""

import functools
import itertools
import math

import pytest
import torch
from derivative_cases import (
    ALL_OPTIONS,
    CASES,
    CLASS_WEIGHT,
    HIGH_ORDER_CASES,
    LABELS,
    LABELS3,
    X3,
    Q,
    X,
    assert_close,
    build,
    case,
)
from torch.func import grad, grad_and_value, hessian, jacfwd, jacrev, jvp, linearize, vjp, vmap

import xpent

pytestmark = pytest.mark.library("torch")
every_case = pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
every_nesting = pytest.mark.parametrize(("outer", "inner"), list(itertools.product((jacfwd, jacrev), repeat=2)))


@every_case
def test_gradcheck_and_gradgradcheck_pass_in_every_mode(case, asarray):
    ours, _, primals = build(case, torch, asarray)
    primals = [array.requires_grad_() for array in primals]
    torch.autograd.gradcheck(
        ours, primals, check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=True
    )
    torch.autograd.gradgradcheck(
        ours, primals, check_fwd_over_rev=True, check_rev_over_rev=True, check_batched_grad=True
    )


@every_case
@pytest.mark.parametrize("jacobian", [jacfwd, jacrev])
def test_jacobian_agrees_with_the_textbook(case, jacobian, asarray):
    ours, theirs, primals = build(case, torch, asarray)
    argnums = tuple(range(len(primals)))
    assert_close(jacobian(ours, argnums)(*primals), jacobian(theirs, argnums)(*primals), case, order=1)


@every_case
@every_nesting
def test_second_derivative_agrees_with_the_textbook(case, outer, inner, asarray):
    ours, theirs, primals = build(case, torch, asarray)
    argnums = tuple(range(len(primals)))
    actual, expected = [outer(inner(f, argnums), argnums)(*primals) for f in (ours, theirs)]
    assert_close(actual, expected, case, order=2)


@pytest.mark.parametrize("case", HIGH_ORDER_CASES, ids=[case.id for case in HIGH_ORDER_CASES])
@pytest.mark.parametrize("outermost", [jacfwd, jacrev])
@every_nesting
def test_third_derivative_agrees_with_the_textbook(case, outermost, outer, inner, asarray):
    ours, theirs, primals = build(case, torch, asarray)
    argnums = tuple(range(len(primals)))
    actual, expected = [outermost(outer(inner(f, argnums), argnums), argnums)(*primals) for f in (ours, theirs)]
    assert_close(actual, expected, case, order=3)


def test_hessian_agrees_with_torch(asarray):
    x, labels = asarray(X3), asarray(LABELS3)
    actual = hessian(lambda x: xpent.cross_entropy(x, labels, axis=1))(x)
    expected = hessian(lambda x: torch.nn.functional.cross_entropy(x, labels))(x)
    assert_close(actual, expected, case("", "cross_entropy", X3), order=2)


@every_case
def test_vjp_and_jvp_are_products_with_the_jacobian(case, asarray):
    ours, theirs, primals = build(case, torch, asarray)
    tangents = tuple([torch.cos(array) for array in primals])
    value, tangent = jvp(theirs, primals, tangents)
    assert_close(jvp(ours, primals, tangents), (value, tangent), case, order=1)
    assert_close(vjp(ours, *primals)[1](torch.cos(value)), vjp(theirs, *primals)[1](torch.cos(value)), case, order=1)


@every_case
@pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr:UserWarning")  # linearize warns for any function
def test_linearize_gives_the_product_with_the_jacobian(case, asarray):
    ours, _, primals = build(case, torch, asarray)
    tangents = tuple([torch.cos(array) for array in primals])
    value, pushforward = linearize(ours, *primals)
    assert_close((value, pushforward(*tangents)), jvp(ours, primals, tangents), case, order=1)


@every_case
@pytest.mark.parametrize("in_dim", [0, -1])
def test_vmap_agrees_with_a_loop(case, in_dim, asarray):
    ours, _, primals = build(case, torch, asarray)
    others = [torch.cos(array) for array in primals]
    stacked = [torch.stack(pair, in_dim) for pair in zip(primals, others, strict=True)]
    for f in (ours, jacrev(ours), jacfwd(ours)):
        loop = torch.stack([f(*primals), f(*others)])
        assert_close(vmap(f, in_dims=in_dim)(*stacked), loop, case, order=1)


@pytest.mark.parametrize("targets", [LABELS, Q], ids=["labels", "distribution"])
def test_vmap_of_grad_gives_gradients_per_sample(targets, asarray):
    x, t, w = asarray(X), asarray(targets), asarray(CLASS_WEIGHT)

    def loss(x, t, s, w):
        return xpent.cross_entropy(x, t, sample_weight=s, class_weight=w, label_smoothing=0.1, z_loss=0.1, normalizer=2)

    s, ws = asarray([0.5, 2.0, 1.0]), torch.stack([w, 2 * w, w + 1])
    loop = [torch.stack(parts) for parts in zip(*map(grad_and_value(loss), x, t, s, ws), strict=True)]
    actual = vmap(grad_and_value(loss))(x, t, s, ws)
    assert_close(actual, loop, case("", "cross_entropy", X), order=1)


def test_label_out_of_range_makes_its_row_nan_under_vmap(asarray):
    x, labels = asarray(X), asarray([0, 4, -1])
    gradients, losses = vmap(grad_and_value(xpent.cross_entropy))(x, labels)
    assert torch.isnan(losses).tolist() == [False, True, True]
    assert torch.isnan(gradients).tolist() == [[False] * 4, [True] * 4, [True] * 4]
    assert not vmap(functools.partial(xpent.cross_entropy, ignore_index=4))(x[:2], labels[:2]).isnan().any()


def test_vmap_over_constants_works_but_their_gradient_is_rejected(asarray):
    x, labels = asarray(X), asarray(LABELS)
    for name, constant in (("class_weight", asarray(CLASS_WEIGHT)), ("sample_weight", asarray([1.0, 2.0, 3.0])),
                           ("normalizer", asarray(3.0))):  # fmt: skip

        def loss(constant, name=name):
            return xpent.cross_entropy(x, labels, **{name: constant})

        expected = [loss(constant), loss(2 * constant)]
        actual = vmap(loss)(torch.stack([constant, 2 * constant]))
        assert_close(list(actual), expected, case("", "cross_entropy", X), order=0)
        for differentiate in (grad, jacfwd, jacrev, hessian):
            with pytest.raises(TypeError, match=f"{name} is a constant.*pass {name}.detach()"):
                differentiate(loss)(constant)


def test_gradient_of_a_masked_target_is_infinite_and_does_not_affect_other_tangents(asarray):
    x, q = asarray([0.0, 0.0, -math.inf]), asarray([0.5, 0.5, 0.0])
    gradient = grad(xpent.cross_entropy, 1)(x, q)
    assert gradient[:2].min() > 0
    assert gradient[2] == math.inf
    for direction, change in (
        ([1.0, 0.0, 0.0], gradient[0]),
        ([0.0, 0.0, 1.0], math.inf),
        ([0.0, 0.0, -1.0], -math.inf),
    ):
        assert jvp(lambda q: xpent.cross_entropy(x, q), (q,), (asarray(direction),))[1] == change


@pytest.mark.parametrize("differentiate", [jacfwd, jacrev])
def test_gradient_functions_can_be_differentiated(differentiate, asarray):
    x, labels = asarray(X), asarray(LABELS)
    expected = hessian(torch.nn.functional.cross_entropy)(x, labels)
    for number, argnums in ((xpent.grad, 0), (xpent.value_and_grad, 0), (xpent.grad, (0,))):
        gradient = number(xpent.cross_entropy, argnums)
        actual = differentiate(lambda x, f=gradient: f(x, labels))(x)
        actual = actual[-1] if isinstance(actual, tuple) else actual
        assert_close(actual, expected, case("", "cross_entropy", X), order=2)


@every_nesting
def test_gradient_of_a_gradient_penalty_is_correct(outer, inner, asarray):
    actual, expected = [
        outer(lambda x, f=f: inner(f)(x).square().sum())(x)
        for f, x in [(f, primals[0]) for *functions, primals in [build(ALL_OPTIONS, torch, asarray)] for f in functions]
    ]
    assert_close(actual, expected, ALL_OPTIONS, order=2)
