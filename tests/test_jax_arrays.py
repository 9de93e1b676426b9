"""JAX arrays together with NumPy arrays, with strict settings, on a mesh, and with symbolic sizes."""

import numpy as np
import pytest

import xpent

jax = pytest.importorskip("jax")
import jax.numpy as jnp  # noqa: E402
from jax import export  # noqa: E402
from jax.sharding import NamedSharding, PartitionSpec  # noqa: E402
from jax.test_util import check_grads  # noqa: E402

pytestmark = [pytest.mark.library("jax", "jax-jit"), pytest.mark.unoptimized]
GENERATOR = np.random.default_rng(0)
ROWS, CLASSES, DEPTH = 8, 4, 6
X, V = GENERATOR.standard_normal((2, ROWS, CLASSES))
T = np.arange(ROWS) % CLASSES
Q = np.exp(V) / np.exp(V).sum(-1, keepdims=True)
H, W, B = GENERATOR.standard_normal((ROWS, DEPTH)), GENERATOR.standard_normal((CLASSES, DEPTH)), X[0]
OPTIONS = {
    "class_weight": np.arange(1.0, CLASSES + 1),
    "sample_weight": np.arange(1.0, ROWS + 1),
    "where": (V < 1.0) | (T[:, None] == np.arange(CLASSES)),
    "label_smoothing": np.asarray(0.1),
    "z_loss": np.asarray(0.1),
    "normalizer": np.asarray(7.0),
}
OF_LAYER = {name: value for name, value in OPTIONS.items() if name != "where"}


def assert_same(actual, expected, u=2.0**-53):
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(np.asarray(a, float), np.asarray(e, float), rtol=256 * u, atol=256 * u)


# NumPy arrays together with JAX arrays


@pytest.mark.parametrize("of_jax", ["logits", "targets", *OPTIONS])
@pytest.mark.parametrize("is_alone", [True, False], ids=["alone", "all others"])
def test_numpy_arrays_can_be_combined_with_jax_arrays(of_jax, is_alone):
    given = {"logits": X, "targets": T, **OPTIONS}
    expected = xpent.value_and_grad(xpent.cross_entropy)(X, T, **OPTIONS)
    mixed = {name: jnp.asarray(array) if (name == of_jax) is is_alone else array for name, array in given.items()}
    logits, targets = mixed.pop("logits"), mixed.pop("targets")
    assert isinstance(xpent.cross_entropy(logits, targets, **mixed), jax.Array)
    assert_same(xpent.value_and_grad(xpent.cross_entropy)(logits, targets, **mixed), expected)
    value, pullback = xpent.vjp(xpent.cross_entropy, logits, targets, **mixed)
    assert_same((value, *pullback(np.ones(()))), expected)
    assert_same(xpent.jvp(xpent.cross_entropy, (logits, targets), (V, None), **mixed)[1], np.vdot(expected[1], V))


@pytest.mark.parametrize("function", [xpent.softmax, xpent.log_softmax, xpent.logsumexp], ids=lambda f: f.__name__)
def test_numpy_mask_can_be_closed_over_inside_jit(function):
    where = OPTIONS["where"]
    assert_same(jax.jit(lambda x: function(x, where=where))(X), function(X, where=where))


def test_numpy_batch_can_be_an_argument_or_closed_over():
    expected = xpent.value_and_grad(xpent.linear_cross_entropy, argnums=1)(H, W, T, **OF_LAYER)
    for features, labels in ((H, T), (jnp.asarray(H), T), (H, jnp.asarray(T))):
        loss = lambda w, h=features, t=labels: xpent.linear_cross_entropy(h, w, t, **OF_LAYER)  # noqa: E731
        for run in (lambda f: f, jax.jit):
            assert_same(run(jax.value_and_grad(loss))(jnp.asarray(W)), expected)


def test_without_x64_numpy_arrays_are_rounded_as_by_jax():
    with jax.enable_x64(False):
        expected = xpent.value_and_grad(xpent.linear_cross_entropy)(*map(jnp.asarray, (H, W, T)), bias=jnp.asarray(B))
        for arrays in ((H, jnp.asarray(W), T, B), (jnp.asarray(H), W, T, B)):
            *primals, bias = arrays
            found = xpent.value_and_grad(xpent.linear_cross_entropy)(*primals, bias=bias)
            assert {y.dtype for y in found} == {jnp.dtype("float32")}
            assert_same(found, expected, 2.0**-24)
        assert xpent.cross_entropy(X, jnp.asarray(T), label_smoothing=np.asarray(0.1)).dtype == jnp.float32


