"""Defects with labels and ignored rows."""

from functools import cached_property

import numpy as np

from gallery.catalogue import caught_by
from gallery.correct import CrossEntropy


@caught_by("label-minus-1")
class NegativeLabelsWrap(CrossEntropy):
    """Negative labels index from the end, so that -1 is the last class."""

    @cached_property
    def one_hot(self):
        return np.eye(self.size, dtype=bool)[np.where(self.is_ignored, 0, self.labels)[:, 0].astype(np.int64)]


@caught_by("label-C")
class LabelsIndexTheNextRow(CrossEntropy):
    """The logit of a label is read at `row * C + label`, which may be in another row."""

    @cached_property
    def one_hot(self):
        is_target = np.zeros(self.logit_rows.size, dtype=bool)
        index = np.arange(len(self.labels)) * self.size + self.labels[:, 0].astype(np.int64)
        is_target[index[~self.is_ignored[:, 0]]] = True
        return is_target.reshape(self.logit_rows.shape)


@caught_by("uint8-labels-to-255", "labels out of range")
class IndicesInTheDtypeOfTheLabels(CrossEntropy):
    """`row * C + label` overflows in the dtype of the labels."""

    @cached_property
    def one_hot(self):
        if self.labels.dtype.itemsize > 2:
            return super().one_hot
        rows = np.arange(len(self.labels)).astype(self.labels.dtype)[:, None]
        index = rows * np.asarray(self.size).astype(self.labels.dtype) + self.labels
        return index.astype(np.int64) == np.arange(self.logit_rows.size).reshape(self.logit_rows.shape)


@caught_by("label-a-billion")
class LabelsOutOfRangeHaveLossZero(CrossEntropy):
    """A label out of range has loss 0."""

    one_hot = cached_property(lambda self: self.labels == np.arange(self.size))


@caught_by("label-C-plus-1")
class LabelsAreClipped(CrossEntropy):
    """Labels are clipped to the range of classes."""

    one_hot = cached_property(lambda self: np.clip(self.labels, 0, self.size - 1) == np.arange(self.size))


@caught_by("label-2-to-the-32")
class LabelsAreTruncatedTo32Bits(CrossEntropy):
    """Labels are cast to int32."""

    labels = cached_property(lambda self: self.targets.reshape(-1, 1).astype(np.int32))


@caught_by("label-255-of-uint8", "label dtypes")
class Uint8LabelsAreSigned(CrossEntropy):
    """uint8 labels are read as int8, so that 255 is the last class."""

    @cached_property
    def one_hot(self):
        is_byte = self.targets.dtype == np.uint8
        return np.eye(self.size, dtype=bool)[self.labels[:, 0].view(np.int8)] if is_byte else super().one_hot


@caught_by("label-minus-100")
class Minus100IsIgnoredByDefault(CrossEntropy):
    """-100 is ignored without `ignore_index`."""

    def __init__(self, logits, targets, ignore_index=-100, **options):
        super().__init__(logits, targets, ignore_index=ignore_index, **options)


@caught_by("minus-1-beside-ignore-index")
class AllNegativeLabelsAreIgnored(CrossEntropy):
    """With `ignore_index=-100`, every negative label is ignored."""

    @cached_property
    def is_ignored(self):
        has_ignore_index = self.is_indices and self.ignore_index == -100
        return super().is_ignored | (self.labels < 0) if has_ignore_index else super().is_ignored


@caught_by("ignored-class", "all options, forward mode, second derivative")
class IgnoreIndexOfAClassHasNoEffect(CrossEntropy):
    """`ignore_index` has no effect if it is the index of a class."""

    @cached_property
    def is_ignored(self):
        return super().is_ignored & (self.labels < 0) if self.is_indices else super().is_ignored
