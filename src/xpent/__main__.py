"""The command line: `xpent check` and `xpent bench`."""

from __future__ import annotations

import argparse
import sys
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpent import __version__

if TYPE_CHECKING:
    from xpent.conformance import Implementation


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status: 0 if all holds, 1 if a check fails, 2 for wrong usage."""
    parser = _parser()
    options = parser.parse_args(arguments)
    return _bench(parser, options) if options.command == "bench" else _check(parser, options)


def _bench(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    try:
        from xpent.bench import command
    except ModuleNotFoundError as error:
        print(f"{error}: in a clone of xpent, python -m pip install '.[bench]'", file=sys.stderr)
        return 2
    try:
        return command.run(options)
    except ValueError as error:
        parser.error(str(error))


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    try:
        from xpent.conformance import html, terminal
        from xpent.conformance.dtypes import DTYPES
        from xpent.conformance.implementations import BUILTINS, OURS
        from xpent.conformance.judge import check_dtypes, select
        from xpent.conformance.processes import check_all
        from xpent.conformance.run import check
    except ModuleNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    try:
        implementation = _target(options)
        dtypes = check_dtypes(options.dtype or DTYPES)
        cases = select(options.category, options.case)
        if options.html and not Path(options.html).parent.is_dir():
            raise ValueError(f"--html {options.html}: there is no such directory")
    except Exception as error:
        parser.error(str(error) or type(error).__name__)
    names = [*OURS, *(BUILTINS if options.builtins else ())]
    with terminal.progress() as bars:
        tasks: dict[str, Any] = {}

        def advance(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name)
            bars.update(tasks[name], completed=done, total=total)

        if implementation is None:
            report = check_all(names, cases, dtypes, advance)
        else:
            done = count(1)
            total = sum(dtype in dtypes for case in cases for dtype in case.dtypes)
            report = check(
                implementation, dtypes=dtypes, cases=[case.name for case in cases],
                progress=lambda outcome: advance(outcome.implementation, next(done), total),
            )  # fmt: skip
    if options.html:
        Path(options.html).write_text(html.to_html(report), encoding="utf-8")
    if options.json:
        print(report.to_json())
    else:
        terminal.print_report(report)
    return 0 if report.holds else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="xpent", description="Accurate cross-entropy on every array library.")
    parser.add_argument("--version", action="version", version=f"xpent {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    check = commands.add_parser(
        "check",
        help="check an implementation of cross-entropy against exact values, case by case",
        description="Check xpent on every installed library, or a function of yours, against exact values, case by "
        "case. Exit status: 0 if everything holds, 1 if a check fails, 2 for wrong usage.",
    )
    _add_bench(commands)
    check.add_argument("target", nargs="?", metavar="TARGET", help="module:function; default: xpent itself")
    yours = check.add_argument_group("of TARGET")
    yours.add_argument("--library", help="whose arrays it takes: numpy (default), torch, jax or an array API namespace")
    yours.add_argument("--device", help="device, as the library names it; default: cpu")
    yours.add_argument("--signature", help="how it is called: xpent (default), torch or optax")
    yours.add_argument(
        "--computes", metavar="FUNCTION", help="cross_entropy (default), linear_cross_entropy, softmax, ..."
    )
    yours.add_argument(
        "--gradient", metavar="module:function", help="returns (value, gradient), where there is no autodiff"
    )
    yours.add_argument(
        "--without", action="append", metavar="CLAIM", help="what it does not do: distributions, ...; repeatable"
    )
    what = check.add_argument_group("what to ask")
    what.add_argument("--dtype", action="append", default=[], help="float64, float32, float16 or bfloat16; repeatable")
    what.add_argument("--category", action="append", default=[], help="of cases; repeatable")
    what.add_argument("--case", action="append", default=[], help="one case by its name; repeatable")
    what.add_argument("--builtins", action="store_true", help="check the frameworks' own functions as well")
    answer = check.add_argument_group("the report")
    answer.add_argument("--json", action="store_true", help="print JSON for machines")
    answer.add_argument("--html", metavar="FILE", help="write one self-contained HTML file as well")
    return parser


def _add_bench(commands: Any) -> None:
    bench = commands.add_parser(
        "bench",
        help="measure how fast xpent is here, beside what one would have used instead",
        description="Times of xpent, of what one would have used instead and of a plain copy, taken in turn.",
    )
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


def _target(options: argparse.Namespace) -> Implementation | None:
    """The user's own function, or None for xpent itself."""
    from xpent.conformance.target import load, target

    names = ("library", "device", "signature", "computes", "gradient", "without")
    how = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if options.target is None:
        if how:
            raise ValueError(f"--{next(iter(how))} says something about TARGET, and there is none")
        return None
    if options.builtins:
        raise ValueError("--builtins are checked beside xpent, not beside TARGET")
    sys.path.insert(0, "")  # as `python -m` does, for the installed command
    how["lacks"] = dict.fromkeys(how.pop("without", []), "is not claimed")
    if "gradient" in how:
        how["value_and_grad"] = load(how.pop("gradient"))
    return target(load(options.target), name=options.target, **how)


if __name__ == "__main__":
    sys.exit(main())
