-- All tables and their indexes, grouped by theme. The classes in `schema` describe the columns.
--
-- A closed list of words is text with a CHECK, not an enum: a CHECK can be replaced in a
-- transaction, and a word can be taken out again. Every foreign key has an index that begins with
-- its column, so that deleting a row does not scan the table that refers to it. Money is in
-- millionths of a dollar.


-- Subjects ----------------------------------------------------------------------------------------

-- A person, by the immutable id of their Hugging Face account. The counters are maintained by the
-- transitions, in the same transactions.
CREATE TABLE subject (
    id                       text        NOT NULL,
    name                     text        NOT NULL,
    max_active               integer,  -- null: the default of the deployment
    max_active_by_kind       jsonb       NOT NULL DEFAULT '{}',  -- before that of the deployment
    active                   integer     NOT NULL DEFAULT 0,  -- open remote runs of ours
    queued                   integer     NOT NULL DEFAULT 0,  -- queued jobs
    last_served_at           timestamptz NOT NULL DEFAULT '-infinity',
    next_launch_at           timestamptz NOT NULL DEFAULT '-infinity',
    hold                     text,
    held_at                  timestamptz,
    created_at               timestamptz NOT NULL DEFAULT now(),
    monthly_budget_micro_usd bigint,
    CONSTRAINT pk_subject PRIMARY KEY (id),
    CONSTRAINT ck_subject_active_counted CHECK (active >= 0),
    CONSTRAINT ck_subject_queued_counted CHECK (queued >= 0),
    CONSTRAINT ck_subject_hold_known CHECK (hold IN ('credentials', 'operator')),
    CONSTRAINT ck_subject_budget_counted CHECK (monthly_budget_micro_usd >= 0)
);

-- The next subject to serve: the one that was not served for the longest time.
CREATE INDEX ix_subject_serve ON subject (last_served_at) WHERE queued > 0 AND hold IS NULL;

-- The token that a subject lends to their jobs. It is encrypted; the digest tells the same token
-- from a new one without decrypting it.
CREATE TABLE credential (
    subject_id text        NOT NULL,
    sealed     bytea       NOT NULL,
    token_sha  bytea       NOT NULL,
    version    bigint      NOT NULL DEFAULT 1,
    state      text        NOT NULL DEFAULT 'valid',
    expires_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT now(),
    grants     text[]      NOT NULL DEFAULT '{}',  -- a token that allows less does not replace it
    seen_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_credential PRIMARY KEY (subject_id),
    CONSTRAINT fk_credential_subject_id_subject FOREIGN KEY (subject_id) REFERENCES subject (id),
    CONSTRAINT ck_credential_state_known CHECK (state IN ('valid', 'refused'))
);

-- The account at the Hub of somebody who signs in at an authorization server. The key is a hash of
-- the issuer and the subject there. The tokens are encrypted; none are left once they are refused.
CREATE TABLE connected_account (
    sign_in_id    text        NOT NULL,
    connection_id uuid        NOT NULL,  -- another one each time the person connects
    issuer        text        NOT NULL,
    subject_id    text        NOT NULL,
    sealed        bytea       NOT NULL,
    version       bigint      NOT NULL DEFAULT 1,
    state         text        NOT NULL DEFAULT 'connected',
    grants        text[]      NOT NULL DEFAULT '{}',
    expires_at    timestamptz,
    leased_until  timestamptz,  -- one process at a time refreshes the tokens
    connected_at  timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    used_at       timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_connected_account PRIMARY KEY (sign_in_id),
    CONSTRAINT fk_connected_account_subject_id_subject
        FOREIGN KEY (subject_id) REFERENCES subject (id),
    CONSTRAINT ck_connected_account_state_known CHECK (state IN ('connected', 'refused')),
    CONSTRAINT ck_connected_account_sealed_iff_connected CHECK (
        (state = 'connected') = (octet_length(sealed) > 0))
);

CREATE INDEX ix_connected_account_subject_id ON connected_account (subject_id);
CREATE INDEX ix_connected_account_used_at ON connected_account (used_at);
CREATE INDEX ix_connected_account_expires_at ON connected_account (expires_at)
    WHERE state = 'connected';

-- A subject whose rows came from a backup, which may be older than the world: nothing of theirs is
-- launched until the listings of the Hub have been compared with the rows.
CREATE TABLE restored_subject (
    subject_id    text        NOT NULL,
    backup_at     timestamptz NOT NULL,  -- by the clock of the database that was backed up
    restored_at   timestamptz NOT NULL DEFAULT now(),
    due_at        timestamptz NOT NULL DEFAULT now(),
    listings      integer     NOT NULL DEFAULT 0,  -- complete comparisons
    reconciled_at timestamptz,
    CONSTRAINT pk_restored_subject PRIMARY KEY (subject_id),
    CONSTRAINT fk_restored_subject_subject_id_subject
        FOREIGN KEY (subject_id) REFERENCES subject (id)
);

