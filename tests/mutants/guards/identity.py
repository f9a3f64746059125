"""Guards of identity: who calls, what their token may do, and what is stored of it."""

from typing import Final

from schema.accounts import credentials, key_rotation
from schema.accounts import secrets as sealed_secrets
from schema.common import async_cache
from schema.specs import hub_job, validation_errors
from service.auth import authenticators, caller, hub_client, token_verifier
from service.http import middleware, request_options
from service.http.sign_in_proxy import provider as proxy_provider
from service.http.sign_in_proxy import routes as proxy_routes
from service.jobs import operations as job_operations
from service.mcp import tool as mcp_tool
from service.mcp.catalog import visibility
from service.mcp.tools import account
from service.runtime import context as runtime_context
from service.runtime import sealed_models, toolsets
from service.schedules import actions as schedule_actions
from service.views import job_kinds
from tests.mutants.mutant import ALEMBIC, mutants_in_file
from tests.schema.accounts import test_credentials
from tests.schema.accounts import test_secrets as test_sealed_secrets
from tests.service.auth import test_authenticators, test_token_verifier
from tests.service.auth import test_scopes as test_auth_scopes
from tests.service.http import test_anonymous_calls, test_middleware, test_tool_selection
from tests.service.http.sign_in_proxy import test_attacks_on_sign_in
from tests.service.mcp.tools import test_whoami
from tests.workers.hub import test_labels

