"""The report in a terminal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from xpent.conformance.report import (
    EXPECTED,
    Report,
    by_cause,
    overall_status,
    share_in_words,
    summary,
    unsupported_reasons,
    verdict,
)
from xpent.conformance.runner import ERROR, FAILS, PASS, UNSUPPORTED, Outcome

FEW = 3  # up to so many unexpected outcomes are printed in full, and up to so many reasons per implementation
STYLES = {PASS: "green", FAILS: "red", ERROR: "red", EXPECTED: "yellow", UNSUPPORTED: "dim"}
LEGEND = "A check compares one case in one dtype with exact values. A dash means that no case is supported."


class ProgressLines:
    """Progress of each implementation on standard error: bars in a terminal, otherwise one line per quarter."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        columns = (TextColumn("{task.description:32}", markup=False), BarColumn(), MofNCompleteColumn())
        self.bars = Progress(*columns, TimeElapsedColumn(), console=self.console, transient=True)
        self.tasks: dict[str, tuple[int, int]] = {}  # by name: the id of its bar, and the number of finished quarters

    def __enter__(self) -> ProgressLines:
        if self.console.is_terminal:
            self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self.bars.stop()

    def advance(self, name: str, done: int, total: int) -> None:
        """Set the progress of ``name``."""
        if name not in self.tasks:
            self.tasks[name] = int(self.bars.add_task(name)), 0
        task, printed = self.tasks[name]
        quarters = 4 * done // total
        self.tasks[name] = task, quarters
        if self.console.is_terminal:
            self.bars.update(task, completed=done, total=total)  # type: ignore[arg-type]
        elif quarters > printed:
            _print(self.console, f"{name}: {done} of {total}")


def print_report(report: Report, console: Console | None = None, *, hints: Iterable[str] = ()) -> None:
    """Print a table, the failures, the checks that were not run, the verdict and hints."""
    console = console or Console(width=None if Console().is_terminal else 120)
    versions = dict.fromkeys(part for versions in report.versions.values() for part in versions.split(", "))
    _print(console, "\n", ("Conformance of cross-entropy", "bold"), f", {report.date}, {report.machine}")
    _print(console, f"{', '.join(versions)}\n{LEGEND}")
    table = _matrix(report)
    fits = console.measure(table, options=console.options.update(width=10_000)).minimum <= console.width
    console.print(table if fits else _list(report))
    notes = ((o.implementation, f"{o.case}: {o.message}") for o in report.outcomes if o.status == PASS and o.message)
    for note, names in _grouped(notes):
        _print(console, (f"{names}: {note}", "dim"))
    _print_surprises(report, console)
    for name, reason in report.skipped.items():
        _print(console, (f"{name} is skipped: ", "yellow"), reason)
    for name, reason in report.crashed.items():
        _print(console, (f"{name} crashed: ", "bold red"), reason)
    for reasons, names in _grouped((name, _reasons(report, name)) for name in report.implementations):
        _print(console, f"Not supported by {names}: ", (reasons, "dim"))
    for left_out, names in _grouped(report.left_out.items()):
        _print(console, ("Omitted", "yellow"), f" for {names}: {left_out}")
    _print(console, "\n", (verdict(report), "bold green" if report.holds else "bold red"))
    for hint in hints:
        _print(console, (hint, "dim"))


def _reasons(report: Report, name: str) -> str:
    reasons = [f"{reason} ({count})" for reason, count in unsupported_reasons(report, name).items()]
    if len(report.implementations) > FEW and len(reasons) > FEW + 1:
        reasons[FEW:] = [f"{len(reasons) - FEW} more reasons"]
    return "; ".join(reasons)


def _grouped(texts: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    names: dict[str, list[str]] = defaultdict(list)
    for name, text in texts:
        names[text].append(name)
    return ((text, ", ".join(names)) for text, names in names.items() if text)


def _print(console: Console, *parts: str | tuple[str, str], soft_wrap: bool = False) -> None:
    # Text is not parsed as Rich markup, which names and messages of others may contain.
    console.print(Text.assemble(*parts), soft_wrap=soft_wrap)


def _table(*columns: Text) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column(columns[0])
    for column in columns[1:]:
        table.add_column(column, justify="right")
    return table


def _matrix(report: Report) -> Table:
    """Categories by implementations."""
    table = _table(Text("category"), *(Text(name, style="bold") for name in report.implementations))
    for category in report.categories:
        table.add_row(Text(category, no_wrap=True), *(_cell(report.cell(category, n)) for n in report.implementations))
    table.add_section()
    table.add_row(Text("largest error", no_wrap=True), *(Text(_worst(report.of(n))) for n in report.implementations))
    table.add_row("checks", *(Text(str(_count(report.of(name)))) for name in report.implementations))
    return table


def _cell(outcomes: list[Outcome]) -> Text:
    return Text(summary(outcomes), style=STYLES[overall_status(outcomes)], no_wrap=True)


def _count(outcomes: list[Outcome]) -> int:
    return sum(outcome.status != UNSUPPORTED for outcome in outcomes)


def _worst(outcomes: list[Outcome]) -> str:
    return share_in_words(max((outcome.share for outcome in outcomes if outcome.errors), default=0.0))


def _list(report: Report) -> Table:
    """One row for each implementation, used if there are too many for columns."""
    table = _table(Text("implementation"), Text("checks"), Text("result"), Text("largest error"))
    table.add_column("categories with failures")
    for name in report.implementations:
        outcomes = report.of(name)
        failing = [category for category in report.categories if any(not o.holds for o in report.cell(category, name))]
        table.add_row(
            Text(name), str(_count(outcomes)), _cell(outcomes), Text(_worst(outcomes)), Text(", ".join(failing))
        )
    return table


def _print_surprises(report: Report, console: Console) -> None:
    surprises = report.surprises
    if len(surprises) <= FEW:
        for outcome in surprises:
            _print_one(outcome, console)
        return
    for name in report.implementations:
        groups = by_cause(outcome for outcome in surprises if outcome.implementation == name)
        if groups:
            _print(console, "\n", (name, "bold"), f", {summary(report.of(name))}, worst first:")
        for cause, outcomes in groups.items():
            cases = list(dict.fromkeys(outcome.case for outcome in outcomes))
            _print(console, (f"  {cause}", "red"), f" ({len(outcomes)}): {', '.join(cases)}")
            example = Text(f"    {outcomes[0].name}: {_what(outcomes[0])}", style="dim")
            example.truncate(console.width - 1, overflow="ellipsis")
            console.print(example)
    worst = surprises[0]
    _print(console, f"\nThe worst of {len(surprises)}; --html FILE shows all, --case {worst.case} runs only this case:")
    _print_one(worst, console)


def _print_one(outcome: Outcome, console: Console) -> None:
    _print(console, "\n", (f"{outcome.implementation}: {outcome.name} {outcome.status}", "bold red"))
    _print(console, f"{_what(outcome)}\n{outcome.why}")
    lines = "".join(f"    {line}\n" for line in outcome.reproduction.splitlines())
    _print(console, (lines, "dim"), soft_wrap=True)  # lines are not wrapped, so that they can be copied


def _what(outcome: Outcome) -> str:
    return outcome.message if outcome.is_wrong else f"was expected to fail, but passes: {outcome.expected}"
