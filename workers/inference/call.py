"""One call, from its request to what is to be kept of it. No job is known here, nor any row.

What goes wrong before the one request is sent is safe to try again, or never worth it. What becomes
of it once it was taken is for `workers.inference.await_result` to say.
"""

from typing import Final

from schema.accounts.vault import Secret
from schema.hub.client import HubAmbiguous, HubRejected, HubUnreachable
from schema.jobs.tables import Reason
from schema.specs.inference import CHAT, InferenceSpec, accepted_media_types
from schema.specs.inference_inputs import MediaInput
from schema.specs.inputs import media_types
from schema.specs.inputs.hub_uri import HUB_URI_SCHEME, HubUri
from workers.attempts.error_outcomes import HubRequestError, outcome_from_error
from workers.executor import ExecutorDeps, Outcome, Rejected, ReportProgress, RetryLater
from workers.inference import requests
from workers.inference.await_result import AcceptedCall, CallDeadline, failed_outcome
from workers.inference.provider_requests import MediaBytes
from workers.inference.providers import (
    ModelCatalog,
    ProviderMapping,
    UnsupportedByProviders,
    choose_provider,
)
from workers.inference.router import (
    ModelLoading,
    ResponseTooLarge,
    Router,
    RouterRequest,
    RouterResponse,
)
from workers.inputs.hub_files import HubFileReader
from workers.inputs.url_fetcher import Fetcher, FetchFailed, FetchRefused

NOT_SENT_PREFIX: Final = "Not sent: "
_NOT_FOUND: Final = 404
_ROUTER_NAME: Final = "the router"


class _CallEnded(Exception):
    """The call is over before there is an answer."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        super().__init__()


class InferenceCaller:
    """Makes calls to Inference Providers; one for each process, for it knows who offers what."""

    def __init__(self, deps: ExecutorDeps, fetcher: Fetcher | None = None) -> None:
        self._router = Router(deps.hub)
        self._catalog = ModelCatalog(deps.hub)
        self._fetcher = fetcher or Fetcher()
        self._files = HubFileReader(deps.hub, self._fetcher)
        self._max_bytes = deps.settings.call_bytes

    async def call(
        self, spec: InferenceSpec, token: Secret, *, report_progress: ReportProgress | None = None
    ) -> Outcome:
        """Make one call, once, and say how it went."""
        clock = CallDeadline(spec.timeout)
        try:
            offer, sending = await self._prepare_request(spec, token, clock)
            received = await self._send_request(spec, offer, sending, token, clock)
        except _CallEnded as over:
            return over.outcome
        taken = AcceptedCall(
            router=self._router,
            fetcher=self._fetcher,
            max_bytes=self._max_bytes,
            spec=spec,
            provider=None if offer is None else offer.provider,
            path=sending.path,
            token=token,
            deadline=clock,
            report_progress=report_progress,
        )
        return await taken.await_outcome(received)

    async def _prepare_request(
        self, spec: InferenceSpec, token: Secret, deadline: CallDeadline
    ) -> tuple[ProviderMapping | None, RouterRequest]:
        if spec.task == CHAT:
            # Whoever offers it is for the router to find.
            return None, requests.build_chat_request(spec)
        try:
            offered = await self._catalog.find_model(
                spec.model, token, timeout=deadline.remaining()
            )
            offer = choose_provider(offered, spec.task, spec.provider)
            given = await self._load_media(spec, token, deadline)
            return offer, requests.build_task_request(spec, offer, given)
        except UnsupportedByProviders as no:
            raise _CallEnded(Rejected(Reason.INVALID_REQUEST, f"{NOT_SENT_PREFIX}{no}.")) from None
        except (FetchRefused, ValueError) as no:
            raise _CallEnded(Rejected(Reason.INVALID_REQUEST, f"{NOT_SENT_PREFIX}{no}")) from None
        except (FetchFailed, HubUnreachable, HubAmbiguous) as error:
            # Whatever became of a question: the call itself was not sent.
            raise _CallEnded(RetryLater(f"{NOT_SENT_PREFIX}{error}")) from None
        except HubRejected as error:
            raise _CallEnded(outcome_from_error(error)) from None

    async def _load_media(
        self, spec: InferenceSpec, token: Secret, deadline: CallDeadline
    ) -> MediaBytes | None:
        """Have the bytes that the inputs stand for, of a task that works on bytes."""
        inputs = spec.inputs
        if not isinstance(inputs, MediaInput):
            return None
        taken = accepted_media_types(spec.task)
        if inputs.url is None:
            content = inputs.decode_data()
            return MediaBytes(content, media_types.detect_media_type(content, taken))
        if inputs.url.startswith(HUB_URI_SCHEME):
            content, _ = await self._files.read(
                HubUri.parse(inputs.url),
                token,
                max_bytes=self._max_bytes,
                timeout=deadline.remaining(),
            )
            return MediaBytes(content, media_types.detect_media_type(content, taken))
        fetched = await self._fetcher.fetch(
            inputs.url, max_bytes=self._max_bytes, timeout=deadline.remaining(), accept=taken
        )
        return MediaBytes(fetched.content, fetched.media_type)

    async def _send_request(
        self,
        spec: InferenceSpec,
        mapping: ProviderMapping | None,
        request: RouterRequest,
        token: Secret,
        deadline: CallDeadline,
    ) -> RouterResponse:
        if deadline.has_passed:
            raise _CallEnded(
                RetryLater(f"{NOT_SENT_PREFIX}its timeout was over before it could be.")
            )
        try:
            # Bytes in JSON are a third longer than they are.
            return await self._router.send(
                request, token, timeout=deadline.remaining(), max_bytes=2 * self._max_bytes
            )
        except ModelLoading as no:
            raise _CallEnded(RetryLater(str(no), no.retry_after)) from None
        except ResponseTooLarge as error:
            raise _CallEnded(
                failed_outcome("TOO_LARGE", f"It was carried out, but {error}.")
            ) from None
        except (HubUnreachable, HubRejected, HubAmbiguous) as error:
            by = spec.provider or _ROUTER_NAME if mapping is None else mapping.provider
            raise _CallEnded(_model_not_found(by, error) or outcome_from_error(error)) from None


def _model_not_found(provider: str, error: HubRequestError) -> Rejected | None:
    """Say who does not know the model; of a job, a 404 means that its namespace is not known."""
    if isinstance(error, HubRejected) and error.status == _NOT_FOUND:
        return Rejected(Reason.INVALID_REQUEST, f"{provider} answered 404: {error.message}")
    return None
