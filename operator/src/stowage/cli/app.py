"""All commands together, and the one place where errors become exit codes."""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import typer

from stowage.cli import approval, demo, doctor, drain, dump, plan, plan_serving, processes, profile, simulate, top, why
from stowage.cli.errors import CommandError, ExitCode

_SHOW_TRACEBACK = "STOWAGE_TRACEBACK"

app = typer.Typer(
    name="stowage",
    help="Packs, heals and scales AI workloads on Kubernetes.",
    epilog="Exit codes: 0 ok, 1 negative answer, 2 usage or input error, 3 cluster or network error.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("plan", short_help="Compute a packing plan; change nothing.")(plan.plan)
app.command("plan-serving", short_help="Rank the layouts that serve a model on given GPUs.")(plan_serving.plan_serving)
app.command("dump", short_help="Write the cluster to a file for plan -f.")(dump.dump)
app.command("why", short_help="Explain why a pod is pending, or what a node holds.")(why.why)
app.command("approve", short_help="Approve a proposed plan.")(approval.approve)
app.command("abort", short_help="Stop a plan.")(approval.abort)
app.command("pause", short_help="Stop all planning and eviction of a policy.")(approval.pause)
app.command("resume", short_help="Let a paused policy act again.")(approval.resume)
app.command("drain", short_help="Empty nodes by a plan that has a place for every pod.")(drain.drain)
app.command("top", short_help="Show how full nodes and GPUs are.")(top.top)
app.add_typer(simulate.simulate, short_help="Replay recorded workloads.")
app.command("profile", short_help="Make a PerformanceProfile from measurements.")(profile.profile)
app.command("demo", short_help="Show it all on a simulated cluster.")(demo.demo)
app.command("doctor", short_help="Check the installation.")(doctor.doctor)
app.command("operator", short_help="Run the operator.")(processes.operator)
app.command("extender", short_help="Run the extender beside a kube-scheduler.")(processes.extender)
app.command("activator", short_help="Run the activator of a model service.")(processes.activator)
app.command("version", short_help="Print the version.")(processes.version)


def program_name(argument_zero: str) -> str:
    """What the user typed: `kubectl stowage` when kubectl found us as its plugin."""
    return "kubectl stowage" if Path(argument_zero).name == "kubectl-stowage" else "stowage"


def run(arguments: Sequence[str], *, program: str = "stowage") -> int:
    """Runs one command and returns its exit code; never raises."""
    try:
        app(args=list(arguments), prog_name=program)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else ExitCode.OK
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # the reader of our output left (`stowage dump | head`): no error, and nobody to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except Exception as error:  # noqa: BLE001 - the last line of defence: a user gets a line, not a traceback
        if os.environ.get(_SHOW_TRACEBACK):
            traceback.print_exc()
        code, line = _explained(error)
        print(f"{program}: {_one_line(line)}", file=sys.stderr)
        return code
    return ExitCode.OK


def main() -> None:
    """Entry point of the console scripts."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names may hold what the terminal's encoding lacks
    sys.exit(run(sys.argv[1:], program=program_name(sys.argv[0])))


def _explained(error: Exception) -> tuple[int, str]:
    """Exit code and words for an error that ended a command."""
    if isinstance(error, CommandError):
        return error.code, str(error)
    # imported only now: a command that works must not pay for it
    from stowage.transport.errors import ApiError, CredentialsError
    from stowage_scheduler.kube.dump import DumpError

    if isinstance(error, ApiError | CredentialsError):
        return ExitCode.CLUSTER, str(error)
    if isinstance(error, DumpError):
        return ExitCode.USAGE, str(error)
    if isinstance(error, OSError):
        return ExitCode.USAGE, f"{error.filename}: {error.strerror}" if error.filename else str(error)
    hint = f"please report it with the output of {_SHOW_TRACEBACK}=1"
    return ExitCode.USAGE, f"internal error: {type(error).__name__}: {error} ({hint})"


def _one_line(text: str, longest: int = 500) -> str:
    line = " ".join(text.split())
    return line if len(line) <= longest else line[: longest - 1] + "…"
