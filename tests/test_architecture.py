"""The house of section 4 of the design: which file may import what, and that the docstrings are true."""

import ast
import doctest
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import xpent
from xpent import conformance

PACKAGE = Path(xpent.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
LIBRARIES = {"numpy", "torch", "jax", "cupy", "dask", "array_api_compat", "array_api_strict", "array_api_extra"}
PUBLIC = [getattr(xpent, name) for name in xpent.__all__]
OF_THE_KIT = [conformance.check, conformance.parametrize, conformance.target, conformance.implementation]


def name_of(file):
    return file.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", ".")


def imports(file):
    """The full names of all that a file imports, at its head or within functions."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def of(folder):
    return [file for file in FILES if folder in file.relative_to(PACKAGE).parts[:-1]]


def test_importing_xpent_imports_no_array_library():
    code = "import sys, xpent; print(*sorted(name.partition('.')[0] for name in sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "xpent" in found
    assert not {"numpy", "torch", "jax", "scipy", "cupy", "dask", "rich", "mpmath"} & set(found)


@pytest.mark.parametrize("file", of("_ops"), ids=name_of)
def test_operations_import_only_the_standard_library_the_backends_and_each_other(file):
    rooms = ("arrays", "differentiable", "exponentials", "rows")
    allowed = (*[f"xpent._backends.{room}." for room in rooms], "xpent._ops.")
    for name in imports(file):
        assert name.startswith(allowed) or name.partition(".")[0] in sys.stdlib_module_names, name


@pytest.mark.parametrize("file", of("_ops"), ids=name_of)
def test_operations_name_no_library(file):
    for node in ast.walk(ast.parse(file.read_text())):
        names = {getattr(node, "id", ""), getattr(node, "attr", ""), getattr(node, "arg", "")}
        assert not any(library in str(name).lower() for name in names for library in ("numpy", "torch", "jax")), names


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_only_its_bridge_imports_a_library(library):
    inside = [file for file in FILES if not {"conformance", "bench"} & set(file.parts)]
    importers = {name_of(file) for file in inside if any(name.partition(".")[0] == library for name in imports(file))}
    assert importers <= {f"_backends.{library}", library, {"jax": "optax"}.get(library, library)}
    assert f"_backends.{library}" in importers


@pytest.mark.parametrize("file", of("_backends"), ids=name_of)
def test_backends_import_nothing_of_xpent_but_each_other(file):
    for name in imports(file):
        assert name.startswith("xpent._backends") or name.partition(".")[0] != "xpent", name


@pytest.mark.parametrize("kit", ["conformance", "bench"])
def test_nothing_but_the_command_line_imports_a_kit(kit):
    for file in FILES:
        if kit not in file.parts and file.name != "__main__.py":
            assert not any(name.startswith(f"xpent.{kit}") for name in imports(file)), file


KIT = [file for file in FILES if "conformance" in file.parts]


@pytest.mark.parametrize("file", [f for f in KIT if name_of(f) != "conformance.implementations.ours"], ids=name_of)
def test_only_what_lists_our_implementations_imports_them_into_the_kit(file):
    for name in imports(file):
        assert (
            name.startswith("xpent.conformance") or name.partition(".")[0] != "xpent" or name == "xpent.conformance"
        ), name


def test_all_names_every_public_function_and_nothing_else():
    functions = {name for name, value in vars(xpent).items() if callable(value) and not name.startswith("_")}
    assert set(xpent.__all__) == functions
    assert xpent.__all__ == sorted(xpent.__all__)


@pytest.mark.parametrize("function", PUBLIC, ids=xpent.__all__)
def test_docstring_describes_every_parameter_and_its_examples_are_true(function):
    text = inspect.getdoc(function)
    for section in ("Parameters", "Returns", "Raises", "Notes", "Examples"):
        assert f"\n{section}\n{'-' * len(section)}\n" in text
    for parameter in inspect.signature(function).parameters:
        assert f"\n{parameter} : " in text or f"\n*{parameter} : " in text or f"\n**{parameter}\n" in text, parameter
    run_examples(function)


@pytest.mark.parametrize("function", OF_THE_KIT, ids=lambda function: function.__name__)
def test_docstring_of_the_kit_says_what_goes_in_and_out_and_its_examples_are_true(function):
    text = inspect.getdoc(function)
    for section in ("Parameters", "Returns", "Raises", "Examples"):
        assert f"\n{section}\n{'-' * len(section)}\n" in text
    for parameter in inspect.signature(function).parameters:
        assert re.search(rf"(^|, )\**{parameter}(, .*)? : |(^|, )\*\*{parameter}$", text, re.MULTILINE), parameter
    run_examples(function)


def run_examples(function):
    runner = doctest.DocTestRunner()
    for test in doctest.DocTestFinder(recurse=False).find(function, function.__name__, globs={}):
        assert test.examples
        assert runner.run(test).failed == 0


@pytest.mark.parametrize("function", PUBLIC, ids=xpent.__all__)
def test_arrays_are_positional_and_options_are_keywords(function):
    kinds = [parameter.kind for parameter in inspect.signature(function).parameters.values()]
    if function not in (xpent.grad, xpent.value_and_grad, xpent.jvp):
        assert inspect.Parameter.POSITIONAL_OR_KEYWORD not in kinds
    assert kinds[0] is inspect.Parameter.POSITIONAL_ONLY


def test_every_file_says_what_it_is():
    for file in FILES:
        assert ast.get_docstring(ast.parse(file.read_text())), file
