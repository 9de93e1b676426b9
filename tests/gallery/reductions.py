"""Reductions, distributions and the z-loss."""

import math
from functools import cached_property

import numpy as np

from gallery.catalogue import caught_by
from gallery.right import CrossEntropy, total


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
class MeanCountsTheFirstAxis(CrossEntropy):
    """The mean of sequences divides by their number."""

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
    """A reduction that does not exist is the mean."""

    def require(self, is_right, what):
        super().require(is_right or what == "reduction", what)


@caught_by("normalizer-of-a-mean")
class MeanHasNoNormalizer(CrossEntropy):
    """`normalizer` is ignored where the mean is asked for."""

    @cached_property
    def denominator(self):
        return self.mean_denominator if self.reduction == "mean" else super().denominator


@caught_by("normalizer-of-a-sum")
class SumHasNoNormalizer(CrossEntropy):
    """`normalizer` is ignored where the sum is asked for."""

    @cached_property
    def denominator(self):
        return 1 if self.reduction == "sum" else super().denominator


@caught_by(
    "distributions",
    "masked classes, all options, axes, class weights, cotangents, forward mode, label smoothing, unnormalized targets",
)
class DistributionsAreLabels(CrossEntropy):
    """Of a distribution only the likeliest class counts."""

    @cached_property
    def target(self):
        target = super().target
        is_likeliest = np.arange(self.size) == np.argmax(target, axis=-1, keepdims=True)
        return np.where(is_likeliest, total(target), 0)


@caught_by("targets-that-sum-to-2")
class GradientTakesDistributionsForNormalised(CrossEntropy):
    """The gradient of a distribution is p - q, whatever q sums to."""

    @cached_property
    def slope(self):
        return super().slope + self.p * (1 - total(self.target)) * (self.class_weight is None)


@caught_by("targets-that-sum-to-2")
class DistributionsAreNormalised(CrossEntropy):
    """A distribution is divided by its sum."""

    @cached_property
    def target(self):
        target = super().target
        return target / np.where(total(target) == 0, 1, total(target))


@caught_by("targets-that-are-0")
class TargetsOfZeroAreNormalised(CrossEntropy):
    """A row without a target is divided by its sum."""

    @cached_property
    def target(self):
        is_nothing = (total(super().target) == 0) & (not self.is_indices)
        return np.where(is_nothing, np.nan, super().target)


@caught_by("one-hot-of-integers")
class IntegerTargetsAreRefused(CrossEntropy):
    """A distribution of integers is an error."""

    def check(self):
        super().check()
        self.require(self.is_indices or self.targets.dtype.kind == "f", "dtype of targets")


@caught_by("gradient-of-distributions", "all options")
class TargetsHaveNoGradient(CrossEntropy):
    """The gradient with respect to distributions is 0."""

    def gradient_of_targets(self, g):
        return 0 * super().gradient_of_targets(g)


@caught_by("gradient-of-distributions", "all options")
class GradientOfTargetsCancels(CrossEntropy):
    """The gradient with respect to distributions has the wrong sign."""

    def gradient_of_targets(self, g):
        return -super().gradient_of_targets(g)


@caught_by("every-option-of-distributions")
class WeightsOfDistributionsAreConstants(CrossEntropy):
    """The gradient with respect to distributions forgets that their weights divide the mean."""

    def gradient_of_targets(self, g):
        return self.cotangent(g) * self.factor * self.surprise((1 - self.smoothing) * self.w * np.ones_like(self.x))


@caught_by("z-loss", "all options, forward mode")
class ZLossHasNoGradient(CrossEntropy):
    """The z-loss is added to the loss but not to the gradient."""

    slope = cached_property(lambda self: self.plain_slope)


@caught_by("z-loss-at-an-offset", "all options, forward mode, second derivative")
class ZLossOfShiftedLogits(CrossEntropy):
    """The z-loss squares the log-sum-exp of the shifted logits."""

    log_sum = cached_property(lambda self: self.log_rest)


@caught_by("z-loss-of-one-hot", "all options")
class DistributionsHaveNoZLoss(CrossEntropy):
    """The z-loss of distributions is left out."""

    @cached_property
    def z(self):
        return super().z if self.is_indices else 0


@caught_by("z-loss-of-an-ignored-row", "all options")
class IgnoredRowsHaveAZLoss(CrossEntropy):
    """The z-loss of an ignored row is counted."""

    @cached_property
    def counted(self):
        lse = np.logaddexp.reduce(self.given, axis=-1, keepdims=True)
        return super().counted + (np.where(self.is_ignored, self.z_loss * lse**2, 0) if self.z_loss else 0)
