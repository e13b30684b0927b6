"""The server behind a page: what the page's own container lacks is computed when it is asked for.

    GET /                     the page
    GET /module               its JavaScript module
    GET /container            the container that is in the page
    GET /window?run=0&from=0&to=9 ...     answers of `Answers`: containers
    GET /moment?run=0&moment=9
    GET /block?run=0&moment=9&start=4096

It listens on this computer alone, and answers only those who call it by its own name: a page of somebody
else's, whose name leads to 127.0.0.1, gets nothing.  A question that makes no sense is answered by 400 and a
sentence.
"""

import sys
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from heaplab.errors import UsageError
from heaplab.pages.answers import Answers

HOST: Final = "127.0.0.1"
_HTML: Final = "text/html; charset=utf-8"
_SCRIPT: Final = "text/javascript; charset=utf-8"
_TEXT: Final = "text/plain; charset=utf-8"
_BYTES: Final = "application/octet-stream"


class Server(ThreadingHTTPServer):
    """A server on 127.0.0.1, which runs in `serve_forever` until `shutdown`, or an exception such as Ctrl-C.

    page, module: texts.  container: bytes.  answers: to questions.  port: 0 takes one that is free.
    Raises: UsageError when the port is taken, or may not be listened on.
    """

    daemon_threads = True

    def __init__(self, page: str, module: str, container: bytes, answers: Answers, port: int = 0) -> None:
        self.files: dict[str, tuple[str, bytes]] = {
            "/": (_HTML, page.encode()),
            "/module": (_SCRIPT, module.encode()),
            "/container": (_BYTES, container),
        }
        self.answers: Mapping[str, Callable[..., bytes]] = {
            "/window": answers.window,
            "/moment": answers.moment,
            "/block": answers.block,
        }
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise UsageError(
                f"--port {port}: {error.strerror or error}: name another, or none to take one that is free"
            ) from None

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        """What to open."""
        return f"http://{HOST}:{self.port}/"

    @property
    def names(self) -> frozenset[str]:
        """What may stand in a request as the host."""
        return frozenset(f"{name}:{self.port}" for name in (HOST, "localhost"))

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Forget a client that went away in the middle; the others go on."""
        error = sys.exception()
        if not isinstance(error, ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server
    #: seconds until a silent client is forgotten
    timeout = 60

    def do_GET(self) -> None:
        """Answer one request; what goes wrong costs this request alone."""
        if self.headers.get("Host", "") not in self.server.names:
            self._send(
                403, _TEXT, f"this server is {self.server.url}, and answers to no other name\n".encode()
            )
            return
        asked = urlsplit(self.path)
        if asked.path in self.server.files:
            self._send(200, *self.server.files[asked.path])
        elif asked.path in self.server.answers:
            self._send(*self._answer(self.server.answers[asked.path], asked.query))
        else:
            known = ", ".join([*self.server.files, *self.server.answers])
            self._send(404, _TEXT, f"{asked.path}: there is no such page here: there are {known}\n".encode())

    def _answer(self, answer: Callable[..., bytes], query: str) -> tuple[int, str, bytes]:
        """Return status, kind and body."""
        try:
            return 200, _BYTES, answer(**_question(query))
        except UsageError as error:
            return 400, _TEXT, f"{error}\n".encode()
        except Exception as error:  # a heap that cannot be read, or no memory: the next question may go well
            return 500, _TEXT, f"{type(error).__name__}: {error}\n".encode()

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing of requests."""


def _question(query: str) -> dict[str, str]:
    """Return the words of a query.  Raises: UsageError when it is none, or says something twice."""
    try:
        words = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError as error:
        raise UsageError(f"{error}: a question is NAME=NUMBER&NAME=NUMBER") from None
    question = dict(words)
    if len(question) < len(words):
        raise UsageError("a word stands twice in the question: once is enough")
    return question
