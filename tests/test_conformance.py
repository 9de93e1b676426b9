"""The conformance suite: xpent passes every case, and the suite reports defects and invalid arguments."""

import ast
import json
import warnings
from dataclasses import fields
from graphlib import TopologicalSorter
from pathlib import Path

import numpy as np
import pytest

from xpent import conformance
from xpent.conformance import oracle
from xpent.conformance.case import OPTIONS, Capability, Case, Generated, Result
from xpent.conformance.cases import ALL, BY_ID, CATEGORIES
from xpent.conformance.checks import CHECKS, NON_FINITE
from xpent.conformance.dtypes import DTYPES, rounded
from xpent.conformance.implementation import Implementation
from xpent.conformance.implementations import KNOWN
from xpent.conformance.implementations.ours import HandWritten
from xpent.conformance.libraries import Unsupported, library
from xpent.conformance.runner import FAILS, PASS, UNSUPPORTED, judge

ON_STRICT = "xpent array-api-strict"
OTHER_DTYPES = [dtype for dtype in DTYPES if dtype != "float32"]


def implementation(name):
    if name != ON_STRICT:
        return conformance.implementation(name)
    strict, ours = library("array_api_strict"), conformance.implementation("xpent numpy")
    lacks = {Capability.BATCH_INVARIANCE: "NumPy's"}
    return Implementation(name, strict, ours.functions, lacks, derivatives=HandWritten(strict))


def conforms(name, dtypes=DTYPES):
    try:
        return conformance.parametrize(implementation(name), dtypes=dtypes)
    except Unsupported as reason:
        return pytest.mark.skip(reason=str(reason))


@pytest.mark.library("numpy")
@conforms("xpent numpy")
def test_xpent_conforms_on_numpy(check):
    check()


@pytest.mark.library("array-api-strict")
@conforms(ON_STRICT)
def test_xpent_conforms_on_array_api_strict(check):
    check()


@pytest.mark.library("torch")
@conforms("xpent torch")
def test_xpent_conforms_on_torch(check):
    check()


@pytest.mark.library("torch")
@conforms("xpent torch autograd")
def test_xpent_conforms_with_torch_autograd(check):
    check()


@pytest.mark.library("jax-jit")
@pytest.mark.unoptimized
@conforms("xpent jax", dtypes=["float32"])
def test_xpent_conforms_on_jax(check):
    check()


@pytest.mark.library("jax-jit")
@pytest.mark.unoptimized
@conforms("xpent jax autodiff", dtypes=["float32"])
def test_xpent_conforms_with_jax_autodiff(check):
    check()


@pytest.mark.library("jax-jit")
@pytest.mark.thorough
@conforms("xpent jax", dtypes=OTHER_DTYPES)
def test_xpent_conforms_on_jax_in_other_dtypes(check):
    check()


@pytest.mark.library("jax-jit")
@pytest.mark.thorough
@conforms("xpent jax autodiff", dtypes=OTHER_DTYPES)
def test_xpent_conforms_with_jax_autodiff_in_other_dtypes(check):
    check()


def naive(logits, targets, *, reduction="mean"):
    """The textbook formula: no shift by the maximum, and the logarithm of a rounded probability."""
    p = np.exp(logits) / np.sum(np.exp(logits), axis=-1, keepdims=True)
    losses = -np.log(np.take_along_axis(p, targets[..., None], axis=-1)[..., 0])
    return losses if reduction == "none" else getattr(np, reduction)(losses)


def exact(logits, targets):
    """The mean loss of class indices, by the oracle."""
    return np.asarray(oracle.CrossEntropy(logits, targets).loss, dtype=logits.dtype)


ORDINARY = {"cases": ["rows"], "dtypes": ["float32"]}


def test_case_ids_are_unique_and_descriptions_are_sentences():
    assert len(BY_ID) == len(ALL) > 200
    for case in ALL:
        assert case.why.endswith(".")
        assert case.dtypes
        assert case.id == case.id.lower().replace(" ", "-") or "-C" in case.id or "Fortran" in case.id


def imports_within(package, file):
    """The modules of a package that a file imports, at the top or inside functions."""
    modules = {path.relative_to(package).with_suffix("").as_posix() for path in package.rglob("*.py")}
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("xpent.conformance"):
            base = node.module.removeprefix("xpent.conformance").removeprefix(".").replace(".", "/")
            for alias in node.names:
                own = f"{base}/{alias.name}".strip("/")
                names = (own, f"{own}/__init__", base, f"{base}/__init__".strip("/"))
                yield next(name for name in names if name in modules)


