#!/usr/bin/env python3
"""Makes the programs that check the chart available and prints the folder that holds them.

    python tools/check_tools.py            build or copy what is missing, print the folder
    python tools/check_tools.py --check    say what is there and what is missing; exit 1 if something is

helm, kubeconform, promtool and helm-docs, in the versions of tools/checks/*/go.mod and of nothing else. Each is taken
from the first place that has it in that version: the cache, the folder STOWAGE_TOOLS_BIN, PATH, a build from source.
The cache is that of cluster_tools.py, and so is all else.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import cluster_tools
from cluster_tools import Module, read_module

CHECKS = cluster_tools.TOOLS / "checks"


def modules() -> list[Module]:
    """The modules that are pinned for checks."""
    return [
        read_module(CHECKS / "helm", "helm.sh/helm/v4", version_variable="helm.sh/helm/v4/internal/version.version"),
        read_module(CHECKS / "kubeconform", "github.com/yannh/kubeconform", version_variable="main.version"),
        read_module(CHECKS / "helm-docs", "github.com/norwoodj/helm-docs", version_variable="main.version"),
        read_module(
            CHECKS / "prometheus",
            "github.com/prometheus/prometheus",
            version_variable="github.com/prometheus/common/version.Version",
            # promtool would bring the clients of all clouds; rules need none
            tags="remove_all_sd",
        ),
    ]


def programs_folder() -> Path:
    """The folder with all programs; what is missing is copied or built."""
    places = (os.environ.get("STOWAGE_TOOLS_BIN"), os.environ.get("PATH", os.defpath))
    return cluster_tools.filled(cache_folder(), modules(), os.pathsep.join(filter(None, places)))


def cache_folder() -> Path:
    """Where the programs of exactly these pins are kept."""
    return cluster_tools.cache_folder(CHECKS)


def check() -> int:
    """Prints for each program where it would come from; 1 if one has to be built."""
    return cluster_tools.where(modules(), cache_folder())


if __name__ == "__main__":
    sys.exit(cluster_tools.command_line("Make the programs that check the chart available.", programs_folder, check))
