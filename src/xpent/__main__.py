"""The command line: `xpent check`, `xpent vectors` and `xpent bench`."""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import Any

from xpent import __version__


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status: 0 for success, 1 if a check fails, 2 for a usage error."""
    options, unknown = _parser().parse_known_args(arguments)
    if unknown:
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        command = importlib.import_module(options.module)
    except ModuleNotFoundError as error:
        print(f"{error}: in a clone of xpent, python -m pip install '.[{options.extra}]'", file=sys.stderr)
        return 2
    try:
        run = command.prepare(options)
    except Exception as error:  # importing a module of the user may raise anything
        options.parser.error(str(error) or type(error).__name__)
    return int(run())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="xpent", description="Accurate cross-entropy on every array library.")
    parser.add_argument("--version", action="version", version=f"xpent {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    _add_check(commands)
    _add_vectors(commands)
    _add_bench(commands)
    return parser


def _add_check(commands: Any) -> None:
    check = commands.add_parser(
        "check",
        help="check an implementation of cross-entropy against exact values, case by case",
        description="Check xpent on every installed library, or a function of yours, against exact values, case by "
        "case. Exit status: 0 if all checks pass, 1 if a check fails, 2 for a usage error.",
    )
    check.set_defaults(parser=check, module="xpent.conformance.command", extra="conformance")
    check.add_argument(
        "target", nargs="?", metavar="TARGET", help="module:function, or an instance of torch.nn.Module; default: xpent"
    )
    target = check.add_argument_group("options of TARGET")
    target.add_argument("--library", help="its array library: numpy (default), torch, jax or an array API namespace")
    target.add_argument("--device", help="device, in the notation of the library; default: cpu")
    target.add_argument("--signature", help="calling convention: xpent (default), torch or optax")
    target.add_argument(
        "--computes", metavar="FUNCTION", help="cross_entropy (default), linear_cross_entropy, softmax, ..."
    )
    target.add_argument(
        "--gradient", metavar="module:function", help="returns (value, gradient), for libraries without autodiff"
    )
    target.add_argument(
        "--without", action="append", metavar="FEATURE", help="unsupported feature: distributions, ...; repeatable"
    )
    target.add_argument(
        "--expected-failures", metavar="FILE",
        help='TOML with a line "case[dtype]" = "reason" for each; those that do not fail are errors',
    )  # fmt: skip
    selection = check.add_argument_group("selection of checks")
    selection.add_argument(
        "--dtype", action="append", default=[], help="float64, float32, float16 or bfloat16; repeatable"
    )
    selection.add_argument("--category", action="append", default=[], help="category of cases; repeatable")
    selection.add_argument("--case", action="append", default=[], help="id of a case; repeatable")
    selection.add_argument(
        "--all", action="store_true", help="run all cases in all dtypes, in JAX with XLA's optimizations"
    )
    selection.add_argument("--builtins", action="store_true", help="check the frameworks' own functions as well")
    selection.add_argument("--list", action="store_true", help="list all cases with a description of each, and exit")
    output = check.add_argument_group("report")
    output.add_argument("--json", action="store_true", help="print the report as JSON")
    output.add_argument("--html", metavar="FILE", help="also write the report as a self-contained HTML file")


def _add_vectors(commands: Any) -> None:
    vectors = commands.add_parser(
        "vectors",
        help="write the cases of the conformance suite as JSON, to test functions in any language",
        description="Write the cases of the conformance suite with their exact values and error bounds: one JSON file "
        "for each function, and the JSON schema of these files.",
    )
    vectors.set_defaults(parser=vectors, module="xpent.conformance.vectors", extra="conformance")
    vectors.add_argument("directory", metavar="DIR", help="output directory; created if it does not exist")
    vectors.add_argument(
        "--max-size", type=int, default=10_000, metavar="N",
        help="omit cases with more than N numbers in their inputs; default: 10000",
    )  # fmt: skip


def _add_bench(commands: Any) -> None:
    bench = commands.add_parser(
        "bench",
        help="measure the speed of xpent and of other implementations on this machine",
        description="Measure the times of xpent, of other implementations and of a plain copy, in interleaved rounds.",
    )
    bench.set_defaults(parser=bench, module="xpent.bench.command", extra="bench")
    bench.add_argument(
        "linear", nargs="?", choices=["linear"],
        help="measure the time and peak memory of a linear layer followed by cross-entropy",
    )  # fmt: skip
    selection = bench.add_argument_group("selection of measurements")
    selection.add_argument(
        "--function", action="append", help="loss, loss_and_gradient (default), softmax, ...; repeatable"
    )
    selection.add_argument(
        "--shape", action="append", default=[], help="ROWSxCLASSES; linear: ROWSxDEPTHxCLASSES; repeatable"
    )
    selection.add_argument(
        "--series",
        default="large",
        help="series of shapes: large (default), small, elements, classes; linear: large or classes",
    )
    selection.add_argument("--dtype", default="float32", help="float64, float32 (default), float16 or bfloat16")
    selection.add_argument("--device", default="cpu", help="cpu (default), or a device of PyTorch such as cuda")
    selection.add_argument("--library", action="append", default=[], help="numpy, torch or jax; repeatable")
    selection.add_argument("--peer", action="append", default=[], help="implementation to compare with; repeatable")
    selection.add_argument("--rounds", type=int, help="number of interleaved rounds; default: 15, linear: 5")
    selection.add_argument(
        "--memory", action="store_true", help="also measure peak memory, in separate processes; linear: always"
    )
    output = bench.add_argument_group("report")
    output.add_argument("--json", action="store_true", help="print the results as JSON")
    output.add_argument("--plot", metavar="FILE", help="plot time against size; linear: memory against classes")


if __name__ == "__main__":
    sys.exit(main())
