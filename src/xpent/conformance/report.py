"""A report: all outcomes, with what they were got on, as data."""

from __future__ import annotations

import json
import os
import platform
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

from xpent.conformance.judge import ERROR, FAILS, PASS, UNSUPPORTED, Outcome


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
    machine : str
        Where it ran.
    date : str
        When it ran, UTC.
    """

    outcomes: list[Outcome]
    versions: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)  # what could not be asked, with the reason
    machine: str = field(default_factory=lambda: f"{platform.machine()} {platform.system()}, {os.cpu_count()} CPUs")
    date: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))

    @property
    def holds(self) -> bool:
        """Whether all outcomes are what was expected."""
        return all(outcome.holds for outcome in self.outcomes)

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

    def cell(self, category: str, implementation: str) -> Cell:
        """What an implementation made of a category."""
        return Cell(tuple(o for o in self.outcomes if (o.category, o.implementation) == (category, implementation)))

    def to_json(self) -> str:
        """All of it, for machines."""
        outcomes = [{**asdict(o), "name": o.name, "holds": o.holds} for o in self.outcomes]
        head = {name: getattr(self, name) for name in ("holds", "date", "machine", "versions", "skipped")}
        return json.dumps({**head, "outcomes": _finite(outcomes)}, indent=2)


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
