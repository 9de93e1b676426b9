"""The command `xpent check`."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Collection, Mapping
from itertools import count
from pathlib import Path
from typing import Any

from xpent.conformance import html, terminal
from xpent.conformance.case import Case
from xpent.conformance.cases import ALL, CATEGORIES
from xpent.conformance.dtypes import DTYPES
from xpent.conformance.implementation import Implementation
from xpent.conformance.implementations import BUILTINS, OURS
from xpent.conformance.named import OPTIONS, named
from xpent.conformance.report import Report
from xpent.conformance.runner import check_dtypes, check_expected, read_expected, select
from xpent.conformance.suite import check, check_all


def prepare(options: argparse.Namespace) -> Callable[[], int]:
    """What runs the checks and prints a report; wrong options, or a target that cannot be imported, raise."""
    if options.list:
        return _list
    dtypes = check_dtypes(options.dtype or DTYPES)
    cases = select(options.category, options.case)
    if options.html and not Path(options.html).parent.is_dir():
        raise ValueError(f"--html {options.html}: there is no such directory")
    implementation = _target(options)
    run = functools.partial(_ours, options)
    if implementation is not None:
        expected = read_expected(Path(options.expected_failures)) if options.expected_failures else {}
        check_expected(expected, implementation, cases)
        run = functools.partial(_check, implementation, expected)
    return functools.partial(_report, options, functools.partial(run, cases, dtypes))


def _list() -> int:
    for category in CATEGORIES:
        print(f"\n{category}")
        for case in ALL:
            if case.category == category:
                print(f"  {case.id}: {case.why}")
    return 0


def _report(options: argparse.Namespace, run: Callable[[terminal.ProgressLines], Report]) -> int:
    with terminal.ProgressLines() as progress:
        report = run(progress)
    if options.html:
        Path(options.html).write_text(html.to_html(report), encoding="utf-8")
    if options.json:
        print(report.to_json())
    else:
        terminal.print_report(report, hints=() if options.target else _hints(options, report))
    return 0 if report.holds else 1


def _ours(
    options: argparse.Namespace, cases: Collection[Case], dtypes: Collection[str], progress: terminal.ProgressLines
) -> Report:
    """Check xpent on every library that is installed, and the frameworks' own functions if that is asked for."""
    known = [*OURS.values(), *(BUILTINS.values() if options.builtins else ())]
    is_whole = options.all or options.dtype or options.case or options.category
    tasks = [(case.id, dtype) for case in cases for dtype in case.dtypes if dtype in dtypes]
    one_dtype = {case.id: "float32" if "float32" in case.dtypes else case.dtypes[0] for case in cases}
    quick = [(case, dtype) for case, dtype in tasks if dtype == one_dtype[case]]
    selection = {one: quick if "jax" in one.packages and not is_whole else tasks for one in known}
    report = check_all(selection, progress.advance)
    for one in known:
        rest = len(tasks) - len(selection[one])
        if rest and one.name in report.versions:
            report.left_out[one.name] = f"{rest} checks in other dtypes than float32, which take long to compile"
    return report


def _hints(options: argparse.Namespace, report: Report) -> list[str]:
    """What else there is to ask for."""
    hints = ["xpent check --html FILE: every case with its error, in a browser"]
    hints += ["xpent check --all: all that was left out"] if report.left_out else []
    hints += [] if options.builtins else ["xpent check --builtins: the frameworks' own functions, too"]
    return [*hints, "xpent check module:function --library torch: a function of yours"]


def _check(
    implementation: Implementation,
    expected_failures: Mapping[str, str],
    cases: Collection[Case],
    dtypes: Collection[str],
    progress: terminal.ProgressLines,
) -> Report:
    done = count(1)
    total = sum(dtype in dtypes for case in cases for dtype in case.dtypes)
    return check(
        implementation, dtypes=dtypes, cases=[case.id for case in cases], expected_failures=expected_failures,
        progress=lambda outcome: progress.advance(outcome.implementation, next(done), total),
    )  # fmt: skip


def _target(options: argparse.Namespace) -> Implementation | None:
    """The user's own function, or None for xpent itself."""
    how: dict[str, Any] = {name: getattr(options, name) for name in OPTIONS if getattr(options, name) is not None}
    if options.target is None:
        given = [*how, *(["expected-failures"] if options.expected_failures else [])]
        if given:
            raise ValueError(f"--{given[0]} describes TARGET, and there is none")
        return None
    if options.builtins or options.all:
        raise ValueError(f"--{'builtins' if options.builtins else 'all'} is for xpent itself, not for TARGET")
    sys.path.insert(0, "")  # as `python -m` does, for the installed command
    return named(options.target, **how)
