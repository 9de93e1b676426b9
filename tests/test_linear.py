"""linear_cross_entropy: block sizes, memory and errors."""

import math
import tracemalloc

import numpy as np
import pytest

import xpent

RNG = np.random.default_rng(5)
FEATURES, WEIGHT, BIAS = RNG.standard_normal((7, 3)), RNG.standard_normal((5, 3)), RNG.standard_normal(5)
LABELS = RNG.integers(5, size=7)
LARGE = RNG.standard_normal((2048, 4)), RNG.standard_normal((4096, 4)), RNG.integers(4096, size=2048)
LOGITS_OF_LARGE = 8 * 2048 * 4096  # bytes

BAD = [
    ({"softcap": 0}, ValueError, "softcap.*0"),
    ({"softcap": float("nan")}, ValueError, "softcap.*nan"),
    ({"softcap": True}, TypeError, "softcap.*number.*True"),
    ({"block_size": 0}, ValueError, "block_size.*at least 1.*0"),
    ({"block_size": 1.0}, TypeError, "block_size.*int.*1.0"),
    ({"block_size": True}, TypeError, "block_size.*int.*True"),
    ({"bias": BIAS[:3]}, ValueError, r"bias.*\(5,\).*\(3,\)"),
    ({"bias": LABELS[:5]}, TypeError, "bias.*floating.*int"),
    ({"weight": WEIGHT[0]}, ValueError, r"weight.*\(C, D\).*\(3,\)"),
    ({"weight": WEIGHT[:, :2]}, ValueError, r"\(5, 2\).*\(\.\.\., 2\).*\(7, 3\)"),
    ({"weight": WEIGHT[:, :0], "features": FEATURES[:, :0]}, ValueError, r"weight.*\(5, 0\)"),
    ({"weight": WEIGHT[:0]}, ValueError, r"weight.*\(0, 3\)"),
    ({"weight": WEIGHT.astype(int)}, TypeError, "weight.*floating.*int"),
    ({"features": FEATURES[0, 0]}, ValueError, r"features.*\(\.\.\., 3\).*\(\)"),
    ({"targets": LABELS[:3]}, ValueError, r"\(7, 5\).*\(7,\).*\(3,\)"),
    ({"sample_weight": np.ones(5)}, ValueError, r"sample_weight.*\(7,\).*\(5,\)"),
    ({"where": np.ones((7, 5), dtype=bool)}, TypeError, "where"),
]


@pytest.mark.unoptimized
@pytest.mark.parametrize(
    ("given", "error", "message"), BAD, ids=[f"{next(iter(g))} {i}" for i, (g, *_) in enumerate(BAD)]
)
def test_invalid_argument_is_rejected(xp, given, error, message):
    arrays = {"features": FEATURES, "weight": WEIGHT, "targets": LABELS, **given}
    features, weight, targets, *options = [
        (name, xp.asarray(value) if isinstance(value, np.ndarray | np.generic) else value)
        for name, value in arrays.items()
    ]
    with pytest.raises(error, match=message):
        xpent.linear_cross_entropy(features[1], weight[1], targets[1], **dict(options))


@pytest.mark.only_for(lambda xp: not xp.is_traced)
def test_label_out_of_range_is_rejected_if_data_can_be_read(xp):
    with pytest.raises(ValueError, match=r"target.*out of range.*5"):
        xpent.linear_cross_entropy(*map(xp.asarray, (FEATURES, WEIGHT, LABELS + 5)))


@pytest.mark.only_for(lambda xp: xp.dtype_name != "float64")
def test_mixed_dtypes_are_rejected(xp):
    arrays = xp.asarray(FEATURES), xp.asarray(WEIGHT, "float64"), xp.asarray(LABELS)
    with pytest.raises(TypeError, match=r"same dtype.*features.*weight.*float64"):
        xpent.linear_cross_entropy(*arrays)


def gradients(features, weight, targets, bias, **options):
    return xpent.value_and_grad(xpent.linear_cross_entropy, (0, 1, 3))(features, weight, targets, bias=bias, **options)


