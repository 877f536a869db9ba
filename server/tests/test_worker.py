"""What we pass to Granian, and what we pass on to the application."""

from typing import Any

from server.slots import Slots
from server.worker import adapter


class Protocol:
    """Granian's end of a request."""

    answer: tuple[Any, ...] = ()

    def response_bytes(self, *answer: Any) -> None:
        self.answer = answer


def test_the_process_environment_stays_out_of_requests(monkeypatch: Any) -> None:
    monkeypatch.setenv("SOME_SECRET", "x")
    seen: dict[str, Any] = {}

    def app(environ: dict[str, Any], start: Any) -> list[bytes]:
        seen.update(environ)
        start("200 OK", [])
        return [b"a", b"b"]

    protocol = Protocol()
    adapter(Slots(app, 1))(protocol, {"PATH_INFO": "/x", "REQUEST_METHOD": "GET"})
    assert protocol.answer == (200, [], b"ab")
    assert "SOME_SECRET" not in seen
    assert seen["REQUEST_METHOD"] == "GET"
