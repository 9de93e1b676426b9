"""The command `xpent bench`."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import sys
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from xpent.bench import report
from xpent.bench.contestants import FUNCTIONS, LIBRARIES, LINEAR, Contestant, contestants
from xpent.bench.measure import Problem, Result, Shape, peak_memory, supports, times

DTYPES = ("float64", "float32", "float16", "bfloat16")
SERIES: dict[str, Sequence[Shape]] = {
    "large": [(8192, 1000), (512, 32000), (256, 128256)],
    "small": [(32, 10), (128, 100), (1024, 1000)],
    "elements": [(max(1, size // 1000), min(size, 1000)) for size in (10**k for k in range(3, 9))],
    "classes": [(2**22 // classes, classes) for classes in (2, 16, 128, 1024, 8192, 65536, 262144)],
}
LINEAR_SERIES: dict[str, Sequence[Shape]] = {
    "large": [(2048, 512, 32000), (4096, 1024, 128256)],
    "classes": [(1024, 256, 2**k) for k in range(11, 18)],
}


def prepare(options: argparse.Namespace) -> Callable[[], int]:
    """Return a function that runs the measurements and prints them; raise ValueError if an option is invalid."""
    if options.rounds is None:
        options.rounds = 5 if options.linear else 15
    _check_options(options)
    installed = contestants()
    selected = [contestant for contestant in installed if _is_selected(contestant, options)]
    if not selected:
        names = ", ".join(contestant.name for contestant in installed)
        raise ValueError(f"no implementation matches --library and --peer; those installed are {names}")
    problems = _problems(options)
    if options.plot:
        report.check_plot(options.plot)
    return functools.partial(_run, options, selected, problems)


def _run(options: argparse.Namespace, selected: list[Contestant], problems: list[Problem]) -> int:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    results: list[Result] = []
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("rounds", total=len(problems) * options.rounds)
        for problem in problems:
            results += _measure(problem, selected, options, lambda: bars.advance(task))
    if options.json:
        print(report.to_json(results))
    else:
        report.print_table(results, Console(width=None if sys.stdout.isatty() else 120))
    if options.plot:
        report.plot(results, options.plot)
    return 0


def _check_options(options: argparse.Namespace) -> None:
    peers = [contestant.name for contestant in contestants()]
    allowed = {"function": FUNCTIONS, "library": LIBRARIES, "peer": peers}
    for name, choices in {**allowed, "dtype": DTYPES, "series": _series(options)}.items():
        given = getattr(options, name)
        for value in [given] if isinstance(given, str) else given or ():
            if value not in choices:
                raise ValueError(f"--{name} must be one of {', '.join(choices)}, got {value!r}")
    if options.linear and options.function:
        raise ValueError("--function cannot be combined with linear, which measures the loss and its gradients")
    if options.rounds < 2:
        raise ValueError(f"--rounds must be at least 2, got {options.rounds}")


def _series(options: argparse.Namespace) -> dict[str, Sequence[Shape]]:
    return LINEAR_SERIES if options.linear else SERIES


def _problems(options: argparse.Namespace) -> list[Problem]:
    names = ("ROWS", "DEPTH", "CLASSES") if options.linear else ("ROWS", "CLASSES")
    shapes = [_shape(text, names) for text in options.shape] or _series(options)[options.series]
    functions = options.function or [LINEAR if options.linear else "loss_and_gradient"]
    return [Problem(name, shape, options.dtype, options.device) for name in functions for shape in shapes]


def _shape(text: str, names: tuple[str, ...]) -> Shape:
    numbers = text.split("x")
    if len(numbers) != len(names) or not all(number.isdecimal() and int(number) for number in numbers):
        example = {2: "8192x1000", 3: "2048x512x32000"}[len(names)]
        raise ValueError(f"--shape must be {'x'.join(names)}, for example {example}, got {text!r}")
    return tuple(map(int, numbers))


def _is_selected(contestant: Contestant, options: argparse.Namespace) -> bool:
    is_of_library = not options.library or contestant.library in options.library
    is_compared = not options.peer or contestant.is_ours or contestant.name in options.peer
    return contestant.is_limit or (is_of_library and is_compared)


def _measure(
    problem: Problem, selected: list[Contestant], options: argparse.Namespace, advance: Callable[[], None]
) -> list[Result]:
    supported = [contestant for contestant in selected if supports(contestant, problem)]
    results = times(problem, supported, options.rounds, advance)
    if not (options.memory or options.linear):
        return results
    return [
        dataclasses.replace(result, memory=peak_memory(problem, result.contestant, result.library))
        for result in results
    ]
