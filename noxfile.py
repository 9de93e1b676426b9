"""Development tasks: `nox` runs the default sessions, `nox -l` lists all."""

import shutil
from pathlib import Path
from typing import Any

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "virtualenv"
nox.options.sessions = ["lint", "types", "tests-numpy", "tests-torch", "tests-jax", "tests-dask"]
nox.options.reuse_existing_virtualenvs = True

# Tests on JAX spend most of their time in the XLA compiler. `xpent check` uses the same settings.
UNOPTIMIZED = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
)
NO_TESTS = 5  # exit status of pytest if no tests are collected

PYPROJECT = nox.project.load_toml("pyproject.toml")


def install(session: nox.Session, *groups: str, extras: tuple[str, ...] = ()) -> None:
    """Install xpent with extras and dependency groups, without compiling all installed files to bytecode."""
    package = f".[{','.join(extras)}]" if extras else "."
    session.install("--no-compile", "-e", package, *nox.project.dependency_groups(PYPROJECT, *groups))


@nox.session
def lint(session: nox.Session) -> None:
    """Run the Ruff linter and formatter."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Check the package with mypy in strict mode, and user code with mypy and pyright."""
    install(session, "types", extras=("conformance",))
    session.run("mypy")
    session.run("pytest", "tests/test_types.py", "--backend", "numpy")


def run_tests(session: nox.Session, backends: tuple[str, ...], *arguments: str, **options: Any) -> None:
    """Run pytest on some backends in two processes. Tests with the same xdist_group share a process."""
    chosen = [argument for backend in backends for argument in ("--backend", backend)]
    parallel = ("--numprocesses", "2", "--dist", "loadgroup")
    session.env["OMP_NUM_THREADS"] = "1"  # threads of each process
    session.run("pytest", *parallel, *chosen, *arguments, *session.posargs, **options)


@nox.session(name="tests-numpy")
def tests_numpy(session: nox.Session) -> None:
    """Run the tests on NumPy and array-api-strict, and those that need no array library."""
    install(session, "test", extras=("conformance", "bench"))
    run_tests(session, ("numpy", "array-api-strict"))


@nox.session(name="tests-torch")
def tests_torch(session: nox.Session) -> None:
    """Run the tests on PyTorch."""
    install(session, "test", "torch", extras=("conformance",))
    run_tests(session, ("torch",))


@nox.session(name="tests-jax")
def tests_jax(session: nox.Session) -> None:
    """Run the tests on JAX, eager and jitted. Those marked as unoptimized run without the optimizations of XLA."""
    install(session, "test", "jax", extras=("conformance",))
    env = {
        "JAX_COMPILATION_CACHE_DIR": str(session.cache_dir / "jax"),  # for both processes and later runs
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    success = [0, NO_TESTS] if session.posargs else [0]
    for expression, flags in (("not unoptimized", ""), ("unoptimized", UNOPTIMIZED)):
        chosen = ("-m", expression)
        run_tests(session, ("jax", "jax-jit"), *chosen, env={**env, "XLA_FLAGS": flags}, success_codes=success)


@nox.session(default=False)
def slow(session: nox.Session) -> None:
    """Run all tests in every dtype, with the optimizations of XLA and with more random examples."""
    install(session, "test", "torch", "jax", extras=("conformance", "bench"))
    run_tests(session, ("numpy", "array-api-strict", "torch", "jax", "jax-jit"), "--thorough")


@nox.session(name="tests-dask")
def tests_dask(session: nox.Session) -> None:
    """Run the tests of the contract on Dask."""
    install(session, "test", extras=("conformance",))
    session.install("dask[array]")
    run_tests(session, ("dask",), *map(str, sorted(Path("tests").glob("test_contract_*.py"))))


@nox.session(default=False)
def check(session: nox.Session) -> None:
    """Run the conformance suite on every library; ``-- --builtins`` also checks other implementations."""
    install(session, "builtins", extras=("conformance",))
    session.run("xpent", "check", *session.posargs)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Compare the speed of xpent with other implementations; ``-- --help`` lists the options."""
    install(session, "builtins", extras=("bench",))
    session.run("xpent", "bench", *session.posargs)


@nox.session(default=False)
def integrations(session: nox.Session) -> None:
    """Train models of other libraries with their losses and with the drop-in functions of xpent."""
    install(session, "integrations")
    session.env["OMP_NUM_THREADS"] = "1"  # more threads do not speed up small models
    for script in sorted(Path("examples/integrations").glob("*_*.py")):
        session.run("python", str(script))


@nox.session(default=False)
def minimums(session: nox.Session) -> None:
    """Run the tests on the oldest NumPy and array-api-compat that pyproject.toml allows."""
    install(session, "test", extras=("conformance", "bench"))
    project = PYPROJECT["project"]
    oldest = [*project["dependencies"], *project["optional-dependencies"]["numpy"]]
    session.install(*[requirement.replace(">=", "==") for requirement in oldest])
    run_tests(session, ("numpy",))


@nox.session(default=False)
def build(session: nox.Session) -> None:
    """Build the distributions, and import the wheel in an environment without array libraries."""
    session.install("build", "twine")
    folder = Path(session.create_tmp()) / "dist"
    shutil.rmtree(folder, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(folder))
    session.run("twine", "check", "--strict", *map(str, folder.iterdir()))
    session.install("--force-reinstall", *map(str, folder.glob("*.whl")))
    session.run("python", "-I", "-c", "import sys, xpent; print(xpent.__version__); assert 'numpy' not in sys.modules")
