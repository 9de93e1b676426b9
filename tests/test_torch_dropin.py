"""`xpent.torch` compared with torch.nn.functional and torch.nn: signatures, values, gradients, errors and modules."""

import copy
import doctest
import inspect
import pickle
import random
import re
import warnings

import pytest
import torch
from torch.nn import functional

import xpent
import xpent.torch as ours
from xpent import conformance
from xpent._engine.call import bind_call

# The compiler uses deprecated functions of PyTorch; all other warnings are errors.
pytestmark = [
    pytest.mark.library("torch"),
    pytest.mark.filterwarnings("ignore:.*autograd.function.Function.* should not be instantiated:DeprecationWarning"),
]
INF, NAN = float("inf"), float("nan")
FUNCTIONS = ("cross_entropy", "linear_cross_entropy", "log_softmax", "nll_loss", "softmax")
MODULES = ("CrossEntropyLoss", "LinearCrossEntropyLoss", "LogSoftmax", "NLLLoss", "Softmax")
UNIT = {dtype: torch.finfo(dtype).eps / 2 for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16)}


def parameters(function):
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_signatures_of_functions_are_those_of_torch(name):
    assert parameters(getattr(ours, name)) == parameters(getattr(functional, name))


@pytest.mark.parametrize("name", MODULES)
def test_signatures_of_modules_are_those_of_torch(name):
    module, original = getattr(ours, name), getattr(torch.nn, name)
    assert parameters(module) == parameters(original)
    assert parameters(module.forward) == parameters(original.forward)


def test_signature_of_logsumexp_is_the_documented_one():
    documented = torch.logsumexp.__doc__.strip().splitlines()[0].partition(" -> ")[0]
    namespace = {}
    exec(f"def {documented}: pass", namespace)
    assert parameters(ours.logsumexp) == parameters(namespace["logsumexp"])


@pytest.mark.parametrize("name", [*FUNCTIONS, "logsumexp", "patch"])
def test_docstrings_describe_every_parameter_and_their_examples_pass(name):
    function = getattr(ours, name)
    text = inspect.getdoc(function)
    for section in ("Returns", "Raises", "Notes", "Examples"):
        assert f"\n{section}\n{'-' * len(section)}\n" in text
    for parameter in inspect.signature(function).parameters:
        assert re.search(rf"(^|, ){parameter}(, \w+)* : ", text, re.MULTILINE), parameter
    (test,) = doctest.DocTestFinder(recurse=False).find(function, name, globs={})
    assert doctest.DocTestRunner().run(test).failed == 0


def random_call(generator):
    """Logits, targets and options of cross_entropy without confident rows, so that PyTorch is accurate."""
    shape = generator.choice([(5,), (4, 5), (3, 5, 2), (2, 5, 2, 3)])
    axis = min(len(shape), 2) - 1
    has_probabilities = generator.random() < 0.4
    options = {"reduction": generator.choice(["mean", "sum", "none"])}
    if generator.random() < 0.5:
        options["label_smoothing"] = generator.choice([0.1, 0.5, 1.0, 0.0])
    if generator.random() < 0.5:
        options["weight"] = torch.rand(5, dtype=torch.float64) + 0.1
    if generator.random() < 0.2:
        del options["reduction"]
        options["size_average"] = generator.choice([None, True, False])
        options["reduce"] = generator.choice([True, False])
    batch = [n for i, n in enumerate(shape) if i != axis]
    x = 2.0 * torch.randn(shape, dtype=torch.float64)
    if has_probabilities:
        return x, torch.rand(shape, dtype=torch.float64), options
    targets = torch.randint(5, batch)
    if generator.random() < 0.5:
        options["ignore_index"] = generator.choice([-100, -1, 2, 7])
        targets = torch.where(torch.rand(batch) < 0.3, options["ignore_index"], targets)
    if len(shape) <= 2 and generator.random() < 0.3 and not (targets < 0).any():
        targets = targets.to(torch.uint8)
    return x, targets, options


