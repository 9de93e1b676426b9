"""The few lines of Python that show a failure when pasted."""

from __future__ import annotations

from xpent.conformance.trial import Trial


def reproduction(trial: Trial) -> str:
    return ""
