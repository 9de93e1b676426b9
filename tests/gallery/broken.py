"""NaN, infinities, masks and the mean of nothing."""

from functools import cached_property

import numpy as np

from gallery.catalogue import caught_by
from gallery.right import CrossEntropy


@caught_by("nan-in-an-ignored-row")
class IgnoredRowsLeak(CrossEntropy):
    """An ignored row is multiplied with 0, and 0 * NaN is NaN."""

    x = cached_property(lambda self: np.where((self.counts == 0) & ~self.is_ignored, 0, self.possible))


@caught_by("nan-in-an-ignored-row", "all options, forward mode")
class GradientsOfIgnoredRowsLeak(CrossEntropy):
    """The gradient of an ignored row is multiplied with 0, and 0 * NaN is NaN."""

    @cached_property
    def slope(self):
        return np.where(self.is_ignored & ~np.isfinite(self.possible), np.nan, super().slope)


@caught_by("nan-in-a-row-of-weight-0")
class RowsOfWeightZeroLeak(CrossEntropy):
    """The loss of a row is multiplied with its weight, and 0 * NaN is NaN."""

    is_out = cached_property(lambda self: self.is_ignored)


@caught_by("nan-in-a-row-of-class-weight-0")
class RowsOfClassWeightZeroLeak(CrossEntropy):
    """Only the weights of rows exclude them, not those of their classes."""

    is_out = cached_property(lambda self: self.counts == 0)


@caught_by("masked-class-of-one-hot")
class ZeroTimesInfinityIsNaN(CrossEntropy):
    """The terms of a distribution are multiplied as they are, and 0 * inf is NaN."""

    def surprise(self, q):
        return super().surprise(q) if self.is_indices else q * (self.shift - self.x + self.log_rest)


@caught_by("plus-inf-in-its-row")
class PlusInfinityIsANumber(CrossEntropy):
    """A logit of +inf has probability 1."""

    @cached_property
    def possible(self):
        x = super().possible
        return np.where(np.max(x, axis=-1, keepdims=True) == np.inf, 100 * (x == np.inf), x).astype(self.dtype)


@caught_by("nan-in-its-row", "fully masked rows")
class NaNIsSwallowed(CrossEntropy):
    """A loss that is NaN becomes 0."""

    @cached_property
    def losses(self):
        return np.nan_to_num(super().losses, nan=0.0, posinf=np.inf)


@caught_by("nan-beside-minus-inf")
class NaNBesideMinusInfinityIsSwallowed(CrossEntropy):
    """In a row that holds -inf, NaN is taken for what -inf - -inf gives."""

    @cached_property
    def possible(self):
        x = super().possible
        return np.where(np.any(x == -np.inf, axis=-1, keepdims=True) & np.isnan(x), -np.inf, x)


@caught_by("nan-in-its-row", "fully masked rows")
class NaNSpoilsTheBatch(CrossEntropy):
    """A row of NaN makes all rows NaN."""

    @cached_property
    def shift(self):
        return super().shift + 0 * np.sum(super().shift)


@caught_by("fully-masked-row")
class RowOfMinusInfinityIsZero(CrossEntropy):
    """A row without a possible class has loss 0 and gradient 0."""

    @cached_property
    def counts(self):
        return np.where(np.all(self.possible == -np.inf, axis=-1, keepdims=True), 0, super().counts)


@caught_by("masked-target", "fully masked rows")
class MinusInfinityIsALargeNumber(CrossEntropy):
    """-inf is replaced by the lowest finite number."""

    @cached_property
    def given(self):
        return np.where(super().given == -np.inf, np.finfo(self.dtype).min / 4, super().given)


@caught_by("masked-target", "where")
class InfiniteLossHasNoGradient(CrossEntropy):
    """The gradient of a row whose loss is infinite is NaN."""

    @cached_property
    def slope(self):
        return np.where(np.isinf(self.losses), np.nan, super().slope)


@caught_by("masked-class", "all options, forward mode, where")
class ImpossibleClassesHaveNoGradient(CrossEntropy):
    """The gradient of an impossible class is NaN, as it is where p is computed as exp(-inf - -inf)."""

    @cached_property
    def slope(self):
        return np.where(self.x == -np.inf, np.nan, super().slope)


@caught_by("masked-class-derivatives", "second derivative")
class ImpossibleClassesHaveNoSecondDerivative(CrossEntropy):
    """The second derivative is NaN in a row with an impossible class."""

    def hvp(self, v):
        return super().hvp(v) + self.whole(0 * np.min(self.x, axis=-1, keepdims=True) * np.ones_like(self.x))


@caught_by("where-target-is-masked", "all options, forward mode, second derivative")
class ClassesThatAreOutAreUnlikely(CrossEntropy):
    """`where` replaces a logit by -1e4."""

    possible = cached_property(lambda self: np.where(self.is_in, self.given, -1e4).astype(self.dtype))


@caught_by("where-nan-is-masked")
class ClassesThatAreOutAreLookedAt(CrossEntropy):
    """`where` adds -inf to a logit, and NaN stays NaN."""

    possible = cached_property(lambda self: self.given + np.where(self.is_in, 0, -np.inf).astype(self.dtype))


@caught_by("where", "all options, forward mode, second derivative")
class WhereCountsInTheNormaliser(CrossEntropy):
    """The exponentials of classes that are out are in the sum."""

    terms = cached_property(lambda self: np.exp(np.where(self.is_in, self.x, self.given) - self.shift))


@caught_by("all-ignored")
class MeanOfNothingIsNaN(CrossEntropy):
    """The mean of nothing is 0 / 0."""

    @cached_property
    def value(self):
        return np.nan if self.reduction == "mean" and self.denominator == 0 else super().value


@caught_by("all-ignored")
class GradientOfTheMeanOfNothingIsNaN(CrossEntropy):
    """The gradient of the mean of nothing is 0 / 0."""

    def gradient(self, g):
        return super().gradient(g) + (np.nan if self.denominator == 0 else 0)


@caught_by("empty-batch-mean")
class EmptyBatchIsRefused(CrossEntropy):
    """The mean of an empty batch raises an error."""

    def check(self):
        super().check()
        self.require(len(self.given) or self.reduction != "mean", "batch")
