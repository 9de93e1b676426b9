"""A conformance kit for cross-entropy, in any library: what is right, what is not and by how much, case by case."""

import importlib.util

for _needed in ("jinja2", "mpmath", "numpy", "rich"):
    if importlib.util.find_spec(_needed) is None:
        _hint = f"xpent.conformance needs {_needed}: python -m pip install 'xpent[conformance]'"
        raise ModuleNotFoundError(_hint, name=_needed)

from xpent.conformance.implementation import Implementation  # noqa: E402 - after what they need
from xpent.conformance.implementations import implementation  # noqa: E402
from xpent.conformance.libraries import Unsupported  # noqa: E402
from xpent.conformance.report import Report  # noqa: E402
from xpent.conformance.run import check, parametrize  # noqa: E402
from xpent.conformance.target import target  # noqa: E402

__all__ = ["Implementation", "Report", "Unsupported", "check", "implementation", "parametrize", "target"]
