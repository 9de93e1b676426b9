"""softmax, log_softmax, logsumexp and linear_cross_entropy."""

from functools import cached_property

import numpy as np

from gallery.catalogue import caught_by
from gallery.right import LinearCrossEntropy, LogSoftmax, LogSumExp, Softmax, total


@caught_by("softmax-of-confident-rows")
class SoftmaxTakesNoMaximumOut(Softmax):
    """`exp(x) / sum(exp(x))`."""

    p = cached_property(lambda self: np.exp(self.x) / total(np.exp(self.x)))


@caught_by("softmax-of-a-fully-masked-row")
class SoftmaxOfNothingIsUniform(Softmax):
    """The softmax of a row without a possible class is uniform."""

    @cached_property
    def p(self):
        return np.where(np.all(self.x == -np.inf, axis=-1, keepdims=True), 1 / self.x.shape[-1], super().p)


@caught_by("softmax")
class SoftmaxIsDifferentiatedAlone(Softmax):
    """The derivative of softmax is p (1 - p), as that of a sigmoid."""

    def along(self, v):
        return self.p * (1 - self.p) * v


@caught_by("softmax-along-two-axes")
class SoftmaxReadsOneAxis(Softmax):
    """Of several axes only the first is read."""

    def in_order(self, axis):
        return axis[:1] if isinstance(axis, tuple) else super().in_order(axis)


@caught_by("log_softmax-of-confident-rows")
class LogarithmOfSoftmax(LogSoftmax):
    """`log(softmax(x))`."""

    value = cached_property(lambda self: self.whole(np.log(self.p)))


@caught_by("log_softmax-of-confident-rows")
class LogSoftmaxSubtractsTheLogSumExp(LogSoftmax):
    """`x - lse`, which cancels."""

    value = cached_property(lambda self: self.whole(self.x - self.log_sum))


@caught_by("log_softmax")
class LogSoftmaxForgetsTheSumOfTheCotangent(LogSoftmax):
    """The gradient is g - p."""

    def back(self, g):
        return g - self.p


@caught_by("logsumexp-of-a-fully-masked-row")
class LogSumExpOfNothingIsNaN(LogSumExp):
    """The log-sum-exp of a row of -inf is NaN."""

    value = cached_property(lambda self: self.reduced(self.log_sum))


@caught_by("logsumexp-where")
class LogSumExpMultipliesTheMask(LogSumExp):
    """The logits of classes that are out are multiplied with 0, and count as exp(0)."""

    x = cached_property(lambda self: self.given * self.is_in)


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
class SoftcapHasNoSlope(LinearCrossEntropy):
    """The gradient passes the cap as if it were not there."""

    cap_slope = 1


@caught_by("linear-nan-in-an-ignored-row")
class FeaturesOfIgnoredRowsLeak(LinearCrossEntropy):
    """Features of an ignored row are multiplied with 0, and 0 * NaN is NaN."""

    counted_inputs = cached_property(lambda self: self.inputs)


@caught_by("linear-cotangent-per-row")
class GradientOfWeightsReadsOneCotangent(LinearCrossEntropy):
    """The gradient of the weights takes the cotangent of the first row for that of all."""

    def gradient_of_weight(self, g):
        return super().gradient_of_weight(None if g is None else np.full_like(g, g.flat[0]))


@caught_by("linear-67-rows")
class LastRowsMoveNoWeight(LinearCrossEntropy):
    """Rows that fill no block of 32 are not in the gradient of the weights, where there is a block."""

    @cached_property
    def counted_inputs(self):
        n = len(self.inputs)
        return np.where(np.arange(n)[:, None] < (n if n < 32 else n // 32 * 32), super().counted_inputs, 0)


@caught_by("linear-67-classes")
class PaddedWeightsCount(LinearCrossEntropy):
    """Classes beyond one block of 32 are padded with weights of 0, whose logits of 0 count in the sum."""

    @cached_property
    def rest(self):
        padding = -self.size % 32 if self.size > 32 else 0
        return super().rest + (padding * np.exp(-self.shift) if padding else 0)


@caught_by("linear-smoothing")
class LinearIsNotSmoothed(LinearCrossEntropy):
    """Smoothing does not reach the kernel."""

    smoothed = cached_property(lambda self: self.target)


@caught_by("linear-confident-rows")
class LinearGradientCancels(LinearCrossEntropy):
    """The gradient is `p - q`, in which p_t - 1 cancels."""

    plain_slope = cached_property(lambda self: self.p * total(self.q) - self.q)


@caught_by("linear-soft-targets")
class LinearReadsLabelsAlone(LinearCrossEntropy):
    """The linear layer takes the likeliest class of a distribution for its label."""

    @cached_property
    def target(self):
        target = super().target
        return (np.arange(self.size) == np.argmax(target, axis=-1, keepdims=True)) * total(target)
