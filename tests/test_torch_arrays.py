"""Traced and exported tensors, tensor subclasses, nested and captured tensors, and autocast."""

import io
import itertools

import pytest

import xpent

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402, N812
from torch.fx.experimental.proxy_tensor import make_fx  # noqa: E402

pytestmark = pytest.mark.library("torch")
ROWS, CLASSES, DEPTH = 6, 5, 3
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)

FUNCTIONS = {
    "softmax": lambda x, *_: xpent.softmax(x),
    "first axis": lambda x, *_: xpent.softmax(x, axis=0),
    "log_softmax": lambda x, *_: xpent.log_softmax(x),
    "logsumexp": lambda x, *_: xpent.logsumexp(x),
    "indices": lambda x, t, *_: xpent.cross_entropy(x, t),
    "smoothed": lambda x, t, *_: xpent.cross_entropy(x, t, label_smoothing=0.1, z_loss=0.1),
    "rows": lambda x, t, *_: xpent.cross_entropy(x, t, reduction="none", ignore_index=1),
    "distribution": lambda x, *_: xpent.cross_entropy(x, x.detach().softmax(-1)),
    "layer": lambda _, t, h, w: xpent.linear_cross_entropy(h, w, t),
    "layer in blocks": lambda _, t, h, w: xpent.linear_cross_entropy(h, w, t, block_size=2, reduction="none"),
}
every_function = pytest.mark.parametrize("function", FUNCTIONS.values(), ids=list(FUNCTIONS))


def batch(rows, device, scale=1.0):
    generator = torch.Generator().manual_seed(0)
    features = scale * torch.randn(rows, DEPTH, generator=generator).to(device)
    return features, torch.arange(rows, device=device) % CLASSES


class Model(torch.nn.Module):
    def __init__(self, function, device="cpu"):
        super().__init__()
        self.layer, self.function = torch.nn.Linear(DEPTH, CLASSES, device=device), function

    def forward(self, features, labels):
        return self.function(self.layer(features), labels, features, self.layer.weight)


def value_and_gradients(function, arrays):
    arrays = [array.detach().requires_grad_() for array in arrays]
    value = function(*arrays)
    return value.detach(), torch.autograd.grad(value.sum(), arrays)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings(
    "ignore::torch.jit.TracerWarning:xpent"
)  # xpent sets this filter on import, but pytest resets the filters
@every_function
@pytest.mark.parametrize("records", [True, False], ids=["recorded", "not recorded"])
def test_trace_can_be_saved_and_used_with_other_batches(function, records, device):
    model, file = Model(function, device), io.BytesIO()
    with torch.set_grad_enabled(records):
        torch.jit.save(torch.jit.trace(model, batch(ROWS, device)), file)
    file.seek(0)
    loaded = torch.jit.load(file)
    other = batch(ROWS + 3, device, scale=20.0)
    torch.testing.assert_close(loaded(*other), model(*other))
    if records:
        moderate = batch(ROWS + 3, device)  # PyTorch differentiates the traced operations
        actual, expected = [torch.autograd.grad(m(*moderate).sum(), m.layer.weight) for m in (loaded, model)]
        torch.testing.assert_close(actual, expected)


@every_function
@pytest.mark.parametrize("strict", [True, False], ids=["strict", "not strict"])
def test_program_with_a_dynamic_batch_can_be_exported(function, strict, device):
    model = Model(function, device).requires_grad_(False)
    rows = torch.export.Dim("rows", min=2, max=1024)
    program = torch.export.export(model, batch(ROWS, device), dynamic_shapes=({0: rows}, {0: rows}), strict=strict)
    for count in (2, ROWS + 3, 700):
        torch.testing.assert_close(program.module()(*batch(count, device)), model(*batch(count, device)))


@pytest.mark.parametrize("function", [xpent.softmax, xpent.log_softmax, xpent.logsumexp], ids=lambda f: f.__name__)
def test_program_with_a_dynamic_length_can_be_exported(function, device):
    class Attention(torch.nn.Module):
        def forward(self, x):
            return function(x)

    length = torch.export.Dim("length", min=2, max=8192)
    x = torch.randn(2, 8, device=device)
    program = torch.export.export(Attention(), (x,), dynamic_shapes=({1: length},))
    longer = torch.randn(2, 5000, device=device)
    torch.testing.assert_close(program.module()(longer), function(longer))


@every_function
@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
def test_make_fx_traces_value_and_gradient(function, mode, device):
    def gradient(features, labels, weight):
        value = function(features @ weight.T, labels, features, weight)
        return value, *torch.autograd.grad(value.sum(), (features, weight), allow_unused=True, materialize_grads=True)

    def arguments(rows):
        features, labels = batch(rows, device)
        return features.requires_grad_(), labels, weight

    weight = torch.linspace(-1, 1, CLASSES * DEPTH, device=device).reshape(CLASSES, DEPTH).requires_grad_()
    traced = make_fx(gradient, tracing_mode=mode)(*arguments(ROWS))
    other = arguments(ROWS + 3 if mode == "symbolic" else ROWS)
    torch.testing.assert_close(traced(*other), gradient(*other))


