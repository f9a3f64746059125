"""The search for symptoms of a failure in a message and in the lines of a log.

In a log the last symptom counts: the program went on after each earlier one.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from schema.artifacts.log_store import NumberedLine
from schema.common.text import truncate
from service.views.diagnosis.symptoms import (
    LOG_SYMPTOMS,
    MAX_GROUP_CHARS,
    MESSAGE_SYMPTOMS,
    SPACE_SYMPTOMS,
    Symptom,
)

EXCEPTION_PATTERN: Final = (
    r"^(?:[A-Za-z_][A-Za-z0-9_]*\.)*[A-Za-z_][A-Za-z0-9_]*(?:Error|Exception|Interrupt)(?::|$)"
)
"""The last line of a Python traceback."""
TRACEBACK_PATTERN: Final = r"Traceback \(most recent call last\)"
CHAINED_EXCEPTION_PATTERN: Final = (
    r"^During handling of the above exception|^The above exception was the direct cause"
)
_WRAPPER_EXCEPTION: Final = re.compile(r"ChildFailedError|CalledProcessError|SystemExit")
"""Exceptions that only say that another program failed."""

RELEVANT_LINE_PATTERN: Final = "|".join(
    re.sub(r"\(\?P<\w+>", "(?:", pattern)
    for pattern in [
        *(symptom.pattern for symptom in LOG_SYMPTOMS),
        EXCEPTION_PATTERN,
        TRACEBACK_PATTERN,
        CHAINED_EXCEPTION_PATTERN,
    ]
)
"""The lines of a log that a diagnosis needs; Postgres selects them with this pattern."""
_REPOSITORY_URL: Final = re.compile(
    r"https://huggingface\.co/(?:api/)?(?P<kind>models/|datasets/|spaces/)?"
    r"(?P<repo>[A-Za-z0-9_-]+/[A-Za-z0-9_.-]*[A-Za-z0-9])"
)
_REPOSITORY_NAME: Final = re.compile(
    r"(?P<kind>model|dataset) (?P<repo>[A-Za-z0-9_-]+/[A-Za-z0-9_.-]*[A-Za-z0-9])"
)
_PACKAGE_BY_MODULE: Final = {
    "cv2": "opencv-python-headless",
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
    "bs4": "beautifulsoup4",
    "dotenv": "python-dotenv",
    "skimage": "scikit-image",
    "flash_attn": "flash-attn",
}
"""The packages of modules whose package has another name."""


class SymptomMatch(NamedTuple):
    """A symptom, the line where it was, and the groups that its pattern matched there."""

    symptom: Symptom
    line: NumberedLine
    groups: Mapping[str, Any]


def find_last_symptom(lines: Sequence[NumberedLine]) -> SymptomMatch | None:
    """Return the last symptom of a log, unless the program survived it.

    It survived if an exception came later that is no symptom and was not caused by this one.
    """
    for line in reversed(lines):
        for symptom in LOG_SYMPTOMS:
            if (groups := symptom.match(line.text)) is not None:
                return (
                    None
                    if _was_survived(lines, line.number)
                    else SymptomMatch(symptom, line, groups)
                )
    return None


def _was_survived(lines: Sequence[NumberedLine], number: int) -> bool:
    later_texts = [line.text for line in lines if line.number > number]
    if any(re.search(CHAINED_EXCEPTION_PATTERN, text) for text in later_texts):
        return False
    return any(
        re.search(EXCEPTION_PATTERN, text) and not _WRAPPER_EXCEPTION.search(text)
        for text in later_texts
    )


def find_message_symptom(message: str) -> tuple[Symptom, Mapping[str, Any]] | None:
    """Return the first symptom in a message."""
    for symptom in (*SPACE_SYMPTOMS, *MESSAGE_SYMPTOMS):
        if (groups := symptom.match(message)) is not None:
            return symptom, groups
    return None


def find_exception(lines: Sequence[NumberedLine]) -> tuple[NumberedLine, NumberedLine] | None:
    """Return where the last traceback begins, and the line that names its exception."""
    all_exceptions = [line for line in lines if re.search(EXCEPTION_PATTERN, line.text)]
    root_exceptions = [line for line in all_exceptions if not _WRAPPER_EXCEPTION.search(line.text)]
    exceptions = root_exceptions or all_exceptions
    if not exceptions:
        return None
    exception = exceptions[-1]
    tracebacks = [
        line
        for line in lines
        if re.search(TRACEBACK_PATTERN, line.text) and line.number < exception.number
    ]
    return (tracebacks[-1] if tracebacks else exception), exception


def package_for_module(module: str) -> str:
    """Return the name of the package to install for a module."""
    top = module.partition(".")[0]
    return _PACKAGE_BY_MODULE.get(top, top.replace("_", "-"))


def repository_url(texts: Iterable[str]) -> str:
    """Return the page of the first repository that the texts name; a general text if none does."""
    for text in texts:
        if match := _REPOSITORY_NAME.search(text) or _REPOSITORY_URL.search(text):
            kind = f"{match['kind'].strip('/s')}s/" if match["kind"] else ""
            name = truncate(match["repo"], MAX_GROUP_CHARS)
            return f"https://huggingface.co/{kind.removeprefix('models/')}{name}"
    return "its page at https://huggingface.co"
