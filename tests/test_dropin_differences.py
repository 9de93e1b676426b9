"""The tables of docs/drop-ins.md: results of the original functions and of xpent, and exact values."""

import importlib
import re
import warnings
from pathlib import Path

import mpmath
import numpy as np
import pytest

PAGE = (Path(__file__).parent.parent / "docs" / "drop-ins.md").read_text()
MODULES = {  # modules with the original functions; the first with a name takes precedence
    "torch": ("torch.nn.functional", "torch"),
    "jax": ("jax.nn",),
    "optax": ("optax.losses",),
    "scipy": ("scipy.special",),
}
CASES = [
    pytest.param(library, *cells, id=f"{library}: {cells[0]}", marks=pytest.mark.library(*backends))
    for library, backends in (
        ("torch", ["torch"]), ("jax", ["jax"]), ("optax", ["jax"]), ("scipy", ["numpy"]),
    )
    for cells in re.findall(
        r"^\| `(.*)` \| (.*) \| (.*) \| `(.*)` \|$", PAGE.split(f"| {library} | original |")[1].split("\n\n")[0], re.M
    )
]  # fmt: skip


def names_of_library(library):
    """The names, in addition to the functions, that expressions use."""
    names = {"np": np, "inf": np.inf, "nan": np.nan}
    if library == "torch":
        torch = importlib.import_module("torch")

        def gradient(function, x):
            x = x.requires_grad_()
            return torch.autograd.grad(function(x), x)[0]

        return {**names, "gradient": gradient, **{name: getattr(torch, name) for name in ("tensor", "zeros", "uint8")}}
    if library in ("jax", "optax"):
        jax = importlib.import_module("jax")
        of_numpy = {name: getattr(jax.numpy, name) for name in ("asarray", "float16", "zeros")}
        return {**names, "grad": jax.grad, "jit": jax.jit, **of_numpy}
    return names


def functions(modules, library):
    """The functions of the drop-in for a library, as defined by the given modules."""
    names = importlib.import_module(f"xpent.{library}").__all__
    return {
        n: getattr(m, n) for m in reversed([*map(importlib.import_module, modules)]) for n in names if hasattr(m, n)
    }


def shown(value):
    """Format numbers as in the tables."""
    parts = value if isinstance(value, tuple) else (value,)
    numbers = [float(number) for part in parts for number in np.ravel(np.asarray(part, dtype=np.float64))]
    return ", ".join([f"{number + 0.0:.4g}" for number in numbers]) or "empty"


def outcome(expression, names):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            value = eval(expression, names)
        except Exception as error:
            return type(error).__name__
    if hasattr(value, "detach"):
        value = value.detach().double().numpy()
    return shown(value)


@pytest.mark.parametrize(("library", "expression", "original", "ours", "exact"), CASES)
def test_tables_have_the_results_of_both_libraries(library, expression, original, ours, exact):
    names = names_of_library(library)
    assert outcome(expression, {**names, **functions(MODULES[library], library)}) == original
    assert outcome(expression, {**names, **functions([f"xpent.{library}"], library)}) == ours
    if exact == "-" or ours.endswith("Error"):
        return
    with mpmath.workdps(120):
        values = eval(exact, {**vars(mpmath), "inf": mpmath.inf})
    assert ours != original
    for found, value in zip(ours.split(", "), values if isinstance(values, tuple) else (values,), strict=True):
        u = 2.0**-8 if "16" in expression else 2.0**-11 if "half" in expression else 5e-4
        assert float(found) == pytest.approx(float(value), rel=u)


def test_every_table_has_rows():
    assert {case.values[0] for case in CASES} == set(MODULES)
