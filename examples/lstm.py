"""A character-level LSTM trained on Python's manual, with the same code for NumPy, PyTorch and JAX.

The text is that of ``help()``, which is part of Python. The backward pass through time is written by hand, and xpent
computes the loss and its gradient, so automatic differentiation is not used.
"""
# ruff: noqa: N806 - matrices are named W as in the formulas

import argparse
import importlib
import math
import time
from pydoc_data.topics import topics

import numpy as np
from array_api_compat import array_namespace
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

import xpent

LIBRARIES = {"numpy": "numpy", "torch": "torch", "jax": "jax.numpy"}


def forward(parameters, x, h, c):
    """Logits (batch, time, class) for x of shape (batch, time, input), the last h and c, and intermediate results.

    One step computes the next state from the input x and the state h, c:

        a = Wx x + Wh h + b, whose quarters are the arguments of i, f, proj and o, in this order
        i, f, o = sigmoid(a)    proj = tanh(a)
        c_next = f c + i proj   h_next = o tanh(c_next)

    and the output layer computes the logits Wy h_next + by.
    """
    xp = array_namespace(x)
    steps, outputs = [], []
    for t in range(x.shape[1]):
        a = x[:, t, :] @ parameters["Wx"].T + h @ parameters["Wh"].T + parameters["b"]
        i, f, proj, o = (a[:, k * h.shape[1] : (k + 1) * h.shape[1]] for k in range(4))
        i, f, proj, o = sigmoid(i), sigmoid(f), xp.tanh(proj), sigmoid(o)
        c_next = f * c + i * proj
        tanh_c = xp.tanh(c_next)
        steps.append((x[:, t, :], h, c, i, f, proj, o, tanh_c))
        h, c = o * tanh_c, c_next
        outputs.append(h)
    outputs = xp.stack(outputs, axis=1)
    return outputs @ parameters["Wy"].T + parameters["by"], h, c, (steps, outputs)


def backward(parameters, saved, dlogits, dh_next, dc_next):
    """Gradients of the parameters, of x, and of the initial h and c; dy stands for dloss/dy.

    ``dh_next`` and ``dc_next`` are those of the last h and c, zero if the loss depends only on the logits.
    """
    xp = array_namespace(dlogits)
    steps, outputs = saved
    dby = xp.sum(dlogits, axis=(0, 1))
    dWy = to_rows(dlogits).T @ to_rows(outputs)
    dh_of_logits = dlogits @ parameters["Wy"]
    dWx, dWh, db, dx = 0.0, 0.0, 0.0, []
    for t in reversed(range(len(steps))):
        x, h, c, i, f, proj, o, tanh_c = steps[t]
        # The loss depends on h_next = o tanh(c_next) through its logits and the following step, and on c_next through
        # h_next and the following step. The derivative of tanh is 1 - tanh^2.
        dh = dh_of_logits[:, t, :] + dh_next
        do = dh * tanh_c
        dc = dh * o * (1 - tanh_c**2) + dc_next
        # c_next = f c + i proj
        dproj, df, di = dc * i, dc * c, dc * proj
        # a = Wx x + Wh h + b; the derivative of s = sigmoid(a) is s (1 - s).
        da = xp.concat([di * i * (1 - i), df * f * (1 - f), dproj * (1 - proj**2), do * o * (1 - o)], axis=1)
        # The parameters are the same at every step, so their gradients are summed.
        dWx, dWh, db = dWx + da.T @ x, dWh + da.T @ h, db + xp.sum(da, axis=0)
        dx.append(da @ parameters["Wx"])
        dh_next, dc_next = da @ parameters["Wh"], dc * f
    gradients = {"Wx": dWx, "Wh": dWh, "b": db, "Wy": dWy, "by": dby}
    return gradients, xp.stack(dx[::-1], axis=1), dh_next, dc_next


def sigmoid(a):
    """1 / (1 + exp(-a)), in a form that does not overflow."""
    return 0.5 * array_namespace(a).tanh(0.5 * a) + 0.5


def to_rows(array):
    """Reshape (batch, time, n) to (batch * time, n)."""
    return array_namespace(array).reshape(array, (-1, array.shape[-1]))


def loss_and_gradients(parameters, x, labels, h, c):
    """The mean cross-entropy of the next characters, the gradients of the parameters, and the last h and c."""
    logits, h, c, saved = forward(parameters, x, h, c)
    loss, dlogits = xpent.value_and_grad(xpent.cross_entropy)(logits, labels)
    gradients, _, _, _ = backward(parameters, saved, dlogits, 0.0, 0.0)
    return loss, gradients, h, c


