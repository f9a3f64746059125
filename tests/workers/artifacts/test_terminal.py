"""The promise about lines that a program writes over: what a terminal shows is what is kept."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.artifacts.terminal import last_state

OOM = "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB"
BAR = "".join(f"\r{percent:3d}%|{'#' * (percent // 5)}|" for percent in range(0, 100, 7))


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("nothing is written over", "nothing is written over"),
        ("  kept, with its spaces  ", "  kept, with its spaces  "),
        (BAR, f" 98%|{'#' * 19}|"),
        (BAR + OOM, f" 98%|{'#' * 19}|{OOM}"),
        (f"{BAR}\r{' ' * 60}\rdone", "done"),
        ("step 10/10\rstep 9/10", "step 9/100"),
        ("downloading\r\x1b[Kdone", "done"),
        ("downloading\x1b[2K\x1b[1Gdone", "done"),
        ("downloading\x1b[2K\rdone", "done"),
        ("10%\b\b\b20%\b\b\b30%", "30%"),
        ("10%\x1b[3D20%", "20%"),
        ("\x1b[31m10%\x1b[0m\r\x1b[32m20%\x1b[0m", "\x1b[0m\x1b[32m20%\x1b[0m"),
        ("\x1b[31man error\x1b[0m", "\x1b[31man error\x1b[0m"),
        ("a\rb\x1b[5Cc", "b     c"),
        ("\b\r\x1b[0D", ""),
        ("\r", ""),
        ("x\x1b", "x\x1b"),
    ],
)
def test_the_last_state_of_a_line_is_what_a_terminal_shows(line: str, shown: str) -> None:
    """Bars use carriage returns, backspaces or sequences; what follows the bar stays."""
    assert last_state(line) == shown


@given(states=st.lists(st.text(alphabet="ab %", max_size=12), min_size=1, max_size=12))
@settings(max_examples=500)
def test_each_state_covers_the_last_one_from_its_start(states: list[str]) -> None:
    """A shorter state leaves the end of the one before it."""
    shown = ""
    for state in states:
        shown = state + shown[len(state) :]

    assert last_state("\r".join(states)) == (shown if len(states) == 1 else shown.rstrip(" "))


@given(line=st.text(alphabet="a\r\b\x1b[0123;GKJDCm?", max_size=60))
@settings(max_examples=1000)
def test_any_line_has_a_last_state_of_bounded_length(line: str) -> None:
    """A sequence of a few characters cannot ask for a row of a million."""
    assert len(last_state(line)) <= 4096 + 2 * len(line)