@pytest.mark.unoptimized
@pytest.mark.parametrize("block_size", [1, 3, 100])
def test_result_does_not_depend_on_the_block_size(xp, block_size):
    options = {"ignore_index": 2, "label_smoothing": 0.1, "z_loss": 0.1}
    x, w, b, t = (xp.asarray(array) for array in (FEATURES, WEIGHT, BIAS, LABELS))
    whole = gradients(x, w, t, b, block_size=7, **options)
    blocks = xp.call(gradients, x, w, t, b, block_size=block_size, **options)
    # Products and sums of at most 7 terms, in a different order.
    for found, expected in zip((blocks[0], *blocks[1]), (whole[0], *whole[1]), strict=True):
        found, expected = xp.to_numpy(found), xp.to_numpy(expected)
        np.testing.assert_allclose(found, expected, rtol=0, atol=64 * xp.u * abs(expected).max())


def test_bias_is_the_last_primal():
    value, pullback = xpent.vjp(xpent.linear_cross_entropy, FEATURES, WEIGHT, LABELS, bias=BIAS)
    assert [cotangent.shape for cotangent in pullback(np.ones_like(value))] == [(7, 3), (5, 3), (5,)]
    loss, (of_bias,) = xpent.value_and_grad(xpent.linear_cross_entropy, (3,))(FEATURES, WEIGHT, LABELS, bias=BIAS)
    logits_gradient = xpent.grad(xpent.cross_entropy)(FEATURES @ WEIGHT.T + BIAS, LABELS)
    assert loss == value
    np.testing.assert_allclose(of_bias, logits_gradient.sum(axis=0), rtol=0, atol=64 * 2.0**-53)
    with pytest.raises(TypeError, match=r"argnums.*\[0, 3\).*3"):
        xpent.grad(xpent.linear_cross_entropy, 3)(FEATURES, WEIGHT, LABELS)


def test_the_gradient_of_the_weight_is_summed_in_float32(xp):
    # Every row adds 1/2; a sum in bfloat16 would stop at 128, and one in float16 at 1024.
    rows = 4096
    x, w, t = xp.asarray(np.ones((rows, 1))), xp.asarray(np.zeros((2, 1))), xp.asarray(np.zeros(rows, dtype=np.int64))
    gradient = xp.call(
        lambda x, w, t: xpent.grad(xpent.linear_cross_entropy, 1)(x, w, t, reduction="sum", block_size=8), x, w, t
    )
    np.testing.assert_array_equal(xp.to_numpy(gradient), [[-rows / 2], [rows / 2]])


def test_small_gradients_do_not_underflow_in_the_gradient_of_the_weight(xp):
    # G is 2**-26 except at the target, which is 0 in float16; the sum over the rows is 2**-14.
    arrays = np.ones((4096, 1)), np.zeros((1024, 1)), np.zeros(4096, dtype=np.int64)
    gradient = xp.call(
        lambda *arrays: xpent.grad(xpent.linear_cross_entropy, 1)(*arrays, normalizer=2.0**16), *map(xp.asarray, arrays)
    )
    np.testing.assert_array_equal(xp.to_numpy(gradient)[1:], 2.0**-14)


def peak_of(function):
    function()  # start the threads
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.library("numpy")
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_value_and_gradients_do_not_store_all_logits(reduction):
    features, weight, labels = LARGE
    cotangent = np.ones(() if reduction == "mean" else labels.shape)

    def vjp():
        options = {"reduction": reduction, "block_size": 64}
        return xpent.vjp(xpent.linear_cross_entropy, features, weight, labels, **options)[1](cotangent)

    assert peak_of(vjp) < LOGITS_OF_LARGE / 8


@pytest.mark.library("jax")
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_compiled_reverse_mode_does_not_store_all_logits(reduction):
    import jax

    features, weight, labels = map(jax.numpy.asarray, LARGE)

    def loss(features, weight):
        options = {"reduction": reduction, "block_size": 64}
        return jax.numpy.sum(xpent.linear_cross_entropy(features, weight, labels, **options))

    for function in (loss, jax.grad(loss, (0, 1))):
        compiled = jax.jit(function).lower(features, weight).compile()
        assert compiled.memory_analysis().temp_size_in_bytes < LOGITS_OF_LARGE / 8


@pytest.mark.library("numpy")
def test_gradient_of_a_frozen_weight_is_not_computed():
    features, weight, labels = RNG.standard_normal((2, 64)), RNG.standard_normal((4096, 64)), np.array([0, 1])
    gradient = xpent.grad(xpent.linear_cross_entropy, 0)
    assert peak_of(lambda: gradient(features, weight, labels)) < weight.nbytes / 4


