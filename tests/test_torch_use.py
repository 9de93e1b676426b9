"""Use in training loops on PyTorch: half precision, autocast, constants, memory and tensors without data."""

import functools
import gc

import pytest
import torch
from derivative_cases import CASES, CLASS_WEIGHT, LABELS, OF_LOGITS, Q, X, build, function_of
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad

import xpent

pytestmark = pytest.mark.library("torch")
every_case = pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
narrow_dtypes = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)


def tensor(values, device="cpu", dtype=torch.float32, rounded_to=torch.float32):
    array = torch.tensor(values, device=device)
    return array.to(rounded_to).to(dtype) if array.is_floating_point() else array


def gradients(function, primals):
    primals = [array.detach().requires_grad_() for array in primals]
    value = function(*primals)
    return [value, *torch.autograd.grad(value.sum(), primals)]


@pytest.mark.parametrize("case", OF_LOGITS, ids=[case.id for case in OF_LOGITS])
@narrow_dtypes
def test_half_precision_logits_are_computed_in_float32_and_rounded_once(case, dtype, device):
    narrow, _, primals = build(case, torch, functools.partial(tensor, device=device, dtype=dtype, rounded_to=dtype))
    wide, _, of_wide = build(case, torch, functools.partial(tensor, device=device, rounded_to=dtype))
    actual, expected = gradients(narrow, primals), gradients(wide, of_wide)
    of_value = torch.float32 if case.function == "cross_entropy" else dtype
    assert [array.dtype for array in actual] == [of_value] + [dtype] * len(primals)
    for a, e in zip(actual, expected, strict=True):
        assert torch.equal(a, e.to(a.dtype))


def test_under_autocast_the_loss_is_float32_and_every_gradient_has_the_dtype_of_its_tensor(device):
    layer, labels = torch.nn.Linear(4, 4, device=device), tensor(LABELS, device)
    with torch.autocast(device, dtype=torch.bfloat16):
        logits = layer(tensor(X, device))
        logits.retain_grad()
        loss = xpent.cross_entropy(logits, labels)
    loss.backward()
    assert (logits.dtype, loss.dtype) == (torch.bfloat16, torch.float32)
    assert (logits.grad.dtype, layer.weight.grad.dtype) == (torch.bfloat16, torch.float32)
    value, gradient = gradients(lambda x: xpent.cross_entropy(x, labels), [logits])
    assert torch.equal(loss, value)
    assert torch.equal(logits.grad, gradient)


def test_autocast_does_not_change_the_dtype_of_products_in_the_backward_pass(device):
    features, labels = torch.ones(4096, 1, dtype=torch.bfloat16, device=device), torch.zeros(4096, device=device).long()
    weight = torch.zeros(1024, 1, dtype=torch.bfloat16, device=device, requires_grad=True)
    losses = xpent.linear_cross_entropy(features, weight, labels, reduction="none")
    with torch.autocast(device, dtype=torch.float16):
        losses.backward(torch.full_like(losses, 2.0**-16))
    # The gradient with respect to the logits is 2**-26 except at the label, which is 0 in float16.
    assert torch.all(weight.grad[1:] == 2.0**-14)


@pytest.mark.parametrize("name", ["class_weight", "sample_weight", "normalizer", "label_smoothing", "z_loss"])
@pytest.mark.parametrize("requires_grad", [True, False], ids=["with gradient of logits", "without gradient of logits"])
def test_gradient_of_a_constant_is_rejected(name, requires_grad, device):
    x, labels = tensor(X, device).requires_grad_(requires_grad), tensor(LABELS, device)
    constant = torch.ones({"class_weight": 4, "sample_weight": 3}.get(name, ()), device=device)
    loss = xpent.cross_entropy(x, labels, **{name: constant.clone().requires_grad_()})
    with pytest.raises(TypeError, match=f"{name} is a constant.*pass {name}.detach()"):
        loss.backward()
    with forward_ad.dual_level(), pytest.raises(TypeError, match=f"{name} is a constant"):
        xpent.cross_entropy(x, labels, **{name: forward_ad.make_dual(constant, constant)})


