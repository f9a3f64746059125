"""Stable ports of local servers, which other programs may take at any moment."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from schema.common.http import LOOPBACK
from service.local.errors import CannotStart
from service.local.ports import begin_on_stable_port, is_port_free


def test_a_server_begins_at_once_and_is_waited_for_later(tmp_path: Path) -> None:
    """Between the two the next server starts."""
    steps: list[str] = []

    def begin(_: int) -> Callable[[], None]:
        steps.append("begun")
        return lambda: steps.append("ready")

    finish = begin_on_stable_port(tmp_path / "port", begin)
    begun_only = list(steps)
    port = finish()

    assert begun_only == ["begun"]
    assert steps == ["begun", "ready"]
    assert (tmp_path / "port").read_text() == str(port)


def test_a_port_that_another_program_takes_first_is_replaced(tmp_path: Path) -> None:
    """The other one has as much right to it, and our server needs only some port."""
    ports: list[int] = []
    with socket.socket() as other:

        def begin(port: int) -> Callable[[], None]:
            ports.append(port)

            def wait() -> None:
                if len(ports) == 1:
                    other.bind((LOOPBACK, port))
                    other.listen()
                    raise CannotStart("the port is taken")

            return wait

        port = begin_on_stable_port(tmp_path / "port", begin)()

    assert ports[1:] == [port]
    assert port != ports[0]


@pytest.mark.parametrize("message", ["[Errno 98] Address already in use", "Port {port} is taken."])
def test_a_port_that_was_taken_for_a_moment_is_tried_again(tmp_path: Path, message: str) -> None:
    """By the time anybody looks, the other program may have ended."""
    ports: list[int] = []

    def begin(port: int) -> Callable[[], None]:
        ports.append(port)

        def wait() -> None:
            if len(ports) == 1:
                raise CannotStart(message.format(port=port))

        return wait

    assert begin_on_stable_port(tmp_path / "port", begin)() == ports[1]


def test_a_server_that_fails_for_another_reason_is_not_tried_again(tmp_path: Path) -> None:
    """Its reason would be the same at every port."""
    ports: list[int] = []

    def begin(port: int) -> Callable[[], None]:
        def wait() -> None:
            ports.append(port)
            raise CannotStart("no disk space")

        return wait

    with pytest.raises(CannotStart, match="no disk space"):
        begin_on_stable_port(tmp_path / "port", begin)()

    assert len(ports) == 1
    assert is_port_free(ports[0])
