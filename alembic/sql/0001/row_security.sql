-- Row-level security, and who may do what to which table.
--
-- A transaction of the service names its subject in the setting `holdfast.subject`; the policy
-- `own` compares each row with it. Without the setting no row is visible. A subselect reads the
-- setting once for each statement, not once for each row. Workers see all rows (policy `work`), and
-- analysts may read all rows of the tables that they have a grant on (policy `analysis`).
--
-- FORCE applies the policies to the owner of the tables as well: a process that does not take on
-- its role sees nothing, unless its login is a superuser. A migration that changes rows has to lift
-- FORCE while it does.
--
-- A table without a column of the subject belongs to the subject of its job. A row may be inserted
-- in the same statement as its job, which that statement cannot see yet: hence WITH CHECK (true).


-- Subjects ----------------------------------------------------------------------------------------

ALTER TABLE subject ENABLE ROW LEVEL SECURITY;
ALTER TABLE subject FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON subject TO holdfast_tenant
    USING (id = (SELECT current_setting('holdfast.subject', true)))
    WITH CHECK (id = (SELECT current_setting('holdfast.subject', true)));
CREATE POLICY work ON subject TO holdfast_worker USING (true) WITH CHECK (true);
CREATE POLICY analysis ON subject FOR SELECT TO holdfast_analyst USING (true);
GRANT SELECT, INSERT, UPDATE ON subject TO holdfast_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON subject TO holdfast_worker;
GRANT SELECT ON subject TO holdfast_analyst;

-- The service may read everything but the encrypted token: only a worker decrypts it.
ALTER TABLE credential ENABLE ROW LEVEL SECURITY;
ALTER TABLE credential FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON credential TO holdfast_tenant
    USING (subject_id = (SELECT current_setting('holdfast.subject', true)))
    WITH CHECK (subject_id = (SELECT current_setting('holdfast.subject', true)));
CREATE POLICY work ON credential TO holdfast_worker USING (true) WITH CHECK (true);
GRANT SELECT (subject_id, token_sha, version, state, expires_at, updated_at, grants, seen_at)
    ON credential TO holdfast_tenant;
GRANT INSERT, UPDATE ON credential TO holdfast_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON credential TO holdfast_worker;

-- A row is of a sign-in at an authorization server, which a transaction names in the setting
-- `holdfast.sign_in`, and of the account at the Hub that belongs to it. Either sees and may delete it;
-- only who is both makes or changes it. The service opens these tokens: a call with that sign-in acts with them.
ALTER TABLE connected_account ENABLE ROW LEVEL SECURITY;
ALTER TABLE connected_account FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON connected_account TO holdfast_tenant
    USING (sign_in_id = (SELECT current_setting('holdfast.sign_in', true))
           OR subject_id = (SELECT current_setting('holdfast.subject', true)))
    WITH CHECK (sign_in_id = (SELECT current_setting('holdfast.sign_in', true))
                AND subject_id = (SELECT current_setting('holdfast.subject', true)));
CREATE POLICY work ON connected_account TO holdfast_worker USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON connected_account TO holdfast_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON connected_account TO holdfast_worker;

ALTER TABLE restored_subject ENABLE ROW LEVEL SECURITY;
ALTER TABLE restored_subject FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON restored_subject FOR SELECT TO holdfast_tenant
    USING (subject_id = (SELECT current_setting('holdfast.subject', true)));
CREATE POLICY work ON restored_subject TO holdfast_worker USING (true) WITH CHECK (true);
CREATE POLICY analysis ON restored_subject FOR SELECT TO holdfast_analyst USING (true);
GRANT SELECT ON restored_subject TO holdfast_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON restored_subject TO holdfast_worker;
GRANT SELECT ON restored_subject TO holdfast_analyst;

ALTER TABLE call_window ENABLE ROW LEVEL SECURITY;
ALTER TABLE call_window FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON call_window TO holdfast_tenant
    USING (subject_id = (SELECT current_setting('holdfast.subject', true)))
    WITH CHECK (subject_id = (SELECT current_setting('holdfast.subject', true)));
CREATE POLICY work ON call_window TO holdfast_worker USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE ON call_window TO holdfast_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON call_window TO holdfast_worker;

