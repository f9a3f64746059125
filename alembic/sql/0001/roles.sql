-- The roles that the policies and grants name. Nobody logs in as one of them: the login of a
-- process takes on its role when it connects, and the login that migrates owns all tables.
--
--   holdfast_tenant    the service; in each transaction it acts for one subject
--   holdfast_worker    the workers; they act for all subjects
--   holdfast_analyst   people who read by SQL; they see all subjects, but no secret and no request
--
-- Roles belong to the whole server, not to one database. Another database of the server may have
-- created them already, and they stay when this revision is reverted. A login that may not create
-- roles needs an administrator to create and grant them first; the error says what to run.
DO $$
DECLARE wanted text; member boolean;
BEGIN
  FOREACH wanted IN ARRAY ARRAY['holdfast_tenant', 'holdfast_worker', 'holdfast_analyst'] LOOP
    BEGIN
      IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
        BEGIN
          EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
          NULL;  -- a concurrent migration of another database has created it
        END;
      END IF;
      IF current_setting('server_version_num')::int >= 160000 THEN
        -- Without INHERIT, a login that forgets to take on a role has no rights at all.
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
END $$;

GRANT USAGE ON SCHEMA public TO holdfast_tenant, holdfast_worker, holdfast_analyst;

-- Every process compares the revision of the database with its own before it works, and goes on
-- at a later one if that says that its release still may.
ALTER TABLE alembic_version ADD COLUMN compatible_from text;
GRANT SELECT ON alembic_version TO holdfast_tenant, holdfast_worker, holdfast_analyst;
