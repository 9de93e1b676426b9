"""Times, taken in turn round after round, and peaks of memory, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xpent.bench.contestants import LIMIT, Contestant, Run, contestants

Shape = tuple[int, int]


@dataclass(frozen=True)
class Problem:
    """A function of logits of a shape and dtype."""

    function: str
    shape: Shape
    dtype: str
    device: str = "cpu"

    def prepare(self, contestant: Contestant) -> Run:
        """The call to time, on arrays of the contestant's library."""
        generator = np.random.default_rng(0)
        x = generator.standard_normal(self.shape, dtype=np.float32)
        labels = generator.integers(self.shape[1], size=self.shape[0])
        return contestant.functions[self.function](*_arrays(contestant.library, x, labels, self.dtype, self.device))


@dataclass(frozen=True)
class Result:
    """What a contestant took for a problem."""

    contestant: str
    library: str
    problem: Problem
    seconds: float  # the median
    spread: float  # half the range of the middle half, over the median
    memory: float | None = None  # peak beyond the inputs, in bytes


def _arrays(library: str, x: Any, labels: Any, dtype: str, device: str) -> tuple[Any, Any]:
    if library == "torch":
        import torch

        return torch.asarray(x).to(device, getattr(torch, dtype)), torch.asarray(labels, device=device)
    if library == "jax":
        import jax.numpy as jnp

        return jnp.asarray(x, dtype=dtype), jnp.asarray(labels)
    return x.astype(dtype), labels


def takes(contestant: Contestant, problem: Problem) -> bool:
    """Whether a contestant can be asked: NumPy has no bfloat16, JAX no float64 unless told, and neither a device."""
    if contestant.library == "jax":
        return problem.function in contestant.functions and problem.dtype != "float64" and problem.device == "cpu"
    is_numpy = contestant.library == "numpy"
    has_limit = contestant.name == LIMIT and problem.device == "cpu" and problem.dtype != "bfloat16"
    fits = problem.device == "cpu" and problem.dtype in ("float32", "float64")
    return problem.function in contestant.functions and (not is_numpy or has_limit or fits)


def times(
    problem: Problem, people: list[Contestant], rounds: int, advance: Callable[[], None] = lambda: None
) -> list[Result]:
    """The median time of each contestant, all taken in turn so that what slows the machine down slows them all."""
    runs = {one: problem.prepare(one) for one in people}
    seconds: dict[Contestant, list[float]] = {one: [] for one in people}
    for run in runs.values():
        run(), run()
    for _ in range(rounds):
        for one, run in runs.items():
            repeats = 1 if not seconds[one] else max(1, int(2e-3 / (seconds[one][0] + 1e-9)))
            start = time.perf_counter()
            for _ in range(repeats):
                run()
            seconds[one].append((time.perf_counter() - start) / repeats)
        advance()
    return [_result(one, problem, seconds[one]) for one in people]


def _result(one: Contestant, problem: Problem, seconds: list[float]) -> Result:
    low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return Result(one.name, one.library, problem, median, (high - low) / 2 / median)


def peak_memory(problem: Problem, name: str) -> float | None:
    """Bytes that a contestant holds at most beyond its inputs, in a fresh process; None where that cannot be known."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (problem, name))


def _peak(problem: Problem, name: str) -> float | None:
    (contestant,) = [one for one in contestants() if one.name == name]
    if problem.device != "cpu":
        import torch

        run = problem.prepare(contestant)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return float(torch.cuda.max_memory_allocated() - before)
    if not sys.platform.startswith("linux"):
        return None
    small = Problem(problem.function, (4, problem.shape[1]), problem.dtype)
    small.prepare(contestant)()  # what is loaded and compiled once
    run = problem.prepare(contestant)
    Path("/proc/self/clear_refs").write_text("5")
    held = _status("VmRSS")
    run()
    return _status("VmHWM") - held


def _status(key: str) -> float:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key)]
    return 1024.0 * int(line.split()[1])
