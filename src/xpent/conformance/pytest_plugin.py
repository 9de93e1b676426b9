"""What pytest collects where ``--xpent`` names a function: one item for each case and dtype."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from xpent.conformance.dtypes import DTYPES
from xpent.conformance.named import OPTIONS, named
from xpent.conformance.pytest_checks import Check, checks_of
from xpent.conformance.runner import read_expected
from xpent.conformance.target import nearest

PREFIX = "xpent::"  # of the ids of tests


class Plugin:
    """The hooks of a run with ``--xpent``.

    Parameters
    ----------
    root : Path
        The root directory of pytest; modules are imported from it, too.
    folder : Path
        What the path of the file of expected failures is relative to.
    options : mapping
        What the command line or the configuration says, by the names of the options; empty where nothing is said.
    names : sequence of str
        Ids of the tests that are asked for, with or without their dtypes; all, if there are none.
    """

    def __init__(self, root: Path, folder: Path, options: Mapping[str, Any], names: Sequence[str]) -> None:
        sys.path.insert(0, str(root))
        try:
            self.checks = self._checks(folder, options, names)
        except Exception as error:  # a module of the user's may raise anything when it is imported
            text = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            raise pytest.UsageError(f"--xpent {options['xpent']}: {text}") from error

    def _checks(self, folder: Path, options: Mapping[str, Any], names: Sequence[str]) -> list[Check]:
        file = options["xpent-expected-failures"]
        about = {name: options[f"xpent-{name}"] or None for name in OPTIONS}
        self.implementation = named(options["xpent"], **about, prefix="--xpent-")
        checks = checks_of(
            self.implementation,
            options["xpent-dtype"] or DTYPES,
            options["xpent-category"],
            options["xpent-case"],
            read_expected(folder / file) if file else {},
        )
        asked = {name.removeprefix(PREFIX) for name in names}
        known = {"", *(check.case.id for check in checks), *(check.name for check in checks)}
        for name in asked - known:
            raise ValueError(f"there is no test {PREFIX}{name}{nearest(name, sorted(known))}")
        return [check for check in checks if not asked or asked & {"", check.case.id, check.name}]

    def pytest_report_header(self) -> str:
        """What is checked."""
        return f"xpent: {self.implementation.name} on {self.implementation.versions}"

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Add the checks to what the session collects."""
        report = yield
        if isinstance(collector, pytest.Session) and report.passed:
            report.result.append(Checks.from_parent(collector, name="xpent", nodeid="xpent", checks=self.checks))
        return report


class Checks(pytest.Collector):
    """All checks of a function."""

    def __init__(self, *, checks: list[Check], **rest: Any) -> None:
        super().__init__(**rest)
        self.checks = checks

    def collect(self) -> Iterator[CheckItem]:
        """An item for each."""
        for check in self.checks:
            yield CheckItem.from_parent(self, name=check.name, nodeid=f"{PREFIX}{check.name}", check=check)


class CheckItem(pytest.Item):
    """A check as a test."""

    def __init__(self, *, check: Check, **rest: Any) -> None:
        super().__init__(**rest)
        self.check = check
        for mark in check.marks:
            self.add_marker(mark)

    def runtest(self) -> None:
        """Run it."""
        self.check()

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Of a check that fails the message alone, which says everything."""
        if isinstance(excinfo.value, AssertionError):
            return excinfo.getrepr(style="value")
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        """Where a report says that it is."""
        return self.path / "xpent", None, self.name
