"""vjp, jvp, grad and value_and_grad: first and second derivatives compared with exact ones."""

import numpy as np
import pytest
from exactness import assert_within, differentiate, prepare, spread

import xpent
from xpent.conformance import oracle

pytestmark = pytest.mark.rounding
X = np.asarray([[1.0, 3, -5, 7, 0.5], [2, -6, 4, 1, 0], [0.25, 0.25, -2, 1, 3]])
LABELS = np.asarray([3, 1, 0])
Q = np.asarray([[0.5, 0.25, 0.25, 0, 0], [0.125, 0.5, 0.125, 0.25, 0], [0, 0, 0, 1, 0]])
U = np.asarray([[1.0, -2, 0.5, 3, 1], [-1, 2, 4, 0.25, -3], [2, 1, -1, 0.5, 0]])
D = np.asarray([[0.5, 1.0, -2, 1, -1], [1, -1, 0.5, 0.25, 2], [-0.5, 1, 1, 3, 0.25]])
OPTIONS = {
    "class_weight": np.asarray([1, 0.5, 2, 0.25, 4]),
    "sample_weight": np.asarray([0.5, 2, 1]),
    "label_smoothing": 0.125,
    "z_loss": 0.25,
}
STEP = oracle.exact(np.asarray(2.0**-130))


def along(function, *primals_and_tangents):
    """The derivative of a function of the oracle along tangents, by central differences with 120 digits."""
    sides = [
        function(*[oracle.exact(x) + sign * STEP * oracle.exact(v) for x, v in primals_and_tangents])
        for sign in (1, -1)
    ]
    return (sides[0] - sides[1]) / (2 * STEP)


def total(x):
    return np.sum(x, axis=-1, keepdims=True)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_first_derivatives_are_exact(xp, name):
    function, exact = getattr(xpent, name), getattr(oracle, name)
    (x, v), _, (exact_x, exact_v), _ = prepare(xp, X, U)
    g = v[:, 0] if name == "logsumexp" else v
    exact_g = exact_v[:, :1] if name == "logsumexp" else exact_v

    def run(x, v, g):
        return xpent.vjp(function, x)[1](g)[0], xpent.jvp(function, (x,), (v,))[1]

    vjp, jvp = xp.call(run, x, v, g)
    columns = [total(exact_g * along(exact, (exact_x, column))) for column in np.eye(5)[:, None, :] * np.ones((3, 1))]
    p, units = oracle.softmax(exact_x), 2 * (4 + spread(exact_x))
    size, size_g, weight = abs(exact_v), abs(exact_g), p if name == "softmax" else 1
    pull_terms = size_g * p if name == "logsumexp" else weight * size_g + p * total(weight * size_g)
    push_terms = total(p * size) if name == "logsumexp" else weight * (size + total(p * size))
    assert_within(xp, vjp, np.concatenate(columns, axis=-1), units, pull_terms)
    tangent = along(exact, (exact_x, exact_v))
    if name == "logsumexp":
        tangent, push_terms, units = tangent[:, 0], push_terms[:, 0], units[:, 0]
    assert_within(xp, jvp, tangent, units, push_terms)


