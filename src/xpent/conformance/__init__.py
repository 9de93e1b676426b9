"""A conformance suite for cross-entropy in any library: what is right, what is not and by how much, case by case."""

import importlib.util

for _needed in ("jinja2", "mpmath", "numpy", "rich"):
    if importlib.util.find_spec(_needed) is None:
        raise ModuleNotFoundError(f"xpent.conformance, the extra of this name, needs {_needed}", name=_needed)

from xpent.conformance.implementation import Implementation  # noqa: E402
from xpent.conformance.implementations import implementation  # noqa: E402
from xpent.conformance.libraries import Unsupported  # noqa: E402
from xpent.conformance.pytest_checks import parametrize  # noqa: E402
from xpent.conformance.report import Report  # noqa: E402
from xpent.conformance.suite import check  # noqa: E402 - after what they need
from xpent.conformance.target import target  # noqa: E402

__all__ = ["Implementation", "Report", "Unsupported", "check", "implementation", "parametrize", "target"]
