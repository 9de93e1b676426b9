"""The pytest plugin of xpent: ``pytest --xpent module:function`` adds one test for each case and dtype.

Every pytest run in an environment with xpent imports this module. It is outside the package, which it imports only if
there is a function to check, so that other runs do not start more slowly.
"""

from __future__ import annotations

import pytest

OPTIONS = {
    "xpent": ("module:function", "function to check against exact values, with one test for each case and dtype"),
    "xpent-library": ("LIBRARY", "its array library: numpy (default), torch, jax or an array API namespace"),
    "xpent-device": ("DEVICE", "device, in the notation of the library; default: cpu"),
    "xpent-signature": ("SIGNATURE", "calling convention: xpent (default), torch or optax"),
    "xpent-computes": ("FUNCTION", "cross_entropy (default), linear_cross_entropy, softmax, ..."),
    "xpent-gradient": ("module:function", "returns (value, gradient), for libraries without autodiff"),
    "xpent-expected-failures": ("FILE", 'TOML file with a line "case[dtype]" = "reason" for each expected failure'),
}
REPEATABLE = {
    "xpent-without": ("FEATURE", "unsupported feature: distributions, ...; repeatable"),
    "xpent-dtype": ("DTYPE", "float64, float32, float16 or bfloat16; repeatable"),
    "xpent-category": ("CATEGORY", "category of cases; repeatable"),
    "xpent-case": ("CASE", "id of a case; repeatable"),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options to the command line and, with underscores, to the configuration."""
    group = parser.getgroup("xpent", "conformance of a cross-entropy function")
    for name, (metavar, text) in OPTIONS.items():
        group.addoption(f"--{name}", metavar=metavar, help=text)
        parser.addini(_key(name), text, type="string", default="")
    for name, (metavar, text) in REPEATABLE.items():
        group.addoption(f"--{name}", metavar=metavar, help=text, action="append", default=[])
        parser.addini(_key(name), text, type="linelist", default=[])


def pytest_configure(config: pytest.Config) -> None:
    """Register the plugin that collects the checks if there is a function to check."""
    given = [name for name in (*OPTIONS, *REPEATABLE) if config.getoption(_key(name))]
    if not config.getoption("xpent") and not config.getini("xpent"):
        if given:
            raise pytest.UsageError(f"--{given[0]} describes the function of --xpent, which was not given")
        return
    names = [argument for argument in config.args if argument.startswith("xpent::")]
    has_paths = config.args_source is config.ArgsSource.ARGS and len(config.args) > len(names)
    if has_paths and not (given or names):
        return  # the function comes from the configuration, but the command line selects other tests
    try:
        from xpent.conformance.pytest_plugin import Plugin
    except ModuleNotFoundError as error:
        remedy = "in a clone of xpent, python -m pip install '.[conformance]'"
        raise pytest.UsageError(f"--xpent: {error}: {remedy}") from error
    values = {name: config.getoption(_key(name)) or config.getini(_key(name)) for name in (*OPTIONS, *REPEATABLE)}
    folder = config.invocation_params.dir if "xpent-expected-failures" in given else config.rootpath
    config.args = [argument for argument in config.args if argument not in names]
    config.pluginmanager.register(Plugin(config.rootpath, folder, values, names), "xpent-checks")


def _key(name: str) -> str:
    return name.replace("-", "_")
