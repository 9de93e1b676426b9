"""Defects with invalid arguments and rare but valid ones."""

from functools import cached_property

import numpy as np

from gallery.catalogue import caught_by
from gallery.correct import CrossEntropy


@caught_by("too-few-labels")
class MissingLabelsAreZero(CrossEntropy):
    """Missing labels are replaced by 0."""

    def __init__(self, logits, targets, **options):
        if targets.ndim == logits.ndim - 1 == 1 and "axis" not in options:
            targets = np.concatenate([targets, np.zeros(len(logits) - len(targets), dtype=targets.dtype)])
        super().__init__(logits, targets, **options)


@caught_by("too-few-sample-weights")
class SampleWeightsAreBroadcast(CrossEntropy):
    """A single sample weight is broadcast to all rows."""

    def __init__(self, logits, targets, *, sample_weight=None, **options):
        if sample_weight is not None and len(sample_weight) == 1:
            sample_weight = np.broadcast_to(sample_weight, len(logits))
        super().__init__(logits, targets, sample_weight=sample_weight, **options)


@caught_by("too-many-class-weights")
class ClassWeightsAreTruncated(CrossEntropy):
    """Class weights beyond the last class are ignored."""

    def __init__(self, logits, targets, *, class_weight=None, axis=-1, **options):
        if class_weight is not None and axis == -1:
            class_weight = class_weight[: logits.shape[-1]]
        super().__init__(logits, targets, class_weight=class_weight, axis=axis, **options)


@caught_by("labels-of-floats")
class FloatingPointLabelsAreTruncated(CrossEntropy):
    """Floating-point labels are cast to integers."""

    def __init__(self, logits, targets, **options):
        targets = targets.astype(np.int64) if targets.ndim < logits.ndim and targets.dtype.kind == "f" else targets
        super().__init__(logits, targets, **options)


@caught_by("no-classes")
class LossWithoutClassesIsZero(CrossEntropy):
    """Without classes the loss is 0."""

    def __init__(self, logits, targets, **options):
        if logits.shape[-1] == 0:
            logits, targets = np.zeros_like(logits, shape=(len(logits), 1)), targets * 0
        super().__init__(logits, targets, **options)


@caught_by("100000-classes-in-float16", dtype="float16")
class ComputesInHalfPrecision(CrossEntropy):
    """float16 logits are computed in float16."""

    def __init__(self, logits, targets, **options):
        super().__init__(logits, targets, **options)
        self.dtype = logits.dtype


@caught_by("cotangent-per-row")
class CotangentIsComparedByItsSum(CrossEntropy):
    """A cotangent whose sum is the number of rows is replaced by ones."""

    def cotangent(self, g):
        return super().cotangent(None if g is None or np.sum(g) == g.size else g)


@caught_by("axis-0-of-a-square")
class AxisOfASquareIsTheLast(CrossEntropy):
    """If `axis` has the length of the last axis, the last axis is used."""

    def class_axes(self, axis):
        is_one = isinstance(axis, int) and self.logits.shape[axis] == self.logits.shape[-1]
        return (-1,) if is_one else super().class_axes(axis)


@caught_by("one-label-for-all-rows")
class OneLabelIsBroadcast(CrossEntropy):
    """A single label is broadcast to all rows."""

    def __init__(self, logits, targets, **options):
        targets = np.broadcast_to(targets, len(logits)) if targets.shape == (1,) and logits.ndim == 2 else targets
        super().__init__(logits, targets, **options)


@caught_by("labels-in-a-column")
class ColumnOfLabelsIsFlattened(CrossEntropy):
    """Labels of shape (N, 1) are flattened."""

    def __init__(self, logits, targets, **options):
        is_column = targets.shape == (len(logits), 1) and logits.shape[-1] > 1
        super().__init__(logits, targets[:, 0] if is_column else targets, **options)


@caught_by("label-255-beside-ignore-index-minus-1")
class IgnoreIndexWraps(CrossEntropy):
    """`ignore_index` is cast to the dtype of the labels, so that -1 becomes 255."""

    @cached_property
    def is_ignored(self):
        if not self.is_indices or self.ignore_index is None:
            return super().is_ignored
        return self.labels == np.asarray(self.ignore_index).astype(self.labels.dtype)


@caught_by("Fortran-sequences")
class LabelsAreReadInMemoryOrder(CrossEntropy):
    """Labels are read in memory order."""

    labels = cached_property(lambda self: self.targets.ravel(order="K").reshape(-1, 1))


@caught_by("sample-weight-of-sequences")
class SampleWeightsAreFlattenedInFortranOrder(CrossEntropy):
    """Sample weights with several axes are flattened in Fortran order."""

    @cached_property
    def sample(self):
        return super().sample if self.sample_weight is None else self.sample_weight.ravel(order="F").reshape(-1, 1)


@caught_by("masked-class-of-weight-0")
class WeightOfZeroTimesInfinityIsNaN(CrossEntropy):
    """0 * inf is NaN if the 0 comes from a class weight."""

    def weighted_log_loss(self, q):
        is_nan = (q == 0) & (self.smoothed != 0) & (self.x == -np.inf)
        return np.where(is_nan, np.nan, super().weighted_log_loss(q))


@caught_by("masked-target-of-a-mean")
class GradientOfAnInfiniteMeanIsNaN(CrossEntropy):
    """The gradient of an infinite mean is NaN."""

    def gradient(self, g):
        return super().gradient(g) + (np.nan if self.reduction == "mean" and np.isinf(self.value) else 0)


@caught_by("nan-in-its-row-of-a-mean")
class GradientOfANaNMeanIsNaN(CrossEntropy):
    """If the mean is NaN, the gradient of all rows is NaN."""

    def gradient(self, g):
        return super().gradient(g) + (np.nan if self.reduction == "mean" and np.isnan(self.value) else 0)


@caught_by("nan-in-an-ignored-row-derivatives")
class SecondDerivativesOfIgnoredRowsAreMultipliedByZero(CrossEntropy):
    """The second derivative of an ignored row is multiplied by 0, and 0 * NaN is NaN."""

    def hvp(self, v):
        return super().hvp(v) + self.unflatten(np.where(self.is_ignored, 0 * self.logit_rows, 0))


@caught_by("integer-logits")
class ExponentialsOfIntegersAreTruncated(CrossEntropy):
    """Exponentials of integer logits are truncated to integers."""

    @cached_property
    def terms(self):
        return np.trunc(super().terms) if self.logits.dtype.kind in "iu" else super().terms