def test_modules_have_no_circular_imports():
    package = Path(conformance.__file__).parent
    graph = {
        file.relative_to(package).with_suffix("").as_posix(): set(imports_within(package, file))
        for file in package.rglob("*.py")
    }
    assert len(list(TopologicalSorter(graph).static_order())) == len(graph) > 20
    assert not any(name.startswith("cases") for name in graph["checks"] | graph["trial"] | graph["expected"])


def is_plain(value):
    if isinstance(value, tuple | list):
        return all(map(is_plain, value))
    return value is None or isinstance(value, bool | int | float | str | np.ndarray | Generated)


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.id)
def test_case_is_plain_data(case):
    values = {field.name: getattr(case, field.name) for field in fields(Case)}
    options = values.pop("options")
    assert all(map(is_plain, (*values.values(), *options.values())))
    assert set(options) <= set(OPTIONS)
    assert case.check in CHECKS
    assert all(isinstance(need, Capability) for need in case.requirements)


VALID_LOSSES = [case for case in ALL if case.is_loss and case.result is not Result.ERROR]


@pytest.mark.parametrize("case", VALID_LOSSES, ids=lambda case: case.id)
def test_case_declares_the_capabilities_that_its_inputs_need(case):
    logits, targets = case.arrays[0], case.arrays[-1]
    axis = case.options.get("axis", -1)
    batch = logits.ndim - (len(axis) if isinstance(axis, tuple) else 1)
    has_indices = targets.ndim == batch
    needed = {
        Capability.INDICES: has_indices,
        Capability.DISTRIBUTIONS: not has_indices,
        Capability.INTEGER_DISTRIBUTIONS: not has_indices and targets.dtype.kind != "f",
        Capability.SMOOTHED_INDICES: has_indices and "label_smoothing" in case.options,
        Capability.SEVERAL_CLASS_AXES: isinstance(axis, tuple),
        Capability.SEVERAL_BATCH_AXES: batch > 1,
        Capability.ONE_ROW: batch == 0,
        Capability.ONE_CLASS: case.function == "cross_entropy" and logits.shape[-1] == 1,
        Capability.INTEGER_LOGITS: logits.dtype.kind != "f",
        **{need: need == f"{targets.dtype} labels" for need in Capability if need.endswith("labels") and "int" in need},
    }
    assert {need: need in case.needs for need in needed} == needed


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_inputs_are_exact_in_their_dtype(dtype):
    for case in ALL:
        if dtype in case.dtypes:
            for array in (*case.arrays_in(dtype), *case.options_in(dtype).values()):
                if isinstance(array, np.ndarray) and array.dtype.kind == "f":
                    np.testing.assert_array_equal(array.astype(dtype).astype(np.float64), array)
                    assert np.all(np.isfinite(array) | ~np.isfinite(case.arrays[0]).all())


def test_loss_of_zero_fails_where_the_exact_loss_is_large():
    def zero(logits, targets):  # noqa: ARG001
        return np.zeros((), dtype=logits.dtype)

    for dtype in ("float64", "float32", "float16"):
        report = conformance.check(zero, categories=["confident and wrong", "ordinary"], dtypes=[dtype])
        assert all(outcome.status == FAILS for outcome in report.outcomes if outcome.status != UNSUPPORTED)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, "value raises TypeError: the result must be real, got dtype object"),
        (1j, "value raises TypeError: the result must be real, got dtype complex128"),
        ((1.0, 2.0), "value has the shape (2,) instead of ()"),
        ([1.0] * 8, "value has the shape (8,) instead of ()"),
    ],
)
def test_result_with_a_wrong_type_or_shape_fails(answer, message):
    report = conformance.check(lambda logits, targets: answer, dtypes=["float32"])  # noqa: ARG005
    assert {o.message for o in report.outcomes if o.case == "rows"} == {message}
    assert not any(o.status == PASS for o in report.outcomes if o.category not in ("side effects", "repeatability"))


