"""Print the results as a table or as JSON, and plot them."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from xpent import __version__
from xpent.bench.contestants import LIMIT, LINEAR
from xpent.bench.measure import Problem, Result

OURS = "xpent"
LOGITS = "the logits"

Points = list[tuple[float, float]]


def machine() -> dict[str, str]:
    """The date, the processor and the versions of packages."""
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
    """Format the results and the machine as JSON."""
    return json.dumps({**machine(), "results": [asdict(result) for result in results]}, indent=2)


def print_table(results: Sequence[Result], console: Console) -> None:
    """Print a table for each problem, with times relative to xpent and to the copy in the same run."""
    console.print(", ".join(f"{name} {value}" for name, value in machine().items()), highlight=False)
    problems = dict.fromkeys(result.problem for result in results)
    for problem in problems:
        console.print(_table(problem, [result for result in results if result.problem == problem]))


def _table(problem: Problem, results: Sequence[Result]) -> Table:
    title = f"{problem.function}, {' x '.join(map(str, problem.shape))}, {problem.dtype}"
    if problem.function == LINEAR:
        title += f"; the logits: {problem.logits * problem.itemsize / 2**20:.0f} MiB"
    table = Table(title=title, box=SIMPLE_HEAD, title_justify="left")
    for column in ("", "ms", "+-", "ns/logit", "of the copy", "of xpent", "MiB"):
        table.add_column(column, justify="right" if column else "left")
    limit = {result.contestant: result.seconds for result in results}.get(LIMIT)
    for result in results:
        ours = _ours(result, results)
        table.add_row(
            result.contestant,
            f"{result.seconds * 1e3:.3g}",
            f"{result.spread:.0%}",
            f"{result.seconds / problem.logits * 1e9:.3g}",
            "" if limit is None else f"{result.seconds / limit:.2f}",
            "" if ours is None else f"{result.seconds / ours:.2f}",
            "" if result.memory is None else f"{result.memory / 2**20:.0f}",
        )
    return table


def _ours(result: Result, results: Sequence[Result]) -> float | None:
    """The time of xpent on the same library; that of compiled xpent for compiled implementations."""
    suffix = " compiled" if result.contestant.endswith(" compiled") else ""
    return {r.contestant: r.seconds for r in results}.get(f"{OURS} {result.library}{suffix}")


def check_plot(file: str) -> None:
    """Raise ValueError if a plot cannot be written to this file."""
    from matplotlib.figure import Figure

    path, formats = Path(file), Figure().canvas.get_supported_filetypes()
    if not path.parent.is_dir():
        raise ValueError(f"--plot {file}: no such directory")
    if path.suffix.removeprefix(".") not in formats:
        raise ValueError(f"--plot {file}: the name must end with one of {', '.join(formats)}")


def plot(results: Sequence[Result], file: str) -> None:
    """Plot time against size, or for a layer memory against classes, on log axes with a panel for each function."""
    from matplotlib.figure import Figure

    functions = list(dict.fromkeys(result.problem.function for result in results))
    figure = Figure(figsize=(6 * len(functions), 5), layout="constrained")
    panels = figure.subplots(1, len(functions), squeeze=False)[0]
    for panel, function in zip(panels, functions, strict=True):
        of_function = [result for result in results if result.problem.function == function]
        lines = _memory_lines(of_function) if function == LINEAR else _time_lines(of_function)
        for name, points in lines.items():
            style = {"color": "black", "linestyle": "--"} if name in (LIMIT, LOGITS) else {}
            width = 2.5 if name.startswith(OURS) else 1.2
            panel.loglog(*zip(*sorted(points), strict=True), label=name, marker=".", linewidth=width, **style)
        if function == LINEAR:
            layers = dict.fromkeys(f"{r.problem.shape[0]} x {r.problem.shape[1]}" for r in of_function)
            panel.set(title=f"peak memory without inputs and gradients, rows x depth: {', '.join(layers)}")
            panel.set(xlabel="classes", ylabel="MiB")
        else:
            panel.set(title=function, xlabel="logits", ylabel="ms")
        panel.grid(visible=True, which="major", alpha=0.3)
        panel.legend()
    figure.savefig(file, dpi=120)


def _time_lines(results: Sequence[Result]) -> dict[str, Points]:
    lines: dict[str, Points] = {}
    for r in results:
        lines.setdefault(r.contestant, []).append((r.problem.logits, r.seconds * 1e3))
    return lines


def _memory_lines(results: Sequence[Result]) -> dict[str, Points]:
    """Peak memory, at least 1 MiB because smaller values are noise, and the size of all logits for comparison."""
    sizes = {r.problem: r.problem.logits * r.problem.itemsize / 2**20 for r in results}
    lines: dict[str, Points] = {LOGITS: [(problem.shape[-1], size) for problem, size in sizes.items()]}
    for r in results:
        if r.memory is not None:
            lines.setdefault(r.contestant, []).append((r.problem.shape[-1], max(1.0, r.memory / 2**20)))
    return lines
