"""The report: run everything, show it as tables a person enjoys or as JSON, and say whether it holds."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import groupby

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

import xpent
from xpent.conformance import digits
from xpent.conformance.cases import CLASSES, MARGINS, OFFSETS, cases
from xpent.conformance.checks import DTYPES, Result, check
from xpent.conformance.digits import Run
from xpent.conformance.implementations import LIBRARIES, installed

WIDTH = 120
LEGEND = f"""\
u is half the machine epsilon. Errors are relative where no term of a sum can cancel another, else to the sum of the
absolute values of the terms. 1.7e+07 u in float32 and 9.0e+15 u in float64: not one digit is right.

  by hand   xpent, with xpent.vjp, jvp and grad
  inside    xpent, differentiated by the library
  own       the library's own function, differentiated by the library
  of bound  the largest share of the error allowed that xpent makes use of; it grows with the range of the logits

Margins of the label from {MARGINS[0]:g} to {MARGINS[-1]:g}; offsets {", ".join(f"{offset:g}" for offset in OFFSETS)}; \
C = {", ".join(map(str, CLASSES))}, else 10.
"""


def run(libraries: tuple[str, ...] = LIBRARIES, *, as_json: bool = False) -> bool:
    """Check the libraries, print the report to standard output and return whether everything holds."""
    implementations, skipped = installed(libraries)
    results: list[Result] = []
    runs: list[Run] = []
    with _progress() as progress:
        exact = progress.add_task("exact values, 120 digits", total=len(DTYPES))
        by_dtype = {}
        for dtype in DTYPES:
            by_dtype[dtype] = list(cases(dtype))
            progress.advance(exact)
        quantities = sum(len(case.quantities) for listed in by_dtype.values() for case in listed)
        for implementation in implementations:
            task = progress.add_task(implementation.name, total=quantities)
            for dtype, listed in by_dtype.items():
                for result in check(implementation, dtype, listed):
                    results.append(result)
                    progress.advance(task)
        images, labels = digits.load()
        ways = [(i, by_hand) for i in implementations for by_hand in (True, False) if by_hand or i.transforms]
        task = progress.add_task("handwritten digits", total=len(ways))
        for implementation, by_hand in ways:
            runs.append(digits.train(implementation, images, labels, by_hand=by_hand))
            progress.advance(task)

    holds = all(result.holds for result in results) and all(_holds(run, runs[0]) for run in runs)
    if as_json:
        _print_json(results, runs, skipped, holds)
    else:
        _print_tables(results, runs, skipped, holds)
    return holds


def _progress() -> Progress:
    columns = (TextColumn("{task.description:28}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _difference(run: Run, reference: Run) -> float:
    return float(np.max(np.abs(np.asarray(run.trajectory) - np.asarray(reference.trajectory))))


def _holds(run: Run, reference: Run) -> bool:
    is_same = _difference(run, reference) <= digits.allowed_difference() and run.accuracy == reference.accuracy
    return is_same and run.final_loss < run.trajectory[0]


def _print_json(results: list[Result], runs: list[Run], skipped: list[str], holds: bool) -> None:
    report = {
        "xpent": xpent.__version__,
        "holds": holds,
        "skipped": skipped,
        "checks": [{**asdict(result), "holds": result.holds} for result in results],
        "digits": [
            {**asdict(run), "difference": _difference(run, runs[0]), "holds": _holds(run, runs[0])} for run in runs
        ],
        "allowed_difference": digits.allowed_difference(),
    }
    print(json.dumps(report, indent=2))


def _print_tables(results: list[Result], runs: list[Run], skipped: list[str], holds: bool) -> None:
    console = Console(width=WIDTH)
    console.print(f"\n[bold]xpent {xpent.__version__}[/bold]: largest errors against exact values, in units of u")
    console.print(LEGEND, highlight=False)
    for name, group in groupby(results, key=lambda result: result.implementation):
        console.print(_table(name, list(group)))
    for name in skipped:
        console.print(f"[yellow]skipped[/yellow]: {name} is not installed")
    console.print(_digits_table(runs))
    count = len(results) + len(runs)
    failed = sum(not r.holds for r in results) + sum(not _holds(run, runs[0]) for run in runs)
    verdict = f"[bold green]All {count} checks hold.[/]" if holds else f"[bold red]{failed} of {count} checks fail.[/]"
    console.print(f"\n{verdict}\n", highlight=False)


def _table(name: str, results: list[Result]) -> Table:
    table = Table(title=name, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("function", no_wrap=True)
    table.add_column("quantity", no_wrap=True)
    for dtype in DTYPES:
        for heading in ("by hand", "inside", "own"):
            table.add_column(f"{dtype}\n{heading}", justify="right", no_wrap=True)
    table.add_column("of\nbound", justify="right")
    table.add_column("verdict")
    last = None
    pairs = zip(*([r for r in results if r.dtype == dtype] for dtype in DTYPES), strict=True)
    for pair in pairs:
        first = pair[0]
        cells = [_units(error) for r in pair for error in (r.by_hand, r.in_framework, r.own)]
        share = max(r.of_allowed for r in pair)
        verdict = _verdict(all(r.holds for r in pair))
        table.add_row(first.case if first.case != last else "", first.quantity, *cells, f"{share:.0%}", verdict)
        last = first.case
    return table


def _digits_table(runs: list[Run]) -> Table:
    table = Table(
        title=f"\nsoftmax regression on the digits of scikit-learn, {digits.STEPS} steps of gradient descent, float64",
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        caption=f"difference: the largest to the first line, step by step; allowed {digits.allowed_difference():.1e}",
        caption_justify="left",
    )
    for heading in ("library", "gradient"):
        table.add_column(heading)
    for heading in ("final loss [nats]", "test accuracy", "difference"):
        table.add_column(heading, justify="right")
    table.add_column("verdict")
    for run in runs:
        difference = f"{_difference(run, runs[0]):.1e}"
        row = (run.implementation, run.gradient, f"{run.final_loss:.12f}", f"{run.accuracy:.2%}", difference)
        table.add_row(*row, _verdict(_holds(run, runs[0])))
    return table


def _units(error: float | None) -> Text:
    if error is None:
        return Text("-", style="dim")
    text = f"{error:.1f}" if error < 1e4 else f"{error:.1e}"
    return Text(text, style="red" if error >= 1e4 else "")


def _verdict(holds: bool) -> Text:
    return Text("holds", style="green") if holds else Text("FAILS", style="bold red")
