-- What a submission needs that commits itself.


-- Ends a statement that has found out that what it wrote must not stay: a job over a limit, say. The
-- whole statement is undone. Its caller knows the code, and finds the reason in a transaction.
CREATE FUNCTION undo_statement() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION USING ERRCODE = 'HFUND', MESSAGE = 'the statement has undone itself';
END $$;
