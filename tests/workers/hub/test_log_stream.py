"""The promises about reading the Hub's stream: each line once, and never more than fits."""

import json
import tracemalloc
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from workers.hub.log_stream import LogStreamParser


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


def test_only_the_hubs_own_lines_are_left_out() -> None:
    """A command may print lines that look a little like them."""
    lines = [
        "===== Job started at 2026-11-21 02:10:41 =====",
        "===== Job 3 of 5 =====",
        "===== Job finished: status=COMPLETED =====",
    ]

    assert LogStreamParser(100).feed(b"".join(format_event(text) for text in lines)) == [lines[1]]


def test_a_line_of_a_hundred_megabytes_is_cut_while_it_is_read() -> None:
    """Its beginning is enough, and the machine has better uses for its memory."""
    stream, piece = LogStreamParser(1000), b"\\u00e9" * 10_000
    tracemalloc.start()
    lines = stream.feed(b'data: {"data":"')
    for _ in range(1700):
        lines += stream.feed(piece)
    lines += stream.feed(b'","timestamp":"2026"}\n\n' + format_event("next"))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert lines == ["é" * 1000, "next"]
    assert most < 1024 * 1024


def test_an_event_that_cannot_be_read_stands_as_it_was_written() -> None:
    """What a job printed is not lost because the Hub wrote it in another way."""
    assert LogStreamParser(100).feed(b'data: {"data": 5}\n\n') == ['{"data": 5}']