def test_function_that_always_raises_does_not_pass_cases_that_expect_an_error():
    def raises(logits, targets):  # noqa: ARG001
        raise RuntimeError("always")

    report = conformance.check(raises, categories=["invalid arguments", "labels out of range"], dtypes=["float32"])
    assert {outcome.status for outcome in report.outcomes} == {"error", "unsupported"}


def test_error_of_the_gradient_alone_does_not_reject_a_label():
    def wraps(logits, targets):
        return exact(logits, targets % logits.shape[-1])

    def value_and_grad(logits, targets):  # noqa: ARG001
        raise RuntimeError("no gradient")

    check = {"cases": ["label-minus-1"], "dtypes": ["float32"], "value_and_grad": value_and_grad}
    assert [outcome.status for outcome in conformance.check(wraps, **check).outcomes] == [FAILS]


def test_expected_failure_of_an_unsupported_case_is_an_error():
    with pytest.raises(ValueError, match="'class-weight' is not run, because it is not supported"):
        conformance.check(naive, expected_failures={"class-weight": "old"})


def test_report_without_checks_does_not_hold():
    assert not conformance.check(naive, cases=["class-weight"]).holds


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "cuda:7"}, "cuda:7"),
        ({"computes": "softmax", "signature": "torch"}, "requires computes='cross_entropy', got 'softmax'"),
    ],
)
def test_option_that_would_be_ignored_is_an_error(options, message):
    with pytest.raises(ValueError, match=message):
        conformance.check(naive, **options)


def test_rounding_to_bfloat16_is_to_the_nearest_even():
    np.testing.assert_array_equal(
        rounded(np.asarray([257.0, 259.0, 1 + 2**-8, 1 + 3 * 2**-8, 1e8, -np.inf]), "bfloat16"),
        [256.0, 260.0, 1.0, 1 + 2**-6, 100139008.0, -np.inf],
    )
    assert np.isnan(rounded(np.asarray(np.nan), "bfloat16"))


def test_exact_function_passes_supported_cases_and_skips_the_others():
    report = conformance.check(exact, **ORDINARY)
    assert report.holds
    (outcome,) = report.outcomes
    assert outcome.status == PASS
    assert set(outcome.errors) == {"value"}
    assert outcome.left_out == {"gradient": "numpy has no autodiff"}
    (outcome,) = conformance.check(exact, cases=["class-weight"], dtypes=["float32"]).outcomes
    assert (outcome.status, outcome.message) == (UNSUPPORTED, "has no parameter class_weight")


def test_warnings_of_the_value_are_checked_without_a_gradient():
    def warns(logits, targets):
        warnings.warn("well", UserWarning, stacklevel=1)
        return exact(logits, targets)

    (outcome,) = conformance.check(warns, cases=["no-warnings"], dtypes=["float32"]).outcomes
    assert (outcome.status, outcome.message) == (FAILS, "UserWarning: well")
    (outcome,) = conformance.check(exact, cases=["no-warnings"], dtypes=["float32"]).outcomes
    assert (outcome.status, outcome.left_out) == (PASS, {"gradient": "numpy has no autodiff"})


def test_failure_has_the_wrong_and_the_exact_value():
    report = conformance.check(naive, cases=["offset+1e3"], dtypes=["float64"])
    (outcome,) = report.surprises
    assert not report.holds
    assert outcome.status == FAILS
    assert outcome.message.startswith("value[0] is nan instead of ")
    assert outcome.cause == NON_FINITE


def test_value_and_gradient_of_a_numpy_function_are_checked():
    def value_and_grad(logits, targets, *, reduction="mean"):
        q = np.eye(logits.shape[-1], dtype=logits.dtype)[targets]
        p = np.exp(logits) / np.sum(np.exp(logits), axis=-1, keepdims=True)
        return naive(logits, targets, reduction=reduction), 1.01 * (p - q)

    (outcome,) = conformance.check(naive, value_and_grad=value_and_grad, **ORDINARY).outcomes
    assert outcome.errors["value"] < 10
    assert outcome.errors["gradient"] > 1e4
    assert "gradient[" in outcome.message
    assert "value[" not in outcome.message


def test_result_in_a_wider_dtype_passes():
    def in_float64(logits, targets):
        return np.asarray(oracle.CrossEntropy(logits, targets).loss, dtype=np.float64)

    assert conformance.check(in_float64, cases=["rows", "margin-4"], dtypes=["float16"]).holds


