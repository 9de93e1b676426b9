"""Defects with NaN, infinities, masked classes and inactive rows."""

from functools import cached_property

import numpy as np

from gallery.catalogue import caught_by
from gallery.correct import CrossEntropy


@caught_by("nan-in-an-ignored-row")
class IgnoredRowsAreMultipliedByZero(CrossEntropy):
    """The loss of an ignored row is multiplied by 0, and 0 * NaN is NaN."""

    x = cached_property(lambda self: np.where((self.active_weight == 0) & ~self.is_ignored, 0, self.masked_logits))


@caught_by("nan-in-an-ignored-row", "all options, forward mode")
class GradientsOfIgnoredRowsAreMultipliedByZero(CrossEntropy):
    """The gradient of an ignored row is multiplied by 0, and 0 * NaN is NaN."""

    @cached_property
    def slope(self):
        return np.where(self.is_ignored & ~np.isfinite(self.masked_logits), np.nan, super().slope)


@caught_by("nan-in-a-row-of-weight-0")
class RowsOfWeightZeroAreMultipliedByZero(CrossEntropy):
    """The loss of a row with weight 0 is multiplied by 0, and 0 * NaN is NaN."""

    is_inactive = cached_property(lambda self: self.is_ignored)


@caught_by("nan-in-a-row-of-class-weight-0")
class RowsOfClassWeightZeroAreMultipliedByZero(CrossEntropy):
    """The loss of a row with class weight 0 is multiplied by 0, and 0 * NaN is NaN."""

    is_inactive = cached_property(lambda self: self.active_weight == 0)


@caught_by("masked-class-of-one-hot")
class ZeroTimesInfinityIsNaN(CrossEntropy):
    """With distributions, 0 * inf of a masked class is NaN."""

    def weighted_log_loss(self, q):
        return super().weighted_log_loss(q) if self.is_indices else q * (self.shift - self.x + self.log_rest)


@caught_by("plus-inf-in-its-row")
class PlusInfinityHasProbabilityOne(CrossEntropy):
    """A logit of +inf has probability 1."""

    @cached_property
    def masked_logits(self):
        x = super().masked_logits
        return np.where(np.max(x, axis=-1, keepdims=True) == np.inf, 100 * (x == np.inf), x).astype(self.dtype)


@caught_by("nan-in-its-row", "fully masked rows")
class NaNBecomesZero(CrossEntropy):
    """NaN losses are replaced by 0."""

    @cached_property
    def losses(self):
        return np.nan_to_num(super().losses, nan=0.0, posinf=np.inf)


@caught_by("nan-beside-minus-inf")
class NaNBesideMinusInfinityIsMasked(CrossEntropy):
    """In rows with a logit of -inf, NaN logits are replaced by -inf."""

    @cached_property
    def masked_logits(self):
        x = super().masked_logits
        return np.where(np.any(x == -np.inf, axis=-1, keepdims=True) & np.isnan(x), -np.inf, x)


@caught_by("nan-in-its-row", "fully masked rows")
class NaNSpreadsToAllRows(CrossEntropy):
    """A row with NaN makes all rows NaN."""

    @cached_property
    def shift(self):
        return super().shift + 0 * np.sum(super().shift)


@caught_by("fully-masked-row")
class FullyMaskedRowHasLossZero(CrossEntropy):
    """A fully masked row has loss 0 and gradient 0."""

    @cached_property
    def active_weight(self):
        return np.where(np.all(self.masked_logits == -np.inf, axis=-1, keepdims=True), 0, super().active_weight)


@caught_by("masked-target", "fully masked rows")
class MinusInfinityIsALargeNumber(CrossEntropy):
    """-inf is replaced by the lowest finite number."""

    @cached_property
    def logit_rows(self):
        return np.where(super().logit_rows == -np.inf, np.finfo(self.dtype).min / 4, super().logit_rows)


@caught_by("masked-target", "where")
class GradientOfAnInfiniteLossIsNaN(CrossEntropy):
    """The gradient of a row whose loss is infinite is NaN."""

    @cached_property
    def slope(self):
        return np.where(np.isinf(self.losses), np.nan, super().slope)


@caught_by("masked-class", "all options, forward mode, where")
class GradientOfMaskedClassesIsNaN(CrossEntropy):
    """The gradient of a masked class is NaN."""

    @cached_property
    def slope(self):
        return np.where(self.x == -np.inf, np.nan, super().slope)


@caught_by("masked-class-derivatives", "second derivative")
class SecondDerivativeOfMaskedClassesIsNaN(CrossEntropy):
    """The second derivative is NaN in rows with a masked class."""

    def hvp(self, v):
        return super().hvp(v) + self.unflatten(0 * np.min(self.x, axis=-1, keepdims=True) * np.ones_like(self.x))


@caught_by("where-target-is-masked", "all options, forward mode, second derivative")
class WhereReplacesLogitsByALowNumber(CrossEntropy):
    """`where` replaces masked logits by -1e4 instead of -inf."""

    masked_logits = cached_property(lambda self: np.where(self.is_unmasked, self.logit_rows, -1e4).astype(self.dtype))


@caught_by("where-nan-is-masked")
class WhereAddsMinusInfinity(CrossEntropy):
    """`where` adds -inf to masked logits, and NaN stays NaN."""

    @cached_property
    def masked_logits(self):
        return self.logit_rows + np.where(self.is_unmasked, 0, -np.inf).astype(self.dtype)


@caught_by("where", "all options, forward mode, second derivative")
class NormalizerIncludesMaskedClasses(CrossEntropy):
    """Classes masked by `where` are included in the sum of exponentials."""

    terms = cached_property(lambda self: np.exp(np.where(self.is_unmasked, self.x, self.logit_rows) - self.shift))


@caught_by("all-ignored")
class MeanOverNoRowsIsNaN(CrossEntropy):
    """The mean over no rows is 0 / 0."""

    @cached_property
    def value(self):
        return np.nan if self.reduction == "mean" and self.denominator == 0 else super().value


@caught_by("all-ignored")
class GradientOfTheMeanOverNoRowsIsNaN(CrossEntropy):
    """The gradient of the mean over no rows is 0 / 0."""

    def gradient(self, g):
        return super().gradient(g) + (np.nan if self.denominator == 0 else 0)


@caught_by("empty-batch-mean")
class EmptyBatchIsRejected(CrossEntropy):
    """The mean of an empty batch raises an error."""

    def check(self):
        super().check()
        self.require(len(self.logit_rows) or self.reduction != "mean", "batch")
