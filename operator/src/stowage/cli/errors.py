"""Exit codes, and the errors that end a command with one line on standard error."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What a command's exit code says."""

    OK = 0
    NEGATIVE = 1  # a clear answer, and it is no
    USAGE = 2  # wrong usage or input
    CLUSTER = 3  # the cluster or the network failed


class CommandError(Exception):
    """Ends a command: the message is shown as one line, `code` is the exit code."""

    code = ExitCode.USAGE


class InputError(CommandError):
    """A file, an argument or an object that cannot be used."""

    code = ExitCode.USAGE


class ClusterError(CommandError):
    """The cluster could not be reached, or refused."""

    code = ExitCode.CLUSTER
