"""A case: a call with exactly known inputs, why it is made, and what an implementation must be able to do for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from xpent.conformance import checks
from xpent.conformance.dtypes import DTYPES, Numbers, rounded

if TYPE_CHECKING:
    from xpent.conformance.libraries import Library
    from xpent.conformance.trial import Trial


@dataclass(frozen=True, eq=False)
class Case:
    """One call, what is computed of it and how that is judged.

    Attributes
    ----------
    name, category, why
        The name is unique; why is a sentence.
    arrays : tuple of NumPy arrays
        The arguments: logits and targets of ``cross_entropy``, say. Floats are rounded to the dtype tested.
    options : mapping
        Options by the names xpent has for them; NumPy arrays are rounded, too.
    function : str
        "cross_entropy", "linear_cross_entropy", "softmax", "log_softmax" or "logsumexp".
    quantities : tuple of str
        What is computed: keys of `expected.QUANTITIES`.
    dtypes : tuple of str
        The floating-point dtypes it is asked in.
    needs : frozenset of str
        What an implementation must claim, beside the function, its options and its kind of targets.
    check : function
        Judges a trial of the case, one of `checks`.
    cotangent : NumPy array or number, optional
        What the gradient is multiplied with; ones if None.
    layout : str
        How the arrays lie in memory: "C", "Fortran", "strided", "reversed" or "broadcast".
    """

    name: str
    category: str
    why: str
    arrays: tuple[Numbers, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    function: str = "cross_entropy"
    quantities: tuple[str, ...] = ("value", "gradient")
    dtypes: tuple[str, ...] = DTYPES
    needs: frozenset[str] = frozenset()
    check: Callable[[Trial], checks.Verdict] = checks.exact
    cotangent: Numbers | float | None = None
    layout: str = "C"

    def arrays_in(self, dtype: str) -> tuple[Numbers, ...]:
        """The arguments, exact in the dtype."""
        return tuple(rounded(array, dtype) for array in self.arrays)

    def options_in(self, dtype: str) -> dict[str, Any]:
        """The options, exact in the dtype."""
        return {k: rounded(v, dtype) if isinstance(v, np.ndarray) else v for k, v in self.options.items()}

    def arrays_on(self, library: Library, dtype: str) -> tuple[Any, ...]:
        """The arguments as arrays of a library."""
        return tuple(self.array_on(library, values, dtype) for values in self.arrays_in(dtype))

    def array_on(self, library: Library, values: Numbers, dtype: str) -> Any:
        """An array of the library in the layout of the case; floats are of the dtype, all else stays what it is."""
        dtype = dtype if values.dtype.kind == "f" else str(values.dtype)
        if self.layout != "C" and values.ndim > 1:
            return library.laid_out(values, dtype, self.layout)
        return library.asarray(values, dtype)

    def tangent_in(self, dtype: str) -> Numbers:
        """A direction for the first argument."""
        return rounded(np.rint(8 * np.random.default_rng(7).normal(size=self.arrays[0].shape)) / 8, dtype)

    def cotangent_in(self, dtype: str) -> Numbers | None:
        """What the gradient is multiplied with, exact in the dtype; None stands for ones."""
        return None if self.cotangent is None else rounded(np.asarray(self.cotangent, dtype=np.float64), dtype)

    def is_exact_in(self, dtype: str) -> bool:
        """Whether no number is rounded, so that the answers are those of float64."""
        given = (*self.arrays, *(v for v in self.options.values() if isinstance(v, np.ndarray)))
        given += (self.tangent_in("float64"),) if {"forward mode", "second derivative"} & set(self.quantities) else ()
        given += () if self.cotangent is None else (np.asarray(self.cotangent),)
        return all(np.array_equal(a, rounded(a, dtype), equal_nan=a.dtype.kind == "f") for a in given)

    def requirements(self) -> list[str]:
        """What an implementation must be able to do."""
        needs = [*sorted(self.needs), *(name for name in self.options if name != "reduction")]
        if "reduction" in self.options:
            needs.append(f"reduction={self.options['reduction']!r}")
        axis = self.options.get("axis", -1)
        if not isinstance(axis, int):
            needs.append("several axes")
        if "cross_entropy" in self.function:
            targets = self.arrays[-1]
            batch = self.arrays[0].ndim - (len(axis) if isinstance(axis, tuple) else 1)
            is_wrong_shape = self.check is checks.refused and targets.dtype.kind in "iu"  # of labels, that is
            has_indices = targets.ndim == batch or is_wrong_shape
            needs.append("indices" if has_indices else "distributions")
            if has_indices and targets.dtype != np.int64:
                needs.append(f"{targets.dtype} labels")
            if has_indices and "label_smoothing" in self.options:
                needs.append("label_smoothing of indices")
            if not has_indices and targets.dtype.kind != "f":
                needs.append("integer distributions")
            if batch != 1:
                needs.append("one row" if batch == 0 else "several batch axes")
            if self.function == "cross_entropy" and self.arrays[0].shape[-1] == 1:
                needs.append("one class")
        if self.layout != "C":
            needs.append(f"{self.layout} arrays")
        return needs
