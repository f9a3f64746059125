"""Where, in what was said and printed, is the symptom that tells why a job failed?

Of the symptoms in a log the last is believed, for what came before it was survived.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from schema.artifacts.log_store import Line
from service.views.diagnosis.symptoms import IN_LOG, OF_SPACES, SAID, Symptom

EXCEPTION: Final = (
    r"^(?:[A-Za-z_][A-Za-z0-9_]*\.)*[A-Za-z_][A-Za-z0-9_]*(?:Error|Exception|Interrupt)(?::|$)"
)
"""The last line of a Python traceback."""
TRACEBACK: Final = r"Traceback \(most recent call last\)"
CHAINED: Final = (
    r"^During handling of the above exception|^The above exception was the direct cause"
)
_SUMMARY: Final = re.compile(r"ChildFailedError|CalledProcessError|SystemExit")
"""Exceptions that only say that another program failed."""

TELLING: Final = "|".join(
    re.sub(r"\(\?P<\w+>", "(?:", pattern)
    for pattern in [*(symptom.pattern for symptom in IN_LOG), EXCEPTION, TRACEBACK, CHAINED]
)
"""What makes a line of a log worth reading, for Postgres."""
_PAGE: Final = re.compile(
    r"https://huggingface\.co/(?:api/)?(?P<kind>models/|datasets/|spaces/)?"
    r"(?P<repo>[A-Za-z0-9_-]+/[A-Za-z0-9_.-]*[A-Za-z0-9])"
)
_NAMED: Final = re.compile(
    r"(?P<kind>model|dataset) (?P<repo>[A-Za-z0-9_-]+/[A-Za-z0-9_.-]*[A-Za-z0-9])"
)
_PACKAGES: Final = {
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


class Found(NamedTuple):
    """A symptom, where it was, and what stood there."""

    symptom: Symptom
    line: Line
    parts: Mapping[str, Any]


def last(lines: Sequence[Line]) -> Found | None:
    """Return the last symptom of a log, unless it was survived.

    It was if an exception came after it that neither is a symptom itself nor grew out of it.
    """
    for line in reversed(lines):
        for symptom in IN_LOG:
            if (parts := symptom.read(line.text)) is not None:
                return None if _survived(lines, line.number) else Found(symptom, line, parts)
    return None


def _survived(lines: Sequence[Line], number: int) -> bool:
    after = [line.text for line in lines if line.number > number]
    if any(re.search(CHAINED, text) for text in after):
        return False
    return any(re.search(EXCEPTION, text) and not _SUMMARY.search(text) for text in after)


def said(message: str) -> tuple[Symptom, Mapping[str, Any]] | None:
    """Return the first symptom in a message."""
    for symptom in (*OF_SPACES, *SAID):
        if (parts := symptom.read(message)) is not None:
            return symptom, parts
    return None


def exception(lines: Sequence[Line]) -> tuple[Line, Line] | None:
    """Return where the last traceback begins, and the line that names its exception."""
    raised = [line for line in lines if re.search(EXCEPTION, line.text)]
    told = [line for line in raised if not _SUMMARY.search(line.text)] or raised
    if not told:
        return None
    begun = [line for line in lines if re.search(TRACEBACK, line.text)]
    before = [line for line in begun if line.number < told[-1].number]
    return (before[-1] if before else told[-1]), told[-1]


def package_of(module: str) -> str:
    """Say what has to be installed for a module."""
    top = module.partition(".")[0]
    return _PACKAGES.get(top, top.replace("_", "-"))


def page_of(texts: Iterable[str]) -> str:
    """Return the page of the first repository that is named."""
    for text in texts:
        if found := _NAMED.search(text) or _PAGE.search(text):
            kind = f"{found['kind'].strip('/s')}s/" if found["kind"] else ""
            return f"https://huggingface.co/{kind.removeprefix('models/')}{found['repo']}"
    return "its page at https://huggingface.co"
