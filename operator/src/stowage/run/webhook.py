"""The admission webhook over HTTP: a question in, a verdict out, or a clear failure that `failurePolicy` answers for.

It is not authenticated: it changes nothing and says nothing but what it thinks of the object it is shown.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar, TypeVarTuple

import msgspec
from aiohttp import web

from stowage.act.policies import list_policies
from stowage.admission import review
from stowage.admission.judge import MODELS, concerns, judge
from stowage.admission.known import Known
from stowage.admission.review import Request, UnreadableReviewError
from stowage.admission.verdict import ALLOWED, Verdict
from stowage.api.packing_plan import PackingPlan
from stowage.api.packing_policy import PackingPolicy
from stowage.api.resource import InvalidObjectError
from stowage.decide.training.promql_rules import PromqlRule
from stowage.run.catalogue import Reviewed
from stowage.transport import Api, ApiError, NotFound, paths
from stowage_scheduler.cluster import Snapshot

MAX_BODY_BYTES: Final = 8 * 1024 * 1024  # old and new object, each at most what etcd takes
READ_SECONDS: Final = 2.0
ANSWER_SECONDS: Final = 4.0  # less than the API server waits, so that the failure has our words
AT_ONCE: Final = 8  # bodies held in memory; the others wait
THREADS: Final = 2
OTHER_KIND: Final = "Other"

Answer = TypeVar("Answer")
Arguments = TypeVarTuple("Arguments")

logger = logging.getLogger(__name__)


OnAnswer = Callable[[str, str, float], None]
"""Called after each question with the kind of object, the outcome and the seconds it took."""


class Webhook:
    """Answers AdmissionReviews.

    Args:
        api: where the policy that a plan names, or the other policies, are read for each question.
        snapshot: the cluster as it was last seen; None while not all of it has been.
        promql_rules: those of the settings, by name; None: they are not known.
        on_answer: told of each answer.
    """

    def __init__(
        self,
        api: Api,
        snapshot: Callable[[], Snapshot | None],
        *,
        promql_rules: Mapping[str, PromqlRule] | None = None,
        on_answer: OnAnswer = lambda _kind, _outcome, _seconds: None,
    ) -> None:
        self._api = api
        self._snapshot = snapshot
        self._promql_rules = promql_rules
        self._on_answer = on_answer
        self._places = asyncio.Semaphore(AT_ONCE)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="webhook")

    def app(self, path: str) -> web.Application:
        """The application that answers at `path`."""
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_post(path, self._post)
        app.on_cleanup.append(self._close)
        return app

    async def _close(self, _: web.Application) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _post(self, http: web.Request) -> web.Response:
        loop = asyncio.get_running_loop()
        started, kind, outcome = loop.time(), OTHER_KIND, Reviewed.FAILED
        try:
            if http.content_type != "application/json":
                return _failure(415, f"Content-Type is {http.content_type}; send application/json")
            async with asyncio.timeout(ANSWER_SECONDS), self._places:
                request = await self._aside(review.decode, await http.read())
                kind = request.kind.kind if request.kind.kind in MODELS else OTHER_KIND
                verdict = await self._verdict(request)
            outcome = Reviewed.ALLOWED if verdict.allowed else Reviewed.DENIED
            _tell(request, verdict)
            return web.Response(
                body=msgspec.json.encode(review.answer(request, verdict)), content_type="application/json"
            )
        except UnreadableReviewError as error:
            return _failure(400, str(error))
        except TimeoutError:
            return _failure(500, f"no verdict within {ANSWER_SECONDS:g} s; failurePolicy decides")
        except web.HTTPException:
            raise
        except Exception:  # the one place where a mistake of ours is answered, so that the process goes on
            logger.exception("the webhook failed on a %s", kind)
            return _failure(500, "an error in Stowage, told in its log; failurePolicy decides")
        finally:
            self._on_answer(kind, outcome.value, loop.time() - started)

    async def _verdict(self, request: Request) -> Verdict:
        if not concerns(request):
            return ALLOWED
        return await self._aside(judge, request, await self._known(request))

    async def _known(self, request: Request) -> Known:
        """The objects around the one in question; policies are read now, for a watch may lag behind `kubectl apply`."""
        snapshot = self._snapshot()
        try:
            async with asyncio.timeout(READ_SECONDS):
                if request.kind.kind == PackingPlan.kind_name():
                    policies = await self._policy_of(request.object or {})
                else:
                    policies = {one.name: one for one in await list_policies(self._api)}
        except TimeoutError:
            words = f"PackingPolicies were not read within {READ_SECONDS:g} s"
            return Known(None, words, snapshot, self._promql_rules)
        except (ApiError, InvalidObjectError) as error:
            return Known(None, str(error), snapshot, self._promql_rules)
        return Known(policies, snapshot=snapshot, promql_rules=self._promql_rules)

    async def _policy_of(self, plan: dict[str, Any]) -> dict[str, PackingPolicy]:
        spec = plan.get("spec")
        name = spec.get("policy") if isinstance(spec, dict) else None
        if not isinstance(name, str) or not name:
            return {}  # the plan is refused for that
        try:
            return {name: PackingPolicy.parse_stored(await self._api.get(paths.packing_policy(name)))}
        except NotFound:
            return {}

    async def _aside(self, work: Callable[[*Arguments], Answer], *arguments: *Arguments) -> Answer:
        """Do what may take tens of milliseconds in a thread, so that the rest of the process goes on."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)


def _tell(request: Request, verdict: Verdict) -> None:
    if not verdict.allowed:
        dry = " (dry run)" if request.dry_run else ""
        words = "; ".join(str(problem) for problem in verdict.problems)
        logger.info("refused %s of %s %s%s: %s", request.operation, request.kind.kind, request.name, dry, words)


def _failure(status: int, words: str) -> web.Response:
    return web.Response(status=status, text=f"stowage webhook: {words}\n")
