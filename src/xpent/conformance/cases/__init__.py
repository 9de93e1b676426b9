"""The corpus: every case by its name."""

from xpent.conformance.case import Case
from xpent.conformance.cases import accuracy, broken, derivatives, layouts, linear, softmax, targets, training
from xpent.conformance.expected import QUANTITIES

ALL: tuple[Case, ...] = tuple(
    case
    for module in (accuracy, broken, targets, layouts, derivatives, softmax, linear, training)
    for case in module.CASES
)
CATEGORIES: tuple[str, ...] = tuple(dict.fromkeys(case.category for case in ALL))
CLAIMS: frozenset[str] = frozenset(QUANTITIES).union(
    (f"category {category}" for category in CATEGORIES), *(case.requirements() for case in ALL)
)
BY_NAME: dict[str, Case] = {case.name: case for case in ALL}
