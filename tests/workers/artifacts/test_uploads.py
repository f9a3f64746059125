"""What a worker reads of an upload, and for whom (`workers.artifacts.uploads`)."""

import os

import pytest

from schema.artifacts import uploads
from schema.artifacts.upload_tables import CHUNK_BYTES
from schema.db.database import Database
from schema.hub.url_fetcher import FetchRefused
from tests.support.factories import JobFactory
from tests.support.uploads import store_upload
from workers.artifacts.uploads import UploadReader


async def test_a_worker_reads_an_upload_for_the_job_that_names_it_and_for_no_other(
    database: Database, ada_id: str, make_job: JobFactory
) -> None:
    """What a spec says is not enough: the pin was made where the owner was compared."""
    content = os.urandom(2 * CHUNK_BYTES + 3)
    job, other = await make_job(), await make_job()
    async with database.transaction() as tx:
        upload = await store_upload(tx, ada_id, content)
        await uploads.pin_uploads(tx, ada_id, job.id, [upload.id])
    reader = UploadReader(database)

    assert await reader.read(job.id, upload.id, max_bytes=len(content)) == content
    with pytest.raises(FetchRefused, match="is larger than"):
        await reader.read(job.id, upload.id, max_bytes=len(content) - 1)
    with pytest.raises(FetchRefused, match="no upload upload_"):
        await reader.read(other.id, upload.id, max_bytes=len(content))
