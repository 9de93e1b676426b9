"""The report in a terminal."""

from __future__ import annotations

from collections import Counter, defaultdict

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from xpent.conformance.judge import ERROR, FAILS, PASS, UNSUPPORTED, Outcome
from xpent.conformance.report import Cell, Report, units

FEW = 5  # surprises that are told one by one
COLUMNS = 6  # implementations in one table
LEGEND = "u is half the machine epsilon of the dtype; a cell shows the largest error in u, or how many cases fail."
STYLES = {PASS: "green", FAILS: "red", ERROR: "red", UNSUPPORTED: "dim"}


def progress() -> Progress:
    """A bar for each implementation, on standard error."""
    columns = (TextColumn("{task.description:32}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def print_report(report: Report, console: Console | None = None) -> None:
    """Print the matrix of categories by implementations, what is wrong, what was left out, and the verdict."""
    console = console or Console(width=None if Console().is_terminal else 120, highlight=False)
    console.print(f"\n[bold]Conformance of cross-entropy[/], {report.date}, {report.machine}", highlight=False)
    console.print(LEGEND, highlight=False)
    names = report.implementations
    for start in range(0, len(names), COLUMNS):
        console.print(_matrix(report, names[start : start + COLUMNS]))
    for outcome in report.outcomes:
        if outcome.category == "training" and outcome.status == PASS:
            console.print(f"{outcome.implementation}: {outcome.message}", style="dim", highlight=False)
    _print_surprises(report, console)
    for name, reason in report.skipped.items():
        console.print(f"[yellow]skipped[/] {name}: {reason}", highlight=False)
    if len(names) <= FEW:
        _print_unsupported(report, console)
    console.print(f"\n{_verdict(report)}\n", highlight=False)


def _matrix(report: Report, names: list[str]) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("category", no_wrap=True)
    for name in names:
        version = report.versions.get(name, "")
        table.add_column(Text(f"{name}\n", style="bold").append(version, style="dim"), justify="right", max_width=20)
    for category in report.categories:
        table.add_row(category, *(_text(report.cell(category, name)) for name in names))
    return table


def _text(cell: Cell) -> Text:
    wrong = [outcome for outcome in cell.outcomes if outcome.is_wrong]
    asked = sum(outcome.status != UNSUPPORTED for outcome in cell.outcomes)
    if not cell.outcomes or not asked:
        return Text("-", style="dim")
    if wrong and all(outcome.expected for outcome in wrong):
        return Text(f"{len(wrong)} of {asked} expected", style="yellow")
    if wrong:
        return Text(f"{len(wrong)} of {asked} fail", style="red")
    return Text("ok" if cell.error is None else units(cell.error), style=STYLES[cell.status])


def _print_surprises(report: Report, console: Console) -> None:
    surprises = report.surprises
    if len(surprises) <= FEW:
        for outcome in surprises:
            _print_one(outcome, console)
        return
    by_name: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for outcome in surprises:
        by_name[outcome.implementation][outcome.case].append(outcome.dtype)
    for name, cases in by_name.items():
        console.print(f"\n[bold]{name}[/] fails {len(cases)} cases:", highlight=False)
        console.print(Text(", ".join(cases), style="red"))
    first = surprises[0]
    console.print(
        f"\nThe first of {len(surprises)}; --case {first.case} shows one alone, --html FILE all:", highlight=False
    )
    _print_one(first, console)


def _print_one(outcome: Outcome, console: Console) -> None:
    what = outcome.message if outcome.is_wrong else f"was expected to fail and does not: {outcome.expected}"
    console.print(Text(f"\n{outcome.implementation} {outcome.status} {outcome.name}", style="bold red"))
    console.print(Text(f"{what}\n{outcome.why}"))
    for line in outcome.reproduction.splitlines():
        console.print(Text(f"    {line}", style="dim"), soft_wrap=True)


def _print_unsupported(report: Report, console: Console) -> None:
    for name in report.implementations:
        unsupported = [o for o in report.outcomes if o.implementation == name and o.status == UNSUPPORTED]
        reasons = Counter(outcome.message for outcome in unsupported).most_common()
        if reasons:
            console.print(f"{name} is not asked {len(unsupported)} checks:", highlight=False)
            console.print(Text("; ".join(f"{reason} ({count})" for reason, count in reasons), style="dim"))


def _verdict(report: Report) -> str:
    asked = sum(outcome.status != UNSUPPORTED for outcome in report.outcomes)
    if not asked:
        return "[bold yellow]Nothing was asked.[/]"
    if report.holds:
        return f"[bold green]All {asked} checks hold.[/]"
    return f"[bold red]{len(report.surprises)} of {asked} checks fail.[/]"
