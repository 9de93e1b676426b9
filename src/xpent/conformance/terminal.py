"""The report in a terminal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from xpent.conformance.judge import ERROR, FAILS, PASS, UNSUPPORTED, Outcome
from xpent.conformance.report import EXPECTED, Report, far_off, not_asked, standing, summary, verdict

FEW = 5  # surprises told in full, and implementations whose reasons are told in full
STYLES = {PASS: "green", FAILS: "red", ERROR: "red", EXPECTED: "yellow", UNSUPPORTED: "dim"}
LEGEND = "A cell shows the largest error, in u: half the machine epsilon of the dtype; or how many checks fail."


def progress() -> Progress:
    """A bar for each implementation, on standard error."""
    columns = (
        TextColumn("{task.description:32}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)


def print_report(report: Report, console: Console | None = None) -> None:
    """Print the matrix of categories by implementations, what is wrong, what was left out, and the verdict."""
    console = console or Console(width=None if Console().is_terminal else 120)
    versions = dict.fromkeys(part for versions in report.versions.values() for part in versions.split(", "))
    _say(console, "\n", ("Conformance of cross-entropy", "bold"), f", {report.date}, {report.machine}")
    _say(console, f"{', '.join(versions)}\n{LEGEND}")
    for table in _tables(report, console.width):
        console.print(table)
    notes = ((o.implementation, f"{o.case}: {o.message}") for o in report.outcomes if o.status == PASS and o.message)
    for note, names in _grouped(notes):
        _say(console, (f"{names}: {note}", "dim"))
    _print_surprises(report, console)
    for name, reason in report.skipped.items():
        _say(console, (f"{name} is skipped: ", "yellow"), reason)
    for name, reason in report.crashed.items():
        _say(console, (f"{name} crashed: ", "bold red"), reason)
    for reasons, names in _grouped((name, _reasons(report, name)) for name in report.implementations):
        _say(console, f"Not asked of {names}: ", (reasons, "dim"))
    _say(console, "\n", (verdict(report), "bold green" if report.holds else "bold red"), "\n")


def _reasons(report: Report, name: str) -> str:
    reasons = [f"{reason} ({count})" for reason, count in not_asked(report, name).items()]
    if len(report.implementations) > FEW and len(reasons) > 4:
        reasons[3:] = [f"{len(reasons) - 3} reasons more"]
    return "; ".join(reasons)


def _grouped(texts: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    names: dict[str, list[str]] = defaultdict(list)
    for name, text in texts:
        names[text].append(name)
    return ((text, ", ".join(names)) for text, names in names.items() if text)


def _say(console: Console, *parts: str | tuple[str, str], soft_wrap: bool = False) -> None:
    console.print(Text.assemble(*parts), soft_wrap=soft_wrap)  # a Text: what others wrote may look like markup


def _tables(report: Report, width: int) -> Iterator[Table]:
    """One table, with errors beside the counts, if it fits; else as many as it takes, without them."""
    columns = {name: _column(report, name, with_errors=True) for name in report.implementations}
    first = max(map(len, report.categories), default=0) + 3
    if first + sum(2 + _width(column) for column in columns.values()) > width:
        columns = {name: _column(report, name, with_errors=False) for name in columns}
    while columns:
        table, left = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0)), width - first
        table.add_column("category", no_wrap=True)
        rows: list[list[Text]] = []
        while columns and (not rows or left >= 2 + _width(next(iter(columns.values())))):
            column = columns.pop(next(iter(columns)))
            left -= 2 + _width(column)
            table.add_column(column[0], justify="right", width=_width(column))
            rows.append(column[1:])
        for category, *cells in zip(report.categories, *rows, strict=True):
            table.add_row(Text(category), *cells)
        yield table


def _column(report: Report, name: str, *, with_errors: bool) -> list[Text]:
    column = [Text(name, style="bold")]
    for category in report.categories:
        cell = report.cell(category, name)
        words = ", ".join(filter(None, [summary(cell), far_off(cell) if with_errors else ""]))
        column.append(Text(words, style=STYLES[standing(cell)]))
    return column


def _width(column: list[Text]) -> int:
    return max(*map(len, column[0].plain.split()), *(len(cell) for cell in column[1:]))


def _print_surprises(report: Report, console: Console) -> None:
    surprises = sorted(report.surprises, key=lambda outcome: not outcome.is_wrong)
    if len(surprises) <= FEW:
        for outcome in surprises:
            _print_one(outcome, console)
        return
    for name in report.implementations:
        cases = {outcome.case: outcome for outcome in reversed(surprises) if outcome.implementation == name}
        if cases and len(report.implementations) > 1:
            _say(console, "\n", (name, "bold"), f", {len(cases)} cases: ", (", ".join(reversed(cases)), "red"))
        elif cases:
            _say(console, "\n", (name, "bold"), f", {len(cases)} cases:")
            for case, outcome in reversed(cases.items()):
                line = Text.assemble("  ", (f"{case:{min(24, max(map(len, cases)))}}", "red"), f" {_what(outcome)}")
                line.truncate(console.width - 1, overflow="ellipsis")
                console.print(line)
    first = surprises[0]
    _say(console, f"\nThe first of {len(surprises)}; --html FILE shows every case, --case {first.case} one alone:")
    _print_one(first, console)


def _print_one(outcome: Outcome, console: Console) -> None:
    _say(console, "\n", (f"{outcome.implementation}: {outcome.name} {outcome.status}", "bold red"))
    _say(console, f"{_what(outcome)}\n{outcome.why}")
    lines = "".join(f"    {line}\n" for line in outcome.reproduction.splitlines())
    _say(console, (lines, "dim"), soft_wrap=True)  # no line is broken, so that they can be copied


def _what(outcome: Outcome) -> str:
    return outcome.message if outcome.is_wrong else f"was expected to fail, and does not: {outcome.expected}"
