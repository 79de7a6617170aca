"""A supervisor's connection to its coordinator: made again whenever it ends, for as long as the supervisor lives."""

from __future__ import annotations

import asyncio
import random
from typing import Callable

from stowage_worker.codec import TO_SUPERVISOR, FromSupervisor, ToSupervisor
from stowage_worker.messages import Hello, MessageError, Refused, Welcome
from stowage_worker.output import say
from stowage_worker.wire import Backoff, Connection, dial

FAILURES_TILL_TOLD = 5
"""Fewer are usual while coordinator and supervisors start together."""


class CoordinatorLine:
    """One at most at a time; what is said while there is none is lost.

    Args:
        host: where the coordinator is; a name is looked up for each connection.
        port: where it listens.
        generator: jitter.
        hello: the first words of each connection.
        take: told all that the coordinator says; after `Welcome` something can be said.
    """

    def __init__(
        self,
        host: str,
        port: int,
        generator: random.Random,
        hello: Callable[[], Hello],
        take: Callable[[ToSupervisor], None],
    ) -> None:
        self._host = host
        self._port = port
        self._backoff = Backoff(generator)
        self._hello = hello
        self._take = take
        self._connection: Connection | None = None
        self._refusal = ""

    @property
    def is_welcome(self) -> bool:
        """Whether the coordinator listens now."""
        return self._connection is not None

    def tell(self, message: FromSupervisor) -> None:
        """Say something, if anybody listens."""
        if self._connection is not None:
            self._connection.send(message)

    async def keep(self) -> None:
        """Connect, and again whenever the connection ends."""
        failures = 0
        while True:
            try:
                connection = await dial(self._host, self._port)
            except OSError as error:
                failures += 1
                if failures == FAILURES_TILL_TOLD:
                    say(f"coordinator {self._host}:{self._port}: {error}; trying on")
            else:
                try:
                    if await self._listen(connection):
                        failures = 0
                except MessageError as error:
                    say(f"coordinator: {error}")
                finally:
                    self._connection = None
                    connection.abort()
            await asyncio.sleep(self._backoff.next_seconds())

    def close(self) -> None:
        """End the connection after what was said."""
        if self._connection is not None:
            self._connection.close()

    async def _listen(self, connection: Connection) -> bool:
        """Until the connection ends; whether it was welcomed."""
        connection.send(self._hello())
        while True:
            message = await connection.receive(TO_SUPERVISOR)
            if message is None:
                return self._connection is not None
            if isinstance(message, Refused):
                if message.reason != self._refusal:  # once, for it may go on for hours
                    say(f"coordinator refuses this supervisor: {message.reason}; trying on")
                self._refusal = message.reason
                continue
            if isinstance(message, Welcome):
                self._refusal = ""
                self._connection = connection
                self._backoff.reset()
            self._take(message)
