"""The README's code does what the README says."""

import doctest
import re
from pathlib import Path

import pytest

from xpent.conformance.cases import ALL, CATEGORIES

README = (Path(__file__).parent.parent / "README.md").read_text()
BACKENDS = {"NumPy": ("numpy",), "PyTorch": ("torch",), "JAX": ("jax", "jax-jit")}
TOURS = re.findall(r"^## A minute with (\w+)\n(.*?)(?=^## )", README, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("library", "text"), TOURS, ids=[library for library, _ in TOURS])
def test_tour_prints_what_it_says(library, text, backends):
    if not set(BACKENDS[library]) & set(backends):
        pytest.skip(f"{library} is not under test")
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
    assert [library for library, _ in TOURS] == list(BACKENDS)
