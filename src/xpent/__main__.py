"""The command line: `xpent check`."""

from __future__ import annotations

import argparse
import sys

from xpent import __version__


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status: 0 if all holds, 1 if a check fails, 2 for wrong usage."""
    parser = argparse.ArgumentParser(prog="xpent", description="Accurate cross-entropy on every array library.")
    parser.add_argument("--version", action="version", version=f"xpent {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    check = commands.add_parser(
        "check",
        help="check every installed library against exact values, its own functions and its autodiff",
        description="Check xpent on every installed library against exact values, the library's own functions and its "
        "autodiff, then train on real data. Exit status: 0 if everything holds, 1 if a check fails, 2 for wrong usage.",
    )
    check.add_argument("--json", action="store_true", help="print JSON for machines")
    options = parser.parse_args(arguments)
    try:
        from xpent.conformance import report
    except ModuleNotFoundError as error:
        print(f"xpent check needs {error.name}: python -m pip install 'xpent[check]'", file=sys.stderr)
        return 2
    return 0 if report.run(as_json=options.json) else 1


if __name__ == "__main__":
    sys.exit(main())
