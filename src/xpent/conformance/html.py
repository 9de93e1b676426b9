"""The report as one self-contained HTML file."""

from __future__ import annotations

from itertools import groupby

from jinja2 import Environment, PackageLoader, StrictUndefined

from xpent.conformance.judge import UNSUPPORTED, Outcome
from xpent.conformance.report import Cell, Report, units

SIGNS = {"pass": "✓", "fails": "✗", "error": "!", "unsupported": "-"}


def to_html(report: Report) -> str:
    """The matrix of categories by implementations; each cell opens to its cases."""
    environment = Environment(
        loader=PackageLoader("xpent.conformance"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(units=units, status=_status, summary=_summary, by_case=_by_case)
    return environment.get_template("report.html.jinja").render(report=report, signs=SIGNS)


def _status(cell: Cell) -> str:
    """The worst of all; "expected" where every failure was."""
    wrong = [outcome for outcome in cell.outcomes if outcome.is_wrong]
    return "expected" if wrong and all(outcome.holds for outcome in cell.outcomes) else cell.status


def _summary(cell: Cell) -> str:
    """What the matrix says of a cell."""
    wrong = sum(outcome.is_wrong for outcome in cell.outcomes)
    asked = sum(outcome.status != UNSUPPORTED for outcome in cell.outcomes)
    if wrong:
        return f"{wrong} of {asked}"
    return "" if not asked else "ok" if cell.error is None else units(cell.error)


def _by_case(cell: Cell) -> list[list[Outcome]]:
    """The outcomes of each case, those that are wrong first."""
    cases = [list(group) for _, group in groupby(cell.outcomes, key=lambda outcome: outcome.case)]
    return sorted(cases, key=lambda outcomes: -sum(outcome.is_wrong for outcome in outcomes))
