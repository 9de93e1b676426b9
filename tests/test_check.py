"""`xpent check` tells right from wrong, and says which by its exit status."""

import json
import os

import numpy as np
import pytest

from xpent import conformance
from xpent.__main__ import main
from xpent.conformance import digits, implementations, processes

OURS = "xpent numpy"
FEW = ["--case", "margin-20", "--case", "rows", "--dtype", "float32"]

# Processes fork, and JAX has threads where it is loaded, as it is here alone.
in_processes = [pytest.mark.library("numpy"), pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")]


@pytest.fixture
def kernels(tmp_path, monkeypatch):
    """A module of the user's own."""
    (tmp_path / "kernels.py").write_text(
        """
import numpy as np

def losses(logits, targets, *, reduction="mean"):
    x = logits - np.max(logits, axis=-1, keepdims=True)
    losses = np.log(np.exp(x).sum(-1)) - np.take_along_axis(x, targets[..., None], axis=-1)[..., 0]
    return losses if reduction == "none" else getattr(losses, reduction)()

def value_and_gradient(logits, targets, *, reduction="mean"):
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return losses(logits, targets, reduction=reduction), p - np.eye(logits.shape[-1])[targets]

number = 3
"""
    )
    monkeypatch.syspath_prepend(tmp_path)


def in_process(test):
    for mark in in_processes:
        test = mark(test)
    return test


@in_process
def test_xpent_itself_is_checked_where_no_target_is_given(monkeypatch, capsys):
    monkeypatch.setattr(implementations, "OURS", {OURS: implementations.OURS[OURS]})
    assert main(["check", *FEW, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert {outcome["implementation"] for outcome in answer["outcomes"]} == {OURS}
    assert [outcome["status"] for outcome in answer["outcomes"]] == ["pass", "pass"]
    assert set(answer["versions"]) == {OURS}


@pytest.mark.usefixtures("kernels")
def test_target_is_checked_and_status_is_one_if_it_fails(capsys):
    assert main(["check", "kernels:losses", *FEW]) == 1
    answer = capsys.readouterr().out
    assert "1 of 2 checks fail." in answer
    assert "margin-20[float32]" in answer
    assert "from kernels import losses as cross_entropy" in answer


@pytest.mark.usefixtures("kernels")
def test_status_is_zero_if_target_holds(capsys):
    assert main(["check", "kernels:losses", "--case", "rows", "--dtype", "float64"]) == 0
    assert "The one check holds." in capsys.readouterr().out


@pytest.mark.usefixtures("kernels")
def test_gradient_of_a_target_is_checked(capsys):
    arguments = ["check", "kernels:losses", "--gradient", "kernels:value_and_gradient", *FEW, "--json"]
    assert main(arguments) == 1
    rows, margin = json.loads(capsys.readouterr().out)["outcomes"]
    assert rows["status"] == "pass"
    assert set(rows["errors"]) == {"value", "gradient"}
    assert "gradient[" in margin["message"]


@pytest.mark.usefixtures("kernels")
def test_html_is_written(tmp_path, capsys):
    assert main(["check", "kernels:losses", *FEW, "--html", str(tmp_path / "report.html")]) == 1
    assert "margin-20" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "checks fail" in capsys.readouterr().out


@pytest.mark.library("torch")
def test_target_of_another_signature_is_checked(capsys):
    arguments = ["check", "torch.nn.functional:cross_entropy", "--library", "torch", "--signature", "torch", *FEW]
    assert main(arguments) == 1
    assert "cross_entropy = signatures.torch(cross_entropy)" in capsys.readouterr().out


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "command"),
        (["chekc"], "chekc"),
        (["check", "--jsn"], "--jsn"),
        (["check", "kernels"], "a target is module:function, got 'kernels'"),
        (["check", "no_such_module:losses"], "no_such_module"),
        (["check", "kernels:loses"], "loses"),
        (["check", "kernels:number"], "no function but 3"),
        (["check", "kernels:losses", "--dtype", "float8"], "no dtype 'float8'"),
        (["check", "kernels:losses", "--category", "confidence"], "no category 'confidence'"),
        (["check", "kernels:losses", "--case", "margin-21"], "no case 'margin-21'"),
        (["check", "kernels:losses", "--library", "no_such_library"], "no_such_library is not installed"),
        (["check", "kernels:losses", "--signature", "keras"], "signature must be one of"),
        (
            ["check", "kernels:losses", "--case", "rows", "--category", "offset"],
            "none of the cases rows is of the categ",
        ),
        (["check", "kernels:losses", "--html", "no/such/place.html"], "no such directory"),
        (["check", "kernels:losses", "--builtins"], "beside xpent"),
        (["check", "kernels:losses", "--without", "distribution"], "nothing is asked that 'distribution' could take"),
        (["check", "--without", "distributions"], "--without says something about TARGET"),
        (["check", "--library", "numpy"], "--library says something about TARGET"),
        (["check", "--gradient", "kernels:losses"], "--gradient says something about TARGET"),
    ],
)
def test_status_is_two_for_wrong_usage(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "usage: xpent" in error
    assert message in error


def few_cases():
    return [case for case in processes.BY_ID.values() if case.id in ("rows", "margin-20")]


@in_process
def test_implementation_that_cannot_be_made_is_skipped_with_the_reason():
    report = processes.check_all(["cut-cross-entropy"], tuple(few_cases()), ["float32"], lambda *_: None)
    assert not report.outcomes
    assert report.skipped["cut-cross-entropy"] in ("cut_cross_entropy is not installed", "torch is not installed")


@in_process
def test_process_that_dies_is_told_and_ends_no_other(monkeypatch):
    monkeypatch.setitem(implementations.KNOWN, "deadly", implementations.Known("tests_deadly", "make", ()))
    monkeypatch.setattr(implementations.Known, "make", _die_if_deadly(implementations.Known.make))
    report = processes.check_all(["deadly", OURS], tuple(few_cases()), ["float32"], lambda *_: None)
    assert report.crashed == {"deadly": "its process ended with status 3 before its first case"}
    assert not report.holds
    assert [outcome.implementation for outcome in report.outcomes] == [OURS] * 2


def _die_if_deadly(make):
    return lambda known: os._exit(3) if known.module == "tests_deadly" else make(known)


def test_training_that_leaves_the_path_is_found_out(monkeypatch):
    monkeypatch.setattr(digits, "STEPS", 3)
    digits._reference.cache_clear()

    def value_and_grad(logits, targets):
        p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        right = np.eye(10)[targets]
        return -np.log((p * right).sum(-1)).mean(), (p - right) / len(p) * (1 + 1e-6)

    def loss(logits, targets):
        return value_and_grad(logits, targets)[0]

    report = conformance.check(loss, value_and_grad=value_and_grad, cases=["digits"])
    digits._reference.cache_clear()
    (outcome,) = report.outcomes
    assert outcome.status == "fails"
    assert outcome.errors["loss"] > digits.ALLOWED_UNITS
