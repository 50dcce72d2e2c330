"""What a call carries beside its body: headers of the request and of the reply.

Errors travel as the micro protocol has them (ADR-32). Names are compared exactly.
"""

from __future__ import annotations

#: Milliseconds the caller will still wait, at the moment of sending.
TIMEOUT_MS = "serin-timeout-ms"
#: The service that calls.
CALLER = "serin-from"
#: The canary arms taken on the way here.
ARM = "serin-arm"
#: W3C trace context.
TRACEPARENT = "traceparent"
#: How many calls enclose this one: 0, or absent, where it comes from no call.
DEPTH = "serin-depth"
#: Calls that may enclose each other; services that call each other in a circle end here.
DEPTH_MAX = 32
#: How many chains enclose this call.
CHAIN_DEPTH = "serin-chain-depth"
#: What the body is, where it is not JSON.
CONTENT_TYPE = "content-type"
#: The content type of a body of bytes.
BYTES = "application/octet-stream"

#: Reply: who answered.
INSTANCE = "serin-instance"
#: Reply: its version.
VERSION = "serin-version"
#: Reply: microseconds between taking the message and starting the handler.
QUEUE_US = "serin-queue-us"
#: Reply: microseconds in the handler.
HANDLER_US = "serin-handler-us"
#: Reply: the handler did not run, so that the call may be made again elsewhere.
NOT_RUN = "serin-not-run"
#: Reply: what went wrong, one line.
ERROR = "Nats-Service-Error"
#: Reply: its code.
ERROR_CODE = "Nats-Service-Error-Code"

#: The body could not be understood.
CODE_BAD_REQUEST = 400
#: The time was over before the handler ran or ended.
CODE_TIMEOUT = 408
#: A bound was passed: size, chain depth.
CODE_TOO_LARGE = 413
#: The handler failed without a code of its own.
CODE_FAILED = 500
#: Too much is being handled, or the instance drains; the handler did not run.
CODE_BUSY = 503


def has_failed(code: int) -> bool:
    """Whether a call that ended so counts as failed: by its service's fault, not its caller's."""
    return code >= CODE_FAILED or code == CODE_TIMEOUT


def web_status(code: int) -> int:
    """The status of HTTP for what fails with this code: there 408 would be the visitor's fault."""
    if code == CODE_TIMEOUT:
        return 504
    return code if 400 <= code < 600 else CODE_FAILED


#: Web requests over the bus go to the endpoint of this name.
WEB_ENDPOINT = "http"
#: Request: ``GET /path?query``.
WEB_REQUEST = "serin-http"
#: Reply: the status.
WEB_STATUS = "serin-http-status"
#: Reply: the pattern that the path matched, where it matched one: requests are counted by it.
WEB_PATTERN = "serin-http-pattern"
#: Reply: more chunks of the body follow; absent on the last.
WEB_MORE = "serin-http-more"
#: Request: messages of the answer that may be sent ahead of those that were taken.
WEB_WINDOW = "serin-http-window"
#: To the reply subject of a chunk: how many messages of the answer were taken so far.
WEB_TAKEN = "serin-http-taken"
#: Before the lower-case name of each HTTP header, both ways.
WEB_HEADER_PREFIX = "h-"