@every_case
def test_only_arguments_value_and_numbers_per_row_are_saved_for_the_backward_pass(case, device):
    x, *rest = [tensor(array, device, torch.bfloat16) for array in case.arrays]
    options = {n: tensor(value, device) if hasattr(value, "dtype") else value for n, value in case.options.items()}
    own = {array.data_ptr() for array in (x, *rest, *options.values()) if isinstance(array, torch.Tensor)}
    kept = {}
    with torch.autograd.graph.saved_tensors_hooks(lambda a: kept.setdefault(a.data_ptr(), a), lambda _: None):
        value = function_of(case)(x.requires_grad_(), *rest, **options)
    assert x.data_ptr() in kept
    others = [array for pointer, array in kept.items() if pointer not in own and array is not value]
    # In bfloat16 the derivatives are not computed from the rounded value.
    assert all(array.numel() <= x.numel() // 2 for array in others)


@pytest.mark.parametrize("targets", [LABELS, Q], ids=["labels", "distribution"])
@pytest.mark.parametrize("kind", ["fake", "meta"])
def test_tensors_without_data_give_shapes_and_dtypes(kind, targets, device):
    options = {"label_smoothing": 0.1, "z_loss": 0.1, "reduction": "none"}
    with FakeTensorMode() if kind == "fake" else torch.device("meta"):
        place = device if kind == "fake" else "meta"
        x = torch.empty(X.shape, dtype=torch.bfloat16, device=place, requires_grad=True)
        t = torch.empty(targets.shape, dtype=torch.int64 if targets.ndim == 1 else torch.float32, device=place)
        losses = xpent.cross_entropy(x, t, class_weight=torch.ones(4, device=place), **options)
        losses.sum().backward()
        assert (losses.shape, losses.dtype, losses.device.type) == ((3,), torch.float32, place)
        assert (x.grad.shape, x.grad.dtype, x.grad.device.type) == (X.shape, torch.bfloat16, place)
        for function in (xpent.softmax, xpent.log_softmax):
            assert function(x).shape == x.shape
        assert xpent.logsumexp(x).shape == (3,)


@every_case
def test_no_grad_and_inference_mode_give_the_same_bits(case, device):
    ours, _, primals = build(case, torch, functools.partial(tensor, device=device))
    with_graph = ours(*[array.requires_grad_() for array in primals])
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            without = ours(*primals)
        assert not without.requires_grad
        assert torch.equal(without, with_graph)


def test_graph_can_be_retained_freed_and_detached(device):
    x, labels = tensor(X, device).requires_grad_(), tensor(LABELS, device)
    loss = xpent.cross_entropy(x, labels, class_weight=tensor(CLASS_WEIGHT, device))
    (once,) = torch.autograd.grad(loss, x, retain_graph=True)
    (again,) = torch.autograd.grad(loss, x)
    assert torch.equal(once, again)
    assert not once.requires_grad
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(loss, x)
    assert not xpent.cross_entropy(x.detach(), labels).requires_grad


def test_in_place_change_of_logits_before_backward_is_an_error(device):
    x, labels = tensor(X, device).requires_grad_(), tensor(LABELS, device)
    logits = x * 1
    loss = xpent.cross_entropy(logits, labels)
    logits.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_checkpointed_loss_has_the_same_gradient():
    x, y = torch.randn(3, 4, requires_grad=True), torch.tensor([0, 1, 2])
    loss = torch.utils.checkpoint.checkpoint(xpent.cross_entropy, x, y, use_reentrant=False)
    (actual,) = torch.autograd.grad(loss, x)
    (expected,) = torch.autograd.grad(xpent.cross_entropy(x, y), x)
    assert torch.equal(actual, expected)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp", "cross_entropy"])
@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("size", [(3, 4), (1100, 1000)], ids=["small", "large"])
def test_results_can_be_modified_in_place(name, axis, size, device):
    x = torch.randn(size, device=device, requires_grad=True)
    labels = torch.zeros(size[axis + 1], dtype=torch.int64, device=device)
    expected = None
    for factor in (2.0, None):
        if name == "cross_entropy":
            y = xpent.cross_entropy(x, labels, axis=axis, reduction="none")
        else:
            y = getattr(xpent, name)(x, axis=axis)
        if factor is None:
            y = 2.0 * y
        elif name in ("softmax", "log_softmax"):  # the backward pass reads their value
            y.mul_(factor)
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                y.sum().backward()
            return
        else:
            y *= factor
        (gradient,) = torch.autograd.grad(y.sum(), x)
        expected = gradient if expected is None else expected
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("function", [xpent.cross_entropy, xpent.linear_cross_entropy])
def test_checkpointing_does_not_store_gradients_between_the_passes(function, device):
    sizes = [(64, 32)] if function is xpent.cross_entropy else [(64, 8), (32, 8)]
    arrays = [torch.randn(size, device=device, requires_grad=True) for size in sizes]
    labels = torch.arange(64, device=device) % 32
    before = {id(x) for x in gc.get_objects() if type(x) is torch.Tensor}
    loss = torch.utils.checkpoint.checkpoint(function, *arrays, labels, use_reentrant=False)
    held = [x for x in gc.get_objects() if type(x) is torch.Tensor and id(x) not in before]
    assert all(
        x.numel() <= 64 for x in held if x.is_floating_point()
    )  # the state of the random generator is also stored
    found = torch.autograd.grad(loss, arrays)
    torch.testing.assert_close(found, torch.autograd.grad(function(*arrays, labels), arrays))
