"""Defects with cotangents, forward mode and second derivatives."""

import numpy as np

from gallery.catalogue import caught_by
from gallery.correct import CrossEntropy, total


@caught_by("value-with-gradient")
class ValueWithGradientDiffers(CrossEntropy):
    """The value returned with the gradient differs from the loss."""

    value_with_gradient = property(lambda self: self.value - self.reduced(self.active_weight))


@caught_by("cotangent-of-a-sum")
class CotangentIsIgnored(CrossEntropy):
    """The gradient is not multiplied by the cotangent."""

    def cotangent(self, _):
        return super().cotangent(None)


@caught_by("cotangent-per-row")
class CotangentOfTheFirstRowIsUsed(CrossEntropy):
    """The cotangent of the first row is used for all rows."""

    def cotangent(self, g):
        return super().cotangent(g)[:1]


@caught_by("cotangent-per-row-of-distributions")
class CotangentOfTheFirstRowIsUsedWithDistributions(CrossEntropy):
    """With distributions, the cotangent of the first row is used for all rows."""

    def cotangent(self, g):
        return super().cotangent(g) if self.is_indices else super().cotangent(g)[:1]


@caught_by("cotangent-0")
class CotangentOfZeroIsOne(CrossEntropy):
    """A cotangent of 0 is replaced by 1."""

    def cotangent(self, g):
        return super().cotangent(g if g is not None and np.any(g) else None)


@caught_by("cotangent-of-a-mean")
class CotangentOfAMeanIsIgnored(CrossEntropy):
    """The gradient of a mean is not multiplied by the cotangent."""

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
        return super().jvp(v) * (np.sum(self.active_weight) if self.reduction == "mean" else 1)


@caught_by("second-derivative", "masked classes, fully masked rows, ignored rows")
class LogSumExpIsAConstant(CrossEntropy):
    """The second derivative treats the log-sum-exp of the forward pass as a constant."""

    def hvp(self, v):
        return self.unflatten(self.factor * total(self.q) * self.p * self.rows(v))


@caught_by("second-derivative", "masked classes, fully masked rows, ignored rows")
class GradientIsAConstant(CrossEntropy):
    """The second derivative is 0."""

    def hvp(self, _):
        return self.unflatten(np.zeros_like(self.x))


@caught_by("second-derivative-of-a-mean")
class SecondDerivativeOfAMeanIsThatOfASum(CrossEntropy):
    """The second derivative of a mean is not divided by the number of rows."""

    def hvp(self, v):
        return super().hvp(v) * (self.denominator if self.reduction == "mean" else 1)


@caught_by("second-derivative-with-every-option")
class ZLossHasNoSecondDerivative(CrossEntropy):
    """The second derivative omits the z-loss."""

    def hvp(self, v):
        self.z = 0
        return super().hvp(v)
