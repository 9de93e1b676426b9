"""Two of the three fronts: a function that returns a report, and a parametrization for pytest."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from typing import Any

from xpent.conformance.case import Case
from xpent.conformance.dtypes import DTYPES
from xpent.conformance.implementation import Implementation
from xpent.conformance.judge import UNSUPPORTED, Outcome, check_dtypes, check_expected, judge, select, sweep
from xpent.conformance.report import Report
from xpent.conformance.target import target
from xpent.conformance.trial import Trial


def check(
    function: Callable[..., Any] | Implementation,
    /,
    *,
    dtypes: Collection[str] = DTYPES,
    categories: Collection[str] = (),
    cases: Collection[str] = (),
    expected_failures: Mapping[str, str] | None = None,
    progress: Callable[[Outcome], None] | None = None,
    **how: Any,
) -> Report:
    """Judge an implementation, case by case.

    Parameters
    ----------
    function : function or Implementation
        What is to be judged.
    dtypes, categories, cases : collections of str
        What to ask it; everything by default.
    expected_failures : mapping, optional
        Reasons by case, or by case and dtype: ``{"margin-20": "...", "label-C[float32]": "..."}``. One that does not
        fail, in each dtype it covers, is a surprise, as a failure that is not expected is. To raise is to fail.
    progress : function, optional
        Called with every outcome as it comes.
    **how
        What `target` takes, if ``function`` is a function: ``library``, ``signature``, ``value_and_grad``, ...

    Returns
    -------
    Report

    Raises
    ------
    ValueError
        If a dtype, category or case does not exist.

    Examples
    --------
    >>> import numpy as np
    >>> from xpent import conformance
    >>> def loss(logits, targets):
    ...     p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    ...     return -np.log(np.take_along_axis(p, targets[:, None], -1)).mean()
    >>> report = conformance.check(loss, categories=["offset"], dtypes=["float64"])
    >>> report.holds
    False
    >>> print(report.surprises[0].name, report.surprises[0].message)
    offset+1e3[float64] value is nan instead of 3.5383222036512323
    """
    implementation = _implementation(function, how)
    selected = select(categories, cases)
    check_expected(expected_failures or {}, implementation, selected)
    outcomes = []
    for outcome in sweep(implementation, selected, check_dtypes(dtypes), expected_failures):
        outcomes.append(outcome)
        if progress is not None:
            progress(outcome)
    return Report(outcomes, {implementation.name: implementation.versions})


def parametrize(
    function: Callable[..., Any] | Implementation,
    /,
    *,
    dtypes: Collection[str] = DTYPES,
    categories: Collection[str] = (),
    cases: Collection[str] = (),
    expected_failures: Mapping[str, str] | None = None,
    **how: Any,
) -> Any:
    """Make a test of pytest ask all that `check` asks, one case at a time.

    The test takes ``check`` and calls it; a case that is not claimed makes no test. Expected failures are strict.

    Parameters
    ----------
    function, dtypes, categories, cases, expected_failures, **how : see `check`
        What to ask of what.

    Returns
    -------
    decorator

    Raises
    ------
    ValueError
        If a dtype, category, case or expected failure does not exist.

    Examples
    --------
    >>> import numpy as np
    >>> from xpent import conformance
    >>> def loss(logits, targets):
    ...     return np.log(np.exp(logits).sum(-1)).mean() - np.take_along_axis(logits, targets[:, None], -1).mean()
    >>> @conformance.parametrize(loss, categories=["ordinary"], expected_failures={"one-row": "takes a batch"})
    ... def test_conformance(check):
    ...     check()
    """
    import pytest

    implementation, expected = _implementation(function, how), expected_failures or {}
    selected = select(categories, cases)
    check_expected(expected, implementation, selected)
    check_dtypes(dtypes)

    def parameter(case: Case, dtype: str) -> Any:
        reason = expected.get(f"{case.name}[{dtype}]", expected.get(case.name))
        marks = [] if reason is None else [pytest.mark.xfail(reason=reason, strict=True, raises=AssertionError)]
        return pytest.param(
            functools.partial(_assert_right, implementation, case, dtype), id=f"{case.name}-{dtype}", marks=marks
        )

    asked = [
        parameter(case, dtype)
        for case in selected
        for dtype in case.dtypes
        if dtype in dtypes and Trial(implementation, case, dtype).reason_against() is None
    ]
    return pytest.mark.parametrize("check", asked)


def _assert_right(implementation: Implementation, case: Case, dtype: str) -> None:
    import pytest

    __tracebackhide__ = True
    outcome = judge(implementation, case, dtype)
    if outcome.status == UNSUPPORTED:
        pytest.skip(outcome.message)
    if outcome.is_wrong:
        raise AssertionError(f"{outcome.message}\n{outcome.why}\n\n{outcome.reproduction}")


def _implementation(function: Callable[..., Any] | Implementation, how: dict[str, Any]) -> Implementation:
    if not isinstance(function, Implementation):
        return target(function, **how)
    if how:
        raise TypeError(f"an Implementation says itself what its {', '.join(how)} is")
    return function
