"""A report: all outcomes, with what they were got on, as data."""

from __future__ import annotations

import json
import os
import platform
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property

from xpent.conformance.judge import ERROR, FAILS, PASS, UNSUPPORTED, Outcome

EXPECTED = "expected"  # what stands beside the statuses of outcomes


@dataclass(frozen=True)
class Cell:
    """What an implementation made of a category."""

    outcomes: tuple[Outcome, ...]

    @property
    def counts(self) -> Counter[str]:
        """How many have each status."""
        return Counter(outcome.status for outcome in self.outcomes)

    @property
    def status(self) -> str:
        """The worst of all."""
        return next((status for status in (ERROR, FAILS, PASS) if self.counts[status]), UNSUPPORTED)

    @property
    def error(self) -> float | None:
        """The largest error, in units of u."""
        return max((outcome.error for outcome in self.outcomes if outcome.error is not None), default=None)


@dataclass(frozen=True)
class Report:
    """Outcomes of one or more implementations.

    Attributes
    ----------
    outcomes : list of Outcome
        One for every implementation, case and dtype.
    versions : dict
        Of each implementation's library and whatever else it uses.
    skipped : dict
        What could not be asked, as it is not installed or has no device, with the reason.
    crashed : dict
        Whose process ended before its last case, and how.
    machine : str
        Where it ran.
    date : str
        When it ran, UTC.
    """

    outcomes: list[Outcome]
    versions: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    crashed: dict[str, str] = field(default_factory=dict)
    machine: str = field(default_factory=lambda: f"{platform.machine()} {platform.system()}, {os.cpu_count()} CPUs")
    date: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))

    @property
    def holds(self) -> bool:
        """Whether something was asked, and all outcomes are what was expected."""
        is_asked = any(outcome.status != UNSUPPORTED for outcome in self.outcomes)
        return is_asked and not self.crashed and all(outcome.holds for outcome in self.outcomes)

    @property
    def implementations(self) -> list[str]:
        """Their names, in order."""
        return list(dict.fromkeys(outcome.implementation for outcome in self.outcomes))

    @property
    def categories(self) -> list[str]:
        """Their names, in order."""
        return list(dict.fromkeys(outcome.category for outcome in self.outcomes))

    @property
    def surprises(self) -> list[Outcome]:
        """Failures that were not expected, and expected ones that did not come."""
        return [outcome for outcome in self.outcomes if not outcome.holds]

    @cached_property
    def _cells(self) -> dict[tuple[str, str], list[Outcome]]:
        cells = defaultdict(list)
        for outcome in self.outcomes:
            cells[outcome.category, outcome.implementation].append(outcome)
        return cells

    def cell(self, category: str, implementation: str) -> Cell:
        """What an implementation made of a category."""
        return Cell(tuple(self._cells.get((category, implementation), ())))

    def to_json(self) -> str:
        """All of it, for machines."""
        outcomes = [{**asdict(o), "name": o.name, "holds": o.holds} for o in self.outcomes]
        head = {name: getattr(self, name) for name in ("holds", "date", "machine", "versions", "skipped", "crashed")}
        return json.dumps({**head, "outcomes": _finite(outcomes)}, indent=2, allow_nan=False)


def standing(cell: Cell) -> str:
    """The worst that is a surprise; else "expected", if any failure was; else the status."""
    surprises = {outcome.status for outcome in cell.outcomes if not outcome.holds}
    if surprises:
        return ERROR if ERROR in surprises else FAILS
    return EXPECTED if any(outcome.is_wrong for outcome in cell.outcomes) else cell.status


def summary(cell: Cell) -> str:
    """How many fail, if any; else the largest error."""
    asked = sum(outcome.status != UNSUPPORTED for outcome in cell.outcomes)
    counts = Counter((outcome.is_wrong, outcome.holds) for outcome in cell.outcomes)
    for kind, words in ((True, False), "fail"), ((False, False), "should fail"), ((True, True), "expected"):
        if counts[kind]:
            return f"{counts[kind]} of {asked} {words}"
    return "-" if not asked else "ok" if cell.error is None else units(cell.error)


def far_off(cell: Cell) -> str:
    """The largest error of what fails, if that has one: what raises has none."""
    error = Cell(tuple(outcome for outcome in cell.outcomes if outcome.is_wrong)).error
    return "" if error is None else units(error)


def verdict(report: Report) -> str:
    """All of it in a sentence."""
    counts = Counter((o.is_wrong, o.holds) for o in report.outcomes if o.status != UNSUPPORTED)
    asked, expected = counts.total(), counts[True, True]
    if not asked and not report.crashed:
        return "Nothing was asked."
    if report.holds:
        all_of_them = f"All {asked} checks hold" if asked > 1 else "The one check holds"
        parts = [f"{asked - expected} of {asked} checks hold" if expected else all_of_them]
    else:
        parts = [f"{counts[True, False]} of {asked} checks fail"] if counts[True, False] else []
    parts += [f"{counts[False, False]} of {asked} should fail and do not"] if counts[False, False] else []
    parts += [f"{expected} fail as expected"] if expected else []
    parts += [f"{name} crashed" for name in report.crashed]
    return f"{', '.join(parts)}."


def not_asked(report: Report, name: str) -> Counter[str]:
    """Why an implementation was not asked all, with the number of checks, commonest first."""
    reasons: Counter[str] = Counter()
    for outcome in report.outcomes:
        if outcome.implementation == name:
            left_out = (f"{quantity}: {reason}" for quantity, reason in outcome.left_out.items())
            reasons.update([outcome.message] if outcome.status == UNSUPPORTED else left_out)
    return Counter(dict(reasons.most_common()))


def units(error: float) -> str:
    """An error as one reads it."""
    return f"{error:.1f} u" if error < 1e4 else "NaN or inf" if error == float("inf") else f"{error:.1e} u"


def _finite(value: object) -> object:
    """Infinite errors as the word, which JSON can hold."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    return "inf" if value == float("inf") else value
