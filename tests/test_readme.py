"""The code in README.md and docs prints the given output."""

import doctest
import re
from pathlib import Path

import pytest

from xpent.conformance.cases import ALL, CATEGORIES

ROOT = Path(__file__).parent.parent
LIBRARY_MARKS = {
    "numpy": pytest.mark.library("numpy"),
    "torch": pytest.mark.library("torch"),
    "jax": pytest.mark.library("jax", "jax-jit"),
}


def sessions():
    """The code of each page, split at imports of a library, whose name the following code uses."""
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        code = "".join(re.findall(r"```python\n(>>> .*?)```", page.read_text(), flags=re.DOTALL))
        for part in re.split(r"(?m)^(?=>>> import (?:numpy|torch|jax)\b(?!\.))", code)[1:]:
            library = re.match(r">>> import (\w+)", part)[1]
            yield pytest.param(part, page.name, marks=LIBRARY_MARKS[library], id=f"{page.name}-{library}")


SESSIONS = [*sessions()]


@pytest.mark.parametrize(("code", "page"), SESSIONS)
def test_code_in_the_documentation_prints_the_given_output(code, page):
    session = doctest.DocTestParser().get_doctest(code, {}, page, page, 0)
    assert session.examples
    assert doctest.DocTestRunner(optionflags=doctest.FAIL_FAST).run(session).failed == 0


def test_every_library_has_code_in_the_readme():
    assert {parameters.id for parameters in SESSIONS} >= {f"README.md-{library}" for library in LIBRARY_MARKS}


def test_size_of_the_conformance_suite_is_documented():
    page = " ".join((ROOT / "docs" / "conformance.md").read_text().split())
    assert f"{len(ALL)} cases in {len(CATEGORIES)} categories" in page


def test_links_to_files_exist():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "examples" / "README.md"):
        for target in re.findall(r"\]\(((?!http)[^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
