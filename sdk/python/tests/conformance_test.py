"""Runs tests/conformance/scenarios.json against this SDK and a real nats-server."""

from __future__ import annotations

import asyncio
import itertools
import json
import unittest
from pathlib import Path
from typing import Any, AsyncIterator, Awaitable, Dict, List, Optional

from nats.aio.msg import Msg

import serin
from serin.bus import Bus, Repeated, header_pairs
from serin.chains import Chain, Enhanced, Stage
from serin.wire.route import slot_of

from .matching import mismatch
from .fixture import PATIENCE_S, Fixture, until

SCENARIOS = Path(__file__).parents[3] / "tests/conformance/scenarios.json"
Json = Dict[str, Any]


def message_shape(message: Msg) -> Json:
    """A message as expectations see it."""
    headers: Json = {}
    for name, value in header_pairs(message):
        headers.setdefault(name, []).append(value)
    try:
        read = json.loads(message.data)
    except ValueError:
        read = None
    text = message.data.decode("utf-8", "replace")
    return {"subject": message.subject, "headers": headers, "json": read, "text": text}


def message_mismatch(expected: Json, found: Json) -> str:
    """Headers that are expected as one value are compared with the last."""
    wanted = expected.get("headers", {})
    headers = {
        name: values if isinstance(wanted.get(name), list) else values[-1]
        for name, values in found.get("headers", {}).items()
    }
    return mismatch(expected, {**found, "headers": headers})


def error_shape(error: serin.CallError) -> Json:
    """The error of a call as expectations see it."""
    return {
        "code": error.code,
        "message": error.message,
        "may_have_run": error.may_have_run,
        "body": error.body,
    }


def filled(data: Any) -> Any:
    """Data with what stands for more."""
    if isinstance(data, dict) and "$repeat" in data:
        text, times = data["$repeat"]
        return {"text": text * times}
    return data


class Gates:
    """Where handlers wait."""

    def __init__(self) -> None:
        self._open: Dict[str, asyncio.Event] = {}
        self._begun: Dict[str, asyncio.Event] = {}

    def open(self, name: str) -> asyncio.Event:
        return self._open.setdefault(name, asyncio.Event())

    def begun(self, name: str) -> asyncio.Event:
        return self._begun.setdefault(name, asyncio.Event())


class Handle:
    """One connection of the SDK, with its handlers."""

    def __init__(self, spec: Json, fixture: Fixture, gates: Gates) -> None:
        bounds = {key: spec[key] for key in ("queue_bytes_max", "spill_bytes_max") if key in spec}
        names = {key: spec[key] for key in ("service", "version", "instance")}
        self.app = serin.connect(
            fixture.options(bus=fixture.url_of(spec["instance"]), **names, **bounds)
        )
        self._gates = gates
        limits = {key: spec[key] for key in ("concurrency", "waiting_max") if key in spec}
        self.service = self.app.service(**limits)
        self.is_serving = bool(spec.get("endpoints") or spec.get("web"))
        for name, behaviour in spec.get("endpoints", {}).items():
            is_idempotent = name in spec.get("idempotent", [])
            self.service.endpoint(name, idempotent=is_idempotent)(self._handler(behaviour))
        if "web" in spec:
            self.service.web(self._web_handler(spec["web"]))
        if "every" in spec:
            self.service.every(spec["every"]["ms"] / 1000)(self._task(spec["every"]))

    async def start(self) -> None:
        if self.is_serving:
            await self.service.start()

    async def end(self) -> None:
        if self.is_serving:
            await self.service.stop(0.1)
        else:
            await self.app.drain(0.1)

    def _task(self, every: Json) -> Any:
        runs = itertools.count(1)

        def task() -> None:
            run = next(runs)
            if run == 1:
                raise ArithmeticError(every["throw"])
            if run <= every["times"]:
                self.app.emit(every["emit"], n=run)

        return task

    def _handler(self, behaviour: Json) -> Any:
        def keep(data: bytes) -> bytes:
            return data

        if "bytes" in behaviour:
            return keep

        async def handle(data: Any) -> Any:
            return await self._behave(behaviour, data)

        return handle

    async def _behave(self, behaviour: Json, data: Any) -> Any:
        app, answer = self.app, None
        if "gate" in behaviour:
            self._gates.begun(behaviour["gate"]).set()
            await self._gates.open(behaviour["gate"]).wait()
        if "emit" in behaviour:
            app.emit(behaviour["emit"]["type"], behaviour["emit"]["data"])
        if "call" in behaviour:
            asked = behaviour["call"]
            answer = await app.call(asked["service"], asked["endpoint"], asked["data"])
        if "chain" in behaviour:
            answer = (await run_chain(app, behaviour["chain"])).data
        fail_as(behaviour)
        if "context" in behaviour:
            answer = context_shape(serin.Context.current())
        if "echo" in behaviour:
            answer = data
        return behaviour.get("reply", behaviour.get("additions", answer))

    def _web_handler(self, behaviour: Json) -> Any:
        async def handle(request: serin.WebRequest) -> Any:
            fail_as(behaviour)
            if "web_echo" in behaviour:
                return {
                    "method": request.method,
                    "path": request.path,
                    "query": request.query,
                    "body": request.text(),
                    "headers": request.headers,
                }
            web = behaviour["web"]
            given = {key: web[key] for key in ("status", "headers") if key in web}
            if "redirect" in web:
                return serin.redirect(web["redirect"], **given)
            if "html" in web:
                return serin.html(web["html"], **given)
            body: Any = iter(web["chunks"]) if "chunks" in web else web.get("body", "")
            if "hold" in web:
                body = self._held(web)
            return serin.Response(body, **given)

        return handle

    async def _held(self, web: Json) -> AsyncIterator[str]:
        try:
            for chunk in web["chunks"]:
                if "tell" in web:
                    self.app.emit(web["tell"])
                yield chunk
            await asyncio.Event().wait()
        finally:
            self._gates.begun(web["hold"]).set()


