"""The examples run, and their gradients are correct."""

import functools
import importlib.util
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rich")
pytestmark = pytest.mark.unoptimized
FOLDER = Path(__file__).parent.parent / "examples"
BATCH, TIME, INPUTS, HIDDEN, CLASSES = 3, 5, 2, 4, 6
in_float64 = pytest.mark.only_for(lambda xp: xp.dtype_name == "float64")
of_every_library = pytest.mark.parametrize(
    "library",
    [
        pytest.param("numpy", marks=pytest.mark.library("numpy")),
        pytest.param("torch", marks=pytest.mark.library("torch")),
        pytest.param("jax", marks=pytest.mark.library("jax", "jax-jit")),
    ],
)


@functools.cache
def example(name):
    specification = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def arrays_of_lstm():
    """Random parameters, x, labels, h and c, and cotangents of the last h and c."""
    rng = np.random.default_rng(0)
    shapes = {
        "Wx": (4 * HIDDEN, INPUTS), "Wh": (4 * HIDDEN, HIDDEN), "b": (4 * HIDDEN,),
        "Wy": (CLASSES, HIDDEN), "by": (CLASSES,),
    }  # fmt: skip
    parameters = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    x, labels = rng.standard_normal((BATCH, TIME, INPUTS)), rng.integers(CLASSES, size=(BATCH, TIME))
    return parameters, x, labels, *rng.standard_normal((4, BATCH, HIDDEN))


def by_hand(parameters, x, labels, h, c, dh, dc):
    """The cross-entropy, and the gradients of its sum with <dh, last h> + <dc, last c>."""
    lstm = example("lstm")
    logits, _, _, saved = lstm.forward(parameters, x, h, c)
    loss, dlogits = lstm.xpent.value_and_grad(lstm.xpent.cross_entropy)(logits, labels)
    gradients, dx, dh, dc = lstm.backward(parameters, saved, dlogits, dh, dc)
    return loss, {**gradients, "x": dx, "h": dh, "c": dc}


@functools.cache
def by_torch():
    """The same with torch.nn.LSTM, an output layer and PyTorch's cross-entropy, differentiated by PyTorch."""
    torch = pytest.importorskip("torch")
    parameters, x, labels, h, c, dh, dc = arrays_of_lstm()
    parameters = {name: torch.nn.Parameter(torch.tensor(array)) for name, array in parameters.items()}
    lstm = torch.nn.LSTM(INPUTS, HIDDEN, batch_first=True, dtype=torch.float64)
    lstm.weight_ih_l0, lstm.weight_hh_l0, lstm.bias_ih_l0 = (parameters[name] for name in ("Wx", "Wh", "b"))
    torch.nn.init.zeros_(lstm.bias_hh_l0)
    output = torch.nn.Linear(HIDDEN, CLASSES, dtype=torch.float64)
    output.weight, output.bias = parameters["Wy"], parameters["by"]
    x, h, c = (torch.tensor(array, requires_grad=True) for array in (x, h, c))
    outputs, (last_h, last_c) = lstm(x, (h[None], c[None]))
    loss = torch.nn.functional.cross_entropy(output(outputs).mT, torch.tensor(labels))
    (loss + (torch.tensor(dh) * last_h).sum() + (torch.tensor(dc) * last_c).sum()).backward()
    inputs = {**parameters, "x": x, "h": h, "c": c}
    return loss.item(), {name: tensor.grad.numpy() for name, tensor in inputs.items()}


@functools.cache
def by_jax():
    """The same with the equations of the literature, in a scan over each row, differentiated by JAX."""
    jax = pytest.importorskip("jax")
    jnp = jax.numpy
    parameters, x, labels, h, c, dh, dc = arrays_of_lstm()

    def cell(p, state, x):
        h, c = state
        i, f, g, o = (p["Wx"] @ x + p["Wh"] @ h + p["b"]).reshape(4, HIDDEN)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), jax.nn.log_softmax(p["Wy"] @ h + p["by"])

    def loss_of_row(p, labels, dh, dc):
        (h, c), log_p = jax.lax.scan(functools.partial(cell, p), (p["h"], p["c"]), p["x"])
        return -jnp.take_along_axis(log_p, labels[:, None], axis=1).mean(), dh @ h + dc @ c

    def loss(inputs):
        rows = {name: 0 if name in ("x", "h", "c") else None for name in inputs}
        losses, of_state = jax.vmap(loss_of_row, in_axes=(rows, 0, 0, 0))(inputs, labels, dh, dc)
        return losses.mean() + of_state.sum(), losses.mean()

    with jax.enable_x64(True):
        inputs = {name: jnp.asarray(array) for name, array in {**parameters, "x": x, "h": h, "c": c}.items()}
        labels, dh, dc = map(jnp.asarray, (labels, dh, dc))
        gradients, value = jax.jit(jax.grad(loss, has_aux=True))(inputs)
        return float(value), {name: np.asarray(array) for name, array in gradients.items()}


