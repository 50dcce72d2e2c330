"""Enhancement chains: each stage's enhancers are asked in parallel, their additions are merged.

Orchestrated by the caller; enhancers are ordinary endpoints that get a ``Packet`` and answer an object.
Start at :class:`Chain` and :func:`run`.
"""

from __future__ import annotations

import asyncio
import copy
from dataclasses import dataclass, replace
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from . import calls, clock
from .context import Context
from .core import Core
from .encode import to_json
from .errors import AbsentError, CallError, ChainError
from .wire import call as wire
from .wire import chain as bounds
from .wire.chain import Hop, Packet, merge
from .wire.name import BadName, check_short

#: How long a chain may take in all unless said otherwise, in seconds.
TIMEOUT_S = calls.TIMEOUT_S
#: How long a stage waits for its enhancers unless said otherwise, in seconds.
STAGE_TIMEOUT_S = 1.0


@dataclass(frozen=True, init=False)
class Stage:
    """Enhancers asked in parallel: ``Stage("price.quote", "reviews.top?", timeout=0.2)``.

    Each is ``<service>.<endpoint>``; with ``?`` after it, it may be absent, late or failed. Raises
    :class:`ChainError` where one is not named so.
    """

    enhancers: Tuple[str, ...]
    timeout: float

    def __init__(self, *enhancers: str, timeout: float = STAGE_TIMEOUT_S) -> None:
        for enhancer in enhancers:
            _check_name(enhancer)
        object.__setattr__(self, "enhancers", enhancers)
        object.__setattr__(self, "timeout", timeout)


@dataclass(frozen=True, init=False)
class Chain:
    """A name and up to four stages: ``Chain("page", Stage("catalogue.item"), Stage("price.quote"))``."""

    name: str
    stages: Tuple[Stage, ...]

    def __init__(self, name: str, *stages: Stage) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "stages", stages)


@dataclass
class Enhanced:
    """What a chain brought: the data with all additions, and how each enhancer did."""

    data: Dict[str, Any]
    hops: List[Hop]


async def run(
    core: Core, chain: Chain, data: Mapping[str, Any], key: Optional[str], timeout_s: float
) -> Enhanced:
    """Runs a chain; raises :class:`ChainError` with the hops so far."""
    around = Context.current()
    depth = around.chain_depth + 1
    _check_bounds(chain, depth)
    _check_size(chain, data)
    span = core.spans.begin(chain.name, around.trace)
    span.attributes.update(kind="chain", stages=len(chain.stages))
    deadline = clock.monotonic() + timeout_s
    if around.deadline is not None:
        deadline = min(deadline, around.deadline)
    done = Enhanced(dict(data), [])
    try:
        with replace(span.context(around), chain_depth=depth, deadline=deadline).scope():
            for number, stage in enumerate(chain.stages, start=1):
                await _stage(core, chain.name, number, stage, done, key)
    except BaseException as error:
        span.fail(error)
        raise
    finally:
        core.spans.end(span)
    return done


def _check_name(enhancer: str) -> None:
    service, _, endpoint = enhancer.rstrip("?").partition(".")
    try:
        check_short("service", service)
        check_short("endpoint", endpoint)
    except BadName as error:
        why = f'enhancer "{enhancer}" must be <service>.<endpoint>, such as price.quote'
        raise ChainError(wire.CODE_BAD_REQUEST, why) from error


def _check_bounds(chain: Chain, depth: int) -> None:
    if not 1 <= len(chain.stages) <= bounds.STAGES_MAX:
        why = f"has {len(chain.stages)} stages, must have 1 to {bounds.STAGES_MAX}"
        raise ChainError(wire.CODE_TOO_LARGE, f'chain "{chain.name}" {why}')
    for number, stage in enumerate(chain.stages, start=1):
        if not 1 <= len(stage.enhancers) <= bounds.ENHANCERS_MAX:
            why = f"has {len(stage.enhancers)} enhancers, must have 1 to {bounds.ENHANCERS_MAX}"
            raise ChainError(wire.CODE_TOO_LARGE, f'chain "{chain.name}", stage {number} {why}')
    if depth > bounds.DEPTH_MAX:
        why = f"is enclosed by {depth - 1} others, the most allowed"
        raise ChainError(
            wire.CODE_TOO_LARGE, f'chain "{chain.name}" {why}; do chains form a circle?'
        )


