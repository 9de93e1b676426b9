"""Type checkers infer the types of the public functions, and run-time signatures agree with them."""

import importlib.util
import inspect
import pydoc
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import xpent

ROOT = Path(__file__).parent.parent
CHECKERS = {
    "mypy": ["mypy", "--strict", "tests/user_code.py"],
    "pyright": ["basedpyright", "--pythonpath", sys.executable, "tests/user_code.py"],
}
FUNCTIONS = [getattr(xpent, name) for name in xpent.__all__]


@pytest.mark.parametrize("checker", CHECKERS)
def test_checker_infers_the_types_of_user_code(checker):
    missing = [name for name in (CHECKERS[checker][0], "torch", "jax") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    found = subprocess.run([sys.executable, "-m", *CHECKERS[checker]], capture_output=True, text=True, cwd=ROOT)
    assert found.returncode == 0, found.stdout + found.stderr


def test_package_is_marked_as_typed():
    assert Path(xpent.__file__).with_name("py.typed").is_file()


@pytest.mark.parametrize("function", FUNCTIONS, ids=xpent.__all__)
def test_annotations_can_be_evaluated(function):
    parameters = inspect.signature(function).parameters
    assert set(typing.get_type_hints(function)) == {*parameters, "return"}


def test_gradient_functions_have_the_signature_and_docstring_of_their_function():
    signature = inspect.signature(xpent.cross_entropy)
    gradient, both = xpent.grad(xpent.cross_entropy), xpent.value_and_grad(xpent.linear_cross_entropy, (0, 3))
    assert inspect.signature(gradient) == signature
    assert inspect.signature(xpent.grad(xpent.cross_entropy, (1,))).return_annotation == "tuple[ArrayT]"
    assert inspect.signature(both).return_annotation == "tuple[ArrayT, tuple[ArrayT, ArrayT]]"
    assert inspect.getdoc(gradient).startswith("Gradient of `cross_entropy` with respect to ``logits``.")
    assert inspect.getdoc(both).startswith(
        "Value of `linear_cross_entropy` and its gradient with respect to ``features`` and ``bias``."
    )
    text = pydoc.render_doc(gradient, renderer=pydoc.plaintext)
    assert f"grad(cross_entropy){signature}\n" in text
    assert "Returns an array of the shape and dtype of ``logits``." in text
