"""A batch: many calls to Inference Providers under one handle, taken up again where they were left.

Its items are rows, so that a worker that is lost takes nothing with it but what was under way. They
come with the request, or from a file at the Hub that is read once, whole, before any is sent.

The result is how many items came to what, and the tokens they used; `schema.batches.store` has the
items.
"""

import json
from datetime import timedelta
from typing import Any, Final

from anyio.lowlevel import checkpoint
from pydantic import ValidationError

from schema.accounts.vault import Secret
from schema.batches import store as batch_store
from schema.common.errors import Unavailable
from schema.db.storable import storable
from schema.jobs.tables import JobKind, Reason
from schema.specs.batch import FILE_BYTES, ITEM, BatchSpec, Item, Items, WrongItem, wrong
from schema.specs.inputs.hub_uri import HubPath
from workers.attempts.error_outcomes import outgrown, trouble
from workers.batches.runner import BatchRun
from workers.executor import Executor, Means, Order, Outcome, Refused, Unclear
from workers.executors import inference
from workers.hub.client import Answered4xx, Unreached
from workers.inputs.hub_files import HubFiles
from workers.inputs.url_fetcher import Fetcher, FetchRefused

_LONGEST_LINE: Final = 1_000_000
_READING: Final = timedelta(minutes=5)
_AT_ONCE: Final = 100
"""Lines that are checked before others have their turn."""


class BatchExecutor:
    """Makes the calls of a batch."""

    kind = JobKind.BATCH
    is_call = True
    resumes = True
    slots = 4

    def __init__(self, means: Means) -> None:
        self._database = means.database
        self._files = HubFiles(means.hub, Fetcher())
        self._calls = inference.executor(means)

    async def execute(self, order: Order) -> Outcome:
        """Make the calls that have not been made."""
        try:
            spec = BatchSpec.model_validate(order.spec)
        except ValidationError as error:
            return outgrown(error)
        try:
            if spec.items_from is not None:
                await self._load(order, spec, HubPath.read(spec.items_from))
        except (WrongItem, FetchRefused) as error:
            return Refused(Reason.INVALID_REQUEST, f"{error} Nothing was sent.")
        except (Unreached, Answered4xx) as error:
            return trouble(error)
        except Unavailable as error:
            return Unclear(str(error))
        return await BatchRun(self._database, order, spec, self._calls.execute).carry_out()

    async def _load(self, order: Order, spec: BatchSpec, path: HubPath) -> None:
        """Read the items, unless they have been read: what was sent is from that reading."""
        async with self._database.transaction() as tx:
            if (await batch_store.tally(tx, order.job_id)).total:
                return
        items, revision = await self._read(path, spec, order.token)
        source = {"path": str(path), "revision": revision}
        async with self._database.transaction() as tx:
            await batch_store.keep_read(tx, order.run_id, items.given, source=source)

    async def _read(self, path: HubPath, spec: BatchSpec, token: Secret) -> tuple[Items, str]:
        items, number = Items(spec), 0
        async with self._files.open(path, token, limit_bytes=FILE_BYTES, within=_READING) as file:
            async for line in file.lines(longest=_LONGEST_LINE):
                number += 1
                if line.strip():
                    where = f"Line {number} of {path}"
                    items.take(where, read_line(where, line))
                if number % _AT_ONCE == 0:
                    await checkpoint()
        if not items.given:
            raise WrongItem(f"{path} has no item; write a line for each, such as {ITEM}")
        return items, file.revision


def read_line(where: str, line: bytes) -> Item:
    """Read one line of a file of items.

    Raises:
        WrongItem: it is none.
    """
    try:
        read: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise WrongItem(f"{where} is not JSON ({error}); write {ITEM}") from None
    if storable(read) != read:
        raise WrongItem(f"{where} has a NUL, half a character or NaN, which cannot be kept.")
    try:
        return Item.model_validate(read)
    except ValidationError as error:
        raise WrongItem(f"{where}: {wrong(error)}; write {ITEM}") from None


def executor(means: Means) -> Executor:
    """Make this executor."""
    return BatchExecutor(means)
