"""What was measured: a table for people, JSON for machines, a plot."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from xpent import __version__
from xpent.bench.contestants import LIMIT
from xpent.bench.measure import Problem, Result

OURS = "xpent"


def machine() -> dict[str, str]:
    """Where this was measured, and with what."""
    packages = ("numpy", "torch", "jax", "jaxlib", "optax", "scipy", "scikit-learn")
    versions = {"xpent": __version__}
    for name in packages:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": f"{_processor()}, {os.cpu_count()} CPUs, {platform.system()}",
        **versions,
    }


def _processor() -> str:
    try:
        lines = subprocess.run(["lscpu"], capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("Model name")), "unknown")


def to_json(results: Sequence[Result]) -> str:
    """All of it."""
    return json.dumps({**machine(), "results": [asdict(result) for result in results]}, indent=2)


def print_table(results: Sequence[Result], console: Console) -> None:
    """A table for each function, with what stands beside xpent in ratios of one run."""
    console.print(", ".join(f"{name} {value}" for name, value in machine().items()), highlight=False)
    problems = dict.fromkeys(result.problem for result in results)
    for problem in problems:
        console.print(_table(problem, [result for result in results if result.problem == problem]))


def _table(problem: Problem, results: Sequence[Result]) -> Table:
    size = math.prod(problem.shape)
    shape = " x ".join(map(str, problem.shape))
    table = Table(title=f"{problem.function}, {shape}, {problem.dtype}", box=SIMPLE_HEAD, title_justify="left")
    for column in ("", "ms", "+-", "ns/logit", "of the copy", "of xpent", "MiB"):
        table.add_column(column, justify="right" if column else "left")
    limit = {result.contestant: result.seconds for result in results}.get(LIMIT)
    for result in results:
        ours = _ours(result, results)
        table.add_row(
            result.contestant,
            f"{result.seconds * 1e3:.3g}",
            f"{result.spread:.0%}",
            f"{result.seconds / size * 1e9:.3g}",
            "" if limit is None else f"{result.seconds / limit:.2f}",
            "" if ours is None else f"{result.seconds / ours:.2f}",
            "" if result.memory is None else f"{result.memory / 2**20:.0f}",
        )
    return table


def _ours(result: Result, results: Sequence[Result]) -> float | None:
    """The time of xpent on the same library, compiled beside compiled."""
    suffix = " compiled" if result.contestant.endswith(" compiled") else ""
    return {r.contestant: r.seconds for r in results}.get(f"{OURS} {result.library}{suffix}")


def plot(results: Sequence[Result], file: str) -> None:
    """Time against size on log axes, a panel for each function, with the limit drawn in."""
    from matplotlib.figure import Figure

    functions = list(dict.fromkeys(result.problem.function for result in results))
    figure = Figure(figsize=(6 * len(functions), 5), layout="constrained")
    panels = figure.subplots(1, len(functions), squeeze=False)[0]
    for panel, function in zip(panels, functions, strict=True):
        mine = [result for result in results if result.problem.function == function]
        for name in dict.fromkeys(result.contestant for result in mine):
            points = sorted((math.prod(r.problem.shape), r.seconds * 1e3) for r in mine if r.contestant == name)
            style = {"color": "black", "linestyle": "--"} if name == LIMIT else {}
            width = 2.5 if name.startswith(OURS) else 1.2
            panel.loglog(*zip(*points, strict=True), label=name, marker=".", linewidth=width, **style)
        panel.set(title=function, xlabel="logits", ylabel="ms")
        panel.grid(visible=True, which="major", alpha=0.3)
        panel.legend()
    figure.savefig(file, dpi=120)
