"""Backends that compute blocks of rows, or parts of long rows, in place."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from xpent._backends.base import Array, Backend


class BlockedBackend(Backend):
    """A library with writable arrays, which computes blocks that fit in the caches of a CPU.

    Rows longer than a block are computed in parts with a common shift, so that the partial sums can be added.
    """

    def neutral_rows(self, x: Array, is_active: Array) -> Array:
        return x

    def parts(self, x: Array) -> list[slice] | None:
        """The parts of a single row that is longer than a block; None for other arrays."""
        if x.ndim > 1 and x.shape[-2] > 1:
            return None
        length, entries = x.shape[-1], self.block_entries(x)
        if entries is None or length <= entries or math.prod(x.shape) != length:
            return None
        return [slice(i, min(i + entries, length)) for i in range(0, length, entries)]

    def first_maximum(self, x: Array) -> tuple[Array, Array | None]:
        parts = self.parts(x)
        if parts is None:
            index = x.argmax(-1, keepdims=True)
        else:
            maxima = self._of_parts(x, parts, lambda part: self.largest(x[..., part]))
            part = parts[maxima.argmax().item()]
            index = part.start + x[..., part].argmax(-1, keepdims=True)
        return self.take(x, index), index

    def exponentials(self, x: Array, index: Array, out: Array | None = None) -> tuple[Array, Array, Array, Array]:
        parts = self.parts(x)
        if parts is None:
            return self._exponentials_of_rows(x, index, out)
        out = self.empty(x.shape, x.dtype, x) if out is None else out
        return out, *self._exponential_sums_of_parts(x, index, parts, out)

    def exponential_sums(self, x: Array, index: Array) -> tuple[Array, Array, Array]:
        parts = self.parts(x)
        if parts is None:
            return self._exponentials_of_rows(x, index, None)[1:]
        return self._exponential_sums_of_parts(x, index, parts, None)

    def _exponentials_of_rows(self, x: Array, index: Array, out: Array | None) -> tuple[Array, Array, Array, Array]:
        raise NotImplementedError

    def _exponential_sums_of_parts(
        self, x: Array, index: Array, parts: list[slice], out: Array | None
    ) -> tuple[Array, Array, Array]:
        largest = self._largest_of_parts(x, parts)
        m = self.shift(largest)
        z = self.take(x, index) - m
        r = self.with_masked(self._sum_of_parts(x, m, index, parts, out), largest)
        t = self.xp.exp(z)
        return r, t, self.log_ratio(r, t, z)

    def rest_sum(self, x: Array, shift: Array, index: Array | None, d: Array | None = None) -> Array:
        parts = self.parts(x)
        if parts is None:
            return self.exp_and_rest(self.subtract(x, shift) if d is None else d, index)[1]
        return self._sum_of_parts(x, shift, index, parts)

    def softmax(self, x: Array, out: Array | None = None) -> Array:
        parts = self.parts(x)
        if parts is None:
            return super().softmax(x, out)
        out = self.empty(x.shape, x.dtype, x) if out is None else out
        m = self._largest_of_parts(x, parts)
        total = self._sum_of_parts(x, self.shift(m), None, parts, out)
        return self.divide(out, self.with_masked(total, m))

    def _largest_of_parts(self, x: Array, parts: list[slice]) -> Array:
        return self.largest(self._of_parts(x, parts, lambda part: self.largest(x[..., part])))

    def _sum_of_parts(
        self, x: Array, shift: Array, index: Array | None, parts: list[slice], out: Array | None = None
    ) -> Array:
        position = None if index is None else index.item()

        def of_part(part: slice) -> Array:
            d = self.subtract(x[..., part], shift)  # not into ``out``, which may be x
            has_index = position is not None and part.start <= position < part.stop

            def without_index(e: Array) -> Array:
                return self.put(e, index - part.start, 0.0) if has_index else e

            total = self.total(without_index(self.exp(d, None if out is None else out[..., part])))
            if total.item() < d.shape[-1] * self.smallest_term(x.dtype):
                total = self.total(without_index(self.scaled_exp(d))) * 2.0**-64
            return total

        return self.total(self._of_parts(x, parts, of_part))

    def _of_parts(self, x: Array, parts: list[slice], function: Callable[[slice], Array]) -> Array:
        results = self.empty((*x.shape[:-1], len(parts)), x.dtype, x)

        def task(i: int) -> None:
            results[..., i : i + 1] = function(parts[i])

        self.for_each(task, range(len(parts)))
        return results

    def loop(
        self,
        function: Callable[..., tuple[list[Array], list[Array]]],
        sums: list[Array],
        arrays: tuple[Array | None, ...],
        rows: int,
    ) -> tuple[list[Array], list[Array]]:
        count: int = arrays[0].shape[0]  # type: ignore[union-attr]
        results: list[Any] = []
        for i in range(0, count, rows):
            block = slice(i, i + rows)
            sums, outputs = function(sums, *[a if a is None else a[block] for a in arrays])
            results = results or [self.empty((count, *y.shape[1:]), y.dtype, y) for y in outputs]
            for result, y in zip(results, outputs, strict=True):
                result[block] = y
        return sums, results
