"""Several implementations at once, each in a process of its own: Keras has one backend there, a crash ends but one."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Collection
from multiprocessing.connection import wait
from typing import Any

from xpent.conformance import checks
from xpent.conformance.case import Case
from xpent.conformance.cases import BY_NAME
from xpent.conformance.expected import QUANTITIES, expected
from xpent.conformance.implementations import implementation
from xpent.conformance.judge import Outcome, sweep
from xpent.conformance.libraries import Unsupported
from xpent.conformance.report import Report

Progress = Callable[[str, int, int], None]  # what is done, how much of it, out of how much


def check_all(names: Collection[str], cases: tuple[Case, ...], dtypes: Collection[str], progress: Progress) -> Report:
    """A report on implementations that come with the kit, by their names."""
    context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    if context.get_start_method() == "fork":
        _compute_exact_answers(cases, dtypes, progress)  # once for all, who inherit them
    report = Report([])
    outcomes: dict[str, list[Outcome]] = {name: [] for name in names}
    waiting, running = list(names), dict[Any, tuple[str, Any]]()
    total = sum(dtype in dtypes for case in cases for dtype in case.dtypes)
    while waiting or running:
        while waiting and len(running) < (os.cpu_count() or 1):
            name = waiting.pop(0)
            here, there = context.Pipe(duplex=False)
            arguments = (name, [case.name for case in cases], dtypes, there)
            running[here] = name, context.Process(target=_work, args=arguments, daemon=True)
            running[here][1].start()
            there.close()  # so that the end of the process is the end of what comes
        ready: list[Any] = wait(list(running))
        for here in ready:
            name, process = running[here]
            try:
                kind, content = here.recv()
            except EOFError:
                del running[here]
                process.join()
                if process.exitcode:
                    done = f"after {outcomes[name][-1].name}" if outcomes[name] else "before its first case"
                    report.crashed[name] = f"its process ended with status {process.exitcode} {done}"
                continue
            if kind == "outcome":
                outcomes[name].append(content)
                progress(name, len(outcomes[name]), total)
            else:
                getattr(report, kind)[name] = content
    report.outcomes.extend(outcome for name in names for outcome in outcomes[name])
    return report


def _compute_exact_answers(cases: tuple[Case, ...], dtypes: Collection[str], progress: Progress) -> None:
    for i, case in enumerate(cases):
        progress("exact answers", i + 1, len(cases))
        for dtype in case.dtypes:
            has_answers = dtype in dtypes and case.check in (checks.exact, checks.refused_or_nan)
            for quantity in case.quantities if has_answers else ():
                default = "sum" if QUANTITIES[quantity].kind == "hvp" else "none"
                is_loss = "cross_entropy" in case.function
                expected(case, dtype, quantity, case.options.get("reduction", default) if is_loss else None)


def _work(name: str, cases: list[str], dtypes: Collection[str], results: Any) -> None:
    try:
        found = implementation(name)
    except Unsupported as reason:
        results.send(("skipped", str(reason)))
        return
    results.send(("versions", found.versions))
    for outcome in sweep(found, tuple(BY_NAME[case] for case in cases), dtypes):
        results.send(("outcome", outcome))