def _check_size(chain: Chain, data: Mapping[str, Any]) -> None:
    try:
        size = len(to_json(data))
    except (TypeError, ValueError) as error:
        raise ChainError(wire.CODE_FAILED, f'chain "{chain.name}": {error}') from error
    if size > bounds.DATA_BYTES_MAX:
        why = f"the data have {size} bytes, at most {bounds.DATA_BYTES_MAX} fit"
        raise ChainError(wire.CODE_TOO_LARGE, f'chain "{chain.name}": {why}')


async def _stage(
    core: Core, chain: str, number: int, stage: Stage, done: Enhanced, key: Optional[str]
) -> None:
    packet: Packet[Dict[str, Any]] = Packet(chain, number, done.data)
    loop = asyncio.get_running_loop()
    asked = [
        loop.create_task(_ask(core, enhancer.rstrip("?"), packet, stage.timeout, key))
        for enhancer in stage.enhancers
    ]
    try:
        # Each ends by its own time, and is told as late then; cancelled before that, it would not be.
        await asyncio.wait(asked)
    finally:
        for task in asked:
            task.cancel()
    # Merged in the order of the stage, so that whoever answers first changes nothing.
    for task in asked:
        hop, additions = task.result()
        done.data = _take(done.data, additions, hop)
        done.hops.append(hop)
    _check_required(chain, number, stage, done.hops)


def _check_required(chain: str, number: int, stage: Stage, hops: Sequence[Hop]) -> None:
    for enhancer, hop in zip(stage.enhancers, hops[-len(stage.enhancers) :]):
        if hop.status != bounds.OK and not enhancer.endswith("?"):
            message = f'chain "{chain}", stage {number}: {enhancer} is {hop.status}: {hop.error}'
            raise ChainError(hop.code or wire.CODE_FAILED, message, list(hops))


def _take(data: Dict[str, Any], additions: Dict[str, Any], hop: Hop) -> Dict[str, Any]:
    """The data with the additions, unless these make it too large: then the enhancer failed."""
    tried = copy.deepcopy(data)
    merge(tried, additions, hop)
    size = len(to_json(tried))
    if size <= bounds.DATA_BYTES_MAX:
        return tried
    hop.added, hop.conflicts = [], []
    why = f"with its additions the data have {size} bytes, at most {bounds.DATA_BYTES_MAX} fit"
    hop.fail(bounds.FAILED, wire.CODE_TOO_LARGE, why)
    return data


async def _ask(
    core: Core, enhancer: str, packet: Packet[Any], timeout_s: float, key: Optional[str]
) -> Tuple[Hop, Dict[str, Any]]:
    service, _, endpoint = enhancer.partition(".")
    began = clock.monotonic()
    hop = Hop(packet.stage, enhancer, bounds.OK)
    try:
        asked = calls.Call(service, endpoint, packet, key, timeout_s)
        reply = await calls.call(core, asked, {"chain": packet.chain, "stage": packet.stage})
    except CallError as error:
        hop.total_us = clock.since_us(began)
        is_late = error.code == wire.CODE_TIMEOUT
        status = bounds.LATE if is_late else bounds.FAILED
        if isinstance(error, AbsentError):
            status = bounds.ABSENT
        hop.fail(status, error.code, str(error))
        return hop, {}
    hop.total_us, hop.queue_us = reply.total_us, reply.queue_us
    hop.handler_us, hop.network_us = reply.handler_us, reply.network_us
    if not isinstance(reply.data, dict):
        why = f"it answered {type(reply.data).__name__}, not an object of additions"
        hop.fail(bounds.FAILED, wire.CODE_FAILED, why)
        return hop, {}
    return hop, reply.data
