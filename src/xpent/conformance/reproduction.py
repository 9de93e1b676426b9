"""The few lines of Python that show a failure when pasted."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from xpent.conformance.dtypes import Numbers
from xpent.conformance.expected import QUANTITIES
from xpent.conformance.libraries import Unsupported
from xpent.conformance.trial import Trial

FEW = 60  # numbers that one still reads
NAMES = {
    "cross_entropy": ("logits", "targets"),
    "linear_cross_entropy": ("features", "weight", "targets"),
}


def reproduction(trial: Trial, message: str) -> str:
    """Imports, arrays, and the calls whose answers are wrong; the message as a comment."""
    if trial.case.category == "training":
        return ""
    names = NAMES.get(trial.case.function, ("x",))
    wrong = [q for q in trial.case.quantities if re.search(rf"(^|; ){q}(\[[\d, ]*\])? (is|has) ", message)] or ["value"]
    lines = [trial.library.imports, trial.implementation.source_of(trial.case.function)]
    values = trial.case.arrays_in(trial.dtype)
    if any(value.size > FEW for value in values):
        lines.append("from xpent.conformance.cases import BY_NAME")
        numbers = (
            f"{', '.join(names)}{',' * (len(names) == 1)} = BY_NAME[{trial.case.name!r}].arrays_in({trial.dtype!r})"
        )
        lines += [numbers]
        lines += [
            f"{name} = {trial.library.spelt(name, _dtype(v, trial))}" for name, v in zip(names, values, strict=True)
        ]
    else:
        lines += [f"{name} = {_literal(v, trial)}" for name, v in zip(names, values, strict=True)]
    for quantity in wrong:
        kind, moved = QUANTITIES[quantity]
        moved = moved if isinstance(moved, str) else names[moved]
        try:
            reduction = trial.reduction(quantity)
        except Unsupported:
            reduction = None
        options = {**trial.case.options_in(trial.dtype)}
        if reduction is not None and trial.implementation.takes(trial.case.function, "reduction"):
            options["reduction"] = reduction
        spelt = "".join(f", {name}={_option(value, trial)}" for name, value in options.items())
        call = f"{trial.case.function}({', '.join(names)}{spelt})"
        words = {
            "call": call,
            "call_of_moved": call.replace(f"{moved},", f"{moved}.requires_grad_(),", 1),
            "function": trial.case.function,
            "arrays": ", ".join(names),
            "nones": "," + " None," * (len(names) - 1),
            "options": spelt,
            "x": moved,
        }
        g = trial.case.cotangent_in(trial.dtype)
        words["g"] = trial.library.ones if g is None else f"{_literal(g, trial)}{trial.library.like_value}"
        words["v"] = _literal(trial.case.tangent_in(trial.dtype), trial) if kind in ("jvp", "hvp") else ""
        template = trial.library.lines if kind == "value" else getattr(trial.derivatives, "lines", {})
        lines += [line.format(**words) for line in template.get(kind, ())]
    return "\n".join([*lines, *(f"# {line}" for line in message.split("; "))])


def _dtype(values: Numbers, trial: Trial) -> str:
    return trial.dtype if values.dtype.kind == "f" else str(values.dtype)


def _literal(values: Numbers, trial: Trial) -> str:
    text = f"np.zeros({values.shape})" if values.size == 0 else repr(values.tolist())
    text = re.sub("nan|inf", r"float('\g<0>')", text).replace("], [", "],\n    [")
    return trial.library.spelt(text, _dtype(values, trial))


def _option(value: Any, trial: Trial) -> str:
    return _literal(value, trial) if isinstance(value, np.ndarray) else repr(value)
