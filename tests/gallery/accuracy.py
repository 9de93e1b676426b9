"""Defects that lose digits or overflow."""

from functools import cached_property

import numpy as np

from gallery.catalogue import caught_by
from gallery.correct import CrossEntropy, total


@caught_by("offset+1e4", "masked classes, side effects, number of classes, confident, forward mode")
class DoesNotSubtractTheMaximum(CrossEntropy):
    """`exp(x)` is summed without subtracting the maximum."""

    shift = cached_property(lambda self: np.zeros_like(self.largest))
    is_first = cached_property(lambda self: np.zeros_like(self.x, dtype=bool))
    log_rest = cached_property(lambda self: np.log(self.rest))
    p = cached_property(lambda self: self.terms / self.rest)
    plain_slope = cached_property(lambda self: self.p * total(self.q) - self.q)


@caught_by("offsets-differ-by-row", "masked classes, axes, side effects, non-finite rows, confident, forward mode")
class SubtractsTheMaximumOfTheBatch(DoesNotSubtractTheMaximum):
    """The maximum of the whole batch is subtracted from every row."""

    shift = cached_property(lambda self: np.zeros_like(self.largest) + np.max(self.x, initial=-np.inf))


@caught_by("margin-20", "offset")
class SubtractsTheTargetFromTheLogSumExp(CrossEntropy):
    """The loss is `lse - x_t`, which cancels."""

    def weighted_log_loss(self, q):
        return q * np.where(q == 0, 0, self.log_sum - self.x)


@caught_by("margin-20", "forward mode")
class SubtractsTheTargetFromTheProbability(CrossEntropy):
    """The gradient is `p_t - 1` at the target, which cancels."""

    plain_slope = cached_property(lambda self: self.p * total(self.q) - self.q)


@caught_by("margin-20")
class AddsOneBeforeTheLogarithm(CrossEntropy):
    """`log(1 + rest)` is used instead of `log1p(rest)`."""

    log_rest = cached_property(lambda self: np.log(1 + self.rest))


@caught_by("confident-and-wrong-1000", "masked classes, confident, where")
class TakesTheLogarithmOfAProbability(CrossEntropy):
    """The loss is `-log(p + 1e-12)`."""

    def weighted_log_loss(self, q):
        return -q * np.log(self.p + 1e-12)


@caught_by("confident-and-wrong-100", "masked classes, number of classes, confident, where")
class ClipsTheProbability(CrossEntropy):
    """The loss is `-log(clip(p, 1e-7, 1 - 1e-7))`."""

    def weighted_log_loss(self, q):
        return -q * np.log(np.clip(self.p, 1e-7, 1 - 1e-7))


@caught_by("confident-and-wrong-100", "masked classes, confident, where, z-loss")
class ClipsTheLoss(CrossEntropy):
    """Losses are clipped to 50."""

    @cached_property
    def losses(self):
        return np.minimum(super().losses, 50)


@caught_by(
    "rows",
    "masked classes, fully masked rows, non-finite rows, all options, axes, block sizes, class weights, "
    "confident, number of classes, cotangents, forward mode, ignored rows, label dtypes, label smoothing, "
    "memory layout, offset, reductions, sample weights, soft targets, ties, confident and wrong, "
    "unnormalized targets, where, z-loss",
)
class GradientIsOnePercentTooLarge(CrossEntropy):
    """The gradient is 1% too large."""

    @cached_property
    def slope(self):
        return 1.01 * super().slope


@caught_by("two-equal", "axes, block sizes, offset, confident and wrong")
class OmitsAllMaximaFromTheSum(CrossEntropy):
    """All classes that share the maximum are omitted from the sum, not only the first."""

    is_first = cached_property(lambda self: self.x == self.shift)


@caught_by("two-equal-target-among", "axes, block sizes, offset, confident and wrong")
class OnlyTheFirstMaximumHasAGradient(CrossEntropy):
    """If several classes share the maximum, only the first has a gradient."""

    @cached_property
    def slope(self):
        return np.where((self.x == self.shift) & ~self.is_first, 0, super().slope)


@caught_by("label-above-2048-in-float16", dtype="float16")
class LabelsInTheDtypeOfTheLogits(CrossEntropy):
    """Labels are cast to the dtype of the logits."""

    labels = cached_property(lambda self: self.targets.reshape(-1, 1).astype(self.logits.dtype).astype(np.int64))


@caught_by("mean-of-66000-rows-in-float16", dtype="float16")
class MeanInTheDtypeOfTheLogits(CrossEntropy):
    """The rows are counted in the dtype of the logits."""

    mean_denominator = cached_property(lambda self: self.row_weight.astype(self.logits.dtype).sum())