CREATE INDEX ix_restored_subject_due ON restored_subject (due_at) WHERE reconciled_at IS NULL;

-- How often a subject called, counted here while Valkey is unavailable. Unlogged: a crash empties
-- it, which costs one window of counts at most. The time is first in the key: one index finds both
-- a count and the old rows. No foreign key: a count may outlive its subject.
CREATE UNLOGGED TABLE call_window (
    window_start timestamptz NOT NULL,
    subject_id   text        NOT NULL,
    calls        integer     NOT NULL,
    CONSTRAINT pk_call_window PRIMARY KEY (window_start, subject_id)
);

-- What a subject did, or lent, apart from the transitions of a job. Rows are appended and never
-- updated; only retention deletes them. No foreign key: an entry outlives its subject.
CREATE TABLE audit_entry (
    id         bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    subject_id text        NOT NULL,
    client     text,
    action     text        NOT NULL,
    handle     text,
    facts      jsonb       NOT NULL DEFAULT '{}',
    CONSTRAINT pk_audit_entry PRIMARY KEY (id),
    CONSTRAINT ck_audit_entry_action_known CHECK (action IN (
        'workspace_made', 'workspace_updated', 'workspace_archived',
        'schedule_made', 'schedule_updated', 'schedule_deleted',
        'credential_lent', 'credential_refused',
        'account_connected', 'account_disconnected', 'connection_refused', 'link_made',
        'subject_limited', 'subject_held', 'subject_released',
        'subject_exported', 'subject_forgotten'))
);

CREATE INDEX ix_audit_entry_subject ON audit_entry (subject_id, id);
CREATE INDEX ix_audit_entry_handle ON audit_entry (handle) WHERE handle IS NOT NULL;
CREATE INDEX ix_audit_entry_at ON audit_entry (at);


-- Workspaces --------------------------------------------------------------------------------------

-- A named group of a subject's jobs, with a budget and defaults for the launches into it.
CREATE TABLE workspace (
    id                      uuid        NOT NULL,
    subject_id              text        NOT NULL,
    name                    text        NOT NULL,
    created_at              timestamptz NOT NULL DEFAULT now(),
    budget_micro_usd        bigint,
    held_micro_usd          bigint      NOT NULL DEFAULT 0,
    spent_micro_usd         bigint      NOT NULL DEFAULT 0,
    defaults                jsonb       NOT NULL DEFAULT '{}',
    confirm_above_micro_usd bigint,
    archived_at             timestamptz,
    CONSTRAINT pk_workspace PRIMARY KEY (id),
    CONSTRAINT fk_workspace_subject_id_subject FOREIGN KEY (subject_id) REFERENCES subject (id),
    CONSTRAINT uq_workspace_subject_id_name UNIQUE (subject_id, name),
    -- The target of foreign keys that name a workspace together with its owner.
    CONSTRAINT uq_workspace_id_subject_id UNIQUE (id, subject_id),
    CONSTRAINT ck_workspace_name_length CHECK (length(name) BETWEEN 1 AND 100),
    CONSTRAINT ck_workspace_budget_counted CHECK (budget_micro_usd >= 0),
    CONSTRAINT ck_workspace_held_counted CHECK (held_micro_usd >= 0),
    CONSTRAINT ck_workspace_spent_counted CHECK (spent_micro_usd >= 0),
    CONSTRAINT ck_workspace_confirm_above_positive CHECK (confirm_above_micro_usd >= 0)
);


-- Jobs --------------------------------------------------------------------------------------------

