"""The report: all outcomes with versions, machine and date, as data, as JSON and summarized in words."""

from __future__ import annotations

import json
import os
import platform
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property

from xpent.conformance.checks import CAUSES
from xpent.conformance.runner import ERROR, FAILS, PASS, UNSUPPORTED, Outcome

EXPECTED = "expected"  # a further status, of failures that were expected
NOT_FAILED = "expected to fail, but passes"  # a further cause


@dataclass(frozen=True)
class Report:
    """Outcomes of one or more implementations.

    Attributes
    ----------
    outcomes : list of Outcome
        One for every implementation, case and dtype.
    versions : dict
        The packages that each implementation uses, with their versions.
    skipped : dict
        The implementations that are not installed or have no device, with the reason.
    crashed : dict
        The implementations whose process ended before the last case, and the case at which it ended.
    left_out : dict
        The implementations of which some checks were not selected, with a description of these and of how the others
        ran.
    machine : str
        The machine on which the checks ran.
    date : str
        The time of the report, in UTC.
    """

    outcomes: list[Outcome]
    versions: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    crashed: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    machine: str = field(default_factory=lambda: f"{platform.machine()} {platform.system()}, {os.cpu_count()} CPUs")
    date: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))

    @property
    def holds(self) -> bool:
        """Whether at least one check was run and all outcomes are as expected."""
        is_run = any(outcome.status != UNSUPPORTED for outcome in self.outcomes)
        return is_run and not self.crashed and all(outcome.holds for outcome in self.outcomes)

    @property
    def implementations(self) -> list[str]:
        """The names of the implementations, in order."""
        return list(dict.fromkeys(outcome.implementation for outcome in self.outcomes))

    @property
    def categories(self) -> list[str]:
        """The names of the categories, in order."""
        return list(dict.fromkeys(outcome.category for outcome in self.outcomes))

    @property
    def surprises(self) -> list[Outcome]:
        """Unexpected failures, and passes where a failure was expected, worst first."""
        return sorted((outcome for outcome in self.outcomes if not outcome.holds), key=severity)

    @cached_property
    def _cells(self) -> dict[tuple[str, str], list[Outcome]]:
        cells = defaultdict(list)
        for outcome in self.outcomes:
            cells[outcome.category, outcome.implementation].append(outcome)
        return cells

    def cell(self, category: str, implementation: str) -> list[Outcome]:
        """The outcomes of an implementation in a category."""
        return self._cells.get((category, implementation), [])

    def of(self, implementation: str) -> list[Outcome]:
        """The outcomes of an implementation."""
        return [outcome for outcome in self.outcomes if outcome.implementation == implementation]

    def to_json(self) -> str:
        """The report as JSON."""
        outcomes = [{**asdict(o), "name": o.name, "holds": o.holds} for o in self.outcomes]
        names = ("holds", "date", "machine", "versions", "skipped", "crashed", "left_out")
        head = {name: getattr(self, name) for name in names}
        return json.dumps({**head, "outcomes": _finite(outcomes)}, indent=2, allow_nan=False)


def cause(outcome: Outcome) -> str:
    """The cause under which an unexpected outcome is listed."""
    return (outcome.cause or outcome.status) if outcome.is_wrong else NOT_FAILED


def severity(outcome: Outcome) -> tuple[int, float]:
    """A sort key that puts the worst first: by cause, then by the error relative to the allowed error."""
    rank = CAUSES.index(outcome.cause) if outcome.cause in CAUSES else len(CAUSES)
    return (rank if outcome.is_wrong else len(CAUSES) + 1), -outcome.share


def by_cause(outcomes: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    """Unexpected outcomes grouped by cause, worst first."""
    groups: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in sorted(outcomes, key=severity):
        groups[cause(outcome)].append(outcome)
    return groups


def overall_status(outcomes: Iterable[Outcome]) -> str:
    """The worst unexpected status; otherwise "expected" if a failure was expected, "pass" or "unsupported"."""
    outcomes = list(outcomes)
    surprises = {outcome.status for outcome in outcomes if not outcome.holds}
    if surprises:
        return FAILS if FAILS in surprises or PASS in surprises else ERROR
    if any(outcome.is_wrong for outcome in outcomes):
        return EXPECTED
    return PASS if any(outcome.status == PASS for outcome in outcomes) else UNSUPPORTED


def summary(outcomes: Iterable[Outcome]) -> str:
    """The number of failures if there are any, otherwise "ok", or "-" if nothing was run."""
    outcomes = list(outcomes)
    run = sum(outcome.status != UNSUPPORTED for outcome in outcomes)
    counts = Counter((outcome.is_wrong, outcome.holds) for outcome in outcomes)
    for kind, words in ((True, False), "fail"), ((False, False), "should fail"), ((True, True), "expected"):
        if counts[kind]:
            return f"{counts[kind]} of {run} {words}"
    return "ok" if run else "-"


def verdict(report: Report) -> str:
    """The whole report in one sentence."""
    counts = Counter((o.is_wrong, o.holds) for o in report.outcomes if o.status != UNSUPPORTED)
    run, expected = counts.total(), counts[True, True]
    if not run and not report.crashed:
        return "Nothing was checked."
    if report.holds:
        all_of_them = f"All {run} checks pass" if run > 1 else "The only check passes"
        parts = [f"{run - expected} of {run} checks pass" if expected else all_of_them]
    else:
        parts = [f"{counts[True, False]} of {run} checks fail"] if counts[True, False] else []
    parts += [f"{counts[False, False]} of {run} pass unexpectedly"] if counts[False, False] else []
    parts += [f"{expected} fail as expected"] if expected else []
    parts += [f"{name} crashed" for name in report.crashed]
    return f"{', '.join(parts)}."


def unsupported_reasons(report: Report, name: str) -> Counter[str]:
    """The reasons why checks of an implementation were not run, with their counts, most common first."""
    reasons: Counter[str] = Counter()
    for outcome in report.of(name):
        left_out = (f"{quantity}: {reason}" for quantity, reason in outcome.left_out.items())
        reasons.update([outcome.message] if outcome.status == UNSUPPORTED else left_out)
    return Counter(dict(reasons.most_common()))


def share_in_words(share: float) -> str:
    """Format an error as a percentage or a multiple of the allowed error."""
    if share == float("inf"):
        return "NaN or infinity"
    return f"{100 * share:.0f}% of allowed" if share < 10 else f"{share:.2g} x allowed"


def units(error: float) -> str:
    """Format an error in units of u."""
    return f"{error:.1f} u" if error < 1e4 else "NaN or inf" if error == float("inf") else f"{error:.1e} u"


def _finite(value: object) -> object:
    """Replace infinite errors by the string "inf", because JSON has no infinity."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    return "inf" if value == float("inf") else value
