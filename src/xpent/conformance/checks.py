"""The checks by name: each runs a trial and returns a verdict."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from xpent.conformance import digits
from xpent.conformance.case import Result
from xpent.conformance.dtypes import EPSILON, Numbers
from xpent.conformance.expected import Expected, expected
from xpent.conformance.libraries import Unsupported
from xpent.conformance.trial import Raised, Trial

# The causes of failure, worst first: a wrong result is worse than an error, which cannot be overlooked.
NON_FINITE = "NaN or infinity where the exact value is finite"
FINITE = "a finite value where NaN or infinity is expected"
SHAPE = "wrong shape"
NO_ERROR = "no error was raised"
INACCURATE = "inaccurate"
ERROR = "raises an error"
TRAINING = "training differs from the reference"
WRITTEN = "inputs are modified"
BITS = "results differ between calls or depend on the batch"
WARNING = "warnings from valid input"
CAUSES = (NON_FINITE, FINITE, SHAPE, NO_ERROR, INACCURATE, ERROR, TRAINING, WRITTEN, BITS, WARNING)


@dataclass
class Verdict:
    """The result of a check: the largest error of each quantity, in units of u, and everything that is wrong."""

    errors: dict[str, float] = field(default_factory=dict)
    share: float = 0.0  # the largest error, as a fraction of the allowed error
    wrong: list[tuple[str, str]] = field(default_factory=list)  # one of CAUSES, and a description
    left_out: dict[str, str] = field(default_factory=dict)  # quantities that are not supported, with the reason
    note: str = ""  # further information for the report

    @property
    def worst_cause(self) -> str:
        """The worst cause among `wrong`; empty if nothing is wrong."""
        return min((cause for cause, _ in self.wrong), key=CAUSES.index, default="")


def values(trial: Trial) -> Verdict:
    """Values and derivatives are within their error bounds, or the call raises an error, as the case requires."""
    required = trial.case.result
    if required is not Result.VALUE and trial.control is not None and trial.control.reason_against() is None:
        trial.control.compute("value")
    if required is Result.ERROR:
        return _error(trial)
    verdict = Verdict()
    for quantity in trial.case.quantities:
        try:
            result = trial.compute(quantity)
        except Unsupported as reason:
            verdict.left_out[quantity] = str(reason)
            continue
        except Raised:
            if required is not Result.ERROR_OR_NAN:
                raise
            if quantity == "value":
                return verdict
            continue
        _compare(verdict, trial, quantity, result)
    if len(verdict.left_out) == len(trial.case.quantities):
        raise Unsupported("; ".join(dict.fromkeys(verdict.left_out.values())))
    return verdict


def _error(trial: Trial) -> Verdict:
    try:
        result = trial.compute("value")
    except Raised:
        return Verdict()
    return Verdict(wrong=[(NO_ERROR, f"no error was raised; the value is {result.ravel()[:3].tolist()}")])


def _compare(verdict: Verdict, trial: Trial, quantity: str, result: Numbers) -> None:
    right = expected(trial.case, trial.dtype, quantity, trial.reduction(quantity))
    if result.shape != right.exact.shape:
        verdict.wrong.append((SHAPE, f"{quantity} has the shape {result.shape} instead of {right.exact.shape}"))
        return
    units, shares = right.errors(result, trial.dtype, accepts_nan=trial.implementation.masked_rows_are_nan)
    verdict.errors[quantity] = _largest(units)
    share = _largest(shares)
    verdict.share = max(verdict.share, share)
    if not share <= 1:
        verdict.wrong.append(_worst(trial.dtype, quantity, result, right, units, shares))


def _largest(errors: Numbers) -> float:
    """The largest error; infinite if any is NaN, which marks a NaN or infinity that is missing or unexpected."""
    return float(np.max(np.nan_to_num(errors, nan=math.inf, posinf=math.inf), initial=0.0))


def _worst(
    dtype: str, quantity: str, result: Numbers, right: Expected, units: Numbers, shares: Numbers
) -> tuple[str, str]:
    at = np.unravel_index(int(np.argmax(np.nan_to_num(shares, nan=math.inf, posinf=math.inf))), result.shape)
    place = f"[{', '.join(map(str, at))}]" if at else ""
    exact, error = float(right.exact[at]), float(units[at])
    precision = 17 if dtype == "float64" else 9
    text = f"{quantity}{place} is {float(result[at]):.{precision}g} instead of {exact:.{precision}g}"
    if math.isfinite(error):
        text += f", an error of {error:.2g} u where {float(right.allowed(dtype)[at]):.2g} u are allowed"
    is_finite = math.isfinite(exact), math.isfinite(float(result[at]))
    return {(True, False): NON_FINITE, (False, True): FINITE}.get(is_finite, INACCURATE), text


def inputs_unchanged(trial: Trial) -> Verdict:
    """Computing the value and the gradient does not modify the arguments."""
    verdict = Verdict()
    with _left_out(verdict, "gradient"):
        trial.compute("value")
        trial.compute("gradient")
    for i, (array, values) in enumerate(zip(trial.arrays, trial.case.arrays_in(trial.dtype), strict=True)):
        if not np.array_equal(trial.library.to_numpy(array), values, equal_nan=values.dtype.kind == "f"):
            verdict.wrong.append((WRITTEN, f"argument {i} was modified"))
    return verdict


def no_warnings(trial: Trial) -> Verdict:
    """Computing the value and the gradient issues no warning."""
    verdict = Verdict()
    trial.library.forget()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with _left_out(verdict, "gradient"):
            trial.compute("value")
            trial.compute("gradient")
    verdict.wrong += [(WARNING, text) for text in sorted({f"{w.category.__name__}: {w.message}" for w in caught})]
    return verdict


def same_bits_repeated(trial: Trial) -> Verdict:
    """Repeated calls return bit-identical results."""
    return _same_bits(trial, [np.arange(len(trial.case.arrays[0]))] * 2, "when computed again")


def same_bits_shuffled(trial: Trial) -> Verdict:
    """The result of each row is bit-identical if the rows are shuffled."""
    order = np.random.default_rng(0).permutation(len(trial.case.arrays[0]))
    return _same_bits(trial, [order], "with shuffled rows")


def same_bits_split(trial: Trial) -> Verdict:
    """The result of each row is bit-identical if the batch is split."""
    rows = np.arange(len(trial.case.arrays[0]))
    return _same_bits(trial, [part for size in (1, 3, 7) for part in (rows[:size], rows[size:])], "in a smaller batch")


def _same_bits(trial: Trial, selections: list[Numbers], when: str) -> Verdict:
    verdict, count, wrong = Verdict(), len(trial.case.arrays[0]), set()
    whole = {}
    for quantity in ("value", "gradient"):
        with _left_out(verdict, quantity):
            whole[quantity] = trial.compute(quantity)
    for rows in selections:
        arrays = tuple(trial.asarray(array[rows]) for array in trial.case.arrays_in(trial.dtype))
        for quantity, once in whole.items():
            again, once = trial.compute(quantity, arrays), once[rows] if once.shape[:1] == (count,) else once
            if again.shape != once.shape:
                wrong.add((SHAPE, f"{quantity} has the shape {again.shape} instead of {once.shape} {when}"))
            elif not np.array_equal(again, once, equal_nan=True):
                count_text = f"{int(np.sum(again != once))} of {once.size} entries differ"
                wrong.add((BITS, f"{quantity} is not bit-identical {when}: {count_text}"))
    verdict.wrong = sorted(wrong)[:2]
    return verdict


@contextlib.contextmanager
def _left_out(verdict: Verdict, quantity: str) -> Iterator[None]:
    try:
        yield
    except Unsupported as reason:
        verdict.left_out[quantity] = str(reason)


def training(trial: Trial) -> Verdict:
    """Training on handwritten digits has the same losses and accuracy as with the textbook formula."""
    if importlib.util.find_spec("sklearn") is None:
        raise Unsupported("scikit-learn, which provides the digits data set, is not installed")
    takes_reduction = trial.implementation.takes(trial.case.function, "reduction")
    options = {"reduction": "mean"} if takes_reduction else {}

    def step(logits: Numbers, labels: Numbers) -> tuple[float, Numbers]:
        arrays = trial.library.asarray(logits, "float64"), trial.library.asarray(labels, "int64")
        value, gradient = trial.vjp(arrays, options, 0, None)
        if value.shape != () or gradient.shape != logits.shape:
            raise Raised(f"the mean has the shape {value.shape} and its gradient {gradient.shape}")
        return float(value), gradient

    losses, accuracy = digits.descend(step)
    right, right_accuracy = digits.reference()
    difference = np.nan_to_num(np.abs(np.asarray(losses) - right), nan=math.inf)
    error = float(np.max(difference)) / (EPSILON["float64"] / 2)
    verdict = Verdict({"loss": error}, error / digits.ALLOWED_UNITS)
    verdict.note = f"final loss {losses[-1]:.12f} nats, accuracy {accuracy:.2%} on the held-out images"
    if not error <= digits.ALLOWED_UNITS:
        text = f"a loss has an error of {error:.2g} u where {digits.ALLOWED_UNITS} u are allowed: {verdict.note}"
        verdict.wrong.append((TRAINING, text))
    if accuracy != right_accuracy:
        verdict.wrong.append((TRAINING, f"{verdict.note}, instead of {right_accuracy:.2%}"))
    return verdict


CHECKS: dict[str, Callable[[Trial], Verdict]] = {
    "values": values,
    "inputs unchanged": inputs_unchanged,
    "no warnings": no_warnings,
    "same bits repeated": same_bits_repeated,
    "same bits shuffled": same_bits_shuffled,
    "same bits split": same_bits_split,
    "training": training,
}
