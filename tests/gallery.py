"""A right implementation in NumPy, and wrong ones that differ from it in one step each: the kit must tell them apart.

A call is an object whose steps are properties, so that a wrong implementation overrides the one it gets wrong. The
first largest class a of a row is taken out of the sum of exponentials: with rest = sum over j != a of exp(x_j - x_a),

    loss     = sum_j q_j ((x_a - x_j) + log1p(rest))
    d/dx_j   = p_j sum(q) - q_j                                        (j != a)
    d/dx_a   = (sum over k != a of q_k - rest q_a) / (1 + rest)

Every wrong implementation names the case whose fault it is, and the other categories in which it cannot help failing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from xpent.conformance.cases import ALL, BY_NAME
from xpent.conformance.implementation import Implementation
from xpent.conformance.judge import Outcome, sweep
from xpent.conformance.libraries import library


class Rows:
    """Logits with their classes last, and their exponentials with the largest taken out of the sum."""

    def __init__(self, logits, *, axis=-1, where=None):
        self.logits, self.where = logits, where
        self.axes = tuple(a % logits.ndim for a in self.in_order(axis))
        self.batch = tuple(size for a, size in enumerate(logits.shape) if a not in self.axes)
        self.classes = tuple(logits.shape[a] for a in self.axes)
        self.dtype = np.result_type(logits.dtype, np.float32)

    def in_order(self, axis):
        if axis is None:
            return range(self.logits.ndim)
        return axis if isinstance(axis, tuple) else (axis,)

    def rows(self, array):
        moved = np.moveaxis(array, self.axes, range(-len(self.axes), 0))
        return np.ascontiguousarray(moved.reshape(math.prod(self.batch), math.prod(self.classes)))

    def whole(self, rows):
        moved = rows.reshape(self.batch + self.classes)
        return np.moveaxis(moved, range(-len(self.axes), 0), self.axes).astype(self.logits.dtype)

    @cached_property
    def is_in(self):
        return np.ones_like(self.given, dtype=bool) if self.where is None else self.rows(self.mask)

    @cached_property
    def mask(self):
        return np.broadcast_to(self.where, self.logits.shape)

    @cached_property
    def given(self):
        return self.rows(self.logits).astype(self.dtype)

    @cached_property
    def possible(self):
        return np.where(self.is_in, self.given, -np.inf)

    @cached_property
    def x(self):
        return self.possible

    @cached_property
    def largest(self):
        return np.max(self.x, axis=-1, keepdims=True)

    @cached_property
    def shift(self):
        return np.where(np.isfinite(self.largest), self.largest, np.nan)

    @cached_property
    def is_first(self):
        is_largest = np.arange(self.x.shape[-1]) == np.argmax(self.x, axis=-1, keepdims=True)
        return is_largest & np.isfinite(self.shift)

    @cached_property
    def terms(self):
        return np.exp(self.x - self.shift)

    @cached_property
    def rest(self):
        return total(np.where(self.is_first, 0, self.terms))

    @cached_property
    def log_rest(self):
        return np.log1p(self.rest)

    @cached_property
    def log_sum(self):
        return self.shift + self.log_rest

    @cached_property
    def p(self):
        return self.terms / (1 + self.rest)


def total(rows):
    return np.sum(rows, axis=-1, keepdims=True)


class Softmax(Rows):
    """The call of a softmax."""

    function = "softmax"

    @cached_property
    def value(self):
        return self.whole(self.p)

    def along(self, v):
        return self.p * (v - total(self.p * v))

    def vjp(self, _, g):
        return self.whole(self.along(self.rows(np.ones_like(self.logits) if g is None else g).astype(self.dtype)))

    def jvp(self, v):
        return self.whole(self.along(self.rows(v).astype(self.dtype)))


class LogSoftmax(Softmax):
    """The call of a log-softmax."""

    function = "log_softmax"

    @cached_property
    def value(self):
        return self.whole((self.x - self.shift) - self.log_rest)

    def vjp(self, _, g):
        g = self.rows(np.ones_like(self.logits) if g is None else g).astype(self.dtype)
        return self.whole(self.back(np.where(self.x == -np.inf, 0, g)))

    def back(self, g):
        return g - self.p * total(g)

    def along(self, v):
        return v - total(self.p * v)


class LogSumExp(Rows):
    """The call of a log-sum-exp."""

    function = "logsumexp"

    def __init__(self, logits, *, axis=-1, keepdims=False, where=None):
        super().__init__(logits, axis=axis, where=where)
        self.keepdims = keepdims

    def reduced(self, rows):
        kept = [1 if a in self.axes else size for a, size in enumerate(self.logits.shape)]
        return rows.reshape(kept if self.keepdims else self.batch).astype(self.logits.dtype)

    @cached_property
    def value(self):
        return self.reduced(np.where(np.isinf(self.largest), self.largest, self.log_sum))

    def vjp(self, _, g):
        g = np.ones(len(self.x)) if g is None else g
        return self.whole(g.reshape(-1, 1).astype(self.dtype) * self.p)

    def jvp(self, v):
        return self.reduced(total(self.p * self.rows(v)))


class CrossEntropy(Rows):
    """The call of a cross-entropy."""

    function = "cross_entropy"

    def __init__(
        self, logits, targets, *, axis=-1, class_weight=None, sample_weight=None, ignore_index=None,
        label_smoothing=0.0, z_loss=0.0, where=None, reduction="mean", normalizer=None,
    ):  # fmt: skip
        super().__init__(logits, axis=axis, where=where)
        self.targets, self.class_weight, self.sample_weight = targets, class_weight, sample_weight
        self.ignore_index, self.smoothing, self.z_loss = ignore_index, label_smoothing, z_loss
        self.reduction, self.normalizer = reduction, normalizer
        self.size = math.prod(self.classes)
        self.is_indices = targets.shape == self.batch
        self.check()

    def check(self):
        self.require(self.size > 0, "classes")
        self.require(self.reduction in ("none", "sum", "mean"), "reduction")
        self.require(0 <= self.smoothing <= 1, "smoothing")
        if self.targets.shape == self.batch:
            self.require(self.targets.dtype.kind in "iu", "labels")
        else:
            self.require(self.targets.shape == self.logits.shape, "shape of targets")
        self.require(self.class_weight is None or self.class_weight.shape == (self.size,), "class weight")
        self.require(self.sample_weight is None or self.sample_weight.shape == self.batch, "sample weight")

    def require(self, is_right, what):
        if not is_right:
            raise ValueError(f"wrong {what}")

    @cached_property
    def labels(self):
        return self.targets.reshape(-1, 1)

    @cached_property
    def is_ignored(self):
        return self.labels == self.ignore_index if self.is_indices else np.zeros((len(self.given), 1), dtype=bool)

    @cached_property
    def one_hot(self):
        self.require(np.all(self.is_ignored | (self.labels >= 0) & (self.labels < self.size)), "label")
        return self.labels == np.arange(self.size)

    @cached_property
    def target(self):
        return (self.one_hot if self.is_indices else self.rows(self.targets)).astype(self.dtype)

    @cached_property
    def w(self):
        return np.ones(self.size, self.dtype) if self.class_weight is None else self.class_weight.astype(self.dtype)

    @cached_property
    def sample(self):
        shape = (len(self.given), 1)
        return np.ones(shape, self.dtype) if self.sample_weight is None else self.sample_weight.reshape(shape)

    @cached_property
    def counts(self):
        return np.where(self.is_ignored, 0, self.sample).astype(self.dtype)

    @cached_property
    def x(self):
        return np.where(self.counts == 0, 0, self.possible)

    @cached_property
    def uniform(self):
        is_possible = (self.x != -np.inf).astype(self.dtype)
        return is_possible / total(is_possible)

    @cached_property
    def smoothed(self):
        return (1 - self.smoothing) * self.target + self.smoothing * self.uniform if self.smoothing else self.target

    @cached_property
    def q(self):
        return self.smoothed * self.w

    @cached_property
    def z(self):
        return self.z_loss * np.any(self.q != 0, axis=-1, keepdims=True).astype(self.dtype)

    @cached_property
    def row_weight(self):
        return self.counts if self.class_weight is None else self.counts * total(self.target * self.w)

    @cached_property
    def mean_denominator(self):
        return np.sum(self.row_weight)

    @cached_property
    def denominator(self):
        if self.reduction == "none":
            return 1
        if self.normalizer is not None:
            return self.normalizer
        return self.mean_denominator if self.reduction == "mean" else 1

    @cached_property
    def factor(self):
        return self.counts * 0 if self.denominator == 0 else self.counts / self.dtype.type(self.denominator)

    def surprise(self, q):
        return q * (np.where(q == 0, 0, self.shift - self.x) + self.log_rest)

    @cached_property
    def losses(self):
        return total(self.surprise(self.q)) + (self.z * self.log_sum**2 if self.z_loss else 0)

    @cached_property
    def counted(self):
        return self.factor * self.losses

    def reduced(self, rows):
        return rows.reshape(self.batch) if self.reduction == "none" else np.sum(rows)

    @cached_property
    def value(self):
        return self.reduced(self.counted)

    @cached_property
    def plain_slope(self):
        first = (total(np.where(self.is_first, 0, self.q)) - self.rest * self.q) / (1 + self.rest)
        return np.where(self.is_first, first, self.p * total(self.q) - self.q)

    @cached_property
    def slope(self):
        return self.plain_slope + 2 * self.z * self.log_sum * self.p

    def cotangent(self, g):
        return np.ones((1, 1), self.dtype) if g is None else g.reshape(-1, 1).astype(self.dtype)

    def gradient(self, g):
        return self.cotangent(g) * self.factor * self.slope

    def gradient_of_targets(self, g):
        result = self.factor * self.surprise((1 - self.smoothing) * self.w * np.ones_like(self.x))
        if self.class_weight is not None and self.reduction == "mean" and self.normalizer is None:
            result = result - self.factor * self.w * self.value
        return self.cotangent(g) * result

    def vjp(self, moved, g):
        return self.whole(self.gradient(g) if moved == 0 else self.gradient_of_targets(g))

    def jvp(self, v):
        return self.reduced(total(self.factor * self.slope * self.rows(v)))

    def hvp(self, v):
        v = self.rows(v).astype(self.dtype)
        mean = total(self.p * v)
        bend = (total(self.q) + 2 * self.z * self.log_sum) * self.p * (v - mean) + 2 * self.z * self.p * mean
        return self.whole(self.factor * bend)


class LinearCrossEntropy(CrossEntropy):
    """The call of a linear layer with its cross-entropy."""

    function = "linear_cross_entropy"

    def __init__(self, features, weight, targets, *, bias=None, softcap=None, **options):
        self.features, self.weight, self.bias, self.softcap = features, weight, bias, softcap
        dtype = np.result_type(features.dtype, np.float32)
        self.inputs = features.reshape(-1, features.shape[-1]).astype(dtype)
        self.matrix = weight.astype(dtype)
        self.uncapped = self.inputs @ self.matrix.T + (0 if bias is None else bias)
        logits = self.uncapped if softcap is None else softcap * np.tanh(self.uncapped / softcap)
        super().__init__(logits.reshape(*features.shape[:-1], len(weight)), targets, **options)

    @cached_property
    def cap_slope(self):
        if self.softcap is None:
            return 1
        return np.where(self.counts == 0, 0, 1 / np.cosh(self.uncapped / self.softcap) ** 2)

    def inner(self, g):
        return self.gradient(g) * self.cap_slope

    @cached_property
    def counted_inputs(self):
        return np.where(self.counts == 0, 0, self.inputs)

    def gradient_of_weight(self, g):
        return self.inner(g).T @ self.counted_inputs

    def vjp(self, moved, g):
        if moved == 0:
            return (self.inner(g) @ self.matrix).reshape(self.features.shape).astype(self.features.dtype)
        if moved == 1:
            return self.gradient_of_weight(g).astype(self.weight.dtype)
        return np.sum(self.inner(g), axis=0).astype(self.bias.dtype)


RIGHT = (CrossEntropy, LinearCrossEntropy, Softmax, LogSoftmax, LogSumExp)


@dataclass(frozen=True)
class Function:
    """A function whose calls are objects."""

    call: type

    def __call__(self, *arrays, **options):
        return self.call(*arrays, **options).value


class Derivatives:
    """Those that a call has."""

    lines: ClassVar = {"vjp": (), "jvp": (), "hvp": ()}  # a reproduction shows the value alone

    def vjp(self, function, arrays, options, moved, g):
        call = function.call(*arrays, **options)
        return call.value, call.vjp(moved, g)

    def jvp(self, function, arrays, options, v):
        return function.call(*arrays, **options).jvp(v)

    def hvp(self, function, arrays, options, v):
        return function.call(*arrays, **options).hvp(v)


def implementation(*calls):
    """What is judged."""
    functions = {call.function: Function(call) for call in calls}
    return Implementation(calls[0].__name__, library("numpy"), functions, derivatives=Derivatives())


@dataclass(frozen=True)
class Wrong:
    """A wrong implementation, the case that must catch it and the categories in which it fails at all."""

    call: type
    case: str
    categories: frozenset[str]
    dtype: str

    @property
    def name(self) -> str:
        return self.call.__name__

    def outcomes(self) -> list[Outcome]:
        cases = (c for c in ALL if c.function == self.call.function and c.name not in HEAVY - {self.case})
        return list(sweep(implementation(self.call), tuple(cases), (self.dtype,)))

    def failures(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes() if outcome.is_wrong]


HEAVY = {"50257-classes", "128256-classes", "100000-classes-in-float16", "mean-of-66000-rows-in-float16", "digits"}
GALLERY: list[Wrong] = []


def caught_by(case: str, *other_categories: str, dtype: str = "float32") -> Callable[[type], type]:
    """Hang a wrong implementation in the gallery."""

    def hang(call: type) -> type:
        GALLERY.append(Wrong(call, case, frozenset((BY_NAME[case].category, *other_categories)), dtype))
        return call

    return hang


@caught_by("offset+1e4", "-inf logits", "behaviour", "classes", "confident", "forward mode")
class TakesNoMaximumOut(CrossEntropy):
    """`exp(x)` is summed as it is."""

    shift = cached_property(lambda self: np.zeros_like(self.largest))
    is_first = cached_property(lambda self: np.zeros_like(self.x, dtype=bool))
    log_rest = cached_property(lambda self: np.log(self.rest))
    p = cached_property(lambda self: self.terms / self.rest)
    plain_slope = cached_property(lambda self: self.p * total(self.q) - self.q)


@caught_by("offsets-differ-by-row", "-inf logits", "behaviour", "broken rows", "confident", "forward mode")
class TakesTheMaximumOfTheBatchOut(TakesNoMaximumOut):
    """The maximum of the whole batch is subtracted from every row."""

    shift = cached_property(lambda self: np.zeros_like(self.largest) + np.max(self.x, initial=-np.inf))


@caught_by("margin-20", "offset")
class SubtractsTheTargetFromTheLogSumExp(CrossEntropy):
    """The loss is `lse - x_t`, which cancels."""

    def surprise(self, q):
        return q * np.where(q == 0, 0, self.log_sum - self.x)


@caught_by("margin-20", "forward mode")
class SubtractsTheTargetFromTheProbability(CrossEntropy):
    """The gradient is `p_t - 1` at the target, which cancels."""

    plain_slope = cached_property(lambda self: self.p * total(self.q) - self.q)


@caught_by("margin-20")
class AddsOneBeforeTheLogarithm(CrossEntropy):
    """`log(1 + rest)` stands for `log1p(rest)`."""

    log_rest = cached_property(lambda self: np.log(1 + self.rest))


@caught_by("behind-1000", "-inf logits", "confident", "where")
class TakesTheLogarithmOfAProbability(CrossEntropy):
    """The loss is `-log(p + 1e-12)`."""

    def surprise(self, q):
        return -q * np.log(self.p + 1e-12)


@caught_by("behind-100", "-inf logits", "classes", "confident", "where")
class ClipsTheProbability(CrossEntropy):
    """The loss is `-log(clip(p, 1e-7, 1 - 1e-7))`."""

    def surprise(self, q):
        return -q * np.log(np.clip(self.p, 1e-7, 1 - 1e-7))


@caught_by("behind-100", "-inf logits", "confident", "where", "z-loss")
class ClipsTheLoss(CrossEntropy):
    """No loss is larger than 50."""

    @cached_property
    def losses(self):
        return np.minimum(super().losses, 50)


@caught_by(
    "rows",
    "-inf logits",
    "all options",
    "axes",
    "block sizes",
    "broken rows",
    "class weights",
    "classes",
    "confident",
    "cotangents",
    "forward mode",
    "ignored rows",
    "label dtypes",
    "label smoothing",
    "memory",
    "offset",
    "reductions",
    "sample weights",
    "soft targets",
    "ties",
    "unlikely",
    "unnormalised targets",
    "where",
    "z-loss",
)
class GradientIsOnePercentOff(CrossEntropy):
    """The gradient is 1 % too large."""

    @cached_property
    def slope(self):
        return 1.01 * super().slope


@caught_by(
    "two-equal",
    "-inf logits",
    "all options",
    "axes",
    "block sizes",
    "broken rows",
    "class weights",
    "cotangents",
    "forward mode",
    "ignored rows",
    "label dtypes",
    "label smoothing",
    "memory",
    "offset",
    "ordinary",
    "reductions",
    "sample weights",
    "second derivative",
    "soft targets",
    "unlikely",
    "unnormalised targets",
    "where",
    "z-loss",
)
class TakesAllOfTheLargestOut(CrossEntropy):
    """Classes that share the maximum are taken out of the sum together."""

    is_first = cached_property(lambda self: self.x == self.shift)


@caught_by(
    "two-equal-target-among",
    "-inf logits",
    "all options",
    "axes",
    "block sizes",
    "broken rows",
    "class weights",
    "cotangents",
    "forward mode",
    "ignored rows",
    "label dtypes",
    "label smoothing",
    "memory",
    "offset",
    "ordinary",
    "reductions",
    "sample weights",
    "soft targets",
    "unlikely",
    "unnormalised targets",
    "where",
    "z-loss",
)
class GradientOfTiesGoesToTheFirst(CrossEntropy):
    """Of the classes that share the maximum only the first gets a gradient."""

    @cached_property
    def slope(self):
        return np.where((self.x == self.shift) & ~self.is_first, 0, super().slope)


@caught_by("label-above-2048-in-float16", dtype="float16")
class LabelsInTheDtypeOfTheLogits(CrossEntropy):
    """Labels are cast to the dtype of the logits."""

    labels = cached_property(lambda self: self.targets.reshape(-1, 1).astype(self.logits.dtype).astype(np.int64))


@caught_by("mean-of-66000-rows-in-float16", dtype="float16")
class MeanInTheDtypeOfTheLogits(CrossEntropy):
    """The rows are counted in the dtype of the logits."""

    mean_denominator = cached_property(lambda self: self.row_weight.astype(self.logits.dtype).sum())


@caught_by("label-minus-1")
class NegativeLabelsWrap(CrossEntropy):
    """A label is an index, and -1 is the last class."""

    @cached_property
    def one_hot(self):
        return np.eye(self.size, dtype=bool)[np.where(self.is_ignored, 0, self.labels)[:, 0].astype(np.int64)]


@caught_by("label-C")
class LabelsReachTheNextRow(CrossEntropy):
    """The logit of a label is read at `row * C + label` of all, whatever the label."""

    @cached_property
    def one_hot(self):
        is_target = np.zeros(self.given.size, dtype=bool)
        index = np.arange(len(self.labels)) * self.size + self.labels[:, 0].astype(np.int64)
        is_target[index[~self.is_ignored[:, 0]]] = True
        return is_target.reshape(self.given.shape)


@caught_by("uint8-labels-to-255", "labels out of range")
class IndicesInTheDtypeOfTheLabels(CrossEntropy):
    """`row * C + label` is computed in the dtype of the labels, and overflows."""

    @cached_property
    def one_hot(self):
        if self.labels.dtype.itemsize > 2:
            return super().one_hot
        rows = np.arange(len(self.labels)).astype(self.labels.dtype)[:, None]
        index = rows * np.asarray(self.size).astype(self.labels.dtype) + self.labels
        return index.astype(np.int64) == np.arange(self.given.size).reshape(self.given.shape)


@caught_by("label-a-billion")
class UnknownLabelsCountNothing(CrossEntropy):
    """A label that names no class has loss 0."""

    one_hot = cached_property(lambda self: self.labels == np.arange(self.size))


@caught_by("label-C-plus-1")
class LabelsAreClipped(CrossEntropy):
    """A label beyond the last class is the last class."""

    one_hot = cached_property(lambda self: np.clip(self.labels, 0, self.size - 1) == np.arange(self.size))


@caught_by("label-2-to-the-32")
class LabelsAreCutTo32Bits(CrossEntropy):
    """Labels are cast to int32."""

    labels = cached_property(lambda self: self.targets.reshape(-1, 1).astype(np.int32))


@caught_by("label-255-of-uint8", "label dtypes")
class BytesHaveASign(CrossEntropy):
    """uint8 labels are read as int8, and 255 is the last class."""

    @cached_property
    def one_hot(self):
        is_byte = self.targets.dtype == np.uint8
        return np.eye(self.size, dtype=bool)[self.labels[:, 0].view(np.int8)] if is_byte else super().one_hot


@caught_by("label-minus-100")
class Minus100IsIgnoredUnasked(CrossEntropy):
    """-100 is ignored where `ignore_index` is not given."""

    def __init__(self, logits, targets, ignore_index=-100, **options):
        super().__init__(logits, targets, ignore_index=ignore_index, **options)


@caught_by("minus-1-beside-ignore-index")
class AllNegativeLabelsAreIgnored(CrossEntropy):
    """With `ignore_index=-100` every negative label is ignored."""

    @cached_property
    def is_ignored(self):
        is_asked = self.is_indices and self.ignore_index == -100
        return super().is_ignored | (self.labels < 0) if is_asked else super().is_ignored


@caught_by("ignored-class", "all options", "forward mode", "second derivative")
class ClassesAreNotIgnored(CrossEntropy):
    """An `ignore_index` that names a class is not honoured."""

    @cached_property
    def is_ignored(self):
        return super().is_ignored & (self.labels < 0) if self.is_indices else super().is_ignored


@caught_by("mean-without-ignored-rows", "label smoothing")
class MeanCountsIgnoredRows(CrossEntropy):
    """The mean divides by all rows, ignored or not."""

    @cached_property
    def mean_denominator(self):
        return len(self.x) if self.sample_weight is self.class_weight is None else super().mean_denominator


@caught_by("class-weight-mean", "all options", "forward mode", "label smoothing", "sample weights", "second derivative")
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


@caught_by("class-weight-mean-with-ignored", "all options", "forward mode", "second derivative")
class MeanCountsClassWeightsOfIgnoredRows(CrossEntropy):
    """An ignored row adds the weight of class 0 to the denominator of the mean."""

    @cached_property
    def mean_denominator(self):
        of_ignored = 0 if self.class_weight is None else np.sum(self.is_ignored) * self.w[0]
        return super().mean_denominator + of_ignored


@caught_by("sample-weight-mean", "all options", "forward mode", "second derivative")
class MeanForgetsSampleWeights(CrossEntropy):
    """Sample weights are not in the denominator of the mean."""

    @cached_property
    def row_weight(self):
        return np.where(self.counts == 0, 0, super().row_weight / self.counts)


@caught_by("sample-and-class-weight-mean", "all options", "forward mode", "second derivative")
class MeanDividesByEitherWeight(CrossEntropy):
    """Given class weights, the denominator of the mean forgets the sample weights."""

    @cached_property
    def row_weight(self):
        return super().row_weight if self.class_weight is None else (self.counts > 0) * total(self.target * self.w)


@caught_by("class-weight-of-distributions", "all options")
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


@caught_by("smoothing", "-inf logits", "all options", "forward mode", "second derivative", "where")
class SmoothingSparesTheLabel(CrossEntropy):
    """Smoothing spreads over the C - 1 other classes."""

    @cached_property
    def uniform(self):
        others = (self.x != -np.inf) * (1 - self.target)
        return np.divide(others, total(others), out=others * 0, where=total(others) > 0)


@caught_by("impossible-class-with-smoothing")
class SmoothingSpreadsOverImpossibleClasses(CrossEntropy):
    """Smoothing spreads over classes at -inf, too."""

    uniform = cached_property(lambda self: self.is_in / total(self.is_in.astype(self.dtype)))


@caught_by("where-with-smoothing", "all options", "forward mode", "second derivative")
class SmoothingCountsClassesThatAreOut(CrossEntropy):
    """Smoothing divides by all classes, though some are not in `where`."""

    uniform = cached_property(lambda self: (self.x != -np.inf) / total((self.given != -np.inf).astype(self.dtype)))


@caught_by("smoothing-with-class-weight", "all options", "forward mode", "second derivative")
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


@caught_by("smoothing", "-inf logits", "all options", "forward mode", "where")
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


@caught_by("nan-in-an-ignored-row")
class IgnoredRowsLeak(CrossEntropy):
    """An ignored row is multiplied with 0, and 0 * NaN is NaN."""

    x = cached_property(lambda self: np.where((self.counts == 0) & ~self.is_ignored, 0, self.possible))


@caught_by("nan-in-an-ignored-row")
class GradientsOfIgnoredRowsLeak(CrossEntropy):
    """The gradient of an ignored row is multiplied with 0, and 0 * NaN is NaN."""

    @cached_property
    def slope(self):
        return np.where(self.is_ignored & ~np.isfinite(self.possible), np.nan, super().slope)


@caught_by("nan-in-a-row-of-weight-0")
class RowsOfWeightZeroLeak(CrossEntropy):
    """The loss of a row is multiplied with its weight, and 0 * NaN is NaN."""

    x = cached_property(lambda self: np.where(self.is_ignored, 0, self.possible))


@caught_by("impossible-class-of-one-hot")
class ZeroTimesInfinityIsNaN(CrossEntropy):
    """The terms of a distribution are multiplied as they are, and 0 * inf is NaN."""

    def surprise(self, q):
        return super().surprise(q) if self.is_indices else q * (self.shift - self.x + self.log_rest)


@caught_by("plus-inf-in-its-row")
class PlusInfinityIsANumber(CrossEntropy):
    """A logit of +inf has probability 1."""

    @cached_property
    def possible(self):
        x = super().possible
        return np.where(np.max(x, axis=-1, keepdims=True) == np.inf, 100 * (x == np.inf), x).astype(self.dtype)


@caught_by("nan-in-its-row")
class NaNIsSwallowed(CrossEntropy):
    """A loss that is NaN becomes 0."""

    @cached_property
    def losses(self):
        return np.nan_to_num(super().losses, nan=0.0, posinf=np.inf)


@caught_by("nan-beside-minus-inf")
class NaNBesideMinusInfinityIsSwallowed(CrossEntropy):
    """In a row that holds -inf, NaN is taken for what -inf - -inf gives."""

    @cached_property
    def possible(self):
        x = super().possible
        return np.where(np.any(x == -np.inf, axis=-1, keepdims=True) & np.isnan(x), -np.inf, x)


@caught_by("nan-in-its-row")
class NaNSpoilsTheBatch(CrossEntropy):
    """A row of NaN makes all rows NaN."""

    @cached_property
    def shift(self):
        return super().shift + 0 * np.sum(super().shift)


@caught_by("row-of-minus-inf")
class RowOfMinusInfinityIsZero(CrossEntropy):
    """A row without a possible class has loss 0 and gradient 0."""

    @cached_property
    def counts(self):
        return np.where(np.all(self.possible == -np.inf, axis=-1, keepdims=True), 0, super().counts)


@caught_by("impossible-target", "broken rows")
class MinusInfinityIsALargeNumber(CrossEntropy):
    """-inf is replaced by the lowest finite number."""

    @cached_property
    def given(self):
        return np.where(super().given == -np.inf, np.finfo(self.dtype).min / 4, super().given)


@caught_by("impossible-target", "where")
class InfiniteLossHasNoGradient(CrossEntropy):
    """The gradient of a row whose loss is infinite is NaN."""

    @cached_property
    def slope(self):
        return np.where(np.isinf(self.losses), np.nan, super().slope)


@caught_by("impossible-class", "all options", "forward mode", "where")
class ImpossibleClassesHaveNoGradient(CrossEntropy):
    """The gradient of an impossible class is NaN, as it is where p is computed as exp(-inf - -inf)."""

    @cached_property
    def slope(self):
        return np.where(self.x == -np.inf, np.nan, super().slope)


@caught_by("impossible-class-derivatives", "second derivative")
class ImpossibleClassesHaveNoSecondDerivative(CrossEntropy):
    """The second derivative is NaN in a row with an impossible class."""

    def hvp(self, v):
        return super().hvp(v) + self.whole(0 * np.min(self.x, axis=-1, keepdims=True) * np.ones_like(self.x))


@caught_by("where-target-is-out", "all options", "forward mode", "second derivative")
class ClassesThatAreOutAreUnlikely(CrossEntropy):
    """`where` replaces a logit by -1e4."""

    possible = cached_property(lambda self: np.where(self.is_in, self.given, -1e4).astype(self.dtype))


@caught_by("where-nan-is-out")
class ClassesThatAreOutAreLookedAt(CrossEntropy):
    """`where` adds -inf to a logit, and NaN stays NaN."""

    possible = cached_property(lambda self: self.given + np.where(self.is_in, 0, -np.inf).astype(self.dtype))


@caught_by("where", "all options", "forward mode", "second derivative")
class WhereCountsInTheNormaliser(CrossEntropy):
    """The exponentials of classes that are out are in the sum."""

    terms = cached_property(lambda self: np.exp(np.where(self.is_in, self.x, self.given) - self.shift))


@caught_by("all-ignored")
class MeanOfNothingIsNaN(CrossEntropy):
    """The mean of nothing is 0 / 0."""

    @cached_property
    def value(self):
        return np.nan if self.reduction == "mean" and self.denominator == 0 else super().value


@caught_by("all-ignored")
class GradientOfTheMeanOfNothingIsNaN(CrossEntropy):
    """The gradient of the mean of nothing is 0 / 0."""

    def gradient(self, g):
        return super().gradient(g) + (np.nan if self.denominator == 0 else 0)


@caught_by("empty-batch-mean")
class EmptyBatchIsRefused(CrossEntropy):
    """The mean of an empty batch raises an error."""

    def check(self):
        super().check()
        self.require(len(self.given) or self.reduction != "mean", "batch")


@caught_by(
    "mean-of-rows",
    "all options",
    "block sizes",
    "class weights",
    "cotangents",
    "ignored rows",
    "label smoothing",
    "sample weights",
    "soft targets",
)
class GradientOfAMeanIsThatOfASum(CrossEntropy):
    """The gradient of a mean is not divided by the number of rows."""

    def gradient(self, g):
        return super().gradient(g) * (self.denominator if self.reduction == "mean" else 1)


@caught_by("mean-of-sequences")
class MeanCountsTheFirstAxis(CrossEntropy):
    """The mean of sequences divides by their number."""

    @cached_property
    def mean_denominator(self):
        return super().mean_denominator / math.prod(self.batch[1:])


@caught_by("sum-of-rows", "-inf logits", "cotangents", "second derivative")
class SumIsTheMean(CrossEntropy):
    """`reduction='sum'` returns the mean."""

    @cached_property
    def denominator(self):
        return self.mean_denominator if self.reduction == "sum" and self.normalizer is None else super().denominator


@caught_by(
    "losses-of-rows",
    "-inf logits",
    "axes",
    "block sizes",
    "broken rows",
    "class weights",
    "classes",
    "confident",
    "cotangents",
    "empty batch",
    "forward mode",
    "ignored rows",
    "label dtypes",
    "label smoothing",
    "memory",
    "offset",
    "ordinary",
    "repeatability",
    "sample weights",
    "soft targets",
    "ties",
    "unlikely",
    "unnormalised targets",
    "where",
    "z-loss",
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
    "-inf logits",
    "all options",
    "axes",
    "class weights",
    "cotangents",
    "forward mode",
    "label smoothing",
    "unnormalised targets",
)
class DistributionsAreLabels(CrossEntropy):
    """Of a distribution only the likeliest class counts."""

    @cached_property
    def target(self):
        target = super().target
        is_likeliest = np.arange(self.size) == np.argmax(target, axis=-1, keepdims=True)
        return np.where(is_likeliest, total(target), 0)


@caught_by("targets-that-sum-to-2", "-inf logits", "axes")
class GradientTakesDistributionsForNormalised(CrossEntropy):
    """The gradient of a distribution is p - q, whatever q sums to."""

    @cached_property
    def slope(self):
        return super().slope + self.p * (1 - total(self.target)) * (self.class_weight is None)


@caught_by("targets-that-sum-to-2", "-inf logits", "axes")
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


@caught_by("z-loss", "all options", "forward mode")
class ZLossHasNoGradient(CrossEntropy):
    """The z-loss is added to the loss but not to the gradient."""

    slope = cached_property(lambda self: self.plain_slope)


@caught_by("z-loss-at-an-offset", "all options", "forward mode", "second derivative")
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


@caught_by("axis-0")
class ClassesLieLast(CrossEntropy):
    """`axis` is not read: the classes are taken to lie last."""

    def in_order(self, _):
        return (-1,)


@caught_by("sequences", "reductions")
class ClassesLieOnAxisOne(CrossEntropy):
    """The classes are taken to lie on axis 1, as torch has them, unless told otherwise."""

    def in_order(self, axis):
        return super().in_order(1 if axis == -1 and self.logits.ndim > 2 else axis)


@caught_by("axes-3-and-1")
class AxesAreSorted(CrossEntropy):
    """Several axes are flattened in the order of the array."""

    def in_order(self, axis):
        return sorted(super().in_order(axis))


@caught_by("axes-1-and-3")
class AxesAreReversed(CrossEntropy):
    """Several axes are flattened with the first varying fastest."""

    def in_order(self, axis):
        return reversed(super().in_order(axis))


@caught_by("axis-of-class-weights")
class ClassWeightsLieLast(CrossEntropy):
    """Class weights are multiplied along the last axis, wherever the classes lie."""

    @cached_property
    def w(self):
        return super().w if self.class_weight is None else self.rows(np.broadcast_to(super().w, self.logits.shape))


@caught_by("Fortran-arrays", "axes")
class MemoryIsReadInOrder(CrossEntropy):
    """Arrays are read in the order in which they lie in memory."""

    def rows(self, array):
        return super().rows(array.ravel(order="K").reshape(array.shape))


@caught_by("reversed-arrays")
class StridesHaveNoSign(CrossEntropy):
    """Strides are taken for positive."""

    def rows(self, array):
        is_reversed = array.size and min(array.strides, default=0) < 0
        return super().rows(np.flip(array) if is_reversed else array)


@caught_by("33-classes-of-blocks", "confident", "label dtypes")
class PaddingCounts(CrossEntropy):
    """Classes beyond one block of 32 are padded to the next with zeros, which count in the sum."""

    @cached_property
    def rest(self):
        padding = -self.size % 32 if self.size > 32 else 0
        return super().rest + (padding * np.exp(-self.shift) if padding else 0)


@caught_by("67-rows-of-blocks", "axes", "confident", "repeatability")
class LastRowsAreLost(CrossEntropy):
    """Rows that fill no block of 32 are not computed, where there is a block."""

    @cached_property
    def counts(self):
        n = len(self.given)
        return np.where(np.arange(n)[:, None] < (n if n < 32 else n // 32 * 32), super().counts, 0)


@caught_by("67-classes-of-blocks", "confident", "label dtypes")
class BlocksAreMergedAsTheyAre(CrossEntropy):
    """Sums over blocks of 32 classes are added, though each has a maximum of its own."""

    @cached_property
    def rest(self):
        starts = range(0, self.size, 32)
        blocks = (np.where(self.is_first, -np.inf, self.x)[:, i : i + 32] for i in starts)
        merged = sum(total(np.exp(block - np.max(block, axis=-1, keepdims=True))) for block in blocks)
        return merged if self.size > 32 else super().rest


@caught_by("inputs-unchanged", "all options", "z-loss")
class InputsAreOverwritten(CrossEntropy):
    """The maximum is subtracted from the logits in place, as a C function can of an array that is read-only."""

    @cached_property
    def largest(self):
        largest = super().largest
        if self.logits.flags.owndata and self.logits.ndim == 2:
            self.logits.flags.writeable = True
            self.logits -= np.where(np.isfinite(largest), largest, 0).astype(self.logits.dtype)
        return largest


@caught_by("no-warnings-from-impossible-classes")
class MinusInfinityWarns(CrossEntropy):
    """The logarithm of a probability of 0 is taken, and warns."""

    @cached_property
    def losses(self):
        np.log(np.where(self.possible == -np.inf, self.p, 1))
        return super().losses


@caught_by("no-warnings-from-sure-rows")
class UnderflowWarns(CrossEntropy):
    """An exponential that underflows warns."""

    @cached_property
    def terms(self):
        with np.errstate(under="warn"):
            return super().terms


@caught_by("same-bits-again")
class SumsInAnyOrder(CrossEntropy):
    """The classes are added up in the order in which threads come by."""

    @cached_property
    def rest(self):
        order = np.random.default_rng().permutation(self.size)
        return total(np.take(np.where(self.is_first, 0, self.terms), order, axis=-1))


@caught_by("same-bits-shuffled")
class SumsByPosition(CrossEntropy):
    """Every other row is added up from its end."""

    @cached_property
    def rest(self):
        backwards = total(np.where(self.is_first, 0, self.terms)[:, ::-1].copy())
        return np.where(np.arange(len(self.x))[:, None] % 2, backwards, super().rest)


@caught_by("same-bits-cut")
class SumsByTheSizeOfTheBatch(CrossEntropy):
    """Batches of more than 8 rows are added up class after class, smaller ones in pairs."""

    @cached_property
    def rest(self):
        if len(self.x) <= 8:
            return super().rest
        return np.cumsum(np.where(self.is_first, 0, self.terms), axis=-1)[:, -1:]


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


@caught_by("forward-mode", "-inf logits")
class ForwardModeHasTheWrongSign(CrossEntropy):
    """The derivative along a tangent has the wrong sign."""

    def jvp(self, v):
        return -super().jvp(v)


@caught_by("forward-mode-of-a-mean")
class ForwardModeOfAMeanIsThatOfASum(CrossEntropy):
    """The derivative of a mean along a tangent is not divided by the number of rows."""

    def jvp(self, v):
        return super().jvp(v) * (np.sum(self.counts) if self.reduction == "mean" else 1)


@caught_by("second-derivative", "-inf logits")
class LogSumExpIsAConstant(CrossEntropy):
    """The second derivative takes the log-sum-exp that the forward pass saved for a constant."""

    def hvp(self, v):
        return self.whole(self.factor * total(self.q) * self.p * self.rows(v))


@caught_by("second-derivative", "-inf logits")
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


@caught_by("softmax-of-sure-rows")
class SoftmaxTakesNoMaximumOut(Softmax):
    """`exp(x) / sum(exp(x))`."""

    p = cached_property(lambda self: np.exp(self.x) / total(np.exp(self.x)))


@caught_by("softmax-of-a-row-of-minus-inf")
class SoftmaxOfNothingIsZero(Softmax):
    """The softmax of a row without a possible class is 0."""

    @cached_property
    def p(self):
        return np.where(np.all(self.x == -np.inf, axis=-1, keepdims=True), 0, super().p)


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


@caught_by("log_softmax-of-sure-rows")
class LogarithmOfSoftmax(LogSoftmax):
    """`log(softmax(x))`."""

    value = cached_property(lambda self: self.whole(np.log(self.p)))


@caught_by("log_softmax-of-sure-rows")
class LogSoftmaxSubtractsTheLogSumExp(LogSoftmax):
    """`x - lse`, which cancels."""

    value = cached_property(lambda self: self.whole(self.x - self.log_sum))


@caught_by("log_softmax")
class LogSoftmaxForgetsTheSumOfTheCotangent(LogSoftmax):
    """The gradient is g - p."""

    def back(self, g):
        return g - self.p


@caught_by("logsumexp-of-a-row-of-minus-inf")
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

    def vjp(self, moved, g):
        return super().vjp(moved, g) / (len(self.x) if moved == "bias" else 1)


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


@caught_by("linear-sure-rows")
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


def table() -> str:
    """What catches each, in Markdown."""
    rows = ["| wrong implementation | caught by | cases that fail |", "|---|---|---|"]
    for wrong in GALLERY:
        description = (wrong.call.__doc__ or "").rstrip(".").replace("|", "\\|")
        rows.append(f"| {description} | `{wrong.case}` | {len(wrong.failures())} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