@pytest.mark.unoptimized
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_tangents_of_an_ignored_row_may_be_nan(xp, reduction):
    labels, with_nan, without = LABELS.copy(), np.ones_like(FEATURES), np.ones_like(FEATURES)
    labels[3], with_nan[3], without[3] = -1, np.nan, 0.0
    primals = tuple([xp.asarray(array) for array in (FEATURES, WEIGHT, labels)])
    options = {"ignore_index": -1, "reduction": reduction}
    changes = [
        xpent.jvp(xpent.linear_cross_entropy, primals, (xp.asarray(v), None, None), **options)[1]
        for v in (with_nan, without)
    ]
    np.testing.assert_array_equal(*map(xp.to_numpy, changes))


def test_no_array_of_the_size_of_the_logits_is_allocated(xp):
    many = 2**20  # its square exceeds the memory
    x, t = xp.asarray(np.zeros((many, 1))), xp.asarray(np.zeros(many, dtype=np.int64))
    call = xpent.linear_cross_entropy.bind(x, x, t, normalizer=2.0)
    assert call.primals[0] is x


def test_small_gradients_in_half_precision_do_not_underflow_before_scaling(xp):
    """Gradients p_j / N of a mean over many rows underflow in float16, unless the loss is scaled first."""
    arrays = RNG.integers(-2, 3, (8, 4)) / 4, RNG.integers(1, 3, (512, 4)) / 2, RNG.integers(512, size=8)
    x, w, t = map(xp.asarray, arrays)
    scale, of_sum = 2.0**16, xpent.grad(xpent.linear_cross_entropy)(*arrays, reduction="sum")
    allowed = 64 * xp.u * 2  # the absolute sum of a row of G is at most 2, and weights are at most 1
    value, pullback = xpent.vjp(xpent.linear_cross_entropy, x, w, t, normalizer=scale)
    scaled = pullback(xp.asarray(np.asarray(scale), xp.dtype_of(value)))[0]
    np.testing.assert_allclose(xp.to_numpy(scaled), of_sum, rtol=0, atol=allowed)
    unscaled = xpent.grad(xpent.linear_cross_entropy)(x, w, t, normalizer=scale)
    spacing = 2.0**-24 if xp.dtype_name == "float16" else 0.0  # of subnormal numbers in float16
    np.testing.assert_allclose(xp.to_numpy(unscaled), of_sum / scale, rtol=0, atol=allowed / scale + spacing)


WITH_IGNORED_NAN = np.where(np.arange(7)[:, None] == 3, np.nan, FEATURES), np.where(np.arange(7) == 3, -1, LABELS)
WITHOUT = np.delete(FEATURES, 3, axis=0), np.delete(LABELS, 3)
NONE = {"ignore_index": -1, "reduction": "none", "softcap": 2.0, "block_size": 2}


@pytest.mark.library("torch")
def test_ignored_row_with_nan_does_not_contribute_to_second_derivatives_in_torch():
    import torch

    found = []
    for features, labels in (WITH_IGNORED_NAN, WITHOUT):
        w = torch.tensor(WEIGHT, requires_grad=True)
        losses = xpent.linear_cross_entropy(torch.tensor(features), w, torch.tensor(labels), **NONE)
        (gradient,) = torch.autograd.grad((losses**2).sum(), w, create_graph=True)
        found.append(torch.autograd.grad((gradient**2).sum(), w)[0])
    np.testing.assert_allclose(*found, rtol=0, atol=256 * 2.0**-53 * abs(found[1]).max())


@pytest.mark.unoptimized
@pytest.mark.library("jax")
def test_ignored_row_with_nan_does_not_contribute_to_second_derivatives_in_jax():
    import jax

    def second(features, labels):
        def loss(w):
            return jax.numpy.sum(xpent.linear_cross_entropy(features, w, labels, **NONE) ** 2)

        return jax.jit(jax.grad(lambda w: jax.numpy.sum(jax.grad(loss)(w) ** 2)))(jax.numpy.asarray(WEIGHT))

    found = [second(*map(jax.numpy.asarray, arrays)) for arrays in (WITH_IGNORED_NAN, WITHOUT)]
    np.testing.assert_allclose(*found, rtol=0, atol=256 * 2.0**-53 * abs(found[1]).max())