-- A dump is made as the worker, and has to include the position of the sequence.
ALTER TABLE audit_entry ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_entry FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON audit_entry TO holdfast_tenant
    USING (subject_id = (SELECT current_setting('holdfast.subject', true)))
    WITH CHECK (subject_id = (SELECT current_setting('holdfast.subject', true)));
CREATE POLICY work ON audit_entry TO holdfast_worker USING (true) WITH CHECK (true);
CREATE POLICY analysis ON audit_entry FOR SELECT TO holdfast_analyst USING (true);
GRANT SELECT, INSERT ON audit_entry TO holdfast_tenant;
GRANT SELECT, INSERT, DELETE ON audit_entry TO holdfast_worker;
GRANT SELECT ON SEQUENCE audit_entry_id_seq TO holdfast_worker;
GRANT SELECT ON audit_entry TO holdfast_analyst;


-- Webhooks ----------------------------------------------------------------------------------------

ALTER TABLE webhook_target ENABLE ROW LEVEL SECURITY;
ALTER TABLE webhook_target FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON webhook_target TO holdfast_tenant
    USING (subject_id = (SELECT current_setting('holdfast.subject', true)))
    WITH CHECK (subject_id = (SELECT current_setting('holdfast.subject', true)));
CREATE POLICY work ON webhook_target TO holdfast_worker USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE (disabled_at, used_at) ON webhook_target TO holdfast_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON webhook_target TO holdfast_worker;

-- The service makes secrets and shows each once; only a worker opens one that is stored.
ALTER TABLE webhook_secret ENABLE ROW LEVEL SECURITY;
ALTER TABLE webhook_secret FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON webhook_secret TO holdfast_tenant
    USING (subject_id = (SELECT current_setting('holdfast.subject', true)))
    WITH CHECK (subject_id = (SELECT current_setting('holdfast.subject', true)));
CREATE POLICY work ON webhook_secret TO holdfast_worker USING (true) WITH CHECK (true);
GRANT SELECT (id, target_id, subject_id, created_at, expires_at), INSERT, UPDATE (expires_at)
    ON webhook_secret TO holdfast_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON webhook_secret TO holdfast_worker;


-- Workspaces --------------------------------------------------------------------------------------

ALTER TABLE workspace ENABLE ROW LEVEL SECURITY;
ALTER TABLE workspace FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON workspace TO holdfast_tenant
    USING (subject_id = (SELECT current_setting('holdfast.subject', true)))
    WITH CHECK (subject_id = (SELECT current_setting('holdfast.subject', true)));
CREATE POLICY work ON workspace TO holdfast_worker USING (true) WITH CHECK (true);
CREATE POLICY analysis ON workspace FOR SELECT TO holdfast_analyst USING (true);
GRANT SELECT, INSERT, UPDATE ON workspace TO holdfast_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON workspace TO holdfast_worker;
GRANT SELECT ON workspace TO holdfast_analyst;


-- Jobs --------------------------------------------------------------------------------------------

ALTER TABLE job ENABLE ROW LEVEL SECURITY;
ALTER TABLE job FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON job TO holdfast_tenant
    USING (subject_id = (SELECT current_setting('holdfast.subject', true)))
    WITH CHECK (subject_id = (SELECT current_setting('holdfast.subject', true)));
CREATE POLICY work ON job TO holdfast_worker USING (true) WITH CHECK (true);
CREATE POLICY analysis ON job FOR SELECT TO holdfast_analyst USING (true);
GRANT SELECT, INSERT, UPDATE ON job TO holdfast_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON job TO holdfast_worker;
-- All but the progress, which repeats what a call has yielded.
GRANT SELECT (
    id, subject_id, workspace_id, kind, namespace, title, labels, state, version, attempt, tries,
    due_at, cancel_requested_at, reason, message, exit_code, created_at, started_at, finished_at,
    digest, flavor, rerun_of, schedule_id, adoption
) ON job TO holdfast_analyst;

ALTER TABLE job_payload ENABLE ROW LEVEL SECURITY;
ALTER TABLE job_payload FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON job_payload TO holdfast_tenant
    USING (EXISTS (SELECT FROM job WHERE job.id = job_payload.job_id))
    WITH CHECK (true);
