"""Checks: each judges a trial, and says what it saw where it is not what it must be."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from xpent.conformance.dtypes import Numbers
from xpent.conformance.expected import Expected, expected
from xpent.conformance.libraries import Unsupported
from xpent.conformance.trial import Raised, Trial


@dataclass
class Verdict:
    """What a check found: the largest errors in units of u by quantity, and what is wrong, if anything."""

    errors: dict[str, float] = field(default_factory=dict)
    share: float = 0.0  # the largest error, as a share of what is allowed
    wrong: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)  # quantities that are not claimed, with the reason
    note: str = ""  # what else there is to say


def exact(trial: Trial, *, may_refuse: bool = False) -> Verdict:
    """Every quantity lies within its bound of the exact value, and is NaN or infinite where that is."""
    verdict = Verdict()
    for quantity in trial.case.quantities:
        try:
            answer = trial.compute(quantity)
        except Unsupported as reason:
            verdict.left_out[quantity] = str(reason)
            continue
        except Raised:
            if not may_refuse:
                raise
            if quantity == "value":
                return verdict
            continue
        _compare(verdict, trial, quantity, answer)
    if len(verdict.left_out) == len(trial.case.quantities):
        raise Unsupported("; ".join(dict.fromkeys(verdict.left_out.values())))
    return verdict


def _compare(verdict: Verdict, trial: Trial, quantity: str, answer: Numbers) -> None:
    right = expected(trial.case, trial.dtype, quantity, trial.reduction(quantity))
    if answer.shape != right.exact.shape:
        verdict.wrong.append(f"{quantity} has the shape {answer.shape} instead of {right.exact.shape}")
        return
    units, shares = right.errors(answer, trial.dtype)
    verdict.errors[quantity] = _largest(units)
    share = _largest(shares)
    verdict.share = max(verdict.share, share)
    if not share <= 1:
        verdict.wrong.append(_worst(trial.dtype, quantity, answer, right, units, shares))


def _largest(errors: Numbers) -> float:
    """The largest error; NaN, where NaN or infinity is not where it belongs, is infinitely far off."""
    return float(np.max(np.nan_to_num(errors, nan=math.inf, posinf=math.inf), initial=0.0))


def _worst(dtype: str, quantity: str, answer: Numbers, right: Expected, units: Numbers, shares: Numbers) -> str:
    at = np.unravel_index(int(np.argmax(np.nan_to_num(shares, nan=math.inf, posinf=math.inf))), answer.shape)
    place = f"[{', '.join(map(str, at))}]" if at else ""
    wanted, far = float(right.exact[at]), float(units[at])
    digits = 17 if dtype == "float64" else 9
    text = f"{quantity}{place} is {float(answer[at]):.{digits}g} instead of {wanted:.{digits}g}"
    if math.isfinite(far):
        text += f", {far:.2g} u off where {float(right.allowed(dtype)[at]):.2g} u are allowed"
    return text


def refused_or_nan(trial: Trial) -> Verdict:
    """A label that names no class raises an error, or its row is NaN and no other row notices."""
    _check_that_a_right_call_works(trial)
    return exact(trial, may_refuse=True)


def refused(trial: Trial) -> Verdict:
    """The call raises an error."""
    _check_that_a_right_call_works(trial)
    try:
        answer = trial.compute("value")
    except Raised:
        return Verdict()
    return Verdict(wrong=[f"no error was raised; the value is {answer.ravel()[:3].tolist()}"])


def _check_that_a_right_call_works(trial: Trial) -> None:
    """An error is no refusal where everything raises one."""
    from xpent.conformance.cases import BY_NAME

    right = Trial(
        trial.implementation, BY_NAME["linear-rows" if "linear" in trial.case.function else "rows"], trial.dtype
    )
    if right.reason_against() is None:
        right.compute("value")


def leaves_inputs_alone(trial: Trial) -> Verdict:
    """No argument is written to, by the value or the gradient."""
    verdict = Verdict()
    with _left_out(verdict, "gradient"):
        trial.compute("value")
        trial.compute("gradient")
    for i, (array, values) in enumerate(zip(trial.arrays, trial.case.arrays_in(trial.dtype), strict=True)):
        if not np.array_equal(trial.library.to_numpy(array), values, equal_nan=values.dtype.kind == "f"):
            verdict.wrong.append(f"argument {i} was written to")
    return verdict


def silent(trial: Trial) -> Verdict:
    """No warning is issued."""
    verdict = Verdict()
    trial.library.forget()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with _left_out(verdict, "gradient"):
            trial.compute("value")
            trial.compute("gradient")
    verdict.wrong += sorted({f"{w.category.__name__}: {w.message}" for w in caught})
    return verdict


def same_when_repeated(trial: Trial) -> Verdict:
    """The same call returns the same bits."""
    return _same_bits(trial, [np.arange(len(trial.case.arrays[0]))] * 2, "when run again")


def same_when_shuffled(trial: Trial) -> Verdict:
    """Every row has the same bits when the rows come in another order."""
    order = np.random.default_rng(0).permutation(len(trial.case.arrays[0]))
    return _same_bits(trial, [order], "in another order")


def same_when_cut(trial: Trial) -> Verdict:
    """Every row has the same bits when the batch is cut into parts."""
    rows = np.arange(len(trial.case.arrays[0]))
    return _same_bits(trial, [part for size in (1, 3, 7) for part in (rows[:size], rows[size:])], "in another batch")


def _same_bits(trial: Trial, selections: list[Numbers], when: str) -> Verdict:
    verdict, count = Verdict(), len(trial.case.arrays[0])
    whole = {}
    for quantity in ("value", "gradient"):
        with _left_out(verdict, quantity):
            whole[quantity] = trial.compute(quantity)
    for rows in selections:
        arrays = tuple(trial.asarray(array[rows]) for array in trial.case.arrays_in(trial.dtype))
        for quantity, once in whole.items():
            again, once = trial.compute(quantity, arrays), once[rows] if once.shape[:1] == (count,) else once
            if again.shape != once.shape:
                verdict.wrong.append(f"{quantity} has the shape {again.shape} instead of {once.shape} {when}")
            elif not np.array_equal(again, once, equal_nan=True):
                verdict.wrong.append(f"{quantity} has other bits {when}, {int(np.sum(again != once))} of {once.size}")
    verdict.wrong = sorted(set(verdict.wrong))[:2]
    return verdict


@contextlib.contextmanager
def _left_out(verdict: Verdict, quantity: str) -> Iterator[None]:
    try:
        yield
    except Unsupported as reason:
        verdict.left_out[quantity] = str(reason)
