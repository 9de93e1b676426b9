"""Defects with axes, memory layouts, blocks, side effects and repeatability."""

from functools import cached_property

import numpy as np

from gallery.catalogue import caught_by
from gallery.correct import CrossEntropy, total


@caught_by("axis-0")
class AxisIsIgnored(CrossEntropy):
    """`axis` is ignored, and the last axis is used."""

    def class_axes(self, _):
        return (-1,)


@caught_by("sequences", "axes, memory layout, reductions")
class DefaultAxisIsOne(CrossEntropy):
    """The default axis is 1, as in PyTorch."""

    def class_axes(self, axis):
        return super().class_axes(1 if axis == -1 and self.logits.ndim > 2 else axis)


@caught_by("axes-3-and-1")
class AxesAreSorted(CrossEntropy):
    """Several class axes are flattened in ascending order."""

    def class_axes(self, axis):
        return sorted(super().class_axes(axis))


@caught_by("axes-1-and-3")
class AxesAreReversed(CrossEntropy):
    """Several class axes are flattened in reversed order."""

    def class_axes(self, axis):
        return reversed(super().class_axes(axis))


@caught_by("axis-of-class-weights")
class ClassWeightsAreAppliedToTheLastAxis(CrossEntropy):
    """Class weights are applied along the last axis instead of `axis`."""

    @cached_property
    def w(self):
        return super().w if self.class_weight is None else self.rows(np.broadcast_to(super().w, self.logits.shape))


@caught_by("Fortran-arrays", "axes")
class ArraysAreReadInMemoryOrder(CrossEntropy):
    """Arrays are read in memory order."""

    def rows(self, array):
        return super().rows(array.ravel(order="K").reshape(array.shape))


@caught_by("reversed-arrays")
class StridesArePositive(CrossEntropy):
    """Negative strides are treated as positive."""

    def rows(self, array):
        is_reversed = array.size and min(array.strides, default=0) < 0
        return super().rows(np.flip(array) if is_reversed else array)


@caught_by("33-classes-of-blocks", "confident, label dtypes")
class SumIncludesPadding(CrossEntropy):
    """The last block of 32 classes is padded with zeros, which are included in the sum."""

    @cached_property
    def rest(self):
        padding = -self.size % 32 if self.size > 32 else 0
        return super().rest + (padding * np.exp(-self.shift) if padding else 0)


@caught_by("67-rows-of-blocks", "axes, confident, repeatability")
class LastBlockIsNotComputed(CrossEntropy):
    """The last, incomplete block of 32 rows is not computed."""

    @cached_property
    def active_weight(self):
        n = len(self.logit_rows)
        return np.where(np.arange(n)[:, None] < (n if n < 32 else n // 32 * 32), super().active_weight, 0)


@caught_by("67-classes-of-blocks", "confident, label dtypes")
class BlocksAreAddedWithoutRescaling(CrossEntropy):
    """Sums over blocks of 32 classes are added without rescaling to a common maximum."""

    @cached_property
    def rest(self):
        starts = range(0, self.size, 32)
        blocks = (np.where(self.is_first, -np.inf, self.x)[:, i : i + 32] for i in starts)
        merged = sum(total(np.exp(block - np.max(block, axis=-1, keepdims=True))) for block in blocks)
        return merged if self.size > 32 else super().rest


@caught_by("inputs-unchanged", "all options, axes, z-loss")
class InputsAreOverwritten(CrossEntropy):
    """The maximum is subtracted from the logits in place."""

    @cached_property
    def largest(self):
        largest = super().largest
        if self.logits.flags.owndata and self.logits.ndim == 2:
            self.logits.flags.writeable = True
            self.logits -= np.where(np.isfinite(largest), largest, 0).astype(self.logits.dtype)
        return largest


@caught_by("no-warnings-from-masked-classes")
class MinusInfinityWarns(CrossEntropy):
    """A masked class causes a warning about log(0)."""

    @cached_property
    def losses(self):
        np.log(np.where(self.masked_logits == -np.inf, self.p, 1))
        return super().losses


@caught_by("no-warnings-from-confident-rows")
class UnderflowWarns(CrossEntropy):
    """An exponential that underflows causes a warning."""

    @cached_property
    def terms(self):
        with np.errstate(under="warn"):
            return super().terms


@caught_by("same-bits-again")
class OrderOfSummationIsRandom(CrossEntropy):
    """The order of summation is random, as with atomic additions."""

    @cached_property
    def rest(self):
        order = np.random.default_rng().permutation(self.size)
        return total(np.take(np.where(self.is_first, 0, self.terms), order, axis=-1))


@caught_by("same-bits-shuffled")
class OrderOfSummationDependsOnThePosition(CrossEntropy):
    """Every other row is summed in reverse order."""

    @cached_property
    def rest(self):
        backwards = total(np.where(self.is_first, 0, self.terms)[:, ::-1].copy())
        return np.where(np.arange(len(self.x))[:, None] % 2, backwards, super().rest)


@caught_by("same-bits-split")
class OrderOfSummationDependsOnTheBatchSize(CrossEntropy):
    """The order of summation depends on the size of the batch."""

    @cached_property
    def rest(self):
        if len(self.x) <= 8:
            return super().rest
        return np.cumsum(np.where(self.is_first, 0, self.terms), axis=-1)[:, -1:]
