"""What the login that migrates needs, looked at before the first statement changes anything.

Managed servers give out logins that may not create roles. An administrator then creates the roles
and grants them, once, and `holdfast migrate` says all that is missing in one go.
"""

from typing import Any, Final

import asyncpg

from schema.common.errors import HoldfastError

ROLES: Final = ("holdfast_tenant", "holdfast_worker", "holdfast_analyst")
"""The roles that the policies and grants name, as `roles.sql` creates them."""

_GRANT_OPTIONS_SINCE: Final = 160000
"""The version of Postgres since which a grant says whether rights are inherited."""

_READ_LOGIN: Final = """
SELECT current_setting('server_version_num')::int AS server_version,
       quote_ident(current_user) AS login,
       rolsuper OR rolcreaterole AS may_create_roles,
       has_schema_privilege('public', 'USAGE')
           AND has_schema_privilege('public', 'CREATE') AS may_create_tables,
       has_schema_privilege('public', 'USAGE WITH GRANT OPTION') AS may_grant_usage,
       has_schema_privilege('public', 'public', 'USAGE') AS everybody_has_usage
  FROM pg_roles
 WHERE rolname = current_user
"""

# Only one branch is evaluated: the privilege SET is unknown to servers before version 16, on which
# any login that may create roles may grant them too.
_READ_ROLES: Final = """
SELECT name, role.oid IS NOT NULL AS is_there,
       CASE WHEN role.oid IS NULL THEN false
            WHEN $2 >= 160000 THEN pg_has_role(current_user, role.oid, 'SET')
            ELSE pg_has_role(current_user, role.oid, 'MEMBER') END AS may_set,
       CASE WHEN role.oid IS NULL THEN false
            WHEN $2 >= 160000 THEN
                pg_has_role(current_user, role.oid, 'MEMBER WITH ADMIN OPTION')
            ELSE $3 OR pg_has_role(current_user, role.oid, 'MEMBER WITH ADMIN OPTION')
       END AS may_grant,
       coalesce(has_schema_privilege(role.oid, 'public', 'USAGE'), false) AS has_usage
  FROM unnest($1::text[]) WITH ORDINALITY AS named (name, place)
  LEFT JOIN pg_roles AS role ON role.rolname = name
 ORDER BY place
"""

_READ_FOREIGN_OWNER: Final = """
SELECT quote_ident(pg_get_userbyid(relowner)) FROM pg_class
 WHERE oid = to_regclass('public.alembic_version')
   AND NOT pg_has_role(current_user, relowner, 'USAGE')
"""


class MissingPrivileges(HoldfastError):
    """The login may not do what a migration does; nothing was changed."""

    def __init__(self, login: str, problems: list[str], statements: list[str]) -> None:
        super().__init__(
            f"Nothing was changed, because {_join(problems, last=', and ')}. Have an "
            f"administrator of the server run this in the database, then run `holdfast migrate` "
            f"again as {login}: "
            f"{' '.join(f'{statement};' for statement in statements)}"
        )


async def check_privileges(connection: asyncpg.Connection, *, is_migrated: bool) -> None:
    """Check that the login of a connection may migrate its database.

    Args:
        connection: as the login that will migrate.
        is_migrated: whether there is a revision. Then the roles exist, and what counts is who owns
            the tables.

    Raises:
        MissingPrivileges: with everything that is missing, and the statements that grant it.
    """
    login = await connection.fetchrow(_READ_LOGIN)
    assert login is not None  # noqa: S101  # every login is a role
    name = login["login"]
    if (owner := await connection.fetchval(_READ_FOREIGN_OWNER)) is not None:
        raise MissingPrivileges(
            name,
            [f"the tables belong to {owner}, and {name} may not change them"],
            [f"GRANT {owner} TO {name}"],
        )
    if not is_migrated:
        roles = await connection.fetch(
            _READ_ROLES, ROLES, login["server_version"], login["may_create_roles"]
        )
        _check_first_migration(login, roles)


def _check_first_migration(login: Any, roles: list[Any]) -> None:
    name = login["login"]
    may_create = login["may_create_roles"]
    absent = [] if may_create else [role["name"] for role in roles if not role["is_there"]]
    ungranted = [
        role["name"]
        for role in roles
        if role["is_there"] and not role["may_set"] and not role["may_grant"]
    ]
    without_usage = [
        role["name"]
        for role in roles
        if not (role["has_usage"] or login["everybody_has_usage"] or login["may_grant_usage"])
    ]
    problems: list[str] = []
    if absent:
        problems.append(f"{name} may not create roles, and there is no {_join(absent, ' or ')}")
    if ungranted:
        problems.append(f"{name} is no member of {_join(ungranted, ' or ')}")
    if not login["may_create_tables"]:
        problems.append(f"{name} may not create tables in the schema public")
    if without_usage:
        problems.append(f"{_join(without_usage)} may not use the schema public")
    if not problems:
        return
    statements = [f"CREATE ROLE {role} NOLOGIN" for role in absent]
    if members := [role for role in ROLES if role in {*absent, *ungranted}]:
        # Without INHERIT, a login that forgets to take on a role has no rights at all.
        has_options = login["server_version"] >= _GRANT_OPTIONS_SINCE
        option = " WITH INHERIT FALSE, SET TRUE" if has_options else ""
        statements.append(f"GRANT {', '.join(members)} TO {name}{option}")
    if not login["may_create_tables"]:
        statements.append(f"GRANT USAGE, CREATE ON SCHEMA public TO {name}")
    if without_usage:
        statements.append(f"GRANT USAGE ON SCHEMA public TO {', '.join(without_usage)}")
    raise MissingPrivileges(name, problems, statements)


def _join(words: list[str], last: str = " and ") -> str:
    *others, final = words
    return f"{', '.join(others)}{last}{final}" if others else final
