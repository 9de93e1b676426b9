"""label_smoothing, z_loss and softcap as numbers or arrays of shape (): equal results, and a single compilation."""

import logging

import numpy as np
import pytest
from exactness import differentiate

import xpent
from xpent._losses import cross_entropy

pytestmark = pytest.mark.unoptimized
RNG = np.random.default_rng(11)
X, LABELS = 3.0 * RNG.standard_normal((5, 4)), np.asarray([3, 0, 1, 1, 2])
FEATURES, WEIGHT = RNG.standard_normal((5, 3)), RNG.standard_normal((4, 3))
Q = RNG.dirichlet(np.ones(4), size=5)
NUMBERS = {"label_smoothing": 0.125, "z_loss": 0.25, "softcap": 2.0}
SCHEDULE = (0.1, 0.2, 0.3, 0.4, 0.5)
OF_LOGITS = (xpent.cross_entropy, (X, LABELS), ("label_smoothing", "z_loss"))
OF_DISTRIBUTION = (xpent.cross_entropy, (X, Q), ("label_smoothing", "z_loss"))
OF_LAYER = (xpent.linear_cross_entropy, (FEATURES, WEIGHT, LABELS), ("softcap", "label_smoothing", "z_loss"))
CALLS = [
    (function, arrays, names)
    for function, arrays, all_names in (OF_LOGITS, OF_DISTRIBUTION, OF_LAYER)
    for names in (*[(name,) for name in all_names], all_names)
]
every_option = pytest.mark.parametrize(
    ("function", "arrays", "name"),
    [(function, arrays, name) for function, arrays, names in (OF_LOGITS, OF_LAYER) for name in names],
    ids=lambda value: getattr(value, "__name__", value if isinstance(value, str) else ""),
)


def assert_same(xp, found, expected):
    for one, other in zip(found, expected, strict=True):
        one, other = xp.to_numpy(one), xp.to_numpy(other)
        np.testing.assert_allclose(one, other, rtol=0, atol=64 * xp.u * abs(other).max())


@pytest.mark.parametrize(("function", "arrays", "names"), CALLS)
@pytest.mark.parametrize("dtype", [None, "float32"])
def test_scalar_arrays_give_the_same_results_as_numbers(xp, function, arrays, names, dtype):
    arrays = [xp.asarray(array) for array in arrays]
    as_numbers = {name: NUMBERS[name] for name in names}
    as_arrays = {name: xp.asarray(np.asarray(value), dtype) for name, value in as_numbers.items()}
    value, gradients = differentiate(xp, function, *arrays, **as_numbers)
    same, same_gradients = differentiate(xp, function, *arrays, **as_arrays)
    assert_same(xp, (same, *same_gradients), (value, *gradients))
    unchanged, unchanged_gradients = differentiate(xp, function, *arrays)
    assert np.max(abs(xp.to_numpy(unchanged) - xp.to_numpy(value))) > 0.01
    assert np.max(abs(xp.to_numpy(unchanged_gradients[0]) - xp.to_numpy(gradients[0]))) > 0.001


def test_zero_and_integer_arrays_are_accepted_as_numbers(xp):
    x, t = xp.asarray(X), xp.asarray(LABELS)
    for name in ("label_smoothing", "z_loss"):
        for value in (0.0, 0, 1):
            found, gradients = differentiate(xp, xpent.cross_entropy, x, t, **{name: xp.asarray(np.asarray(value))})
            expected, expected_gradients = differentiate(xp, xpent.cross_entropy, x, t, **{name: value})
            assert_same(xp, (found, *gradients), (expected, *expected_gradients))


def loss_of_number(function, arrays, name):
    """The loss as a function of one option."""
    return lambda number: function(*arrays, **{name: number})


@pytest.mark.library("jax", "jax-jit")
@every_option
def test_gradient_of_a_scalar_option_is_rejected_in_jax(function, arrays, name):
    jax = pytest.importorskip("jax")
    loss, number = loss_of_number(function, [jax.numpy.asarray(a) for a in arrays], name), jax.numpy.asarray(0.5)
    for differentiated in (jax.grad(loss), jax.jacfwd(loss), jax.jit(jax.grad(loss))):
        with pytest.raises(TypeError, match=rf"{name} is a constant.*jax.lax.stop_gradient\({name}\)"):
            differentiated(number)


