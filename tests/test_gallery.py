"""The conformance suite rejects every defective implementation of the gallery, and accepts the correct one."""

from pathlib import Path

import pytest
from gallery import CORRECT, GALLERY, HEAVY, implementation

from xpent.conformance.cases import ALL
from xpent.conformance.runner import PASS, sweep

pytestmark = pytest.mark.xdist_group("gallery")  # exact values are cached in the process


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_correct_implementation_passes_every_case(dtype):
    cases = tuple(case for case in ALL if case.id not in HEAVY)
    outcomes = list(sweep(implementation(*CORRECT), cases, (dtype,)))
    assert {outcome.name: outcome.message for outcome in outcomes if outcome.status != PASS} == {}
    assert len(outcomes) > 100


@pytest.mark.parametrize("defect", GALLERY, ids=lambda defect: defect.name)
def test_defect_fails_its_case_and_only_its_categories(defect):
    failures = defect.failures()
    assert defect.case in {outcome.case for outcome in failures}
    assert {outcome.category for outcome in failures} == defect.categories


def test_names_and_descriptions_of_defects_are_unique():
    assert len({defect.name for defect in GALLERY}) == len({defect.call.__doc__ for defect in GALLERY}) == len(GALLERY)
    assert all(defect.call.__doc__ for defect in GALLERY)


def test_table_in_the_docs_lists_every_defect():
    lines = (Path(__file__).parent.parent / "docs" / "gallery.md").read_text().splitlines()
    listed = [line.split(" | ")[:2] for line in lines if line.startswith("| ") and "`" in line]
    assert listed == [[f"| {defect.description}", f"`{defect.case}`"] for defect in GALLERY]
