"""The report as one self-contained HTML file."""

from __future__ import annotations

from importlib.resources import files
from itertools import groupby

from jinja2 import Environment, StrictUndefined

from xpent.conformance.dtypes import DTYPES
from xpent.conformance.report import (
    EXPECTED,
    Report,
    overall_status,
    severity,
    share_in_words,
    summary,
    units,
    unsupported_reasons,
    verdict,
)  # fmt: skip
from xpent.conformance.runner import ERROR, FAILS, PASS, UNSUPPORTED, Outcome

SIGNS = {PASS: "✓", FAILS: "✗", ERROR: "!", EXPECTED: "~", UNSUPPORTED: "-"}


def to_html(report: Report) -> str:
    """Render a table of categories by implementations, and for each of its cells a table of the cases."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(
        units=units, share_in_words=share_in_words, overall_status=overall_status, summary=summary,
        cases=_cases, kind=_kind,
    )  # fmt: skip
    template = environment.from_string(files("xpent.conformance").joinpath("report.html.jinja").read_text("utf-8"))
    run = {outcome.dtype for outcome in report.outcomes if outcome.status != UNSUPPORTED}
    return template.render(
        report=report,
        grid={c: {name: report.cell(c, name) for name in report.implementations} for c in report.categories},
        reasons={name: unsupported_reasons(report, name) for name in report.implementations},
        dtypes=[dtype for dtype in DTYPES if dtype in run],
        verdict=verdict(report),
        signs=SIGNS,
    )


def _kind(outcome: Outcome) -> str:
    """The status that determines the color and the sign of an outcome."""
    return overall_status([outcome])


def _cases(outcomes: list[Outcome]) -> list[dict[str, Outcome]]:
    """The outcomes of each case by dtype; cases with unexpected outcomes come first, the worst at the top."""
    cases = [{outcome.dtype: outcome for outcome in group} for _, group in groupby(outcomes, lambda o: o.case)]

    def worst(case: dict[str, Outcome]) -> tuple[int, int, float]:
        surprises = [severity(outcome) for outcome in case.values() if not outcome.holds]
        if surprises:
            return 0, *min(surprises)
        is_run = any(outcome.status != UNSUPPORTED for outcome in case.values())
        return (1 if any(outcome.is_wrong for outcome in case.values()) else 2 if is_run else 3), 0, 0.0

    return sorted(cases, key=worst)