def by_differences():
    """The same by central differences of the forward pass on NumPy, accurate to two thirds of the digits."""
    parameters, x, labels, h, c, dh, dc = arrays_of_lstm()
    inputs, step, gradients = {**parameters, "x": x, "h": h, "c": c}, 2.0**-17, {}

    def loss():
        lstm = example("lstm")
        logits, last_h, last_c, _ = lstm.forward(inputs, inputs["x"], inputs["h"], inputs["c"])
        value = lstm.xpent.cross_entropy(logits, labels)
        return float(value), float(value + np.sum(dh * last_h) + np.sum(dc * last_c))

    for name, array in inputs.items():
        gradients[name] = np.empty_like(array)
        for index in np.ndindex(array.shape):
            before = array[index]
            array[index] = before + step
            above = loss()[1]
            array[index] = before - step
            gradients[name][index] = (above - loss()[1]) / (2 * step)
            array[index] = before
    return loss()[0], gradients


@in_float64
# Measured: 19 u. The differences have an error of step^2 = 2^19 u times third derivatives.
@pytest.mark.parametrize(
    ("oracle", "units"), [(by_torch, 64), (by_jax, 64), (by_differences, 2.0**25)], ids=["torch", "jax", "differences"]
)
def test_gradients_through_time_agree_with_the_reference(oracle, units, xp):
    expected_loss, expected = oracle()
    parameters, x, labels, *states = arrays_of_lstm()
    parameters = {name: xp.asarray(array) for name, array in parameters.items()}
    loss, gradients = xp.call(by_hand, parameters, xp.asarray(x), xp.asarray(labels), *map(xp.asarray, states))
    np.testing.assert_allclose(float(loss), expected_loss, rtol=8 * xp.u)
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        atol = units * xp.u * np.max(np.abs(expected[name]))
        np.testing.assert_allclose(xp.to_numpy(gradient), expected[name], rtol=0, atol=atol, err_msg=name)


@in_float64
def test_loss_of_the_lstm_decreases(xp):
    lstm = example("lstm")
    ids = np.asarray([0, 1, 2, 1, 3] * 20)  # the number after a 1 depends on the one before it
    parameters, means, squares, *states = lstm.start(np.random.default_rng(0), 4, 8, 4, 2)
    parameters, means, squares = [
        {name: xp.asarray(array) for name, array in part.items()} for part in (parameters, means, squares)
    ]
    state, data, losses = (parameters, means, squares, *map(xp.asarray, states)), lstm.windows(ids, 2, 5), []
    step = lstm.compiled(xp.name.removesuffix("-jit"), lstm.train_step)
    for _ in range(40):
        inputs, labels = next(data)
        loss, state = step(state, xp.asarray(np.eye(4)[inputs]), xp.asarray(labels), 0.05)
        losses.append(float(loss))
    assert losses[0] > 1.2
    assert losses[-1] < 0.2


@of_every_library
def test_lstm_example_runs(library, capsys):
    small = ["--hidden", "16", "--batch", "8", "--time", "4", "--seconds", "1"]
    loss = example("lstm").main(["--library", library, *small])
    head, _, text = capsys.readouterr().out.partition("\n")
    assert head.startswith(f"{library}: {loss:.3f} nats per character after ")
    assert len(text) == 400 + len("\n")


@of_every_library
def test_digits_example_reaches_the_documented_accuracy(library, capsys):
    pytest.importorskip("sklearn")
    ((loss, accuracy),) = example("digits").main(["--library", library])
    assert accuracy >= 0.95
    assert abs(loss - 0.100124) < 2e-6  # the same on every library
    assert capsys.readouterr().out.startswith(f"{library:6} loss {loss:.6f}, accuracy {accuracy:.2%} on ")
