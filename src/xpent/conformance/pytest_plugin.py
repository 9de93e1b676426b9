"""The pytest plugin for ``--xpent``: it collects one item for each case and dtype."""

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

PREFIX = "xpent::"  # prefix of the test ids


class Plugin:
    """The hooks of a run with ``--xpent``.

    Parameters
    ----------
    root : Path
        The root directory of pytest, which is added to ``sys.path``.
    folder : Path
        The directory to which the path of the file of expected failures is relative.
    options : mapping
        The values from the command line or the configuration, by option name; empty if not given.
    names : sequence of str
        The ids of the selected tests, with or without dtypes; empty for all.
    """

    def __init__(self, root: Path, folder: Path, options: Mapping[str, Any], names: Sequence[str]) -> None:
        sys.path.insert(0, str(root))
        try:
            self.checks = self._checks(folder, options, names)
        except Exception as error:  # importing a module of the user may raise any exception
            text = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            raise pytest.UsageError(f"--xpent {options['xpent']}: {text}") from error

    def _checks(self, folder: Path, options: Mapping[str, Any], names: Sequence[str]) -> list[Check]:
        file = options["xpent-expected-failures"]
        description = {name: options[f"xpent-{name}"] or None for name in OPTIONS}
        self.implementation = named(options["xpent"], **description, prefix="--xpent-")
        checks = checks_of(
            self.implementation,
            options["xpent-dtype"] or DTYPES,
            options["xpent-category"],
            options["xpent-case"],
            read_expected(folder / file) if file else {},
        )
        selected = {name.removeprefix(PREFIX) for name in names}
        known = {"", *(check.case.id for check in checks), *(check.name for check in checks)}
        for name in selected - known:
            raise ValueError(f"there is no test {PREFIX}{name}{nearest(name, sorted(known))}")
        return [check for check in checks if not selected or selected & {"", check.case.id, check.name}]

    def pytest_report_header(self) -> str:
        """Print the name and the versions of the checked function."""
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
    """The checks of a function."""

    def __init__(self, *, checks: list[Check], **rest: Any) -> None:
        super().__init__(**rest)
        self.checks = checks

    def collect(self) -> Iterator[CheckItem]:
        """Yield an item for each check."""
        for check in self.checks:
            yield CheckItem.from_parent(self, name=check.name, nodeid=f"{PREFIX}{check.name}", check=check)


class CheckItem(pytest.Item):
    """A check as a pytest item."""

    def __init__(self, *, check: Check, **rest: Any) -> None:
        super().__init__(**rest)
        self.check = check
        for mark in check.marks:
            self.add_marker(mark)

    def runtest(self) -> None:
        """Run the check."""
        self.check()

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Show only the message of a failed check, without a traceback."""
        if isinstance(excinfo.value, AssertionError):
            return excinfo.getrepr(style="value")
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        """The location in reports."""
        return self.path / "xpent", None, self.name