def loss_and_gradients(function, x, target, options):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "size_average and reduce", UserWarning)
        x = x.detach().requires_grad_()
        is_soft = target.is_floating_point()
        target = target.detach().requires_grad_() if is_soft else target
        value = function(x, target, **options)
        cotangent = torch.linspace(0.5, 1.0, value.numel(), dtype=value.dtype).reshape(value.shape)
        return value, *torch.autograd.grad(value, (x, target) if is_soft else x, cotangent)


def units(found, expected, u):
    """The largest error in units of u, for gradients relative to the largest entry."""
    assert torch.equal(found.isnan(), expected.isnan())
    found, expected = found.detach(), expected.detach()
    error = (found.double() - expected.double()).nan_to_num().abs().amax()
    return float(error / (u * expected.double().nan_to_num().abs().amax()).clamp_min(1e-300))


@pytest.mark.parametrize("dtype", UNIT, ids=lambda dtype: str(dtype).removeprefix("torch."))
def test_losses_and_gradients_of_random_options_agree_with_torch(dtype):
    generator, worst = random.Random(0), 0.0
    for _ in range(400):
        x, target, options = random_call(generator)
        x = x.to(dtype)
        target = target.to(dtype) if target.is_floating_point() else target
        if "weight" in options:
            options["weight"] = options["weight"].to(dtype)
        found = loss_and_gradients(ours.cross_entropy, x, target, options)
        exact = {name: o.double() if isinstance(o, torch.Tensor) else o for name, o in options.items()}
        theirs = (
            target if target.is_floating_point() else target.long()
        )  # PyTorch does not support uint8 labels with smoothing
        wide = theirs.double() if target.is_floating_point() else theirs
        expected = loss_and_gradients(functional.cross_entropy, x.double(), wide, exact)
        native = loss_and_gradients(functional.cross_entropy, x, theirs, options)
        for one, other, of_torch in zip(found, expected, native, strict=True):
            assert (one.dtype, one.shape) == (of_torch.dtype, of_torch.shape)
            worst = max(worst, units(one, other, UNIT[dtype]))
    # In float64 both round sums of at most 60 terms; in smaller dtypes cotangents are rounded as well.
    assert worst < 16


@pytest.mark.parametrize("dtype", UNIT, ids=lambda dtype: str(dtype).removeprefix("torch."))
def test_softmax_functions_agree_with_torch(dtype):
    for shape, dims in (((), (0, -1)), ((4,), (0,)), ((3, 4), (0, 1, -1)), ((2, 3, 4), (0, 1, 2))):
        x = torch.randn(shape, dtype=torch.float64).to(dtype)
        for name, dim in [(name, dim) for name in ("softmax", "log_softmax", "logsumexp") for dim in dims]:
            original = torch.logsumexp if name == "logsumexp" else getattr(functional, name)
            found, expected = getattr(ours, name)(x, dim), original(x.double(), dim)
            assert (found.dtype, found.shape) == (dtype, expected.shape)
            assert units(found, expected, UNIT[dtype]) < 8
    x = torch.randn(3, 4)
    for name in ("softmax", "log_softmax"):
        function, original = getattr(ours, name), getattr(functional, name)
        for other in (x, torch.randn(2, 3, 4), torch.randn(3)):
            with pytest.warns(UserWarning, match="Implicit dimension") as caught:
                torch.testing.assert_close(function(other), original(other))
            assert {warning.filename for warning in caught} == {__file__}
        assert function(x.half(), 1, dtype=torch.float32).dtype == torch.float32
        assert function(x.to(torch.int32), 1, dtype=torch.float64).dtype == torch.float64
        assert function(x[:, :0], 1).shape == (3, 0)


def test_logsumexp_accepts_the_arguments_of_torch():
    x = torch.randn(2, 3, 4)
    for dim in (0, (0, 1), [0, -1], (0, 1, 2), torch.tensor(1)):
        for keepdim in (False, True):
            torch.testing.assert_close(ours.logsumexp(x, dim, keepdim), torch.logsumexp(x, dim, keepdim))
    for other in (x.to(torch.int64), x > 0, x.to(torch.complex64), x[:0], torch.tensor(2.0), x[..., :0]):
        torch.testing.assert_close(ours.logsumexp(other, -1), torch.logsumexp(other, -1))
    out = torch.empty(0, dtype=torch.float64)
    assert ours.logsumexp(x, 1, out=out) is out
    torch.testing.assert_close(out, torch.logsumexp(x, 1).double())


