"""Blocks of rows: results do not depend on the block size and the number of threads; memory is limited."""

import math
import multiprocessing
import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

import xpent
from xpent._backends import numpy as numpy_backend
from xpent._backends.blocked import BlockedBackend
from xpent._backends.numpy import NUMPY
from xpent._engine.blocks import block_indices

RNG = np.random.default_rng(3)
MIB = 2**20


@pytest.fixture
def set_block(monkeypatch):
    """A function that sets the number of entries in a block, for NumPy and, if it is imported, PyTorch."""

    def set_entries(entries):
        monkeypatch.setattr(numpy_backend, "BLOCK", entries)
        if "torch" in sys.modules:
            monkeypatch.setattr("xpent._backends.torch.BLOCK", entries)
            monkeypatch.setattr("torch.get_num_threads", lambda: 1)  # the block size is BLOCK entries per thread

    return set_entries


def results(x, labels, label_smoothing=0.125):
    loss, gradient = xpent.value_and_grad(xpent.cross_entropy)(x, labels, label_smoothing=label_smoothing)
    losses = xpent.cross_entropy(x, labels, reduction="none", ignore_index=0)
    return [loss, losses, gradient, xpent.softmax(x), xpent.log_softmax(x), xpent.logsumexp(x)]


SHAPES_AND_BLOCKS = [
    (shape, block)
    for shape in ((23, 7), (3, 5, 7), (2, 1, 3, 7), (0, 7), (7,), (5, 1000))
    for block in (7, 64, 1000)
    if shape[-1] <= block  # longer rows are summed in parts, in a different order
]


@pytest.mark.library("numpy")
@pytest.mark.parametrize("threads", ["1", "2", "5"])
@pytest.mark.parametrize(("shape", "block"), SHAPES_AND_BLOCKS)
def test_bits_depend_neither_on_blocks_nor_on_threads(monkeypatch, set_block, shape, block, threads):
    x, labels = RNG.standard_normal(shape), RNG.integers(7, size=shape[:-1])
    whole = results(x, labels)
    set_block(block)
    monkeypatch.setenv("XPENT_NUM_THREADS", threads)
    for found, expected in zip(results(x, labels), whole, strict=True):
        np.testing.assert_array_equal(found, expected)


LONG = RNG.standard_normal(100)
LONG_ROWS = {
    "ordinary": LONG,
    "confident": np.where(np.arange(100) == 93, 40.0, LONG),
    "tied across parts": np.where(np.arange(100) % 30 == 8, 5.0, LONG),
    "a part masked": np.where(np.arange(100) < 40, -np.inf, LONG),
    "masked": np.full(100, -np.inf),
    "one class unmasked": np.where(np.arange(100) == 71, LONG, -np.inf),
    "NaN": np.where(np.arange(100) == 71, np.nan, LONG),
    "infinite": np.where(np.arange(100) == 3, np.inf, LONG),
}


def of_distribution(x, q):
    options = {"label_smoothing": 0.25, "z_loss": 0.125, "reduction": "sum"}
    loss, gradients = xpent.value_and_grad(xpent.cross_entropy, (0, 1))(x, q, **options)
    return [loss, *gradients]


@pytest.mark.library("numpy", "torch")
@pytest.mark.parametrize("row", LONG_ROWS)
@pytest.mark.parametrize("batch", [(), (1,), (2, 2)])
def test_row_longer_than_a_block_gives_the_same_result_as_without_parts(xp, monkeypatch, set_block, row, batch):
    x = xp.asarray(np.broadcast_to(LONG_ROWS[row], (*batch, 100)).copy())
    labels, q = xp.asarray(np.full(batch, 93)), xp.asarray(np.full((*batch, 100), 0.01))
    whole = [xp.to_numpy(array) for array in (*results(x, labels, 0.0), *of_distribution(x, q))]
    set_block(8)
    monkeypatch.setenv("XPENT_NUM_THREADS", "2")
    counts, parts_of = [], BlockedBackend.parts

    def counted(backend, row):
        parts = parts_of(backend, row)
        counts.append(len(parts or [row]))
        return parts

    monkeypatch.setattr(BlockedBackend, "parts", counted)
    in_parts = results(x, labels, 0.0), of_distribution(x, q)
    assert set(counts) == {13}
    for i, (found, expected) in enumerate(zip((*in_parts[0], *in_parts[1]), whole, strict=True)):
        # Sums of 100 terms, in a different order; results may be rounded to half precision. With distributions, the
        # gradient has terms of both signs, none of which exceeds 16.
        rtol, is_difference = 100 * xp.u_computed + 2 * xp.u, i == len(in_parts[0]) + 1
        atol = 16 * rtol if is_difference else 0.0
        np.testing.assert_allclose(xp.to_numpy(found), expected, rtol=rtol, atol=atol)


