"""Checks as tests of pytest: one test for each case and dtype."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from typing import Any

from xpent.conformance.case import Case
from xpent.conformance.dtypes import DTYPES
from xpent.conformance.implementation import Implementation
from xpent.conformance.runner import UNSUPPORTED, as_implementation, check_dtypes, check_expected, judge, select


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
    """Make a test of pytest run what `check` runs, one case at a time.

    The test takes ``check`` and calls it; a case that is not claimed is not a test. Expected failures are strict.

    Parameters
    ----------
    function, dtypes, categories, cases, expected_failures, **how : see `check`
        What to run.

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

    implementation, expected = as_implementation(function, how), expected_failures or {}
    selected = select(categories, cases)
    check_expected(expected, implementation, selected)
    check_dtypes(dtypes)

    def parameter(case: Case, dtype: str) -> Any:
        reason = expected.get(f"{case.id}[{dtype}]", expected.get(case.id))
        marks = [] if reason is None else [pytest.mark.xfail(reason=reason, strict=True, raises=AssertionError)]
        return pytest.param(
            functools.partial(_assert_right, implementation, case, dtype), id=f"{case.id}-{dtype}", marks=marks
        )

    asked = [
        parameter(case, dtype)
        for case in selected
        for dtype in case.dtypes
        if dtype in dtypes and implementation.reason_against(case, dtype) is None
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
