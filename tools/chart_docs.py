#!/usr/bin/env python3
"""Writes the chart's README from its template and the comments of values.yaml; with --check only compares.

python tools/chart_docs.py            write helm/stowage/README.md
python tools/chart_docs.py --check    exit 1 when it is not up to date
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import check_tools
import cluster_tools

CHART: Path = cluster_tools.ROOT / "helm" / "stowage"
README: Path = CHART / "README.md"


def rendered() -> str:
    """What the README has to say.

    Raises:
        subprocess.CalledProcessError: the template or the values cannot be read.
        cluster_tools.ToolsError: helm-docs cannot be had.
    """
    program = check_tools.programs_folder() / "helm-docs"
    command: list[str | Path] = [program, "--dry-run", "--log-level", "error"]
    command += ["--chart-search-root", CHART, "--sort-values-order", "file"]
    words = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603
    return words.strip() + "\n"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Write the chart's README.")
    parser.add_argument("--check", action="store_true", help="write nothing, say whether it is up to date")
    arguments = parser.parse_args()
    try:
        text = rendered()
    except subprocess.CalledProcessError as error:
        print(f"chart: helm-docs: {error.stderr.strip()}", file=sys.stderr)
        return 1
    except (cluster_tools.ToolsError, OSError) as error:
        print(f"chart: {error}", file=sys.stderr)
        return 1
    if not arguments.check:
        README.write_text(text, encoding="utf-8")
        print(f"written: {README}")
    elif not README.is_file() or README.read_text(encoding="utf-8") != text:
        print(f"not up to date: {README} (run `python tools/chart_docs.py`)", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
