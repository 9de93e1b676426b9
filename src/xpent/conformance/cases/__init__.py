"""All cases, in order and by id."""

from xpent.conformance.case import Case, Generated
from xpent.conformance.cases import accuracy, derivatives, layouts, linear, nonfinite, softmax, targets

_DIGITS = Case(
    "digits", "training",
    "300 steps of softmax regression on 1347 handwritten digits have the losses of the textbook formula.",
    Generated("zeros", (1347, 10)), {"reduction": "mean"}, check="training", dtypes=("float64",),
)  # fmt: skip
_MODULES = (accuracy, nonfinite, targets, layouts, derivatives, softmax, linear)
ALL: tuple[Case, ...] = (*(case for module in _MODULES for case in module.CASES), _DIGITS)
BY_ID: dict[str, Case] = {case.id: case for case in ALL}
CATEGORIES: tuple[str, ...] = tuple(dict.fromkeys(case.category for case in ALL))
