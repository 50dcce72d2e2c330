"""Web requests over the bus: what the gateway sends to the endpoint ``http``, and what it gets back.

Start at :class:`WebRequest`, :class:`Response` and :class:`Router`. No IO.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union
from urllib.parse import parse_qsl, quote, unquote

from .encode import to_json
from .errors import CallError
from .wire import call as wire

#: A body is sent in messages of at most this; NATS takes 1 MiB with headers by default.
CHUNK_BYTES = 256 << 10
HeaderPairs = Sequence[Tuple[str, str]]
Headers = Union[Mapping[str, str], HeaderPairs]
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))


@dataclass
class WebRequest:
    """A web request; header names are lower case."""

    method: str
    #: Without the service's own prefix.
    path: str
    #: The last value by name.
    query: Dict[str, str]
    #: All values in order.
    query_pairs: List[Tuple[str, str]]
    headers: Dict[str, str]
    header_pairs: List[Tuple[str, str]]
    body: bytes
    #: The path as it was sent, percent-encoded.
    raw_path: str = "/"
    #: What the pattern's ``{names}`` matched.
    params: Dict[str, str] = field(default_factory=dict)
    #: The path of the pattern that matched, ``/items/{id}``; empty where none did.
    pattern: str = ""

    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body as JSON; answers 400 where it is none."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise CallError(wire.CODE_BAD_REQUEST, f"the body is not JSON: {error}") from error

    def form(self) -> Dict[str, str]:
        """The body as fields of a form."""
        return dict(parse_qsl(self.text(), keep_blank_values=True))

    @staticmethod
    def of(target: str, body: bytes = b"", **headers: str) -> WebRequest:
        """A request for tests: ``WebRequest.of("POST /items", b"{}", content_type="text/plain")``."""
        named = [(name.replace("_", "-"), value) for name, value in headers.items()]
        prefixed = [(wire.WEB_HEADER_PREFIX + name, value) for name, value in named]
        return WebRequest.read([(wire.WEB_REQUEST, target), *prefixed], body)

    @staticmethod
    def read(headers: HeaderPairs, body: bytes) -> WebRequest:
        """From the headers of the message."""
        prefix = len(wire.WEB_HEADER_PREFIX)
        target = next((value for name, value in headers if name == wire.WEB_REQUEST), "GET /")
        method, _, url = target.partition(" ")
        path, _, query = url.partition("?")
        pairs = [
            (name[prefix:].lower(), value)
            for name, value in headers
            if name.startswith(wire.WEB_HEADER_PREFIX)
        ]
        query_pairs = parse_qsl(query, keep_blank_values=True)
        return WebRequest(
            method=method,
            path=unquote(path) or "/",
            query=dict(query_pairs),
            query_pairs=query_pairs,
            headers=dict(pairs),
            header_pairs=pairs,
            body=body,
            raw_path=path or "/",
        )


@dataclass
class Response:
    """A web answer. ``body`` is text, bytes, a value that becomes JSON, or an iterator of chunks."""

    body: Any = b""
    status: int = 200
    headers: Headers = ()
    content_type: Optional[str] = None

    @staticmethod
    def of(value: Any) -> Response:
        """What a handler returned, as an answer."""
        return value if isinstance(value, Response) else Response(value)

    def head(self) -> List[Tuple[str, str]]:
        """Status and headers for the first message."""
        pairs = [(name.lower(), str(value)) for name, value in _pairs(self.headers)]
        has_type = any(name == "content-type" for name, _ in pairs)
        if not has_type and (self.content_type or self.is_stream()):
            pairs.append(("content-type", self.content_type or _type_of(self.body)))
        told = [(f"{wire.WEB_HEADER_PREFIX}{name}", value) for name, value in pairs]
        return [(wire.WEB_STATUS, str(self.status)), *told]

    def rendered(self) -> Response:
        """The same with a body of bytes, unless it is a stream; raises where there is no JSON."""
        if self.is_stream():
            return self
        kind = self.content_type or (None if self.body is None else _type_of(self.body))
        return Response(to_bytes(self.body), self.status, _pairs(self.headers), kind)

    def is_stream(self) -> bool:
        """Whether the body comes piece by piece."""
        return hasattr(self.body, "__anext__") or hasattr(self.body, "__next__")

    def chunks(self) -> List[bytes]:
        """The body of an answer that was rendered, at least one chunk."""
        return chunks_of(to_bytes(self.body))


def html(text: str, status: int = 200, headers: Headers = ()) -> Response:
    """An answer that is a page. What comes from outside must be escaped by ``html.escape``."""
    return Response(text, status, headers, content_type="text/html; charset=utf-8")


def redirect(location: str, status: int = 303, headers: Headers = ()) -> Response:
    """Sends the visitor elsewhere, as after a form. ``items/7`` is below the page they are at; a path
    from the root begins with where the service is mounted, which ``x-forwarded-prefix`` says."""
    # What a header cannot carry is encoded, so that a value from outside adds no header of its own.
    place = quote(location, safe=_PRINTABLE)
    return Response(None, status, [("location", place), *_pairs(headers)])


def of_error(error: CallError) -> Response:
    """An error as a web answer."""
    return Response({"error": error.message}, wire.web_status(error.code))


def chunks_of(whole: bytes) -> List[bytes]:
    """What goes in one message each, at least one."""
    return [whole[at : at + CHUNK_BYTES] for at in range(0, len(whole), CHUNK_BYTES)] or [b""]


def to_bytes(value: Any) -> bytes:
    """A body, or a chunk of one."""
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    if isinstance(value, str):
        return value.encode("utf-8", "replace")
    return b"" if value is None else to_json(value)


def _pairs(headers: Headers) -> HeaderPairs:
    return list(headers.items()) if isinstance(headers, Mapping) else headers


def _type_of(body: Any) -> str:
    if isinstance(body, str) or hasattr(body, "__anext__") or hasattr(body, "__next__"):
        return "text/plain; charset=utf-8"
    if isinstance(body, (bytes, bytearray)):
        return wire.BYTES
    return "application/json"


class _Path(NamedTuple):
    pattern: str
    method: Optional[str]
    words: Tuple[str, ...]
    handler: Callable[..., Any]


class Router:
    """Which handler takes a request: patterns in the order they were added, then the one for all."""

    def __init__(self) -> None:
        self._paths: List[_Path] = []
        self._rest: Optional[Callable[..., Any]] = None

    def add(self, pattern: Optional[str], handler: Callable[..., Any]) -> None:
        """``GET /items/{id}``, ``/items/{id}``, or ``None`` for everything else."""
        if pattern is None:
            self._rest = handler
            return
        method, _, path = pattern.rpartition(" ")
        if not path.startswith("/"):
            raise ValueError(f'the pattern {pattern!r} must look like "GET /items/{{id}}"')
        self._paths.append(_Path(path, method.upper() or None, _words(path), handler))

    def find(self, request: WebRequest) -> Callable[..., Any]:
        """The handler; raises :class:`CallError` 404 or 405."""
        words = _words(request.raw_path)
        is_there = False
        for pattern, method, wanted, handler in self._paths:
            params = _match(wanted, words)
            if params is None:
                continue
            is_there = True
            if method in (None, request.method) or (method == "GET" and request.method == "HEAD"):
                request.params, request.pattern = params, pattern
                return handler
        if self._rest:
            return self._rest
        if is_there:
            raise CallError(405, f"{request.method} is not served at {request.path}")
        raise CallError(404, f"nothing is at {request.path}")


def _words(path: str) -> Tuple[str, ...]:
    return tuple(path.strip("/").split("/"))


def _match(pattern: Sequence[str], words: Sequence[str]) -> Optional[Dict[str, str]]:
    if len(pattern) != len(words):
        return None
    params = {}
    for wanted, word in zip(pattern, words):
        if wanted.startswith("{") and wanted.endswith("}") and word:
            params[wanted[1:-1]] = unquote(word)
        elif wanted != unquote(word):
            return None
    return params