def test_exception_is_an_error_with_its_name():
    def broken(logits, targets):  # noqa: ARG001
        raise ZeroDivisionError("no luck")

    (outcome,) = conformance.check(broken, **ORDINARY).outcomes
    assert (outcome.status, outcome.message) == ("error", "value raises ZeroDivisionError: no luck")


def test_expected_failures_are_strict():
    expected = {"offset+1e3": "not shifted", "rows[float32]": "a reason"}
    report = conformance.check(naive, cases=["offset+1e3", "rows"], dtypes=["float32"], expected_failures=expected)
    by_case = {outcome.case: outcome for outcome in report.outcomes}
    assert by_case["offset+1e3"].holds
    assert by_case["offset+1e3"].expected == "not shifted"
    assert [outcome.case for outcome in report.surprises] == ["rows"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"expected_failures": {"margin-21": "why"}}, "no case 'margin-21'"),
        ({"expected_failures": {"margin-20": ""}}, "needs a reason"),
        ({"cases": ["margin-21"]}, "no case 'margin-21'; did you mean 'margin-20'"),
        ({"categories": ["confidence"]}, "no category 'confidence'; did you mean 'confident'"),
        ({"dtypes": ["float8"]}, "no dtype 'float8'; there are float64"),
        ({"signature": "tensorflow"}, "signature must be one of xpent, torch, optax"),
        ({"computes": "hinge"}, "computes must be one of cross_entropy"),
    ],
)
def test_unknown_names_are_errors_in_check_and_parametrize(options, message):
    for function in (conformance.check, conformance.parametrize):
        with pytest.raises(ValueError, match=message):
            function(naive, **options)


def test_error_names_a_library_that_is_not_installed():
    with pytest.raises(Unsupported, match="no_such_library is not installed"):
        conformance.check(naive, library="no_such_library")


def test_parametrize_makes_a_test_of_each_supported_case_with_strict_expected_failures(run_pytest):
    outcome = run_pytest(
        """
        from test_conformance import naive
        from xpent import conformance

        @conformance.parametrize(
            naive, cases=["rows", "offset+1e3", "margin-20", "class-weight"], dtypes=["float32"],
            expected_failures={"offset+1e3": "not shifted", "rows": "a reason"},
        )
        def test_naive(check):
            check()
        """
    )
    assert "3 items" in outcome
    assert "1 xfailed" in outcome
    assert "[XPASS(strict)] a reason" in outcome
    assert "test_naive[margin-20-float32]" in outcome
    assert "instead of" in outcome
    assert "2 failed, 1 xfailed" in outcome


@pytest.fixture
def run_pytest(tmp_path):
    """Run a test file in a new process, and return the output of pytest."""
    import os
    import subprocess
    import sys
    import textwrap

    def run(source):
        (tmp_path / "test_it.py").write_text(textwrap.dedent(source))
        paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "-v",
            "-rA",
            "--rootdir",
            str(tmp_path),
            ".",
        ]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True).stdout

    return run


@pytest.mark.parametrize(
    "case",
    ["offset+1e3", "label-minus-1", "50257-classes", "sequences", "masked-class-of-one-hot", "strided-arrays"],
)
def test_reproduction_prints_the_wrong_result(case, capsys):
    wrong = Implementation(
        "wrong",
        library("numpy"),
        {"cross_entropy": lambda _, targets, *, reduction: np.full(targets.shape[:1], 7.5)},  # noqa: ARG005
        source={
            "cross_entropy": "def cross_entropy(logits, targets, *, reduction): return np.full(targets.shape[:1], 7.5)"
        },
    )
    outcome = judge(wrong, BY_ID[case], "float32")
    assert outcome.is_wrong
    exec(outcome.reproduction, {})
    assert capsys.readouterr().out.startswith("[7.5")
    assert outcome.reproduction.endswith(f"# {outcome.message}")


@pytest.mark.library("torch")
@pytest.mark.parametrize(
    ("name", "case"),
    [
        ("torch", "logsumexp-at-1e8"),
        ("torch", "nan-in-an-ignored-row"),
        ("torch", "forward-mode-of-confident-rows"),
        ("torch linear", "linear-nan-in-an-ignored-row"),
        ("torch linear", "linear-all-ignored"),
    ],
)
def test_reproduction_in_torch_runs(name, case, capsys):
    outcome = judge(conformance.implementation(name), BY_ID[case], "float32")
    assert outcome.is_wrong
    exec(outcome.reproduction, {})
    assert "tensor(" in capsys.readouterr().out


