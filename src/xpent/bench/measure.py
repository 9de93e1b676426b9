"""Times, measured in interleaved rounds, and peaks of memory, each in a process of its own."""

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
    """A function of logits of a shape (rows, classes) and dtype, or of a layer (rows, depth, classes)."""

    function: str
    shape: Shape
    dtype: str
    device: str = "cpu"

    def prepare(self, contestant: Contestant) -> Run:
        """The call to time, on arrays of the contestant's library."""
        generator = np.random.default_rng(0)
        rows, *depth, classes = self.shape
        shapes = [(rows, *depth), (classes, *depth)] if depth else [(rows, classes)]
        arrays = [generator.standard_normal(shape, dtype=np.float32) for shape in shapes]
        for weight in arrays[1:]:
            weight /= np.float32(math.sqrt(weight.shape[1]))  # logits of variance 1
        labels = generator.integers(classes, size=rows)
        given = _arrays(contestant.library, arrays, labels, self.dtype, self.device)
        return contestant.functions[self.function](*given)

    @property
    def logits(self) -> int:
        """The number of logits."""
        return self.shape[0] * self.shape[-1]

    @property
    def itemsize(self) -> int:
        """Bytes of one logit."""
        return {"float64": 8, "float32": 4}.get(self.dtype, 2)


@dataclass(frozen=True)
class Result:
    """What a contestant took for a problem."""

    contestant: str
    library: str
    problem: Problem
    seconds: float  # the median
    spread: float  # half the range of the middle half, over the median
    memory: float | None = None  # peak beyond the inputs and, of a layer, the gradients, in bytes


def _arrays(library: str, arrays: list[Any], labels: Any, dtype: str, device: str) -> list[Any]:
    if library == "torch":
        import torch

        kind = getattr(torch, dtype)
        return [*(torch.asarray(x).to(device, kind) for x in arrays), torch.asarray(labels, device=device)]
    if library == "jax":
        import jax.numpy as jnp

        return [*(jnp.asarray(x, dtype=dtype) for x in arrays), jnp.asarray(labels)]
    return [*(x.astype(dtype, copy=False) for x in arrays), labels]


def takes(contestant: Contestant, problem: Problem) -> bool:
    """Whether a contestant can be asked: NumPy has no bfloat16, JAX no float64 unless told, and neither a device."""
    if contestant.kernel_dtypes and (problem.device == "cpu" or problem.dtype not in contestant.kernel_dtypes):
        return False
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


def peak_memory(problem: Problem, name: str, library: str) -> float | None:
    """Bytes that a contestant holds at most beyond its inputs, in a fresh process; None where that cannot be known.

    For a layer, whose gradients are as large as its inputs, beyond those, too.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        peak = pool.apply(_peak, (problem, name, library))
    if peak is None or problem.function != LINEAR:
        return peak
    rows, depth, classes = problem.shape
    return max(0.0, peak - (rows + classes) * depth * problem.itemsize)


def _peak(problem: Problem, name: str, library: str) -> float | None:
    (contestant,) = [one for one in contestants([library]) if one.name == name]
    if problem.device != "cpu":
        import torch

        run = problem.prepare(contestant)
        run()  # kernels are tuned once, in memory of their own
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return float(torch.cuda.max_memory_allocated() - before)
    if not sys.platform.startswith("linux"):
        return None
    classes = min(64, problem.shape[-1]) if problem.function == LINEAR else problem.shape[-1]
    small = replace(problem, shape=(4, *problem.shape[1:-1], classes))
    small.prepare(contestant)()  # what is loaded and compiled once
    run = problem.prepare(contestant)
    run()  # the first call waits until JAX has freed the NumPy arrays that it copies
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    held = _status("VmRSS")
    run()
    return _status("VmHWM") - held


def _status(key: str) -> float:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key)]
    return 1024.0 * int(line.split()[1])