def test_linear_cross_entropy_agrees_with_torch():
    generator, worst = random.Random(1), 0.0
    for _ in range(80):
        positions = generator.choice([(), (), (2,), (2, 3)])
        rows = () if not positions and generator.random() < 0.3 else (6,)
        x = torch.randn(*rows, 4, dtype=torch.float64)
        layer, bias = [torch.randn(5, *positions, *last, dtype=torch.float64) for last in ((4,), ())]
        options = {"reduction": generator.choice(["mean", "sum", "none"])}
        options["label_smoothing"] = generator.choice([0.0, 0.2])
        options["linear_bias"] = generator.choice([None, bias])
        options["weight"] = generator.choice([None, torch.rand(5, dtype=torch.float64)])
        target = torch.randint(5, (*rows, *positions))
        if generator.random() < 0.3:
            target = torch.rand(*rows, 5, *positions, dtype=torch.float64)
        elif generator.random() < 0.5:
            options["ignore_index"] = 2
        answers = []
        for function in (ours.linear_cross_entropy, functional.linear_cross_entropy):
            primals = [v.detach().requires_grad_() for v in (x, layer)]
            value = function(*primals, target, **options)
            answers.append([value, *torch.autograd.grad(value.sum(), primals)])
        for one, other in zip(*answers, strict=True):
            assert (one.dtype, one.shape) == (other.dtype, other.shape)
            worst = max(worst, units(one, other, UNIT[torch.float64]))
    assert worst < 64


def test_options_of_the_linear_layer_are_accepted_with_a_warning():
    x, layer, target = torch.randn(6, 4), torch.randn(5, 4), torch.randint(5, (6,))
    options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=2, chunking_method=None)
    expected = functional.linear_cross_entropy(x, layer, target)
    torch.testing.assert_close(ours.linear_cross_entropy(x, layer, target, options=options), expected)
    with pytest.warns(UserWarning, match="options are ignored"):
        ours.linear_cross_entropy(x, layer[:, None], target[:, None], options=options)


