-- What the end of a job sets off, whichever transition made it: the job enters the inbox of its subject,
-- and its webhook becomes pending. A trigger does it in the statement that ends the job, so no end is
-- lost, and none is announced that was not committed. A worker sends afterwards.


-- Tables ------------------------------------------------------------------------------------------

-- A URL at which a subject wants to hear of the ends of jobs. The URL itself may give access to
-- something, so it is sealed with the secret; its digest finds the same one again.
CREATE TABLE webhook_target (
    id           uuid        NOT NULL,
    subject_id   text        NOT NULL,
    url_sha      bytea       NOT NULL,
    host         text        NOT NULL,
    failures     integer     NOT NULL DEFAULT 0,  -- in a row
    due_at       timestamptz NOT NULL DEFAULT '-infinity',  -- it rests until then, after a failure
    leased_until timestamptz,  -- one worker at a time sends to it
    disabled_at  timestamptz,  -- it has answered that it is gone
    used_at      timestamptz NOT NULL DEFAULT now(),
    created_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_webhook_target PRIMARY KEY (id),
    CONSTRAINT fk_webhook_target_subject_id_subject
        FOREIGN KEY (subject_id) REFERENCES subject (id),
    CONSTRAINT uq_webhook_target_subject_id_url_sha UNIQUE (subject_id, url_sha),
    -- The target of foreign keys that name a target together with its owner.
    CONSTRAINT uq_webhook_target_id_subject_id UNIQUE (id, subject_id),
    CONSTRAINT ck_webhook_target_failures_counted CHECK (failures >= 0)
);

CREATE INDEX ix_webhook_target_used_at ON webhook_target (used_at);
CREATE INDEX ix_webhook_target_leased ON webhook_target (leased_until)
    WHERE leased_until IS NOT NULL;

-- The sealed URL of a target and a secret that signs what is sent there. After a rotation the earlier
-- secret signs as well until it expires; one of a target does not expire.
CREATE TABLE webhook_secret (
    id         uuid        NOT NULL,
    target_id  uuid        NOT NULL,
    subject_id text        NOT NULL,
    sealed     bytea       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    CONSTRAINT pk_webhook_secret PRIMARY KEY (id),
    CONSTRAINT fk_webhook_secret_target_id_subject_id_webhook_target
        FOREIGN KEY (target_id, subject_id)
        REFERENCES webhook_target (id, subject_id) ON DELETE CASCADE
);

CREATE INDEX ix_webhook_secret_target_id ON webhook_secret (target_id);
CREATE UNIQUE INDEX one_current_secret ON webhook_secret (target_id) WHERE expires_at IS NULL;

-- Where the ends of jobs are announced that are launched into a workspace.
ALTER TABLE workspace
    ADD COLUMN webhook_target_id uuid,
    ADD CONSTRAINT fk_workspace_webhook_target_id_subject_id_webhook_target
        FOREIGN KEY (webhook_target_id, subject_id) REFERENCES webhook_target (id, subject_id);

CREATE INDEX ix_workspace_webhook_target_id ON workspace (webhook_target_id);

-- A job whose end goes to a webhook, from its launch on; a trigger makes it pending when the job ends
-- (below). So no end is lost, whoever ends the job.
CREATE TABLE webhook_delivery (
    job_id          uuid    NOT NULL,
    subject_id      text    NOT NULL,
    target_id       uuid    NOT NULL,
    state           text    NOT NULL DEFAULT 'waiting',
    attempts        integer NOT NULL DEFAULT 0,
    ended_at        timestamptz,
    due_at          timestamptz,
    last_attempt_at timestamptz,
    last_status     integer,
    last_error      text,
    delivered_at    timestamptz,
    CONSTRAINT pk_webhook_delivery PRIMARY KEY (job_id),
    CONSTRAINT fk_webhook_delivery_job_id_job
        FOREIGN KEY (job_id) REFERENCES job (id) ON DELETE CASCADE,
    CONSTRAINT fk_webhook_delivery_target_id_subject_id_webhook_target
        FOREIGN KEY (target_id, subject_id) REFERENCES webhook_target (id, subject_id),
    CONSTRAINT ck_webhook_delivery_state_known CHECK (state IN (
        'waiting', 'pending', 'delivered', 'expired', 'disabled')),
    CONSTRAINT ck_webhook_delivery_last_error_known CHECK (last_error IN (
        'unreachable', 'timed_out', 'refused', 'status', 'unsealable')),
    CONSTRAINT ck_webhook_delivery_ended_unless_waiting CHECK (
        (state = 'waiting') = (ended_at IS NULL)),
    CONSTRAINT ck_webhook_delivery_due_iff_pending CHECK (
        (state = 'pending') = (due_at IS NOT NULL)),
    CONSTRAINT ck_webhook_delivery_delivered_at_a_time CHECK (
        (state = 'delivered') = (delivered_at IS NOT NULL)),
    CONSTRAINT ck_webhook_delivery_attempts_counted CHECK (attempts >= 0)
);

