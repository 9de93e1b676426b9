"""What it is all for: a model that learns."""

from __future__ import annotations

import numpy as np

from xpent.conformance import digits
from xpent.conformance.case import Case

CASES = [
    Case(
        "digits", "training",
        "300 steps of softmax regression on 1347 handwritten digits follow the textbook's, loss by loss.",
        (np.zeros((digits.TRAINING, digits.CLASSES)), np.zeros(digits.TRAINING, dtype=np.int64)),
        {"reduction": "mean"}, dtypes=("float64",), check=digits.trains,
    ),
]  # fmt: skip
