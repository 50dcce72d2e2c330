"""The NATS micro protocol (ADR-32): PING, INFO and STATS, so that any NATS client sees the service."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List

from .endpoint import Endpoint
from .options import Options
from .wire import call as wire
from .wire import subject

VERBS = ("PING", "INFO", "STATS")


def subjects(verb: str, options: Options) -> List[str]:
    """Where a verb is asked: of all, of this service, of this instance."""
    root = f"$SRV.{verb}"
    return [root, f"{root}.{options.service}", f"{root}.{options.service}.{options.instance}"]


def answer(
    verb: str, options: Options, started: str, description: str, endpoints: Iterable[Endpoint]
) -> Dict[str, Any]:
    """What is answered; ``started`` is RFC 3339."""
    told: Dict[str, Any] = {
        "type": f"io.nats.micro.v1.{verb.lower()}_response",
        "name": options.service,
        "id": options.instance,
        "version": f"0.0.0+{options.version}",
        "metadata": {"sdk": "serin-python", wire.VERSION: options.version},
    }
    if verb == "INFO":
        told["description"] = description
        told["endpoints"] = [
            {
                **_head(options, endpoint),
                "metadata": {"idempotent": "true"} if endpoint.idempotent else {},
            }
            for endpoint in endpoints
        ]
    elif verb == "STATS":
        told["started"] = started
        told["endpoints"] = [
            {
                **_head(options, endpoint),
                "num_requests": endpoint.requests,
                "num_errors": endpoint.errors,
                "last_error": endpoint.last_error,
                "processing_time": endpoint.processing_us * 1000,
                "average_processing_time": endpoint.processing_us
                * 1000
                // max(1, endpoint.requests),
            }
            for endpoint in endpoints
        ]
    return told


def _head(options: Options, endpoint: Endpoint) -> Dict[str, str]:
    return {
        "name": endpoint.name,
        "subject": subject.call(options.service, options.version, endpoint.name),
        "queue_group": options.version,
    }
