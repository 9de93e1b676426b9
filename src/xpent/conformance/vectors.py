"""The command `xpent vectors`: write the cases as JSON files that any language can read.

`docs/vectors.md` describes the format and `vectors.schema.json` defines it. The same cases give the same bytes.
"""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from xpent import __version__
from xpent.conformance.case import QUANTITIES, Case, Result
from xpent.conformance.cases import ALL
from xpent.conformance.dtypes import DTYPES, EPSILON, SMALLEST, Numbers
from xpent.conformance.expected import Expected, expected, most_units
from xpent.conformance.reproduction import NAMES
from xpent.conformance.terminal import ProgressLines

FORMAT = 1  # increase it if readers of the old format would misread the new one
SCHEMA = "vectors.schema.json"
FUNCTIONS = tuple(dict.fromkeys(case.function for case in ALL))

Json = Any


def prepare(options: argparse.Namespace) -> Callable[[], int]:
    """Return a function that writes the files. Raise if the directory cannot be created."""
    if options.max_size < 1:
        raise ValueError(f"--max-size must be positive, got {options.max_size}")
    directory = Path(options.directory)
    directory.mkdir(parents=True, exist_ok=True)
    return functools.partial(_write, directory, options.max_size)


def _write(directory: Path, max_size: int) -> int:
    schema = files("xpent.conformance").joinpath(SCHEMA).read_text(encoding="utf-8")
    (directory / SCHEMA).write_text(schema, encoding="utf-8", newline="\n")
    with ProgressLines() as progress:
        for function in FUNCTIONS:
            vectors = vectors_of(function, max_size, progress.advance)
            text = to_text(vectors) + "\n"
            (directory / f"{function}.json").write_text(text, encoding="utf-8", newline="\n")
            print(f"{function}.json: {len(text) / 1e6:.2f} MB, {len(vectors['tests'])} tests, "
                  f"{len(vectors['leftOut'])} cases omitted")  # fmt: skip
    sizes = [_size(case) for case in ALL if case.check == "values" and _size(case) > max_size]
    if sizes:
        print(
            f"{len(sizes)} of the omitted cases have more than {max_size} numbers; --max-size {max(sizes)} includes all"
        )
    return 0


def vectors_of(
    function: str, max_size: int, progress: Callable[[str, int, int], None] = lambda *_: None
) -> dict[str, Json]:
    """The contents of the file of a function."""
    tests, left_out = [], []
    cases = [case for case in ALL if case.function == function]
    for i, case in enumerate(cases):
        if case.check != "values":
            left_out.append({"id": case.id, "reason": f"does not test values: {case.check}"})
        elif _size(case) > max_size:
            left_out.append({"id": case.id, "reason": f"has {_size(case)} numbers"})
        else:
            tests += [_test(case, dtypes) for dtypes in _groups(case)]
        progress(function, i + 1, len(cases))
    return {
        "schema": SCHEMA,
        "format": FORMAT,
        "source": {"name": "xpent", "version": __version__},
        "function": function,
        "numberOfTests": len(tests),
        "dtypes": {dtype: _bounds(dtype) for dtype in DTYPES},
        "leftOut": left_out,
        "tests": tests,
    }


def _size(case: Case) -> int:
    return sum(array.size for array in case.arrays)


def _bounds(dtype: str) -> dict[str, Json]:
    """The properties of a dtype that determine the allowed errors."""
    return {
        "u": number(EPSILON[dtype] / 2),
        "mostUnits": number(most_units(dtype)),
        "smallest": number(SMALLEST[dtype]),
    }


def _groups(case: Case) -> list[list[str]]:
    """The dtypes of a case, grouped by those with the same inputs and therefore the same exact values."""
    groups: dict[str, list[str]] = {}
    for dtype in case.dtypes:
        groups.setdefault(case.exact_dtype(dtype), []).append(dtype)
    return list(groups.values())


def _test(case: Case, dtypes: list[str]) -> dict[str, Json]:
    """One test, for the dtypes in which a case has the same inputs."""
    dtype, names = dtypes[0], NAMES.get(case.function, ("x",))
    reduction = case.options.get("reduction", "none") if case.is_loss else None
    options = {**case.options_in(dtype), **({"reduction": reduction} if case.is_loss else {})}
    cotangent, kinds = case.cotangent_in(dtype), {QUANTITIES[quantity].kind for quantity in case.quantities}
    test = {
        "id": case.id,
        "dtypes": dtypes,
        "comment": case.why,
        "flags": [case.category],
        "needs": [str(need) for need in case.requirements],
        "result": str(case.result),
        "layout": case.layout,
        "inputs": {name: array(x) for name, x in zip(names, case.arrays_in(dtype), strict=True)},
        "options": {name: _option(value) for name, value in options.items()},
    }
    if cotangent is not None:
        test["cotangent"] = array(cotangent)
    if kinds & {"jvp", "hvp"}:
        test["tangent"] = array(case.tangent_in(dtype))
    if case.result is not Result.ERROR:
        results = {quantity: expected(case, dtype, quantity, reduction) for quantity in case.quantities}
        test["expected"] = {quantity: _expected(result, dtypes) for quantity, result in results.items()}
    return test


def number(x: float) -> str:
    """A float as hexadecimal digits without trailing zeros, like 0x1.8p+1, or as nan, inf or -inf."""
    digits, p, exponent = float(x).hex().partition("p")
    return digits.rstrip("0").rstrip(".") + p + exponent if p else digits


def array(values: Numbers) -> dict[str, Json]:
    """An array in row-major order; "float" stands for each of the dtypes of the test."""
    is_float = values.dtype.kind == "f"
    data = list(map(number, values.ravel())) if is_float else values.ravel().tolist()
    return {"dtype": "float" if is_float else str(values.dtype), "shape": list(values.shape), "data": data}


def _option(value: Any) -> Json:
    if isinstance(value, np.ndarray):
        return array(value)
    return number(value) if isinstance(value, float) else value


def _expected(result: Expected, dtypes: list[str]) -> dict[str, Json]:
    """Exact values and allowed errors."""
    size = abs(result.exact)
    scale = np.where(np.isnan(result.scale), 0.0, result.scale)  # the scale of an inactive row may be 0 * NaN
    parts = {"exact": result.exact, "units": result.units}
    if "float64" in dtypes and np.any(result.rest):  # in the other dtypes it is far below the allowed errors
        parts["rest"] = result.rest
    if not np.array_equal(scale[np.isfinite(size)], size[np.isfinite(size)]):
        parts["scale"] = scale
    numbers = {name: list(map(number, x.ravel())) for name, x in parts.items()}
    may_be_nan = np.broadcast_to(result.may_be_nan, result.exact.shape)
    others = {"mayBeNaN": may_be_nan.ravel().tolist()} if np.any(may_be_nan) else {}
    return {"shape": list(result.exact.shape), **numbers, **others}


def to_text(value: Json, indent: str = "") -> str:
    """Format as JSON, with one line for each object or list that contains no objects."""
    if not _holds_objects(value):
        return json.dumps(value, ensure_ascii=False)
    deeper = indent + " "
    if isinstance(value, dict):
        lines = [f"{json.dumps(name)}: {to_text(part, deeper)}" for name, part in value.items()]
    else:
        lines = [to_text(part, deeper) for part in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n{deeper}" + f",\n{deeper}".join(lines) + f"\n{indent}{closing}"


def _holds_objects(value: Json) -> bool:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(isinstance(part, dict) or _holds_objects(part) for part in parts)
