"""How are names and their texts read, whichever plain way they were written?

`{"N": 1}` and `["N=1"]` mean `{"N": "1"}`, as everybody who writes them expects. What could mean
two things, such as null or a list, stays as it is and is refused by its type.
"""

import json
import re
from collections.abc import Mapping
from typing import Final, cast

_ASSIGNMENT: Final = re.compile(r"\s*([^=\s]+)=(.*)", re.DOTALL)


def read(given: object) -> object:
    """Return a mapping of texts, if that is what was meant."""
    if isinstance(given, Mapping):
        pairs = cast("Mapping[object, object]", given)
        return {name: _text(value) for name, value in pairs.items()}
    if isinstance(given, list):
        return _assigned(cast("list[object]", given))
    return given


def _assigned(lines: list[object]) -> object:
    found = [_ASSIGNMENT.fullmatch(line) for line in lines if isinstance(line, str)]
    pairs = [(match[1], match[2]) for match in found if match is not None]
    if len(pairs) != len(lines):
        message = 'write an object, such as {"NAME": "value"}'
        raise ValueError(message)
    names = [name for name, _ in pairs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        message = f"{twice[0]} is given more than once; give it once"
        raise ValueError(message)
    return dict(pairs)


def _text(value: object) -> object:
    # As JSON spells them, which is how they were written.
    return json.dumps(value) if isinstance(value, bool | int | float) else value
