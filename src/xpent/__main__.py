"""The command line: `xpent check`, `xpent vectors` and `xpent bench`."""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import Any

from xpent import __version__


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status: 0 if all holds, 1 if a check fails, 2 for wrong usage."""
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
    except Exception as error:  # a module of the user's may raise anything when it is imported
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
        "case. Exit status: 0 if everything holds, 1 if a check fails, 2 for wrong usage.",
    )
    check.set_defaults(parser=check, module="xpent.conformance.command", extra="conformance")
    check.add_argument(
        "target", nargs="?", metavar="TARGET", help="module:function, or an instance of torch.nn.Module; default: xpent"
    )
    yours = check.add_argument_group("of TARGET")
    yours.add_argument("--library", help="whose arrays it takes: numpy, torch, jax or an array API namespace")
    yours.add_argument("--device", help="device, as the library names it; default: cpu")
    yours.add_argument("--signature", help="how it is called: xpent (default), torch or optax")
    yours.add_argument(
        "--computes", metavar="FUNCTION", help="cross_entropy (default), linear_cross_entropy, softmax, ..."
    )
    yours.add_argument(
        "--gradient", metavar="module:function", help="returns (value, gradient), where there is no autodiff"
    )
    yours.add_argument(
        "--without", action="append", metavar="CLAIM", help="what it does not claim: distributions, ...; repeatable"
    )
    yours.add_argument(
        "--expected-failures", metavar="FILE", help='TOML, one line for each: "case[dtype]" = "reason"; strict'
    )
    what = check.add_argument_group("what to check")
    what.add_argument("--dtype", action="append", default=[], help="float64, float32, float16 or bfloat16; repeatable")
    what.add_argument("--category", action="append", default=[], help="of cases; repeatable")
    what.add_argument("--case", action="append", default=[], help="one case by its id; repeatable")
    what.add_argument("--all", action="store_true", help="every case in every dtype on every library")
    what.add_argument("--builtins", action="store_true", help="check the frameworks' own functions as well")
    what.add_argument("--list", action="store_true", help="list all cases with what is special about each, and stop")
    answer = check.add_argument_group("the report")
    answer.add_argument("--json", action="store_true", help="print JSON for machines")
    answer.add_argument("--html", metavar="FILE", help="write one self-contained HTML file as well")


def _add_vectors(commands: Any) -> None:
    vectors = commands.add_parser(
        "vectors",
        help="write the cases of the conformance suite as JSON, for losses in any language",
        description="Write the cases of the conformance suite with their exact values and the errors allowed: one JSON "
        "file for each function, and the JSON schema of these files.",
    )
    vectors.set_defaults(parser=vectors, module="xpent.conformance.vectors", extra="conformance")
    vectors.add_argument("directory", metavar="DIR", help="where to write; it is made if it does not exist")
    vectors.add_argument(
        "--max-size", type=int, default=10_000, metavar="N",
        help="leave out cases with more than N numbers in their inputs; default: 10000",
    )  # fmt: skip


def _add_bench(commands: Any) -> None:
    bench = commands.add_parser(
        "bench",
        help="measure how fast xpent is here, beside what one would have used instead",
        description="Times of xpent, of what one would have used instead and of a plain copy, taken in turn.",
    )
    bench.set_defaults(parser=bench, module="xpent.bench.command", extra="bench")
    bench.add_argument(
        "linear", nargs="?", choices=["linear"],
        help="time and memory of a linear layer and cross-entropy, without the logits in between",
    )  # fmt: skip
    what = bench.add_argument_group("what to measure")
    what.add_argument("--function", action="append", help="loss, loss_and_gradient (default), softmax, ...; repeatable")
    what.add_argument("--shape", action="append", default=[], help="ROWSxCLASSES, linear: ROWSxDEPTHxCLASSES")
    what.add_argument("--series", default="bar", help="of shapes: bar, small, elements, classes; linear: bar, classes")
    what.add_argument("--dtype", default="float32", help="float64, float32, float16 or bfloat16")
    what.add_argument("--device", default="cpu", help="cpu (default), or that of PyTorch, like cuda")
    what.add_argument("--library", action="append", default=[], help="numpy, torch or jax; repeatable")
    what.add_argument("--peer", action="append", default=[], help="implementation to compare with; repeatable")
    what.add_argument("--rounds", type=int, help="rounds of interleaved measurements; default: 15, linear: 5")
    what.add_argument("--memory", action="store_true", help="peaks, too, each in a process of its own; linear: always")
    answer = bench.add_argument_group("the report")
    answer.add_argument("--json", action="store_true", help="print JSON for machines")
    answer.add_argument("--plot", metavar="FILE", help="an image: time against size; linear: memory against classes")


if __name__ == "__main__":
    sys.exit(main())