X, T, Q, W = (
    torch.arange(12.0).reshape(4, 3).sin(),
    torch.tensor([0, 1, 2, 0]),
    torch.full((4, 3), 1 / 3),
    torch.ones(3),
)
BAD_LOSSES = [
    ((X, T + 5), {}), ((X, T - 1), {}), ((X, T + 5), {"label_smoothing": 0.1}), ((X, T[:3]), {}), ((X, T[:, None]), {}),
    ((X[0], T), {}), ((X[0, 0], T[0]), {}), ((X.long(), T), {}), ((X.to(torch.complex64), T), {}), ((X, T.int()), {}),
    ((X, T.float()), {}), ((X, T > 0), {}), ((X, T, W.double()), {}), ((X, T, W[:2]), {}), ((X, T, W[:, None]), {}),
    ((X, Q, W[:2]), {}), ((X, Q.long()), {}), ((X, Q), {"ignore_index": 1}), ((X, T), {"ignore_index": None}),
    ((X, T), {"ignore_index": 1.0}), ((X, T), {"ignore_index": True}), ((X, T), {"label_smoothing": 1.5}),
    ((X, T), {"label_smoothing": "a"}), ((X, T), {"reduction": "foo"}), ((X, T), {"reduction": None}),
    ((X.numpy(), T), {}), ((X, T.numpy()), {}), ((X, [0, 1, 2, 0]), {}), ((X, T, [1.0, 1.0, 1.0]), {}),
    ((X[:, :0], T), {}),
    ((X, T, W.clone().requires_grad_()), {}), ((X.to("meta"), T), {}), ((X,), {}), ((X, T), {"axis": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "options"), BAD_LOSSES)
def test_invalid_calls_of_cross_entropy_raise_the_errors_of_torch(arguments, options):
    with pytest.raises(Exception) as expected:  # noqa: PT011 - whichever it is
        functional.cross_entropy(*arguments, **options)
    with pytest.raises(expected.type):
        ours.cross_entropy(*arguments, **options)


BAD_ROWS = [(X, 2), (X, -3), (X, (0, 1)), (X, 1.0), (X, True), (X, "a"), ([1.0], 0), (torch.tensor(1.0), 1)]


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_invalid_calls_of_softmax_functions_raise_the_errors_of_torch(name):
    original = torch.logsumexp if name == "logsumexp" else getattr(functional, name)
    calls = [call for call in BAD_ROWS if name != "logsumexp" or call[1] not in ((0, 1), True)]
    calls += [(X, (0, 0)), (X, None), (X, ())] if name == "logsumexp" else [(X.long(), 1), (X.to(torch.complex64), 1)]
    for call in calls:
        with pytest.raises(Exception) as expected:  # noqa: PT011 - whichever it is
            original(*call)
        with pytest.raises(expected.type):
            getattr(ours, name)(*call)
    if name == "logsumexp":
        for out in (torch.empty(4, dtype=torch.int64), torch.empty(4, requires_grad=True)):
            with pytest.raises(RuntimeError):
                ours.logsumexp(X, 1, out=out)


def test_invalid_calls_of_linear_cross_entropy_raise_the_errors_of_torch():
    layer = torch.ones(5, 3)
    calls = [
        ((X[None], layer, T), {}), ((X, layer[0], T), {}), ((X[:, :2], layer, T), {}), ((X, layer.double(), T), {}),
        ((X, layer, T + 9), {}), ((X, layer, T), {"linear_bias": W}), ((X[0], layer[:, None], T[:1]), {}),
        ((X, layer, torch.ones(4, 5)), {"ignore_index": -1}),
        ((X, layer[:, None], torch.ones(4, 5, 1)), {"ignore_index": -1}),
        ((X, layer, T), {"options": {}}), ((X, layer, T.int()), {}), ((X, layer, T), {"label_smoothing": 2.0}),
    ]  # fmt: skip
    for arguments, options in calls:
        with pytest.raises(Exception) as expected:  # noqa: PT011 - whichever it is
            functional.linear_cross_entropy(*arguments, **options)
        with pytest.raises(expected.type):
            ours.linear_cross_entropy(*arguments, **options)


def test_negative_label_smoothing_is_rejected():
    for value in (-0.5, NAN):
        with pytest.raises(RuntimeError, match=r"between 0\.0 and 1\.0"):
            ours.cross_entropy(X, T, label_smoothing=value)


def test_scalar_tensors_and_deprecated_arguments_are_accepted_as_in_torch():
    import numpy as np

    expected = functional.cross_entropy(X, T, ignore_index=1, label_smoothing=0.25)
    for ignore_index, smoothing in ((np.int64(1), np.float64(0.25)), (torch.tensor(1), torch.tensor(0.25))):
        found = ours.cross_entropy(X, T, ignore_index=ignore_index, label_smoothing=smoothing)
        torch.testing.assert_close(found, expected)
    with pytest.warns(UserWarning, match="reduction='sum'") as caught:
        torch.testing.assert_close(
            ours.cross_entropy(X, T, size_average=False), functional.cross_entropy(X, T, reduction="sum")
        )
    assert caught[0].filename == __file__
    torch.testing.assert_close(
        ours.cross_entropy(X, T, W, None, -100, None, "sum"), functional.cross_entropy(X, T, reduction="sum")
    )


def test_mean_over_no_rows_is_nan_as_in_torch():
    nothing = torch.full_like(T, -100)
    calls = [((X[:0], T[:0]), {}), ((X[:0], Q[:0]), {}), ((X, nothing), {}), ((X, nothing, W), {}), ((X, T, 0 * W), {}),
             ((X, nothing), {"label_smoothing": 0.1}), ((X[0], nothing[0]), {}),
             ((X.masked_fill(X > 0.9, -INF), nothing), {"label_smoothing": 0.1})]  # fmt: skip
    for arguments, options in calls:
        for reduction in ("mean", "sum", "none"):
            found, expected = [
                f(*arguments, reduction=reduction, **options) for f in (ours.cross_entropy, functional.cross_entropy)
            ]
            torch.testing.assert_close(found, expected, equal_nan=True)
        assert ours.cross_entropy(*arguments, **options).isnan()
        x, *rest = arguments
        found, expected = [
            torch.func.grad(f)(x, *rest, **options) for f in (ours.cross_entropy, functional.cross_entropy)
        ]
        torch.testing.assert_close(found, expected.nan_to_num())  # PyTorch returns NaN if all weights are 0
    layer = torch.eye(3)
    assert ours.linear_cross_entropy(X, layer, nothing).isnan()


def test_rows_of_minus_infinity_are_nan_as_in_torch():
    x = torch.tensor([[-INF, -INF, -INF], [0.0, 1.0, -INF], [-INF, 1.0, 0.0]], requires_grad=True)
    for name in ("softmax", "log_softmax"):
        torch.testing.assert_close(getattr(ours, name)(x, 1), getattr(functional, name)(x, 1), equal_nan=True)
        assert getattr(ours, name)(x, 0).isfinite().any()
    for target in (torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0]), torch.tensor([-100, 1, 1])):
        for reduction in ("none", "mean", "sum"):
            found, expected = [
                f(x, target, reduction=reduction) for f in (ours.cross_entropy, functional.cross_entropy)
            ]
            torch.testing.assert_close(found, expected, equal_nan=True)
    (gradient,) = torch.autograd.grad(ours.cross_entropy(x, torch.tensor([0, 1, 1])), x)
    assert gradient[0].isnan().all()
    assert gradient[1:].isfinite().all()
    bias = torch.full((3,), -INF)
    assert ours.linear_cross_entropy(X, torch.eye(3), T, linear_bias=bias).isnan()


