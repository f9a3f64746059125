"""The promises about reading the Hub's stream: each line once, and never more than fits."""

import json
import re
import tracemalloc
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from schema.db.storable import to_storable
from workers.hub.log_stream import GAP, LogStreamParser


def format_event(text: str) -> bytes:
    payload = {"data": text, "timestamp": "2026-11-21T02:10:42.104Z"}
    return f"data: {json.dumps(payload)}\n\n".encode()


@given(
    lines=st.lists(st.text(alphabet='aé\u2028😀"\\\n', max_size=20), max_size=20),
    cuts=st.lists(st.integers(0, 3000)),
)
def test_where_packets_end_makes_no_difference(lines: list[str], cuts: list[int]) -> None:
    """A network cuts where it likes, also within a character."""
    sent = b"".join(format_event(line) + b": keep-alive\n\n" for line in lines)
    ends = [0, *sorted(min(cut, len(sent)) for cut in cuts), len(sent)]
    stream = LogStreamParser(100)

    assert [text for one, two in pairwise(ends) for text in stream.feed(sent[one:two])] == lines


@given(
    line=st.text(alphabet='aé\u2028😀"\\\n\ud83d', min_size=10, max_size=400),
    packet_bytes=st.integers(1, 500),
    escapes=st.booleans(),
)
def test_of_a_line_too_long_the_beginning_and_the_end_are_read(
    line: str, packet_bytes: int, *, escapes: bool
) -> None:
    """Wherever it is cut, also within an escape, and in whatever way the Hub writes characters."""
    text = to_storable(line * 10)
    event = f"data: {json.dumps({'data': text, 'timestamp': '2026'}, ensure_ascii=escapes)}\n"
    sent, stream = event.encode(), LogStreamParser(20)

    (read,) = [
        read
        for start in range(0, len(sent), packet_bytes)
        for read in stream.feed(sent[start : start + packet_bytes])
    ]

    beginning, gap, end = read.partition(GAP)
    if gap:
        # The last character, and the first ones, may be what is left of an escape.
        assert text.startswith(beginning[:-1])
        assert text.endswith(re.sub(r"^[^\\]{0,12}\\*.{0,6}", "", end, flags=re.DOTALL))
        assert min(len(beginning), len(end)) >= 10
    else:
        assert read == text


def test_only_the_hubs_own_lines_are_left_out() -> None:
    """A command may print lines that look a little like them."""
    lines = [
        "===== Job started at 2026-11-21 02:10:41 =====",
        "===== Job 3 of 5 =====",
        "===== Job finished: status=COMPLETED =====",
    ]

    assert LogStreamParser(100).feed(b"".join(format_event(text) for text in lines)) == [lines[1]]


def test_a_line_of_a_hundred_megabytes_is_cut_while_it_is_read() -> None:
    """Its beginning and its end are enough, and the machine has better uses for its memory."""
    stream, piece = LogStreamParser(1000), b"\\u00e9" * 10_000
    tracemalloc.start()
    lines = stream.feed(b'data: {"data":"')
    for _ in range(1700):
        lines += stream.feed(piece)
    lines += stream.feed(b'the end","timestamp":"2026"}\n\n' + format_event("next"))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    beginning, _, end = lines[0].partition(GAP)
    assert set(beginning) == {"é"}
    assert end.removesuffix("the end")[6:] == "é" * (len(end) - 13)
    assert min(len(beginning), len(end)) >= 500
    assert lines[1:] == ["next"]
    assert most < 1024 * 1024


def test_an_event_that_cannot_be_read_stands_as_it_was_written() -> None:
    """What a job printed is not lost because the Hub wrote it in another way."""
    assert LogStreamParser(100).feed(b'data: {"data": 5}\n\n') == ['{"data": 5}']
