"""The fixture ``xp`` runs a test on every selected library, dtype and device."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import itertools
import operator
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from xpent.conformance import libraries
from xpent.conformance.dtypes import EPSILON

MODULES = {
    "numpy": "numpy",
    "array-api-strict": "array_api_strict",
    "torch": "torch",
    "jax": "jax",
    "jax-jit": "jax",
    "cupy": "cupy",
    "dask": "dask.array",
}
ONLY_ON_REQUEST = {"cupy", "dask"}
ALL_DTYPES = ("float64", "float32", "float16", "bfloat16")
DTYPES = {
    "torch": ALL_DTYPES,
    "jax": ("float32",),
    "jax-jit": ("float64",),
    "array-api-strict": ("float64", "float32"),
    "dask": ("float32",),
}
# Compilation dominates the time of tests on JAX, so by default they use one dtype with and one without jit, and a third
# dtype for tests of rounding. The conformance suite tests jitted functions in float32. --thorough tests all dtypes.
DTYPES_OF_ROUNDING = DTYPES | {"jax": ("float32", "bfloat16")}
THOROUGH_DTYPES = DTYPES | {"jax": ALL_DTYPES, "jax-jit": ALL_DTYPES}

# Test runs are reproducible by default; with --thorough, Hypothesis generates new examples in each run.
settings.register_profile("default", max_examples=25, deadline=None, derandomize=True, database=None)
settings.register_profile("thorough", max_examples=500, deadline=None, print_blob=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("xpent")
    group.addoption(
        "--backend", action="append", choices=list(MODULES), help="library to test, repeatable; default: all installed"
    )
    group.addoption("--device", default="cpu", help="device to test on, in the notation of the library")
    group.addoption("--thorough", action="store_true", help="test all dtypes, with more random examples")


def pytest_configure(config: pytest.Config) -> None:
    for backend in config.getoption("--backend") or ():
        if not _is_installed(backend):
            raise pytest.UsageError(f"--backend {backend}: {MODULES[backend]} is not installed")
    settings.load_profile("thorough" if config.getoption("--thorough") else "default")
    backends = _backends(config)
    if "jax" in backends or "jax-jit" in backends:
        import jax

        jax.config.update("jax_enable_x64", True)
        jax.config.update("jax_num_cpu_devices", 2)  # for tests with device meshes
        jax.config.update("jax_numpy_dtype_promotion", "strict")
    if "dask" in backends:
        import dask

        dask.config.set(scheduler="synchronous")  # np.errstate applies to one thread
    if "array-api-strict" in backends:
        import array_api_strict

        array_api_strict.set_array_api_strict_flags(
            boolean_indexing=False, data_dependent_shapes=False, enabled_extensions=()
        )


def _is_installed(backend: str) -> bool:
    return importlib.util.find_spec(MODULES[backend].partition(".")[0]) is not None


def _backends(config: pytest.Config) -> list[str]:
    selected = config.getoption("--backend")
    return selected or [name for name in MODULES if name not in ONLY_ON_REQUEST and _is_installed(name)]


@dataclass(frozen=True)
class Library:
    """An array library, and the floating-point dtype and device of a test."""

    name: str
    dtype_name: str
    device: str

    @property
    def library(self) -> libraries.Library:
        return libraries.library(MODULES[self.name], self.device)

    @property
    def module(self) -> Any:
        return self.library.xp

    @property
    def u(self) -> float:
        """Half the machine epsilon of the dtype."""
        return EPSILON[self.dtype_name] / 2

    @property
    def u_computed(self) -> float:
        """Half the machine epsilon of the dtype of intermediate results and losses, at least float32."""
        return min(self.u, EPSILON["float32"] / 2)

    @property
    def is_traced(self) -> bool:
        """Whether the function in `call` cannot read the data of its arguments."""
        return self.name in ("jax-jit", "dask") or self.device != "cpu"

    def asarray(self, values: Any, dtype: str | None = None) -> Any:
        """Create an array; by default, floating-point numbers have the dtype under test and others that of NumPy."""
        values = np.asarray(values)
        return self.library.asarray(
            values, dtype or (self.dtype_name if values.dtype.kind == "f" else str(values.dtype))
        )

    def to_numpy(self, array: Any) -> Any:
        """Convert an array to NumPy; floating-point numbers become float64."""
        with np.errstate(all="ignore"):  # Dask computes here, outside of the errstate of xpent
            return self.library.to_numpy(array)

    def dtype_of(self, array: Any) -> str:
        return str(array.dtype).rpartition(".")[2]

    def call(self, function: Any, *arrays: Any, **options: Any) -> Any:
        """Call ``function(*arrays, **options)``, for the library ``jax-jit`` under jit with traced arrays."""
        if self.name != "jax-jit":
            return function(*arrays, **options)
        import jax

        static = [name for name, value in options.items() if not isinstance(value, jax.Array)]
        return jax.jit(function, static_argnames=static)(*arrays, **options)


@pytest.fixture(autouse=True)
def _default_device_of_jax(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tests of JAX create arrays on the device under test."""
    marker = request.node.get_closest_marker("library")
    if marker is None or "jax" not in {*marker.args} & {*_backends(request.config)}:
        yield
        return
    import jax

    with jax.default_device(jax.devices(request.config.getoption("--device"))[0]):
        yield


@pytest.fixture(autouse=True)
def _same_random_tensors() -> None:
    """Seed PyTorch before each test, so that results do not depend on the order of tests."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(0)


@pytest.fixture
def device(request: pytest.FixtureRequest) -> str:
    """The device under test, in the notation of the library."""
    return str(request.config.getoption("--device"))


@pytest.fixture
def asarray(device: str) -> Any:
    """A function that creates torch tensors on the device under test."""
    import torch

    return functools.partial(torch.tensor, device=device)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "xp" not in metafunc.fixturenames:
        return
    device, dtypes = metafunc.config.getoption("--device"), DTYPES
    if metafunc.config.getoption("--thorough"):
        dtypes = THOROUGH_DTYPES
    elif metafunc.definition.get_closest_marker("rounding") is not None:
        dtypes = DTYPES_OF_ROUNDING
    libraries = [
        Library(name, dtype, device)
        for name in _backends(metafunc.config)
        for dtype in dtypes.get(name, ("float64", "float32", "float16"))
    ]
    metafunc.parametrize("xp", libraries, ids=lambda library: f"{library.name}-{library.dtype_name}")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Ignore test files of libraries that are not under test, because they may not be installed."""
    selected = {MODULES[backend] for backend in _backends(config)}
    others = {"torch", "jax"} - selected
    return any(collection_path.name.startswith(f"test_{library}") for library in others) or None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect tests that do not apply. Tests without a library run only together with those of NumPy."""
    applies = [_applies(item, config) for item in items]
    config.hook.pytest_deselected(items=list(itertools.compress(items, map(operator.not_, applies))))
    items[:] = itertools.compress(items, applies)


def _applies(item: pytest.Item, config: pytest.Config) -> bool:
    if item.get_closest_marker("thorough") is not None and not config.getoption("--thorough"):
        return False
    backends = set(_backends(config))
    library, only_for = item.get_closest_marker("library"), item.get_closest_marker("only_for")
    xp = item.callspec.params.get("xp") if hasattr(item, "callspec") else None
    if xp is None:
        return bool(backends & set(library.args if library else ("numpy",)))
    return (library is None or xp.name in library.args) and (only_for is None or only_for.args[0](xp))
