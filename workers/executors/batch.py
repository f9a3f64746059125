"""The executor of batches: many calls to Inference Providers as one job, which can be resumed.

The items are rows, so a crash of the worker affects only the calls that were under way. They come
with the request, or from a file at the Hub, which is read completely, and once, before the first
call is sent.

The result is the number of items in each state, and the tokens that they used; the items are in
`schema.batches.store`.
"""

import json
from datetime import timedelta
from typing import Any, Final

from anyio.lowlevel import checkpoint
from pydantic import ValidationError

from schema.accounts.vault import Secret
from schema.batches import store as batch_store
from schema.common.errors import Unavailable
from schema.db.storable import to_storable
from schema.hub.client import HubRejected, HubUnreachable
from schema.hub.hub_files import HubFileReader
from schema.hub.url_fetcher import Fetcher, FetchRefused
from schema.jobs.tables import JobKind, Reason
from schema.specs.batch import (
    ITEM_EXAMPLE,
    MAX_FILE_BYTES,
    BatchSpec,
    InvalidItem,
    Item,
    ItemCollector,
    describe_first_error,
)
from schema.specs.inputs.hub_uri import HubUri
from schema.specs.inputs.upload_handles import find_upload_ids
from workers.attempts.error_outcomes import outcome_from_error, reject_outdated_spec
from workers.batches.runner import BatchRunner
from workers.executor import ExecutionRequest, Executor, ExecutorDeps, Outcome, Rejected, Unknown
from workers.executors import inference

_MAX_LINE_BYTES: Final = 1_000_000
_READ_TIMEOUT: Final = timedelta(minutes=5)
_LINES_PER_CHECKPOINT: Final = 100
"""Lines that are checked before other tasks of the event loop may run."""


class BatchExecutor:
    """Makes the calls of a batch."""

    kind = JobKind.BATCH
    is_call = True
    resumes = True
    slots = 6

    def __init__(self, deps: ExecutorDeps) -> None:
        self._database = deps.database
        self._files = HubFileReader(deps.hub, Fetcher())
        self._call_executor = inference.create_executor(deps)

    async def execute(self, request: ExecutionRequest) -> Outcome:
        """Make the calls that have not been made yet."""
        try:
            spec = BatchSpec.model_validate(request.spec)
        except ValidationError as error:
            return reject_outdated_spec(error)
        try:
            if spec.items_from is not None:
                await self._load_items(request, spec, HubUri.parse(spec.items_from))
        except (InvalidItem, FetchRefused) as error:
            return Rejected(Reason.INVALID_REQUEST, f"{error} Nothing was sent.")
        except (HubUnreachable, HubRejected) as error:
            return outcome_from_error(error)
        except Unavailable as error:
            return Unknown(str(error))
        return await BatchRunner(self._database, request, spec, self._call_executor.execute).run()

    async def _load_items(self, request: ExecutionRequest, spec: BatchSpec, uri: HubUri) -> None:
        """Read the items from the file, unless an earlier attempt has stored them."""
        async with self._database.transaction() as tx:
            if (await batch_store.count_items(tx, request.job_id)).total:
                return
        items, revision = await self._read_items(uri, spec, request.token)
        source = {"path": str(uri), "revision": revision}
        async with self._database.transaction() as tx:
            await batch_store.add_items_from_source(
                tx, request.run_id, items.requests, source=source
            )

    async def _read_items(
        self, uri: HubUri, spec: BatchSpec, token: Secret
    ) -> tuple[ItemCollector, str]:
        items, line_number = ItemCollector(spec), 0
        async with self._files.open(
            uri, token, max_bytes=MAX_FILE_BYTES, timeout=_READ_TIMEOUT
        ) as file:
            async for line in file.lines(max_line_bytes=_MAX_LINE_BYTES):
                line_number += 1
                if line.strip():
                    location = f"Line {line_number} of {uri}"
                    items.add(location, parse_item(location, line))
                if line_number % _LINES_PER_CHECKPOINT == 0:
                    await checkpoint()
        if not items.requests:
            raise InvalidItem(
                f"{uri} has no items; write one line for each item, such as {ITEM_EXAMPLE}"
            )
        return items, file.revision


def parse_item(location: str, line: bytes) -> Item:
    """Read one line of a file of items.

    Raises:
        InvalidItem: the line is not a valid item.
    """
    try:
        item: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidItem(f"{location} is not JSON ({error}); write {ITEM_EXAMPLE}") from None
    if to_storable(item) != item:
        raise InvalidItem(f"{location} has a NUL, a lone surrogate or NaN, which cannot be stored.")
    if find_upload_ids(item):
        raise InvalidItem(
            f"{location} names an upload, which only items of the call itself can; "
            f"write an https:// or hf:// URL, or give the items in items"
        )
    try:
        return Item.model_validate(item)
    except ValidationError as error:
        raise InvalidItem(
            f"{location}: {describe_first_error(error)}; write {ITEM_EXAMPLE}"
        ) from None


def create_executor(deps: ExecutorDeps) -> Executor:
    """Create the executor; `discover_executors` finds this function by its name."""
    return BatchExecutor(deps)
