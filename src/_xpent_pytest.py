"""The pytest plugin of xpent: ``pytest --xpent module:function`` makes a test of each case and dtype.

Every pytest run of an environment that has xpent imports this module. It is outside of the package, and imports nothing
of it until there is a function to check, so that all other runs start as fast as without it.
"""

from __future__ import annotations

import pytest

OPTIONS = {
    "xpent": ("module:function", "a cross-entropy to check against exact values, one test for each case and dtype"),
    "xpent-library": ("LIBRARY", "whose arrays it takes: numpy (default), torch, jax or an array API namespace"),
    "xpent-device": ("DEVICE", "device, as the library names it; default: cpu"),
    "xpent-signature": ("SIGNATURE", "how it is called: xpent (default), torch or optax"),
    "xpent-computes": ("FUNCTION", "cross_entropy (default), linear_cross_entropy, softmax, ..."),
    "xpent-gradient": ("module:function", "returns (value, gradient), where there is no autodiff"),
    "xpent-expected-failures": ("FILE", 'TOML, one line for each expected failure: "case[dtype]" = "reason"'),
}
REPEATABLE = {
    "xpent-without": ("CLAIM", "what it does not claim: distributions, ...; repeatable"),
    "xpent-dtype": ("DTYPE", "float64, float32, float16 or bfloat16; repeatable"),
    "xpent-category": ("CATEGORY", "of cases; repeatable"),
    "xpent-case": ("CASE", "one case by its id; repeatable"),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options to the command line, and to the configuration with underscores."""
    group = parser.getgroup("xpent", "conformance of a cross-entropy")
    for name, (metavar, text) in OPTIONS.items():
        group.addoption(f"--{name}", metavar=metavar, help=text)
        parser.addini(_key(name), text, type="string", default="")
    for name, (metavar, text) in REPEATABLE.items():
        group.addoption(f"--{name}", metavar=metavar, help=text, action="append", default=[])
        parser.addini(_key(name), text, type="linelist", default=[])


def pytest_configure(config: pytest.Config) -> None:
    """Register what collects the checks, if there is a function to check."""
    given = [name for name in (*OPTIONS, *REPEATABLE) if config.getoption(_key(name))]
    if not config.getoption("xpent") and not config.getini("xpent"):
        if given:
            raise pytest.UsageError(f"--{given[0]} describes the function of --xpent, and there is none")
        return
    names = [argument for argument in config.args if argument.startswith("xpent::")]
    has_paths = config.args_source is config.ArgsSource.ARGS and len(config.args) > len(names)
    if has_paths and not (given or names):
        return  # the configuration names a function, but other tests are asked for
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
