"""One inference call, from its request to its outcome, without knowledge of jobs and rows.

An error before the request is sent can be retried safely, or is final. What happens after the
provider has accepted the call is the subject of `workers.inference.await_result`.
"""

from http import HTTPStatus
from typing import Final
from uuid import UUID

from schema.accounts.vault import Secret
from schema.common.errors import Unavailable
from schema.hub.client import HubAmbiguous, HubRejected, HubUnreachable
from schema.hub.hub_files import HubFileReader
from schema.hub.url_fetcher import Fetcher, FetchFailed, FetchRefused
from schema.jobs.tables import Reason
from schema.specs.inference import CHAT, InferenceSpec, accepted_media_types
from schema.specs.inputs import media_types
from schema.specs.inputs.hub_uri import HUB_URI_SCHEME, HubUri
from schema.specs.inputs.inference_inputs import MediaInput, list_hub_pictures
from schema.specs.inputs.upload_handles import parse_upload_handle
from workers.artifacts.uploads import UploadReader
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

NOT_SENT_PREFIX: Final = "Not sent: "
_ROUTER_NAME: Final = "the router"


class _CallEnded(Exception):
    """The call ended before there was a response."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        super().__init__()


class InferenceCaller:
    """Calls Inference Providers; one instance per process, because it caches their offers."""

    def __init__(self, deps: ExecutorDeps, fetcher: Fetcher | None = None) -> None:
        self._router = Router(deps.hub)
        self._catalog = ModelCatalog(deps.hub)
        self._fetcher = fetcher or Fetcher()
        self._files = HubFileReader(deps.hub, self._fetcher)
        self._uploads = UploadReader(deps.database)
        self._max_bytes = deps.settings.call_bytes

    async def call(
        self,
        spec: InferenceSpec,
        token: Secret,
        *,
        job_id: UUID | None = None,
        report_progress: ReportProgress | None = None,
    ) -> Outcome:
        """Make one call, once, and return its outcome.

        Args:
            spec: the call.
            token: of whoever launched it.
            job_id: the job whose uploads it may read; None: it names none.
            report_progress: called when there is some.
        """
        deadline = CallDeadline(spec.timeout)
        try:
            mapping, request = await self._prepare_request(spec, token, deadline, job_id)
            response = await self._send_request(spec, mapping, request, token, deadline)
        except _CallEnded as error:
            return error.outcome
        call = AcceptedCall(
            router=self._router,
            fetcher=self._fetcher,
            max_bytes=self._max_bytes,
            spec=spec,
            provider=None if mapping is None else mapping.provider,
            path=request.path,
            token=token,
            deadline=deadline,
            report_progress=report_progress,
        )
        return await call.await_outcome(response)

    async def _prepare_request(
        self, spec: InferenceSpec, token: Secret, deadline: CallDeadline, job_id: UUID | None
    ) -> tuple[ProviderMapping | None, RouterRequest]:
        try:
            if spec.task == CHAT:
                # The router finds the provider.
                pictures = await self._load_pictures(spec, token, deadline)
                return None, requests.build_chat_request(spec, pictures)
            model = await self._catalog.find_model(spec.model, token, timeout=deadline.remaining())
            mapping = choose_provider(model, spec.task, spec.provider)
            media = await self._load_media(spec, token, deadline, job_id)
            return mapping, requests.build_task_request(spec, mapping, media)
        except UnsupportedByProviders as error:
            message = f"{NOT_SENT_PREFIX}{error}."
            raise _CallEnded(Rejected(Reason.INVALID_REQUEST, message)) from None
        except (FetchRefused, ValueError) as error:
            message = f"{NOT_SENT_PREFIX}{error}"
            raise _CallEnded(Rejected(Reason.INVALID_REQUEST, message)) from None
        except (FetchFailed, HubUnreachable, HubAmbiguous, Unavailable) as error:
            # Whatever happened to these requests: the call itself was not sent.
            raise _CallEnded(RetryLater(f"{NOT_SENT_PREFIX}{error}")) from None
        except HubRejected as error:
            raise _CallEnded(outcome_from_error(error)) from None

    async def _load_media(
        self, spec: InferenceSpec, token: Secret, deadline: CallDeadline, job_id: UUID | None
    ) -> MediaBytes | None:
        """Load the bytes that the inputs refer to; None for a task that takes no bytes."""
        inputs = spec.inputs
        if not isinstance(inputs, MediaInput):
            return None
        accept = accepted_media_types(spec.task)
        if inputs.url is None:
            content = inputs.decode_data()
            return MediaBytes(content, media_types.detect_media_type(content, accept))
        upload_id = parse_upload_handle(inputs.url)
        if upload_id is not None and job_id is not None:
            content = await self._uploads.read(job_id, upload_id, max_bytes=self._max_bytes)
            return MediaBytes(content, media_types.detect_media_type(content, accept))
        if inputs.url.startswith(HUB_URI_SCHEME):
            return await self._read_hub_file(inputs.url, token, deadline, accept, self._max_bytes)
        file = await self._fetcher.fetch(
            inputs.url, max_bytes=self._max_bytes, timeout=deadline.remaining(), accept=accept
        )
        return MediaBytes(file.content, file.media_type)

    async def _load_pictures(
        self, spec: InferenceSpec, token: Secret, deadline: CallDeadline
    ) -> dict[str, MediaBytes]:
        """Read the pictures of a chat that are files of the Hub, which no provider could read."""
        pictures: dict[str, MediaBytes] = {}
        bytes_left = self._max_bytes
        for uri in list_hub_pictures(spec.inputs):
            pictures[uri] = await self._read_hub_file(
                uri, token, deadline, media_types.IMAGES, bytes_left
            )
            bytes_left -= len(pictures[uri].content)
        return pictures

    async def _read_hub_file(  # whose authority, and each limit
        self,
        uri: str,
        token: Secret,
        deadline: CallDeadline,
        accept: frozenset[str],
        max_bytes: int,
    ) -> MediaBytes:
        content, _ = await self._files.read(
            HubUri.parse(uri), token, max_bytes=max_bytes, timeout=deadline.remaining()
        )
        return MediaBytes(content, media_types.detect_media_type(content, accept))

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
                RetryLater(f"{NOT_SENT_PREFIX}its timeout passed before it could be sent.")
            )
        try:
            # Bytes in JSON take a third more space.
            return await self._router.send(
                request, token, timeout=deadline.remaining(), max_bytes=2 * self._max_bytes
            )
        except ModelLoading as error:
            raise _CallEnded(RetryLater(str(error), error.retry_after)) from None
        except ResponseTooLarge as error:
            raise _CallEnded(
                failed_outcome("TOO_LARGE", f"It was carried out, but {error}.")
            ) from None
        except (HubUnreachable, HubRejected, HubAmbiguous) as error:
            provider = spec.provider or _ROUTER_NAME if mapping is None else mapping.provider
            raise _CallEnded(
                _model_not_found(provider, error) or outcome_from_error(error)
            ) from None


def _model_not_found(provider: str, error: HubRequestError) -> Rejected | None:
    """Reject a call whose model is not known; for a job, a 404 is about its namespace."""
    if isinstance(error, HubRejected) and error.status == HTTPStatus.NOT_FOUND:
        return Rejected(Reason.INVALID_REQUEST, f"{provider} answered 404: {error.message}")
    return None