@pytest.mark.parametrize("modes", [["fwd"], ["rev"]], ids=str)
def test_finite_differences_of_numpy_arrays_agree(modes):
    check_grads(lambda x: xpent.cross_entropy(x, jnp.asarray(T)), (X,), order=2, modes=modes)
    check_grads(lambda x, q: xpent.cross_entropy(x, q), (jnp.asarray(X), Q), order=1, modes=modes)


def test_numpy_labels_are_checked_inside_jit():
    with pytest.raises(ValueError, match=r"target 4 at \(3,\) is out of range"):
        jax.jit(lambda x: xpent.cross_entropy(x, T + 1))(X)
    with jax.enable_x64(False), pytest.raises(ValueError, match=f"target {2**40} at"):
        xpent.cross_entropy(jnp.asarray(X, jnp.float32), T + 2**40)


# Rank promotion

STRICT = {
    "indices": lambda: xpent.value_and_grad(xpent.cross_entropy)(*map(jnp.asarray, (X, T)), **OPTIONS),
    "distribution": lambda: jax.grad(xpent.cross_entropy, (0, 1))(*map(jnp.asarray, (X, Q))),
    "weighted": lambda: jax.value_and_grad(lambda q: xpent.cross_entropy(jnp.asarray(X), q, **OPTIONS))(jnp.asarray(Q)),
    "hessian": lambda: jax.hessian(xpent.cross_entropy)(*map(jnp.asarray, (X, T))),
    "hessian by hand": lambda: xpent.jvp(xpent.grad(xpent.cross_entropy), (X, jnp.asarray(T)), (V, None))[1],
    "layer": lambda: xpent.value_and_grad(xpent.linear_cross_entropy, (0, 1, 3))(H, jnp.asarray(W), T, bias=B),
    "layer in blocks": lambda: jax.grad(lambda w: xpent.linear_cross_entropy(H, w, T, bias=B, block_size=3))(W),
    "layer by hand": lambda: xpent.vjp(xpent.linear_cross_entropy, H, jnp.asarray(W), T, bias=B)[1](np.ones(()))[1],
    "jacobian": lambda: xpent.softmax_jacobian(jnp.asarray(X)),
    "masked": lambda: jax.grad(lambda x: xpent.softmax(x, where=V[0] < 1.0)[0, 0])(jnp.asarray(X)),
}


@pytest.mark.parametrize("function", STRICT.values(), ids=list(STRICT))
def test_functions_work_if_rank_promotion_is_an_error(function):
    expected = function()
    jax.clear_caches()  # compiled functions are not checked again
    with jax.numpy_rank_promotion("raise"):
        assert_same(function(), expected)


# Meshes with explicit axes


def layer(h, w, b, t, s, **options):
    return xpent.linear_cross_entropy(h, w, t, bias=b, sample_weight=s, **options)


