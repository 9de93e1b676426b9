"""The command `xpent check`."""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Callable, Collection, Mapping
from importlib import metadata, util
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
    """Return a function that runs the checks and prints a report. Raise if an option or the target is invalid."""
    if options.list:
        return _list
    dtypes = check_dtypes(options.dtype or DTYPES)
    cases = select(options.category, options.case)
    if options.html and not Path(options.html).parent.is_dir():
        raise ValueError(f"--html {options.html}: no such directory")
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
    """Check xpent on every installed library, and the frameworks' own functions with ``--builtins``."""
    known = [*OURS.values(), *(BUILTINS.values() if options.builtins else ())]
    is_whole = options.all or options.dtype or options.case or options.category
    tasks = [(case.id, dtype) for case in cases for dtype in case.dtypes if dtype in dtypes]
    one_dtype = {case.id: "float32" if "float32" in case.dtypes else case.dtypes[0] for case in cases}
    quick = [(case, dtype) for case, dtype in tasks if dtype == one_dtype[case]]
    selection = {
        implementation: quick if "jax" in implementation.packages and not is_whole else tasks
        for implementation in known
    }
    report = check_all(selection, progress.advance, {} if is_whole else fast_compilation())
    for implementation in known:
        rest = len(tasks) - len(selection[implementation])
        if rest and implementation.name in report.versions:
            report.left_out[implementation.name] = (
                f"{rest} checks in dtypes other than float32; the others ran without the optimizations of XLA, to save "
                "compile time"
            )
    return report


def fast_compilation() -> dict[str, str]:
    """Environment variables with which JAX compiles in half the time."""
    if util.find_spec("jax") is None:
        return {}
    found = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    if metadata.version("jax").startswith("0.10."):  # XLA exits at a flag that it does not know
        flags = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
        found["XLA_FLAGS"] = f"{flags} {os.environ.get('XLA_FLAGS', '')}"  # the last value of a flag applies
    return found


def _hints(options: argparse.Namespace, report: Report) -> list[str]:
    """Further commands to suggest after the report."""
    hints = ["xpent check --html FILE: write an HTML report with the errors of all cases"]
    hints += ["xpent check --all: check JAX in all dtypes and with the optimizations of XLA"] if report.left_out else []
    hints += [] if options.builtins else ["xpent check --builtins: also check the frameworks' own functions"]
    return [*hints, "xpent check module:function --library torch: check your own function"]


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
    """The function of the user, or None for xpent itself."""
    how: dict[str, Any] = {name: getattr(options, name) for name in OPTIONS if getattr(options, name) is not None}
    if options.target is None:
        given = [*how, *(["expected-failures"] if options.expected_failures else [])]
        if given:
            raise ValueError(f"--{given[0]} describes TARGET, but no TARGET was given")
        return None
    if options.builtins or options.all:
        raise ValueError(f"--{'builtins' if options.builtins else 'all'} applies to xpent itself, not to a TARGET")
    sys.path.insert(0, "")  # the installed command does not have the working directory in sys.path, unlike `python -m`
    return named(options.target, **how)