@pytest.mark.library("jax-jit")
def test_reproduction_in_jax_runs(capsys):
    wrong = conformance.target(_wrong_in_jax, library="jax")
    for case in ("rows", "second-derivative", "forward-mode"):
        outcome = judge(wrong, BY_ID[case], "float32")
        assert outcome.is_wrong
        exec(outcome.reproduction, {})
    assert capsys.readouterr().out.count("[") >= 2


def _wrong_in_jax(logits, targets):  # noqa: ARG001
    return (logits**2).sum()


def test_report_as_json_has_all_outcomes():
    report = conformance.check(naive, cases=["offset+1e3", "class-weight"], dtypes=["float32"])
    answer = json.loads(report.to_json())
    assert answer["holds"] is False
    assert answer["versions"] == {"naive": f"numpy {np.__version__}"}
    assert [outcome["status"] for outcome in answer["outcomes"]] == ["fails", "unsupported"]
    assert answer["outcomes"][0]["errors"] == {"value": "inf"}
    assert answer["outcomes"][0]["why"] == BY_ID["offset+1e3"].why


def test_oracle_agrees_with_closed_forms():
    log = oracle._log
    equal = oracle.CrossEntropy(np.full((1, 8), 1e8), np.asarray([3]), reduction="none")
    assert abs(equal.loss[0] - log(8)) < 1e-100
    np.testing.assert_array_equal(np.asarray(equal.gradient[0] * 8, dtype=float), [1, 1, 1, -7, 1, 1, 1, 1])
    two = oracle.CrossEntropy(np.asarray([[40.0, 0.0]]), np.asarray([0]), reduction="none")
    assert abs(two.loss[0] - log(1 + oracle._exp(oracle.exact(np.asarray(-40.0))))) < 1e-100
    smooth = oracle.CrossEntropy(np.zeros((1, 4)), np.asarray([0]), label_smoothing=0.5, z_loss=2.0)
    assert abs(smooth.loss - (log(4) + 2 * log(4) ** 2)) < 1e-100
    lost = oracle.CrossEntropy(np.zeros((2, 4)), np.asarray([-1, 4]), reduction="none")
    assert np.all(np.isnan(np.asarray(lost.loss, dtype=float)))
    logits, slope = oracle.linear(np.asarray([[1.0, 2]]), np.asarray([[3.0, 4], [0, 0]]), np.asarray([0.0, 1]), 2.0)
    np.testing.assert_allclose(np.asarray(logits, dtype=float), [[2 * np.tanh(5.5), 2 * np.tanh(0.5)]], rtol=1e-15)
    np.testing.assert_allclose(np.asarray(slope, dtype=float), [[np.cosh(5.5) ** -2, np.cosh(0.5) ** -2]], rtol=1e-15)


@pytest.mark.library("numpy", "torch", "jax-jit")  # some implementations need torch or JAX
@pytest.mark.parametrize("name", KNOWN)
def test_unsupported_capabilities_and_excluded_categories_exist(name):
    try:
        made = conformance.implementation(name)
    except Unsupported as reason:
        pytest.skip(str(reason))
    assert all(isinstance(capability, Capability) for capability in made.lacks)
    assert set(made.excludes) <= set(CATEGORIES)


def test_capabilities_and_categories_in_lacks_are_not_checked():
    (outcome,) = conformance.check(naive, cases=["one-hot"], dtypes=["float32"], lacks={"distributions": "no"}).outcomes
    assert (outcome.status, outcome.message) == (UNSUPPORTED, "no")
    excluded = conformance.check(naive, cases=["rows"], dtypes=["float32"], lacks={"category ordinary": "no"})
    assert [(outcome.status, outcome.message) for outcome in excluded.outcomes] == [(UNSUPPORTED, "no")]
    with pytest.raises(ValueError, match="did you mean 'distributions'"):
        conformance.check(naive, lacks={"distribution": "no"})


def test_every_category_is_run_on_numpy():
    assert len(CATEGORIES) > 25
    implementation = conformance.implementation("xpent numpy")
    run = {case.category for case in ALL if implementation.reason_against(case, case.dtypes[0]) is None}
    assert set(CATEGORIES) == run
