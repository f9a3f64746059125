"""Values of options: what is meant is taken, and what cannot be meant is refused in a sentence."""

from argparse import ArgumentTypeError
from pathlib import Path

import pytest

from service.cli.options import (
    parse_base_url,
    parse_data_dir,
    parse_port,
    parse_port_or_zero,
    parse_service_url,
    parse_token,
)


@pytest.mark.parametrize(
    "text", ["0", "-1", "65536", "99999", "abc", "", "80.5", "1e3", "٣", "²", " 80", "9" * 5000]
)
def test_what_is_no_port_is_refused_with_the_ports_there_are(text: str) -> None:
    """Such a number must not reach `bind`, which answers with an overflow."""
    with pytest.raises(ArgumentTypeError, match="choose a number from 1 to 65535"):
        parse_port(text)


def test_every_port_is_taken_and_zero_only_where_any_will_do() -> None:
    assert [parse_port(text) for text in ("1", "80", "65535")] == [1, 80, 65535]
    assert parse_port_or_zero("0") == 0


@pytest.mark.parametrize(
    ("text", "example"),
    [
        ("huggingface.co", "https://huggingface.co"),
        ("localhost:9000", "http://localhost:9000"),
        ("127.0.0.1:9000", "http://127.0.0.1:9000"),
        ("", "https://huggingface.co"),
    ],
)
def test_a_url_without_a_scheme_is_refused_with_the_whole_one(text: str, example: str) -> None:
    """Guessing a scheme might send a token in the clear."""
    with pytest.raises(ArgumentTypeError, match=f"for example {example}$"):
        parse_base_url(text)


@pytest.mark.parametrize(
    "text",
    [
        "ftp://hub.example",
        "https://",
        "https:///path",
        "https://hub.example:99999",
        "https://hub.example:0",
        "https://hub.example:port",
        "https://[::1",
        "https://hub example",
        "https://user:password@hub.example",
        "https://hub.example/?a=b",
        "https://hub.example/#part",
    ],
)
def test_what_is_no_url_of_a_server_is_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError):
        parse_base_url(text)


@pytest.mark.parametrize(
    "text",
    [
        "https://jobs.example",
        "https://jobs.example/",
        "https://jobs.example/mcp",
        "https://jobs.example/mcp/",
        " https://jobs.example/mcp\n",
    ],
)
def test_a_service_is_named_with_or_without_its_endpoint(text: str) -> None:
    """People copy the one from a browser and the other from another client."""
    assert parse_service_url(text) == "https://jobs.example"


@pytest.mark.parametrize("text", ["hf_x", " hf_x\n", "Bearer hf_x"])
def test_a_token_is_taken_as_it_was_copied(text: str) -> None:
    assert parse_token(text) == "hf_x"


@pytest.mark.parametrize("text", ["", "  ", "hf_x hf_y", "hf_x\nEvil: 1", "hf_…", "hf_\x07"])
def test_what_no_header_can_carry_is_no_token_and_is_not_repeated(text: str) -> None:
    with pytest.raises(ArgumentTypeError) as refusal:
        parse_token(text)

    assert "hf_x" not in str(refusal.value)


def test_a_data_folder_may_be_in_the_home_folder() -> None:
    """A shell leaves the ~ of `--data=~/holdfast` as it is."""
    assert parse_data_dir("~/holdfast") == Path.home() / "holdfast"


@pytest.mark.parametrize("text", ["", " ", "a\0b", "~nobody-has-this-name/x"])
def test_what_is_no_name_of_a_folder_is_refused(text: str) -> None:
    """An empty name would fill the folder that the person is in."""
    with pytest.raises(ArgumentTypeError):
        parse_data_dir(text)
