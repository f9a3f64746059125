"""What must not be kept of what a job says: its secrets, in any form it is likely to print them.

Everything is looked for in the text as it was written, overlapping finds included, and only what
was found is replaced. Nothing else is ever changed, and no mark is searched again.

Not every secret can be looked for. `true`, `8080` or `admin` given as a secret stands in half of
all lines, and a log without these words tells nobody anything. So a value of fewer than 6
characters, a number of fewer than 12 digits and a single word of fewer than 16 letters stay.
"""

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import quote, quote_plus

from schema.accounts.vault import Secret
from schema.specs.hub_job import TOKEN_VARIABLE

_MIN_SECRET_CHARS: Final = 6
_SHORT_NUMBER_PATTERN: Final = re.compile(r"[\d.,:+-]{1,11}")
_PLAIN_WORD_PATTERN: Final = re.compile(r"[^\W\d_]([^\W\d_A-Z]{0,14}|[A-Z]{0,14})")
_MIN_SECRET_LINE_CHARS: Final = 20
"""A line of a secret, such as those of a PEM key, is one too if it is so long and has no space."""

_HF_TOKEN_PATTERN: Final = re.compile(
    r"(?<![A-Za-z0-9_])(?:"
    r"hf_(?:oauth_|jwt_)?eyJ[\w-]+\.[\w-]+\.[\w-]+"
    r"|hf_oauth__refresh_[\w-]{16,}"
    r"|(?:hf|api_org)_[A-Za-z0-9]{30,}"
    r")",
    re.ASCII,
)
"""Tokens of Hugging Face; long enough that `hf_hub_download` is not one."""
_MAX_TOKEN_CHARS: Final = 8192


class _SecretForm(NamedTuple):
    text: str
    mark: str


class _SecretMatch(NamedTuple):
    start: int
    end: int
    mark: str


class Redactor:
    """Finds the secrets of one job."""

    def __init__(self, secrets: Mapping[str, Secret], token: Secret | None = None) -> None:
        """Prepare to find the secrets of one job.

        Args:
            secrets: by name; the name stands in the text where the secret stood.
            token: the subject's own, called `HF_TOKEN`. A job may have another secret of that
                name; both are looked for.
        """
        named = [*secrets.items()]
        if token is not None:
            named.append((TOKEN_VARIABLE, token))
        self._forms = [
            _SecretForm(text, f"[redacted:{name}]")
            for name, secret in named
            for text in sorted(_printed_forms(secret.reveal()), key=len, reverse=True)
        ]
        self.max_secret_chars = max([_MAX_TOKEN_CHARS, *(len(form.text) for form in self._forms)])
        """How many characters the longest of them has."""
        self.max_secret_lines = max([1, *(form.text.count("\n") + 1 for form in self._forms)])
        """Over how many lines a secret may go."""

    def redact(self, text: str) -> str:
        """Return a text with marks where secrets stood."""
        return _apply_marks(text, 0, len(text), self._find_secrets(text))

    def redact_lines(self, lines: Sequence[str], *, max_line_chars: int | None = None) -> list[str]:
        """Return each of these lines with marks where secrets stood, also where they go on.

        What is beyond the `longest` characters of a line is looked at, and left out.
        """
        said, redacted, start = "\n".join(lines), list[str](), 0
        finds = self._find_secrets(said)
        for line in lines:
            end = start + len(line)
            shown = end if max_line_chars is None else min(end, start + max_line_chars)
            redacted.append(_apply_marks(said, start, shown, finds) if finds else said[start:shown])
            start = end + 1
        return redacted

    def count_undecided_lines(self, lines: Sequence[str]) -> int:
        """Count the last lines in which a secret may have begun that ends in the next ones."""
        if self.max_secret_lines == 1:
            return 0
        said = "\n".join(lines) + "\n"
        begun = max(
            (
                place.end()
                for form in self._forms
                for place in re.finditer("\n", form.text)
                if said.endswith(form.text[: place.end()])
            ),
            default=0,
        )
        count = 0
        while begun > 0:
            count += 1
            begun -= len(lines[-count]) + 1
        return count

    def _find_secrets(self, text: str) -> list[_SecretMatch]:
        """Return what is covered, in order; finds that overlap are one, and called by the first."""
        found = [
            _SecretMatch(*it.span(), "[redacted:token]") for it in _HF_TOKEN_PATTERN.finditer(text)
        ]
        found += [find for form in self._forms for find in _find_form(form, text)]
        merged: list[_SecretMatch] = []
        # Where two begin at the same place, the longer one names it, and a secret of the job's.
        for find in sorted(
            found, key=lambda it: (it.start, -it.end, it.mark == "[redacted:token]")
        ):
            if merged and find.start < merged[-1].end:
                merged[-1] = merged[-1]._replace(end=max(find.end, merged[-1].end))
            else:
                merged.append(find)
        return merged


def _find_form(form: _SecretForm, text: str) -> Iterator[_SecretMatch]:
    place = text.find(form.text)
    while place >= 0:
        yield _SecretMatch(place, place + len(form.text), form.mark)
        place = text.find(form.text, place + 1)


def _apply_marks(text: str, start: int, end: int, matches: Sequence[_SecretMatch]) -> str:
    parts: list[str] = []
    for find in matches:
        if find.end > start and find.start < end:
            parts += [text[start : max(start, find.start)], find.mark]
            start = min(find.end, end)
    return "".join([*parts, text[start:end]])


def is_redactable(secret: str) -> bool:
    """Tell whether a text is one that nobody writes without meaning the secret."""
    plain = _SHORT_NUMBER_PATTERN.fullmatch(secret) or _PLAIN_WORD_PATTERN.fullmatch(secret)
    return len(secret) >= _MIN_SECRET_CHARS and not plain


def _printed_forms(secret: str) -> set[str]:
    """Return a secret as it may be printed."""
    secret = secret.strip()
    if not is_redactable(secret):
        return set()
    unix = "\n".join(secret.splitlines())
    own = {line.strip() for line in secret.splitlines()} - {secret}
    parts = {
        line for line in own if len(line) >= _MIN_SECRET_LINE_CHARS and not re.search(r"\s", line)
    }
    plain = {secret, unix} | {part for part in parts if is_redactable(part)}
    return plain | {form for text in (secret, unix) for form in _encoded_forms(text)}


def _encoded_forms(text: str) -> Iterator[str]:
    """Write a text as JSON, as Python, in a URL, and in base64 wherever it may stand in there."""
    yield from (json.dumps(text, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False))
    yield repr(text)[1:-1]
    for escaped in (quote(text, safe=""), quote(text), quote_plus(text)):
        yield escaped
        yield re.sub("%..", lambda it: it[0].lower(), escaped)
    raw = text.encode(errors="replace")
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(raw).decode()
        for shift in range(3):
            # Of the first and the last letter only some bits are the secret's.
            written = encode(b"\0" * shift + raw).decode().rstrip("=")
            first = (0, 2, 3)[shift]
            last = len(written) - ((len(raw) + shift) % 3 != 0)
            yield written[first:last]
