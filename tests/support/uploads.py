"""Uploads as the service stores them, for tests that need one to be there."""

from datetime import timedelta
from hashlib import sha256
from typing import Final

from schema.artifacts import uploads
from schema.artifacts.upload_tables import CHUNK_BYTES, Upload
from schema.artifacts.uploads import NewUpload, UploadLimits
from schema.common import ids
from schema.db.database import Transaction

UPLOAD_LIMITS: Final = UploadLimits(
    max_bytes=10**9,
    max_total_bytes=10**9,
    max_uploads=100,
    retention=timedelta(days=7),
)
NEW_UPLOAD: Final = NewUpload(
    name="data.csv",
    media_type=None,
    declared_bytes=None,
    location="ada/holdfast",
    workspace_id=None,
)


async def create_upload(
    tx: Transaction,
    subject_id: str,
    new: NewUpload = NEW_UPLOAD,
    limits: UploadLimits = UPLOAD_LIMITS,
) -> Upload:
    """Create an upload that waits for its bytes."""
    return await uploads.create_upload(tx, subject_id, ids.new_id(), new, limits)


async def store_upload(
    tx: Transaction,
    subject_id: str,
    content: bytes,
    media_type: str = "text/plain",
    *,
    name: str = "data.csv",
    limits: UploadLimits = UPLOAD_LIMITS,
) -> Upload:
    """Create an upload, and store its bytes."""
    new = NewUpload(name, None, None, f"{subject_id}/holdfast", None)
    upload = await create_upload(tx, subject_id, new, limits)
    receipt = await uploads.begin_receiving(tx, subject_id, upload.id, len(content), limits)
    assert receipt is not None
    for position, start in enumerate(range(0, len(content), CHUNK_BYTES)):
        chunk = content[start : start + CHUNK_BYTES]
        assert await uploads.append_chunk(tx, receipt, position, chunk)
    digest = sha256(content).hexdigest()
    ready = await uploads.finish_receiving(
        tx, receipt, sha256=digest, media_type=media_type, limits=limits
    )
    assert ready is not None
    return ready
