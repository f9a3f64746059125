"""Guards of the pages: nothing runs, frames, stays or is read that should not."""

from typing import Final

from service.http.pages import rendering, static_files
from tests.mutants.mutant import mutants_in_file
from tests.service.web import test_pages, test_public_pages_in_browser

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
)
