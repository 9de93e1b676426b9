"""Defects with means, class and sample weights, and label smoothing."""

from functools import cached_property

import numpy as np

from gallery.catalogue import caught_by
from gallery.correct import CrossEntropy, total


@caught_by("mean-without-ignored-rows", "label smoothing")
class MeanCountsIgnoredRows(CrossEntropy):
    """The mean divides by the number of all rows, including ignored ones."""

    @cached_property
    def mean_denominator(self):
        return len(self.x) if self.sample_weight is self.class_weight is None else super().mean_denominator


@caught_by("class-weight-mean", "all options, axes, forward mode, label smoothing, sample weights, second derivative")
class MeanCountsRowsDespiteClassWeights(CrossEntropy):
    """With labels and class weights, the mean divides by the number of rows."""

    @cached_property
    def mean_denominator(self):
        return np.sum(self.active_weight) if self.is_indices else super().mean_denominator


@caught_by("class-weight-mean-of-one-hot", "all options")
class MeanOfDistributionsCountsRows(CrossEntropy):
    """With distributions and class weights, the mean divides by the number of rows."""

    @cached_property
    def mean_denominator(self):
        return super().mean_denominator if self.is_indices else np.sum(self.active_weight)


@caught_by("class-weight-mean-with-ignored", "all options, axes, forward mode, second derivative")
class MeanCountsClassWeightsOfIgnoredRows(CrossEntropy):
    """An ignored row adds the weight of class 0 to the denominator of the mean."""

    @cached_property
    def mean_denominator(self):
        of_ignored = 0 if self.class_weight is None else np.sum(self.is_ignored) * self.w[0]
        return super().mean_denominator + of_ignored


@caught_by("sample-weight-mean", "all options, forward mode, second derivative")
class MeanOmitsSampleWeights(CrossEntropy):
    """The denominator of the mean omits the sample weights."""

    @cached_property
    def row_weight(self):
        return np.where(self.active_weight == 0, 0, super().row_weight / self.active_weight)


@caught_by("sample-and-class-weight-mean", "all options, forward mode, second derivative")
class MeanOmitsSampleWeightsWithClassWeights(CrossEntropy):
    """With class weights, the denominator of the mean omits the sample weights."""

    @cached_property
    def row_weight(self):
        if self.class_weight is None:
            return super().row_weight
        return (self.active_weight > 0) * total(self.target * self.w)


@caught_by("class-weight-of-distributions", "masked classes, all options")
class DistributionsHaveNoClassWeights(CrossEntropy):
    """Class weights are not applied to distributions."""

    @cached_property
    def w(self):
        return super().w if self.is_indices else np.ones(self.size, self.dtype)


@caught_by("class-weight-of-0")
class DenominatorIsAtLeastOneRow(CrossEntropy):
    """A weight of 0 counts as 1 in the denominator of the mean."""

    @cached_property
    def row_weight(self):
        is_active = ~self.is_ignored & (self.sample != 0)
        return np.where(is_active & (super().row_weight == 0), 1, super().row_weight)


@caught_by("smoothing", "masked classes, all options, forward mode, second derivative, where")
class SmoothingExcludesTheLabel(CrossEntropy):
    """Label smoothing is over the C - 1 other classes."""

    @cached_property
    def uniform(self):
        others = (self.x != -np.inf) * (1 - self.target)
        return np.divide(others, total(others), out=others * 0, where=total(others) > 0)


@caught_by("masked-class-with-smoothing")
class SmoothingIncludesMaskedClasses(CrossEntropy):
    """Label smoothing includes classes with a logit of -inf."""

    uniform = cached_property(lambda self: self.is_unmasked / total(self.is_unmasked.astype(self.dtype)))


@caught_by("where-with-smoothing", "all options, forward mode, second derivative")
class SmoothingDividesByAllClasses(CrossEntropy):
    """Label smoothing divides by the number of all classes, including masked ones."""

    uniform = cached_property(lambda self: (self.x != -np.inf) / total((self.logit_rows != -np.inf).astype(self.dtype)))


@caught_by("smoothing-with-class-weight", "all options, forward mode, second derivative")
class SmoothingOmitsClassWeights(CrossEntropy):
    """Class weights are not applied to the uniform part of a smoothed target."""

    @cached_property
    def q(self):
        return super().q + (self.smoothing * self.uniform * (1 - self.w) if self.smoothing else 0)


@caught_by("smoothing-mean-with-ignored", "all options")
class SmoothingCountsIgnoredRows(CrossEntropy):
    """The uniform part of the target of an ignored row is included."""

    @cached_property
    def weighted_losses(self):
        ignored = self.smoothing * total(self.weighted_log_loss(self.uniform)) if self.smoothing else 0
        return super().weighted_losses + np.where(self.is_ignored, ignored / max(self.denominator, 1), 0)


@caught_by("smoothing-of-distributions", "all options")
class DistributionsAreNotSmoothed(CrossEntropy):
    """Label smoothing is not applied to distributions."""

    @cached_property
    def smoothed(self):
        return super().smoothed if self.is_indices else self.target


@caught_by("smoothing", "masked classes, all options, forward mode, where")
class SmoothingHasNoGradient(CrossEntropy):
    """The gradient ignores label smoothing."""

    @cached_property
    def slope(self):
        return super().slope + (self.q - self.target * self.w)


@caught_by("smoothing-above-1")
class SmoothingAboveOneIsAccepted(CrossEntropy):
    """`label_smoothing` above 1 is accepted."""

    def require(self, is_valid, name):
        super().require(is_valid or (name == "smoothing" and self.smoothing > 1), name)
