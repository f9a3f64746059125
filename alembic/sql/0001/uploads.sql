-- Files that people send, and the jobs that read them.


-- A file that somebody sends by a link, for the jobs that it is named in. `declared_bytes` is the size
-- that was announced when the link was made, `size_bytes` the size that counts for their quota. A later
-- request through the link has another `attempt`, and takes over from one that has not finished. While
-- the bytes are here they are chunks of the last attempt; else they are in the bucket of `location`, at
-- `uri`.
CREATE TABLE upload (
    id              uuid        NOT NULL,
    subject_id      text        NOT NULL,
    workspace_id    uuid,
    name            text        NOT NULL,
    media_type      text,
    declared_bytes  bigint,
    size_bytes      bigint,
    location        text        NOT NULL,
    state           text        NOT NULL DEFAULT 'pending',
    attempt         uuid,
    sha256          text,
    uri             text,
    revision        text,
    created_at      timestamptz NOT NULL DEFAULT now(),
    link_expires_at timestamptz NOT NULL,
    expires_at      timestamptz NOT NULL,
    due_at          timestamptz,  -- when a worker moves it to its bucket
    CONSTRAINT pk_upload PRIMARY KEY (id),
    -- What belongs to an upload refers to it with its owner.
    CONSTRAINT uq_upload_id_subject_id UNIQUE (id, subject_id),
    CONSTRAINT fk_upload_subject_id_subject FOREIGN KEY (subject_id) REFERENCES subject (id),
    CONSTRAINT fk_upload_workspace_id_subject_id_workspace
        FOREIGN KEY (workspace_id, subject_id) REFERENCES workspace (id, subject_id),
    CONSTRAINT ck_upload_state_known CHECK (state IN ('pending', 'ready')),
    CONSTRAINT ck_upload_name_length CHECK (length(name) BETWEEN 1 AND 200),
    CONSTRAINT ck_upload_size_counted CHECK (size_bytes > 0 AND declared_bytes > 0),
    CONSTRAINT ck_upload_ready_described CHECK (
        (state = 'ready') = (sha256 IS NOT NULL)
        AND (state = 'pending' OR (size_bytes IS NOT NULL AND attempt IS NOT NULL))),
    CONSTRAINT ck_upload_moved_when_ready CHECK (
        state = 'ready' OR (uri IS NULL AND due_at IS NULL)),
    CONSTRAINT ck_upload_moved_once CHECK (uri IS NULL OR due_at IS NULL)
);

CREATE INDEX ix_upload_subject ON upload (subject_id);
CREATE INDEX ix_upload_workspace ON upload (workspace_id);
CREATE INDEX ix_upload_expires ON upload (expires_at);
CREATE INDEX ix_upload_due ON upload (due_at) WHERE due_at IS NOT NULL;

-- The bytes of an upload, in pieces of one size; only the last one is shorter.
CREATE TABLE upload_chunk (
    upload_id  uuid    NOT NULL,
    attempt    uuid    NOT NULL,
    position   integer NOT NULL,
    subject_id text    NOT NULL,
    content    bytea   NOT NULL,
    CONSTRAINT pk_upload_chunk PRIMARY KEY (upload_id, attempt, position),
    CONSTRAINT fk_upload_chunk_upload_id_subject_id_upload
        FOREIGN KEY (upload_id, subject_id) REFERENCES upload (id, subject_id) ON DELETE CASCADE,
    CONSTRAINT ck_upload_chunk_size CHECK (octet_length(content) BETWEEN 1 AND 524288)
);

ALTER TABLE upload_chunk ALTER COLUMN content SET STORAGE EXTERNAL;

-- The uploads that a job reads: none of them is deleted before the job has ended.
CREATE TABLE job_upload (
    job_id     uuid NOT NULL,
    upload_id  uuid NOT NULL,
    subject_id text NOT NULL,
    CONSTRAINT pk_job_upload PRIMARY KEY (job_id, upload_id),
    CONSTRAINT fk_job_upload_job_id_job
        FOREIGN KEY (job_id) REFERENCES job (id) ON DELETE CASCADE,
    CONSTRAINT fk_job_upload_upload_id_subject_id_upload
        FOREIGN KEY (upload_id, subject_id) REFERENCES upload (id, subject_id) ON DELETE CASCADE
);

CREATE INDEX ix_job_upload_upload ON job_upload (upload_id);