def fail_as(behaviour: Json) -> None:
    """Fails, where the behaviour says so."""
    if "fail" in behaviour:
        fail = behaviour["fail"]
        raise serin.CallError(fail["code"], fail["message"], fail.get("body"))
    if "throw" in behaviour:
        raise ArithmeticError(behaviour["throw"])


def context_shape(context: serin.Context) -> Json:
    return {
        "caller": context.caller,
        "arm": context.arm,
        "trace_id": context.trace_id() or None,
        "depth": context.depth,
        "chain_depth": context.chain_depth,
        "has_deadline": context.deadline is not None,
    }


async def run_chain(app: serin.Serin, step: Json) -> Enhanced:
    stages = [
        Stage(*stage["enhancers"], timeout=stage["timeout_ms"] / 1000) for stage in step["stages"]
    ]
    bounds = {"timeout": step["timeout_ms"] / 1000} if "timeout_ms" in step else {}
    return await app.chain(Chain(step["name"], *stages), filled(step["data"]), **bounds)


class Runner:
    """One scenario under way; a step ``do: x`` is the method ``do_x``."""

    def __init__(self, scenario: Json, test: unittest.TestCase) -> None:
        self.scenario = scenario
        self.test = test
        self.fixture = Fixture(scenario.get("mappings"), scenario.get("users"))
        self.gates = Gates()
        self.handles: Dict[str, Handle] = {}
        self.kept: Dict[str, asyncio.Queue[Json]] = {}
        self.background: Dict[str, asyncio.Task[Any]] = {}
        self.routes: Optional[Json] = None
        self.revision = -1
        self.raw: Optional[Bus] = None

    async def run(self) -> None:
        try:
            await self.fixture.start()
            await self._connect_raw()
            for index, step in enumerate(self.scenario["steps"]):
                at = f"{self.scenario['name']}, step {index}: {json.dumps(step)[:160]}"
                try:
                    await asyncio.wait_for(self._step(step), PATIENCE_S)
                except (AssertionError, asyncio.TimeoutError) as error:
                    raise AssertionError(f"{at}: {error!r}") from error
        finally:
            for handle in self.handles.values():
                await handle.end()
            if self.raw:
                await self.raw.close()
            await self.fixture.close()

    async def _connect_raw(self) -> None:
        """Our own connection, which keeps repeated headers."""
        self.raw = Bus(self.fixture.url, "runner", lambda: None)
        self.raw.start()
        await self.raw.connected()

    async def _step(self, step: Json) -> None:
        work = getattr(self, "do_" + step["do"])(step)
        if step["do"] == "request":
            # On the bus before the next step, also in the background.
            work = await work
        if step.get("background"):
            self.background[step["as"]] = asyncio.get_running_loop().create_task(work)
        else:
            self._check(step, await self._outcome(work))

    async def _outcome(self, work: Any) -> Any:
        try:
            return await work
        except serin.CallError as error:
            return error

    def _check(self, step: Json, outcome: Any) -> None:
        if isinstance(outcome, serin.CallError):
            self.test.assertIn("error", step, f"failed: {outcome}")
            problem = mismatch(step["error"], error_shape(outcome), "the error")
        elif "error" in step:
            problem = f"expected an error, it answered {outcome!r}"
        elif "expect" not in step or outcome is None and step["do"] in _CHECKED_BY_ITSELF:
            problem = ""
        elif isinstance(outcome, dict) and "headers" in outcome:
            problem = message_mismatch(step["expect"], outcome)
        else:
            problem = mismatch(step["expect"], outcome)
        self.test.assertEqual(problem, "")

    async def do_start(self, step: Json) -> None:
        name = step["handle"]
        self.handles[name] = Handle(self.scenario["handles"][name], self.fixture, self.gates)
        await self.handles[name].start()

    async def do_routes(self, step: Json) -> None:
        is_first = self.routes is None
        self.routes = {"revision": step["revision"], "services": step["services"]}
        if is_first:
            await self.raw.subscribe("ctl.routes.get", self._tell_routes)
        await self.raw.publish("ctl.routes", json.dumps(self.routes).encode())
        await self.raw.flush()
        self.revision = max(self.revision, step["revision"])
        for handle in self.handles.values():
            link = await handle.app.core.link()
            await link.bus.connected()
            await link.bus.flush()
            await until(lambda link=link: link.revision >= self.revision)

    async def _tell_routes(self, message: Msg) -> None:
        await self.raw.publish(message.reply, json.dumps(self.routes).encode())

    async def do_listen(self, step: Json) -> None:
        kept = self.kept[step["as"]] = asyncio.Queue()

        async def keep(message: Msg) -> None:
            kept.put_nowait(message_shape(message))

        await self.raw.subscribe(step["subject"], keep)
        await self.raw.flush()

    async def do_message(self, step: Json) -> None:
        seen: List[str] = []
        while True:
            seen.append(message_mismatch(step["expect"], await self._next(step["of"], seen)))
            if not seen[-1]:
                return

    async def do_lines(self, step: Json) -> None:
        seen: List[str] = []
        while True:
            message = await self._next(step["of"], seen)
            for line in message["text"].splitlines():
                if "never" in step:
                    self.test.assertTrue(mismatch(step["never"], json.loads(line)), line)
                seen.append(mismatch(step["expect"], json.loads(line)))
                if not seen[-1]:
                    return

    async def _next(self, name: str, seen: List[str]) -> Json:
        try:
            return await asyncio.wait_for(self.kept[name].get(), PATIENCE_S / 3)
        except asyncio.TimeoutError:
            raise AssertionError(f"nothing matched: {seen[-3:]}") from None

    async def do_emit(self, step: Json) -> None:
        context = serin.Context.from_headers(step.get("traceparent"), step.get("arm"))
        app, data = self.handles[step["handle"]].app, step["data"]
        with context.scope():
            first = step.get("from", 0)
            for n in range(first, first + step.get("times", 1)):
                app.emit(step["type"], {**data, "n": n} if "times" in step else filled(data))

    async def do_flush(self, step: Json) -> None:
        self.test.assertTrue(await self.handles[step["handle"]].app.flush(PATIENCE_S))

    async def do_counts(self, step: Json) -> Json:
        return self.handles[step["handle"]].app.counts()

    async def do_events(self, step: Json) -> Any:
        count = step.get("numbered", len(step.get("expect", [])))

        async def has_all() -> bool:
            return len(await self.fixture.events()) >= count

        await until(has_all)
        found = await self.fixture.events()
        if "numbered" in step:
            self.test.assertEqual([event["data"]["n"] for event in found], list(range(count)))
            ids = [event["id"] for event in found]
            self.test.assertEqual(ids, sorted(set(ids)))
        return found

    async def do_request(self, step: Json) -> Awaitable[Optional[Json]]:
        text = step["text"].encode() if "text" in step else json.dumps(step.get("body")).encode()
        inbox, answers = self.fixture.client.new_inbox(), asyncio.Queue()

        async def keep(message: Msg) -> None:
            answers.put_nowait({**message_shape(message), "reply": message.reply})

        await self.raw.subscribe(inbox, keep)
        headers = Repeated(step["headers"].items()) if step.get("headers") else None
        await self.raw.publish(step["subject"], text, inbox, headers)
        await self.raw.flush()
        return self._answers(step, answers)

    async def _answers(self, step: Json, answers: asyncio.Queue[Json]) -> Optional[Json]:
        messages: List[Json] = []
        while len(messages) < step.get("replies", 1):
            messages.append(await answers.get())
            if len(messages) == step.get("take"):
                taken = Repeated([("serin-http-taken", str(len(messages)))])
                await self.raw.publish(messages[-1]["reply"], b"", "", taken)
        if step.get("leave"):
            await self.raw.publish(messages[-1]["reply"], b"")
        if "replies" not in step:
            return messages[0]
        wanted = step["expect"]["messages"]
        problems = [message_mismatch(one, other) for one, other in zip(wanted, messages)]
        self.test.assertEqual(problems, [""] * len(wanted))
        return None

    async def do_serve_raw(self, step: Json) -> None:
        kept = self.kept[step["as"]] = asyncio.Queue()
        headers = Repeated(step["headers"].items()) if step.get("headers") else None
        body = json.dumps(step["body"]).encode() if "body" in step else b""
        count = itertools.count(1)

        async def serve(message: Msg) -> None:
            kept.put_nowait(message_shape(message))
            if not step.get("silent"):
                await self.raw.publish(message.reply, body, "", headers)
            if next(count) == step.get("times"):
                # Not awaited here, since it waits until this message is handled.
                asyncio.ensure_future(self.raw.unsubscribe(serving))

        serving = await self.raw.subscribe(step["subject"], serve, step.get("queue", ""))
        await self.raw.flush()

    async def do_call(self, step: Json) -> Any:
        answer = await self.handles[step["handle"]].app.call(
            step["service"],
            step["endpoint"],
            step["bytes"].encode() if "bytes" in step else step.get("data"),
            key=step.get("key"),
            timeout=step.get("timeout_ms", 5000) / 1000,
            idempotent=step.get("idempotent", False),
        )
        return answer.decode() if isinstance(answer, bytes) else answer

    async def do_chain(self, step: Json) -> Json:
        done = await run_chain(self.handles[step["handle"]].app, step)
        return {"data": done.data, "hops": [hop.to_json() for hop in done.hops]}

    async def do_slots(self, step: Json) -> List[Any]:
        return [[service, key, slot_of(service, key)] for service, key, _ in step["expect"]]

    async def do_open(self, step: Json) -> None:
        self.gates.open(step["gate"]).set()

    async def do_begun(self, step: Json) -> None:
        await self.gates.begun(step["gate"]).wait()

    async def do_bus(self, step: Json) -> None:
        if step["is"] == "stop":
            await self.fixture.stop()
        else:
            await self.fixture.start()
            await self.raw.connected()

    async def do_stream(self, step: Json) -> None:
        await self.fixture.set_stream(step["set"])

    async def do_spilled(self, step: Json) -> None:
        await until(lambda: bool(self.fixture.segments()) == step["is"])

    async def do_drain(self, step: Json) -> bool:
        return await self.handles[step["handle"]].app.drain(step["deadline_ms"] / 1000)

    async def do_stop(self, step: Json) -> bool:
        return await self.handles[step["handle"]].service.stop(step["deadline_ms"] / 1000)

    async def do_join(self, step: Json) -> Any:
        return await self.background.pop(step["of"])


#: Steps whose expectations are checked where they are done.
_CHECKED_BY_ITSELF = ("message", "lines", "request")


class ConformanceTest(unittest.IsolatedAsyncioTestCase):
    """One test for each scenario."""


def _test(scenario: Json) -> Any:
    async def run(self: unittest.TestCase) -> None:
        await Runner(scenario, self).run()

    return run


for _scenario in json.loads(SCENARIOS.read_text())["scenarios"] if SCENARIOS.is_file() else ():
    setattr(ConformanceTest, "test_" + _scenario["name"].replace(" ", "_"), _test(_scenario))


if __name__ == "__main__":
    unittest.main()