@pytest.mark.library("torch")
@every_option
def test_gradient_of_a_scalar_option_is_rejected_in_torch(function, arrays, name):
    torch = pytest.importorskip("torch")
    number = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    loss = loss_of_number(function, [torch.tensor(a) for a in arrays], name)
    with pytest.raises(TypeError, match=f"{name} is a constant.*pass {name}.detach()"):
        loss(number).backward()
    with pytest.raises(TypeError, match=f"{name} is a constant"):
        torch.func.grad(loss)(number.detach())


@pytest.fixture
def traces(monkeypatch):
    """A list that grows with each trace or evaluation of a loss."""
    prepare, found = cross_entropy.prepare, []

    def counted(*arguments):
        found.append(arguments)
        return prepare(*arguments)

    monkeypatch.setattr(cross_entropy, "prepare", counted)
    return found


def ways_of_jax(jax):
    """The value, and the gradients by xpent and by JAX, as functions of arrays and options."""

    def native(function):
        return lambda *arrays, **options: jax.grad(lambda x: function(x, *arrays[1:], **options))(arrays[0])

    return {"value": lambda function: function, "xpent.grad": xpent.grad, "jax.grad": native}


@pytest.mark.library("jax", "jax-jit")
@pytest.mark.parametrize("way", ["value", "xpent.grad", "jax.grad"])
@every_option
def test_another_number_does_not_recompile_in_eager_jax(function, arrays, name, way, traces, caplog):
    jax = pytest.importorskip("jax")
    evaluate, arrays = ways_of_jax(jax)[way](function), [jax.numpy.asarray(a) for a in arrays]
    jax.clear_caches()
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        first = evaluate(*arrays, **{name: SCHEDULE[0]})
        assert traces
        assert "ompil" in caplog.text
        traces.clear()
        caplog.clear()
        others = [evaluate(*arrays, **{name: number}) for number in SCHEDULE[1:]]
    assert not traces
    assert "ompil" not in caplog.text
    assert all(np.max(abs(first - other)) > 1e-4 for other in others)


@pytest.mark.library("jax", "jax-jit")
@pytest.mark.parametrize("way", ["value", "xpent.grad", "jax.grad"])
@every_option
def test_jitted_function_is_compiled_once_for_all_traced_numbers(function, arrays, name, way):
    jax = pytest.importorskip("jax")
    evaluate, arrays, calls = ways_of_jax(jax)[way](function), [jax.numpy.asarray(a) for a in arrays], []

    @jax.jit
    def program(arrays, number):
        calls.append(number)
        return evaluate(*arrays, **{name: number})

    for number in SCHEDULE:
        expected = evaluate(*arrays, **{name: number})
        np.testing.assert_allclose(program(arrays, number), expected, rtol=0, atol=64 * 2.0**-53 * abs(expected).max())
    assert len(calls) == 1


@pytest.mark.library("torch")
@pytest.mark.parametrize(("kind", "compiled_calls"), [("array", 1), ("number", 2)])
@every_option
def test_another_number_does_not_recompile_with_torch_compile(function, arrays, name, kind, compiled_calls):
    """The compiler treats the first number as a constant, and from the second on as a variable."""
    torch = pytest.importorskip("torch")
    from torch._dynamo.testing import CompileCounterWithBackend

    torch.compiler.reset()
    counter, counts = CompileCounterWithBackend("aot_eager"), []
    arrays = [torch.tensor(a) for a in arrays]

    def loss_and_gradient(number):
        return xpent.value_and_grad(function)(*arrays, **{name: number})

    loss_and_gradient(SCHEDULE[0])
    compiled = torch.compile(loss_and_gradient, fullgraph=True, backend=counter)
    for number in SCHEDULE:
        found = compiled(torch.tensor(number, dtype=torch.float64) if kind == "array" else number)
        for one, other in zip(found, loss_and_gradient(number), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=64 * 2.0**-53 * other.abs().max().item())
        counts.append(counter.frame_count)
    assert counts[0] > 0
    assert counts[-1] == counts[compiled_calls - 1]
