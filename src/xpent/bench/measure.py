"""Measure times in interleaved rounds, and peak memory in separate processes."""

from __future__ import annotations

import gc
import math
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from xpent.bench.contestants import LIMIT, LINEAR, Contestant, Run, contestants

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Problem:
    """A function, its dtype, and its shape: (rows, classes) for logits, (rows, depth, classes) for a layer."""

    function: str
    shape: Shape
    dtype: str
    device: str = "cpu"

    def prepare(self, contestant: Contestant) -> Run:
        """The call to measure, on arrays of the library of a contestant."""
        generator = np.random.default_rng(0)
        rows, *depth, classes = self.shape
        shapes = [(rows, *depth), (classes, *depth)] if depth else [(rows, classes)]
        arrays = [generator.standard_normal(shape, dtype=np.float32) for shape in shapes]
        for weight in arrays[1:]:
            weight /= np.float32(math.sqrt(weight.shape[1]))  # so that the logits have variance 1
        labels = generator.integers(classes, size=rows)
        given = _arrays(contestant.library, arrays, labels, self.dtype, self.device)
        return contestant.functions[self.function](*given)

    @property
    def logits(self) -> int:
        """The number of logits."""
        return self.shape[0] * self.shape[-1]

    @property
    def itemsize(self) -> int:
        """The size of a logit in bytes."""
        return {"float64": 8, "float32": 4}.get(self.dtype, 2)


@dataclass(frozen=True)
class Result:
    """The time and memory that a contestant needs for a problem."""

    contestant: str
    library: str
    problem: Problem
    seconds: float  # the median over the rounds
    spread: float  # half the interquartile range, divided by the median
    memory: float | None = None  # peak in bytes without the inputs, and for a layer also without the gradients


def _arrays(library: str, arrays: list[Any], labels: Any, dtype: str, device: str) -> list[Any]:
    if library == "torch":
        import torch

        kind = getattr(torch, dtype)
        return [*(torch.asarray(x).to(device, kind) for x in arrays), torch.asarray(labels, device=device)]
    if library == "jax":
        import jax.numpy as jnp

        return [*(jnp.asarray(x, dtype=dtype) for x in arrays), jnp.asarray(labels)]
    return [*(x.astype(dtype, copy=False) for x in arrays), labels]


def supports(contestant: Contestant, problem: Problem) -> bool:
    """Whether a contestant supports a problem. NumPy and JAX are measured on the CPU, and JAX not in float64."""
    if contestant.kernel_dtypes and (problem.device == "cpu" or problem.dtype not in contestant.kernel_dtypes):
        return False
    if contestant.library == "jax":
        return problem.function in contestant.functions and problem.dtype != "float64" and problem.device == "cpu"
    is_numpy = contestant.library == "numpy"
    has_limit = contestant.name == LIMIT and problem.device == "cpu" and problem.dtype != "bfloat16"
    fits = problem.device == "cpu" and problem.dtype in ("float32", "float64")
    return problem.function in contestant.functions and (not is_numpy or has_limit or fits)


def times(
    problem: Problem, selected: list[Contestant], rounds: int, advance: Callable[[], None] = lambda: None
) -> list[Result]:
    """The median time of each contestant. Rounds are interleaved, so that a slowdown of the machine affects all."""
    runs = {contestant: problem.prepare(contestant) for contestant in selected}
    seconds: dict[Contestant, list[float]] = {contestant: [] for contestant in selected}
    for run in runs.values():
        run(), run()
    for _ in range(rounds):
        for contestant, run in runs.items():
            measured = seconds[contestant]
            repeats = 1 if not measured else max(1, int(2e-3 / (measured[0] + 1e-9)))
            run()  # not measured: threads of the contestant before may still be spinning
            start = time.perf_counter()
            for _ in range(repeats):
                run()
            measured.append((time.perf_counter() - start) / repeats)
        advance()
    return [_result(contestant, problem, seconds[contestant]) for contestant in selected]


def _result(contestant: Contestant, problem: Problem, seconds: list[float]) -> Result:
    low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return Result(contestant.name, contestant.library, problem, median, (high - low) / 2 / median)


def peak_memory(problem: Problem, name: str, library: str) -> float | None:
    """The peak memory of a contestant in bytes, without its inputs, in a new process; None if it cannot be measured.

    For a layer, the gradients, which are as large as the inputs, are also subtracted.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        peak = pool.apply(_peak, (problem, name, library))
    if peak is None or problem.function != LINEAR:
        return peak
    rows, depth, classes = problem.shape
    return max(0.0, peak - (rows + classes) * depth * problem.itemsize)


def _peak(problem: Problem, name: str, library: str) -> float | None:
    (contestant,) = [contestant for contestant in contestants([library]) if contestant.name == name]
    if problem.device != "cpu":
        import torch

        run = problem.prepare(contestant)
        run()  # the first call tunes kernels, which allocates memory
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return float(torch.cuda.max_memory_allocated() - before)
    if not sys.platform.startswith("linux"):
        return None
    classes = min(64, problem.shape[-1]) if problem.function == LINEAR else problem.shape[-1]
    small = replace(problem, shape=(4, *problem.shape[1:-1], classes))
    small.prepare(contestant)()  # load modules and compile, so that this is not included
    run = problem.prepare(contestant)
    run()  # after the first call JAX has freed the NumPy arrays that it copied
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    held = _status("VmRSS")
    run()
    return _status("VmHWM") - held


def _status(key: str) -> float:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key)]
    return 1024.0 * int(line.split()[1])
