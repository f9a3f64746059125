"""The guards of what jobs leave behind, and of the buckets it is left in."""

from typing import Final

from tests.mutants.mutant import mutants_in_file

_OUTPUTS: Final = "tests/workers/artifacts/test_outputs.py"
_PATHS: Final = "tests/schema/specs/test_outputs.py"
_MOUNTS: Final = "tests/service/local/hub_emulator/jobs/test_bucket_mounts.py"
_BUCKETS: Final = "tests/service/local/hub_emulator/buckets/test_routes.py"

OUTPUT_GUARDS: Final = (
    *mutants_in_file(
        "workers/artifacts/outputs.py",
        _OUTPUTS,
        what_is_missing_is_no_success=(
            "    if run.stage != COMPLETED_STAGE or run.age < patience:\n        return None\n",
            "    return CollectedOutputs(run_result, files)\n",
        ),
        the_wait_begins_when_the_end_is_seen=(
            "if run.stage != COMPLETED_STAGE or run.age < patience:",
            "if run.age < patience:",
        ),
        nothing_lands_in_public=("    if not found.private:", "    if False:"),
        a_surplus_leaves_nothing=("or run.origin is not RunOrigin.OURS", ""),
        a_dead_token_waits_for_the_next=(
            "        if is_no and not _is_final_rejection(error):\n            raise\n",
            "",
        ),
        a_401_need_not_be_about_the_token=(
            "    return HubRejected(_FORBIDDEN, rejection.message, None)",
            "    return rejection",
        ),
    ),
    *mutants_in_file(
        "workers/loops/reconcile_runs.py",
        _OUTPUTS,
        what_a_killed_job_left_is_kept=(
            "        await files.save_files(tx, run.job_id, left)\n",
            "",
        ),
    ),
    *mutants_in_file(
        "schema/specs/outputs.py",
        _PATHS,
        no_output_leads_out=('{"", ".", ".."}.intersection(steps)', "False"),
    ),
    *mutants_in_file(
        "service/local/hub_emulator/jobs/bucket_mounts.py",
        _MOUNTS,
        a_link_is_not_followed=("if stat.S_ISREG(seen.st_mode):", "if True:"),
        what_is_killed_loses_what_is_on_its_way=(
            "and (lost_after is None or seen.st_mtime_ns <= lost_after)",
            "",
        ),
        who_only_reads_changes_nothing=("if not each.volume.read_only:", "if True:"),
        only_who_may_write_mounts_to_write=(
            "if not volume.read_only and not bucket.is_writable_by(user):",
            "if False:",
        ),
    ),
    *mutants_in_file(
        "service/local/hub_emulator/buckets/xet_store.py",
        _BUCKETS,
        a_hash_is_no_authority=("if shown.can_read(file) else None", "if shown else None"),
    ),
    *mutants_in_file(
        "service/local/hub_emulator/buckets/store.py",
        _BUCKETS,
        a_private_bucket_is_its_owners=("        if not self.private:\n", "        if True:\n"),
    ),
)
