"""Python code that reproduces a failure."""

from __future__ import annotations

import re

import numpy as np

from xpent.conformance.case import QUANTITIES
from xpent.conformance.dtypes import Numbers
from xpent.conformance.trial import Trial

FEW = 60  # arrays with more numbers are not printed
NAMES = {
    "cross_entropy": ("logits", "targets"),
    "linear_cross_entropy": ("features", "weight", "targets"),
}


def reproduction(trial: Trial, message: str) -> str:
    """Write the imports, the arrays, the calls with wrong results, and the message as a comment."""
    case, library = trial.case, trial.library
    if case.check == "training":
        return ""
    names = NAMES.get(case.function, ("x",))
    wrong = [q for q in case.quantities if re.search(rf"(^|; ){q}(\[[\d, ]*\])? (is|has|raises) ", message)] or [
        "value"
    ]
    lines = [library.imports, trial.implementation.source_of(case.function)]
    arrays = dict(zip(names, case.arrays_in(trial.dtype), strict=True))
    if any(array.size > FEW for array in arrays.values()) or case.layout != "C":
        lines += [
            "from xpent.conformance.cases import BY_ID",
            "from xpent.conformance.libraries import library",
            f"case, on = BY_ID[{case.id!r}], library({library.name!r}, {library.device!r})",
            f"arrays = (on.array(x, {trial.dtype!r}, case.layout) for x in case.arrays_in({trial.dtype!r}))",
            f"{', '.join(names)}{',' * (len(names) == 1)} = arrays",
        ]
        arrays = {}
    given = {name: value for name, value in case.options_in(trial.dtype).items() if name != "reduction"}
    arrays |= {name: value for name, value in given.items() if isinstance(value, np.ndarray)}
    lines += [f"{name} = {_literal(array, trial)}" for name, array in arrays.items()]
    for quantity in wrong:
        kind, argument = QUANTITIES[quantity]
        options = {name: name if name in arrays else repr(value) for name, value in given.items()}
        options |= {name: repr(value) for name, value in trial.reduced(quantity).items()}
        spelling = "".join(f", {name}={value}" for name, value in options.items())
        g = case.cotangent_in(trial.dtype)
        words = {
            "call": f"{case.function}({', '.join(names)}{spelling})",
            "function": case.function,
            "arrays": ", ".join(names),
            "nones": "," + " None," * (len(names) - 1),
            "options": spelling,
            "x": argument if isinstance(argument, str) else names[argument],
            "g": library.ones if g is None else f"{_literal(g, trial)}{library.like_value}",
            "v": _literal(case.tangent_in(trial.dtype), trial) if kind in ("jvp", "hvp") else "",
        }
        template = library.lines if kind == "value" else getattr(trial.derivatives, "lines", {})
        lines += [line.format(**words) for line in template.get(kind, ())]
    return "\n".join([*lines, *(f"# {line}" for line in message.split("; "))])


def _dtype(values: Numbers, trial: Trial) -> str:
    return trial.dtype if values.dtype.kind == "f" else str(values.dtype)


def _literal(values: Numbers, trial: Trial) -> str:
    text = f"np.zeros({values.shape})" if values.size == 0 else repr(values.tolist())
    text = re.sub("nan|inf", r"float('\g<0>')", text).replace("], [", "],\n    [")
    return trial.library.literal(text, _dtype(values, trial))
