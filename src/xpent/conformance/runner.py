"""The runner: what becomes of an implementation, a case and a dtype, one by one or all together."""

from __future__ import annotations

import tomllib
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xpent.conformance.case import Case
from xpent.conformance.cases import ALL, BY_ID, CATEGORIES
from xpent.conformance.checks import CHECKS
from xpent.conformance.checks import ERROR as RAISES
from xpent.conformance.dtypes import DTYPES
from xpent.conformance.implementation import Implementation
from xpent.conformance.libraries import Unsupported
from xpent.conformance.reproduction import reproduction
from xpent.conformance.target import nearest, target
from xpent.conformance.trial import Raised, Trial

PASS, FAILS, UNSUPPORTED, ERROR = "pass", "fails", "unsupported", "error"


@dataclass(frozen=True)
class Outcome:
    """What became of a case in a dtype."""

    implementation: str
    dtype: str
    case: str  # its id
    category: str
    why: str
    status: str  # "pass", "fails", "unsupported" or "error"
    message: str = ""  # what is wrong, why it is unsupported, or what else there is to say
    cause: str = ""  # one of `checks.CAUSES`, the worst of what is wrong
    errors: Mapping[str, float] = field(default_factory=dict)  # the largest of each quantity, in units of u
    share: float = 0.0  # of what is allowed
    left_out: Mapping[str, str] = field(default_factory=dict)  # quantities not claimed, with the reason
    reproduction: str = ""  # Python that shows it when pasted
    expected: str = ""  # the reason, where a failure was expected

    @property
    def name(self) -> str:
        """The case with its dtype."""
        return f"{self.case}[{self.dtype}]"

    @property
    def error(self) -> float | None:
        """The largest error, in units of u."""
        return max(self.errors.values(), default=None)

    @property
    def is_wrong(self) -> bool:
        """Whether it fails or raises."""
        return self.status in (FAILS, ERROR)

    @property
    def holds(self) -> bool:
        """Whether it is what was expected: right, unless a failure was; an unsupported case says nothing."""
        return self.status == UNSUPPORTED or self.is_wrong == bool(self.expected)


def select(categories: Collection[str] = (), cases: Collection[str] = ()) -> tuple[Case, ...]:
    """The cases of these categories and ids; all, where none are given."""
    check_known("category", categories, CATEGORIES)
    check_known("case", cases, BY_ID)
    selected = [c for c in ALL if (not categories or c.category in categories) and (not cases or c.id in cases)]
    if not selected:
        raise ValueError(f"none of the cases {', '.join(cases)} is of the categories {', '.join(categories)}")
    return tuple(selected)


def check_known(kind: str, names: Collection[str], known: Collection[str]) -> None:
    """Raise ValueError if a name is not known, with those that are nearest to it."""
    for name in names:
        if name not in known:
            raise ValueError(f"there is no {kind} {name!r}{nearest(name, list(known))}")


def read_expected(file: Path) -> dict[str, str]:
    """Reasons by case, or by case and dtype, from a TOML file of lines ``"case[dtype]" = "reason"``."""
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f'{file}: {error}; each line is "case[dtype]" = "reason", both in quotes') from error
    for name, reason in table.items():
        if not isinstance(reason, str):
            raise ValueError(f"{file}: the reason of {name!r} must be a string, got {reason!r}")
    return table


def check_expected(
    expected_failures: Mapping[str, str], implementation: Implementation, cases: tuple[Case, ...]
) -> None:
    """Raise ValueError unless every expected failure names a case, or case and dtype, has a reason and can come."""
    dtypes: dict[str, tuple[str, ...]] = {case.id: case.dtypes for case in ALL}
    dtypes |= {f"{case.id}[{dtype}]": (dtype,) for case in ALL for dtype in case.dtypes}
    for name, reason in expected_failures.items():
        if name not in dtypes:
            known = dtypes if "[" in name else BY_ID
            raise ValueError(f"expected_failures: there is no case {name!r}{nearest(name, list(known))}")
        if not reason:
            raise ValueError(f"expected_failures: {name!r} needs a reason")
        case = BY_ID[name.partition("[")[0]]
        if case in cases and all(implementation.reason_against(case, dtype) for dtype in dtypes[name]):
            raise ValueError(f"expected_failures: {name!r} is not claimed, so it is not run")


def judge(
    implementation: Implementation, case: Case, dtype: str, expected_failures: Mapping[str, str] | None = None
) -> Outcome:
    """Run one case in a dtype."""
    expected = expected_failures or {}
    control = BY_ID["linear-rows" if case.function == "linear_cross_entropy" else "rows"]
    trial = Trial(implementation, case, dtype, Trial(implementation, control, dtype))

    def outcome(status: str, message: str = "", **rest: Any) -> Outcome:
        if status in (FAILS, ERROR):
            rest["reproduction"] = reproduction(trial, message)
        return Outcome(
            implementation.name, dtype, case.id, case.category, case.why, status, message,
            expected=expected.get(f"{case.id}[{dtype}]", expected.get(case.id, "")),
            **rest,
        )  # fmt: skip

    reason = trial.reason_against()
    if reason is not None:
        return outcome(UNSUPPORTED, reason)
    try:
        with warnings.catch_warnings(), trial.library.enabled():
            warnings.simplefilter("ignore")
            verdict = CHECKS[case.check](trial)
    except Unsupported as unsupported:
        return outcome(UNSUPPORTED, str(unsupported))
    except Raised as error:
        return outcome(ERROR, str(error), cause=RAISES)
    return outcome(
        FAILS if verdict.wrong else PASS, "; ".join(text for _, text in verdict.wrong) or verdict.note,
        cause=verdict.worst_cause, errors=verdict.errors, share=verdict.share, left_out=verdict.left_out,
    )  # fmt: skip


def sweep(
    implementation: Implementation,
    cases: Collection[Case],
    dtypes: Collection[str],
    expected_failures: Mapping[str, str] | None = None,
) -> Iterator[Outcome]:
    """Run all cases in all of these dtypes."""
    for case in cases:
        for dtype in case.dtypes:
            if dtype in dtypes:
                yield judge(implementation, case, dtype, expected_failures)


def as_implementation(function: Callable[..., Any] | Implementation, how: dict[str, Any]) -> Implementation:
    """An implementation as it is, or made of a function by `target`."""
    if not isinstance(function, Implementation):
        return target(function, **how)
    if how:
        raise TypeError(f"{', '.join(how)} cannot be combined with an implementation")
    return function


def check_dtypes(dtypes: Collection[str]) -> Collection[str]:
    """The same dtypes, if all exist."""
    check_known("dtype", dtypes, DTYPES)
    return dtypes
