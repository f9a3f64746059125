"""One call, from its request to what is to be kept of it. No job is known here, nor any row.

What goes wrong before the one request is sent is safe to try again, or never worth it. What becomes
of it once it was taken is for `workers.inference.await_result` to say.
"""

from typing import Final

from schema.accounts.vault import Secret
from schema.jobs.tables import Reason
from schema.specs.inference import CHAT, InferenceSpec, accepted
from schema.specs.inference_inputs import HUB, Media
from schema.specs.inputs import media_types
from schema.specs.inputs.hub_uri import HubPath
from workers.attempts.error_outcomes import HubTrouble, trouble
from workers.executor import Later, Means, Outcome, Refused, Report
from workers.hub.client import Ambiguous, Answered4xx, Unreached
from workers.inference import requests
from workers.inference.await_result import Clock, Taken, failed
from workers.inference.provider_requests import Given
from workers.inference.providers import Models, NotOffered, Offer, choose
from workers.inference.router import Loading, Received, Router, Sending, TooLarge
from workers.inputs.hub_files import HubFiles
from workers.inputs.url_fetcher import Fetcher, FetchFailed, FetchRefused

NOT_SENT: Final = "Not sent: "
_NOT_FOUND: Final = 404
_ROUTER: Final = "the router"


class _Over(Exception):
    """The call is over before there is an answer."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        super().__init__()


class Inference:
    """Makes calls to Inference Providers; one for each process, for it knows who offers what."""

    def __init__(self, means: Means, fetcher: Fetcher | None = None) -> None:
        self._router = Router(means.hub)
        self._models = Models(means.hub)
        self._fetcher = fetcher or Fetcher()
        self._files = HubFiles(means.hub, self._fetcher)
        self._limit = means.settings.call_bytes

    async def answer(
        self, spec: InferenceSpec, token: Secret, *, report: Report | None = None
    ) -> Outcome:
        """Make one call, once, and say how it went."""
        clock = Clock(spec.timeout)
        try:
            offer, sending = await self._prepared(spec, token, clock)
            received = await self._sent(spec, offer, sending, token, clock)
        except _Over as over:
            return over.outcome
        taken = Taken(
            router=self._router,
            fetcher=self._fetcher,
            limit=self._limit,
            spec=spec,
            provider=None if offer is None else offer.provider,
            path=sending.path,
            token=token,
            clock=clock,
            report=report,
        )
        return await taken.outcome(received)

    async def _prepared(
        self, spec: InferenceSpec, token: Secret, clock: Clock
    ) -> tuple[Offer | None, Sending]:
        if spec.task == CHAT:
            # Whoever offers it is for the router to find.
            return None, requests.for_chat(spec)
        try:
            offered = await self._models.find(spec.model, token, within=clock.left())
            offer = choose(offered, spec.task, spec.provider)
            given = await self._given(spec, token, clock)
            return offer, requests.for_task(spec, offer, given)
        except NotOffered as no:
            raise _Over(Refused(Reason.INVALID_REQUEST, f"{NOT_SENT}{no}.")) from None
        except (FetchRefused, ValueError) as no:
            raise _Over(Refused(Reason.INVALID_REQUEST, f"{NOT_SENT}{no}")) from None
        except (FetchFailed, Unreached, Ambiguous) as error:
            # Whatever became of a question: the call itself was not sent.
            raise _Over(Later(f"{NOT_SENT}{error}")) from None
        except Answered4xx as error:
            raise _Over(trouble(error)) from None

    async def _given(self, spec: InferenceSpec, token: Secret, clock: Clock) -> Given | None:
        """Have the bytes that the inputs stand for, of a task that works on bytes."""
        inputs = spec.inputs
        if not isinstance(inputs, Media):
            return None
        taken = accepted(spec.task)
        if inputs.url is None:
            content = inputs.content()
            return Given(content, media_types.recognize(content, taken))
        if inputs.url.startswith(HUB):
            content, _ = await self._files.read(
                HubPath.read(inputs.url), token, limit_bytes=self._limit, within=clock.left()
            )
            return Given(content, media_types.recognize(content, taken))
        fetched = await self._fetcher.fetch(
            inputs.url, limit_bytes=self._limit, within=clock.left(), accept=taken
        )
        return Given(fetched.content, fetched.media_type)

    async def _sent(
        self,
        spec: InferenceSpec,
        offer: Offer | None,
        sending: Sending,
        token: Secret,
        clock: Clock,
    ) -> Received:
        if clock.is_over:
            raise _Over(Later(f"{NOT_SENT}its timeout was over before it could be."))
        try:
            # Bytes in JSON are a third longer than they are.
            return await self._router.send(
                sending, token, within=clock.left(), limit=2 * self._limit
            )
        except Loading as no:
            raise _Over(Later(str(no), no.pause)) from None
        except TooLarge as error:
            raise _Over(failed("TOO_LARGE", f"It was carried out, but {error}.")) from None
        except (Unreached, Answered4xx, Ambiguous) as error:
            by = spec.provider or _ROUTER if offer is None else offer.provider
            raise _Over(_unknown(by, error) or trouble(error)) from None


def _unknown(by: str, error: HubTrouble) -> Refused | None:
    """Say who does not know the model; of a job, a 404 means that its namespace is not known."""
    if isinstance(error, Answered4xx) and error.status == _NOT_FOUND:
        return Refused(Reason.INVALID_REQUEST, f"{by} answered 404: {error.message}")
    return None
