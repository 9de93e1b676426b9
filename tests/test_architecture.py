"""The allowed imports of each module, and complete docstrings with correct examples."""

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
PUBLIC = [getattr(xpent, name) for name in xpent.__all__]
OF_THE_SUITE = [conformance.check, conformance.parametrize, conformance.target, conformance.implementation]


# A layer may import the layers after it; modules of one package may import each other.
LAYERS = (
    {"optax"},
    {"jax", "scipy", "torch"},
    {"_weighted"},
    {"__init__"},
    {"_functions", "_transforms"},
    {"_arguments"},
    {"_losses"},
    {"_engine"},
    {"_backends"},
)
NAMES_OF_LIBRARIES = {"numpy", "np", "torch", "pytorch", "jax", "jnp", "cupy", "dask", "mlx", "compat"}
DROP_INS = {"jax", "optax", "torch"}  # each is for one library, which it may import
MODULES_OF = {
    "numpy": {"_backends.numpy", "_backends.jax"},  # NumPy is a dependency of JAX
    "torch": {"_backends.torch", "_backends.torch_autograd", "_backends.torch_private"},
    "jax": {"_backends.jax"},
    "array_api_compat": {"_backends.base", "_backends.registry"},
}
ALLOWED = {f"_backends.{name}" for name in ("base.Array", "base.Backend", "base.DType")} | {
    f"_backends.registry.{name}" for name in ("as_arrays", "backend_of", "call_key", "namespace_of")
}


def name_of(file):
    return file.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", ".")


CORE = [
    file
    for file in FILES
    if not {"conformance", "bench"} & set(file.relative_to(PACKAGE).parts) and file.name != "__main__.py"
]
ABOVE_BACKENDS = [file for file in CORE if name_of(file).partition(".")[0] not in {"_backends", *DROP_INS}]