@pytest.mark.library("numpy", "torch")
@pytest.mark.parametrize("axis", [0, 1, 2, (0, 2), (2, 1), None])
def test_result_does_not_depend_on_blocks_for_any_class_axis(xp, set_block, axis):
    x = xp.asarray(RNG.standard_normal((5, 4, 6)))
    functions = [xpent.softmax, xpent.log_softmax, xpent.logsumexp]
    whole = [xp.to_numpy(xp.call(function, x, axis=axis)) for function in functions]
    set_block(9)
    for function, expected in zip(functions, whole, strict=True):
        np.testing.assert_allclose(xp.to_numpy(xp.call(function, x, axis=axis)), expected, rtol=8 * xp.u, atol=0)


@pytest.mark.library("numpy")
@pytest.mark.parametrize("batch", [(), (5,), (3, 4), (2, 3, 4), (1, 1, 50)])
@pytest.mark.parametrize("classes", [1, 3, 40])
@pytest.mark.parametrize("block", [1, 8, 100])
def test_blocks_cover_every_row_once(set_block, batch, classes, block):
    set_block(block)
    indices = block_indices(NUMPY, np.zeros((*batch, classes)), (len(batch),))
    seen = np.zeros(batch, dtype=int)
    for index in [...] if indices is None else indices:
        seen[index] += 1
    assert (seen == 1).all()
    assert indices is None or all(seen[index].size <= max(1, block // classes) for index in indices)


@pytest.mark.library("numpy")
@pytest.mark.parametrize("count", [1, 60, 97, 4096, 10**9 + 7])
@pytest.mark.parametrize("classes", [2, 10**4, 128256, 2**25])
@pytest.mark.parametrize("depth", [0, 64, 1024, 4096])
def test_blocks_of_a_layer_have_equal_sizes_if_they_are_at_least_four_fifths_full(count, classes, depth):
    size = NUMPY.rows_of_block(count, classes, depth, None) or count
    most = min(count, max(1, 2**24 // classes, min(256, depth // 4)))
    assert 4 * most / 5 - 1 <= size <= most
    assert count % size == 0 or not any(count % n == 0 for n in range(math.ceil(4 * most / 5) + 1, most + 1))


@pytest.mark.library("numpy")
@pytest.mark.parametrize("given", ["0", "-1", "many", "1.5", ""])
def test_invalid_number_of_threads_is_an_error(monkeypatch, set_block, given):
    monkeypatch.setenv("XPENT_NUM_THREADS", given)
    set_block(4)
    with pytest.raises(ValueError, match="XPENT_NUM_THREADS must be a positive integer"):
        xpent.softmax(np.zeros((8, 4)))


@pytest.mark.library("numpy")
def test_an_error_in_one_block_is_raised(monkeypatch):
    monkeypatch.setenv("XPENT_NUM_THREADS", "3")

    def fail(index):
        raise KeyError(index)

    with pytest.raises(KeyError):
        NUMPY.for_each(fail, range(9))


@pytest.mark.library("numpy")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="os.fork is not available")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")
def test_threads_survive_a_fork(monkeypatch, set_block):
    monkeypatch.setenv("XPENT_NUM_THREADS", "3")
    set_block(64)
    x = RNG.standard_normal((64, 16))
    expected = xpent.softmax(x)
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=lambda: queue.put(xpent.softmax(x)))
    child.start()
    np.testing.assert_array_equal(queue.get(), expected)
    child.join(60)
    assert child.exitcode == 0


@pytest.mark.library("numpy")
@pytest.mark.parametrize("threads", ["1", "2"])
def test_error_and_buffer_settings_of_numpy_are_unchanged(monkeypatch, set_block, threads):
    monkeypatch.setenv("XPENT_NUM_THREADS", threads)
    set_block(16)
    before = np.getbufsize(), np.geterr()
    xpent.softmax(np.full((64, 4), -np.inf))
    NUMPY.for_each(lambda _: None, range(9))
    assert (np.getbufsize(), np.geterr()) == before


@pytest.mark.library("numpy")
def test_no_thread_is_started_for_a_single_block(monkeypatch):
    monkeypatch.setattr(numpy_backend, "_threads", None)  # a call would fail
    xpent.softmax(np.zeros((8, 4)))


def peak(function, *arrays):
    function(*arrays)
    tracemalloc.start()
    try:
        function(*arrays)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.library("numpy")
def test_memory_is_limited_to_results_and_a_few_blocks(monkeypatch, set_block):
    monkeypatch.setenv("XPENT_NUM_THREADS", "2")
    set_block(2**16)
    x, labels = RNG.standard_normal((4096, 1000)), RNG.integers(1000, size=4096)
    blocks = 2 * 6 * 8 * 2**16 + MIB  # threads, simultaneous arrays of a block, bytes per block
    assert x.nbytes > 4 * blocks
    gradient = xpent.value_and_grad(xpent.cross_entropy)
    pulled = lambda x, labels: xpent.vjp(xpent.cross_entropy, x, labels)[1](np.float64(2.0))  # noqa: E731
    assert peak(xpent.cross_entropy, x, labels) < blocks
    assert peak(xpent.logsumexp, x) < blocks
    for function, arrays in (
        (gradient, (x, labels)),
        (pulled, (x, labels)),
        (xpent.softmax, (x,)),
        (xpent.log_softmax, (x,)),
    ):
        assert x.nbytes <= peak(function, *arrays) < x.nbytes + blocks


@pytest.mark.library("numpy")
def test_memory_of_a_long_row_is_limited_to_results_and_a_few_parts(monkeypatch, set_block):
    monkeypatch.setenv("XPENT_NUM_THREADS", "2")
    set_block(2**16)
    x, label = RNG.standard_normal(2**22), np.asarray(5)
    blocks = 2 * 6 * 8 * 2**16 + MIB  # threads, simultaneous arrays of a part, bytes per part
    assert x.nbytes > 4 * blocks
    assert peak(xpent.logsumexp, x) < blocks
    assert peak(xpent.cross_entropy, x, label) < blocks
    for function, arrays in (
        (xpent.softmax, (x,)),
        (xpent.log_softmax, (x,)),
        (xpent.grad(xpent.cross_entropy), (x, label)),
    ):
        assert x.nbytes <= peak(function, *arrays) < x.nbytes + blocks


@pytest.mark.library("numpy")
def test_logits_with_a_leading_class_axis_are_not_copied(set_block):
    set_block(2**16)
    x = RNG.standard_normal((1000, 4096))
    assert peak(lambda x: xpent.logsumexp(x, axis=0), x) < x.nbytes / 3


@pytest.mark.library("numpy")
def test_large_calls_work_when_the_interpreter_shuts_down():
    code = (
        "import atexit, numpy as np, xpent\natexit.register(lambda: print(xpent.softmax(np.zeros((4096, 1000))).sum()))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(found.stdout) == pytest.approx(4096)
    assert not found.stderr


@pytest.mark.library("numpy")
def test_type_of_the_result_does_not_depend_on_the_size():
    class Special(np.ndarray):
        pass

    assert {type(xpent.softmax(np.zeros((n, 1000)).view(Special))) for n in (1, 2000)} == {np.ndarray}


@pytest.mark.library("torch")
def test_saved_tensors_seen_by_hooks_are_not_modified():
    import torch

    x, labels = torch.randn(6, 5, requires_grad=True), torch.arange(6) % 5
    seen = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: seen.append((t, t.clone())) or t, lambda t: t):
        loss = xpent.cross_entropy(x, labels)
    (2.0 * loss).backward()
    assert seen
    assert all(torch.equal(saved, before) for saved, before in seen)


@pytest.mark.library("torch")
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
@pytest.mark.parametrize("create_graph", [False, True])
def test_gradient_in_forward_mode_has_a_tangent(reduction, dtype, create_graph):
    import torch

    forward_ad = torch.autograd.forward_ad
    x, labels = torch.randn(3, 4).to(getattr(torch, dtype)).requires_grad_(), torch.arange(3)
    v = torch.randn(3, 4).to(x.dtype)
    tangents = []
    for function in xpent.cross_entropy, torch.nn.functional.cross_entropy:
        with forward_ad.dual_level():
            loss = function(forward_ad.make_dual(x, v), labels, reduction=reduction).sum()
            (gradient,) = torch.autograd.grad(loss, x, create_graph=create_graph)
            tangents.append(forward_ad.unpack_dual(gradient).tangent)
    torch.testing.assert_close(*tangents, rtol=0.05, atol=0.02)


@pytest.mark.library("torch")
@pytest.mark.parametrize("rounds", [1, 3])
def test_stored_gradient_is_not_modified_while_the_graph_is_retained(rounds):
    import torch

    x, labels = torch.randn(6, 5, dtype=torch.float64, requires_grad=True), torch.arange(6) % 5
    expected = torch.autograd.grad(torch.nn.functional.cross_entropy(x, labels), x)[0]
    loss = 3.0 * xpent.cross_entropy(x, labels)
    for i in range(rounds):
        loss.backward(retain_graph=i < rounds - 1)
    torch.testing.assert_close(x.grad, 3.0 * rounds * expected)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        loss.backward()


@pytest.mark.library("torch")
def test_large_gradient_can_be_accumulated_saved_and_shared(tmp_path):
    import torch

    x, labels = torch.randn(1200, 1000, requires_grad=True), torch.arange(1200) % 1000
    expected = 2 * torch.autograd.grad(torch.nn.functional.cross_entropy(x, labels), x)[0]
    for _ in range(2):
        xpent.cross_entropy(x, labels).backward()
    torch.testing.assert_close(x.grad, expected)
    torch.save(x.grad, tmp_path / "gradient")
    torch.testing.assert_close(torch.load(tmp_path / "gradient"), x.grad)
    assert x.grad.is_contiguous()
    assert x.grad.share_memory_().is_shared()


@pytest.mark.library("torch")
@pytest.mark.parametrize("name", ["class_weight", "normalizer"])
def test_vmap_over_constants_shared_by_all_rows(set_block, name):
    import torch

    set_block(8)
    x, q = torch.randn(64, 5, dtype=torch.float64), torch.rand(64, 5, dtype=torch.float64)
    shared = torch.rand((3, 5) if name == "class_weight" else (3,), dtype=torch.float64)

    def loss(constant):
        return xpent.cross_entropy(x, q, **{name: constant})

    with torch.no_grad():
        torch.testing.assert_close(torch.func.vmap(loss)(shared), torch.stack([loss(constant) for constant in shared]))


@pytest.mark.library("numpy", "torch")
@pytest.mark.only_for(lambda xp: xp.dtype_name == "float32")  # exp(-100) is subnormal in float32
@pytest.mark.parametrize("function", ["cross_entropy", "log_softmax"])
def test_long_row_with_subnormal_terms_has_the_exact_loss(xp, function):
    count, label = 2**21, 5
    x = np.full(count, -100.0)
    x[label] = 0.0
    if function == "cross_entropy":
        value = xpent.cross_entropy(xp.asarray(x), xp.asarray(np.asarray(label)))
    else:
        value = -xpent.log_softmax(xp.asarray(x))[label]
    exact = (count - 1) * np.exp(-100.0)
    np.testing.assert_allclose(xp.to_numpy(value), exact, rtol=(4 + 2 * 100) * xp.u, atol=0)
