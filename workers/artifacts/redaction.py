"""Redaction of a job's secrets in text, in every form in which a job is likely to print them.

A secret may be JSON, lines of NAME=VALUE, a URL with a password, or base64 of one of these. The
program reads it, and may print a part of it: each part that is no common word is searched too.

All forms are searched in the text as it was written, overlapping matches included, and only the
matches are replaced. Nothing else is changed, and the marks are not searched again.

Some secrets cannot be redacted. `true`, `8080` or `admin` as a secret would be found in half of all
lines, and a log without these words is useless. So a value of fewer than 6 characters, a number of
fewer than 12 digits and a single word of fewer than 16 letters are not redacted.
"""

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import quote, quote_plus

from schema.accounts.vault import Secret
from schema.specs.hub_job import TOKEN_VARIABLE
from schema.specs.inputs.hub_tokens import TOKEN_PATTERN
from workers.artifacts.secret_parts import find_secret_parts, is_redactable
from workers.hub.log_stream import GAP

_MIN_SECRET_LINE_CHARS: Final = 20
"""A line of a secret, as in a PEM key, is a secret itself if it is this long and has no space."""

_MAX_TOKEN_CHARS: Final = 8192
_TOKEN_MARK: Final = "[redacted:token]"  # noqa: S105  # it stands in the place of one


class _SecretForm(NamedTuple):
    text: str
    mark: str


class _SecretMatch(NamedTuple):
    start: int
    end: int
    mark: str


class Redactor:
    """Finds and replaces the secrets of one job."""

    def __init__(self, secrets: Mapping[str, Secret], token: Secret | None = None) -> None:
        """Prepare to find the secrets of one job.

        Args:
            secrets: by name; the mark in the place of a secret shows its name.
            token: the subject's own, which is named `HF_TOKEN`. The job may have another secret
                of that name; both are redacted.
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
        """The length of the longest secret, in characters."""
        self.max_secret_lines = max([1, *(form.text.count("\n") + 1 for form in self._forms)])
        """The number of lines of the secret with the most lines."""

    def redact(self, text: str) -> str:
        """Return a text with marks in the place of secrets."""
        return _apply_marks(text, 0, len(text), self._find_secrets(text))

    def redact_lines(self, lines: Sequence[str]) -> list[str]:
        """Return the lines with marks in the place of secrets, also of those over several lines.

        Next to a gap in a line may be a part of a secret, so as many characters as the longest
        secret has are searched there, but not returned.
        """
        text, redacted, start = "\n".join(lines), list[str](), 0
        matches = self._find_secrets(text)
        for line in lines:
            end = start + len(line)
            if (gap := line.find(GAP)) >= 0:
                gap_start = max(start, start + gap - self.max_secret_chars)
                gap_end = min(end, start + gap + 1 + self.max_secret_chars)
                redacted.append(
                    _apply_marks(text, start, gap_start, matches)
                    + GAP
                    + _apply_marks(text, gap_end, end, matches)
                )
            else:
                redacted.append(
                    _apply_marks(text, start, end, matches) if matches else text[start:end]
                )
            start = end + 1
        return redacted

    def count_undecided_lines(self, lines: Sequence[str]) -> int:
        """Count the last lines in which a secret may start that ends in the lines to come."""
        if self.max_secret_lines == 1:
            return 0
        text = "\n".join(lines) + "\n"
        open_chars = max(
            (
                line_end.end()
                for form in self._forms
                for line_end in re.finditer("\n", form.text)
                if text.endswith(form.text[: line_end.end()])
            ),
            default=0,
        )
        count = 0
        while open_chars > 0:
            count += 1
            open_chars -= len(lines[-count]) + 1
        return count

    def _find_secrets(self, text: str) -> list[_SecretMatch]:
        """Return the matches in order; those that overlap are one, with the mark of the first."""
        matches = [
            _SecretMatch(*token.span(), _TOKEN_MARK) for token in TOKEN_PATTERN.finditer(text)
        ]
        matches += [match for form in self._forms for match in _find_form(form, text)]
        # Of those that start at the same place, the longest is first, and a secret of the job's.
        matches.sort(key=lambda match: (match.start, -match.end, match.mark == _TOKEN_MARK))
        merged: list[_SecretMatch] = []
        for match in matches:
            if merged and match.start < merged[-1].end:
                merged[-1] = merged[-1]._replace(end=max(match.end, merged[-1].end))
            else:
                merged.append(match)
        return merged


def _find_form(form: _SecretForm, text: str) -> Iterator[_SecretMatch]:
    start = text.find(form.text)
    while start >= 0:
        yield _SecretMatch(start, start + len(form.text), form.mark)
        start = text.find(form.text, start + 1)


def _apply_marks(text: str, start: int, end: int, matches: Sequence[_SecretMatch]) -> str:
    parts: list[str] = []
    for match in matches:
        if match.end > start and match.start < end:
            parts += [text[start : max(start, match.start)], match.mark]
            start = min(match.end, end)
    return "".join([*parts, text[start:end]])


def _printed_forms(secret: str) -> set[str]:
    """Return the forms in which a secret may be printed; none if it cannot be redacted."""
    secret = secret.strip()
    if not is_redactable(secret):
        return set()
    texts = {secret, *find_secret_parts(secret)}
    forms = {line for text in texts for line in _telling_lines(text)}
    for text in texts:
        unix_text = "\n".join(text.splitlines())
        forms |= {text, unix_text, *_encoded_forms(text), *_encoded_forms(unix_text)}
    return forms


def _telling_lines(text: str) -> Iterator[str]:
    """Yield the lines of a secret that are secrets themselves."""
    for line in {line.strip() for line in text.splitlines()} - {text}:
        is_telling = len(line) >= _MIN_SECRET_LINE_CHARS and not re.search(r"\s", line)
        if is_telling and is_redactable(line):
            yield line


def _encoded_forms(text: str) -> Iterator[str]:
    """Encode a text as JSON, as Python, for URLs, and in base64 at each of the three offsets."""
    yield from (json.dumps(text, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False))
    yield repr(text)[1:-1]
    for escaped in (quote(text, safe=""), quote(text), quote_plus(text)):
        yield escaped
        yield re.sub("%..", lambda match: match[0].lower(), escaped)
    raw = text.encode(errors="replace")
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(raw).decode()
        for shift in range(3):
            # Only some bits of the first and the last letter belong to the secret.
            encoded = encode(b"\0" * shift + raw).decode().rstrip("=")
            first = (0, 2, 3)[shift]
            last = len(encoded) - ((len(raw) + shift) % 3 != 0)
            yield encoded[first:last]
