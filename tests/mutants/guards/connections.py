"""Guards of connected accounts: whose they are, and who refreshes their tokens."""

from typing import Final

from schema import settings
from schema.accounts import connections, credentials
from schema.hub.oauth import connection_refresh, upstream
from service.auth import authenticators, connected_accounts, token_verifier
from service.http import middleware
from service.http.connect import flow as connect_flow
from service.http.connect import routes as connect_routes
from service.http.pages import cookies
from service.web import sign_in
from tests.mutants.mutant import ALEMBIC, mutants_in_file
from tests.schema import test_settings
from tests.schema.accounts import test_connections
from tests.service.auth.connect import (
    test_attacks_on_connecting,
    test_connected_accounts,
    test_connecting,
)
from tests.workers.loops import test_refresh_accounts
from workers.loops import engine

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
        used_connection_is_not_pruned=(
            "   AND used_at < now() - $1::interval\n",
            "",
        ),
        disconnected_token_is_withdrawn=(
            '        await credentials.withdraw_token(tx, row["subject_id"], tokens.access)\n',
            '        await credentials.withdraw_token(tx, "", tokens.access)\n',
        ),
        silence_about_grants_leaves_them=(
            "grants = coalesce(:grants::text[], grants)",
            "grants = coalesce(:grants::text[], '{}')",
        ),
        seen_connection_is_disconnected=(
            "   AND connection_id = $2\nRETURNING sign_in_id",
            "   AND $2::uuid IS NOT NULL\nRETURNING sign_in_id",
        ),
    ),
    *mutants_in_file(
        credentials,
        test_connections,
        ended_connection_lends_nothing=(
            "OR EXISTS (SELECT FROM connected_account\n",
            "OR true OR EXISTS (SELECT FROM connected_account\n",
        ),
        token_is_lent_by_its_connection=(
            "                WHERE subject_id = :subject_id\n                  AND connection_id",
            "                WHERE connection_id",
        ),
        token_of_their_own_is_not_withdrawn=(
            "   AND token_sha = $2\n   AND state = 'valid'\n",
            "   AND $2::bytea IS NOT NULL\n   AND state = 'valid'\n",
        ),
        withdrawn_token_is_deleted=("   SET sealed = ''\n", "   SET sealed = sealed\n"),
    ),
    *mutants_in_file(
        connected_accounts,
        test_connected_accounts,
        confirmed_account_acts=("if caller.subject_id != connection.subject_id:", "if False:"),
        refresh_needs_the_lease=("if await self._refresher.lease(expired):", "if True:"),
        refresh_outlives_its_caller=("CancelScope(shield=True)", "CancelScope(shield=False)"),
        fresh_tokens_are_not_refreshed=("if connection.is_fresh:", "if not connection:"),
    ),
    *mutants_in_file(
        token_verifier,
        test_connected_accounts,
        connection_of_a_token_is_compared=(
            "                        connection_id=caller.connection_id,\n",
            "",
        ),
    ),
    *mutants_in_file(
        connections,
        test_refresh_accounts,
        workers_refresh_what_nobody_leases=(
            "AND (leased_until IS NULL\n            OR leased_until NOT BETWEEN",
            "AND (true OR leased_until IS NULL\n            OR leased_until NOT BETWEEN",
        ),
        workers_pause_after_an_outage=(
            "NOT BETWEEN now() - :pause",
            "NOT BETWEEN now() + 0 * :pause",
        ),
        schedule_needs_a_token=(
            "          AND due_at IS NOT NULL))\n",
            "          AND due_at IS NOT NULL AND false))\n",
        ),
        idle_account_is_not_refreshed=(
            "AND (EXISTS (SELECT FROM credential",
            "AND (true OR EXISTS (SELECT FROM credential",
        ),
        own_token_is_enough=(
            "                  AND coalesce(lent.expires_at, 'infinity') > now() +",
            "                  AND lent.expires_at > now() + interval '1 y' +",
        ),
        young_token_is_not_refreshed=(
            "       AND expires_at < now() + (expires_at - updated_at) / 4\n",
            "",
        ),
    ),
    *mutants_in_file(
        credentials,
        test_refresh_accounts,
        next_token_replaces_no_valid_one=(
            " WHERE lent.token_sha = :previous_sha\n    OR lent.state <> 'valid'\n",
            " WHERE true OR lent.token_sha = :previous_sha\n    OR lent.state <> 'valid'\n",
        ),
        next_token_allows_the_same=(
            "grants = CASE WHEN lent.token_sha = :previous_sha THEN lent.grants ELSE :grants END",
            "grants = :grants",
        ),
    ),
    *mutants_in_file(
        connection_refresh,
        test_refresh_accounts,
        workers_lend_what_they_refresh=("if is_stored and self._lends_tokens:", "if False:"),
    ),
    *mutants_in_file(
        engine,
        test_refresh_accounts,
        workers_refresh_accounts=("        steps.start_soon(_run_refreshes, worker, stop)\n", ""),
    ),
    *mutants_in_file(
        connection_refresh,
        test_connected_accounts,
        dropped_tokens_are_revoked=(
            "bool(answer.refresh_token) and await self._hub.revoke_token(renewed.refresh)",
            "False",
        ),
        only_invalid_grant_ends_a_connection=('if error.reason != "invalid_grant":', "if False:"),
        outage_gives_the_lease_back=(
            "        except Unavailable:\n            await self._release(connection)\n",
            "        except Unavailable:\n",
        ),
    ),
    *mutants_in_file(
        upstream,
        test_connected_accounts,
        slow_answer_is_not_waited_for=(
            "with anyio.fail_after(self._request_limit.total_seconds()):",
            "with anyio.fail_after(None):",
        ),
        outage_refuses_no_token=(
            "if is_outage or not answer.error:",
            "if not answer.error:",
        ),
    ),
    *mutants_in_file(
        upstream,
        test_attacks_on_connecting,
        proof_key_is_of_one_sign_in=("verifier = secrets.token_urlsafe(48)", 'verifier = "v" * 64'),
        other_issuer_is_no_answer=("return issuer == self.issuer", "return True"),
        promised_issuer_is_missed=(
            "return not metadata.authorization_response_iss_parameter_supported",
            "return True",
        ),
    ),
    *mutants_in_file(
        cookies,
        test_attacks_on_connecting,
        cookie_of_another_browser_differs=(
            "return bool(value) and hmac.compare_digest(digest, digest_cookie(value))",
            "return bool(value)",
        ),
        flow_needs_its_cookie=(
            "return bool(value) and hmac.compare_digest(digest, digest_cookie(value))",
            "return not value or hmac.compare_digest(digest, digest_cookie(value))",
        ),
    ),
    *mutants_in_file(
        connect_routes,
        test_attacks_on_connecting,
        nobody_else_begins=(
            '        self._require_browser(request, digest_cookie(str(form.get("browser", ""))))\n',
            "",
        ),
        sign_in_ends_where_it_began=(
            (
                "        self._require_browser(request, step.browser_digest)\n"
                "        if not await self._flow.is_sign_in_answer"
            ),
            "        if not await self._flow.is_sign_in_answer",
        ),
        consent_ends_where_it_began=(
            (
                "        self._require_browser(request, step.browser_digest)\n"
                "        if not await self._flow.is_hub_answer"
            ),
            "        if not await self._flow.is_hub_answer",
        ),
        confirmation_is_of_its_browser=(
            (
                "        self._require_browser(request, confirmed.browser_digest)\n"
                '        if form.get("decision") != "allow":\n'
                "            is_revoked = await self._flow.cancel"
            ),
            (
                '        if form.get("decision") != "allow":\n'
                "            is_revoked = await self._flow.cancel"
            ),
        ),
        disconnect_is_of_its_browser=(
            (
                "        self._require_browser(request, confirmed.browser_digest)\n"
                '        if form.get("decision") != "allow":\n'
                '            return self._end("Still connected"'
            ),
            (
                '        if form.get("decision") != "allow":\n'
                '            return self._end("Still connected"'
            ),
        ),
        sign_in_answer_is_of_its_server=(
            'if not await self._flow.is_sign_in_answer(parameters.get("iss")):',
            "if not step:",
        ),
        hub_answer_is_of_the_hub=(
            'if not await self._flow.is_hub_answer(parameters.get("iss")):',
            "if not step:",
        ),
        confirmation_counts_once=("        self._cookie.clear(page)\n", ""),
    ),
    *mutants_in_file(
        connect_routes,
        test_connecting,
        steps_are_counted_by_address=(
            "return limit_page(endpoint)",
            "return limit_page.__globals__['limit_body'](endpoint)",
        ),
        cancelled_tokens_are_not_called_revoked=(
            "is_revoked = await self._flow.cancel(confirmed)",
            "is_revoked = True",
        ),
        doubt_is_not_called_nothing=(
            "        except InDoubt as error:",
            "        except ZeroDivisionError as error:",
        ),
        name_of_a_sign_in_is_no_markup=("label=escape(account.label)", "label=account.label"),
    ),
    *mutants_in_file(
        connect_flow,
        test_connecting,
        disconnect_of_nothing_is_refused=("        if deleted is None:", "        if False:"),
    ),
    *mutants_in_file(
        authenticators,
        test_connecting,
        malformed_token_is_wrong=("if credentials.is_hf_authorization_malformed:", "if False:"),
        token_of_the_call_wins=(
            "if hub_token is not None:",
            "if hub_token is not None and self._connected_accounts is None:",
        ),
    ),
    *mutants_in_file(
        middleware,
        test_connecting,
        two_headers_hold_no_token=(
            "_BEARER.fullmatch(values[0]) if len(values) == 1 else None",
            "_BEARER.fullmatch(values[0]) if values else None",
        ),
    ),
    *mutants_in_file(
        settings,
        test_settings,
        variables_of_a_space_need_a_space=("    if not host:\n", "    if host is None:\n"),
        own_setting_wins_over_that_of_a_space=(
            "            if _env_name(key) not in set_already\n",
            "            if key not in set_already\n",
        ),
        application_of_a_space_is_for_one_purpose=(
            'prefix = "hf_oauth" if is_external else "oauth"',
            'prefix = "oauth"',
        ),
    ),
    *mutants_in_file(
        sign_in,
        test_settings,
        application_asks_for_its_own_scopes=(
            "            return settings.hf_oauth_scopes\n",
            "            pass\n",
        ),
    ),
    *mutants_in_file(
        settings,
        test_connecting,
        connecting_needs_a_sign_in=(
            "if self.hf_oauth_client_id is not None and not needs:",
            "if not self:",
        ),
    ),
)
