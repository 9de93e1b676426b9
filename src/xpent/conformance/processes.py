"""Several implementations at once, each in a process of its own: Keras has one backend there, a crash ends but one."""

from __future__ import annotations

import multiprocessing
import os
import queue
from collections.abc import Callable, Collection
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
    context: Any = multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn")
    if context.get_start_method() == "fork":
        _compute_exact_answers(cases, dtypes, progress)  # once for all, who inherit them
    results: Any = context.Queue()
    waiting, running = list(names), dict[str, Any]()
    outcomes: dict[str, list[Outcome]] = {name: [] for name in names}
    versions: dict[str, str] = {}
    skipped: dict[str, str] = {}
    total = sum(dtype in dtypes for case in cases for dtype in case.dtypes)
    while waiting or running:
        while waiting and len(running) < (os.cpu_count() or 1):
            name = waiting.pop(0)
            names_of_cases = [case.name for case in cases]
            running[name] = context.Process(target=_work, args=(name, names_of_cases, dtypes, results), daemon=True)
            running[name].start()
        try:
            name, kind, content = results.get(timeout=0.2)
        except queue.Empty:
            for name, process in list(running.items()):
                if not process.is_alive() and results.empty():
                    done = f"after {outcomes[name][-1].name}" if outcomes[name] else "before its first case"
                    skipped[name] = f"its process ended with status {process.exitcode} {done}"
                    del running[name]
            continue
        if kind == "outcome":
            outcomes[name].append(content)
            progress(name, len(outcomes[name]), total)
        elif kind == "versions":
            versions[name] = content
        else:
            if kind == "skipped":
                skipped[name] = content
            running.pop(name).join()
    return Report([o for name in names for o in outcomes[name]], versions, skipped)


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
        results.put((name, "skipped", str(reason)))
        return
    results.put((name, "versions", found.versions))
    for outcome in sweep(found, tuple(BY_NAME[case] for case in cases), dtypes):
        results.put((name, "outcome", outcome))
    results.put((name, "done", None))