@pytest.mark.parametrize("label", [CLASSES, -1])
def test_labels_in_a_tensor_subclass_are_checked_if_data_can_be_read(label):
    class Plain(torch.Tensor):
        pass

    class Overriding(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            return super().__torch_function__(func, types, args, kwargs or {})

    features, labels = batch(ROWS, "cpu")
    labels[2] = label
    weight = torch.randn(CLASSES, DEPTH)
    for subclass in (Plain, Overriding):
        of_subclass = labels.as_subclass(subclass)
        with pytest.raises(ValueError, match=rf"target {label} at \(2,\) is out of range"):
            xpent.cross_entropy(features @ weight.T, of_subclass)
        with pytest.raises(ValueError, match=rf"target {label} at \(2,\) is out of range"):
            xpent.linear_cross_entropy(features.as_subclass(subclass), weight, of_subclass)
        smoothing = torch.tensor(-1.0).as_subclass(subclass)
        with pytest.raises(ValueError, match="label_smoothing must lie between"):
            xpent.cross_entropy(features, labels.clamp(0, 2), label_smoothing=smoothing)


@every_function
def test_vmap_over_a_function_of_captured_tensors_is_recorded(function, device):
    """The loss of each sample plus a term of shared tensors that require a gradient."""
    features, labels = batch(ROWS, device)
    features, double = features.double(), {"dtype": torch.float64, "device": device}
    weight = torch.randn(CLASSES, DEPTH, **double, requires_grad=True)
    samples = torch.linspace(1, 2, 4, **double)

    def term(factor):
        return factor * function(features @ weight.T, labels, features, weight).square().sum()

    expected = torch.autograd.grad(sum(map(term, samples)), weight)
    for chunk_size in (None, 2):
        values = torch.func.vmap(term, chunk_size=chunk_size)(samples)
        torch.testing.assert_close(torch.autograd.grad(values.sum(), weight), expected)
    of_factor = torch.func.vmap(torch.func.grad(term))(samples)
    torch.testing.assert_close(of_factor, term(torch.ones_like(samples[0])).expand(4))


@pytest.mark.parametrize("dtypes", list(itertools.product(DTYPES, repeat=3)), ids=str)
def test_autocast_applies_to_linear_cross_entropy_as_to_linear(dtypes, device):
    features, labels = batch(ROWS, device)
    layer = torch.nn.Linear(DEPTH, CLASSES, device=device)
    arrays = [array.to(dtype) for array, dtype in zip((features, layer.weight, layer.bias), dtypes, strict=True)]

    def of_layer(features, weight, bias):
        with torch.autocast(device, dtype=torch.bfloat16):
            return xpent.linear_cross_entropy(features, weight, labels, bias=bias)

    def two_steps(features, weight, bias):
        with torch.autocast(device, dtype=torch.bfloat16):
            return F.cross_entropy(F.linear(features, weight, bias), labels)

    if torch.float64 in dtypes and len(set(dtypes)) > 1:  # autocast does not cast float64
        with pytest.raises(RuntimeError):
            two_steps(*arrays)
        with pytest.raises(TypeError, match="features, weight and bias must have the same dtype"):
            of_layer(*arrays)
        return
    actual, expected = value_and_gradients(of_layer, arrays), value_and_gradients(two_steps, arrays)
    u = 2.0**-9 if dtypes[0] != torch.float64 else 2.0**-53
    assert [y.dtype for y in actual[1]] == list(dtypes)
    torch.testing.assert_close(actual[0], expected[0], rtol=8 * u, atol=8 * u, check_dtype=False)
    torch.testing.assert_close(actual[1], expected[1], rtol=16 * u, atol=16 * u)
    with torch.autocast(device, dtype=torch.bfloat16):
        of_all = xpent.grad(xpent.linear_cross_entropy, (0, 1, 3))(*arrays[:2], labels, bias=arrays[2])
    torch.testing.assert_close(tuple(of_all), actual[1], rtol=16 * u, atol=16 * u)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_nested_tensors_are_computed_row_by_row(name, device):
    values = torch.randn(5, 4, device=device, requires_grad=True)
    nested = torch.nested.nested_tensor_from_jagged(values, torch.tensor([0, 2, 5], device=device))
    actual = getattr(xpent, name)(nested).values()
    expected = getattr(torch, name)(values, -1)
    torch.testing.assert_close(actual, expected)
    gradients = [torch.autograd.grad(y.square().sum(), values)[0] for y in (actual, expected)]
    torch.testing.assert_close(*gradients)


def test_error_for_losses_of_nested_tensors_suggests_values(device):
    offsets = torch.tensor([0, 2, 5], device=device)
    logits, labels = torch.randn(5, 4, device=device), torch.arange(5, device=device) % 4
    nested = [torch.nested.nested_tensor_from_jagged(values, offsets) for values in (logits, labels)]
    for call in (
        lambda: xpent.cross_entropy(*nested),
        lambda: xpent.cross_entropy(nested[0], torch.softmax(nested[0], -1)),
        lambda: xpent.linear_cross_entropy(nested[0], torch.eye(4, device=device), nested[1]),
    ):
        with pytest.raises(TypeError, match="losses do not accept nested tensors: pass the values"):
            call()