CREATE POLICY work ON job_payload TO holdfast_worker USING (true) WITH CHECK (true);
GRANT SELECT, INSERT ON job_payload TO holdfast_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON job_payload TO holdfast_worker;

-- An event is deleted with its job only: a cascade has the rights of the owner of the table, not
-- of the role that deletes the job.
ALTER TABLE job_event ENABLE ROW LEVEL SECURITY;
ALTER TABLE job_event FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON job_event TO holdfast_tenant
    USING (EXISTS (SELECT FROM job WHERE job.id = job_event.job_id))
    WITH CHECK (true);
CREATE POLICY work ON job_event TO holdfast_worker USING (true) WITH CHECK (true);
CREATE POLICY analysis ON job_event FOR SELECT TO holdfast_analyst USING (true);
GRANT SELECT, INSERT ON job_event TO holdfast_tenant;
GRANT SELECT, INSERT ON job_event TO holdfast_worker;
GRANT SELECT ON job_event TO holdfast_analyst;

ALTER TABLE idempotency_key ENABLE ROW LEVEL SECURITY;
ALTER TABLE idempotency_key FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON idempotency_key TO holdfast_tenant
    USING (subject_id = (SELECT current_setting('holdfast.subject', true)))
    WITH CHECK (subject_id = (SELECT current_setting('holdfast.subject', true)));
CREATE POLICY work ON idempotency_key TO holdfast_worker USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE ON idempotency_key TO holdfast_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON idempotency_key TO holdfast_worker;

ALTER TABLE job_label ENABLE ROW LEVEL SECURITY;
ALTER TABLE job_label FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON job_label TO holdfast_tenant
    USING (subject_id = (SELECT current_setting('holdfast.subject', true)))
    WITH CHECK (subject_id = (SELECT current_setting('holdfast.subject', true)));
CREATE POLICY work ON job_label TO holdfast_worker USING (true) WITH CHECK (true);
CREATE POLICY analysis ON job_label FOR SELECT TO holdfast_analyst USING (true);
GRANT SELECT, INSERT ON job_label TO holdfast_tenant;
GRANT SELECT, INSERT, DELETE ON job_label TO holdfast_worker;
GRANT SELECT ON job_label TO holdfast_analyst;

-- The service stores and deletes secrets and never reads them.
ALTER TABLE job_secret ENABLE ROW LEVEL SECURITY;
ALTER TABLE job_secret FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON job_secret TO holdfast_tenant
    USING (subject_id = (SELECT current_setting('holdfast.subject', true)))
    WITH CHECK (subject_id = (SELECT current_setting('holdfast.subject', true)));
CREATE POLICY work ON job_secret TO holdfast_worker USING (true) WITH CHECK (true);
GRANT SELECT (job_id, subject_id), INSERT, DELETE ON job_secret TO holdfast_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON job_secret TO holdfast_worker;

ALTER TABLE job_dependency ENABLE ROW LEVEL SECURITY;
ALTER TABLE job_dependency FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON job_dependency TO holdfast_tenant
    USING (subject_id = (SELECT current_setting('holdfast.subject', true)))
    WITH CHECK (subject_id = (SELECT current_setting('holdfast.subject', true)));
CREATE POLICY work ON job_dependency TO holdfast_worker USING (true) WITH CHECK (true);
CREATE POLICY analysis ON job_dependency FOR SELECT TO holdfast_analyst USING (true);
GRANT SELECT, INSERT, UPDATE ON job_dependency TO holdfast_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON job_dependency TO holdfast_worker;
GRANT SELECT ON job_dependency TO holdfast_analyst;

-- The job is compared as well: a foreign key bypasses row-level security, and whoever could name the
-- job of another subject here would hear of its end.
ALTER TABLE webhook_delivery ENABLE ROW LEVEL SECURITY;
ALTER TABLE webhook_delivery FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON webhook_delivery TO holdfast_tenant
    USING (subject_id = (SELECT current_setting('holdfast.subject', true)))
    WITH CHECK (subject_id = (SELECT current_setting('holdfast.subject', true))
                AND EXISTS (SELECT FROM job WHERE job.id = webhook_delivery.job_id));
CREATE POLICY work ON webhook_delivery TO holdfast_worker USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE (target_id, state, ended_at, due_at) ON webhook_delivery
    TO holdfast_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON webhook_delivery TO holdfast_worker;