-- What a subject asked for. A kind is an open word: a new executor changes nothing here. `rerun_of`
-- and `schedule_id` are not foreign keys: a job outlives the job it repeats and the schedule that
-- fired it. Free space in each page lets an update stay in its page.
CREATE TABLE job (
    id                  uuid        NOT NULL,
    subject_id          text        NOT NULL,
    workspace_id        uuid,
    kind                text        NOT NULL,
    namespace           text        NOT NULL,
    title               text        NOT NULL,
    labels              jsonb       NOT NULL DEFAULT '{}',
    state               text        NOT NULL DEFAULT 'queued',
    version             bigint      NOT NULL DEFAULT 1,
    attempt             integer     NOT NULL DEFAULT 0,
    tries               integer     NOT NULL DEFAULT 0,
    due_at              timestamptz DEFAULT now(),  -- infinity: it waits for other jobs
    cancel_requested_at timestamptz,
    reason              text,
    message             text,
    exit_code           integer,
    created_at          timestamptz NOT NULL DEFAULT now(),
    started_at          timestamptz,
    finished_at         timestamptz,
    digest              bytea,  -- of the request, to recognize the same request
    flavor              text,
    rerun_of            uuid,
    progress            jsonb,
    schedule_id         uuid,
    adoption            jsonb,  -- of a job that was started outside of Holdfast
    CONSTRAINT pk_job PRIMARY KEY (id),
    CONSTRAINT fk_job_subject_id_subject FOREIGN KEY (subject_id) REFERENCES subject (id),
    -- Foreign keys bypass row-level security. Naming the owner as well keeps a job out of the
    -- workspace of another subject.
    CONSTRAINT fk_job_workspace_id_subject_id_workspace
        FOREIGN KEY (workspace_id, subject_id) REFERENCES workspace (id, subject_id),
    CONSTRAINT ck_job_kind_word CHECK (kind ~ '^[a-z][a-z_]{1,39}$'),
    CONSTRAINT ck_job_state_known CHECK (state IN (
        'queued', 'launching', 'running', 'succeeded', 'failed', 'cancelled')),
    -- call_failed: a provider accepted a call and reported its failure later, or its answer cannot
    -- be stored. The call was carried out and may be charged, so it is neither unknown nor
    -- rejected.
    CONSTRAINT ck_job_reason_known CHECK (reason IN (
        'exit_nonzero', 'oom', 'timed_out', 'insufficient_credits', 'missing_permission',
        'invalid_request', 'launch_unconfirmed', 'outcome_unknown', 'upstream_deleted',
        'cancelled_upstream', 'stuck_scheduling', 'hub_unavailable', 'outputs_missing',
        'dependency_failed', 'call_failed', 'internal')),
    CONSTRAINT ck_job_due_iff_queued CHECK ((state = 'queued') = (due_at IS NOT NULL)),
    CONSTRAINT ck_job_finished_iff_final CHECK (
        (state IN ('succeeded', 'failed', 'cancelled')) = (finished_at IS NOT NULL)),
    CONSTRAINT ck_job_failed_for_a_reason CHECK (state <> 'failed' OR reason IS NOT NULL),
    CONSTRAINT ck_job_cancelled_on_request CHECK (
        state <> 'cancelled' OR cancel_requested_at IS NOT NULL),
    CONSTRAINT ck_job_cancel_is_final CHECK (
        cancel_requested_at IS NULL OR finished_at IS NOT NULL),
    CONSTRAINT ck_job_tries_bounded CHECK (tries BETWEEN 0 AND 50)
) WITH (fillfactor = 80);