ON_MESH = {
    "indices": lambda a: jax.value_and_grad(xpent.cross_entropy)(a["x"], a["t"]),
    "weighted": lambda a: jax.value_and_grad(xpent.cross_entropy)(a["x"], a["t"])[1] * xpent.cross_entropy(
        a["x"], a["t"], class_weight=a["w"], sample_weight=a["s"], ignore_index=1, label_smoothing=0.1, z_loss=0.1
    ),
    "rows": lambda a: xpent.vjp(xpent.cross_entropy, a["x"], a["t"], reduction="none", class_weight=a["w"])[1](a["s"]),
    "distribution": lambda a: jax.value_and_grad(xpent.cross_entropy, (0, 1))(a["x"], a["q"]),
    "hessian": lambda a: jax.jvp(jax.grad(lambda x: xpent.cross_entropy(x, a["t"])), (a["x"],), (a["q"],))[1],
    "softmax": lambda a: (xpent.softmax(a["x"]), xpent.softmax(a["x"], axis=0)),
    "log_softmax": lambda a: jax.grad(lambda x: (a["q"] * xpent.log_softmax(x)).sum())(a["x"]),
    "logsumexp": lambda a: jax.jvp(xpent.logsumexp, (a["x"],), (a["q"],)),
    "layer": lambda a: jax.value_and_grad(layer, (0, 1, 2))(a["h"], a["v"], a["b"], a["t"], a["s"]),
    "blocks": lambda a: jax.jit(jax.value_and_grad(layer, (0, 1, 2)), static_argnames="block_size")(
        a["h"], a["v"], a["b"], a["t"], a["s"], block_size=4
    ),
    "blocks of rows": lambda a: jax.grad(
        lambda w: layer(a["h"], w, a["b"], a["t"], a["s"], block_size=4, reduction="none").sum()
    )(a["v"]),
    "layer hessian": lambda a: jax.jvp(
        jax.grad(lambda w: layer(a["h"], w, a["b"], a["t"], a["s"])), (a["v"],), (a["v"],)
    ),
}  # fmt: skip
LAYOUTS = {
    "rows": ("one", None, None),
    "classes": (None, "one", "one"),
    "weights": ("one", None, "one"),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
@pytest.mark.parametrize("function", ON_MESH.values(), ids=list(ON_MESH))
def test_arrays_can_be_sharded_over_a_mesh_with_explicit_axes(function, layout):
    rows, classes, of_weight = layout
    arrays = {
        "x": (X, rows, classes), "q": (Q, rows, classes), "t": (T, rows), "s": (OPTIONS["sample_weight"], rows),
        "h": (H, rows, None), "v": (W, of_weight, None), "b": (B, of_weight), "w": (OPTIONS["class_weight"], None),
    }  # fmt: skip
    expected = function({name: jnp.asarray(array) for name, (array, *_) in arrays.items()})
    mesh = jax.make_mesh((2,), ("one",), (jax.sharding.AxisType.Explicit,))
    with jax.set_mesh(mesh):
        placed = {
            name: jax.device_put(array, NamedSharding(mesh, PartitionSpec(*spec)))
            for name, (array, *spec) in arrays.items()
        }
        assert_same(function(placed), expected)


# Symbolic sizes

SYMBOLIC = {
    "softmax": (xpent.softmax, {"n, m": X}),
    "log_softmax": (jax.grad(lambda x: jnp.sin(xpent.log_softmax(x)).sum()), {"n, m": X}),
    "logsumexp": (jax.grad(lambda x: jnp.sin(xpent.logsumexp(x, axis=0)).sum()), {"n, m": X}),
    "indices": (jax.value_and_grad(xpent.cross_entropy), {"n, m": X, "n": T}),
    "batch": (jax.value_and_grad(xpent.cross_entropy), {f"n, {CLASSES}": X, "n": T}),
    "smoothed": (
        jax.grad(lambda x, t: xpent.cross_entropy(x, t, label_smoothing=0.1, ignore_index=1)),
        {"n, m": X, "n": T},
    ),
    "distribution": (jax.grad(lambda y: xpent.cross_entropy(*y), 0), {"2, n, m": np.stack([X, Q])}),
    "layer": (jax.value_and_grad(xpent.linear_cross_entropy, (0, 1)), {"n, d": H, "m, d": W, "n": T}),
    "layer in blocks": (
        jax.grad(lambda h, w, t: xpent.linear_cross_entropy(h, w, t, block_size=3)),
        {"n, d": H, f"{CLASSES}, d": W, "n": T},
    ),
    "layer of rows": (
        jax.grad(lambda h, w, t: (xpent.linear_cross_entropy(h, w, t, softcap=3.0, reduction="none") ** 2).sum()),
        {"n, d": H, "m, d": W, "n": T},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SYMBOLIC.values(), ids=list(SYMBOLIC))
def test_program_with_symbolic_sizes_can_be_exported(case):
    function, arguments = case
    scope = export.SymbolicScope()
    shapes = [
        jax.ShapeDtypeStruct(export.symbolic_shape(shape, scope=scope), array.dtype)
        for shape, array in arguments.items()
    ]
    program = export.export(jax.jit(function))(*shapes)
    assert_same(program.call(*arguments.values()), function(*map(jnp.asarray, arguments.values())))
