"""The texts of row-level security policies, and what mutants put in their place."""

from typing import Final

_OWN: Final = """CREATE POLICY own ON {} TO holdfast_tenant
    USING (subject_id = (SELECT current_setting('holdfast.subject', true)))
    WITH CHECK (subject_id = (SELECT current_setting('holdfast.subject', true)));
"""
_USING: Final = "USING (subject_id = (SELECT current_setting('holdfast.subject', true)))"
_CHECK: Final = "CHECK (subject_id = (SELECT current_setting('holdfast.subject', true)))"


def shows_all_of(table: str) -> tuple[str, str]:
    """Let the policy of a table show every row to every tenant."""
    policy = _OWN.format(table)
    return policy, policy.replace(_USING, "USING (true)")


def checks_nothing_of(table: str) -> tuple[str, str]:
    """Let the policy of a table accept rows of any subject."""
    policy = _OWN.format(table)
    return policy, policy.replace(_CHECK, "CHECK (true)")