def test_losses_are_exact_where_torch_is_inaccurate():
    confident = torch.tensor([[0.0, -50.0]], requires_grad=True)
    zero = torch.tensor([0])
    tiny = pytest.approx(1.9287498479639178e-22, rel=1e-6)
    assert functional.cross_entropy(confident, zero) == 0
    loss = ours.cross_entropy(confident, zero)
    assert loss.item() == tiny
    assert torch.autograd.grad(loss, confident)[0].abs().tolist() == [[tiny, tiny]]
    assert -ours.log_softmax(confident, 1)[0, 0].item() == tiny
    assert ours.logsumexp(confident, 1).item() == tiny
    masked, q = torch.tensor([[0.0, -INF, 0.0]]), torch.tensor([[0.5, 0.0, 0.5]])
    assert functional.cross_entropy(masked, q).isnan()
    assert ours.cross_entropy(masked, q).item() == pytest.approx(torch.tensor(2.0).log().item())
    uniform, labels = torch.zeros(70000, 2, dtype=torch.float16), torch.zeros(70000, dtype=torch.int64)
    for weight in (None, torch.ones(2, dtype=torch.float16)):
        assert not abs(functional.cross_entropy(uniform, labels, weight).item() - 0.6931) < 1e-3
        assert ours.cross_entropy(uniform, labels, weight).item() == pytest.approx(0.6931, abs=1e-3)
        assert ours.nll_loss(uniform - 1, labels, weight).item() == 1.0
    images, labels = torch.randn(2, 3, 4, 4), torch.randint(3, (2, 4, 4))
    labels[0, 0] = 255
    found = ours.cross_entropy(images, labels.to(torch.uint8), ignore_index=255)
    torch.testing.assert_close(found, functional.cross_entropy(images, labels, ignore_index=255))


