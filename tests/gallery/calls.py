"""Calls that are wrong, or only look so."""

from functools import cached_property

import numpy as np

from gallery.catalogue import caught_by
from gallery.right import CrossEntropy


@caught_by("too-few-labels")
class MissingLabelsAreMadeUp(CrossEntropy):
    """Labels that are missing are 0."""

    def __init__(self, logits, targets, **options):
        if targets.ndim == logits.ndim - 1 == 1 and "axis" not in options:
            targets = np.concatenate([targets, np.zeros(len(logits) - len(targets), dtype=targets.dtype)])
        super().__init__(logits, targets, **options)


@caught_by("too-few-sample-weights")
class SampleWeightsAreBroadcast(CrossEntropy):
    """One sample weight serves for all rows."""

    def __init__(self, logits, targets, *, sample_weight=None, **options):
        if sample_weight is not None and len(sample_weight) == 1:
            sample_weight = np.broadcast_to(sample_weight, len(logits))
        super().__init__(logits, targets, sample_weight=sample_weight, **options)


@caught_by("too-many-class-weights")
class ClassWeightsAreCut(CrossEntropy):
    """Class weights beyond the last class are left out."""

    def __init__(self, logits, targets, *, class_weight=None, axis=-1, **options):
        if class_weight is not None and axis == -1:
            class_weight = class_weight[: logits.shape[-1]]
        super().__init__(logits, targets, class_weight=class_weight, axis=axis, **options)


@caught_by("labels-of-floats")
class FloatingPointLabelsAreCut(CrossEntropy):
    """Labels are cast to integers, whatever they are."""

    def __init__(self, logits, targets, **options):
        targets = targets.astype(np.int64) if targets.ndim < logits.ndim and targets.dtype.kind == "f" else targets
        super().__init__(logits, targets, **options)


@caught_by("no-classes")
class NoClassesHaveNoLoss(CrossEntropy):
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
class CotangentIsLookedAtByItsSum(CrossEntropy):
    """A cotangent that sums to the number of rows is taken for ones."""

    def cotangent(self, g):
        return super().cotangent(None if g is None or np.sum(g) == g.size else g)


@caught_by("axis-0-of-a-square")
class AxisOfASquareIsTheLast(CrossEntropy):
    """Where the last axis is as long as the one asked for, the classes are taken to lie last."""

    def in_order(self, axis):
        is_one = isinstance(axis, int) and self.logits.shape[axis] == self.logits.shape[-1]
        return (-1,) if is_one else super().in_order(axis)


@caught_by("one-label-for-all-rows")
class OneLabelIsBroadcast(CrossEntropy):
    """One label serves for all rows."""

    def __init__(self, logits, targets, **options):
        targets = np.broadcast_to(targets, len(logits)) if targets.shape == (1,) and logits.ndim == 2 else targets
        super().__init__(logits, targets, **options)


@caught_by("labels-in-a-column")
class ColumnsOfLabelsAreFlattened(CrossEntropy):
    """Labels of shape (N, 1) are taken for N labels."""

    def __init__(self, logits, targets, **options):
        is_column = targets.shape == (len(logits), 1) and logits.shape[-1] > 1
        super().__init__(logits, targets[:, 0] if is_column else targets, **options)


@caught_by("label-255-beside-ignore-index-minus-1")
class IgnoreIndexWraps(CrossEntropy):
    """`ignore_index` is cast to the dtype of the labels, and -1 is 255."""

    @cached_property
    def is_ignored(self):
        if not self.is_indices or self.ignore_index is None:
            return super().is_ignored
        return self.labels == np.asarray(self.ignore_index).astype(self.labels.dtype)


@caught_by("Fortran-sequences")
class LabelsAreReadInMemoryOrder(CrossEntropy):
    """Labels are read in the order in which they lie in memory."""

    labels = cached_property(lambda self: self.targets.ravel(order="K").reshape(-1, 1))


@caught_by("sample-weight-of-sequences")
class SampleWeightsOfSequencesAreReadByColumns(CrossEntropy):
    """Sample weights of several axes are flattened with the first varying fastest."""

    @cached_property
    def sample(self):
        return super().sample if self.sample_weight is None else self.sample_weight.ravel(order="F").reshape(-1, 1)


@caught_by("masked-class-of-weight-0")
class WeightOfZeroTimesInfinityIsNaN(CrossEntropy):
    """Terms are guarded against 0 * inf before they are weighted."""

    def surprise(self, q):
        is_lost = (q == 0) & (self.smoothed != 0) & (self.x == -np.inf)
        return np.where(is_lost, np.nan, super().surprise(q))


@caught_by("masked-target-of-a-mean")
class GradientOfAnInfiniteMeanIsNaN(CrossEntropy):
    """The gradient of a mean that is infinite is NaN."""

    def gradient(self, g):
        return super().gradient(g) + (np.nan if self.reduction == "mean" and np.isinf(self.value) else 0)


@caught_by("nan-in-its-row-of-a-mean")
class NaNSpoilsTheGradientOfAMean(CrossEntropy):
    """The gradient of a mean that is NaN is NaN."""

    def gradient(self, g):
        return super().gradient(g) + (np.nan if self.reduction == "mean" and np.isnan(self.value) else 0)


@caught_by("nan-in-an-ignored-row-derivatives")
class SecondDerivativesOfIgnoredRowsLeak(CrossEntropy):
    """The second derivative of an ignored row is multiplied with 0, and 0 * NaN is NaN."""

    def hvp(self, v):
        return super().hvp(v) + self.whole(np.where(self.is_ignored, 0 * self.given, 0))


@caught_by("integer-logits")
class IntegerLogitsAreCut(CrossEntropy):
    """Exponentials of integer logits are integers."""

    @cached_property
    def terms(self):
        return np.trunc(super().terms) if self.logits.dtype.kind in "iu" else super().terms
