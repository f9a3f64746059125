"""The guards of who is calling, what their token may do, and what is kept of it."""

from typing import Final

from tests.mutants.mutant import mutants_in_file

_SCOPES: Final = "tests/service/auth/test_scopes.py"
_IDENTITY: Final = "tests/service/auth/test_token_verifier.py"
_EDGE: Final = "tests/service/http/test_middleware.py"
_CREDENTIALS: Final = "tests/schema/accounts/test_credentials.py"
_SECRETS: Final = "tests/schema/accounts/test_secrets.py"
_NONCE: Final = "tests/workers/hub/test_labels.py"

IDENTITY_GUARDS: Final = (
    *mutants_in_file(
        "service/http/middleware.py",
        _SCOPES,
        edge_asks_for_the_scope=(
            "if scope in caller.obtainable_scopes:",
            "if False:",
        ),
        only_browsing_without_a_sign_in=(
            "if all(method in _ANONYMOUS_METHODS for method, _ in _parse_calls(body)):",
            "if True:",
        ),
        a_wrong_token_is_nobodys=(
            "if not (presented.is_empty and self._allow_browsing):",
            "if not self._allow_browsing:",
        ),
    ),
    *mutants_in_file(
        "service/http/middleware.py",
        _EDGE,
        credentials_stay_at_the_edge=(
            'if name.decode("latin-1") not in _CREDENTIAL_HEADERS',
            "if name",
        ),
    ),
    *mutants_in_file(
        "service/mcp/tool.py",
        _SCOPES,
        tool_asks_for_the_scope=(
            (
                "            caller is not None\n            and self.required_scopes\n"
                "            and caller.scopes.isdisjoint(self.required_scopes)\n"
            ),
            "            caller is None\n",
        ),
        static_tokens_see_what_they_can_use=(
            "or not useful.isdisjoint(needed)",
            "or useful is not None",
        ),
        sign_ins_see_what_they_can_step_up_to=(
            "caller.scopes | caller.obtainable_scopes if",
            "caller.scopes if",
        ),
    ),
    *mutants_in_file(
        "service/auth/authenticators.py",
        "tests/service/auth/test_authenticators.py",
        both_tokens_have_to_allow_it=("scopes=caller.scopes & allowed,", "scopes=caller.scopes,"),
        what_cannot_be_signed_in_for_is_not_asked_for=(
            "obtainable_scopes=caller.scopes - allowed,",
            "obtainable_scopes=ALL_SCOPES - (caller.scopes & allowed),",
        ),
        the_hubs_token_is_no_sign_in=(
            "token = credentials.authorization\n",
            "token = credentials.hub or credentials.authorization\n",
        ),
    ),
    *mutants_in_file(
        "service/auth/caller.py",
        _SCOPES,
        organisations_have_to_be_granted=(
            "if namespace not in self.organisations:",
            "if not namespace:",
        ),
    ),
    *mutants_in_file(
        "service/auth/hub_client.py",
        _SCOPES,
        readers_do_not_act_for_an_organisation=("if org.role_in_org in _ACTING", "if org.name"),
        permissions_are_of_an_organisation=(
            'if entry.entity.type == "org" and _PERMISSIONS[Scope.JOBS] in entry.permissions',
            'if entry.entity.type == "none"',
        ),
        the_hubs_refusal_counts=(
            "if response.status_code == HTTPStatus.FORBIDDEN:\n            raise LaunchDenied",
            "if response.status_code == HTTPStatus.GONE:\n            raise LaunchDenied",
        ),
    ),
    *mutants_in_file(
        "service/auth/token_verifier.py",
        _SCOPES,
        silence_is_no_refusal=("return CacheEntry(None, UNAVAILABLE_TTL)", "raise"),
        the_hub_is_asked_once=(
            "return CacheEntry(None, _LAUNCH_CHECK_LIFETIME)",
            "return CacheEntry(None, timedelta(0))",
        ),
    ),
    *mutants_in_file(
        "service/jobs/operations.py",
        _SCOPES,
        cancel_asks_for_the_scope=(
            "        caller.require_scope(describe_kind(status.kind).scope)\n",
            "",
        ),
    ),
    *mutants_in_file(
        "service/runtime/context.py",
        _IDENTITY,
        any_call_releases=("if hold is Hold.CREDENTIALS and caller.can_act:", "if False:"),
        silence_leaves_reading_possible=("with suppress(Unavailable):", "if caller is not None:"),
    ),
    *mutants_in_file(
        "schema/common/async_cache.py",
        _IDENTITY,
        renewal_asks_again=("self._entries.pop(key, None)", "pass"),
    ),
    *mutants_in_file(
        "schema/specs/validation_errors.py",
        _IDENTITY,
        secrets_are_not_repeated=(
            'if entry["loc"][0] in _SECRET_ARGUMENTS',
            "if False",
        ),
    ),
    *mutants_in_file(
        "schema/accounts/credentials.py",
        _CREDENTIALS,
        less_does_not_replace_more=("OR NOT grants <@ $4", ""),
        sooner_does_not_replace_later=(
            "OR coalesce(expires_at, 'infinity') > coalesce($5::timestamptz, 'infinity'))",
            "OR $5::timestamptz < '-infinity')",
        ),
        refused_is_replaced_by_anything=(
            (
                "WHERE subject_id = $1 AND state = 'valid' AND coalesce(expires_at > now(), true)\n"
                "       AND (token_sha"
            ),
            "WHERE subject_id = $1 AND (token_sha",
        ),
        expired_is_not_lent=(
            "coalesce(expires_at > now(), true) AS alive",
            "true AS alive",
        ),
        missing_holds=("        await tx.execute(_HOLD_SUBJECT, subject_id)\n", ""),
        a_queued_job_keeps_the_token=("AND job.finished_at IS NULL)", "AND false)"),
        a_watched_namespace_keeps_the_token=("AND polled.due_at IS NOT NULL)", "AND false)"),
        a_caller_keeps_the_token=("seen_at < now() - interval '5 minutes'", "false"),
    ),
    *mutants_in_file(
        "schema/accounts/secrets.py",
        _SECRETS,
        secrets_are_bound_to_their_job=(
            'return f"job/{subject_id}/{job_id}"',
            'return f"job/{subject_id}"',
        ),
    ),
    *mutants_in_file(
        "alembic/sql/0001/secret_removal.sql",
        _SECRETS,
        secrets_are_wiped_after_a_run=(
            "WHEN (NEW.state IN ('rejected', 'absent', 'ended'))",
            "WHEN (false)",
        ),
        secrets_are_wiped_without_a_run=("WHEN (NEW.finished_at IS NOT NULL)", "WHEN (false)"),
        a_run_that_may_print_keeps_the_secrets=("'unknown', 'bound')", "'unknown')"),
        a_queued_job_keeps_its_secrets=("AND job.finished_at IS NOT NULL)", ")"),
    ),
    *mutants_in_file(
        "schema/accounts/secrets.py",
        _SECRETS,
        secrets_are_handed_to_what_is_posted=("AND run.state = 'posting'", ""),
    ),
    *mutants_in_file(
        "schema/accounts/key_rotation.py",
        _SECRETS,
        what_is_sealed_anew_is_kept=("if sealed is not None:", "if sealed is None:"),
    ),
    *mutants_in_file(
        "schema/specs/hub_job.py",
        _NONCE,
        the_token_is_not_handed_over=(
            'if spec.get("pass_token") else []',
            'if spec.get("secrets") else []',
        ),
    ),
    *mutants_in_file(
        "service/auth/registration_proxy.py",
        "tests/service/auth/test_registration_proxy.py",
        addresses_to_come_back_to_are_safe=("if not is_secure_url(url):", "if not url:"),
        a_form_does_not_register=('!= "application/json":', '== "text/html":'),
    ),
    *mutants_in_file(
        "service/auth/token_verifier.py",
        "tests/service/auth/test_registration_proxy.py",
        a_huge_token_is_not_asked_about=(
            "if len(token.reveal()) > _MAX_TOKEN_CHARACTERS:",
            "if not token:",
        ),
    ),
)