def test_smoothing_is_over_all_classes_as_in_torch():
    x = torch.tensor([[0.0, -INF, 1.0]], dtype=torch.float64, requires_grad=True)
    answers = []
    for function in (ours.cross_entropy, functional.cross_entropy):
        value = function(x, torch.tensor([0]), label_smoothing=0.3)
        answers.append([value, *torch.autograd.grad(value, x)])
    assert answers[0][0] == answers[1][0] == INF
    torch.testing.assert_close(answers[0][1], answers[1][1])
    bias = x.detach()[0]
    layer, labels = torch.zeros(3, 2, dtype=torch.float64), torch.tensor([0])
    found = ours.linear_cross_entropy(torch.zeros(1, 2).double(), layer, labels, linear_bias=bias, label_smoothing=0.3)
    assert found == INF


def test_negative_weights_and_gradients_of_weights_agree_with_torch():
    weight = torch.tensor([1.0, -2.0, 0.5])
    for target in (T, Q):
        torch.testing.assert_close(ours.cross_entropy(X, target, weight), functional.cross_entropy(X, target, weight))
    weight.requires_grad_()
    found, expected = [
        torch.autograd.grad(f(X, Q, weight), weight) for f in (ours.cross_entropy, functional.cross_entropy)
    ]
    torch.testing.assert_close(found, expected)


def test_autocast_and_mixed_dtypes_return_the_dtypes_of_torch():
    half = torch.bfloat16
    calls = [
        (X.to(half), T),
        (X.to(half), T, W),
        (X.to(half), T, W.to(half)),
        (X, T, W.to(half)),
        (X.to(half), Q.to(half)),
    ]
    with torch.autocast("cpu", half):
        for call in calls:
            found, expected = ours.cross_entropy(*call), functional.cross_entropy(*call)
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
            assert found.dtype == torch.float32
        for name in ("softmax", "log_softmax"):
            assert getattr(ours, name)(X.to(half), 1).dtype == getattr(functional, name)(X.to(half), 1).dtype
        linear = [f(X, torch.eye(3), T) for f in (ours.linear_cross_entropy, functional.linear_cross_entropy)]
        torch.testing.assert_close(*linear, rtol=1e-5, atol=1e-5)
        assert ours.nll_loss(X.to(half), T).dtype == torch.float32
    for call in ((X, Q.double()), (X.half(), Q), (X, Q.half()), (X, Q, W.double())):
        found, expected = ours.cross_entropy(*call), functional.cross_entropy(*call)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def modules(package):
    weight = torch.tensor([1.0, 2.0, 0.5])
    return [
        package.CrossEntropyLoss(weight, ignore_index=1, label_smoothing=0.1), package.NLLLoss(weight, reduction="sum"),
        package.Softmax(1), package.LogSoftmax(1), package.LinearCrossEntropyLoss(3, 3, bias=True, weight=weight),
    ]  # fmt: skip


def call(module):
    takes_target = "target" in inspect.signature(module.forward).parameters
    dtype = next(iter(module.state_dict().values()), X).dtype
    return module(X.to(dtype), T) if takes_target else module(X.to(dtype))


@pytest.mark.parametrize("index", range(len(MODULES)))
def test_modules_replace_those_of_torch(index):
    module, original = modules(ours)[index], modules(torch.nn)[index]
    assert isinstance(module, type(original))
    assert repr(module) == repr(original)
    original.load_state_dict(module.state_dict())
    torch.testing.assert_close(call(module), call(original), rtol=1e-5, atol=1e-6)
    for other in (pickle.loads(pickle.dumps(module)), copy.deepcopy(module)):
        assert type(other) is type(module)
        torch.testing.assert_close(call(other), call(module), rtol=0, atol=0)
    for changed in (copy.deepcopy(module).half(), copy.deepcopy(module).to(torch.float64)):
        assert call(changed).dtype == next(iter(changed.state_dict().values()), X).dtype


def test_softmax_module_without_a_dimension_warns_as_in_torch():
    for module, original in ((ours.Softmax(), torch.nn.Softmax()), (ours.LogSoftmax(), torch.nn.LogSoftmax())):
        with pytest.warns(UserWarning, match="Implicit dimension") as caught:
            torch.testing.assert_close(module(X), original(X))
        assert len({(str(warning.message), warning.filename, warning.lineno) for warning in caught}) == 1


