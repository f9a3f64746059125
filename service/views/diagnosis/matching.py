"""Where, in what was said and printed, is the symptom that tells why a job failed?

Of the symptoms in a log the last is believed, for what came before it was survived.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from schema.artifacts.log_store import NumberedLine
from service.views.diagnosis.symptoms import LOG_SYMPTOMS, MESSAGE_SYMPTOMS, SPACE_SYMPTOMS, Symptom

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
"""What makes a line of a log worth reading, for Postgres."""
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
"""Modules whose package has another name."""


class SymptomMatch(NamedTuple):
    """A symptom, where it was, and what stood there."""

    symptom: Symptom
    line: NumberedLine
    groups: Mapping[str, Any]


def find_last_symptom(lines: Sequence[NumberedLine]) -> SymptomMatch | None:
    """Return the last symptom of a log, unless it was survived.

    It was if an exception came after it that neither is a symptom itself nor grew out of it.
    """
    for line in reversed(lines):
        for symptom in LOG_SYMPTOMS:
            if (parts := symptom.match(line.text)) is not None:
                return (
                    None
                    if _was_survived(lines, line.number)
                    else SymptomMatch(symptom, line, parts)
                )
    return None


def _was_survived(lines: Sequence[NumberedLine], number: int) -> bool:
    after = [line.text for line in lines if line.number > number]
    if any(re.search(CHAINED_EXCEPTION_PATTERN, text) for text in after):
        return False
    return any(
        re.search(EXCEPTION_PATTERN, text) and not _WRAPPER_EXCEPTION.search(text) for text in after
    )


def find_message_symptom(message: str) -> tuple[Symptom, Mapping[str, Any]] | None:
    """Return the first symptom in a message."""
    for symptom in (*SPACE_SYMPTOMS, *MESSAGE_SYMPTOMS):
        if (parts := symptom.match(message)) is not None:
            return symptom, parts
    return None


def find_exception(lines: Sequence[NumberedLine]) -> tuple[NumberedLine, NumberedLine] | None:
    """Return where the last traceback begins, and the line that names its exception."""
    raised = [line for line in lines if re.search(EXCEPTION_PATTERN, line.text)]
    told = [line for line in raised if not _WRAPPER_EXCEPTION.search(line.text)] or raised
    if not told:
        return None
    begun = [line for line in lines if re.search(TRACEBACK_PATTERN, line.text)]
    before = [line for line in begun if line.number < told[-1].number]
    return (before[-1] if before else told[-1]), told[-1]


def package_for_module(module: str) -> str:
    """Say what has to be installed for a module."""
    top = module.partition(".")[0]
    return _PACKAGE_BY_MODULE.get(top, top.replace("_", "-"))


def repository_url(texts: Iterable[str]) -> str:
    """Return the page of the first repository that is named."""
    for text in texts:
        if found := _REPOSITORY_NAME.search(text) or _REPOSITORY_URL.search(text):
            kind = f"{found['kind'].strip('/s')}s/" if found["kind"] else ""
            return f"https://huggingface.co/{kind.removeprefix('models/')}{found['repo']}"
    return "its page at https://huggingface.co"
