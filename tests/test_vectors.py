"""The test vectors contain the cases of the conformance suite exactly, and readers in two languages detect bugs."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpent.__main__ import main
from xpent.conformance import vectors
from xpent.conformance.case import Result
from xpent.conformance.cases import ALL
from xpent.conformance.dtypes import EPSILON, SMALLEST
from xpent.conformance.expected import expected

pytestmark = pytest.mark.library("numpy")
EXAMPLES = Path(__file__).parent.parent / "examples"
DOCUMENTATION = EXAMPLES.parent / "docs" / "vectors.md"
MAX_SIZE = 300  # numbers in a case; exact values of larger cases are slow to compute
CASES = [case for case in ALL if case.check == "values" and sum(x.size for x in case.arrays) <= MAX_SIZE]
IN_EVERY_DTYPE = [pytest.param(case, dtype, id=f"{case.id}[{dtype}]") for case in CASES for dtype in case.dtypes]
of_every_function = pytest.mark.parametrize("function", vectors.FUNCTIONS)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("vectors")
    assert main(["vectors", str(path), "--max-size", str(MAX_SIZE)]) == 0
    return path


@pytest.fixture(scope="module")
def contents(directory):
    return {function: json.loads((directory / f"{function}.json").read_text()) for function in vectors.FUNCTIONS}


@pytest.fixture(scope="module")
def tests(contents):
    """All tests, by case and dtype."""
    found = [
        (test["id"], dtype, test) for one in contents.values() for test in one["tests"] for dtype in test["dtypes"]
    ]
    assert len({entry[:2] for entry in found}) == len(found)
    return {(case, dtype): test for case, dtype, test in found}


def decoded(value):
    """Decode an array, a number, a tuple or a string."""
    if isinstance(value, dict):
        is_float = value["dtype"] == "float"
        data = list(map(float.fromhex, value["data"])) if is_float else value["data"]
        return np.asarray(data, dtype="float64" if is_float else value["dtype"]).reshape(value["shape"])
    if isinstance(value, str) and re.match(r"nan|-?inf|-?0x", value):
        return float.fromhex(value)
    return tuple(value) if isinstance(value, list) else value


def bits(value):
    """A value that is equal only for the same bits and dtype; all NaNs are equal."""
    if isinstance(value, float | np.ndarray) and np.asarray(value).dtype.kind == "f":
        array = np.asarray(value)
        return array.shape, np.where(np.isnan(array), np.nan, array).tobytes()
    return (value.shape, str(value.dtype), value.tolist()) if isinstance(value, np.ndarray) else (type(value), value)


@pytest.mark.parametrize(("case", "dtype"), IN_EVERY_DTYPE)
def test_inputs_and_options_are_written_exactly(case, dtype, tests):
    test = tests[case.id, dtype]
    assert (test["comment"], test["flags"], test["result"]) == (case.why, [case.category], str(case.result))
    assert test["needs"] == [str(need) for need in case.requirements]
    inputs = map(decoded, test["inputs"].values())
    assert list(map(bits, inputs)) == list(map(bits, case.arrays_in(dtype)))
    options = {"reduction": "none", **case.options_in(dtype)} if case.is_loss else case.options_in(dtype)
    assert {name: bits(decoded(v)) for name, v in test["options"].items()} == {k: bits(v) for k, v in options.items()}
    cotangent, has_tangent = case.cotangent_in(dtype), {"forward mode", "second derivative"} & set(case.quantities)
    assert bits(decoded(test.get("cotangent"))) == bits(cotangent)
    assert bits(decoded(test.get("tangent"))) == bits(case.tangent_in(dtype) if has_tangent else None)


@pytest.mark.parametrize("case", [case for case in ALL if case not in CASES], ids=lambda case: case.id)
def test_large_inputs_are_written_exactly(case):
    for array in case.arrays:
        assert bits(decoded(json.loads(json.dumps(vectors.array(array))))) == bits(array)


@pytest.mark.parametrize(
    ("case", "dtype"), [parameters for parameters in IN_EVERY_DTYPE if parameters.values[0].result is not Result.ERROR]
)
def test_exact_values_and_allowed_errors_are_those_of_the_suite(case, dtype, tests):
    test, (u, most, smallest) = tests[case.id, dtype], bounds_in(dtype)
    assert list(test["expected"]) == list(case.quantities)
    for quantity, written in test["expected"].items():
        right = expected(case, dtype, quantity, test["options"].get("reduction"))
        parts = {
            name: np.asarray(list(map(float.fromhex, part))).reshape(written["shape"])
            for name, part in written.items()
            if name not in ("shape", "mayBeNaN")
        }
        may_be_nan = np.reshape(written.get("mayBeNaN", np.zeros(written["shape"], bool)), written["shape"])
        assert np.array_equal(may_be_nan, np.broadcast_to(right.may_be_nan, right.exact.shape))
        exact, units, rest = parts["exact"], parts["units"], parts.get("rest", np.zeros(written["shape"]))
        assert bits(exact) == bits(right.exact)
        if "float64" in test["dtypes"]:
            assert bits(abs(rest)) == bits(abs(right.rest))
        allowed = np.maximum(smallest, np.minimum(units, most) * u * parts.get("scale", abs(exact)))
        finite = np.isfinite(exact)
        for fraction, passes in ((0.5, True), (-0.5, True), (2, False), (-2, False)):
            with np.errstate(invalid="ignore", over="ignore"):
                _, shares = right.errors((exact + rest) + fraction * allowed, dtype)
            assert np.all((shares <= 1)[finite] == passes)


def bounds_in(dtype):
    return EPSILON[dtype] / 2, 0.125 / (EPSILON[dtype] / 2), SMALLEST[dtype]


@of_every_function
def test_every_case_is_written_or_omitted_with_the_reason(function, contents):
    one = contents[function]
    ids, reasons = {test["id"] for test in one["tests"]}, {entry["id"]: entry["reason"] for entry in one["leftOut"]}
    assert ids == {case.id for case in CASES if case.function == function}
    assert reasons.keys() == {case.id for case in ALL if case.function == function} - ids
    assert all(re.fullmatch(r"has \d+ numbers|does not test values: [a-z ]+", reason) for reason in reasons.values())
    assert one["numberOfTests"] == len(one["tests"])
    for dtype, entry in one["dtypes"].items():
        assert tuple(float.fromhex(entry[name]) for name in ("u", "mostUnits", "smallest")) == bounds_in(dtype)


def test_files_are_the_same_in_every_process(directory, tmp_path):
    code = "import sys; from xpent.__main__ import main; main(['vectors', sys.argv[1], '--max-size', '40'])"
    for seed in ("0", "1"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", code, str(tmp_path / seed)], env=environment, check=True)
    names = [path.name for path in sorted(directory.iterdir())]
    assert names == sorted([*(f"{function}.json" for function in vectors.FUNCTIONS), vectors.SCHEMA])
    for name in names:
        assert (tmp_path / "0" / name).read_bytes() == (tmp_path / "1" / name).read_bytes()


def test_example_in_the_documentation_is_up_to_date(tests):
    (text,) = re.findall(r"```json\n(.*?)```", DOCUMENTATION.read_text(), re.DOTALL)
    example = json.loads(text)
    assert example == tests[example["id"], "float64"]


@of_every_function
def test_files_match_the_schema(function, contents, schema):
    schema.validate(contents[function])


@pytest.fixture(scope="module")
def schema(directory):
    jsonschema = pytest.importorskip("jsonschema")
    text = (directory / vectors.SCHEMA).read_text()
    assert text == files("xpent.conformance").joinpath(vectors.SCHEMA).read_text()
    jsonschema.Draft202012Validator.check_schema(json.loads(text))
    return jsonschema.Draft202012Validator(json.loads(text))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("format",), 2),
        (("tests", 0, "result"), "valid"),
        (("tests", 0, "result"), "error"),  # an error has no expected values
        (("tests", 0, "dtypes"), []),
        (("tests", 0, "options"), {"temperature": "0x1p+0"}),
        (("tests", 0, "options"), {"class_weight": {"dtype": "int64", "shape": [1], "data": [1]}}),
        (("tests", 0, "inputs", "logits", "data"), [0.5]),
        (("tests", 0, "inputs", "logits", "data"), ["0.5"]),
        (("tests", 0, "inputs", "targets", "data"), ["0x1p+0"]),
        (("tests", 0, "expected", "gradient", "bound"), "0x1p+0"),
        (("tests", 0, "expected", "value", "mayBeNaN"), ["nan"]),
        (("tests", 0, "expected", "hessian"), {"shape": [], "exact": ["0x0p+0"], "units": ["0x0p+0"]}),
    ],
)
def test_schema_rejects_invalid_files(path, value, contents, schema):
    one = json.loads(json.dumps({**contents["cross_entropy"], "tests": contents["cross_entropy"]["tests"][:1]}))
    assert schema.is_valid(one)
    place = one
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert not schema.is_valid(one)


@given(st.floats())
def test_number_is_exact_and_short(x):
    text = vectors.number(x)
    assert bits(float.fromhex(text)) == bits(x)
    assert math.copysign(1, float.fromhex(text)) == math.copysign(1, x) or math.isnan(x)
    assert not re.search(r"0p|\.p", text) or text in ("0x0p+0", "-0x0p+0")


@pytest.mark.parametrize(("x", "text"), [(3.0, "0x1.8p+1"), (-0.0, "-0x0p+0"), (2.0**-1074, "0x0.0000000000001p-1022")])
def test_number_is_written_as_in_c(x, text):
    assert vectors.number(x) == text


@pytest.mark.parametrize("size", ["0", "-1"])
def test_max_size_must_be_positive(size, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["vectors", str(tmp_path / "new"), "--max-size", size])
    assert f"--max-size must be positive, got {size}" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


WITHOUT_PACKAGES = ["-I", "-S"]
IN_PYTHON = pytest.param([sys.executable, *WITHOUT_PACKAGES, str(EXAMPLES / "vectors.py")], id="python")
IN_JAVASCRIPT = pytest.param(
    ["node", str(EXAMPLES / "vectors.mjs")], id="javascript",
    marks=pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed"),
)  # fmt: skip


def read(command, directory, *loss):
    """The exit status, the last line of the output, and the results by test."""
    done = subprocess.run([*command, directory / "cross_entropy.json", *loss], capture_output=True, text=True)
    assert not done.stderr
    *lines, last = done.stdout.splitlines()
    results = {line.split(" ")[1]: line for line in lines}
    assert len(results) == len(lines)
    return done.returncode, last, results


@pytest.mark.parametrize("command", [IN_PYTHON, IN_JAVASCRIPT])
def test_reader_passes_an_accurate_loss(command, directory, tests):
    status, last, results = read(command, directory)
    assert not [line for line in results.values() if line.startswith("FAIL")]
    passed = {name for name, line in results.items() if line.startswith("pass")}
    assert {"margin-20[float64]", "margin-40[float32]", "label-minus-1[float32]", "no-classes[float32]"} <= passed
    assert {"mean-of-rows[float64]", "all-ignored[float32]", "nan-in-its-row[float64]"} <= passed
    assert {"cotangent-per-row[float64]", "empty-batch-sum[float32]", "unknown-reduction[float32]"} <= passed
    in_binary = {f"{case}[{dtype}]" for case, dtype in tests if dtype in ("float64", "float32")}
    assert results.keys() == {name for name in in_binary if not re.match("linear|softmax|log", name)}
    assert status == 0
    assert last == f"accurate: {len(passed)} pass, 0 fail, {len(results) - len(passed)} skipped"


def test_reader_in_python_detects_cancellation(directory):
    status, last, results = read(IN_PYTHON.values[0], directory, "textbook")
    failed = {name for name, line in results.items() if line.startswith("FAIL")}
    assert status == 1
    assert f", {len(failed)} fail, " in last
    assert {"margin-40[float32]", "margin-20[float64]", "offset+1e8[float64]"} <= failed
    assert not {"rows[float64]", "all-zero[float64]", "label-minus-1[float32]"} & failed
    assert re.search(
        r"margin-40\[float64\] value\[0\] is 0 instead of 5\.7\d+e-18: off by", results["margin-40[float64]"]
    )


@pytest.mark.parametrize("command", [IN_JAVASCRIPT])
def test_reader_in_javascript_detects_negative_labels_that_wrap_around(command, directory, tests):
    status, last, results = read(command, directory, "wrapped")
    failed = {name for name, line in results.items() if line.startswith("FAIL")}
    assert status == 1
    assert {"label-minus-1[float32]", "label-minus-C[float32]", "minus-1-beside-ignore-index[float32]"} <= failed
    flags = {f"{case}[{dtype}]": test["flags"] for (case, dtype), test in tests.items()}
    assert {flag for name in failed for flag in flags[name]} == {"labels out of range", "invalid arguments"}
    assert re.search(r"value\[3\] is 1\.18\d+ instead of NaN", results["label-minus-1[float32]"])
    assert f", {len(failed)} fail, " in last