@pytest.mark.parametrize(
    ("kind", "reduction"), [("indices", "sum"), ("distributions", "mean"), ("distributions", "sum")]
)
def test_derivatives_of_cross_entropy_are_exact_to_second_order(xp, kind, reduction):
    is_index, targets = kind == "indices", LABELS if kind == "indices" else Q
    arrays, options, (x, t, u, d), exact_options = prepare(xp, X, targets, U, D, reduction=reduction, **OPTIONS)
    argnums = (0,) if is_index else (0, 1)
    function = xpent.value_and_grad(xpent.cross_entropy, argnums)

    def run(x, t, u, d, **options):
        directions = (u, None) if is_index else (u, d)
        _, tangents = xpent.jvp(function, (x, t), directions, **options)
        gradient, pullback = xpent.vjp(xpent.grad(xpent.cross_entropy, argnums), x, t, **options)
        return tangents, pullback(directions[: len(gradient)])

    (change, jvp), vjp = xp.call(run, *arrays, **options)

    def answer(x, *targets):
        return oracle.CrossEntropy(x, *(targets or (t,)), **exact_options)

    pairs = ((x, u),) if is_index else ((x, u), (t, d))
    exact_change = along(lambda *arrays: answer(*arrays).loss, *pairs)
    of_logits = along(lambda *arrays: answer(*arrays).gradient, *pairs)
    of_targets = along(lambda *arrays: answer(*arrays).gradient_of_targets, *pairs)

    here, p = answer(x), oracle.softmax(x)
    w, s = exact_options["class_weight"], exact_options["sample_weight"][:, None]
    raw, d = (np.eye(5)[targets], np.zeros_like(x)) if is_index else (t, d)
    denominator = np.sum(s * w * raw) if reduction == "mean" else 1
    growth = np.sum(s * w * abs(d)) / denominator if reduction == "mean" else 0
    s, b, spread_u = s / denominator, w * abs(d), abs(u) + total(p * abs(u))
    curvature = total(raw * w + w) + 0.5 * (abs(oracle.logsumexp(x)) + 1)
    terms = s * (p * (curvature * spread_u + total(b)) + b) + growth * here.gradient_scale
    quotient = s * w if reduction == "mean" else 0
    of_targets_scale = abs(here.gradient_of_targets) + 2 * quotient * here.loss
    size_of_change = np.sum(here.gradient_scale * abs(u) + of_targets_scale * abs(d))
    target_terms = s * w * spread_u + growth * of_targets_scale + quotient * size_of_change
    units = 2 * (4 + 2 * spread(x))
    assert_within(xp, change, exact_change, np.max(units), size_of_change)
    for products in (jvp, vjp):
        assert_within(xp, products[0], of_logits, units, terms)
        if not is_index:
            assert_within(xp, products[1], of_targets, units, target_terms)


def test_hessian_at_uniform_logits_and_targets_is_not_zero(xp):
    x, q, v = (
        xp.asarray(np.zeros((2, 4))),
        xp.asarray(np.full((2, 4), 0.25)),
        xp.asarray([[1.0, 0, 0, 0], [0, 2, -2, 0]]),
    )

    def run(x, q, v):
        gradient, pullback = xpent.vjp(xpent.grad(xpent.cross_entropy), x, q)
        return gradient, pullback(v)[0], xpent.jvp(xpent.grad(xpent.cross_entropy), (x, q), (v, None))[1]

    gradient, *products = [xp.to_numpy(array) for array in xp.call(run, x, q, v)]
    np.testing.assert_array_equal(gradient, 0)
    for product in products:
        np.testing.assert_array_equal(product, np.asarray([[0.75, -0.25, -0.25, -0.25], [0, 2, -2, 0]]) / 8)


def test_gradient_of_logsumexp_is_softmax_and_its_hessian_the_jacobian_of_softmax(xp):
    x, v = xp.asarray(X[0]), xp.asarray(U[0])
    p = xp.to_numpy(xp.call(xpent.softmax, x))
    np.testing.assert_array_equal(xp.to_numpy(xp.call(xpent.grad(xpent.logsumexp), x)), p)

    def run(x, v):
        gradient = xpent.grad(xpent.logsumexp)
        return xpent.vjp(gradient, x)[1](v)[0], xpent.jvp(gradient, (x,), (v,))[1]

    exact = along(oracle.softmax, (X[:1], U[:1]))[0]
    p = oracle.softmax(X[:1])[0]
    for product in xp.call(run, x, v):
        assert_within(xp, product, exact, 2 * (4 + 12), p * (abs(U[0]) + np.sum(p * abs(U[0]))))


def test_cotangent_of_each_row_scales_its_gradient(xp):
    x, t, g = xp.asarray(X), xp.asarray(LABELS), xp.asarray([1.0, 0, -2])
    vjp = xp.call(lambda x, t, g: xpent.vjp(xpent.cross_entropy, x, t, reduction="none")[1](g)[0], x, t, g)
    exact = oracle.CrossEntropy(X, LABELS, reduction="none").gradient * np.asarray([[1], [0], [-2]])
    assert_within(xp, vjp, exact, 4 + 2 * spread(X))


