"""Defects with reductions, distributions and the z-loss."""

import math
from functools import cached_property

import numpy as np

from gallery.catalogue import caught_by
from gallery.correct import CrossEntropy, total


@caught_by(
    "mean-of-rows",
    "masked classes, all options, axes, block sizes, non-finite rows, class weights, cotangents, ignored rows, "
    "label smoothing, sample weights, soft targets",
)
class GradientOfAMeanIsThatOfASum(CrossEntropy):
    """The gradient of a mean is not divided by the number of rows."""

    def gradient(self, g):
        return super().gradient(g) * (self.denominator if self.reduction == "mean" else 1)


@caught_by("mean-of-sequences", "axes")
class MeanDividesByTheFirstAxis(CrossEntropy):
    """The mean over sequences divides by the number of sequences."""

    @cached_property
    def mean_denominator(self):
        return super().mean_denominator / math.prod(self.batch[1:])


@caught_by("sum-of-rows", "masked classes, fully masked rows, cotangents, ignored rows, second derivative")
class SumIsTheMean(CrossEntropy):
    """`reduction='sum'` returns the mean."""

    @cached_property
    def denominator(self):
        return self.mean_denominator if self.reduction == "sum" and self.normalizer is None else super().denominator


@caught_by(
    "losses-of-rows",
    "masked classes, fully masked rows, non-finite rows, axes, block sizes, class weights, number of classes, "
    "confident, cotangents, empty batch, forward mode, ignored rows, label dtypes, label smoothing, "
    "memory layout, offset, ordinary, repeatability, sample weights, soft targets, ties, confident and wrong, "
    "unnormalized targets, where, z-loss",
)
class NoReductionIsASum(CrossEntropy):
    """`reduction='none'` returns the sum."""

    def reduced(self, rows):
        return np.sum(rows)


@caught_by("unknown-reduction")
class UnknownReductionIsTheMean(CrossEntropy):
    """An unknown reduction returns the mean."""

    def require(self, is_valid, name):
        super().require(is_valid or name == "reduction", name)


@caught_by("normalizer-of-a-mean")
class MeanHasNoNormalizer(CrossEntropy):
    """`normalizer` is ignored with `reduction='mean'`."""

    @cached_property
    def denominator(self):
        return self.mean_denominator if self.reduction == "mean" else super().denominator


@caught_by("normalizer-of-a-sum")
class SumHasNoNormalizer(CrossEntropy):
    """`normalizer` is ignored with `reduction='sum'`."""

    @cached_property
    def denominator(self):
        return 1 if self.reduction == "sum" else super().denominator


@caught_by(
    "distributions",
    "masked classes, all options, axes, class weights, cotangents, forward mode, label smoothing, unnormalized targets",
)
class OnlyTheMostProbableClassIsUsed(CrossEntropy):
    """Only the most probable class of a distribution is used."""

    @cached_property
    def target(self):
        target = super().target
        is_most_probable = np.arange(self.size) == np.argmax(target, axis=-1, keepdims=True)
        return np.where(is_most_probable, total(target), 0)


@caught_by("targets-that-sum-to-2")
class GradientAssumesNormalizedDistributions(CrossEntropy):
    """With distributions, the gradient is p - q instead of p sum(q) - q."""

    @cached_property
    def slope(self):
        return super().slope + self.p * (1 - total(self.target)) * (self.class_weight is None)


@caught_by("targets-that-sum-to-2")
class DistributionsAreNormalized(CrossEntropy):
    """Distributions are normalized to sum to 1."""

    @cached_property
    def target(self):
        target = super().target
        return target / np.where(total(target) == 0, 1, total(target))


@caught_by("targets-that-are-0")
class TargetsOfZeroAreNormalized(CrossEntropy):
    """Targets that are all 0 are divided by their sum."""

    @cached_property
    def target(self):
        is_zero = (total(super().target) == 0) & (not self.is_indices)
        return np.where(is_zero, np.nan, super().target)


@caught_by("one-hot-of-integers")
class IntegerTargetsAreRejected(CrossEntropy):
    """Distributions with an integer dtype raise an error."""

    def check(self):
        super().check()
        self.require(self.is_indices or self.targets.dtype.kind == "f", "dtype of targets")


@caught_by("gradient-of-distributions", "all options")
class TargetsHaveNoGradient(CrossEntropy):
    """The gradient with respect to distributions is 0."""

    def gradient_of_targets(self, g):
        return 0 * super().gradient_of_targets(g)


@caught_by("gradient-of-distributions", "all options")
class GradientOfTargetsHasTheWrongSign(CrossEntropy):
    """The gradient with respect to distributions has the wrong sign."""

    def gradient_of_targets(self, g):
        return -super().gradient_of_targets(g)


@caught_by("every-option-of-distributions")
class DenominatorOfDistributionsIsAConstant(CrossEntropy):
    """The gradient with respect to distributions omits the derivative of the denominator of the mean."""

    def gradient_of_targets(self, g):
        slope = (1 - self.smoothing) * self.w * np.ones_like(self.x)
        return self.cotangent(g) * self.factor * self.weighted_log_loss(slope)


@caught_by("z-loss", "all options, forward mode")
class ZLossHasNoGradient(CrossEntropy):
    """The z-loss is added to the loss but not to the gradient."""

    slope = cached_property(lambda self: self.plain_slope)


@caught_by("z-loss-at-an-offset", "all options, forward mode, second derivative")
class ZLossOfShiftedLogits(CrossEntropy):
    """The z-loss uses the log-sum-exp of the shifted logits."""

    log_sum = cached_property(lambda self: self.log_rest)


@caught_by("z-loss-of-one-hot", "all options")
class DistributionsHaveNoZLoss(CrossEntropy):
    """The z-loss is omitted with distributions."""

    @cached_property
    def z(self):
        return super().z if self.is_indices else 0


@caught_by("z-loss-of-an-ignored-row", "all options")
class IgnoredRowsHaveAZLoss(CrossEntropy):
    """The z-loss of ignored rows is included."""

    @cached_property
    def weighted_losses(self):
        lse = np.logaddexp.reduce(self.logit_rows, axis=-1, keepdims=True)
        return super().weighted_losses + (np.where(self.is_ignored, self.z_loss * lse**2, 0) if self.z_loss else 0)
