"""The private interfaces of PyTorch that xpent uses exist, and have been tested with the installed version."""

import ast
import functools
import inspect
import re

import pytest
import torch

from xpent._backends import torch_private

pytestmark = pytest.mark.library("torch")


def private_names():
    """The full names, starting with ``torch``, that the module uses by dotted names or imports."""
    tree = ast.parse(inspect.getsource(torch_private))
    full_names, used = {"torch": "torch"}, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("torch"):
            full_names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("torch."):
            full_names[node.targets[0].id] = ast.unparse(node.value)
    for node in ast.walk(tree):
        root, _, rest = ast.unparse(node).partition(".") if isinstance(node, ast.Attribute) else ("", "", "")
        if root in full_names:
            used.add(f"{full_names[root]}.{rest}")
    used |= set(full_names.values())
    return sorted(name for name in used if re.fullmatch(r"torch(\.\w+)+", name) and "._" in name)


@pytest.mark.parametrize("name", private_names())
def test_every_private_name_exists(name):
    functools.reduce(getattr, name.split(".")[1:], torch)


def test_all_private_names_are_found():
    assert {"torch._C._functorch.peek_interpreter_stack", "torch._C._is_tracing"} <= set(private_names())


def test_private_interfaces_have_been_tested_with_the_version_of_torch():
    oldest, newest = torch_private.VERSIONS
    installed = tuple(map(int, torch.__version__.split(".")[:2]))
    assert oldest <= installed <= newest, f"look at every function of torch_private, with torch {torch.__version__}"