def test_derivatives_use_the_options(xp):
    _, (transposed,) = differentiate(xp, xpent.softmax, xp.asarray(X.T.copy()), axis=0, cotangent=1.0)
    assert tuple(transposed.shape) == (5, 3)
    total, gradient = xp.call(xpent.value_and_grad(xpent.logsumexp), xp.asarray(X), axis=None)
    assert_within(xp, total, oracle.logsumexp(X.reshape(1, -1)).item(), 4 + 13, 7 + 8)
    assert_within(xp, gradient, oracle.softmax(X.reshape(1, -1)).reshape(3, 5), 4 + 13)


MASKED_POLICIES = np.asarray([[0.3, -np.inf, 1.2, -0.7], [2.0, 0.25, -np.inf, -np.inf], [-1.0, 0.5, 0.0, 3.0]])


def entropies(x):
    """The entropy of every row, as the cross-entropy of its softmax relative to itself."""
    return xpent.cross_entropy(x, xpent.softmax(x), reduction="none")


def of_entropies_in_reverse_mode(xp, x):
    """The gradient of the sum of the entropies, by the reverse mode of the library if it has one."""
    if xp.name == "torch":
        x = x.clone().requires_grad_()
        return xp.module.autograd.grad(entropies(x).sum(), x)[0]
    if xp.name in ("jax", "jax-jit"):
        import jax

        return jax.grad(lambda x: entropies(x).sum())(x)
    p, pullback = xpent.vjp(xpent.softmax, x)
    of_x, of_p = xpent.grad(xpent.cross_entropy, (0, 1))(x, p, reduction="sum")
    return of_x + pullback(of_p)[0]


def of_entropies_in_forward_mode(xp, x):
    """The same gradient by forward mode, one direction at a time."""
    if xp.name == "torch":
        return xp.module.func.jacfwd(lambda x: entropies(x).sum())(x)
    if xp.name in ("jax", "jax-jit"):
        import jax

        return jax.jacfwd(lambda x: entropies(x).sum())(x)
    columns = []
    for direction in np.eye(x.shape[1]):
        v = xp.asarray(np.broadcast_to(direction, x.shape).copy())
        p, of_p = xpent.jvp(xpent.softmax, (x,), (v,))
        columns.append(xpent.jvp(xpent.cross_entropy, (x, p), (v, of_p), reduction="none")[1])
    return xp.module.stack(columns, axis=-1)


@pytest.mark.parametrize("derivative", [of_entropies_in_reverse_mode, of_entropies_in_forward_mode])
def test_gradient_of_the_entropy_of_a_masked_policy_agrees_with_the_closed_form(xp, derivative):
    (x,), _, (exact_x,), _ = prepare(xp, MASKED_POLICIES)
    found = xp.to_numpy(xp.call(lambda x: derivative(xp, x), x))
    p = np.exp(exact_x - np.max(exact_x, axis=-1, keepdims=True))
    p /= total(p)
    log_p = np.log(np.where(p > 0, p, 1))
    np.testing.assert_allclose(found, -p * (log_p - total(p * log_p)), rtol=0, atol=32 * xp.u)
    np.testing.assert_array_equal(found[exact_x == -np.inf], 0)


@pytest.mark.library("jax")
def test_hessian_by_jax_at_uniform_logits_is_not_zero():
    import jax

    v, zeros = jax.numpy.asarray([[1.0, 0, 0, 0], [0, 2, -2, 0]]), jax.numpy.zeros((2, 4))
    gradient = jax.grad(lambda x: xpent.cross_entropy(x, jax.numpy.full((2, 4), 0.25)))
    expected = np.asarray([[0.75, -0.25, -0.25, -0.25], [0, 2, -2, 0]]) / 8
    np.testing.assert_array_equal(gradient(zeros), 0)
    np.testing.assert_array_equal(jax.jvp(gradient, (zeros,), (v,))[1], expected)
    np.testing.assert_array_equal(jax.grad(lambda x: (v * gradient(x)).sum())(zeros), expected)
