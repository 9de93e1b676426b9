"""A conformance kit for cross-entropy, in any library: what is right, what is not and by how much, case by case."""

from xpent.conformance.implementation import Implementation
from xpent.conformance.implementations import implementation
from xpent.conformance.report import Report
from xpent.conformance.run import check, parametrize
from xpent.conformance.target import target

__all__ = ["Implementation", "Report", "check", "implementation", "parametrize", "target"]
