"""`xpent bench` measures what it says, and refuses what it does not know."""

import json

import numpy as np
import pytest

from xpent.__main__ import main
from xpent.bench import measure
from xpent.bench.contestants import FUNCTIONS, contestants

pytestmark = pytest.mark.library("numpy")
SMALL = ["bench", "--library", "numpy", "--shape", "6x4", "--rounds", "2"]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_all_who_take_part_compute_the_same(function):
    problem = measure.Problem(function, (5, 7), "float32")
    found = {}
    for one in contestants():
        if one.is_limit or one.library != "numpy" or not measure.takes(one, problem):
            continue
        answer = problem.prepare(one)()
        answer = answer[0] if isinstance(answer, tuple) else answer
        found[one.name] = np.mean(answer) if function.startswith("loss") else np.asarray(answer)
    assert "xpent numpy" in found
    for answer in found.values():
        np.testing.assert_allclose(answer, found["xpent numpy"], rtol=1e-5)


def test_the_table_has_a_row_for_each_and_the_ratio_to_the_copy(capsys):
    assert main([*SMALL, "--function", "softmax"]) == 0
    printed = capsys.readouterr().out
    assert "softmax, 6 x 4, float32" in printed
    rows = {line.split()[0]: line.split() for line in printed.splitlines() if line.strip()}
    assert rows["copy"][-2] == "1.00"
    assert rows["xpent"][-1] == "1.00"


def test_json_holds_every_result_with_the_machine(capsys):
    assert main([*SMALL, "--shape", "3x2", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {"date", "processor", "numpy"} <= set(report)
    ours = [result for result in report["results"] if result["contestant"] == "xpent numpy"]
    assert [result["problem"]["shape"] for result in ours] == [[6, 4], [3, 2]]
    assert all(result["seconds"] > 0 for result in ours)


def test_a_plot_is_written(tmp_path):
    pytest.importorskip("matplotlib")
    assert main([*SMALL, "--shape", "12x4", "--plot", str(tmp_path / "plot.png")]) == 0
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_times_are_taken_in_turn():
    turns = []
    everyone = [
        measure.Contestant(name, "numpy", {"loss": lambda *_, name=name: lambda: turns.append(name)}) for name in "ab"
    ]
    results = measure.times(measure.Problem("loss", (2, 2), "float32"), everyone, rounds=3)
    assert [result.contestant for result in results] == ["a", "b"]
    order = [name for name, last in zip(turns, [None, *turns], strict=False) if name != last]
    assert order == ["a", "b"] * 4  # once to warm up, then each round


def test_peak_memory_is_that_of_the_results():
    problem = measure.Problem("softmax", (4096, 1024), "float32")
    memory = measure.peak_memory(problem, "xpent numpy")
    if memory is not None:
        assert 16 * 2**20 * 0.9 < memory < 16 * 2**20 * 2.5


@pytest.mark.parametrize(
    ("wrong", "said"),
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
    ],
)
def test_wrong_usage_is_told(capsys, wrong, said):
    with pytest.raises(SystemExit) as stopped:
        main([*SMALL, *wrong])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
