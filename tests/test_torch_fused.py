"""Eager calls on PyTorch that xpent compiles with the setting XPENT_COMPILE=1."""

import pytest
import torch
from derivative_cases import (
    ALL_OPTIONS,
    CASES,
    CLASS_WEIGHT,
    FEATURES,
    HIGH_ORDER_CASES,
    LABELS,
    LABELS5,
    WEIGHT,
    Q,
    X,
    assert_close,
    build,
    case,
    parameters,
)
from torch._dynamo.utils import counters

import xpent
from xpent._backends import torch as torch_backend
from xpent._backends import torch_private
from xpent._losses import linear

pytestmark = pytest.mark.library("torch")
BOTH = xpent.value_and_grad(xpent.cross_entropy)


@pytest.fixture(autouse=True)
def fused(monkeypatch):
    torch.compiler.reset()
    torch_backend._compiled.cache_clear()
    counters.clear()
    monkeypatch.setenv("XPENT_COMPILE", "1")


def graphs():
    return counters["stats"]["unique_graphs"]


FUSED = (
    "softmax tuple of axes",
    "log_softmax where",
    "logsumexp middle axis",
    "cross_entropy all options",
    "cross_entropy weighted distribution",
    "linear_cross_entropy bias in blocks",
)
FUSED_CASES = [{case.id: case for case in CASES}[name] for name in FUSED]


@pytest.mark.parametrize("each", parameters(FUSED_CASES, selected=("log_softmax where", ALL_OPTIONS.id, FUSED[-1])))
def test_value_and_gradients_agree_with_the_textbook(each, asarray):
    ours, theirs, primals = build(each, torch, asarray)
    found = []
    for function in ours, theirs:
        arrays = [array.detach().requires_grad_() for array in primals]
        value = function(*arrays)
        cotangent = torch.linspace(2, 3, value.numel()).reshape(value.shape).to(value)
        found.append([value, *torch.autograd.grad(value, arrays, cotangent)])
    assert graphs() > 0
    assert_close(*found, each, order=1)


def test_calls_recorded_by_autograd_are_not_compiled(asarray):
    for each in HIGH_ORDER_CASES:
        ours, theirs, primals = build(each, torch, asarray)
        second = [
            torch.func.hessian(function, argnums=tuple(range(len(primals))))(*primals) for function in (ours, theirs)
        ]
        assert_close(*second, each, order=2)
    assert graphs() == 0


def test_one_program_is_used_for_all_shapes_and_numbers(asarray):
    calls = [(rows, classes, normalizer) for rows, classes in ((3, 4), (5, 7), (8, 6)) for normalizer in (2.0, 3.0)]
    for count, classes, normalizer in calls:
        x, t = torch.randn(count, classes, dtype=torch.float64), torch.arange(count) % 4
        loss, gradient = BOTH(asarray(x.numpy()), asarray(t.numpy()), normalizer=normalizer)
        expected, of_x = BOTH(x.numpy(), t.numpy(), normalizer=normalizer)
        assert_close([loss, gradient], [expected, of_x], case("", "cross_entropy", x.numpy()), order=1)
        assert graphs() == 1


def test_every_set_of_options_has_its_own_program(asarray):
    x, t = asarray(X), asarray(LABELS)
    for i in range(12):
        options = {"label_smoothing": i / 16, "z_loss": i / 4}
        assert_close(BOTH(x, t, **options), BOTH(X, LABELS, **options), case("", "cross_entropy", X), order=1)


@pytest.mark.parametrize("dtype", [torch.float16, pytest.param(torch.bfloat16, marks=pytest.mark.thorough)], ids=str)
def test_half_precision_logits_give_a_gradient_in_their_dtype(dtype, asarray):
    x = asarray(X).to(dtype).requires_grad_()
    loss = xpent.cross_entropy(x, asarray(LABELS))
    loss.backward()
    expected = BOTH(x.detach().double().cpu().numpy(), LABELS)
    assert (loss.dtype, x.grad.dtype) == (torch.float32, dtype)
    assert_close([loss, x.grad], expected, case("", "cross_entropy", X), order=1, u=torch.finfo(dtype).eps / 2)


