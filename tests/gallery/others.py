"""Defects of softmax, log_softmax, logsumexp and linear_cross_entropy."""

from functools import cached_property

import numpy as np

from gallery.catalogue import caught_by
from gallery.correct import LinearCrossEntropy, LogSoftmax, LogSumExp, Softmax, total


@caught_by("softmax-of-confident-rows")
class SoftmaxDoesNotSubtractTheMaximum(Softmax):
    """softmax is `exp(x) / sum(exp(x))`, without subtracting the maximum."""

    p = cached_property(lambda self: np.exp(self.x) / total(np.exp(self.x)))


@caught_by("softmax-of-a-fully-masked-row")
class SoftmaxOfAFullyMaskedRowIsUniform(Softmax):
    """softmax of a fully masked row is uniform."""

    @cached_property
    def p(self):
        return np.where(np.all(self.x == -np.inf, axis=-1, keepdims=True), 1 / self.x.shape[-1], super().p)


@caught_by("softmax")
class SoftmaxHasTheDerivativeOfASigmoid(Softmax):
    """The derivative of softmax is p (1 - p), as for a sigmoid."""

    def jvp_of_rows(self, v):
        return self.p * (1 - self.p) * v


@caught_by("softmax-along-two-axes")
class SoftmaxUsesTheFirstAxis(Softmax):
    """softmax uses only the first of several axes."""

    def class_axes(self, axis):
        return axis[:1] if isinstance(axis, tuple) else super().class_axes(axis)


@caught_by("log_softmax-of-confident-rows")
class LogarithmOfSoftmax(LogSoftmax):
    """log_softmax is `log(softmax(x))`."""

    value = cached_property(lambda self: self.unflatten(np.log(self.p)))


@caught_by("log_softmax-of-confident-rows")
class LogSoftmaxSubtractsTheLogSumExp(LogSoftmax):
    """log_softmax is `x - lse`, which cancels."""

    value = cached_property(lambda self: self.unflatten(self.x - self.log_sum))


@caught_by("log_softmax")
class LogSoftmaxOmitsTheSumOfTheCotangent(LogSoftmax):
    """The gradient of log_softmax is g - p instead of g - p sum(g)."""

    def vjp_of_rows(self, g):
        return g - self.p


@caught_by("logsumexp-of-a-fully-masked-row")
class LogSumExpOfAFullyMaskedRowIsNaN(LogSumExp):
    """logsumexp of a fully masked row is NaN."""

    value = cached_property(lambda self: self.reduced(self.log_sum))


@caught_by("logsumexp-where")
class LogSumExpMultipliesByTheMask(LogSumExp):
    """logsumexp multiplies masked logits by 0, so that they contribute exp(0)."""

    x = cached_property(lambda self: self.logit_rows * self.is_unmasked)


@caught_by("linear-bias")
class BiasIsNotAdded(LinearCrossEntropy):
    """The bias is not added."""

    def __init__(self, features, weight, targets, *, bias=None, **options):
        super().__init__(features, weight, targets, bias=None if bias is None else 0 * bias, **options)


@caught_by("linear-bias")
class GradientOfTheBiasIsAMean(LinearCrossEntropy):
    """The gradient of the bias is divided by the number of rows."""

    def vjp(self, argument, g):
        return super().vjp(argument, g) / (len(self.x) if argument == "bias" else 1)


@caught_by("linear-softcap")
class SoftcapHasNoDerivative(LinearCrossEntropy):
    """The gradient omits the derivative of the soft cap."""

    cap_slope = 1


@caught_by("linear-nan-in-an-ignored-row")
class FeaturesOfIgnoredRowsAreMultipliedByZero(LinearCrossEntropy):
    """In the gradient of the weight, features of an ignored row are multiplied by 0, and 0 * NaN is NaN."""

    active_inputs = cached_property(lambda self: self.inputs)


@caught_by("linear-cotangent-per-row")
class GradientOfWeightUsesTheFirstCotangent(LinearCrossEntropy):
    """The gradient of the weight uses the cotangent of the first row for all rows."""

    def gradient_of_weight(self, g):
        return super().gradient_of_weight(None if g is None else np.full_like(g, g.flat[0]))


@caught_by("linear-67-rows")
class GradientOfWeightOmitsTheLastBlock(LinearCrossEntropy):
    """The gradient of the weight omits the last, incomplete block of 32 rows."""

    @cached_property
    def active_inputs(self):
        n = len(self.inputs)
        return np.where(np.arange(n)[:, None] < (n if n < 32 else n // 32 * 32), super().active_inputs, 0)


@caught_by("linear-67-classes")
class SumIncludesPaddedWeights(LinearCrossEntropy):
    """The last block of 32 classes is padded with zero weights, whose logits of 0 are included in the sum."""

    @cached_property
    def rest(self):
        padding = -self.size % 32 if self.size > 32 else 0
        return super().rest + (padding * np.exp(-self.shift) if padding else 0)


@caught_by("linear-smoothing")
class LinearIsNotSmoothed(LinearCrossEntropy):
    """linear_cross_entropy ignores `label_smoothing`."""

    smoothed = cached_property(lambda self: self.target)


@caught_by("linear-confident-rows")
class LinearGradientCancels(LinearCrossEntropy):
    """The gradient of linear_cross_entropy is `p - q`, in which p_t - 1 cancels."""

    plain_slope = cached_property(lambda self: self.p * total(self.q) - self.q)


@caught_by("linear-soft-targets")
class LinearUsesTheMostProbableClass(LinearCrossEntropy):
    """linear_cross_entropy uses only the most probable class of a distribution."""

    @cached_property
    def target(self):
        target = super().target
        return (np.arange(self.size) == np.argmax(target, axis=-1, keepdims=True)) * total(target)
