"""The pytest plugin: collection, messages of failures and usage errors, and that it does nothing without options."""

import sys
import tomllib
from pathlib import Path

import pytest

from xpent import conformance
from xpent.conformance.cases import BY_ID
from xpent.conformance.runner import PASS, judge

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[1]
LOSSES = """
    import numpy as np

    def right(logits, targets, *, reduction="mean"):
        x = logits.astype(np.promote_types(logits.dtype, np.float32))
        x -= x.max(-1, keepdims=True)
        others, of_target = np.exp(x), np.take_along_axis(x, targets[:, None], -1)[:, 0]
        np.put_along_axis(others, targets[:, None], 0, -1)
        losses = np.log1p(others.sum(-1) + np.expm1(of_target)) - of_target
        return losses if reduction == "none" else getattr(losses, reduction)()

    def naive(logits, targets, *, reduction="mean"):
        losses = np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, targets[:, None], -1)[:, 0]
        return losses if reduction == "none" else getattr(losses, reduction)()
"""
NAIVE = ("--xpent", "losses:naive", "--xpent-dtype", "float32")


@pytest.fixture
def project(pytester, monkeypatch):
    """A project with two losses and one test, in which the plugin is installed as an entry point."""
    entry_points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    lines = "".join(f"{name} = {module}\n" for name, module in entry_points.items())
    folder = pytester.mkpydir("installed")
    metadata = folder / "xpent_checkout-0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: xpent-checkout\nVersion: 0\n")
    (metadata / "entry_points.txt").write_text(f"[pytest11]\n{lines}")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=":")
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:hypothesispytest")  # its import takes two seconds
    pytester.makepyfile(losses=LOSSES, test_own="def test_of_the_project(): pass")
    return pytester


def cases_of(*names):
    return [argument for name in names for argument in ("--xpent-case", name)]


def expected_failures(project, text):
    file = project.path / "expected.toml"
    file.write_text(text)
    return "--xpent-expected-failures", str(file)


def test_each_case_and_dtype_is_a_test_with_a_stable_id(project):
    result = project.runpytest("--xpent", "losses:right", *cases_of("rows", "margin-20"), "--collect-only", "-q")
    assert result.outlines[:7] == [
        "test_own.py::test_of_the_project",
        *(f"xpent::{case}[{d}]" for case in ("rows", "margin-20") for d in ("float64", "float32", "float16")),
    ]


def test_accurate_loss_passes_all_supported_cases(project):
    of_indices = ("--xpent-without", "distributions", "--xpent-category", "confident")
    outcomes = project.runpytest("--xpent", "losses:right", *of_indices, "xpent::").parseoutcomes()
    assert set(outcomes) == {"passed"}
    assert outcomes["passed"] > 20


def test_inaccurate_loss_fails_the_cases_of_its_defects(project):
    result = project.runpytest(*NAIVE, *cases_of("rows", "offset+1e3", "margin-4", "margin-20", "class-weight"), "-v")
    result.stdout.fnmatch_lines_random(
        [
            "test_own.py::test_of_the_project PASSED*",
            "xpent::rows[[]float32[]] PASSED*",
            "xpent::offset+1e3[[]float32[]] FAILED*",
            "xpent::margin-4[[]float32[]] FAILED*",
            "xpent::margin-20[[]float32[]] FAILED*",
        ]
    )
    result.assert_outcomes(passed=2, failed=3)  # class weights are not supported


def test_message_of_a_failure_has_the_error_the_description_and_code_to_reproduce_it(project, capsys, monkeypatch):
    result = project.runpytest(*NAIVE, *cases_of("margin-20"), "xpent::")
    message = "value[[]4[]] is 0 instead of 3.563*e-09, an error of * u where 26 u are allowed"
    result.stdout.fnmatch_lines([message, "", "A confident, correct prediction: *", "", "import numpy as np"])
    assert "Traceback" not in result.stdout.str()
    assert "pytest_checks.py" not in result.stdout.str()
    text = result.stdout.str()
    lines = text[text.index("import numpy as np") : text.index("\n# value[4]")]
    monkeypatch.syspath_prepend(project.path)
    capsys.readouterr()
    exec(lines, {})
    assert "0." in capsys.readouterr().out


def test_tests_are_selected_by_keyword_and_by_id(project):
    arguments = (*NAIVE, "--xpent-category", "confident", "--tb=no")
    project.runpytest(*arguments, "-k", "margin-20 and float32").assert_outcomes(failed=1, deselected=13)
    project.runpytest(*arguments, "xpent::margin-20[float32]").assert_outcomes(failed=1)
    project.runpytest(*arguments, "xpent::margin-20", "test_own.py").assert_outcomes(failed=1, passed=1)
    result = project.runpytest(*arguments, "xpent::margin-21[float32]")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *there is no test xpent::margin-21[[]float32[]]; did you mean 'margin-20[[]*"])


def test_run_stops_at_the_first_failure_and_repeats_the_last_failures(project):
    arguments = (*NAIVE, *cases_of("rows", "margin-20", "margin-40"), "--tb=no")
    project.runpytest(*arguments, "-x").assert_outcomes(passed=2, failed=1)
    project.runpytest(*arguments).assert_outcomes(passed=2, failed=2)
    project.runpytest(*arguments, "--lf").assert_outcomes(failed=2, deselected=2)


