"""Guards of the rate limits, whether Valkey or Postgres counts."""

from typing import Final

from schema.accounts import call_counts
from schema.common import durations
from schema.jobs.retention import pruning
from schema.messaging import redis
from service.http import rate_limit
from service.http.pages import limits
from service.http.sign_in_proxy import provider
from service.http.sign_in_proxy import routes as sign_in_routes
from tests.mutants.mutant import mutants_in_file
from tests.schema.jobs import test_retention
from tests.service.http import test_anonymous_calls, test_rate_limit, test_rate_limit_headers
from tests.service.http.sign_in_proxy import test_request_limit, test_token_request_limit

RATE_LIMIT_GUARDS: Final = (
    *mutants_in_file(
        rate_limit,
        test_rate_limit,
        valkey_compares=("<= limit\nif granted", "< math.huge\nif granted"),
        valkey_window_slides=("  before = kept[2] + 0\nend", "  before = 0\nend"),
        valkey_counts_only_what_it_grants=(
            "  calls = calls + 1\n",
            "end\ncalls = calls + 1\nif true then\n",
        ),
        valkey_forgets=("redis.call('PEXPIRE', KEYS[1], 2 * length)", ""),
        valkey_is_told_the_script_again=("except NoScriptError:", "except ZeroDivisionError:"),
        broken_valkey_is_an_outage=(
            "except (RedisError, OSError) as error:",
            "except OSError as error:",
        ),
        postgres_counts_while_valkey_is_away=(
            " or await self._count_in_postgres(\n            subject_id, limit\n        )",
            "",
        ),
        without_postgres_calls_are_let_go=(
            "except Unavailable as error:",
            "except ZeroDivisionError as error:",
        ),
        outage_is_logged_once=(
            "            if not self._outage_logged:\n    ",
            "            if True:\n    ",
        ),
        nothing_is_no_limit=("if not self._limit:", "if self._limit < 0:"),
    ),
    *mutants_in_file(
        rate_limit,
        test_anonymous_calls,
        one_machine_is_one_address=(
            "_IPV6_NETWORK_BITS: Final = 64",
            "_IPV6_NETWORK_BITS: Final = 128",
        ),
        an_address_has_one_form=("address = address.ipv4_mapped or address", "pass"),
    ),
    *mutants_in_file(
        rate_limit,
        test_request_limit,
        sign_ins_have_a_count_of_their_own=(
            'self.count_call(f"sign-in-{hash_address(host)}")',
            "self.count_call(hash_address(host))",
        ),
    ),
    *mutants_in_file(
        rate_limit,
        test_token_request_limit,
        client_is_counted_by_its_address=(
            'f"client-{client}-{address}", ',
            'f"client-{client}", ',
        ),
    ),
    *mutants_in_file(
        rate_limit,
        test_rate_limit,
        address_has_a_bound_of_its_own=(
            "            await self.count_call(shared, share=_SIGN_INS_PER_ADDRESS)\n",
            "            await self.count_call(shown + shared)\n",
        ),
        address_is_shared_by_a_team=("share=_SIGN_INS_PER_ADDRESS)", "share=1)"),
    ),
    *mutants_in_file(
        sign_in_routes,
        test_token_request_limit,
        requests_for_tokens_are_counted=(
            "            await _count_token_request(proxy, request)\n",
            "",
        ),
        token_requests_are_counted_by_grant=(
            "        grant_id=proxy.identify_grant(form),\n",
            "        grant_id=None,\n",
        ),
        broken_forms_are_counted=(
            "        await rate_limiter.count_sign_in_request(host)\n        raise\n",
            "        raise\n",
        ),
    ),
    *mutants_in_file(
        provider,
        test_token_request_limit,
        refreshed_tokens_are_of_one_sign_in=(
            "            grant_id=grant.grant_id,\n        )\n        return tokens",
            "            grant_id=secrets.token_urlsafe(16),\n        )\n        return tokens",
        ),
    ),
    *mutants_in_file(
        limits,
        test_request_limit,
        sign_ins_are_counted_by_address=(
            "await rate_limiter.count_sign_in_request(host)",
            'await rate_limiter.count_sign_in_request("")',
        ),
    ),
    *mutants_in_file(
        sign_in_routes,
        test_request_limit,
        callback_is_counted=(
            '"/oauth/callback", limit_page(browser.return_to_client)',
            '"/oauth/callback", browser.return_to_client',
        ),
    ),
    *mutants_in_file(
        redis,
        test_rate_limit,
        silent_valkey_is_not_waited_for=(
            "with anyio.fail_after(self._timeout.total_seconds()):",
            "with anyio.fail_after(100):",
        ),
        one_call_looks_whether_valkey_is_back=("if self._open_until != _CLOSED:", "if False:"),
        silent_valkey_is_left_alone=(
            "if isinstance(error, self._opening_errors)",
            "if False",
        ),
        valkey_is_trusted_again=(
            "        self._open_until = _CLOSED\n        return",
            "        return",
        ),
    ),
    *mutants_in_file(
        rate_limit,
        test_rate_limit_headers,
        full_window_grows_old_in_the_next=("    if room < 0:", "    if room < -9999:"),
        window_before_grows_old=(
            "return 1 - room / count.previous_calls - count.elapsed_fraction",
            "return 1 - count.elapsed_fraction",
        ),
    ),
    *mutants_in_file(
        durations,
        test_rate_limit_headers,
        wait_is_rounded_up=("math.ceil(duration", "int(duration"),
    ),
    *mutants_in_file(
        call_counts,
        test_rate_limit,
        postgres_compares=(
            "WHERE kept.calls + 1 + (SELECT before * (1 - past) FROM seen) <= $3::int",
            "WHERE $3::int > 0",
        ),
        postgres_window_slides=(
            "WHERE window_start = at - $2::interval",
            "WHERE window_start = at + $2::interval",
        ),
    ),
    *mutants_in_file(
        pruning,
        test_retention,
        recent_calls_are_counted=(
            "window_start < now() - interval '1 hour'",
            "window_start < now() + interval '1 day'",
        ),
        counts_are_pruned_until_none_is_left=(
            "await tx.execute(_PRUNE_CALLS, _BATCH_ROWS, clock_lead),",
            "str(await tx.execute(_PRUNE_CALLS, _BATCH_ROWS, clock_lead))[:6],",
        ),
    ),
)
