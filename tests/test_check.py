"""The command `xpent check`, its exit status and its selection of checks."""

import importlib.util
import json

import numpy as np
import pytest

from xpent import conformance
from xpent.__main__ import main
from xpent.conformance import command, digits, suite
from xpent.conformance.case import Capability
from xpent.conformance.cases import ALL, BY_ID
from xpent.conformance.implementations import KNOWN, Known
from xpent.conformance.implementations import OURS as OURS_KNOWN
from xpent.conformance.report import Report

OURS = "xpent numpy"
FEW = ["--case", "margin-20", "--case", "rows", "--dtype", "float32"]

# New processes import everything again, which is slow.
in_processes = pytest.mark.library("numpy")


@pytest.fixture
def kernels(tmp_path, monkeypatch):
    """A module of the user."""
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

class Losses:
    def __call__(self, logits, targets):
        return losses(logits, targets)

number = 3
"""
    )
    monkeypatch.syspath_prepend(tmp_path)


@in_processes
def test_xpent_itself_is_checked_without_a_target(monkeypatch, capsys):
    monkeypatch.setattr(command, "OURS", {OURS: OURS_KNOWN[OURS]})
    assert main(["check", *FEW, "--json"]) == 0
    printed = capsys.readouterr()
    answer = json.loads(printed.out)
    assert "xpent numpy: 1 of 2\nxpent numpy: 2 of 2\n" in printed.err
    assert {outcome["implementation"] for outcome in answer["outcomes"]} == {OURS}
    assert [outcome["status"] for outcome in answer["outcomes"]] == ["pass", "pass"]
    assert set(answer["versions"]) == {OURS}


@pytest.mark.usefixtures("kernels")
def test_status_is_one_if_target_fails(capsys):
    assert main(["check", "kernels:losses", *FEW]) == 1
    answer = capsys.readouterr().out
    assert "1 of 2 checks fail." in answer
    assert "margin-20[float32]" in answer
    assert "from kernels import losses as cross_entropy" in answer


@pytest.mark.usefixtures("kernels")
def test_status_is_zero_if_target_passes(capsys):
    assert main(["check", "kernels:losses", "--case", "rows", "--dtype", "float64"]) == 0
    assert "The only check passes." in capsys.readouterr().out


@pytest.mark.usefixtures("kernels")
def test_expected_failures_in_a_file_are_strict(tmp_path, capsys):
    file = tmp_path / "expected.toml"
    arguments = ["check", "kernels:losses", *FEW, "--expected-failures", str(file)]
    file.write_text('"margin-20[float32]" = "cancels"')
    assert main(arguments) == 0
    file.write_text('"margin-20[float32]" = "cancels"\nrows = "a reason"')
    assert main(arguments) == 1
    assert "was expected to fail, but passes: a reason" in capsys.readouterr().out
    file.write_text('margin-21 = "cancels"')
    with pytest.raises(SystemExit):
        main(arguments)
    assert "did you mean 'margin-20'" in capsys.readouterr().err


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
def test_target_with_another_signature_is_checked(capsys):
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
        (["check", "kernels"], "a target must have the form module:function, got 'kernels'"),
        (["check", "no_such_module:losses"], "no_such_module"),
        (["check", "kernels:loses"], "loses"),
        (["check", "kernels:number"], "must be a function, got 3"),
        (["check", "kernels:losses", "--dtype", "float8"], "no dtype 'float8'"),
        (["check", "kernels:losses", "--category", "confidence"], "no category 'confidence'"),
        (["check", "kernels:losses", "--case", "margin-21"], "no case 'margin-21'; did you mean 'margin-20' or"),
        (["check", "kernels:losses", "--case", "masked"], "did you mean 'masked-"),
        (["check", "kernels:Losses"], "kernels:Losses is a class; name a function or a callable instance"),
        (["check", "kernels:losses", "--all"], "--all applies to xpent itself"),
        (["check", "kernels:losses", "--library", "no_such_library"], "no_such_library is not installed"),
        (["check", "kernels:losses", "--signature", "keras"], "signature must be one of"),
        (
            ["check", "kernels:losses", "--case", "rows", "--category", "offset"],
            "none of the cases rows is in the categ",
        ),
        (["check", "kernels:losses", "--html", "no/such/place.html"], "no such directory"),
        (["check", "kernels:losses", "--builtins"], "--builtins applies to xpent itself"),
        (["check", "kernels:losses", "--without", "distribution"], "did you mean 'distributions'"),
        (["check", "--without", "distributions"], "--without describes TARGET"),
        (["check", "--library", "numpy"], "--library describes TARGET"),
        (["check", "--gradient", "kernels:losses"], "--gradient describes TARGET"),
        (["check", "--expected-failures", "expected.toml"], "--expected-failures describes TARGET"),
        (["check", "kernels:losses", "--expected-failures", "no.toml"], "No such file or directory: 'no.toml'"),
    ],
)
def test_status_is_two_for_wrong_usage(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("usage: xpent check [-h]" if arguments[:1] == ["check"] else "usage: xpent [-h]")
    assert message in error


FEW_TASKS = [("rows", "float32"), ("margin-20", "float32")]


@in_processes
def test_implementation_that_is_not_installed_is_skipped_with_the_reason():
    report = suite.check_all({KNOWN["cut-cross-entropy"]: FEW_TASKS}, lambda *_: None, {})
    assert not report.outcomes
    assert report.skipped["cut-cross-entropy"] in ("cut_cross_entropy is not installed", "torch is not installed")


@in_processes
def test_crash_of_a_process_is_reported_and_affects_no_other_process(tmp_path, monkeypatch):
    (tmp_path / "deadly.py").write_text("import os\n\ndef make():\n    os._exit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    deadly = Known("deadly", "deadly", "make", ())
    report = suite.check_all({deadly: FEW_TASKS, OURS_KNOWN[OURS]: FEW_TASKS}, lambda *_: None, {})
    assert report.crashed == {"deadly": "the process exited in rows[float32] of deadly"}
    assert not report.holds
    assert [(outcome.implementation, outcome.case) for outcome in report.outcomes] == [
        (OURS, "rows"), (OURS, "margin-20"),
    ]  # fmt: skip


def test_implementations_that_compile_the_same_functions_share_processes():
    jax = [OURS_KNOWN["xpent jax"], OURS_KNOWN["xpent jax autodiff"]]
    first, second = suite._workers(dict.fromkeys(jax, FEW_TASKS))
    assert first.jobs == [(known, FEW_TASKS[0]) for known in reversed(jax)]
    assert second.jobs == [(known, FEW_TASKS[1]) for known in reversed(jax)]
    alone = suite._workers(dict.fromkeys([OURS_KNOWN["xpent numpy"], OURS_KNOWN["xpent torch"]], FEW_TASKS))
    assert [worker.names for worker in alone] == [["xpent numpy"], ["xpent torch"]]


@in_processes
def test_environment_variables_are_set_in_the_processes(tmp_path, monkeypatch):
    (tmp_path / "reading.py").write_text(
        "import os\nfrom xpent.conformance.libraries import Unsupported\n"
        "def make():\n    raise Unsupported(os.environ['XPENT_TEST'])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    reading = Known("reading", "reading", "make", ())
    report = suite.check_all({reading: FEW_TASKS}, lambda *_: None, {"XPENT_TEST": "seen"})
    assert report.skipped == {"reading": "seen"}


@pytest.mark.library("jax")
def test_jax_accepts_the_settings_for_fast_compilation():
    report = suite.check_all({OURS_KNOWN["xpent jax"]: FEW_TASKS}, lambda *_: None, command.fast_compilation())
    assert report.holds
    assert len(report.outcomes) == len(FEW_TASKS)


def selected(monkeypatch, *arguments):
    """The checks that `xpent check` runs, by implementation, and the omitted checks that it reports."""
    found = {}

    def check_all(selection, progress, environment):  # noqa: ARG001
        is_quick = not arguments and importlib.util.find_spec("jax") is not None
        assert bool(environment) == is_quick
        found.update({known.name: tasks for known, tasks in selection.items()})
        return Report([], dict.fromkeys(found, ""))

    reports = []
    monkeypatch.setattr(command, "check_all", check_all)
    monkeypatch.setattr(command.terminal, "print_report", lambda report, **_: reports.append(report))
    main(["check", *arguments])
    return found, reports[0].left_out


def test_jax_is_checked_in_one_dtype_of_each_case_and_without_optimizations_by_default(monkeypatch):
    found, left_out = selected(monkeypatch)
    assert {case for case, _ in found["xpent jax"]} == set(BY_ID)
    assert len(found["xpent jax"]) == len(BY_ID) < len(found[OURS])
    missing = len(found[OURS]) - len(BY_ID)
    assert left_out["xpent jax"].startswith(
        f"{missing} checks in dtypes other than float32; the others ran without the optimizations of XLA"
    )
    assert OURS not in left_out
    for arguments in (["--all"], ["--dtype", "float64"], ["--case", "rows"]):
        found, left_out = selected(monkeypatch, *arguments)
        assert found["xpent jax"] == found[OURS]
        assert not left_out


@pytest.mark.library("torch")
@pytest.mark.parametrize("target", ["torch.nn.functional:cross_entropy", "its_losses:module", "its_losses:function"])
def test_message_suggests_the_library_of_a_function_of_torch(target, capsys, tmp_path, monkeypatch):
    (tmp_path / "its_losses.py").write_text(
        "import torch\nmodule = torch.nn.CrossEntropyLoss()\n"
        "def function(logits, targets):\n    return torch.nn.functional.cross_entropy(logits, targets)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SystemExit):
        main(["check", target, "--signature", "torch", *FEW])
    assert "add --library torch" in capsys.readouterr().err


@pytest.mark.library("torch")
def test_module_of_torch_supports_the_options_of_its_forward():
    import torch

    class Smooth(torch.nn.Module):
        def forward(self, logits, targets, label_smoothing=0.0):
            return torch.nn.functional.cross_entropy(logits, targets, label_smoothing=label_smoothing)

    capabilities = conformance.target(Smooth(), library="torch").capabilities("cross_entropy")
    assert Capability.LABEL_SMOOTHING in capabilities
    assert not {Capability.CLASS_WEIGHT, Capability.AXIS, Capability.SUM} & capabilities
    target = conformance.target(torch.nn.CrossEntropyLoss(), library="torch", signature="torch")
    capabilities = target.capabilities("cross_entropy")
    assert not {Capability.CLASS_WEIGHT, Capability.IGNORE_INDEX} & capabilities


def test_target_must_not_be_a_class():
    with pytest.raises(TypeError, match="is a class; pass a function or a callable instance"):
        conformance.target(Report)


def test_all_cases_are_listed(capsys):
    assert main(["check", "--list"]) == 0
    listed = capsys.readouterr().out
    assert all(f"  {case.id}: {case.why}\n" in listed for case in ALL)


def test_training_with_a_wrong_gradient_fails(monkeypatch):
    monkeypatch.setattr(digits, "STEPS", 3)
    digits.reference.cache_clear()

    def value_and_grad(logits, targets):
        p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        right = np.eye(10)[targets]
        return -np.log((p * right).sum(-1)).mean(), (p - right) / len(p) * (1 + 1e-6)

    def loss(logits, targets):
        return value_and_grad(logits, targets)[0]

    report = conformance.check(loss, value_and_grad=value_and_grad, cases=["digits"])
    digits.reference.cache_clear()
    (outcome,) = report.outcomes
    assert outcome.status == "fails"
    assert outcome.errors["loss"] > digits.ALLOWED_UNITS
