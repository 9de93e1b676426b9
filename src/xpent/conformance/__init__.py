"""A conformance suite for cross-entropy, softmax, log-softmax and log-sum-exp in any array library."""

import importlib.util

for _needed in ("jinja2", "mpmath", "numpy", "rich"):
    if importlib.util.find_spec(_needed) is None:
        raise ModuleNotFoundError(f"xpent.conformance requires {_needed}, from the extra 'conformance'", name=_needed)

from xpent.conformance.implementation import Implementation  # noqa: E402
from xpent.conformance.implementations import implementation  # noqa: E402
from xpent.conformance.libraries import Unsupported  # noqa: E402
from xpent.conformance.pytest_checks import parametrize  # noqa: E402
from xpent.conformance.report import Report  # noqa: E402
from xpent.conformance.suite import check  # noqa: E402
from xpent.conformance.target import target  # noqa: E402

__all__ = ["Implementation", "Report", "Unsupported", "check", "implementation", "parametrize", "target"]
