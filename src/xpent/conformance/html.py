"""The report as one self-contained HTML file."""

from __future__ import annotations

import math
from collections import defaultdict
from importlib.resources import files
from itertools import groupby

from jinja2 import Environment, StrictUndefined

from xpent.conformance.dtypes import DTYPES
from xpent.conformance.judge import ERROR, FAILS, PASS, UNSUPPORTED, Outcome
from xpent.conformance.report import EXPECTED, Cell, Report, far_off, not_asked, standing, summary, units, verdict

SIGNS = {PASS: "✓", FAILS: "✗", ERROR: "!", EXPECTED: "~", UNSUPPORTED: "-"}


def to_html(report: Report) -> str:
    """The matrix of categories by implementations; each cell opens to its cases."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(
        units=units,
        percent=_percent,
        standing=standing,
        summary=summary,
        far_off=far_off,
        cases=_cases,
        left_out=_left_out,
        kind=_kind,
    )
    template = environment.from_string(files("xpent.conformance").joinpath("report.html.jinja").read_text("utf-8"))
    grid = {c: [report.cell(c, name) for name in report.implementations] for c in report.categories}
    reasons = {name: not_asked(report, name) for name in report.implementations}
    asked = {outcome.dtype for outcome in report.outcomes if outcome.status != UNSUPPORTED}
    dtypes = [dtype for dtype in DTYPES if dtype in asked]
    return template.render(
        report=report, grid=grid, reasons=reasons, dtypes=dtypes, verdict=verdict(report), signs=SIGNS
    )


def _kind(outcome: Outcome) -> str:
    """What its colour and sign say."""
    return standing(Cell((outcome,)))


def _percent(share: float) -> str:
    """A share of what is allowed, as one reads it."""
    if math.isinf(share):
        return "beyond all bounds"
    return f"{100 * share:.0f} % of allowed" if share < 10 else f"{share:.2g} x allowed"


def _cases(cell: Cell) -> list[list[Outcome]]:
    """What was asked, case by case, surprises first."""
    asked = [outcome for outcome in cell.outcomes if outcome.status != UNSUPPORTED]
    cases = [list(group) for _, group in groupby(asked, key=lambda outcome: outcome.case)]
    return sorted(cases, key=lambda outcomes: (all(o.holds for o in outcomes), not any(o.is_wrong for o in outcomes)))


def _left_out(cell: Cell) -> dict[str, list[str]]:
    """What was not asked: the cases by reason, with dtypes where another of the case was asked."""
    cases: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for outcome in cell.outcomes:
        left_out = [f"{quantity}: {reason}" for quantity, reason in outcome.left_out.items()]
        for reason in [outcome.message] if outcome.status == UNSUPPORTED else left_out:
            cases[reason][outcome.case].append(outcome.dtype)
    return {reason: [_with_dtypes(cell, *item) for item in found.items()] for reason, found in cases.items()}


def _with_dtypes(cell: Cell, case: str, dtypes: list[str]) -> str:
    all_dtypes = [outcome.dtype for outcome in cell.outcomes if outcome.case == case]
    return case if dtypes == all_dtypes else f"{case} [{', '.join(dtypes)}]"
