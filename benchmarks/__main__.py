"""`python -m benchmarks NAME [key=value...] [--json FILE]`: each prints its measure beside its bound."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

from configs import UserError, load

BENCHMARKS = {
    "quality": ("benchmarks.quality.restorers", "PSNR of every restorer at true parameters, beside classical ones."),
    "reward": ("benchmarks.throughput.reward", "Cost and ranking of a step's rewards, beside the paper's way."),
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=list(BENCHMARKS), help="; ".join(f"{k}: {v[1]}" for k, v in BENCHMARKS.items()))
    parser.add_argument("settings", nargs="*", metavar="key=value", help="settings, see `duvlm run --help`")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures there too")
    options = parser.parse_args(arguments)
    try:
        figures = importlib.import_module(BENCHMARKS[options.name][0]).run(load("evaluate", options.settings))
    except UserError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