ALTER TABLE unseen_job ENABLE ROW LEVEL SECURITY;
ALTER TABLE unseen_job FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON unseen_job TO holdfast_tenant
    USING (subject_id = (SELECT current_setting('holdfast.subject', true)))
    WITH CHECK (subject_id = (SELECT current_setting('holdfast.subject', true)));
CREATE POLICY work ON unseen_job TO holdfast_worker USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE (page), DELETE ON unseen_job TO holdfast_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON unseen_job TO holdfast_worker;


-- Remote runs -------------------------------------------------------------------------------------

ALTER TABLE remote_run ENABLE ROW LEVEL SECURITY;
ALTER TABLE remote_run FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON remote_run TO holdfast_tenant
    USING (subject_id = (SELECT current_setting('holdfast.subject', true)))
    WITH CHECK (subject_id = (SELECT current_setting('holdfast.subject', true)));
CREATE POLICY work ON remote_run TO holdfast_worker USING (true) WITH CHECK (true);
CREATE POLICY analysis ON remote_run FOR SELECT TO holdfast_analyst USING (true);
-- An adoption inserts its run; a launch leaves that to a worker.
GRANT SELECT, INSERT, UPDATE ON remote_run TO holdfast_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON remote_run TO holdfast_worker;
GRANT SELECT ON remote_run TO holdfast_analyst;

ALTER TABLE poll_group ENABLE ROW LEVEL SECURITY;
ALTER TABLE poll_group FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON poll_group TO holdfast_tenant
    USING (subject_id = (SELECT current_setting('holdfast.subject', true)))
    WITH CHECK (subject_id = (SELECT current_setting('holdfast.subject', true)));
CREATE POLICY work ON poll_group TO holdfast_worker USING (true) WITH CHECK (true);
CREATE POLICY analysis ON poll_group FOR SELECT TO holdfast_analyst USING (true);
GRANT SELECT, INSERT, UPDATE ON poll_group TO holdfast_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON poll_group TO holdfast_worker;
GRANT SELECT ON poll_group TO holdfast_analyst;


-- Logs, files and batch items ---------------------------------------------------------------------

ALTER TABLE job_log ENABLE ROW LEVEL SECURITY;
ALTER TABLE job_log FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON job_log TO holdfast_tenant
    USING (EXISTS (SELECT FROM job WHERE job.id = job_log.job_id))
    WITH CHECK (true);
CREATE POLICY work ON job_log TO holdfast_worker USING (true) WITH CHECK (true);
GRANT SELECT ON job_log TO holdfast_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON job_log TO holdfast_worker;

ALTER TABLE log_chunk ENABLE ROW LEVEL SECURITY;
ALTER TABLE log_chunk FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON log_chunk TO holdfast_tenant
    USING (EXISTS (SELECT FROM job WHERE job.id = log_chunk.job_id))
    WITH CHECK (true);
CREATE POLICY work ON log_chunk TO holdfast_worker USING (true) WITH CHECK (true);
GRANT SELECT ON log_chunk TO holdfast_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON log_chunk TO holdfast_worker;

ALTER TABLE job_file ENABLE ROW LEVEL SECURITY;
ALTER TABLE job_file FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON job_file TO holdfast_tenant
    USING (subject_id = (SELECT current_setting('holdfast.subject', true)))
    WITH CHECK (subject_id = (SELECT current_setting('holdfast.subject', true)));
CREATE POLICY work ON job_file TO holdfast_worker USING (true) WITH CHECK (true);
GRANT SELECT ON job_file TO holdfast_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON job_file TO holdfast_worker;

ALTER TABLE upload ENABLE ROW LEVEL SECURITY;
ALTER TABLE upload FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON upload TO holdfast_tenant
    USING (subject_id = (SELECT current_setting('holdfast.subject', true)))
    WITH CHECK (subject_id = (SELECT current_setting('holdfast.subject', true)));
CREATE POLICY work ON upload TO holdfast_worker USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE ON upload TO holdfast_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON upload TO holdfast_worker;

