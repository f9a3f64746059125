"""Guards of connected accounts: whose they are, and who refreshes their tokens."""

from typing import Final

from schema.accounts import connections
from tests.mutants.mutant import ALEMBIC, mutants_in_file
from tests.schema.accounts import test_connections

CONNECTION_GUARDS: Final = (
    *mutants_in_file(
        ALEMBIC / "sql" / "0001" / "row_security.sql",
        test_connections,
        connections_of_others_are_not_seen=(
            (
                "    USING (sign_in_id = (SELECT current_setting('holdfast.sign_in', true))\n"
                "           OR subject_id"
            ),
            "    USING (sign_in_id IS NOT NULL\n           OR subject_id",
        ),
        connections_are_made_for_oneself=(
            (
                "    WITH CHECK (sign_in_id = (SELECT current_setting('holdfast.sign_in', true))\n"
                "                AND subject_id"
            ),
            (
                "    WITH CHECK (sign_in_id = (SELECT current_setting('holdfast.sign_in', true))\n"
                "                OR subject_id"
            ),
        ),
    ),
    *mutants_in_file(
        connections,
        test_connections,
        sign_in_is_of_its_issuer=("json.dumps([issuer, subject])", "json.dumps([subject])"),
        connected_tokens_are_bound_to_their_row=(
            'return f"connected_account/{sign_in_id}/{connection_id}/{subject_id}"',
            'return f"connected_account"',
        ),
        one_process_refreshes=(
            (
                "   AND (leased_until IS NULL OR leased_until NOT BETWEEN now() AND now() + "
                ":lease::interval)\n"
            ),
            "",
        ),
        clock_jump_does_not_hold_a_refresh=(
            "leased_until NOT BETWEEN now() AND now() + :lease::interval",
            "leased_until < now()",
        ),
        late_refresh_is_not_stored=(
            "   AND connection_id = :connection_id\n   AND version = :version\nRETURNING version",
            "   AND connection_id = :connection_id\nRETURNING version, :version::bigint",
        ),
        refresh_of_an_earlier_connection_is_not_stored=(
            "   AND connection_id = :connection_id\n   AND version = :version\nRETURNING version",
            "   AND version = :version\nRETURNING version, :connection_id::uuid",
        ),
        refused_version_is_compared=(
            "   AND version = $3\n   AND state = 'connected'\n",
            "   AND $3::bigint IS NOT NULL\n   AND state = 'connected'\n",
        ),
        seen_connection_is_disconnected=(
            "   AND connection_id = $2\nRETURNING sign_in_id",
            "   AND $2::uuid IS NOT NULL\nRETURNING sign_in_id",
        ),
    ),
)