@pytest.mark.parametrize("name", MODULES)
def test_error_for_scripting_a_module_suggests_alternatives(name):
    (module,) = [module for module in modules(ours) if type(module).__name__ == name]
    for model in (module, torch.nn.Sequential(module)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            with pytest.raises(RuntimeError, match=f"torch.compile.*torch.nn.{name}"):
                torch.jit.script(model)


def test_compiled_model_uses_the_modules_without_graph_breaks():
    def model(x, target, q):
        loss = ours.CrossEntropyLoss(label_smoothing=0.1)(x, target) + ours.cross_entropy(x, target, W)
        return (
            loss
            + ours.cross_entropy(x, q)
            + (ours.softmax(x, 1) * ours.log_softmax(x, 1)).sum()
            + ours.logsumexp(x, 1).sum()
        )

    answers = []
    for function in (model, torch.compile(model, backend="aot_eager", fullgraph=True)):
        x = X.clone().requires_grad_()
        value = function(x, T, Q)
        answers.append([value, *torch.autograd.grad(value, x)])
    for found, expected in zip(*answers, strict=True):
        torch.testing.assert_close(found, expected)
    nothing = torch.compile(ours.cross_entropy, backend="aot_eager", fullgraph=True)(X, torch.full_like(T, -100))
    assert nothing.isnan()


class Classifier(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.loss = torch.nn.Linear(3, 4), ours.CrossEntropyLoss(label_smoothing=0.25)

    def forward(self, features, labels):
        return self.loss(self.linear(features), labels)


def test_symbolic_tracing_records_the_functions_of_xpent():
    model, arrays = Classifier(), (torch.randn(2, 3), torch.tensor([3, 0]))
    traced = torch.fx.symbolic_trace(model)
    assert ours.cross_entropy in [node.target for node in traced.graph.nodes]
    assert torch.equal(traced(*arrays), model(*arrays))


def test_torch_function_modes_and_subclasses_see_the_functions_of_xpent():
    class Names(torch.overrides.TorchFunctionMode):
        def __init__(self):
            super().__init__()
            self.seen = []

        def __torch_function__(self, function, types, args=(), kwargs=None):
            self.seen.append(function)
            return function(*args, **(kwargs or {}))

    class Labelled(torch.Tensor):
        pass

    logits, labels = torch.tensor([[100.0, 80.0]]), torch.tensor([0])
    with Names() as names:
        ours.cross_entropy(logits, labels, label_smoothing=0.25)
    assert names.seen[0] is ours.cross_entropy
    for arrays, options in (((logits.as_subclass(Labelled), labels), {}), ((logits,), {"target": labels})):
        loss = ours.cross_entropy(*arrays, weight=torch.ones(2).as_subclass(Labelled), **options)
        assert type(loss) is Labelled
        assert 0.0 < loss < 1e-8


@pytest.mark.parametrize("smoothing", [0.0, 0.25])
def test_compiled_autograd_runs_the_backward_pass_of_an_eager_forward_pass(smoothing):
    def gradient(loss):
        logits = torch.tensor([[100.0, 80.0, 0.0], [1.0, 2.0, 3.0]], requires_grad=True)
        loss(logits, torch.tensor([0, 1]), label_smoothing=smoothing).backward()
        return logits.grad

    with torch._dynamo.compiled_autograd._enable(torch.compile(backend="eager", fullgraph=True)):
        found = gradient(ours.cross_entropy)
    torch.testing.assert_close(found, gradient(ours.cross_entropy))
    torch.testing.assert_close(found, gradient(functional.cross_entropy))


@pytest.mark.parametrize("targets", [T, Q], ids=["indices", "probabilities"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_transforms_of_torch_func_and_second_derivatives_agree_with_torch(targets, smoothing):
    x = X.double()
    targets = targets.double() if targets.is_floating_point() else targets
    answers = []
    for function in (ours.cross_entropy, functional.cross_entropy):

        def loss(x, t, function=function):
            return function(x, t, label_smoothing=smoothing)

        per_row = torch.func.vmap(torch.func.grad(loss))(x, targets)
        hessian = torch.func.hessian(lambda x, loss=loss: loss(x, targets))(x)
        answers.append([per_row, hessian])
    for found, expected in zip(*answers, strict=True):
        torch.testing.assert_close(found, expected)
    assert torch.autograd.gradgradcheck(
        lambda x: ours.cross_entropy(x, targets, label_smoothing=smoothing), x.requires_grad_()
    )


def test_label_out_of_range_is_nan_if_data_cannot_be_read():
    wrong = torch.tensor([0, 7, 2, 0])
    for smoothing in (0.0, 0.1):
        losses = torch.func.vmap(lambda x, t, s=smoothing: ours.cross_entropy(x, t, label_smoothing=s))(X, wrong)
        assert losses.isnan().tolist() == [False, True, False, False]


def test_patch_replaces_and_restores_the_function():
    original, module = functional.cross_entropy, torch.nn.CrossEntropyLoss()
    x, target = torch.tensor([[0.0, -50.0]]), torch.tensor([0])
    with ours.patch():
        assert functional.cross_entropy is ours.cross_entropy
        assert module(x, target) > 0
        with pytest.raises(IndexError):
            module(x, target + 5)
        with pytest.raises(RuntimeError, match="patched already"), ours.patch():
            pass
        assert functional.cross_entropy is ours.cross_entropy
        assert torch.compile(module, backend="aot_eager", fullgraph=True)(x, target) > 0
    assert functional.cross_entropy is original

    @ours.patch()
    def fail():
        assert functional.cross_entropy is ours.cross_entropy
        raise KeyError

    for _ in range(2):
        with pytest.raises(KeyError):
            fail()
        assert functional.cross_entropy is original


def along(function):
    return lambda x, *, axis=-1: function(x, axis)


def linear(
    features, weight, targets, *, bias=None, class_weight=None, ignore_index=None, label_smoothing=0.0, reduction="mean"
):
    return ours.linear_cross_entropy(
        features, weight, targets, linear_bias=bias, weight=class_weight, ignore_index=ignore_index,
        label_smoothing=label_smoothing, reduction=reduction,
    )  # fmt: skip


SUITE = {
    "cross_entropy": ours.cross_entropy,
    "linear_cross_entropy": linear,
    "softmax": along(ours.softmax),
    "log_softmax": along(ours.log_softmax),
    "logsumexp": along(ours.logsumexp),
}
# Features that PyTorch defines differently or rejects.
LACKS = {
    **{f"{dtype} labels": "refused" for dtype in ("int8", "int16", "int32", "uint16", "uint32", "uint64")},
    "integer distributions": "refused",
    "several class axes": "one dimension",
    "no default ignore_index": "it is -100",
    "several batch axes": "features (N, D)",
}
EXPECTED = {
    "cross_entropy": {
        "all-ignored": "the mean of nothing is NaN",
        "empty-batch-mean": "the mean of nothing is NaN",
        "class-weight-mean-of-one-hot": "divided by the number of rows",
    },
    "linear_cross_entropy": {"linear-all-ignored": "the mean of nothing is NaN"},
}


@pytest.mark.parametrize("name", SUITE)
def test_dropin_passes_the_conformance_suite(name):
    is_loss = name == "cross_entropy"
    report = conformance.check(
        SUITE[name],
        library="torch",
        computes=name,
        dtypes=["float32"],
        signature="torch" if is_loss else "xpent",
        lacks={key: reason for key, reason in LACKS.items() if not (is_loss and key == "several batch axes")},
        expected_failures=EXPECTED.get(name, {}),
    )
    assert sum(outcome.status == "pass" for outcome in report.outcomes) > 5
    assert [(outcome.case, outcome.message) for outcome in report.surprises] == []


def test_ignore_index_that_does_not_occur_is_dropped():
    def bound(*arrays, **options):
        return bind_call(xpent.cross_entropy, arrays, options)

    assert bound(X, T, ignore_index=-100).options.ignore_index is None
    assert bound(X, T, ignore_index=2).options.ignore_index == 2
    assert bound(X, torch.tensor([0, 1, 2, -100]), ignore_index=-100).options.ignore_index == -100