ALTER TABLE upload_chunk ENABLE ROW LEVEL SECURITY;
ALTER TABLE upload_chunk FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON upload_chunk TO holdfast_tenant
    USING (subject_id = (SELECT current_setting('holdfast.subject', true)))
    WITH CHECK (subject_id = (SELECT current_setting('holdfast.subject', true)));
CREATE POLICY work ON upload_chunk TO holdfast_worker USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, DELETE ON upload_chunk TO holdfast_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON upload_chunk TO holdfast_worker;

ALTER TABLE job_upload ENABLE ROW LEVEL SECURITY;
ALTER TABLE job_upload FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON job_upload TO holdfast_tenant
    USING (subject_id = (SELECT current_setting('holdfast.subject', true)))
    WITH CHECK (subject_id = (SELECT current_setting('holdfast.subject', true)));
CREATE POLICY work ON job_upload TO holdfast_worker USING (true) WITH CHECK (true);
GRANT SELECT, INSERT ON job_upload TO holdfast_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON job_upload TO holdfast_worker;

ALTER TABLE batch_item ENABLE ROW LEVEL SECURITY;
ALTER TABLE batch_item FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON batch_item TO holdfast_tenant
    USING (subject_id = (SELECT current_setting('holdfast.subject', true)))
    WITH CHECK (subject_id = (SELECT current_setting('holdfast.subject', true)));
CREATE POLICY work ON batch_item TO holdfast_worker USING (true) WITH CHECK (true);
GRANT SELECT, INSERT ON batch_item TO holdfast_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON batch_item TO holdfast_worker;


-- Cost --------------------------------------------------------------------------------------------

ALTER TABLE job_cost ENABLE ROW LEVEL SECURITY;
ALTER TABLE job_cost FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON job_cost TO holdfast_tenant
    USING (subject_id = (SELECT current_setting('holdfast.subject', true)))
    WITH CHECK (subject_id = (SELECT current_setting('holdfast.subject', true)));
CREATE POLICY work ON job_cost TO holdfast_worker USING (true) WITH CHECK (true);
CREATE POLICY analysis ON job_cost FOR SELECT TO holdfast_analyst USING (true);
GRANT SELECT, INSERT, UPDATE ON job_cost TO holdfast_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON job_cost TO holdfast_worker;
GRANT SELECT ON job_cost TO holdfast_analyst;

ALTER TABLE spending ENABLE ROW LEVEL SECURITY;
ALTER TABLE spending FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON spending TO holdfast_tenant
    USING (subject_id = (SELECT current_setting('holdfast.subject', true)))
    WITH CHECK (subject_id = (SELECT current_setting('holdfast.subject', true)));
CREATE POLICY work ON spending TO holdfast_worker USING (true) WITH CHECK (true);
CREATE POLICY analysis ON spending FOR SELECT TO holdfast_analyst USING (true);
GRANT SELECT, INSERT, UPDATE ON spending TO holdfast_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON spending TO holdfast_worker;
GRANT SELECT ON spending TO holdfast_analyst;

-- A dump is made as the worker, and has to include the position of the sequence.
ALTER TABLE usage_history ENABLE ROW LEVEL SECURITY;
ALTER TABLE usage_history FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON usage_history TO holdfast_tenant
    USING (subject_id = (SELECT current_setting('holdfast.subject', true)))
    WITH CHECK (subject_id = (SELECT current_setting('holdfast.subject', true)));
CREATE POLICY work ON usage_history TO holdfast_worker USING (true) WITH CHECK (true);
CREATE POLICY analysis ON usage_history FOR SELECT TO holdfast_analyst USING (true);
GRANT SELECT ON usage_history TO holdfast_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON usage_history TO holdfast_worker;
GRANT SELECT ON SEQUENCE usage_history_id_seq TO holdfast_worker;
GRANT SELECT ON usage_history TO holdfast_analyst;

-- Prices belong to no subject: every tenant may read and replace them.
ALTER TABLE price_list ENABLE ROW LEVEL SECURITY;
ALTER TABLE price_list FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON price_list TO holdfast_tenant USING (true) WITH CHECK (true);
CREATE POLICY work ON price_list TO holdfast_worker USING (true) WITH CHECK (true);
CREATE POLICY analysis ON price_list FOR SELECT TO holdfast_analyst USING (true);
GRANT SELECT, INSERT, UPDATE ON price_list TO holdfast_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON price_list TO holdfast_worker;
GRANT SELECT ON price_list TO holdfast_analyst;


