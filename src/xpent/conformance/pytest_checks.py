"""Checks as pytest tests, one for each case and dtype, for the plugin and for a decorator."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from xpent.conformance.case import Case
from xpent.conformance.dtypes import DTYPES
from xpent.conformance.implementation import Implementation
from xpent.conformance.runner import UNSUPPORTED, as_implementation, check_dtypes, check_expected, judge, select


@dataclass(frozen=True)
class Check:
    """A check of a case in a dtype. A call runs it, and raises AssertionError if it fails."""

    implementation: Implementation
    case: Case
    dtype: str
    expected: str | None  # the reason if a failure is expected

    @property
    def name(self) -> str:
        """The case with its dtype."""
        return f"{self.case.id}[{self.dtype}]"

    @property
    def marks(self) -> list[Any]:
        """The pytest marks of the check."""
        import pytest

        if self.expected is None:
            return []
        return [pytest.mark.xfail(reason=self.expected, strict=True, raises=AssertionError)]

    def __call__(self) -> None:
        """Run the check."""
        import pytest

        __tracebackhide__ = True
        outcome = judge(self.implementation, self.case, self.dtype)
        if outcome.status == UNSUPPORTED:
            pytest.skip(outcome.message)
        if outcome.is_wrong:
            raise AssertionError(f"{outcome.message}\n\n{outcome.why}\n\n{outcome.reproduction}".rstrip())


def checks_of(
    implementation: Implementation,
    dtypes: Collection[str],
    categories: Collection[str],
    cases: Collection[str],
    expected_failures: Mapping[str, str],
) -> list[Check]:
    """The selected checks that the implementation supports. Unknown names raise ValueError."""
    selected = select(categories, cases)
    check_expected(expected_failures, implementation, selected)
    check_dtypes(dtypes)
    return [
        Check(implementation, case, dtype, expected_failures.get(f"{case.id}[{dtype}]", expected_failures.get(case.id)))
        for case in selected
        for dtype in case.dtypes
        if dtype in dtypes and implementation.reason_against(case, dtype) is None
    ]


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
    """Parametrize a pytest test with the checks that `check` runs.

    The test has an argument ``check``, which it calls. Cases that the function does not support are omitted. Expected
    failures are strict.

    Parameters
    ----------
    function, dtypes, categories, cases, expected_failures, **how : see `check`
        The function and the selection of checks.

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

    implementation = as_implementation(function, how)
    checks = checks_of(implementation, dtypes, categories, cases, expected_failures or {})
    return pytest.mark.parametrize(
        "check", [pytest.param(check, id=f"{check.case.id}-{check.dtype}", marks=check.marks) for check in checks]
    )
