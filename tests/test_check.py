"""`xpent check` tells right from wrong, and says which by its exit status."""

import dataclasses
import itertools
import json

import numpy as np
import pytest

import xpent
from xpent.__main__ import main
from xpent.conformance import digits, report
from xpent.conformance.cases import cases
from xpent.conformance.checks import check
from xpent.conformance.implementations import installed

LIBRARIES = {"numpy": "numpy", "torch": "torch", "jax": "jax", "jax-jit": "jax"}


@pytest.fixture
def libraries(backends):
    return tuple(dict.fromkeys(LIBRARIES[backend] for backend in backends if backend in LIBRARIES))


@pytest.fixture
def few_cases(monkeypatch):
    """The cases and the training cut short."""
    monkeypatch.setattr(report, "cases", lambda dtype: itertools.islice(cases(dtype), 1))
    monkeypatch.setattr(digits, "STEPS", 3)


def test_everything_holds_on_the_libraries_under_test(libraries, capsys):
    assert report.run(libraries, as_json=True)
    answer = json.loads(capsys.readouterr().out)
    assert answer["holds"]
    assert answer["skipped"] == []
    assert {check["implementation"].split()[0] for check in answer["checks"]} == set(libraries)
    assert all(run["final_loss"] < 0.3 and run["accuracy"] > 0.9 for run in answer["digits"])


def test_textbook_formula_is_found_out(monkeypatch):
    def textbook(logits, targets, *, reduction):
        assert reduction == "none"
        return xpent.logsumexp(logits) - np.take_along_axis(logits, targets[:, None], axis=-1)[:, 0]

    monkeypatch.setattr(xpent, "cross_entropy", textbook)
    case = next(cases("float64"))
    (numpy,), _ = installed(("numpy",))
    (result,) = check(numpy, "float64", [dataclasses.replace(case, quantities=case.quantities[:1])])
    assert not result.holds
    assert result.by_hand > 1e15


def test_nan_is_found_out(monkeypatch):
    monkeypatch.setattr(xpent, "softmax", lambda x: x * np.nan)
    case = next(case for case in cases("float32") if case.function == "softmax")
    (numpy,), _ = installed(("numpy",))
    (result,) = check(numpy, "float32", [dataclasses.replace(case, quantities=case.quantities[:1])])
    assert not result.holds


@pytest.mark.usefixtures("few_cases")
@pytest.mark.parametrize("arguments", [["check"], ["check", "--json"]])
def test_status_is_zero_if_everything_holds(arguments, capsys):
    assert main(arguments) == 0
    assert "hold" in capsys.readouterr().out


@pytest.mark.usefixtures("few_cases")
def test_status_is_one_if_trajectories_part(monkeypatch, capsys):
    monkeypatch.setattr(digits, "allowed_difference", lambda: -1.0)
    assert main(["check"]) == 1
    assert "FAILS" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["chekc"], ["check", "--jsn"]])
def test_status_is_two_for_wrong_usage(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage: xpent" in capsys.readouterr().err


@pytest.mark.usefixtures("few_cases")
def test_library_that_is_not_installed_is_named_as_skipped(capsys):
    assert report.run(("numpy", "no_such_library"))
    assert "skipped: no_such_library is not installed" in capsys.readouterr().out
