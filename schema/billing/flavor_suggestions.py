"""Suggestions for a hardware flavor that does not exist: the nearest first, then the cheapest.

People write what they know of a machine: the model of its GPU (`a100`), how many (`h100x8`,
`4xL4`), how much memory (`24GB`), a size (`small`), or a flavor with a slip in it. Each flavor has
a score for how much of that it is. Those with the best score are suggested, the cheapest first.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import SequenceMatcher, get_close_matches
from typing import Final, Self

from schema.common.name_matching import normalize_name

_MAX_SUGGESTIONS: Final = 3
_MAX_COMPARED_CHARS: Final = 64
_MODEL_SCORE: Final = 16
_PART_OF_MODEL_SCORE: Final = 8
_NEAR_MODEL_SCORE: Final = 7
_COUNT_SCORE: Final = 3
_SIZE_SCORE: Final = 2
_KIND_SCORE: Final = 1
_MIN_MODEL_RATIO: Final = 0.74
"""`h100` and `h200` have three of four letters in common."""
_MIN_SIZE_RATIO: Final = 0.7
_MIN_PREFIX_CHARS: Final = 2
_MEMORY: Final = re.compile(r"(?<![a-z\d])(\d{1,4})-?gi?b?(?![a-z\d])")
_LEADING_COUNT: Final = re.compile(r"(?<![a-z\d])(\d{1,2})-?x-?(?=[a-z])")
_TRAILING_COUNT: Final = re.compile(r"(?<=[a-z\d])-?x-?(\d{1,2})(?![a-z\d])")
_GPU_WORDS: Final = frozenset({"gpu", "gpus", "cuda", "nvidia", "tesla", "accelerator", "zero"})
_FIRST_NUMBER: Final = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class FlavorTraits:
    """What a flavor is compared by."""

    name: str
    gpu_model: str | None
    """Its accelerator; None if it has none."""
    gpu_count: int
    gpu_memory_gb: int
    """Of all its accelerators together."""
    price_micro_usd: int

    @property
    def family(self) -> str:
        """The model of its accelerator, or `cpu`."""
        return _squash(self.gpu_model or "cpu")

    @property
    def words(self) -> list[str]:
        """The parts of its name, without how many accelerators it has."""
        return _TRAILING_COUNT.sub("", normalize_name(self.name)).split("-")


@dataclass(frozen=True, slots=True)
class _Wish:
    """What somebody wrote, read as traits."""

    words: list[str]
    count: int | None
    memory_gb: int | None
    wants_gpu: bool

    @classmethod
    def parse(cls, text: str) -> Self:
        rest = normalize_name(text[:_MAX_COMPARED_CHARS])
        memory, rest = _take_number(_MEMORY, rest)
        leading, rest = _take_number(_LEADING_COUNT, rest)
        trailing, rest = _take_number(_TRAILING_COUNT, rest)
        words = [word for word in rest.split("-") if word]
        return cls(
            [word for word in words if word not in _GPU_WORDS],
            leading or trailing,
            memory,
            any(word in _GPU_WORDS for word in words),
        )

    def score(self, flavor: FlavorTraits) -> float:
        """Say how much of what was written a flavor is; 0 is nothing."""
        model = self._score_model(flavor)
        size = max((_score_size(word, flavor) for word in self.words), default=0)
        kind = _KIND_SCORE if self.wants_gpu and flavor.gpu_model else 0
        named = model + size + kind
        if self.memory_gb is not None and not model:
            named += _KIND_SCORE if flavor.gpu_memory_gb >= self.memory_gb else -named
        has_count = self.count is not None and flavor.gpu_count == self.count
        return named + (_COUNT_SCORE if named and has_count else 0)

    def _score_model(self, flavor: FlavorTraits) -> float:
        whole = "".join(self.words)
        scores = [_score_model(word, flavor.family) for word in dict.fromkeys([whole, *self.words])]
        return max(scores, default=0)


def suggest_flavors(text: str, flavors: Iterable[FlavorTraits]) -> list[str]:
    """Return the flavors that may have been meant: all equally near, the cheapest first."""
    by_price = sorted(flavors, key=lambda flavor: (flavor.price_micro_usd, flavor.name))
    by_squashed = {_squash(flavor.name): flavor.name for flavor in by_price}
    squashed = _squash(text[:_MAX_COMPARED_CHARS])
    if squashed in by_squashed:
        return [by_squashed[squashed]]
    wish = _Wish.parse(text)
    scores = {flavor.name: wish.score(flavor) for flavor in by_price}
    best = max(scores.values(), default=0)
    if best >= _SIZE_SCORE or wish.wants_gpu or wish.memory_gb:
        equals = [name for name, score in scores.items() if score == best > 0]
        return equals[:_MAX_SUGGESTIONS]
    close = get_close_matches(squashed, by_squashed, n=1, cutoff=0.6)
    return [by_squashed[match] for match in close]


def read_number(text: str) -> int:
    """Return the first number of a text such as "24 GB"; 0 if it has none."""
    match = _FIRST_NUMBER.search(text)
    return 0 if match is None else int(match[0])


def _take_number(pattern: re.Pattern[str], text: str) -> tuple[int | None, str]:
    match = pattern.search(text)
    return (None, text) if match is None else (int(match[1]), pattern.sub("-", text))


def _score_model(word: str, family: str) -> float:
    if word == family:
        return _MODEL_SCORE
    if len(word) >= _MIN_PREFIX_CHARS and family.startswith(word):
        return _PART_OF_MODEL_SCORE
    is_near = SequenceMatcher(None, word, family).ratio() >= _MIN_MODEL_RATIO
    return _NEAR_MODEL_SCORE if is_near else 0


def _score_size(word: str, flavor: FlavorTraits) -> float:
    sizes = flavor.words[1:]
    if word in sizes:
        return _SIZE_SCORE
    is_near = any(
        SequenceMatcher(None, word, size).ratio() >= _MIN_SIZE_RATIO for size in sizes if size
    )
    return _SIZE_SCORE / 2 if is_near else 0


def _squash(text: str) -> str:
    return normalize_name(text).replace("-", "")
