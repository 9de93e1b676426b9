"""Print the results as a table or as JSON, and plot them."""

from __future__ import annotations

import itertools
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from xpent import __version__
from xpent.bench.contestants import LIMIT, LINEAR
from xpent.bench.measure import Problem, Result

OURS = "xpent"
LOGITS = "the logits"

COLORS = {"numpy": "#0072B2", "torch": "#D55E00", "jax": "#009E73"}  # also distinct for color-blind readers

Points = list[tuple[float, float, float]]  # x, y and the error of y


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
    """Plot time against size, or for a layer memory against classes, on log axes with a panel for each function.

    Each library has a color. Lines of xpent are solid, those of other implementations dashed; compiled implementations
    have square markers. Error bars of times are the spread.
    """
    from matplotlib.figure import Figure

    functions = list(dict.fromkeys(result.problem.function for result in results))
    figure = Figure(figsize=(7 * len(functions), 4.5), layout="constrained")
    panels = figure.subplots(1, len(functions), squeeze=False)[0]
    for panel, function in zip(panels, functions, strict=True):
        of_function = [result for result in results if result.problem.function == function]
        panel.set(xscale="log", yscale="log")
        lines = _memory_lines(of_function) if function == LINEAR else _time_lines(of_function)
        colors = {result.contestant: COLORS[result.library] for result in results} | {LIMIT: "black", LOGITS: "black"}
        for name, points in lines.items():
            is_ours, is_compiled = name.startswith(OURS), name.endswith("compiled")
            x, y, error = zip(*sorted(points), strict=True)
            panel.errorbar(
                x, y, error,
                color=colors[name], linewidth=2.5 if is_ours else 1.2, linestyle="-" if is_ours else "--",
                marker="s" if is_compiled else "o", markersize=4,
            )  # fmt: skip
        if function == LINEAR:
            layers = dict.fromkeys(f"{r.problem.shape[0]} rows of {r.problem.shape[1]} features" for r in of_function)
            panel.set_title(f"Peak memory beyond inputs and gradients, {', '.join(layers)}", loc="left")
            panel.set(xlabel="number of classes", ylabel="peak memory (MiB)")
        else:
            panel.set(title=function, xlabel="number of logits", ylabel="time (ms)")
        panel.spines[["top", "right"]].set_visible(False)
        _label_lines(panel, lines, colors)
    figure.savefig(file, dpi=200)


def _label_lines(panel: Any, lines: dict[str, Points], colors: dict[str, str]) -> None:
    """Write each name to the right of its line, at least a line of text apart and not above the panel."""
    panel.get_ylim()  # computes the limits, on which transData depends
    to_axes, gap = panel.transData + panel.transAxes.inverted(), 0.055
    heights = {name: to_axes.transform(max(points)[:2])[1] for name, points in lines.items()}
    upward = sorted(heights, key=heights.__getitem__)
    for below, name in itertools.pairwise(upward):
        heights[name] = max(heights[name], heights[below] + gap)
    heights[upward[-1]] = min(heights[upward[-1]], 1.0)
    for above, name in itertools.pairwise(reversed(upward)):
        heights[name] = min(heights[name], heights[above] - gap)
    for name, height in heights.items():
        panel.text(1.01, height, name, color=colors[name], transform=panel.transAxes, va="center")


def _time_lines(results: Sequence[Result]) -> dict[str, Points]:
    lines: dict[str, Points] = {}
    for r in results:
        lines.setdefault(r.contestant, []).append((r.problem.logits, r.seconds * 1e3, r.spread * r.seconds * 1e3))
    return lines


def _memory_lines(results: Sequence[Result]) -> dict[str, Points]:
    """Peak memory, at least 1 MiB because smaller values are noise, and the size of all logits for comparison."""
    sizes = {r.problem: r.problem.logits * r.problem.itemsize / 2**20 for r in results}
    lines: dict[str, Points] = {LOGITS: [(problem.shape[-1], size, 0.0) for problem, size in sizes.items()]}
    for r in results:
        if r.memory is not None:
            lines.setdefault(r.contestant, []).append((r.problem.shape[-1], max(1.0, r.memory / 2**20), 0.0))
    return lines