IDENTITY_GUARDS: Final = (
    *mutants_in_file(
        token_verifier,
        test_whoami,
        quota_is_of_one_token=(
            "token_digest(caller.token), partial(self._fetch_quota, caller)",
            'b"", partial(self._fetch_quota, caller)',
        ),
    ),
    *mutants_in_file(
        account,
        test_whoami,
        unknown_is_not_unpaid=(
            "if caller.billing.can_pay is False else []",
            "if not caller.billing.can_pay else []",
        ),
        quota_may_be_missing=("    except Unavailable:\n", "    except ZeroDivisionError:\n"),
    ),
    *mutants_in_file(
        middleware,
        test_auth_scopes,
        edge_asks_for_the_scope=(
            "[each for each in Scope if each in needed & caller.obtainable_scopes]",
            "list[Scope]()",
        ),
    ),
    *mutants_in_file(
        middleware,
        test_anonymous_calls,
        only_looking_without_a_sign_in=(
            "if all(self._is_public(call) for call in parse_calls(body)):",
            "if True:",
        ),
        every_message_of_a_batch_has_to_be_public=(
            "if all(self._is_public(call) for call in parse_calls(body)):",
            "if any(self._is_public(call) for call in parse_calls(body)):",
        ),
        a_public_tool_is_named_exactly=(
            "return call.tool in self._public_tools",
            "return call.tool.strip().lower() in self._public_tools",
        ),
        a_wrong_token_is_not_none=(
            "is_anonymous = not any(name in headers for name in _CREDENTIAL_HEADERS)",
            "is_anonymous = credentials == RequestCredentials(None, None)",
        ),
        the_operator_can_refuse_nobody=(
            "is_anonymous and self._allow_browsing and not",
            "is_anonymous and not",
        ),
        a_client_can_sign_in_at_once=("and not options.needs_sign_in", ""),
        nobody_is_counted_by_address=(
            "await rate_limiter.count_anonymous_call(host)",
            'await rate_limiter.count_anonymous_call("")',
        ),
        each_message_of_nobody_counts=(
            "            for _ in parse_calls(body)[1:]:\n",
            "            for _ in parse_calls(body)[1:] if caller else ():\n",
        ),
    ),
    *mutants_in_file(
        middleware,
        test_middleware,
        credentials_stay_at_the_edge=(
            'if name.decode("latin-1") not in _CREDENTIAL_HEADERS',
            "if name",
        ),
    ),
    *mutants_in_file(
        mcp_tool,
        test_auth_scopes,
        tool_asks_for_the_scope=(
            (
                "            caller is not None\n            and self.required_scopes\n"
                "            and caller.scopes.isdisjoint(self.required_scopes)\n"
            ),
            "            caller is None\n",
        ),
        static_tokens_see_what_they_can_use=(
            "or not scopes.isdisjoint(required)",
            "or scopes is not None",
        ),
        sign_ins_see_what_they_can_step_up_to=(
            "caller.scopes | caller.obtainable_scopes if",
            "caller.scopes if",
        ),
    ),
    *mutants_in_file(
        mcp_tool,
        test_anonymous_calls,
        a_tool_refuses_nobody=("if caller is None and not self.is_public:", "if False:"),
        nobody_is_shown_what_leads_to_a_sign_in=(
            "if caller is not None else ALL_SCOPES",
            "if caller is not None else frozenset()",
        ),
    ),
    *mutants_in_file(
        visibility,
        test_tool_selection,
        hidden_tools_are_not_called=(
            'case "tools/call" if not catalog.is_selected(name):',
            'case "tools/call" if not name:',
        ),
        hidden_methods_of_tasks_are_not_called=(
            'if not catalog.is_selected(_METHOD_TOOLS.get(ctx.method, "")) and',
            "if False and",
        ),
        hidden_prompts_are_not_filled=(
            "if not catalog.is_selected(_PROMPT_TOOLS[name]):",
            "if False:",
        ),
        hidden_resources_are_not_read=("if not catalog.is_selected(tool):", "if False:"),
    ),
    *mutants_in_file(
        toolsets,
        test_tool_selection,
        reading_connections_do_not_write=(
            "if self.read_only and not is_read_only:",
            "if False:",
        ),
        what_is_not_chosen_is_not_there=(
            "return any(tool in TOOLS_BY_TOOLSET[toolset] for toolset in self.toolsets)",
            "return True",
        ),
        names_of_toolsets_are_exact=(
            'names = [name.strip(" \\t") for name in text.split(",")]',
            'names = [name.strip().lower() for name in text.split(",")]',
        ),
    ),
    *mutants_in_file(
        request_options,
        test_tool_selection,
        a_header_brings_nothing_back=(
            "toolsets &= _read_toolsets(place, values)",
            "toolsets = _read_toolsets(place, values) if values else toolsets",
        ),
        a_choice_is_made_once=("if len(values) > 1:", "if len(values) > 99:"),
        the_path_alone_makes_it_read_only=('scope["path"] == READ_ONLY_PATH or any(', "any("),
        a_name_in_capitals_counts=("name.strip().lower(), []", "name, []"),
    ),
    *mutants_in_file(
        job_kinds,
        test_tool_selection,
        nothing_else_launches_what_is_hidden=(
            "if not CURRENT_SELECTION.get().includes(tool):",
            "if False:",
        ),
    ),
    *mutants_in_file(
        schedule_actions,
        test_tool_selection,
        a_schedule_does_not_fire_what_is_hidden=(
            "if changes.run_now or changes.paused is False:",
            "if False:",
        ),
    ),
    *mutants_in_file(
        middleware,
        test_tool_selection,
        hidden_tools_ask_for_no_scope=(
            "if call.tool and not self._is_selected(call.tool):",
            "if False:",
        ),
        hidden_tools_are_not_public=(
            "call.tool in self._public_tools and self._is_selected(call.tool)",
            "call.tool in self._public_tools",
        ),
    ),
    *mutants_in_file(
        authenticators,
        test_authenticators,
        both_tokens_have_to_allow_it=("scopes=caller.scopes - refused,", "scopes=caller.scopes,"),
        what_cannot_be_signed_in_for_is_not_asked_for=(
            "obtainable_scopes=caller.scopes & refused,",
            "obtainable_scopes=frozenset(Scope) - (caller.scopes - refused),",
        ),
        the_hubs_token_is_no_sign_in=(
            "token = credentials.authorization\n",
            "token = credentials.hf_authorization or credentials.authorization\n",
        ),
    ),
    *mutants_in_file(
        caller,
        test_auth_scopes,
        organisations_have_to_be_granted=(
            "if namespace not in self.organisations:",
            "if not namespace:",
        ),
    ),
    *mutants_in_file(
        hub_client,
        test_auth_scopes,
        readers_do_not_act_for_an_organisation=("if org.role_in_org in _ACTING", "if org.name"),
        permissions_are_of_an_organisation=(
            'if entry.entity.type == "org" and _LAUNCH_PERMISSION in entry.permissions',
            'if entry.entity.type == "none"',
        ),
        the_hubs_refusal_counts=(
            "if response.status_code == HTTPStatus.FORBIDDEN:\n            raise LaunchDenied",
            "if response.status_code == HTTPStatus.GONE:\n            raise LaunchDenied",
        ),
    ),
    *mutants_in_file(
        token_verifier,
        test_auth_scopes,
        silence_is_no_refusal=("return CacheEntry(None, UNAVAILABLE_TTL)", "raise"),
        the_hub_is_asked_once=(
            "return CacheEntry(None, _LAUNCH_CHECK_LIFETIME)",
            "return CacheEntry(None, timedelta(0))",
        ),
    ),
    *mutants_in_file(
        job_operations,
        test_auth_scopes,
        cancel_asks_for_the_scope=(
            "        caller.require_scope(describe_kind(status.kind).scope)\n",
            "",
        ),
    ),
    *mutants_in_file(
        runtime_context,
        test_token_verifier,
        any_call_releases=("if hold is Hold.CREDENTIALS and caller.can_act:", "if False:"),
        silence_leaves_reading_possible=("with suppress(Unavailable):", "if caller is not None:"),
    ),
    *mutants_in_file(
        async_cache,
        test_token_verifier,
        renewal_asks_again=("self._entries.pop(key, None)", "pass"),
    ),
    *mutants_in_file(
        validation_errors,
        test_token_verifier,
        secrets_are_not_repeated=(
            'if entry["loc"][0] in SECRET_ARGUMENTS',
            "if False",
        ),
    ),
    *mutants_in_file(
        credentials,
        test_credentials,
        less_does_not_replace_more=("OR NOT grants <@ :grants", ""),
        sooner_does_not_replace_later=(
            (
                "OR coalesce(expires_at, 'infinity')\n"
                "               > coalesce(:expires_at::timestamptz, 'infinity'))"
            ),
            "OR :expires_at::timestamptz < '-infinity')",
        ),
        refused_is_replaced_by_anything=(
            (
                "WHERE subject_id = :subject_id\n"
                "       AND state = 'valid'\n"
                "       AND coalesce(expires_at > now(), true)\n"
                "       AND (token_sha"
            ),
            "WHERE subject_id = :subject_id AND (token_sha",
        ),
        expired_is_not_lent=(
            "coalesce(expires_at > now(), true) AS alive",
            "true AS alive",
        ),
        missing_holds=("        await tx.execute(_HOLD_SUBJECT, subject_id)\n", ""),
        lent_meanwhile_does_not_hold=("AND NOT EXISTS (SELECT FROM lent WHERE is_usable)", ""),
        kept_token_releases=('stored["is_held"] or not stored["is_kept"]', 'not stored["is_kept"]'),
        a_queued_job_keeps_the_token=("AND job.finished_at IS NULL)", "AND false)"),
        a_watched_namespace_keeps_the_token=("AND polled.due_at IS NOT NULL)", "AND false)"),
        a_caller_keeps_the_token=("seen_at < now() - interval '5 minutes'", "false"),
    ),
    *mutants_in_file(
        sealed_secrets,
        test_sealed_secrets,
        secrets_are_bound_to_their_job=(
            'return f"job/{subject_id}/{job_id}"',
            'return f"job/{subject_id}"',
        ),
    ),
    *mutants_in_file(
        ALEMBIC / "sql/0001/secret_removal.sql",
        test_sealed_secrets,
        secrets_are_wiped_after_a_run=(
            "WHEN (NEW.state IN ('rejected', 'absent', 'ended'))",
            "WHEN (false)",
        ),
        secrets_are_wiped_without_a_run=("WHEN (NEW.finished_at IS NOT NULL)", "WHEN (false)"),
        a_run_that_may_print_keeps_the_secrets=("'unknown', 'bound')", "'unknown')"),
        a_queued_job_keeps_its_secrets=("AND job.finished_at IS NOT NULL)", ")"),
    ),
    *mutants_in_file(
        sealed_secrets,
        test_sealed_secrets,
        secrets_are_handed_to_what_is_posted=("AND run.state = 'posting'", ""),
    ),
    *mutants_in_file(
        key_rotation,
        test_sealed_secrets,
        what_is_sealed_anew_is_kept=("if sealed is not None:", "if sealed is None:"),
    ),
    *mutants_in_file(
        hub_job,
        test_labels,
        the_token_is_not_handed_over=(
            'if spec.get("pass_token") else []',
            'if spec.get("secrets") else []',
        ),
    ),
    *mutants_in_file(
        sealed_models,
        test_attacks_on_sign_in,
        what_is_sealed_can_be_read_back=("exclude_defaults=True", "exclude_none=True"),
    ),
    *mutants_in_file(
        proxy_provider,
        test_attacks_on_sign_in,
        addresses_to_come_back_to_are_safe=("(is_secure_url(text) or", "(text or"),
        a_resource_of_others_is_not_asked_for=(
            "params.resource is not None and params.resource not in self._resources",
            "False",
        ),
    ),
    *mutants_in_file(
        proxy_routes,
        test_attacks_on_sign_in,
        a_form_does_not_register=('!= "application/json":', '== "text/html":'),
        a_foreign_page_cannot_agree=(
            "if opened is None or not browser or not is_same:",
            "if opened is None:",
        ),
        another_browser_cannot_finish=(
            "if state is None or not self._cookie.is_from(request, state.browser_digest):",
            "if state is None:",
        ),
        another_server_cannot_answer=(
            'if not await self._proxy.upstream.is_own_answer(parameters.get("iss")):',
            "if False:",
        ),
        a_name_is_no_markup=("name=escape(opened.client_name)", "name=opened.client_name"),
    ),
    *mutants_in_file(
        token_verifier,
        test_middleware,
        a_huge_token_is_not_asked_about=(
            "if len(token.reveal()) > _MAX_TOKEN_CHARS:",
            "if not token:",
        ),
    ),
)
