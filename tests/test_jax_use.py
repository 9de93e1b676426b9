"""Use in training loops on JAX: jit, scan, vmap over labels, half precision, 32-bit mode and constants."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from derivative_cases import CASES, CLASS_WEIGHT, HIGH_ORDER, LABELS, WHERE, X3, Q, X, assert_close, build, case

import xpent

pytestmark = [pytest.mark.library("jax", "jax-jit"), pytest.mark.unoptimized]
SAMPLE_WEIGHT = np.array([0.5, 2.0, 3.0])
FEW_CASES = [case for case in CASES if case.id in ("softmax where", "log_softmax middle axis", *HIGH_ORDER)]
kinds = pytest.mark.parametrize("targets", [LABELS, Q], ids=["labels", "distribution"])
run_modes = pytest.mark.parametrize("run", [lambda function: function, jax.jit], ids=["eager", "jit"])


@pytest.mark.parametrize("axis", [-1, (2, 0)])
def test_softmax_functions_agree_with_jax(axis):
    x, where = jnp.asarray(X3), jnp.asarray(X3 < 1)
    for ours, theirs in ((xpent.softmax, jax.nn.softmax), (xpent.logsumexp, jax.nn.logsumexp)):
        expected = jax.jit(jax.hessian(lambda x, f=theirs: f(x, axis=axis, where=where)))(x)
        actual = jax.jit(jax.hessian(lambda x, f=ours: f(x, axis=axis, where=where)))(x)
        assert_close(actual, expected, case("", ours.__name__, X3), order=2)
    actual, expected = [jax.hessian(lambda x, f=f: f(x, axis=axis))(x) for f in (xpent.log_softmax, jax.nn.log_softmax)]
    assert_close(actual, expected, case("", "log_softmax", X3), order=2)


def test_cross_entropy_and_its_derivatives_agree_with_optax():
    optax = pytest.importorskip("optax")
    x, labels, q, where = jnp.asarray(X), jnp.asarray(LABELS), jnp.asarray(Q), jnp.asarray(WHERE)
    smooth = optax.smooth_labels(jax.nn.one_hot(labels, 4, dtype=x.dtype), 0.1)
    pairs = [
        (lambda x: xpent.cross_entropy(x, labels, reduction="none"),
         lambda x: optax.softmax_cross_entropy_with_integer_labels(x, labels)),
        (lambda x: xpent.cross_entropy(x, labels, reduction="none", where=where),
         lambda x: optax.softmax_cross_entropy_with_integer_labels(x, labels, where=where)),
        (lambda x: xpent.cross_entropy(x, jnp.asarray([0, 2, 1, 1]), axis=0),
         lambda x: optax.softmax_cross_entropy_with_integer_labels(x, jnp.asarray([0, 2, 1, 1]), axis=0).mean()),
        (lambda x: xpent.cross_entropy(x, labels, label_smoothing=0.1),
         lambda x: optax.softmax_cross_entropy(x, smooth).mean()),
        (lambda x: xpent.cross_entropy(x, q, reduction="sum"),
         lambda x: optax.softmax_cross_entropy(x, q).sum()),
    ]  # fmt: skip
    for pair in pairs:
        for order, transform in enumerate((lambda function: function, jax.jacrev, jax.hessian)):
            actual, expected = [jax.jit(transform(function))(x) for function in pair]
            assert_close(actual, expected, case("", "cross_entropy", X), order=order)


@kinds
def test_gradients_accumulated_in_a_scan_are_those_of_the_batch(targets):
    x, t, s, w = jnp.asarray(X), jnp.asarray(targets), jnp.asarray(SAMPLE_WEIGHT), jnp.asarray(CLASS_WEIGHT)

    def loss(x, t, s):
        return xpent.cross_entropy(x, t, sample_weight=s, class_weight=w, label_smoothing=0.1, normalizer=7.0)

    @jax.jit
    def accumulate(x, t, s):
        def step(total, batch):
            value, gradient = jax.value_and_grad(loss)(*batch)
            return total + value, gradient

        return jax.lax.scan(step, jnp.zeros(()), (x[:, None], t[:, None], s[:, None]))

    value, gradient = accumulate(x, t, s)
    assert_close((value, gradient[:, 0]), jax.value_and_grad(loss)(x, t, s), case("", "cross_entropy", X), order=1)

    def scanned(x):
        return jax.lax.scan(
            lambda total, batch: (total + loss(*batch), None), 0.0, (x[:, None], t[:, None], s[:, None])
        )[0]

    assert_close(jax.grad(jax.checkpoint(scanned))(x), gradient[:, 0], case("", "cross_entropy", X), order=1)


@kinds
def test_vmap_of_grad_gives_gradients_per_sample(targets):
    x, t, s = jnp.asarray(X), jnp.asarray(targets), jnp.asarray(SAMPLE_WEIGHT)
    w = jnp.asarray(CLASS_WEIGHT) * jnp.asarray([[1.0], [2.0], [3.0]])

    def loss(x, t, s, w):
        return xpent.cross_entropy(x, t, sample_weight=s, class_weight=w, label_smoothing=0.1, z_loss=0.1, normalizer=2)

    of_one = jax.value_and_grad(loss)
    loop = [jnp.stack(parts) for parts in zip(*map(of_one, x, t, s, w), strict=True)]
    for run in (jax.vmap(of_one), jax.jit(jax.vmap(of_one))):
        assert_close(run(x, t, s, w), loop, case("", "cross_entropy", X), order=1)


@run_modes
def test_labels_may_be_closed_over(run):
    x, labels = jnp.asarray(X), jnp.asarray(LABELS)
    closed = run(jax.value_and_grad(lambda x: xpent.cross_entropy(x, labels)))(x)
    assert_close(closed, jax.value_and_grad(xpent.cross_entropy)(x, labels), case("", "cross_entropy", X), order=1)


def test_label_out_of_range_is_an_error_if_data_can_be_read_and_nan_otherwise(device):
    x, labels = jnp.asarray(X), jnp.asarray([0, 4, -1])
    of_one = jax.value_and_grad(xpent.cross_entropy)
    of_all = jax.value_and_grad(lambda x, t: xpent.cross_entropy(x, t, reduction="none").sum())
    if device == "cpu":
        with pytest.raises(ValueError, match="target 4"):
            of_all(x, labels)
    for losses, gradients in (jax.vmap(of_one)(x, labels), jax.jit(jax.vmap(of_one))(x, labels)):
        assert jnp.isnan(losses).tolist() == [False, True, True]
        assert jnp.isnan(gradients).all(axis=-1).tolist() == [False, True, True]
    _, gradient = jax.jit(of_all)(x, labels)
    assert jnp.isnan(gradient).any(axis=-1).tolist() == [False, True, True]


@run_modes
@pytest.mark.parametrize("name", ["class_weight", "sample_weight", "normalizer", "label_smoothing", "z_loss"])
def test_gradient_of_a_constant_is_rejected(name, run):
    x, labels = jnp.asarray(X), jnp.asarray(LABELS)
    constant = jnp.ones({"class_weight": 4, "sample_weight": 3}.get(name, ()))

    def loss(constant):
        return xpent.cross_entropy(x, labels, **{name: constant})

    for differentiate in (jax.grad, jax.jacfwd, jax.hessian):
        with pytest.raises(TypeError, match=rf"{name} is a constant.*jax.lax.stop_gradient\({name}\)"):
            run(differentiate(loss))(constant)
    stopped = run(jax.grad(lambda c: loss(jax.lax.stop_gradient(c))))(constant)
    assert not stopped.any()


@run_modes
def test_gradient_of_a_masked_target_is_infinite_and_other_gradients_are_finite(run):
    x, q = jnp.asarray([0.0, 1.0, -math.inf]), jnp.asarray([0.5, 0.5, 0.0])
    gradient = run(jax.grad(xpent.cross_entropy, 1))(x, q)
    expected = jnp.log1p(jnp.exp(1.0)) - x
    np.testing.assert_allclose(gradient, expected, rtol=8 * 2.0**-53)
    changes = {
        (0.0, 0.0, 0.0): 0.0,
        (1.0, 0.0, 0.0): expected[0],
        (0.0, 0.0, 2.0): math.inf,
        (0.0, 0.0, -2.0): -math.inf,
    }
    for direction, change in changes.items():
        _, tangent = run(lambda q, v: jax.jvp(lambda q: xpent.cross_entropy(x, q), (q,), (v,)))(
            q, jnp.asarray(direction)
        )
        np.testing.assert_allclose(tangent, change, rtol=8 * 2.0**-53)
    still = run(jax.grad(lambda a: xpent.cross_entropy(x, q * jnp.where(jnp.isfinite(x), a, 1.0))))(1.0)
    assert jnp.isfinite(still)


@pytest.mark.parametrize("case", FEW_CASES, ids=[case.id for case in FEW_CASES])
def test_without_x64_everything_is_float32(case):
    with jax.enable_x64(False):
        ours, theirs, primals = build(case, jnp, jnp.asarray)

        def orders(function):
            argnums = tuple(range(len(primals)))
            return lambda *primals: [function(*primals), jax.jacrev(function, argnums)(*primals),
                                    jax.jacfwd(jax.jacrev(function, argnums), argnums)(*primals)]  # fmt: skip

        actual, expected = jax.jit(orders(ours))(*primals), jax.jit(orders(theirs))(*primals)
        assert {leaf.dtype for leaf in jax.tree.leaves(actual)} == {jnp.dtype("float32")}
        for order, (a, e) in enumerate(zip(actual, expected, strict=True)):
            assert_close(a, e, case, order=order, u=2.0**-24)


@run_modes
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_logits_give_a_float32_loss_and_a_gradient_in_their_dtype(dtype, run):
    x, q, labels = jnp.asarray(X, dtype), jnp.asarray(Q, dtype), jnp.asarray(LABELS)
    for primals, rest, argnums in (((x,), (labels,), (0,)), ((x, q), (), (0, 1))):
        value, gradients = run(jax.value_and_grad(xpent.cross_entropy, argnums))(*primals, *rest)
        wide = [array.astype(jnp.float32) for array in primals]
        expected = run(jax.value_and_grad(xpent.cross_entropy, argnums))(*wide, *rest)
        assert (value.dtype, {gradient.dtype for gradient in gradients}) == (jnp.float32, {jnp.dtype(dtype)})
        assert_close(value, expected[0], case("", "cross_entropy", X), order=0, u=2.0**-24)
        assert_close(gradients, expected[1], case("", "cross_entropy", X), order=1, u=float(jnp.finfo(dtype).eps) / 2)
    for function in (xpent.softmax, xpent.log_softmax, xpent.logsumexp):
        value, pullback = jax.vjp(function, x)
        assert value.dtype == pullback(value)[0].dtype == dtype
        assert jax.jvp(function, (x,), (x,))[1].dtype == dtype


@run_modes
def test_hand_written_backward_pass_is_used(run):
    """Automatic differentiation of the forward pass would give p_t - 1 = 0 here."""
    x, truth = jnp.asarray([100.0, 80.0, 0.0], jnp.float32), 2.0611536181902037e-9
    for differentiate in (jax.value_and_grad, xpent.value_and_grad):
        value, gradient = run(differentiate(xpent.cross_entropy))(x, jnp.asarray(0))
        np.testing.assert_allclose([value, -gradient[0], gradient[1]], truth, rtol=(4 + 100) * 2.0**-24)


@pytest.mark.parametrize("differentiate", [jax.jacfwd, jax.jacrev])
@run_modes
def test_gradient_functions_can_be_differentiated(differentiate, run):
    x, labels = jnp.asarray(X), jnp.asarray(LABELS)
    expected = jax.hessian(xpent.cross_entropy)(x, labels)
    for gradient in (xpent.grad(xpent.cross_entropy), lambda *a: xpent.value_and_grad(xpent.cross_entropy)(*a)[1]):
        assert_close(run(differentiate(gradient))(x, labels), expected, case("", "cross_entropy", X), order=2)


def test_numpy_arrays_can_be_differentiated():
    x = np.asarray([1.0, 2.0, 3.0])
    np.testing.assert_allclose(jax.grad(xpent.logsumexp)(x), xpent.softmax(x), rtol=2.0**-50)
    np.testing.assert_allclose(jax.hessian(xpent.logsumexp)(x), xpent.softmax_jacobian(x), rtol=2.0**-48)


@pytest.mark.parametrize("classes", [1000, 50000])
def test_loss_of_class_indices_stores_no_exponentials(classes):
    x, labels = jnp.zeros((64, classes), jnp.float32), jnp.zeros(64, jnp.int32)
    memory = jax.jit(xpent.cross_entropy).lower(x, labels).compile().memory_analysis()
    assert memory.temp_size_in_bytes < x.nbytes / 8


def test_class_indices_above_2_to_the_24_are_exact():
    label = 2**24 + 1  # in float32 it is rounded to 2**24
    x = jnp.zeros((1, label + 1), jnp.float32).at[0, label - 1].set(20.0)
    exact = math.log(label + math.exp(20.0))
    np.testing.assert_allclose(xpent.cross_entropy(x, jnp.asarray([label])), exact, rtol=(4 + 20 + 20) * 2.0**-24)


def test_empty_batch_with_many_classes():
    x, labels = jnp.zeros((0, 50000), jnp.float32), jnp.zeros(0, jnp.int32)
    assert xpent.cross_entropy(x, labels, reduction="none").shape == xpent.logsumexp(x).shape == (0,)
    assert jax.grad(lambda x: xpent.cross_entropy(x, labels, reduction="sum"))(x).shape == x.shape
