"""Check whole implementations: a function of the user in this process, the known implementations in several."""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from typing import Any

from xpent.conformance.case import QUANTITIES, Result
from xpent.conformance.cases import ALL, BY_ID
from xpent.conformance.dtypes import DTYPES
from xpent.conformance.expected import Expected, expected, store
from xpent.conformance.implementation import Implementation
from xpent.conformance.implementations import Known
from xpent.conformance.libraries import Unsupported
from xpent.conformance.report import Report
from xpent.conformance.runner import Outcome, as_implementation, check_dtypes, check_expected, select, sweep

Progress = Callable[[str, int, int], None]  # called with a name, the number of finished checks and their total
Task = tuple[str, str]  # the id of a case, and a dtype
Job = tuple[Known, Task]
ExactValues = dict[tuple[str, str, str, str | None], Expected]  # by id, dtype, quantity and reduction


def check(
    function: Callable[..., Any] | Implementation,
    /,
    *,
    dtypes: Collection[str] = DTYPES,
    categories: Collection[str] = (),
    cases: Collection[str] = (),
    expected_failures: Mapping[str, str] | None = None,
    progress: Callable[[Outcome], None] | None = None,
    **how: Any,
) -> Report:
    """Check an implementation, case by case.

    Parameters
    ----------
    function : function or Implementation
        The implementation to check.
    dtypes, categories, cases : collections of str
        The selection of checks; all by default.
    expected_failures : mapping, optional
        The reasons by case, or by case and dtype: ``{"margin-20": "...", "label-C[float32]": "..."}``. A check that is
        expected to fail must fail, in every dtype of its case if none is named. A call that raises an error fails.
    progress : function, optional
        Called with each outcome.
    **how
        Further arguments of `target` if ``function`` is a function: ``library``, ``signature``, ...

    Returns
    -------
    Report

    Raises
    ------
    ValueError
        If a dtype, category, case or expected failure does not exist.

    Examples
    --------
    >>> import numpy as np
    >>> from xpent import conformance
    >>> def loss(logits, targets):
    ...     p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    ...     return -np.log(np.take_along_axis(p, targets[:, None], -1)).mean()
    >>> report = conformance.check(loss, categories=["offset"], dtypes=["float64"])
    >>> report.holds
    False
    >>> print(report.surprises[0].name, report.surprises[0].message)
    offset+1e3[float64] value is nan instead of 3.5383222036512323
    """
    implementation = as_implementation(function, how)
    selected = select(categories, cases)
    check_expected(expected_failures or {}, implementation, selected)
    outcomes = []
    for outcome in sweep(implementation, selected, check_dtypes(dtypes), expected_failures):
        outcomes.append(outcome)
        if progress is not None:
            progress(outcome)
    return Report(outcomes, {implementation.name: implementation.versions})


def check_all(
    selection: Mapping[Known, Collection[Task]], progress: Progress, environment: Mapping[str, str]
) -> Report:
    """Check implementations in parallel, with one process for each CPU and these environment variables.

    Each implementation runs in its own process, because Keras supports one backend per process and a crash then affects
    only one implementation. Implementations that compile the same functions share processes. Exact values are computed
    once.
    """
    count, report = os.cpu_count() or 1, Report([])
    values = _exact_values({task for tasks in selection.values() for task in tasks}, count, progress)
    waiting, running = _workers(selection), dict[Future[Any], _Worker]()
    done: Counter[str] = Counter()
    while waiting or running:
        while waiting and len(running) < count:
            worker = waiting.pop()  # the slowest implementations come last and are started first
            worker.start(values, environment)
            running[worker.next()] = worker
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            worker = running.pop(future)
            known, (case, dtype) = worker.current
            try:
                report.versions[known.name], outcome = future.result()
            except Unsupported as reason:
                report.skipped[known.name] = str(reason)
                worker.drop(known)
            except BrokenProcessPool:
                for name in worker.names:
                    report.crashed[name] = f"the process exited in {case}[{dtype}] of {known.name}"
                worker.jobs.clear()
            else:
                report.outcomes.append(outcome)
                done[known.name] += 1
                progress(known.name, done[known.name], len(selection[known]))
            if worker.jobs:
                running[worker.next()] = worker
            else:
                worker.pool.shutdown()
    order = {known.name: i for i, known in enumerate(selection)}
    ids = {case.id: i for i, case in enumerate(ALL)}
    report.outcomes.sort(key=lambda o: (order[o.implementation], ids[o.case], DTYPES.index(o.dtype)))
    return report