def test_tests_are_distributed_by_xdist(project):
    file = expected_failures(project, 'margin-40 = "flushes to zero"')
    arguments = (*NAIVE, *cases_of("rows", "margin-20", "margin-40"), *file, "-n", "2", "--tb=no")
    result = project.runpytest_subprocess(*arguments)
    result.assert_outcomes(passed=2, failed=1, xfailed=1)
    result.stdout.fnmatch_lines(["FAILED xpent::margin-20[[]float32[]] - *"])


def test_expected_failures_are_strict(project):
    file = expected_failures(
        project,
        """
        margin-20 = "cancels"
        "margin-40[float32]" = "cancels"
        "rows[float32]" = "a reason"
        """,
    )
    arguments = ("--xpent", "losses:naive", *cases_of("rows", "margin-20", "margin-40"), *file)
    result = project.runpytest(*arguments, "--xpent-dtype", "float64", "--xpent-dtype", "float32", "-rxf", "-v")
    result.assert_outcomes(passed=2, failed=2, xfailed=3)
    result.stdout.fnmatch_lines_random(
        [
            "*XPASS(strict)[]] a reason",
            "xpent::margin-40[[]float64[]] FAILED*",
            "XFAIL xpent::margin-20[[]float64[]] - cancels",
        ]
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('margin-21 = "why"', "there is no case 'margin-21'; did you mean 'margin-20'"),
        ('"margin-20[float33]" = "why"', "'margin-20[[]float33[]]'; did you mean 'margin-20[[]float32[]]'"),
        ('margin-20 = ""', "'margin-20' needs a reason"),
        ("margin-20 = 1", "the reason of 'margin-20' must be a string, got 1"),
        ('margin-20[float32] = "why"', "each line must have the form \"case[[]dtype[]]\" = \"reason\", with quotes"),
        ('class-weight = "why"', "'class-weight' is not run, because it is not supported"),
        ('"rows[bfloat16]" = "why"', "'rows[[]bfloat16[]]' is not run, because it is not supported"),
    ],
)  # fmt: skip
def test_invalid_expected_failure_is_a_usage_error(project, text, message):
    result = project.runpytest("--xpent", "losses:naive", *expected_failures(project, text))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --xpent losses:naive: *{message}*"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--xpent", "losses:naive", "--xpent-case", "margin-21"], "no case 'margin-21'; did you mean 'margin-20'"),
        (["--xpent", "losses:naive", "--xpent-dtype", "float8"], "no dtype 'float8'; there are float64"),
        (["--xpent", "losses:naive", "--xpent-library", "no_such"], "Unsupported: no_such is not installed"),
        (["--xpent", "losses:naive", "--xpent-without", "dist"], "there is no capability 'dist'; did you mean"),
        (["--xpent", "losses:naive", "--xpent-expected-failures", "no.toml"], "No such file or directory: '*no.toml'"),
        (["--xpent", "losses:other"], "AttributeError: module 'losses' has no attribute 'other'"),
        (["--xpent", "lossy:naive"], "ModuleNotFoundError: No module named 'lossy'"),
        (["--xpent", "losses"], "a target must have the form module:function, got 'losses'"),
        (["--xpent-dtype", "float32"], "--xpent-dtype describes the function of --xpent, which was not given"),
    ],
)
def test_invalid_option_is_a_usage_error(project, arguments, message):
    result = project.runpytest(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: *{message}*"])


def test_configuration_sets_options_unless_other_tests_are_selected(project):
    expected_failures(project, 'margin-20 = "cancels"')
    project.makeini(
        """
        [pytest]
        xpent = losses:naive
        xpent_dtype = float32
        xpent_case =
            rows
            margin-20
        xpent_expected_failures = expected.toml
        """
    )
    project.runpytest().assert_outcomes(passed=2, xfailed=1)
    project.runpytest("xpent::").assert_outcomes(passed=1, xfailed=1)
    project.runpytest("test_own.py").assert_outcomes(passed=1)
    project.runpytest("test_own.py", "--xpent-case", "rows").assert_outcomes(passed=2)
    project.runpytest("--xpent-dtype", "float64", "xpent::rows").assert_outcomes(passed=1)


def test_plugin_does_not_import_xpent_without_a_function(project):
    project.makepyfile(
        test_own="""
        import sys

        def test_modules(request):
            assert request.config.pluginmanager.has_plugin("xpent")
            assert "_xpent_pytest" in sys.modules
            assert not {"xpent", "numpy", "mpmath", "rich", "jinja2"} & set(sys.modules)
        """
    )
    result = project.runpytest_subprocess()
    result.assert_outcomes(passed=1)
    assert "xpent:" not in result.stdout.str()


def test_error_names_the_extra_if_a_dependency_is_missing(project):
    code = "import sys; sys.modules['mpmath'] = None; import pytest; sys.exit(pytest.main(sys.argv[1:]))"
    assert project.run(sys.executable, "-c", code).ret == 0
    result = project.run(sys.executable, "-c", code, "--xpent", "losses:naive")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --xpent: *requires mpmath*: *python -m pip install '.[[]conformance[]]'"])


@pytest.mark.library("torch")
def test_error_suggests_the_library_of_the_function(project):
    result = project.runpytest_subprocess("--xpent", "torch.nn.functional:cross_entropy", "--xpent-signature", "torch")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *but it takes arrays of torch: add --xpent-library torch"])


@pytest.mark.library("jax")
def test_checks_in_jax_do_not_change_the_precision_of_other_tests():
    import jax

    with jax.enable_x64(False):
        outcome = judge(conformance.implementation("xpent jax"), BY_ID["rows"], "float64")
        assert outcome.status == PASS
        assert not jax.config.jax_enable_x64
