"""Guards of the outputs of jobs, and of the buckets they and backups are stored in."""

from typing import Final

from schema.specs import outputs as spec_outputs
from service.cli.backups import bucket_file
from service.local.hub_emulator.buckets import xet_store
from service.local.hub_emulator.jobs import bucket_mounts
from service.local.hub_emulator.shared import access
from tests.mutants.mutant import mutants_in_file
from tests.operate import test_bucket_backups
from tests.schema.specs import test_outputs as test_spec_outputs
from tests.service.local.hub_emulator.buckets import test_routes as test_bucket_routes
from tests.service.local.hub_emulator.jobs import test_bucket_mounts
from tests.workers.artifacts import test_outputs as test_artifact_outputs
from workers.artifacts import outputs as artifact_outputs
from workers.loops import reconcile_runs

OUTPUT_GUARDS: Final = (
    *mutants_in_file(
        artifact_outputs,
        test_artifact_outputs,
        what_is_missing_is_no_success=(
            (
                "    if run.stage != COMPLETED_STAGE or run.age < patience"
                " + worker.clock.lead(patience):\n        return None\n"
            ),
            "    return CollectedOutputs(run_result, files)\n",
        ),
        the_wait_begins_when_the_end_is_seen=(
            "if run.stage != COMPLETED_STAGE or run.age < patience + worker.clock.lead(patience):",
            "if run.age < patience + worker.clock.lead(patience):",
        ),
        nothing_lands_in_public=("    if not bucket.private:", "    if False:"),
        a_surplus_leaves_nothing=("or run.origin is not RunOrigin.OURS", ""),
        a_dead_token_waits_for_the_next=(
            "        if is_rejection and not _is_final_rejection(error):\n            raise\n",
            "",
        ),
        a_401_need_not_be_about_the_token=(
            "    return HubRejected(HTTPStatus.FORBIDDEN, rejection.message, None)",
            "    return rejection",
        ),
    ),
    *mutants_in_file(
        reconcile_runs,
        test_artifact_outputs,
        what_a_killed_job_left_is_kept=(
            "        await files.save_run_files(tx, run.id, job_files)\n",
            "",
        ),
    ),
    *mutants_in_file(
        spec_outputs,
        test_spec_outputs,
        no_output_leads_out=('{"", ".", ".."}.intersection(steps)', "False"),
    ),
    *mutants_in_file(
        bucket_mounts,
        test_bucket_mounts,
        a_link_is_not_followed=("if stat.S_ISREG(status.st_mode):", "if True:"),
        what_is_killed_loses_what_is_on_its_way=(
            "and (lost_after_ns is None or status.st_mtime_ns <= lost_after_ns)",
            "",
        ),
        who_only_reads_changes_nothing=("if not mounted.volume.read_only:", "if True:"),
        only_who_may_write_mounts_to_write=(
            "if not volume.read_only and not bucket.is_writable_by(user):",
            "if False:",
        ),
    ),
    *mutants_in_file(
        xet_store,
        test_bucket_routes,
        a_hash_is_no_authority=("if token.can_read(file_hash) else None", "if token else None"),
    ),
    *mutants_in_file(
        access,
        test_bucket_routes,
        a_private_bucket_is_its_owners=("        if not self.private:\n", "        if True:\n"),
    ),
    *mutants_in_file(
        bucket_file,
        test_bucket_backups,
        a_uri_is_never_a_path=('r"[a-z][a-z0-9+.-]*:/"', 'r"hf://"'),
        only_buckets_take_a_backup=(" or uri.kind != _BUCKET_KIND", ""),
        a_backup_needs_no_home_folder=("environ[_CACHE_VARIABLE] = str(folder)", "pass"),
        a_stopped_upload_leaves_no_file=(
            "        stack.enter_context(_interrupt_at_sigterm())\n",
            "",
        ),
        the_bucket_is_there_before_the_work=("        transfer.check_bucket()\n", ""),
    ),
)
