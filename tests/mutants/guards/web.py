"""Guards of the pages: nothing runs, frames, stays or is read that should not."""

from typing import Final

from schema.accounts import connections
from service.http.pages import rendering, static_files
from service.web import account_pages, browser_sign_in, job_pages, sessions
from tests.mutants.mutant import mutants_in_file
from tests.service.web import (
    test_job_pages,
    test_pages,
    test_public_pages_in_browser,
    test_signing_in,
)

_STYLES: Final = static_files.STATIC_FOLDER / "app.css"

WEB_GUARDS: Final = (
    *mutants_in_file(
        rendering,
        test_pages,
        a_value_in_a_page_is_escaped=("autoescape=True", "autoescape=False"),
        a_page_is_in_no_frame=("; frame-ancestors 'none'\"", '"'),
        a_page_is_in_no_cache=('"cache-control": "no-store",', ""),
        a_page_runs_files_of_ours_alone=(
            "script-src 'self'; style-src 'self'",
            "script-src 'self' 'unsafe-inline'; style-src 'self'",
        ),
        a_form_of_a_page_stays_here=("; form-action 'self'", ""),
    ),
    *mutants_in_file(
        static_files,
        test_pages,
        an_address_names_its_content=(
            "if file is None or file.url != request.url.path",
            "if file is None",
        ),
    ),
    *mutants_in_file(
        _STYLES,
        test_public_pages_in_browser,
        a_text_has_enough_contrast=("--muted: #5d584d;", "--muted: #a5a094;"),
    ),
    *mutants_in_file(
        browser_sign_in,
        test_signing_in,
        a_sign_in_leads_to_a_path_of_ours=(r"/(?![/\\])[", r"/["),
        an_id_token_is_of_this_sign_in=("    _require_nonce(tokens, attempt.nonce)\n", "\n"),
    ),
    *mutants_in_file(
        account_pages,
        test_signing_in,
        the_next_path_is_checked_before_it_is_sealed=(
            'next_path = local_path(request.query_params.get("next", ""))',
            'next_path = request.query_params.get("next", "")',
        ),
        a_sign_in_is_of_the_browser_that_began=(
            "attempt is None or not self._cookie.is_from(request, attempt.browser_digest)",
            "attempt is None",
        ),
        a_sign_in_ends_the_session_before=("await self._sign_in.end(before)", "pass"),
        signing_out_needs_a_form_of_ours=(
            "if not await self.accepts_form(request, session):",
            "if not session:",
        ),
        an_answer_is_one_of_the_hub=(
            'if not await self._sign_in.is_hub_answer(parameters.get("iss")):',
            "if not parameters:",
        ),
    ),
    *mutants_in_file(
        account_pages,
        test_job_pages,
        a_form_of_a_page_is_one_of_ours=(
            'if request.method == "POST" and not await pages.accepts_form(request, session):',
            'if request.method == "PUT":',
        ),
    ),
    *mutants_in_file(
        sessions,
        test_signing_in,
        a_form_is_of_its_session=(
            "hmac.compare_digest(token.session_digest, _digest(session))",
            "bool(session)",
        ),
    ),
    *mutants_in_file(
        connections,
        test_signing_in,
        signing_out_deletes_the_session=(
            '"DELETE FROM connected_account WHERE sign_in_id = $1 RETURNING subject_id"',
            '"SELECT subject_id FROM connected_account WHERE sign_in_id = $1"',
        ),
    ),
    *mutants_in_file(
        job_pages,
        test_job_pages,
        what_is_no_handle_does_not_exist=(
            "await operations.cancel_job(self._app, caller, handle)\n        except Invalid:",
            "await operations.cancel_job(self._app, caller, handle)\n        except KeyError:",
        ),
    ),
)
