"""torch.compile captures one graph for the forward and backward pass, with the hand-written derivatives."""

import functools

import numpy as np
import pytest
import torch
from derivative_cases import ALL_OPTIONS, CASES, HIGH_ORDER, LABELS, Q, X, assert_close, build, case, parameters
from exactness import assert_normal_numbers_within, rows_of_subnormal_exponentials
from torch._dynamo.testing import CompileCounterWithBackend
from torch.func import grad, grad_and_value, hessian, jacfwd, jvp, vjp, vmap

import xpent

# The compiler uses deprecated functions of PyTorch; all other warnings are errors.
pytestmark = [
    pytest.mark.library("torch"),
    pytest.mark.filterwarnings("ignore:.*autograd.function.Function.* should not be instantiated:DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def _reset_compiler():
    torch.compiler.reset()


def compiled(function, backend="inductor"):
    return torch.compile(function, fullgraph=True, backend=backend)


def backward(function, primals, *fixed):
    primals = [array.detach().requires_grad_() for array in primals]
    value = function(*primals, *fixed)
    cotangent = torch.linspace(2, 3, value.numel()).reshape(value.shape).to(value)
    return [value, *torch.autograd.grad(value, primals, cotangent)]


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_forward_and_backward_agree_with_the_textbook(case, asarray):
    ours, theirs, primals = build(case, torch, asarray)
    assert_close(backward(compiled(ours, "aot_eager"), primals), backward(theirs, primals), case, order=1)


GENERATED = [case for case in CASES if case.id in ("softmax where", "log_softmax tuple of axes", *HIGH_ORDER)]


@pytest.mark.parametrize("case", parameters(GENERATED, selected=("log_softmax tuple of axes", ALL_OPTIONS.id)))
def test_generated_code_agrees_with_the_textbook(case, asarray):
    ours, theirs, primals = build(case, torch, asarray)
    assert_close(backward(compiled(ours), primals), backward(theirs, primals), case, order=1)


def loss(x, t):
    return xpent.cross_entropy(x, t, class_weight=2 * t.new_ones(4), label_smoothing=0.1, z_loss=0.1, ignore_index=0)


VALUE_AND_GRAD = xpent.value_and_grad(xpent.cross_entropy)
OF_TORCH_FUNC = {
    "grad": grad(loss),
    "vmap of grad": vmap(grad(loss)),
    "jvp": lambda x, t: jvp(lambda x: loss(x, t), (x,), (x,)),
    "hessian": hessian(loss),
}
MORE_OF_TORCH_FUNC = {
    "grad and value": grad_and_value(loss),
    "grad of grad": grad(lambda x, t: grad(loss)(x, t).square().sum()),
    "jacfwd": jacfwd(loss),
    "vjp of log_softmax": lambda x, _: vjp(xpent.log_softmax, x)[1](x),
    "jacfwd of softmax": lambda x, _: jacfwd(xpent.softmax)(x[0]),
}
OF_XPENT = {
    "xpent.grad": xpent.grad(xpent.cross_entropy),
    "xpent.value_and_grad": lambda x, t: VALUE_AND_GRAD(x, t, class_weight=2 * t.new_ones(4), z_loss=0.1),
    "xpent.value_and_grad made inside": lambda x, t: xpent.value_and_grad(xpent.cross_entropy)(x, t),
    "xpent.vjp": lambda x, t: xpent.vjp(xpent.cross_entropy, x, t)[1](x.new_ones(())),
    "xpent.jvp": lambda x, t: xpent.jvp(xpent.cross_entropy, (x, t), (x, None)),
    "vmap of xpent.grad": lambda x, t: vmap(lambda x, t: xpent.grad(xpent.cross_entropy)(x, t))(x, t),
    "xpent.softmax_jacobian": lambda x, _: xpent.softmax_jacobian(x),
}


@pytest.mark.parametrize("transform", OF_XPENT)
def test_derivatives_inside_a_compiled_function_agree_with_eager_ones(transform, asarray):
    arrays, function = [asarray(X), asarray(LABELS)], OF_XPENT[transform]
    assert_close(compiled(function, "aot_eager")(*arrays), function(*arrays), case("", "cross_entropy", X), order=2)


@pytest.mark.parametrize("argnums", [(1, 0), *(pytest.param(one, marks=pytest.mark.thorough) for one in ((0,), (1,)))])
def test_axis_and_argnums_may_be_dynamic(argnums, asarray):
    """With dynamic shapes, the compiler evaluates 0 in (0,) as false if the zero is symbolic."""
    x, q, function = asarray(X), asarray(Q), xpent.value_and_grad(xpent.cross_entropy, argnums)
    for axis in (0, 1):
        found = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")(x, q, axis=axis)
        assert_close(found, function(x, q, axis=axis), case("", "cross_entropy", X), order=2)


@pytest.mark.parametrize(
    "function",
    [
        *(pytest.param(function, id=name) for name, function in OF_TORCH_FUNC.items()),
        *(pytest.param(f, id=name, marks=pytest.mark.thorough) for name, f in MORE_OF_TORCH_FUNC.items()),
    ],
)
def test_torch_func_inside_a_compiled_function_is_rejected_or_correct(function, asarray):
    """The compiler would differentiate the maximum, whose subgradient at ties is not the derivative."""
    arrays = [asarray(0 * X), asarray(LABELS)]
    with pytest.raises(torch._dynamo.exc.Unsupported):
        compiled(function, "aot_eager")(*arrays)
    torch.compiler.reset()
    with_breaks = torch.compile(function, backend="aot_eager")
    assert_close(with_breaks(*arrays), function(*arrays), case("", "cross_entropy", X), order=2)


def test_error_for_torch_func_suggests_xpent_functions(asarray):
    with pytest.raises(torch._dynamo.exc.Unsupported, match=r"use xpent\.grad, xpent\.vjp or xpent\.jvp"):
        compiled(lambda x: grad(xpent.logsumexp)(x), "aot_eager")(asarray(X[0]))


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_hand_written_backward_pass_is_used(backend, asarray):
    """Automatic differentiation of the forward pass would give p_t - 1 = 0 here."""
    x, t, truth = asarray([100.0, 80.0, 0.0]), asarray(0), 2.0611536181902037e-9
    tolerance = (4 + 100) * 2.0**-24
    value, gradient = backward(compiled(xpent.cross_entropy, backend), [x], t)
    again, same = compiled(VALUE_AND_GRAD, backend)(x, t)
    for actual in (value, again, -gradient[0] / 2, gradient[1] / 2, -same[0], same[1]):
        assert actual.item() == pytest.approx(truth, rel=tolerance, abs=0)


def test_label_out_of_range_makes_its_row_nan(asarray):
    x, labels = asarray(X), asarray([0, 4, -1])
    function = functools.partial(xpent.cross_entropy, reduction="none")
    losses, gradient = backward(compiled(function), [x], labels)
    assert torch.isnan(losses).tolist() == [False, True, True]
    assert torch.isnan(gradient).any(-1).tolist() == [False, True, True]
    losses, gradient = backward(compiled(functools.partial(function, ignore_index=4)), [x[:2]], labels[:2])
    assert not torch.isnan(losses).any()
    assert not gradient[1].any()


def test_one_graph_is_used_for_all_numbers_of_rows_and_classes(device):
    counter = CompileCounterWithBackend("aot_eager")
    function = torch.compile(xpent.cross_entropy, fullgraph=True, dynamic=True, backend=counter)
    graphs = []
    for rows, classes in ((3, 4), (5, 7), (8, 6)):
        x, t = torch.randn(rows, classes, dtype=torch.float64, device=device), torch.arange(rows, device=device) % 4
        actual, expected = backward(function, [x], t), backward(xpent.cross_entropy, [x], t)
        assert_close(actual, expected, case("", "cross_entropy", x.cpu().numpy()), order=1)
        graphs.append(counter.frame_count)
    assert len(set(graphs)) == 1


def test_second_call_in_a_new_process_does_not_recompile(monkeypatch, asarray):
    monkeypatch.setattr("xpent._backends.registry._by_type", {})
    counter = CompileCounterWithBackend("aot_eager")
    function = torch.compile(xpent.cross_entropy, fullgraph=True, backend=counter)
    for _ in range(2):
        function(asarray(X), asarray(LABELS))
    assert counter.frame_count == 1


@pytest.mark.parametrize("dynamic", [False, True])
def test_sum_of_a_long_row_is_accurate(dynamic, device):
    """On a CPU the compiled code adds the entries one by one."""
    x = torch.rand(4, 50257, generator=torch.Generator().manual_seed(0)).to(device)
    t, function = x.argmin(-1), xpent.value_and_grad(xpent.cross_entropy)
    loss, gradient = torch.compile(function, fullgraph=True, dynamic=dynamic)(x, t)
    exact_loss, exact = function(x.double(), t)
    units = 4 + 2 * (x.amax(-1, keepdim=True) - x.amin(-1, keepdim=True))
    assert ((gradient - exact).abs() <= units * 2.0**-24 * exact.abs()).all()
    assert (loss - exact_loss).abs() <= units.max() * 2.0**-24 * exact_loss


@pytest.mark.parametrize(
    ("kind", "dynamic"),
    [
        ("indices", False),
        ("one-hot", True),
        *(pytest.param(*both, marks=pytest.mark.thorough) for both in (("indices", True), ("one-hot", False))),
    ],
)
def test_sums_of_subnormal_exponentials_are_within_the_bound(kind, dynamic, device):
    of_loss = functools.partial(xpent.cross_entropy, reduction="none")
    function = torch.compile(of_loss, fullgraph=True, dynamic=dynamic)
    for largest in (97.0, 95.0, 88.0):
        x, labels, exact_loss, exact, units = rows_of_subnormal_exponentials(largest)
        targets = labels if kind == "indices" else (np.arange(x.shape[1]) == labels[:, None]).astype("f4")
        x, targets = torch.tensor(x, dtype=torch.float32, device=device), torch.tensor(targets, device=device)
        losses = function(x.requires_grad_(), targets)
        (gradient,) = torch.autograd.grad(losses.sum(), x)
        assert_normal_numbers_within(losses.detach().cpu(), exact_loss, units[:, 0])
        assert_normal_numbers_within(gradient.cpu(), exact, units)


@pytest.mark.parametrize("dtype", [pytest.param(torch.float16, marks=pytest.mark.thorough), torch.bfloat16], ids=str)
def test_half_precision_logits_give_a_float32_loss_and_a_gradient_in_their_dtype(dtype, device):
    x, t = torch.tensor(X, device=device, dtype=dtype), torch.tensor(LABELS, device=device)
    (value, gradient), expected = backward(compiled(xpent.cross_entropy), [x], t), backward(xpent.cross_entropy, [x], t)
    assert (value.dtype, gradient.dtype) == (torch.float32, dtype)
    tolerance = case("", "cross_entropy", X)
    assert_close(value, expected[0], tolerance, order=1, u=2.0**-24)
    assert_close(gradient, expected[1], tolerance, order=1, u=torch.finfo(dtype).eps / 2)


def test_layer_under_autocast_and_its_loss_are_one_graph(device):
    layer, t = torch.nn.Linear(4, 4, device=device), torch.tensor(LABELS, device=device)

    def step(x):
        with torch.autocast(device, dtype=torch.bfloat16):
            return xpent.cross_entropy(layer(x), t)

    actual, expected = [backward(f, [torch.tensor(X, device=device).float()]) for f in (compiled(step), step)]
    assert [array.dtype for array in actual] == [array.dtype for array in expected] == [torch.float32] * 2
    assert_close(actual, expected, case("", "cross_entropy", X), order=1, u=2.0**-8)


@pytest.mark.parametrize("name", ["class_weight", "sample_weight", "normalizer", "label_smoothing", "z_loss"])
def test_gradient_of_a_constant_is_rejected(name, device):
    x, t = torch.ones(4, 4, device=device), torch.arange(4, device=device)
    constant = torch.ones(4 if name.endswith("weight") else (), device=device, requires_grad=True)
    function = compiled(lambda x, constant: xpent.cross_entropy(x, t, **{name: constant}), "aot_eager")
    with pytest.raises(Exception, match=f"{name} is a constant"):
        function(x, constant).backward()


def test_value_is_the_same_without_gradients(asarray):
    ours, theirs, primals = build(ALL_OPTIONS, torch, asarray)
    function = compiled(ours)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            value = function(*primals)
        assert not value.requires_grad
        assert_close(value, theirs(*primals), ALL_OPTIONS, order=0)