def imports(file):
    """The full names of everything that a file imports, at the top or inside functions."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and re.fullmatch(r"xpent(\.\w+)+", str(node.value)):
            yield node.value  # modules imported by importlib


def imports_of_xpent(file):
    """The names, within the package, of everything that a file imports from it."""
    return [name.removeprefix("xpent.") for name in imports(file) if name.partition(".")[0] == "xpent"]


def layer_of(name):
    """The number of the layer of a module, or of a name in it, within the package."""
    (number,) = [i for i, names in enumerate(LAYERS) if name.partition(".")[0] in names]
    return number


def docstring_nodes(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            yield node.body[0].value


def is_library(node):
    """Whether the name of an expression is that of a backend or an array namespace."""
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    return name in ("backend", "kernels", "blocks", "of_data", "of_array", "xp")


def names_of_library(file, library):
    """The full names of the functions and modules of a library that a file uses by dotted names."""
    tree, full_names = ast.parse(file.read_text()), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                full_names[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom):
            full_names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    used = {*imports(file)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            root, _, rest = ast.unparse(node).partition(".")
            used.add(f"{full_names.get(root, root)}.{rest}")
    return {name for name in used if re.fullmatch(rf"{library}(\.\w+)+", name)}


@pytest.mark.library("numpy", "torch", "jax", "jax-jit")  # libraries that are not installed cannot be imported
def test_importing_xpent_imports_no_array_library():
    code = "import sys, xpent; print(*sorted(name.partition('.')[0] for name in sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "xpent" in found
    assert not {"numpy", "torch", "jax", "scipy", "cupy", "dask", "rich", "mpmath"} & set(found)


def test_every_core_module_belongs_to_a_layer():
    assert {layer_of(name_of(file)) for file in CORE} == set(range(len(LAYERS)))


@pytest.mark.parametrize("file", CORE, ids=name_of)
def test_imports_point_to_lower_layers_only(file):
    own = name_of(file)
    for name in imports_of_xpent(file):
        is_in_own_package = "." in own and name.partition(".")[0] == own.partition(".")[0]
        assert is_in_own_package or layer_of(name) > layer_of(own), name


@pytest.mark.parametrize("file", ABOVE_BACKENDS, ids=name_of)
def test_modules_above_the_backends_do_not_name_a_library(file):
    tree = ast.parse(file.read_text())
    docstrings = {id(docstring) for docstring in docstring_nodes(tree)}
    for node in ast.walk(tree):
        words = [getattr(node, field, None) for field in ("id", "attr", "arg", "name", "asname", "module")]
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            words.append(node.value)
        for word in words:
            named = set(re.split(r"[^a-z]+", word.lower())) & NAMES_OF_LIBRARIES if isinstance(word, str) else ()
            assert not named, f"line {node.lineno}: {word}"


@pytest.mark.parametrize("file", ABOVE_BACKENDS, ids=name_of)
def test_modules_above_the_backends_do_not_test_which_library_is_used(file):
    for name in imports_of_xpent(file):
        if name.startswith("_backends."):
            assert name in ALLOWED, name
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
            asks = node.func.id in ("isinstance", "issubclass", "type", "hasattr", "getattr", "str", "repr")
            assert not (asks and is_library(node.args[0])), f"line {node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.Attribute) and is_library(node.value):
            assert node.attr not in ("__name__", "__module__", "__class__"), f"line {node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.Compare):
            others = [other for other in (node.left, *node.comparators) if not is_library(other)]
            asks = len(others) <= len(node.comparators) and ast.unparse(node.comparators[0]) != "None"
            assert not asks, f"line {node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize("library", MODULES_OF)
def test_only_its_backend_imports_a_library(library):
    importers = {name_of(file) for file in CORE if any(name.partition(".")[0] == library for name in imports(file))}
    assert {name for name in importers if name.partition(".")[0] not in DROP_INS} == MODULES_OF[library]


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_private_interfaces_of_a_library_are_used_in_one_module(library):
    found = {
        f"{name_of(file)}: {name}"
        for file in CORE
        if name_of(file) != "_backends.torch_private"
        for name in names_of_library(file, library)
        if any(part.startswith("_") and not part.startswith("__") for part in name.split("."))
    }
    assert not found


@pytest.mark.parametrize("extra", ["conformance", "bench"])
def test_only_the_command_line_imports_the_extras(extra):
    for file in FILES:
        if extra not in file.parts and file.name != "__main__.py":
            assert not any(name.startswith(f"xpent.{extra}") for name in imports(file)), file


CONFORMANCE = [file for file in FILES if "conformance" in file.parts]


@pytest.mark.parametrize(
    "file", [f for f in CONFORMANCE if name_of(f) != "conformance.implementations.ours"], ids=name_of
)
def test_only_one_module_of_the_extras_imports_the_functions_of_xpent(file):
    for name in imports(file):
        is_of_the_suite = name.startswith("xpent.conformance") or name == "xpent.__version__"
        assert is_of_the_suite or name.partition(".")[0] != "xpent", name


def test_all_lists_exactly_the_public_functions():
    functions = {name for name, value in vars(xpent).items() if callable(value) and not name.startswith("_")}
    assert set(xpent.__all__) == functions
    assert xpent.__all__ == sorted(xpent.__all__)


@pytest.mark.parametrize("function", PUBLIC, ids=xpent.__all__)
def test_docstring_describes_every_parameter_and_its_examples_pass(function):
    text = inspect.getdoc(function)
    for section in ("Parameters", "Returns", "Raises", "Notes", "Examples"):
        assert f"\n{section}\n{'-' * len(section)}\n" in text
    for parameter in inspect.signature(function).parameters:
        assert f"\n{parameter} : " in text or f"\n*{parameter} : " in text or f"\n**{parameter}\n" in text, parameter
    run_examples(function)


@pytest.mark.parametrize("function", OF_THE_SUITE, ids=lambda function: function.__name__)
def test_docstring_of_the_suite_describes_every_parameter_and_its_examples_pass(function):
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


def test_every_module_has_a_docstring():
    for file in FILES:
        assert ast.get_docstring(ast.parse(file.read_text())), file
