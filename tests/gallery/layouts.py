"""Axes, memory, blocks, side effects and bits."""

from functools import cached_property

import numpy as np

from gallery.catalogue import caught_by
from gallery.right import CrossEntropy, total


@caught_by("axis-0")
class ClassesLieLast(CrossEntropy):
    """`axis` is not read: the classes are taken to lie last."""

    def in_order(self, _):
        return (-1,)


@caught_by("sequences", "axes, memory layout, reductions")
class ClassesLieOnAxisOne(CrossEntropy):
    """The classes are taken to lie on axis 1, as torch has them, unless told otherwise."""

    def in_order(self, axis):
        return super().in_order(1 if axis == -1 and self.logits.ndim > 2 else axis)


@caught_by("axes-3-and-1")
class AxesAreSorted(CrossEntropy):
    """Several axes are flattened in the order of the array."""

    def in_order(self, axis):
        return sorted(super().in_order(axis))


@caught_by("axes-1-and-3")
class AxesAreReversed(CrossEntropy):
    """Several axes are flattened with the first varying fastest."""

    def in_order(self, axis):
        return reversed(super().in_order(axis))


@caught_by("axis-of-class-weights")
class ClassWeightsLieLast(CrossEntropy):
    """Class weights are multiplied along the last axis, wherever the classes lie."""

    @cached_property
    def w(self):
        return super().w if self.class_weight is None else self.rows(np.broadcast_to(super().w, self.logits.shape))


@caught_by("Fortran-arrays", "axes")
class MemoryIsReadInOrder(CrossEntropy):
    """Arrays are read in the order in which they lie in memory."""

    def rows(self, array):
        return super().rows(array.ravel(order="K").reshape(array.shape))


@caught_by("reversed-arrays")
class StridesHaveNoSign(CrossEntropy):
    """Strides are taken for positive."""

    def rows(self, array):
        is_reversed = array.size and min(array.strides, default=0) < 0
        return super().rows(np.flip(array) if is_reversed else array)


@caught_by("33-classes-of-blocks", "confident, label dtypes")
class PaddingCounts(CrossEntropy):
    """Classes beyond one block of 32 are padded to the next with zeros, which count in the sum."""

    @cached_property
    def rest(self):
        padding = -self.size % 32 if self.size > 32 else 0
        return super().rest + (padding * np.exp(-self.shift) if padding else 0)


@caught_by("67-rows-of-blocks", "axes, confident, repeatability")
class LastRowsAreLost(CrossEntropy):
    """Rows that fill no block of 32 are not computed, where there is a block."""

    @cached_property
    def counts(self):
        n = len(self.given)
        return np.where(np.arange(n)[:, None] < (n if n < 32 else n // 32 * 32), super().counts, 0)


@caught_by("67-classes-of-blocks", "confident, label dtypes")
class BlocksAreMergedAsTheyAre(CrossEntropy):
    """Sums over blocks of 32 classes are added, though each has a maximum of its own."""

    @cached_property
    def rest(self):
        starts = range(0, self.size, 32)
        blocks = (np.where(self.is_first, -np.inf, self.x)[:, i : i + 32] for i in starts)
        merged = sum(total(np.exp(block - np.max(block, axis=-1, keepdims=True))) for block in blocks)
        return merged if self.size > 32 else super().rest


@caught_by("inputs-unchanged", "all options, axes, z-loss")
class InputsAreOverwritten(CrossEntropy):
    """The maximum is subtracted from the logits in place, as a C function can of an array that is read-only."""

    @cached_property
    def largest(self):
        largest = super().largest
        if self.logits.flags.owndata and self.logits.ndim == 2:
            self.logits.flags.writeable = True
            self.logits -= np.where(np.isfinite(largest), largest, 0).astype(self.logits.dtype)
        return largest


@caught_by("no-warnings-from-masked-classes")
class MinusInfinityWarns(CrossEntropy):
    """The logarithm of a probability of 0 is taken, and warns."""

    @cached_property
    def losses(self):
        np.log(np.where(self.possible == -np.inf, self.p, 1))
        return super().losses


@caught_by("no-warnings-from-confident-rows")
class UnderflowWarns(CrossEntropy):
    """An exponential that underflows warns."""

    @cached_property
    def terms(self):
        with np.errstate(under="warn"):
            return super().terms


@caught_by("same-bits-again")
class SumsInAnyOrder(CrossEntropy):
    """The classes are added up in the order in which threads come by."""

    @cached_property
    def rest(self):
        order = np.random.default_rng().permutation(self.size)
        return total(np.take(np.where(self.is_first, 0, self.terms), order, axis=-1))


@caught_by("same-bits-shuffled")
class SumsByPosition(CrossEntropy):
    """Every other row is added up from its end."""

    @cached_property
    def rest(self):
        backwards = total(np.where(self.is_first, 0, self.terms)[:, ::-1].copy())
        return np.where(np.arange(len(self.x))[:, None] % 2, backwards, super().rest)


@caught_by("same-bits-split")
class SumsByTheSizeOfTheBatch(CrossEntropy):
    """Batches of more than 8 rows are added up class after class, smaller ones in pairs."""

    @cached_property
    def rest(self):
        if len(self.x) <= 8:
            return super().rest
        return np.cumsum(np.where(self.is_first, 0, self.terms), axis=-1)[:, -1:]