@pytest.mark.unoptimized
@pytest.mark.library("jax")
@pytest.mark.parametrize("shared", [1, 2**20], ids=["classes in pieces", "classes at once"])
def test_rows_can_be_sharded(shared, monkeypatch):
    import jax
    from jax.sharding import PartitionSpec

    monkeypatch.setattr("xpent._backends.jax.PRODUCT", shared)
    x, w, t = map(jax.numpy.asarray, (FEATURES, WEIGHT, LABELS))

    def gradient(x, w, t):
        of_rows = jax.grad(xpent.linear_cross_entropy, 1)(x, w, t, reduction="sum", block_size=3)
        return jax.lax.psum(of_rows, "rows")

    mesh, split, whole = (
        jax.make_mesh((1,), ("rows",), (jax.sharding.AxisType.Auto,)),
        PartitionSpec("rows"),
        PartitionSpec(),
    )
    found = jax.shard_map(gradient, mesh=mesh, in_specs=(split, whole, split), out_specs=whole)(x, w, t)
    expected = jax.grad(xpent.linear_cross_entropy, 1)(x, w, t, reduction="sum")
    np.testing.assert_allclose(found, expected, rtol=0, atol=64 * 2.0**-53 * abs(expected).max())


@pytest.mark.library("torch")
def test_vmap_over_the_weights_of_several_models():
    import torch

    x, t, weights = torch.tensor(FEATURES), torch.tensor(LABELS), torch.tensor(np.stack([WEIGHT, 2 * WEIGHT]))

    def loss(w):
        return xpent.linear_cross_entropy(x, w, t, block_size=2)

    with torch.no_grad():
        torch.testing.assert_close(torch.func.vmap(loss)(weights), torch.stack([loss(w) for w in weights]))


MANY_BLOCKS = pytest.param(700, marks=pytest.mark.only_for(lambda xp: xp.dtype_name == "float32"))


@pytest.mark.parametrize("rows", [1, MANY_BLOCKS])
def test_confident_rows_have_exact_losses_and_gradients(xp, rows):
    weight = np.zeros((3000, 1))
    weight[1:] = -80.0  # the sum of the other terms is so small in float32 that it is computed again
    arrays = [xp.asarray(array) for array in (np.ones((rows, 1)), weight, np.zeros(rows, dtype=int))]
    value, (gradient,) = xp.call(lambda *a: xpent.value_and_grad(xpent.linear_cross_entropy, (1,))(*a), *arrays)
    others = 2999 * math.exp(-80.0)
    np.testing.assert_allclose(xp.to_numpy(value), others, rtol=(4 + 2 * 80) * xp.u_computed, atol=0)
    smallest = 2.0**-25 if xp.dtype_name == "float16" else 0.0  # half of the smallest number in float16
    expected = np.full((3000, 1), math.exp(-80.0))
    expected[0] = -others
    rtol = (4 + 2 * 80) * xp.u_computed + 2 * xp.u + (rows - 1) * xp.u_computed
    np.testing.assert_allclose(xp.to_numpy(gradient), expected, rtol=rtol, atol=smallest)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_infinite_feature_has_the_loss_of_the_softcap_with_and_without_gradients(xp, reduction):
    x, w, t = (
        xp.asarray([[np.inf, 1.0]]),
        xp.asarray([[1.0, 0.5], [-1.0, 2.0], [3.0, 1.0]]),
        xp.asarray(np.asarray([1])),
    )
    options = {"softcap": 2.0, "reduction": reduction}  # the logits are 2, -2 and 2
    expected = math.log(2 * math.exp(2.0) + math.exp(-2.0)) + 2
    plain = xp.call(lambda *a: xpent.linear_cross_entropy(*a, **options), x, w, t)
    pushed, change = xp.call(
        lambda *a: xpent.jvp(xpent.linear_cross_entropy, a, (None, a[1], None), **options), x, w, t
    )
    np.testing.assert_allclose(xp.to_numpy(plain), expected, rtol=16 * xp.u_computed)
    np.testing.assert_allclose(xp.to_numpy(pushed), expected, rtol=16 * xp.u_computed)
    np.testing.assert_array_equal(xp.to_numpy(change), np.zeros(pushed.shape))
