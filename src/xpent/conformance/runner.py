"""The runner: run a case in a dtype on an implementation, or all of them."""

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
    """The outcome of a case in a dtype."""

    implementation: str
    dtype: str
    case: str  # its id
    category: str
    why: str
    status: str  # "pass", "fails", "unsupported" or "error"
    message: str = ""  # what is wrong, why the case is unsupported, or further information
    cause: str = ""  # one of `checks.CAUSES`; the worst if there are several
    errors: Mapping[str, float] = field(default_factory=dict)  # the largest error of each quantity, in units of u
    share: float = 0.0  # the largest error, as a fraction of the allowed error
    left_out: Mapping[str, str] = field(default_factory=dict)  # quantities that are not supported, with the reason
    reproduction: str = ""  # Python code that reproduces a failure
    expected: str = ""  # the reason if a failure was expected

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
        """Whether the check fails or raises an error."""
        return self.status in (FAILS, ERROR)

    @property
    def holds(self) -> bool:
        """Whether the outcome is as expected: a pass, an expected failure, or an unsupported case."""
        return self.status == UNSUPPORTED or self.is_wrong == bool(self.expected)


def select(categories: Collection[str] = (), cases: Collection[str] = ()) -> tuple[Case, ...]:
    """The cases with these categories and ids; all cases by default."""
    check_known("category", categories, CATEGORIES)
    check_known("case", cases, BY_ID)
    selected = [c for c in ALL if (not categories or c.category in categories) and (not cases or c.id in cases)]
    if not selected:
        raise ValueError(f"none of the cases {', '.join(cases)} is in the categories {', '.join(categories)}")
    return tuple(selected)


def check_known(kind: str, names: Collection[str], known: Collection[str]) -> None:
    """Raise ValueError if a name is unknown. The message suggests similar names."""
    for name in names:
        if name not in known:
            raise ValueError(f"there is no {kind} {name!r}{nearest(name, list(known))}")


def read_expected(file: Path) -> dict[str, str]:
    """Read a TOML file of lines ``"case[dtype]" = "reason"``, and return the reasons by name."""
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        form = '"case[dtype]" = "reason"'
        raise ValueError(f"{file}: {error}; each line must have the form {form}, with quotes") from error
    for name, reason in table.items():
        if not isinstance(reason, str):
            raise ValueError(f"{file}: the reason of {name!r} must be a string, got {reason!r}")
    return table


def check_expected(
    expected_failures: Mapping[str, str], implementation: Implementation, cases: tuple[Case, ...]
) -> None:
    """Raise ValueError unless each expected failure names a case that is run, or a case and dtype, and has a reason."""
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
            raise ValueError(f"expected_failures: {name!r} is not run, because it is not supported")


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
    """Run cases in each of the given dtypes that they have."""
    for case in cases:
        for dtype in case.dtypes:
            if dtype in dtypes:
                yield judge(implementation, case, dtype, expected_failures)


def as_implementation(function: Callable[..., Any] | Implementation, how: dict[str, Any]) -> Implementation:
    """Return an implementation unchanged; make one of a function with `target`."""
    if not isinstance(function, Implementation):
        return target(function, **how)
    if how:
        raise TypeError(f"{', '.join(how)} cannot be combined with an implementation")
    return function


def check_dtypes(dtypes: Collection[str]) -> Collection[str]:
    """Return the dtypes; raise ValueError if one is unknown."""
    check_known("dtype", dtypes, DTYPES)
    return dtypes