CREATE INDEX ix_job_due ON job (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX ix_job_queue ON job (subject_id, created_at) WHERE state = 'queued';
CREATE INDEX ix_job_list ON job (subject_id, id);
CREATE INDEX ix_job_workspace ON job (workspace_id, id);
CREATE INDEX ix_job_digest ON job (subject_id, digest, created_at);
CREATE INDEX ix_job_rerun_of ON job (rerun_of, id) WHERE rerun_of IS NOT NULL;
CREATE INDEX ix_job_schedule ON job (schedule_id, id) WHERE schedule_id IS NOT NULL;
CREATE INDEX ix_job_retain ON job (kind, finished_at) WHERE finished_at IS NOT NULL;

-- The large part of a job, in a table of its own so that a transition rewrites only a narrow row.
CREATE TABLE job_payload (
    job_id uuid  NOT NULL,
    spec   jsonb NOT NULL,
    result jsonb,
    CONSTRAINT pk_job_payload PRIMARY KEY (job_id),
    CONSTRAINT fk_job_payload_job_id_job
        FOREIGN KEY (job_id) REFERENCES job (id) ON DELETE CASCADE,
    CONSTRAINT ck_job_payload_spec_size CHECK (pg_column_size(spec) < 1048576)
);

-- The history of a job: one row for each transition. Rows are appended and never updated.
CREATE TABLE job_event (
    job_id  uuid        NOT NULL,
    version bigint      NOT NULL,
    kind    text        NOT NULL,
    state   text        NOT NULL,
    actor   text        NOT NULL,
    facts   jsonb       NOT NULL DEFAULT '{}',
    at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT pk_job_event PRIMARY KEY (job_id, version),
    CONSTRAINT fk_job_event_job_id_job
        FOREIGN KEY (job_id) REFERENCES job (id) ON DELETE CASCADE,
    CONSTRAINT ck_job_event_kind_known CHECK (kind IN (
        'created', 'claimed', 'begun', 'rejected', 'handed_back', 'unconfirmed', 'bound', 'absent',
        'unwatched', 'surplus', 'stage', 'progressed', 'released', 'expired', 'ended',
        'cancelled')),
    CONSTRAINT ck_job_event_state_known CHECK (state IN (
        'queued', 'launching', 'running', 'succeeded', 'failed', 'cancelled'))
);

-- Two requests of a subject with the same key are one job.
CREATE TABLE idempotency_key (
    subject_id     text        NOT NULL,
    key            text        NOT NULL,
    job_id         uuid        NOT NULL,
    expires_at     timestamptz NOT NULL,
    secrets_digest text,
    CONSTRAINT pk_idempotency_key PRIMARY KEY (subject_id, key),
    CONSTRAINT fk_idempotency_key_subject_id_subject
        FOREIGN KEY (subject_id) REFERENCES subject (id),
    CONSTRAINT fk_idempotency_key_job_id_job
        FOREIGN KEY (job_id) REFERENCES job (id) ON DELETE CASCADE,
    CONSTRAINT ck_idempotency_key_key_length CHECK (length(key) BETWEEN 1 AND 200)
);

CREATE INDEX ix_idempotency_key_job_id ON idempotency_key (job_id);
CREATE INDEX ix_idempotency_key_expires_at ON idempotency_key (expires_at);

-- The labels of a job once more, one a row, written by a trigger (label_copies.sql): an index can find
-- a job by them only so. Row-level security keeps an index away from `labels @>`.
CREATE TABLE job_label (
    job_id     uuid NOT NULL,
    name       text NOT NULL,
    subject_id text NOT NULL,
    value      text NOT NULL,
    CONSTRAINT pk_job_label PRIMARY KEY (job_id, name),
    CONSTRAINT fk_job_label_job_id_job
        FOREIGN KEY (job_id) REFERENCES job (id) ON DELETE CASCADE
);

CREATE INDEX ix_job_label_find ON job_label (subject_id, name, value, job_id);

-- The encrypted secrets of a job; a trigger deletes them (secret_removal.sql).
CREATE TABLE job_secret (
    job_id     uuid  NOT NULL,
    subject_id text  NOT NULL,
    sealed     bytea NOT NULL,
    CONSTRAINT pk_job_secret PRIMARY KEY (job_id),
    CONSTRAINT fk_job_secret_job_id_job
        FOREIGN KEY (job_id) REFERENCES job (id) ON DELETE CASCADE
);

-- Which job waits for which. The parent is not a foreign key: a job outlives the job it waited for.
CREATE TABLE job_dependency (
    job_id     uuid    NOT NULL,
    parent_id  uuid    NOT NULL,
    subject_id text    NOT NULL,
    on_end     text    NOT NULL,
    state      text    NOT NULL,
    told       boolean NOT NULL DEFAULT false,  -- a worker has acted on the state
    CONSTRAINT pk_job_dependency PRIMARY KEY (job_id, parent_id),
    CONSTRAINT fk_job_dependency_job_id_job
        FOREIGN KEY (job_id) REFERENCES job (id) ON DELETE CASCADE,
    CONSTRAINT ck_job_dependency_on_end_known CHECK (on_end IN ('success', 'finish')),
    CONSTRAINT ck_job_dependency_state_known CHECK (state IN ('waiting', 'met', 'unmet'))
);

CREATE INDEX ix_job_dependency_parent ON job_dependency (parent_id) WHERE state = 'waiting';
CREATE INDEX ix_job_dependency_untold ON job_dependency (job_id)
    WHERE state <> 'waiting' AND NOT told;


-- Remote runs -------------------------------------------------------------------------------------

-- One thing upstream that may cost money; a job has one for each attempt. It is a row of its own
-- because a cancelled job may still have a run to stop, and a lost answer may leave an unknown run.
CREATE TABLE remote_run (
    id             uuid        NOT NULL,
    job_id         uuid        NOT NULL,
    subject_id     text        NOT NULL,
    namespace      text        NOT NULL,
    kind           text        NOT NULL,
    attempt        integer     NOT NULL,
    origin         text        NOT NULL DEFAULT 'ours',
    state          text        NOT NULL,
    desired        text        NOT NULL DEFAULT 'alive',
    remote_id      text,
    due_at         timestamptz,
    absent_after   timestamptz NOT NULL,
    misses         integer     NOT NULL DEFAULT 0,
    kills          integer     NOT NULL DEFAULT 0,
    stage          text,
    log_lines      bigint      NOT NULL DEFAULT 0,
    posted_at      timestamptz NOT NULL DEFAULT now(),
    seen_at        timestamptz,
    deadline_at    timestamptz,  -- of its stage; for an absent run: watched until then
    cost_micro_usd bigint,
    addresses      jsonb,  -- URLs of its exposed ports and of SSH, as the Hub names them
    CONSTRAINT pk_remote_run PRIMARY KEY (id),
    CONSTRAINT fk_remote_run_job_id_job FOREIGN KEY (job_id) REFERENCES job (id),
    CONSTRAINT fk_remote_run_subject_id_subject FOREIGN KEY (subject_id) REFERENCES subject (id),
    -- Two people of one organisation may each have a handle of the same job there.
    CONSTRAINT uq_remote_run_namespace_remote_id_subject_id
        UNIQUE (namespace, remote_id, subject_id),
    CONSTRAINT ck_remote_run_kind_word CHECK (kind ~ '^[a-z][a-z_]{1,39}$'),
    CONSTRAINT ck_remote_run_origin_known CHECK (origin IN ('ours', 'surplus')),
    CONSTRAINT ck_remote_run_state_known CHECK (state IN (
        'posting', 'unknown', 'rejected', 'absent', 'bound', 'ended')),
    CONSTRAINT ck_remote_run_desired_known CHECK (desired IN ('alive', 'dead')),
    CONSTRAINT ck_remote_run_bound_by_id CHECK (state <> 'bound' OR remote_id IS NOT NULL),
    CONSTRAINT ck_remote_run_id_when_seen CHECK (
        remote_id IS NULL OR state IN ('bound', 'ended')),
    CONSTRAINT ck_remote_run_surplus_dies CHECK (origin = 'ours' OR desired = 'dead'),
    CONSTRAINT ck_remote_run_owed_a_step CHECK (
        (state IN ('posting', 'unknown') OR (state = 'bound' AND desired = 'dead'))
        = (due_at IS NOT NULL)),
    CONSTRAINT ck_remote_run_cost_counted CHECK (cost_micro_usd >= 0)
);

-- A job has at most one launch that is, or may be, alive upstream.
CREATE UNIQUE INDEX one_open_launch ON remote_run (job_id)
    WHERE origin = 'ours' AND state IN ('posting', 'unknown', 'bound');

-- A job has one run for each attempt; surplus runs are not counted.
CREATE UNIQUE INDEX one_run_an_attempt ON remote_run (job_id, attempt) WHERE origin = 'ours';

CREATE INDEX ix_remote_run_job_id ON remote_run (job_id);
CREATE INDEX ix_remote_run_due ON remote_run (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX ix_remote_run_live ON remote_run (subject_id, namespace) WHERE state = 'bound';
CREATE INDEX ix_remote_run_open ON remote_run (subject_id, kind)
    WHERE origin = 'ours' AND state IN ('posting', 'unknown', 'bound');
CREATE INDEX ix_remote_run_watched ON remote_run (deadline_at)
    WHERE state = 'absent' AND deadline_at IS NOT NULL;

-- What one listing of the Hub covers: the runs of a subject in one namespace.
CREATE TABLE poll_group (
    subject_id  text    NOT NULL,
    namespace   text    NOT NULL,
    live        integer NOT NULL DEFAULT 0,  -- bound runs
    due_at      timestamptz,
    epoch       bigint  NOT NULL DEFAULT 0,  -- a lease that expired cannot be given back
    watch_until timestamptz,
    CONSTRAINT pk_poll_group PRIMARY KEY (subject_id, namespace),
    CONSTRAINT fk_poll_group_subject_id_subject FOREIGN KEY (subject_id) REFERENCES subject (id),
    CONSTRAINT ck_poll_group_live_counted CHECK (live >= 0),
    CONSTRAINT ck_poll_group_watched_while_live CHECK (live = 0 OR due_at IS NOT NULL)
);

CREATE INDEX ix_poll_group_due ON poll_group (due_at) WHERE due_at IS NOT NULL;


-- Logs, files and batch items ---------------------------------------------------------------------

-- How much of a job's log is stored: its beginning, and a tail that moves with its end.
CREATE TABLE job_log (
    job_id     uuid   NOT NULL,
    length     bigint NOT NULL,
    head_lines bigint NOT NULL,
    head_bytes bigint NOT NULL,
    tail_start bigint NOT NULL,
    tail_bytes bigint NOT NULL,
    CONSTRAINT pk_job_log PRIMARY KEY (job_id),
    CONSTRAINT fk_job_log_job_id_job FOREIGN KEY (job_id) REFERENCES job (id) ON DELETE CASCADE,
    CONSTRAINT ck_job_log_in_order CHECK (
        0 <= head_lines AND head_lines <= tail_start AND tail_start <= length)
);

-- Log lines that were captured together.
CREATE TABLE log_chunk (
    job_id      uuid        NOT NULL,
    first_line  bigint      NOT NULL,
    lines       text[]      NOT NULL,
    captured_at timestamptz NOT NULL DEFAULT now(),
    line_count  integer     NOT NULL DEFAULT 0,
    bytes       integer     NOT NULL DEFAULT 0,
    CONSTRAINT pk_log_chunk PRIMARY KEY (job_id, first_line),
    CONSTRAINT fk_log_chunk_job_id_job
        FOREIGN KEY (job_id) REFERENCES job (id) ON DELETE CASCADE
);

-- The files a job left: the bytes are here (`content`) or at the Hub (`uri`). A file that is here
-- has the size and the digest that are shown of it, and is no larger than any setting allows (200
-- MiB).
CREATE TABLE job_file (
    job_id     uuid   NOT NULL,
    name       text   NOT NULL,
    subject_id text   NOT NULL,
    size_bytes bigint NOT NULL,
    media_type text,
    sha256     text,
    revision   text,
    uri        text,
    content    bytea,
    CONSTRAINT pk_job_file PRIMARY KEY (job_id, name),
    CONSTRAINT fk_job_file_job_id_job FOREIGN KEY (job_id) REFERENCES job (id) ON DELETE CASCADE,
    CONSTRAINT ck_job_file_name_length CHECK (length(name) BETWEEN 1 AND 1000),
    CONSTRAINT ck_job_file_size_counted CHECK (size_bytes >= 0),
    CONSTRAINT ck_job_file_one_place CHECK ((uri IS NULL) <> (content IS NULL)),
    CONSTRAINT ck_job_file_content_described CHECK (
        content IS NULL
        OR (octet_length(content) = size_bytes AND sha256 IS NOT NULL AND size_bytes <= 209715200))
);

-- Without compression: most files are compressed already, and a download reads them in pieces.
ALTER TABLE job_file ALTER COLUMN content SET STORAGE EXTERNAL;

-- A batch is one job with many calls. Each call is a row: a commit marks it before it is sent, and
-- another records its outcome, so a crash never sends a finished item again. No index contains the
-- state, and pages have free space, so marking an item updates no index.
CREATE TABLE batch_item (
    job_id            uuid    NOT NULL,
    position          integer NOT NULL,
    subject_id        text    NOT NULL,
    custom_id         text    NOT NULL,
    request           jsonb   NOT NULL,
    state             text    NOT NULL DEFAULT 'pending',
    run_id            uuid,
    tries             integer NOT NULL DEFAULT 0,
    result            jsonb,
    reason            text,
    message           text,
    prompt_tokens     bigint,
    completion_tokens bigint,
    CONSTRAINT pk_batch_item PRIMARY KEY (job_id, position),
    CONSTRAINT fk_batch_item_job_id_job
        FOREIGN KEY (job_id) REFERENCES job (id) ON DELETE CASCADE,
    CONSTRAINT uq_batch_item_job_id_custom_id UNIQUE (job_id, custom_id),
    CONSTRAINT ck_batch_item_custom_id_length CHECK (length(custom_id) BETWEEN 1 AND 200),
    CONSTRAINT ck_batch_item_state_known CHECK (state IN (
        'pending', 'sent', 'done', 'failed', 'unknown')),
    CONSTRAINT ck_batch_item_sent_by_a_run CHECK (state <> 'sent' OR run_id IS NOT NULL),
    CONSTRAINT ck_batch_item_done_with_a_result CHECK (
        state = 'failed' OR (state = 'done') = (result IS NOT NULL)),
    CONSTRAINT ck_batch_item_failed_for_a_reason CHECK (
        (state IN ('failed', 'unknown')) = (reason IS NOT NULL))
) WITH (fillfactor = 70);


-- Cost --------------------------------------------------------------------------------------------

-- What a job may cost at most is reserved at its launch (`held`), and a trigger settles it
-- (cost_settlement.sql). A job without a price has no row. Apart from the job, so that a transition
-- rewrites only a narrow row.
CREATE TABLE job_cost (
    job_id              uuid   NOT NULL,
    subject_id          text   NOT NULL,
    month               date   NOT NULL,
    price_micro_usd     bigint NOT NULL,
    ceiling_micro_usd   bigint NOT NULL,
    most_micro_usd      bigint,
    held_micro_usd      bigint NOT NULL,
    spent_micro_usd     bigint,
    uncounted_micro_usd bigint NOT NULL DEFAULT 0,
    CONSTRAINT pk_job_cost PRIMARY KEY (job_id),
    CONSTRAINT fk_job_cost_job_id_job FOREIGN KEY (job_id) REFERENCES job (id) ON DELETE CASCADE,
    CONSTRAINT ck_job_cost_priced CHECK (price_micro_usd >= 0),
    CONSTRAINT ck_job_cost_bounded CHECK (ceiling_micro_usd >= 0),
    CONSTRAINT ck_job_cost_held_counted CHECK (held_micro_usd >= 0),
    CONSTRAINT ck_job_cost_held_within_most CHECK (held_micro_usd <= most_micro_usd),
    CONSTRAINT ck_job_cost_spent_counted CHECK (spent_micro_usd >= 0),
    CONSTRAINT ck_job_cost_settled_once CHECK (spent_micro_usd IS NULL OR held_micro_usd = 0)
);

-- The reserved and the spent cost of a subject in one month (UTC).
CREATE TABLE spending (
    subject_id      text   NOT NULL,
    month           date   NOT NULL,
    held_micro_usd  bigint NOT NULL DEFAULT 0,
    spent_micro_usd bigint NOT NULL DEFAULT 0,
    CONSTRAINT pk_spending PRIMARY KEY (subject_id, month),
    CONSTRAINT fk_spending_subject_id_subject FOREIGN KEY (subject_id) REFERENCES subject (id),
    CONSTRAINT ck_spending_held_counted CHECK (held_micro_usd >= 0),
    CONSTRAINT ck_spending_spent_counted CHECK (spent_micro_usd >= 0)
);

-- What the deleted jobs of a subject were, and what they cost: one row for each day (UTC) of creation,
-- kind, workspace, flavor and namespace. The deletion of a job adds to it, so the views of usage count
-- a job that is deleted like one that is not.
CREATE TABLE usage_history (
    id                  bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    subject_id          text   NOT NULL,
    day                 date   NOT NULL,
    kind                text   NOT NULL,
    workspace_id        uuid,
    flavor              text,
    namespace           text   NOT NULL,
    jobs                bigint NOT NULL,
    succeeded           bigint NOT NULL,
    failed              bigint NOT NULL,
    cancelled           bigint NOT NULL,
    run_microseconds    bigint,  -- null if none of them was seen to start
    spent_micro_usd     bigint NOT NULL,
    uncounted_micro_usd bigint NOT NULL,
    unpriced            bigint NOT NULL,
    CONSTRAINT pk_usage_history PRIMARY KEY (id),
    CONSTRAINT fk_usage_history_subject_id_subject
        FOREIGN KEY (subject_id) REFERENCES subject (id),
    -- With the owner, for the same reason as in `job`.
    CONSTRAINT fk_usage_history_workspace_id_subject_id_workspace
        FOREIGN KEY (workspace_id, subject_id) REFERENCES workspace (id, subject_id),
    CONSTRAINT uq_usage_history_group
        UNIQUE NULLS NOT DISTINCT (subject_id, day, kind, workspace_id, flavor, namespace),
    CONSTRAINT ck_usage_history_spent_counted CHECK (spent_micro_usd >= 0)
);

CREATE INDEX ix_usage_history_workspace ON usage_history (workspace_id);
CREATE INDEX ix_usage_history_day ON usage_history (day);

-- The last good list of prices from each source. It belongs to no subject.
CREATE TABLE price_list (
    source  text        NOT NULL,
    entries jsonb       NOT NULL,
    read_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_price_list PRIMARY KEY (source)
);


-- Schedules ---------------------------------------------------------------------------------------

-- A request that is launched again and again.
CREATE TABLE schedule (
    id                uuid        NOT NULL,
    subject_id        text        NOT NULL,
    name              text        NOT NULL,
    cron              text        NOT NULL,
    timezone          text        NOT NULL,
    overlap           text        NOT NULL,
    missed            text        NOT NULL,
    workspace_id      uuid,
    kind              text        NOT NULL,
    namespace         text        NOT NULL,
    title             text        NOT NULL,
    spec              jsonb       NOT NULL,
    labels            jsonb       NOT NULL DEFAULT '{}',
    most_micro_usd    bigint,
    ceiling_micro_usd bigint,
    idempotency_key   text,
    secrets_digest    text,
    created_at        timestamptz NOT NULL DEFAULT now(),
    paused_at         timestamptz,
    next_at           timestamptz,
    asked_at          timestamptz,
    due_at            timestamptz,
    CONSTRAINT pk_schedule PRIMARY KEY (id),
    CONSTRAINT fk_schedule_subject_id_subject FOREIGN KEY (subject_id) REFERENCES subject (id),
    -- With the owner, for the same reason as in `job`.
    CONSTRAINT fk_schedule_workspace_id_subject_id_workspace
        FOREIGN KEY (workspace_id, subject_id) REFERENCES workspace (id, subject_id),
    CONSTRAINT uq_schedule_subject_id_idempotency_key UNIQUE (subject_id, idempotency_key),
    CONSTRAINT ck_schedule_name_length CHECK (length(name) BETWEEN 1 AND 200),
    CONSTRAINT ck_schedule_overlap_known CHECK (overlap IN ('skip', 'allow')),
    CONSTRAINT ck_schedule_missed_known CHECK (missed IN ('run_once', 'skip')),
    CONSTRAINT ck_schedule_kind_word CHECK (kind ~ '^[a-z][a-z_]{1,39}$'),
    CONSTRAINT ck_schedule_spec_size CHECK (pg_column_size(spec) < 1048576),
    CONSTRAINT ck_schedule_key_length CHECK (length(idempotency_key) BETWEEN 1 AND 200),
    CONSTRAINT ck_schedule_next_unless_paused CHECK ((paused_at IS NULL) = (next_at IS NOT NULL)),
    CONSTRAINT ck_schedule_due_iff_awaited CHECK (
        (due_at IS NULL) = (next_at IS NULL AND asked_at IS NULL))
);

CREATE INDEX ix_schedule_list ON schedule (subject_id, id);
CREATE INDEX ix_schedule_workspace ON schedule (workspace_id);
CREATE INDEX ix_schedule_due ON schedule (due_at) WHERE due_at IS NOT NULL;

-- What happened at each time of a schedule.
CREATE TABLE schedule_firing (
    schedule_id uuid        NOT NULL,
    fire_at     timestamptz NOT NULL,
    subject_id  text        NOT NULL,
    asked       boolean     NOT NULL,
    became      text        NOT NULL,
    job_id      uuid,
    code        text,
    message     text,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT pk_schedule_firing PRIMARY KEY (schedule_id, fire_at),
    CONSTRAINT fk_schedule_firing_schedule_id_schedule
        FOREIGN KEY (schedule_id) REFERENCES schedule (id) ON DELETE CASCADE,
    CONSTRAINT ck_schedule_firing_became_known CHECK (became IN (
        'launched', 'skipped', 'missed', 'refused')),
    CONSTRAINT ck_schedule_firing_job_iff_one CHECK (
        (became IN ('launched', 'skipped')) = (job_id IS NOT NULL)),
    CONSTRAINT ck_schedule_firing_message_iff_refused CHECK (
        (became = 'refused') = (message IS NOT NULL))
);

CREATE INDEX ix_schedule_firing_at ON schedule_firing (at);

-- The encrypted secrets that the jobs of a schedule receive.
CREATE TABLE schedule_secret (
    schedule_id uuid  NOT NULL,
    subject_id  text  NOT NULL,
    sealed      bytea NOT NULL,
    CONSTRAINT pk_schedule_secret PRIMARY KEY (schedule_id),
    CONSTRAINT fk_schedule_secret_schedule_id_schedule
        FOREIGN KEY (schedule_id) REFERENCES schedule (id) ON DELETE CASCADE
);


-- Operation ---------------------------------------------------------------------------------------

-- What each worker last said of itself. It belongs to no subject, and decides nothing: leases do.
CREATE TABLE worker_heartbeat (
    name          text        NOT NULL,  -- host and process
    version       text        NOT NULL,
    key_marks     text[]      NOT NULL,  -- of the keys of its vault; no key can be computed from one
    attempts      integer     NOT NULL,
    started_at    timestamptz NOT NULL DEFAULT now(),
    seen_at       timestamptz NOT NULL DEFAULT now(),
    swept_at      timestamptz NOT NULL,
    last_error    text,
    last_error_at timestamptz,
    CONSTRAINT pk_worker_heartbeat PRIMARY KEY (name)
);

-- One row. The id is the name of this deployment, on a label of all its jobs at the Hub. After a
-- restore it tells our jobs from those of another Holdfast that the same person uses. A backup
-- includes it. The limits are those of the settings of the worker that started last: how many jobs
-- of a subject without limits of their own run at a time, in all and of each kind.
CREATE TABLE deployment (
    id                 uuid    NOT NULL DEFAULT gen_random_uuid(),
    only_one           boolean NOT NULL DEFAULT true,
    max_active         integer NOT NULL DEFAULT 100,
    max_active_by_kind jsonb   NOT NULL DEFAULT '{}',
    CONSTRAINT pk_deployment PRIMARY KEY (only_one),
    CONSTRAINT ck_deployment_only_one CHECK (only_one)
);

INSERT INTO deployment DEFAULT VALUES;

-- Which key each id of the vault's keys stands for: written by the first process that seals with
-- it. The mark is of the key itself, so another key with the same id is noticed at once.
CREATE TABLE vault_key (
    key_id     text        NOT NULL,
    mark       text        NOT NULL,  -- no key can be computed from it
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_vault_key PRIMARY KEY (key_id)
);
