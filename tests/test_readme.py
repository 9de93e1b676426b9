"""The README's code does what the README says."""

import doctest
import re
from pathlib import Path

import pytest

from xpent.conformance.cases import ALL, CATEGORIES

README = (Path(__file__).parent.parent / "README.md").read_text()
LIBRARY_MARKS = {
    "NumPy": pytest.mark.library("numpy"),
    "PyTorch": pytest.mark.library("torch"),
    "JAX": pytest.mark.library("jax", "jax-jit"),
}
TOURS = re.findall(r"^## A minute with (\w+)\n(.*?)(?=^## )", README, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    ("library", "text"), [pytest.param(*tour, marks=LIBRARY_MARKS[tour[0]], id=tour[0]) for tour in TOURS]
)
def test_tour_prints_what_it_says(library, text):
    code = "".join(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL))
    assert run(code, library) == 0


def test_ten_lines_check_a_function_of_ones_own():
    (text,) = re.findall(r"^## Check your own\n(.*?)(?=^##)", README, flags=re.MULTILINE | re.DOTALL)
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert run(code, "kit") == 0
    assert f"{len(ALL)} cases in {len(CATEGORIES)}" in " ".join(text.split())


def run(code, name):
    """The number of examples that print something else."""
    tour = doctest.DocTestParser().get_doctest(code, {}, name, "README.md", 0)
    assert tour.examples
    return doctest.DocTestRunner(optionflags=doctest.FAIL_FAST).run(tour).failed


def test_every_library_has_a_tour():
    assert [library for library, _ in TOURS] == list(LIBRARY_MARKS)
