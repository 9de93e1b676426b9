"""Cotangents, forward mode and second derivatives."""

import numpy as np

from gallery.catalogue import caught_by
from gallery.right import CrossEntropy, total


@caught_by("value-with-gradient")
class LossWithGradientIsShifted(CrossEntropy):
    """Where the gradient is computed as well, the loss is that of the largest class."""

    value_with_gradient = property(lambda self: self.value - self.reduced(self.counts))


@caught_by("cotangent-of-a-sum")
class CotangentIsNotRead(CrossEntropy):
    """The gradient is not multiplied with the cotangent."""

    def cotangent(self, _):
        return super().cotangent(None)


@caught_by("cotangent-per-row")
class CotangentIsOneNumber(CrossEntropy):
    """The cotangent of the first row is taken for that of all."""

    def cotangent(self, g):
        return super().cotangent(g)[:1]


@caught_by("cotangent-per-row-of-distributions")
class CotangentOfDistributionsIsOneNumber(CrossEntropy):
    """The cotangent of the first row is taken for that of all, with distributions."""

    def cotangent(self, g):
        return super().cotangent(g) if self.is_indices else super().cotangent(g)[:1]


@caught_by("cotangent-0")
class CotangentOfZeroIsNone(CrossEntropy):
    """A cotangent of 0 is taken for none at all."""

    def cotangent(self, g):
        return super().cotangent(g if g is not None and np.any(g) else None)


@caught_by("cotangent-of-a-mean")
class CotangentOfAMeanIsNotRead(CrossEntropy):
    """The gradient of a mean is not multiplied with the cotangent."""

    def cotangent(self, g):
        return super().cotangent(None if self.reduction == "mean" else g)


@caught_by("forward-mode", "masked classes, ignored rows")
class ForwardModeHasTheWrongSign(CrossEntropy):
    """The derivative along a tangent has the wrong sign."""

    def jvp(self, v):
        return -super().jvp(v)


@caught_by("forward-mode-of-a-mean")
class ForwardModeOfAMeanIsThatOfASum(CrossEntropy):
    """The derivative of a mean along a tangent is not divided by the number of rows."""

    def jvp(self, v):
        return super().jvp(v) * (np.sum(self.counts) if self.reduction == "mean" else 1)


@caught_by("second-derivative", "masked classes, fully masked rows, ignored rows")
class LogSumExpIsAConstant(CrossEntropy):
    """The second derivative takes the log-sum-exp that the forward pass saved for a constant."""

    def hvp(self, v):
        return self.whole(self.factor * total(self.q) * self.p * self.rows(v))


@caught_by("second-derivative", "masked classes, fully masked rows, ignored rows")
class GradientIsAConstant(CrossEntropy):
    """The second derivative is 0."""

    def hvp(self, _):
        return self.whole(np.zeros_like(self.x))


@caught_by("second-derivative-of-a-mean")
class SecondDerivativeOfAMeanIsThatOfASum(CrossEntropy):
    """The second derivative of a mean is not divided by the number of rows."""

    def hvp(self, v):
        return super().hvp(v) * (self.denominator if self.reduction == "mean" else 1)


@caught_by("second-derivative-with-every-option")
class ZLossHasNoSecondDerivative(CrossEntropy):
    """The second derivative leaves the z-loss out."""

    def hvp(self, v):
        self.z = 0
        return super().hvp(v)