class _Worker:
    """A process and its queue of jobs; a job is a case in a dtype of an implementation."""

    pool: ProcessPoolExecutor
    current: Job

    def __init__(self, jobs: Collection[Job]) -> None:
        self.jobs = list(jobs)[::-1]
        self.names = list(dict.fromkeys(known.name for known, _ in jobs))

    def start(self, values: ExactValues, environment: Mapping[str, str]) -> None:
        """Start the process with environment variables, and send it the exact values."""
        self.pool = _processes(1, _receive, values, dict(environment))

    def next(self) -> Future[tuple[str, Outcome]]:
        """Submit the next job."""
        self.current = self.jobs.pop()
        return self.pool.submit(_work, *self.current)

    def drop(self, known: Known) -> None:
        """Remove the remaining jobs of an implementation."""
        self.jobs = [job for job in self.jobs if job[0] != known]


def _workers(selection: Mapping[Known, Collection[Task]]) -> list[_Worker]:
    """One worker for each implementation. Those that compile the same functions share as many workers by cases.

    Such a worker runs its share of the cases on all of these implementations, so that each function is compiled once.
    """
    groups: dict[str, dict[Known, Collection[Task]]] = {}
    for known, tasks in selection.items():
        groups.setdefault(known.compiles or known.name, {})[known] = tasks
    workers = []
    for group in groups.values():
        cases = list(dict.fromkeys(case for tasks in group.values() for case, _ in tasks))
        for part in (cases[i :: len(group)] for i in range(len(group))):
            jobs = [(known, task) for case in part for known in group for task in group[known] if task[0] == case]
            workers += [_Worker(jobs)] if jobs else []
    return workers


def _processes(count: int, *start: Any) -> ProcessPoolExecutor:
    """Spawned processes, because forked ones would inherit locks held by threads of this process."""
    return ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), start[0] if start else None, start[1:])


def _receive(values: ExactValues, environment: Mapping[str, str]) -> None:
    """Set environment variables before libraries are imported; store exact values computed in another process."""
    os.environ.update(environment)
    for (case, dtype, quantity, reduction), value in values.items():
        store(BY_ID[case], dtype, quantity, reduction, value)


def _work(known: Known, task: Task) -> tuple[str, Outcome]:
    implementation, (case, dtype) = _made(known), task
    (outcome,) = sweep(implementation, [BY_ID[case]], [dtype])
    return implementation.versions, outcome


@cache
def _made(known: Known) -> Implementation:
    return known.make()


def _exact_values(tasks: Collection[Task], count: int, progress: Progress) -> ExactValues:
    """Compute the exact values, the largest cases first, to balance the load."""
    sizes = {case.id: sum(array.size for array in case.arrays) for case in ALL}
    questions = {(case, BY_ID[case].exact_dtype(dtype)) for case, dtype in tasks}
    longest_first = sorted(questions, key=lambda question: -sizes[question[0]])
    values: ExactValues = {}
    with _processes(count) as pool:
        for i, part in enumerate(pool.map(_exact_values_of, longest_first)):
            values.update(part)
            progress("exact values", i + 1, len(questions))
    return values


def _exact_values_of(task: Task) -> ExactValues:
    case, dtype = BY_ID[task[0]], task[1]
    if case.check != "values" or case.result is Result.ERROR:
        return {}
    found: ExactValues = {}
    for quantity in case.quantities:
        default = "sum" if QUANTITIES[quantity].kind == "hvp" else "none"
        reduction = case.options.get("reduction", default) if case.is_loss else None
        found[case.id, dtype, quantity, reduction] = expected(case, dtype, quantity, reduction)
    return found
