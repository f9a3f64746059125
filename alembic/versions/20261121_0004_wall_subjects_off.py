"""Wall subjects off

Row-level security, forced, on every table that holds a subject's rows, and the three roles that
policies are about. Roles belong to the whole server: they are made if they are not there, and stay
when this is undone. A login that may not make roles needs them made by an administrator before.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TENANT, WORKER, ANALYST = "holdfast_tenant", "holdfast_worker", "holdfast_analyst"
ROLES = f"{TENANT}, {WORKER}, {ANALYST}"

SUBJECT_COLUMN = {
    "subject": "id",
    "credential": "subject_id",
    "poll_group": "subject_id",
    "workspace": "subject_id",
    "job": "subject_id",
    "idempotency_key": "subject_id",
    "remote_run": "subject_id",
}
OF_A_JOB = ("job_event", "job_payload", "log_chunk")
SHOWN_TO_ANALYSTS = ("subject", "workspace", "job", "job_event", "remote_run", "poll_group")

MAKE_ROLES = f"""
DO $$
DECLARE wanted text; member boolean;
BEGIN
  FOREACH wanted IN ARRAY string_to_array('{ROLES}', ', ') LOOP
    BEGIN
      IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
        BEGIN
          EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
          NULL;  -- the migration of another database was faster
        END;
      END IF;
      IF current_setting('server_version_num')::int >= 160000 THEN
        -- Not inherited: whoever forgets to take on a role sees nothing, not everything.
        EXECUTE format('SELECT pg_has_role(current_user, %L, %L)', wanted, 'SET') INTO member;
        IF NOT member THEN
          EXECUTE format('GRANT %I TO CURRENT_USER WITH INHERIT FALSE, SET TRUE', wanted);
        END IF;
      ELSIF NOT pg_has_role(current_user, wanted, 'MEMBER') THEN
        EXECUTE format('GRANT %I TO CURRENT_USER', wanted);
      END IF;
    EXCEPTION WHEN insufficient_privilege THEN
      RAISE insufficient_privilege USING MESSAGE = format(
        '%2$I may not make the role %1$I, or take it on. Have an administrator run: '
        'CREATE ROLE %1$I NOLOGIN (unless there is one); GRANT %1$I TO %2$I', wanted, current_user);
    END;
  END LOOP;
END $$
"""

# Nobody may look into other logins' sessions, but how many workers there are is no secret.
COUNT_WORKERS = """
CREATE FUNCTION workers_connected() RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog AS $$
SELECT count(DISTINCT application_name) FROM pg_stat_activity
 WHERE datname = current_database() AND application_name LIKE 'holdfast-worker%'
$$
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    op.execute(MAKE_ROLES)
    op.execute(f"GRANT USAGE ON SCHEMA public TO {ROLES}")
    op.execute(f"GRANT SELECT ON alembic_version TO {ROLES}")
    for table, column in SUBJECT_COLUMN.items():
        own = f"{column} = (SELECT current_setting('holdfast.subject', true))"
        _wall_off(table, f"USING ({own}) WITH CHECK ({own})")
    for table in OF_A_JOB:
        # What is written beside a job of one statement: that job cannot be seen by it yet.
        own = f"EXISTS (SELECT FROM job WHERE job.id = {table}.job_id)"
        _wall_off(table, f"USING ({own}) WITH CHECK (true)")
    for table in SHOWN_TO_ANALYSTS:
        op.execute(f"CREATE POLICY analysis ON {table} FOR SELECT TO {ANALYST} USING (true)")
        op.execute(f"GRANT SELECT ON {table} TO {ANALYST}")
    _grant_tenants()
    # As whoever asks: with its owner's rights it would show an owner without BYPASSRLS nothing.
    op.execute("ALTER VIEW v_unowned SET (security_invoker = true)")
    op.execute(f"GRANT SELECT ON v_unowned TO {WORKER}, {ANALYST}")
    op.execute(COUNT_WORKERS)
    op.execute("REVOKE ALL ON FUNCTION workers_connected() FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION workers_connected() TO {ROLES}")


def _wall_off(table: str, own: str) -> None:
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY own ON {table} TO {TENANT} {own}")
    op.execute(f"CREATE POLICY work ON {table} TO {WORKER} USING (true) WITH CHECK (true)")
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {WORKER}")


def _grant_tenants() -> None:
    readable = [*SUBJECT_COLUMN, *OF_A_JOB]
    readable.remove("credential")
    op.execute(f"GRANT SELECT ON {', '.join(readable)} TO {TENANT}")
    # All of a credential but what is sealed.
    op.execute(
        "GRANT SELECT (subject_id, token_sha, version, state, expires_at, updated_at)"
        f" ON credential TO {TENANT}"
    )
    op.execute(
        "GRANT INSERT ON subject, credential, workspace, job, job_event, job_payload,"
        f" idempotency_key TO {TENANT}"
    )
    op.execute(
        "GRANT UPDATE ON subject, credential, workspace, job, idempotency_key, remote_run,"
        f" poll_group TO {TENANT}"
    )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    op.execute("DROP FUNCTION workers_connected()")
    op.execute("ALTER VIEW v_unowned RESET (security_invoker)")
    for table in SHOWN_TO_ANALYSTS:
        op.execute(f"DROP POLICY analysis ON {table}")
    for table in (*SUBJECT_COLUMN, *OF_A_JOB):
        op.execute(f"DROP POLICY own ON {table}")
        op.execute(f"DROP POLICY work ON {table}")
        op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
    op.execute(f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {ROLES}")
    op.execute(f"REVOKE USAGE ON SCHEMA public FROM {ROLES}")
