"""The kit can fail: every wrong implementation is caught, by the case that names its fault and by few others."""

from pathlib import Path

import pytest
from gallery import GALLERY, HEAVY, RIGHT, implementation

from xpent.conformance.cases import ALL
from xpent.conformance.runner import PASS, sweep

pytestmark = pytest.mark.xdist_group("gallery")  # what the oracle has answered is remembered by the process


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_right_implementation_passes_every_case(dtype):
    cases = tuple(case for case in ALL if case.id not in HEAVY)
    outcomes = list(sweep(implementation(*RIGHT), cases, (dtype,)))
    assert {outcome.name: outcome.message for outcome in outcomes if outcome.status != PASS} == {}
    assert len(outcomes) > 100


@pytest.mark.parametrize("wrong", GALLERY, ids=lambda wrong: wrong.name)
def test_wrong_implementation_is_caught_by_the_case_that_names_its_fault(wrong):
    failures = wrong.failures()
    assert wrong.case in {outcome.case for outcome in failures}
    assert {outcome.category for outcome in failures} == wrong.categories


def test_wrong_implementations_differ_from_one_another():
    assert len({wrong.name for wrong in GALLERY}) == len({wrong.call.__doc__ for wrong in GALLERY}) == len(GALLERY)
    assert all(wrong.call.__doc__ for wrong in GALLERY)


def test_table_in_the_docs_lists_every_wrong_implementation():
    lines = (Path(__file__).parent.parent / "docs" / "gallery.md").read_text().splitlines()
    listed = [line.split(" | ")[:2] for line in lines if line.startswith("| ") and "`" in line]
    assert listed == [[f"| {wrong.description}", f"`{wrong.case}`"] for wrong in GALLERY]
