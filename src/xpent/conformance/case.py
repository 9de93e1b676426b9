"""A case: a call with exact inputs, its expected outcome and the capabilities it requires.

A case is only data. It names its check, which the runner looks up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from xpent.conformance.dtypes import DTYPES, Numbers, rounded
from xpent.conformance.inputs import GENERATORS


class Capability(StrEnum):
    """A feature that an implementation may support and a case may require."""

    AXIS = "axis"
    WHERE = "where"
    CLASS_WEIGHT = "class_weight"
    SAMPLE_WEIGHT = "sample_weight"
    IGNORE_INDEX = "ignore_index"
    LABEL_SMOOTHING = "label_smoothing"
    Z_LOSS = "z_loss"
    NORMALIZER = "normalizer"
    BIAS = "bias"
    SOFTCAP = "softcap"
    MEAN = "reduction='mean'"
    SUM = "reduction='sum'"
    NONE = "reduction='none'"
    UNKNOWN_REDUCTION = "reduction='average'"

    INDICES = "indices"
    DISTRIBUTIONS = "distributions"
    INTEGER_DISTRIBUTIONS = "integer distributions"
    SMOOTHED_INDICES = "label_smoothing of indices"
    SMOOTHING_OF_UNMASKED = "smoothing over unmasked classes"
    NO_DEFAULT_IGNORE_INDEX = "no default ignore_index"
    LABELS_FAR_OUT_OF_RANGE = "labels far out of range"
    REJECTS_FLOAT_LABELS = "rejects floating-point labels"
    INT8_LABELS = "int8 labels"
    INT16_LABELS = "int16 labels"
    INT32_LABELS = "int32 labels"
    UINT8_LABELS = "uint8 labels"
    UINT16_LABELS = "uint16 labels"
    UINT32_LABELS = "uint32 labels"
    UINT64_LABELS = "uint64 labels"
    INTEGER_LOGITS = "integer logits"

    ONE_ROW = "a single row"
    ONE_CLASS = "a single class"
    SEVERAL_BATCH_AXES = "several batch axes"
    SEVERAL_CLASS_AXES = "several class axes"
    FORTRAN_ARRAYS = "Fortran arrays"
    STRIDED_ARRAYS = "strided arrays"
    REVERSED_ARRAYS = "reversed arrays"
    BROADCAST_ARRAYS = "broadcast arrays"
    BATCH_INVARIANCE = "batch invariance"

    GRADIENT = "gradient"
    VALUE_WITH_GRADIENT = "value with gradient"
    GRADIENT_OF_TARGETS = "gradient of targets"
    GRADIENT_OF_WEIGHT = "gradient of weight"
    GRADIENT_OF_BIAS = "gradient of bias"
    FORWARD_MODE = "forward mode"
    SECOND_DERIVATIVE = "second derivative"


OPTIONS: tuple[str, ...] = (
    "axis", "where", "class_weight", "sample_weight", "ignore_index", "label_smoothing", "z_loss", "normalizer",
    "bias", "softcap", "reduction",
)  # fmt: skip


class Quantity(NamedTuple):
    """How a quantity is computed, and with respect to which argument."""

    kind: str  # "value", "vjp", "jvp" or "hvp" (the Hessian of the sum, multiplied by a tangent)
    argument: int | str = 0


QUANTITIES = {
    "value": Quantity("value"),
    "value with gradient": Quantity("vjp"),
    "gradient": Quantity("vjp"),
    "gradient of targets": Quantity("vjp", 1),
    "gradient of weight": Quantity("vjp", 1),
    "gradient of bias": Quantity("vjp", "bias"),
    "forward mode": Quantity("jvp"),
    "second derivative": Quantity("hvp"),
}


class Result(StrEnum):
    """The expected outcome of a call."""

    VALUE = "value"  # the exact value within its error bound; NaN and infinity must be the same
    ERROR = "error"
    ERROR_OR_NAN = "error or NaN"  # NaN in the invalid row, and the exact value in all others


@dataclass(frozen=True)
class Generated:
    """Inputs that are too large to list: the name of a function in `inputs.GENERATORS`, and its arguments."""

    generator: str
    arguments: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False)
class Case:
    """A call, the quantities to compute and the check of the results.

    Attributes
    ----------
    id, category : str
        The id, which is unique and stable, and the category.
    why : str
        A sentence that describes the case.
    inputs : tuple of NumPy arrays, or Generated
        The positional arguments, such as the logits and targets of ``cross_entropy``. Floating-point numbers are
        rounded to the dtype under test.
    options : mapping
        The options, with xpent's names. NumPy arrays are rounded as well.
    function : str
        "cross_entropy", "linear_cross_entropy", "softmax", "log_softmax" or "logsumexp".
    needs : tuple of Capability
        The features that are required in addition to the function, its options, the layout and the quantities.
    result : Result
        The expected outcome of the call.
    check : str
        The check, a key of `checks.CHECKS`.
    quantities : tuple of str
        The quantities to compute, keys of `QUANTITIES`.
    dtypes : tuple of str
        The floating-point dtypes in which the case runs.
    cotangent : NumPy array or number, optional
        The cotangent of the value; ones if None.
    layout : str
        The memory layout of the arrays: "C", "Fortran", "strided", "reversed" or "broadcast".
    """

    id: str
    category: str
    why: str
    inputs: tuple[Numbers, ...] | Generated
    options: Mapping[str, Any] = field(default_factory=dict)
    function: str = "cross_entropy"
    needs: tuple[Capability, ...] = (Capability.INDICES,)
    result: Result = Result.VALUE
    check: str = "values"
    quantities: tuple[str, ...] = ("value", "gradient")
    dtypes: tuple[str, ...] = DTYPES
    cotangent: Numbers | float | None = None
    layout: str = "C"

    @cached_property
    def arrays(self) -> tuple[Numbers, ...]:
        """The inputs, computed if they are generated."""
        if not isinstance(self.inputs, Generated):
            return self.inputs
        return GENERATORS[self.inputs.generator](*self.inputs.arguments)

    @property
    def requirements(self) -> tuple[Capability, ...]:
        """All features that an implementation must support to run the case."""
        needs = [*self.needs, *(Capability(name) for name in self.options if name != "reduction")]
        if "reduction" in self.options:
            needs.append(Capability(f"reduction={self.options['reduction']!r}"))
        if self.layout != "C":
            needs.append(Capability(f"{self.layout} arrays"))
        return tuple(needs)

    @property
    def is_loss(self) -> bool:
        """Whether the function takes targets and a reduction."""
        return "cross_entropy" in self.function

    def arrays_in(self, dtype: str) -> tuple[Numbers, ...]:
        """The positional arguments, rounded to the dtype."""
        return tuple(rounded(array, dtype) for array in self.arrays)

    def options_in(self, dtype: str) -> dict[str, Any]:
        """The options, rounded to the dtype."""
        return {k: rounded(v, dtype) if isinstance(v, np.ndarray) else v for k, v in self.options.items()}

    def tangent_in(self, dtype: str) -> Numbers:
        """A tangent of the first argument, rounded to the dtype."""
        return rounded(np.rint(8 * np.random.default_rng(7).normal(size=self.arrays[0].shape)) / 8, dtype)

    def cotangent_in(self, dtype: str) -> Numbers | None:
        """The cotangent, rounded to the dtype; None stands for ones."""
        return None if self.cotangent is None else rounded(np.asarray(self.cotangent, dtype=np.float64), dtype)

    def exact_dtype(self, dtype: str) -> str:
        """The dtype whose exact values apply: float64 if rounding to the dtype changes no input, else the dtype."""
        given = (*self.arrays, *(v for v in self.options.values() if isinstance(v, np.ndarray)))
        given += (self.tangent_in("float64"),) if {"forward mode", "second derivative"} & set(self.quantities) else ()
        given += () if self.cotangent is None else (np.asarray(self.cotangent),)
        is_exact = all(np.array_equal(a, rounded(a, dtype), equal_nan=a.dtype.kind == "f") for a in given)
        return "float64" if is_exact else dtype
