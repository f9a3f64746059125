"""Guards of uploads: of their links, their quota and their pins."""

from typing import Final

from schema.artifacts import uploads as upload_store
from schema.specs.inputs import media_types
from service.http.files import uploads as upload_routes
from service.jobs import dry_run, launch
from tests.mutants.mutant import ALEMBIC, mutants_in_file
from tests.mutants.row_security import checks_nothing_of, shows_all_of
from tests.schema.artifacts import test_uploads as test_upload_store
from tests.service.http import test_uploads as test_upload_routes
from tests.service.mcp.tools import test_uploads as test_upload_tools
from tests.workers.artifacts import test_uploads as test_worker_uploads

UPLOAD_GUARDS: Final = (
    *mutants_in_file(
        upload_store,
        test_upload_store,
        the_last_place_for_an_upload_is_one=(
            "    await tx.execute(_LOCK_SUBJECT, subject_id)\n    row: Any = await tx.fetchrow(",
            "    row: Any = await tx.fetchrow(",
        ),
        the_last_bytes_for_an_upload_are_counted_once=(
            "    await tx.execute(_LOCK_SUBJECT, subject_id)\n    row = await tx.fetchrow(",
            "    row = await tx.fetchrow(",
        ),
        declared_bytes_of_an_upload_count=(
            "       AND bytes + coalesce(:declared_bytes::bigint, 1) <= :max_total_bytes::bigint",
            "       AND :max_total_bytes::bigint > 0",
        ),
        an_upload_has_the_declared_size=(
            "AND :size_bytes::bigint = coalesce(target.declared_bytes, :size_bytes::bigint)",
            "AND true",
        ),
        an_overtaken_request_writes_nothing=(
            "       AND attempt = :attempt\n       FOR SHARE",
            "       AND :attempt::uuid IS NOT NULL\n       FOR SHARE",
        ),
        an_overtaken_request_deletes_nothing=(
            "       AND attempt = $3\n",
            "       AND $3::uuid IS NOT NULL\n",
        ),
        half_an_upload_is_none=(
            "       AND size_bytes = (SELECT sum(",
            "       AND size_bytes >= (SELECT sum(",
        ),
        a_pin_stops_a_deletion_under_way=(
            "SET expires_at = greatest(expires_at, now() + :margin::interval)",
            "SET expires_at = expires_at + 0 * :margin::interval",
        ),
        an_unfinished_job_keeps_its_upload=("AND (job.finished_at IS NULL", "AND (false"),
        an_open_run_keeps_its_upload=(
            "AND run.state IN ('posting', 'unknown', 'bound'))))",
            "AND run.state IN ('none'))))",
        ),
        a_foreign_upload_is_none=(
            " WHERE subject_id = $1\n   AND id = ANY($2::uuid[])",
            " WHERE $1::text IS NOT NULL\n   AND id = ANY($2::uuid[])",
        ),
        an_expired_upload_is_none=(
            '   AND state = \'ready\'\n   AND expires_at > now()\n"""',
            '   AND state = \'ready\'\n"""',
        ),
    ),
    *mutants_in_file(
        upload_store,
        test_upload_routes,
        an_upload_link_expires_by_the_database=("       AND link_expires_at > now()\n", ""),
    ),
    *mutants_in_file(
        upload_routes,
        test_upload_routes,
        sending_counts_as_a_call=(
            "        await rate_limiter.count_call(grant.subject_id)\n",
            "",
        ),
        what_was_broken_off_is_deleted=(
            "                    await _abandon(app, receipt)\n",
            "                    pass\n",
        ),
        an_upload_is_not_too_large=(
            "    if size_bytes > app.upload_limits.max_bytes:",
            "    if False:",
        ),
        an_empty_upload_is_refused=("    if size_bytes == 0:", "    if False:"),
        an_overtaken_request_is_told=("            if not is_stored:", "            if False:"),
    ),
    *mutants_in_file(
        launch,
        test_upload_tools,
        a_job_pins_its_uploads=(
            "            await uploads.pin_uploads(tx, caller.subject_id, job_id, upload_ids)\n",
            "            pass\n",
        ),
        a_repeated_call_pins_nothing=("if upload_ids and job.id == job_id:", "if upload_ids:"),
    ),
    *mutants_in_file(
        dry_run,
        test_upload_tools,
        a_dry_run_looks_for_uploads=(
            "        await uploads.find_uploads(tx, caller.subject_id, upload_ids)\n",
            "",
        ),
    ),
    *mutants_in_file(
        upload_store,
        test_worker_uploads,
        a_worker_reads_pinned_uploads_only=(
            " WHERE job_upload.job_id = $1\n   AND upload.id = $2",
            " WHERE $1::uuid IS NOT NULL\n   AND upload.id = $2",
        ),
    ),
    *mutants_in_file(
        media_types,
        test_upload_routes,
        an_upload_is_what_it_is_declared_as=("    if is_other:", "    if False:"),
        an_upload_has_not_too_many_pixels=(
            "    if media_type in IMAGES:\n        _expect_pixel_limit(head, media_type)\n",
            "",
        ),
    ),
    *mutants_in_file(
        ALEMBIC / "sql" / "0001" / "row_security.sql",
        test_upload_store,
        uploads_are_their_subjects=shows_all_of("upload"),
        uploads_are_sent_by_their_subject=checks_nothing_of("upload"),
        chunks_are_sent_by_their_subject=checks_nothing_of("upload_chunk"),
        pins_are_made_by_their_subject=checks_nothing_of("job_upload"),
    ),
)
