"""The command `xpent bench`: results, reports and usage errors."""

import json

import numpy as np
import pytest

from xpent.__main__ import main
from xpent.bench import measure
from xpent.bench.contestants import FUNCTIONS, LINEAR, contestants

pytestmark = pytest.mark.library("numpy")
SMALL = ["bench", "--library", "numpy", "--shape", "6x4", "--rounds", "2"]
LIBRARIES = [pytest.param(name, marks=pytest.mark.library(name)) for name in ("numpy", "torch", "jax")]
LAYER = ["bench", "linear", "--library", "numpy", "--shape", "6x3x4", "--rounds", "2"]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_contestants_compute_the_same_function(function):
    problem = measure.Problem(function, (5, 7), "float32")
    found = {}
    for contestant in contestants():
        if contestant.is_limit or contestant.library != "numpy" or not measure.supports(contestant, problem):
            continue
        result = problem.prepare(contestant)()
        result = result[0] if isinstance(result, tuple) else result
        found[contestant.name] = np.mean(result) if function.startswith("loss") else np.asarray(result)
    assert "xpent numpy" in found
    for result in found.values():
        np.testing.assert_allclose(result, found["xpent numpy"], rtol=1e-5)


def test_table_has_one_row_per_contestant_and_times_relative_to_the_copy(capsys):
    assert main([*SMALL, "--function", "softmax"]) == 0
    printed = capsys.readouterr().out
    assert "softmax, 6 x 4, float32" in printed
    rows = {line.split()[0]: line.split() for line in printed.splitlines() if line.strip()}
    assert rows["copy"][-2] == "1.00"
    assert rows["xpent"][-1] == "1.00"


def test_json_has_all_results_and_the_machine(capsys):
    assert main([*SMALL, "--shape", "3x2", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {"date", "processor", "numpy"} <= set(report)
    ours = [result for result in report["results"] if result["contestant"] == "xpent numpy"]
    assert [result["problem"]["shape"] for result in ours] == [[6, 4], [3, 2]]
    assert all(result["seconds"] > 0 for result in ours)


def test_plot_is_written(tmp_path):
    pytest.importorskip("matplotlib")
    assert main([*SMALL, "--shape", "12x4", "--plot", str(tmp_path / "plot.png")]) == 0
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_rounds_are_interleaved():
    turns = []
    selected = [
        measure.Contestant(name, "numpy", {"loss": lambda *_, name=name: lambda: turns.append(name)}) for name in "ab"
    ]
    results = measure.times(measure.Problem("loss", (2, 2), "float32"), selected, rounds=3)
    assert [result.contestant for result in results] == ["a", "b"]
    order = [name for name, last in zip(turns, [None, *turns], strict=False) if name != last]
    assert order == ["a", "b"] * 4  # a warm-up and three rounds


@pytest.mark.parametrize("library", LIBRARIES)
def test_contestants_compute_the_same_layer(library):
    problem = measure.Problem(LINEAR, (5, 3, 7), "float32")
    supported = [c for c in contestants() if c.library == library and measure.supports(c, problem)]
    assert f"xpent {library}" in [contestant.name for contestant in supported]
    (loss, (of_features, of_weight)), *others = [problem.prepare(contestant)() for contestant in supported]
    assert (of_features.shape, of_weight.shape) == ((5, 3), (7, 3))
    for other in others:
        np.testing.assert_allclose(other[0], loss, rtol=1e-5)
        np.testing.assert_allclose(other[1][0], of_features, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(other[1][1], of_weight, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("library", LIBRARIES)
def test_layer_needs_less_than_half_of_the_memory_of_its_logits(library):
    problem = measure.Problem(LINEAR, (8192, 16, 8192), "float32")
    memory = measure.peak_memory(problem, f"xpent {library}", library)
    assert memory is None or 0 < memory < problem.logits * problem.itemsize / 2


def test_table_of_a_layer_has_relative_times(capsys):
    assert main(LAYER) == 0
    printed = capsys.readouterr().out
    assert "linear, 6 x 3 x 4, float32; the logits: 0 MiB" in printed
    rows = {line.split()[0]: line.split() for line in printed.splitlines() if line.strip()}
    assert "1.00" in rows["xpent"]
    assert "two-step" in rows
    assert "copy" not in rows


def test_json_of_a_layer_has_its_shape_and_times(capsys):
    assert main([*LAYER, "--peer", "two-step numpy", "--json"]) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert [result["contestant"] for result in results] == ["xpent numpy", "two-step numpy"]
    assert all(result["problem"]["shape"] == [6, 3, 4] for result in results)
    assert all(result["seconds"] > 0 for result in results)


def test_memory_of_a_layer_is_plotted(tmp_path):
    pytest.importorskip("matplotlib")
    assert main([*LAYER, "--shape", "6x3x8", "--plot", str(tmp_path / "plot.png")]) == 0
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_peak_memory_of_softmax_is_that_of_its_result():
    problem = measure.Problem("softmax", (4096, 1024), "float32")
    memory = measure.peak_memory(problem, "xpent numpy", "numpy")
    if memory is not None:
        assert 16 * 2**20 * 0.9 < memory < 16 * 2**20 * 2.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shape", "12"], "ROWSxCLASSES"),
        (["--shape", "0x3"], "ROWSxCLASSES"),
        (["--function", "softmin"], "--function must be one of loss, "),
        (["--library", "pandas"], "--library must be one of numpy, "),
        (["--dtype", "int8"], "--dtype must be one of "),
        (["--peer", "nobody"], "--peer must be one of "),
        (["--series", "long"], "--series must be one of "),
        (["--rounds", "1"], "at least 2"),
        (["--plot", "nowhere/plot.png"], "no such directory"),
        (["--plot", "plot.foo"], "the name must end with one of "),
    ],
)
def test_usage_errors_are_reported(capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        main([*SMALL, *arguments])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("usage: xpent bench [-h]")
    assert message in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shape", "6x4"], "ROWSxDEPTHxCLASSES"),
        (["--shape", "6x0x4"], "ROWSxDEPTHxCLASSES"),
        (["--series", "small"], "--series must be one of large, classes"),
        (["--function", "loss"], "--function cannot be combined with linear"),
    ],
)
def test_usage_errors_of_a_layer_are_reported(capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        main([*LAYER, *arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
