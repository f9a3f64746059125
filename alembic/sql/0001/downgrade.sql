-- Removes everything that the other files create, except the roles: they belong to the whole
-- server, and other databases may use them. Triggers, policies, indexes and grants go with their
-- tables.

DROP VIEW v_unowned, v_subject_usage, v_workspace_cost, v_usage, v_job_timeline, v_job;

DROP TABLE schedule_secret, schedule_firing, schedule;
DROP TABLE deployment, vault_key, worker_heartbeat;
DROP TABLE price_list, usage_history, spending, job_cost;
DROP TABLE job_upload, upload_chunk, upload;
DROP TABLE batch_item, job_file, log_chunk, job_log;
DROP TABLE poll_group, remote_run;
DROP TABLE unseen_job, webhook_delivery;
DROP TABLE job_dependency, job_secret, job_label, idempotency_key, job_event, job_payload, job;
DROP TABLE workspace;
DROP TABLE webhook_secret, webhook_target;
DROP TABLE audit_entry, call_window, restored_subject, connected_account, credential, subject;

DROP FUNCTION workers_connected(), read_handle(text), write_handle(text, uuid);
DROP FUNCTION job_marks(text[], uuid[]), tell_of_move(), tell_of_event();
DROP FUNCTION wipe_secrets(), settle_cost(), settle_waits();
DROP FUNCTION copy_labels(), refuse_other_labels();
DROP FUNCTION pending_webhooks(), announce_end(), choose_webhook();
DROP FUNCTION undo_statement(), room_of_kind(text, text, integer);
DROP FUNCTION append_only(), remote_run_guard(), job_guard();

ALTER TABLE alembic_version DROP COLUMN compatible_from;
REVOKE SELECT ON alembic_version FROM holdfast_tenant, holdfast_worker, holdfast_analyst;
REVOKE USAGE ON SCHEMA public FROM holdfast_tenant, holdfast_worker, holdfast_analyst;
