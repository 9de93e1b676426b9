"""The command `xpent bench`."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from xpent.bench import report
from xpent.bench.contestants import FUNCTIONS, Contestant, contestants
from xpent.bench.measure import Problem, Result, peak_memory, takes, times

LIBRARIES = ("numpy", "torch", "jax")
DTYPES = ("float64", "float32", "float16", "bfloat16")
SERIES = {
    "bar": [(8192, 1000), (512, 32000), (256, 128256)],
    "small": [(32, 10), (128, 100), (1024, 1000)],
    "elements": [(max(1, size // 1000), min(size, 1000)) for size in (10**k for k in range(3, 9))],
    "classes": [(2**22 // classes, classes) for classes in (2, 16, 128, 1024, 8192, 65536, 262144)],
}


def run(options: argparse.Namespace) -> int:
    """Measure what the options ask for and print it; wrong options raise a ValueError."""
    _check_options(options)
    people = [one for one in contestants() if _is_asked(one, options)]
    if not people:
        raise ValueError(f"nobody takes part; there are {', '.join(one.name for one in contestants())}")
    problems = _problems(options)
    if options.plot and not Path(options.plot).parent.is_dir():
        raise ValueError(f"--plot {options.plot}: there is no such directory")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    results: list[Result] = []
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("rounds", total=len(problems) * options.rounds)
        for problem in problems:
            results += _measure(problem, people, options, lambda: bars.advance(task))
    if options.json:
        print(report.to_json(results))
    else:
        report.print_table(results, Console(width=None if sys.stdout.isatty() else 120))
    if options.plot:
        report.plot(results, options.plot)
    return 0


def _check_options(options: argparse.Namespace) -> None:
    allowed = {"function": FUNCTIONS, "library": LIBRARIES, "peer": [one.name for one in contestants()]}
    for name, choices in {**allowed, "dtype": DTYPES, "series": SERIES}.items():
        given = getattr(options, name)
        for value in [given] if isinstance(given, str) else given or ():
            if value not in choices:
                raise ValueError(f"--{name} must be one of {', '.join(choices)}, got {value!r}")
    if options.rounds < 2:
        raise ValueError(f"--rounds must be at least 2, got {options.rounds}")


def _problems(options: argparse.Namespace) -> list[Problem]:
    shapes = [_shape(text) for text in options.shape] or SERIES[options.series]
    functions = options.function or ["loss_and_gradient"]
    return [Problem(name, shape, options.dtype, options.device) for name in functions for shape in shapes]


def _shape(text: str) -> tuple[int, int]:
    rows, _, classes = text.partition("x")
    if not (rows.isdecimal() and classes.isdecimal() and int(rows) and int(classes)):
        raise ValueError(f"--shape must be ROWSxCLASSES, like 8192x1000, got {text!r}")
    return int(rows), int(classes)


def _is_asked(one: Contestant, options: argparse.Namespace) -> bool:
    is_of_library = not options.library or one.library in options.library
    is_compared = not options.peer or one.is_ours or one.name in options.peer
    return one.is_limit or (is_of_library and is_compared)


def _measure(
    problem: Problem, people: list[Contestant], options: argparse.Namespace, advance: Callable[[], None]
) -> list[Result]:
    those = [one for one in people if takes(one, problem)]
    results = times(problem, those, options.rounds, advance)
    if not options.memory:
        return results
    return [dataclasses.replace(result, memory=peak_memory(problem, result.contestant)) for result in results]