def train_step(state, x, labels, rate):
    """The loss and the state after one step of Adam; h and c are carried over to the next window of text."""
    parameters, means, squares, h, c = state
    xp = array_namespace(x)
    loss, gradients, h, c = loss_and_gradients(parameters, x, labels, h, c)
    means = {name: 0.9 * means[name] + 0.1 * g for name, g in gradients.items()}
    squares = {name: 0.999 * squares[name] + 0.001 * g**2 for name, g in gradients.items()}
    parameters = {n: p - rate * means[n] / (xp.sqrt(squares[n]) + 1e-8) for n, p in parameters.items()}
    return loss, (parameters, means, squares, h, c)


def start(rng, inputs, hidden, classes, batch):
    """Random parameters, the moments of Adam and the initial h and c, as float32 NumPy arrays."""
    width = 1 / math.sqrt(hidden)
    shapes = {"Wx": (4 * hidden, inputs), "Wh": (4 * hidden, hidden), "Wy": (classes, hidden)}
    parameters = {name: rng.uniform(-width, width, shape).astype("float32") for name, shape in shapes.items()}
    parameters["b"] = np.repeat(np.asarray([0, 1, 0, 0], dtype="float32"), hidden)  # a positive forget bias
    parameters["by"] = np.zeros(classes, dtype="float32")
    zeros = [{name: np.zeros_like(array) for name, array in parameters.items()} for _ in range(2)]
    return parameters, *zeros, *np.zeros((2, batch, hidden), dtype="float32")


def to_library(xp, tree):
    """Convert nested arrays to another library."""
    if isinstance(tree, dict):
        return {name: to_library(xp, leaf) for name, leaf in tree.items()}
    return tuple(to_library(xp, leaf) for leaf in tree) if isinstance(tree, tuple) else xp.asarray(tree)


def compiled(library, function):
    """Compile a function with JAX, or disable autograd with PyTorch."""
    if library == "jax":
        return importlib.import_module("jax").jit(function)
    return importlib.import_module("torch").no_grad()(function) if library == "torch" else function


def windows(ids, batch, length):
    """Yield (batch, length) characters and the next character of each; rows continue in the next window."""
    rows = ids[: len(ids) // batch * batch].reshape(batch, -1)
    while True:
        for first in range(0, rows.shape[1] - length, length):
            yield rows[:, first : first + length], rows[:, first + 1 : first + length + 1]


def sample(xp, step, parameters, characters, rng, length):
    """Sample text character by character; each character is the next input."""
    h, c = to_library(xp, tuple(np.zeros((2, 1, parameters["Wh"].shape[1]), dtype="float32")))
    onehot, drawn = np.eye(len(characters), dtype="float32"), [characters.index("\n")]
    for _ in range(length):
        logits, h, c, _ = step(parameters, xp.asarray(onehot[None, drawn[-1:]]), h, c)
        p = xpent.softmax(np.asarray(logits, dtype="float64")[0, 0])
        drawn.append(int(rng.choice(len(characters), p=p)))
    return "".join(characters[k] for k in drawn[1:])


def main(arguments=None):
    """Train for some seconds, then print a sample."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--library", choices=LIBRARIES, default="numpy")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--hidden", type=int, default=128, help="size of h")
    parser.add_argument("--batch", type=int, default=32, help="batch size")
    parser.add_argument("--time", type=int, default=32, help="length of a window in characters")
    parser.add_argument("--rate", type=float, default=4e-3, help="learning rate")
    options = parser.parse_args(arguments)
    xp, rng = importlib.import_module(LIBRARIES[options.library]), np.random.default_rng(options.seed)

    text = "".join(topics[name] for name in sorted(topics))
    characters = sorted(set(text))
    onehot = np.eye(len(characters), dtype="float32")
    data = windows(np.searchsorted(characters, list(text)), options.batch, options.time)
    state = to_library(xp, start(rng, len(characters), options.hidden, len(characters), options.batch))
    step = compiled(options.library, train_step)

    columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
    began, steps, average = time.perf_counter(), 0, math.log(len(characters))
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=options.seconds)
        while not progress.finished:
            steps, (ids, labels) = steps + 1, next(data)
            rate = options.rate * math.sqrt(1 - 0.999**steps) / (1 - 0.9**steps)  # bias correction
            loss, state = step(state, xp.asarray(onehot[ids]), xp.asarray(labels), rate)
            average += (float(loss) - average) * max(0.02, 1 / steps)  # over about fifty steps
            description = f"{options.library}: step {steps}, {average:.3f} nats per character"
            progress.update(task, completed=time.perf_counter() - began, description=description)
    untrained = math.log(len(characters))
    print(f"{options.library}: {average:.3f} nats per character after {steps} steps, {untrained:.3f} before")
    print(sample(xp, compiled(options.library, forward), state[0], characters, rng, 400))
    return average


if __name__ == "__main__":
    main()