CREATE INDEX ix_webhook_delivery_target_id ON webhook_delivery (target_id, subject_id);
CREATE INDEX ix_webhook_delivery_due ON webhook_delivery (target_id, due_at)
    WHERE due_at IS NOT NULL;

-- A job that has ended, and whose end no call has shown yet: the inbox of its subject. `page` is the
-- page of a list that has shown it and was not acknowledged.
CREATE TABLE unseen_job (
    job_id     uuid NOT NULL,
    subject_id text NOT NULL,
    page       uuid,
    CONSTRAINT pk_unseen_job PRIMARY KEY (job_id),
    CONSTRAINT fk_unseen_job_job_id_job
        FOREIGN KEY (job_id) REFERENCES job (id) ON DELETE CASCADE
);

CREATE INDEX ix_unseen_job_list ON unseen_job (subject_id, job_id);
CREATE INDEX ix_unseen_job_page ON unseen_job (page) WHERE page IS NOT NULL;


-- Triggers ----------------------------------------------------------------------------------------

-- The webhook of a job, chosen when the job is made: that of the job it repeats, or of its workspace. A
-- launch that names another one replaces it in the same transaction. The function runs with the rights
-- of the role that makes the job, under row-level security.
CREATE FUNCTION choose_webhook() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO webhook_delivery (job_id, subject_id, target_id)
  SELECT NEW.id, NEW.subject_id, chosen.target_id
    FROM (SELECT coalesce(
                     (SELECT target_id FROM webhook_delivery
                       WHERE job_id = NEW.rerun_of AND subject_id = NEW.subject_id),
                     (SELECT webhook_target_id FROM workspace
                       WHERE id = NEW.workspace_id AND subject_id = NEW.subject_id)
                 ) AS target_id) AS chosen
   WHERE chosen.target_id IS NOT NULL;
  RETURN NULL;
END $$;

CREATE TRIGGER choose_webhook AFTER INSERT ON job
    FOR EACH ROW
    WHEN (NEW.finished_at IS NULL AND (NEW.rerun_of IS NOT NULL OR NEW.workspace_id IS NOT NULL))
    EXECUTE FUNCTION choose_webhook();


-- The row of the target is read and not locked: jobs of one target may end in any order.
CREATE FUNCTION announce_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO unseen_job (job_id, subject_id) VALUES (NEW.id, NEW.subject_id);
  UPDATE webhook_delivery
     SET state = 'pending', ended_at = now(), due_at = now()
   WHERE job_id = NEW.id AND state = 'waiting';
  RETURN NULL;
END $$;

CREATE TRIGGER announce_end AFTER UPDATE ON job
    FOR EACH ROW WHEN (OLD.finished_at IS NULL AND NEW.finished_at IS NOT NULL)
    EXECUTE FUNCTION announce_end();


-- The targets with pending deliveries, each with the moment at which the first of them may be sent. It
-- looks at one row for each target, however many deliveries wait for a dead one.
CREATE FUNCTION pending_webhooks()
RETURNS TABLE (target_id uuid, subject_id text, due_at timestamptz)
LANGUAGE sql STABLE SECURITY INVOKER AS $$
WITH RECURSIVE first AS (
    (SELECT delivery.target_id, delivery.due_at
       FROM webhook_delivery AS delivery
      WHERE delivery.due_at IS NOT NULL
      ORDER BY delivery.target_id, delivery.due_at
      LIMIT 1)
    UNION ALL
    SELECT next.target_id, next.due_at
      FROM first
     CROSS JOIN LATERAL (
           SELECT delivery.target_id, delivery.due_at
             FROM webhook_delivery AS delivery
            WHERE delivery.due_at IS NOT NULL
              AND delivery.target_id > first.target_id
            ORDER BY delivery.target_id, delivery.due_at
            LIMIT 1) AS next
)
SELECT target.id, target.subject_id,
       greatest(first.due_at, target.due_at, target.leased_until)
  FROM first
  JOIN webhook_target AS target ON target.id = first.target_id
$$;