-- Schedules ---------------------------------------------------------------------------------------

-- Analysts see everything but the request and its idempotency key.
ALTER TABLE schedule ENABLE ROW LEVEL SECURITY;
ALTER TABLE schedule FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON schedule TO holdfast_tenant
    USING (subject_id = (SELECT current_setting('holdfast.subject', true)))
    WITH CHECK (subject_id = (SELECT current_setting('holdfast.subject', true)));
CREATE POLICY work ON schedule TO holdfast_worker USING (true) WITH CHECK (true);
CREATE POLICY analysis ON schedule FOR SELECT TO holdfast_analyst USING (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON schedule TO holdfast_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON schedule TO holdfast_worker;
GRANT SELECT (
    id, subject_id, name, cron, timezone, overlap, missed, workspace_id, kind, namespace, title,
    labels, most_micro_usd, ceiling_micro_usd, created_at, paused_at, next_at, asked_at
) ON schedule TO holdfast_analyst;

ALTER TABLE schedule_firing ENABLE ROW LEVEL SECURITY;
ALTER TABLE schedule_firing FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON schedule_firing TO holdfast_tenant
    USING (subject_id = (SELECT current_setting('holdfast.subject', true)))
    WITH CHECK (subject_id = (SELECT current_setting('holdfast.subject', true)));
CREATE POLICY work ON schedule_firing TO holdfast_worker USING (true) WITH CHECK (true);
CREATE POLICY analysis ON schedule_firing FOR SELECT TO holdfast_analyst USING (true);
GRANT SELECT ON schedule_firing TO holdfast_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON schedule_firing TO holdfast_worker;
GRANT SELECT ON schedule_firing TO holdfast_analyst;

-- Stored, and deleted with the schedule; never read by the service.
ALTER TABLE schedule_secret ENABLE ROW LEVEL SECURITY;
ALTER TABLE schedule_secret FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON schedule_secret TO holdfast_tenant
    USING (subject_id = (SELECT current_setting('holdfast.subject', true)))
    WITH CHECK (subject_id = (SELECT current_setting('holdfast.subject', true)));
CREATE POLICY work ON schedule_secret TO holdfast_worker USING (true) WITH CHECK (true);
GRANT SELECT (schedule_id, subject_id), INSERT ON schedule_secret TO holdfast_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON schedule_secret TO holdfast_worker;


-- Operation ---------------------------------------------------------------------------------------

-- The service shows how many workers there are, of which release, and how long they are silent; it
-- reads neither the names of their hosts nor their errors.
ALTER TABLE worker_heartbeat ENABLE ROW LEVEL SECURITY;
ALTER TABLE worker_heartbeat FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON worker_heartbeat FOR SELECT TO holdfast_tenant USING (true);
CREATE POLICY work ON worker_heartbeat TO holdfast_worker USING (true) WITH CHECK (true);
CREATE POLICY analysis ON worker_heartbeat FOR SELECT TO holdfast_analyst USING (true);
GRANT SELECT (version, key_marks, seen_at, swept_at) ON worker_heartbeat TO holdfast_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON worker_heartbeat TO holdfast_worker;
GRANT SELECT ON worker_heartbeat TO holdfast_analyst;

-- Every process compares its keys with these; they belong to no subject.
ALTER TABLE vault_key ENABLE ROW LEVEL SECURITY;
ALTER TABLE vault_key FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON vault_key TO holdfast_tenant USING (true) WITH CHECK (true);
CREATE POLICY work ON vault_key TO holdfast_worker USING (true) WITH CHECK (true);
GRANT SELECT, INSERT ON vault_key TO holdfast_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON vault_key TO holdfast_worker;

ALTER TABLE deployment ENABLE ROW LEVEL SECURITY;
ALTER TABLE deployment FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON deployment FOR SELECT TO holdfast_tenant USING (true);
CREATE POLICY work ON deployment TO holdfast_worker USING (true) WITH CHECK (true);
GRANT SELECT (max_active, max_active_by_kind) ON deployment TO holdfast_tenant;
GRANT SELECT, UPDATE (max_active, max_active_by_kind) ON deployment TO holdfast_worker;