def test_linear_layer_is_computed_in_blocks(monkeypatch, asarray):
    counts = []
    accumulate_blocks = linear.accumulate_blocks

    def counted(backend, function, *arguments):
        def of_block(sums, x, *others):
            counts.append(x.shape[0])
            return function(sums, x, *others)

        return accumulate_blocks(backend, of_block, *arguments)

    monkeypatch.setattr(linear, "accumulate_blocks", counted)
    xpent.grad(xpent.linear_cross_entropy, (0, 1))(*map(asarray, (FEATURES, WEIGHT, LABELS5)), block_size=2)
    assert counts == [2, 2, 1]
    assert graphs() > 0


X64, LABELS64, Q64 = torch.tensor(X), torch.tensor(LABELS), torch.tensor(Q)
MAPPED = {
    "over what is not the logits": lambda w: xpent.softmax(X64) * w,
    "over class weights": lambda w: xpent.cross_entropy(X64, Q64, class_weight=w),
    "over gradients": lambda w: torch.func.grad(lambda x: xpent.cross_entropy(x, Q64, class_weight=CLASSES))(w * X64),
}
CLASSES = torch.tensor(CLASS_WEIGHT)


@pytest.mark.parametrize("name", MAPPED)
def test_calls_inside_vmap_are_not_compiled(name):
    weights = torch.stack([CLASSES, 2.0 * CLASSES])
    found = torch.func.vmap(MAPPED[name])(weights)
    torch.testing.assert_close(found, torch.stack([MAPPED[name](w) for w in weights]))


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_traced_calls_are_not_compiled():
    traced = torch.jit.trace(xpent.softmax, (X64,))
    torch.testing.assert_close(traced(2.0 * X64), xpent.softmax(2.0 * X64))


def test_default_device_does_not_affect_numbers(asarray):
    x, labels = asarray(X), asarray(LABELS)
    with torch.device("meta"):
        loss = xpent.cross_entropy(x, labels, normalizer=2.0)
    assert loss.item() == pytest.approx(xpent.cross_entropy(X, LABELS, normalizer=2.0))


def test_calls_run_uncompiled_if_compilation_fails(monkeypatch, asarray):
    def fail(*_, **__):
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(torch_backend, "_not_compilable", set())
    monkeypatch.setattr(torch, "compile", fail)
    with pytest.warns(RuntimeWarning, match=r"torch.compile failed, so xpent runs uncompiled.*no compiler here"):
        found = xpent.softmax(asarray(X))
    assert_close(found, xpent.softmax(X), case("", "softmax", X), order=0)
    xpent.softmax(asarray(X))  # does not warn again


@pytest.mark.parametrize("setting", ["0", ""])
def test_eager_calls_are_compiled_only_with_the_setting(monkeypatch, setting):
    monkeypatch.setenv("XPENT_COMPILE", setting)
    ours, _, primals = build(ALL_OPTIONS, torch, torch.tensor)
    ours(*primals)
    assert graphs() == 0


@pytest.mark.parametrize("setting", ["", "0", "1"])
@pytest.mark.parametrize("has_compiler", [True, False])
def test_calls_on_a_gpu_are_compiled_with_the_setting_and_a_compiler(monkeypatch, setting, has_compiler):
    monkeypatch.setenv("XPENT_COMPILE", setting)
    monkeypatch.setattr(torch_private, "has_triton", lambda: has_compiler)
    assert torch_backend.fuses(torch.device("cuda")) == (has_compiler and setting == "1")
    assert not torch_backend.fuses(torch.device("mps"))


def test_invalid_setting_is_an_error(monkeypatch):
    monkeypatch.setenv("XPENT_COMPILE", "yes")
    with pytest.raises(ValueError, match=r"XPENT_COMPILE must be 0 or 1.*'yes'"):
        xpent.softmax(torch.zeros(3))
