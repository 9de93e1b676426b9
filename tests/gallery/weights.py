"""Means, class and sample weights, smoothing."""

from functools import cached_property

import numpy as np

from gallery.catalogue import caught_by
from gallery.right import CrossEntropy, total


@caught_by("mean-without-ignored-rows", "label smoothing")
class MeanCountsIgnoredRows(CrossEntropy):
    """The mean divides by all rows, ignored or not."""

    @cached_property
    def mean_denominator(self):
        return len(self.x) if self.sample_weight is self.class_weight is None else super().mean_denominator


@caught_by("class-weight-mean", "all options, axes, forward mode, label smoothing, sample weights, second derivative")
class MeanCountsRowsDespiteClassWeights(CrossEntropy):
    """The mean of labels divides by the number of rows, whatever the weights of their classes."""

    @cached_property
    def mean_denominator(self):
        return np.sum(self.counts) if self.is_indices else super().mean_denominator


@caught_by("class-weight-mean-of-one-hot", "all options")
class MeanOfDistributionsCountsRows(CrossEntropy):
    """The mean of distributions divides by the number of rows, whatever the weights of their classes."""

    @cached_property
    def mean_denominator(self):
        return super().mean_denominator if self.is_indices else np.sum(self.counts)


@caught_by("class-weight-mean-with-ignored", "all options, axes, forward mode, second derivative")
class MeanCountsClassWeightsOfIgnoredRows(CrossEntropy):
    """An ignored row adds the weight of class 0 to the denominator of the mean."""

    @cached_property
    def mean_denominator(self):
        of_ignored = 0 if self.class_weight is None else np.sum(self.is_ignored) * self.w[0]
        return super().mean_denominator + of_ignored


@caught_by("sample-weight-mean", "all options, forward mode, second derivative")
class MeanForgetsSampleWeights(CrossEntropy):
    """Sample weights are not in the denominator of the mean."""

    @cached_property
    def row_weight(self):
        return np.where(self.counts == 0, 0, super().row_weight / self.counts)


@caught_by("sample-and-class-weight-mean", "all options, forward mode, second derivative")
class MeanDividesByEitherWeight(CrossEntropy):
    """Given class weights, the denominator of the mean forgets the sample weights."""

    @cached_property
    def row_weight(self):
        return super().row_weight if self.class_weight is None else (self.counts > 0) * total(self.target * self.w)


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
        is_counted = ~self.is_ignored & (self.sample != 0)
        return np.where(is_counted & (super().row_weight == 0), 1, super().row_weight)


@caught_by("smoothing", "masked classes, all options, forward mode, second derivative, where")
class SmoothingSparesTheLabel(CrossEntropy):
    """Smoothing spreads over the C - 1 other classes."""

    @cached_property
    def uniform(self):
        others = (self.x != -np.inf) * (1 - self.target)
        return np.divide(others, total(others), out=others * 0, where=total(others) > 0)


@caught_by("masked-class-with-smoothing")
class SmoothingSpreadsOverImpossibleClasses(CrossEntropy):
    """Smoothing spreads over classes at -inf, too."""

    uniform = cached_property(lambda self: self.is_in / total(self.is_in.astype(self.dtype)))


@caught_by("where-with-smoothing", "all options, forward mode, second derivative")
class SmoothingCountsClassesThatAreOut(CrossEntropy):
    """Smoothing divides by all classes, though some are not in `where`."""

    uniform = cached_property(lambda self: (self.x != -np.inf) / total((self.given != -np.inf).astype(self.dtype)))


@caught_by("smoothing-with-class-weight", "all options, forward mode, second derivative")
class SmoothingForgetsClassWeights(CrossEntropy):
    """The uniform part of a smoothed target is not weighted."""

    @cached_property
    def q(self):
        return super().q + (self.smoothing * self.uniform * (1 - self.w) if self.smoothing else 0)


@caught_by("smoothing-mean-with-ignored", "all options")
class SmoothingCountsIgnoredRows(CrossEntropy):
    """The uniform part of an ignored row is counted."""

    @cached_property
    def counted(self):
        ignored = self.smoothing * total(self.surprise(self.uniform)) if self.smoothing else 0
        return super().counted + np.where(self.is_ignored, ignored / max(self.denominator, 1), 0)


@caught_by("smoothing-of-distributions", "all options")
class DistributionsAreNotSmoothed(CrossEntropy):
    """Smoothing is not applied to distributions."""

    @cached_property
    def smoothed(self):
        return super().smoothed if self.is_indices else self.target


@caught_by("smoothing", "masked classes, all options, forward mode, where")
class SmoothingHasNoGradient(CrossEntropy):
    """The gradient is that of labels that are not smoothed."""

    @cached_property
    def slope(self):
        return super().slope + (self.q - self.target * self.w)


@caught_by("smoothing-above-1")
class SmoothingAboveOneIsAccepted(CrossEntropy):
    """A smoothing above 1 is accepted."""

    def require(self, is_right, what):
        super().require(is_right or (what == "smoothing" and self.smoothing > 1), what)
