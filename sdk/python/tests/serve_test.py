"""Serving and calling, beyond what the conformance scenarios say."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import unittest
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List

from nats.aio.msg import Msg

import serin
from serin import sync

from .fixture import PATIENCE_S, Fixture


@dataclass
class Item:
    sku: str
    count: int = 1


class ServeTest(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self) -> None:
        self.fixture = Fixture()
        self.addAsyncCleanup(self.fixture.close)
        await self.fixture.start()
        self.app = serin.connect(self.fixture.options())
        self.service = self.app.service(concurrency=2)

    async def start(self) -> None:
        await self.service.start()
        self.addAsyncCleanup(self.service.stop, 1.0)

    async def ask(self, endpoint: str, body: Any, **headers: str) -> Msg:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        subject = f"svc.cart.v3.{endpoint}"
        return await self.fixture.client.request(
            subject, json.dumps(body).encode(), timeout=PATIENCE_S, headers=named or None
        )

    async def web(self, target: str) -> List[Msg]:
        inbox = self.fixture.client.new_inbox()
        answers = await self.fixture.client.subscribe(inbox)
        await self.fixture.client.publish(
            "svc.cart.v3.http", b"", reply=inbox, headers={"serin-http": target}
        )
        found = [await answers.next_msg(PATIENCE_S)]
        while "serin-http-more" in (found[-1].headers or {}):
            found.append(await answers.next_msg(PATIENCE_S))
        return found

    async def test_bodies_are_typed_and_names_are_made(self) -> None:
        @self.service.endpoint
        def add_item(item: Item) -> Dict[str, Any]:
            return {"sku": item.sku, "count": item.count, "thread": threading.current_thread().name}

        @self.service.endpoint("raw")
        async def raw(body: bytes) -> bytes:
            return body[::-1]

        @self.service.endpoint
        async def none() -> object:
            return object()

        await self.start()
        answer = json.loads((await self.ask("add-item", {"sku": "a"})).data)
        self.assertEqual((answer["sku"], answer["count"]), ("a", 1))
        self.assertIn("serin-handler", answer["thread"])
        refused = await self.ask("add-item", {"count": 2})
        assert refused.headers
        self.assertEqual(refused.headers["Nats-Service-Error-Code"], "400")
        self.assertIn('no field "sku"', refused.headers["Nats-Service-Error"])
        self.assertEqual((await self.ask("raw", "ab")).data, b'"ba"')
        failed = await self.ask("none", {})
        assert failed.headers
        self.assertEqual(failed.headers["Nats-Service-Error-Code"], "500")
        with self.assertRaisesRegex(ValueError, "two handlers"):
            self.service.endpoint("raw")(raw)

    async def test_a_plain_handler_keeps_its_place_beyond_its_deadline(self) -> None:
        gate = threading.Event()

        @self.service.endpoint
        def slow() -> str:
            gate.wait(PATIENCE_S)
            return "done"

        await self.start()
        late = [self.ask("slow", {}, serin_timeout_ms="50") for _ in range(2)]
        codes = [
            (one.headers or {})["Nats-Service-Error-Code"] for one in await asyncio.gather(*late)
        ]
        self.assertEqual(codes, ["408", "408"])
        unrun = await self.ask("slow", {}, serin_timeout_ms="50")
        self.assertIn("serin-not-run", unrun.headers or {})
        gate.set()
        self.assertEqual(json.loads((await self.ask("slow", {})).data), "done")

    async def test_a_handler_that_raises_stop_iteration_is_answered_and_gives_its_place_back(
        self,
    ) -> None:
        @self.service.endpoint
        def first() -> int:
            return next(number for number in [1] if number > 1)

        await self.start()
        # More often than there are places.
        for _ in range(3):
            said = (await self.ask("first", {}, serin_timeout_ms="5000")).headers or {}
            self.assertEqual(said["Nats-Service-Error-Code"], "500")
            self.assertIn("StopIteration", said["Nats-Service-Error"])

    async def test_an_error_is_answered_whatever_more_it_says(self) -> None:
        circle: Dict[str, Any] = {}
        circle["self"] = circle
        bodies = [object(), circle, b"\x01\x02", {"left": 0}]

        @self.service.endpoint
        def refuse(at: int) -> None:
            raise serin.CallError(409, "sold out", bodies[at])

        await self.start()
        answers = [await self.ask("refuse", at) for at in range(len(bodies))]
        codes = [(one.headers or {})["Nats-Service-Error-Code"] for one in answers]
        self.assertEqual(codes, ["409"] * 4)
        self.assertEqual([one.data for one in answers], [b"", b"", b"\x01\x02", b'{"left":0}'])
        kinds = [(one.headers or {}).get("content-type") for one in answers]
        self.assertEqual(kinds, [None, None, "application/octet-stream", None])

    async def test_a_reply_that_fits_only_without_its_headers_is_refused_in_words(self) -> None:
        @self.service.endpoint
        def large() -> bytes:
            return bytes((1 << 20) - 20)

        await self.start()
        said = (await self.ask("large", {})).headers or {}
        self.assertEqual(said["Nats-Service-Error-Code"], "413")
        self.assertIn("more than the bus takes", said["Nats-Service-Error"])

    async def test_a_late_enhancer_is_told_as_a_request(self) -> None:
        # It takes the call and never answers.
        for subject in ("svc.page.slow", "svc.page.*.slow"):
            await self.fixture.client.subscribe(subject)
        told = await self.fixture.client.subscribe("tel.req.cart.>")
        await self.fixture.client.flush()
        self.addAsyncCleanup(self.app.drain, 1.0)
        chain = serin.Chain("page", serin.Stage("page.slow?", timeout=0.1))
        (hop,) = (await self.app.chain(chain, {})).hops
        self.assertEqual((hop.status, hop.code), ("late", 408))
        line = json.loads((await told.next_msg(PATIENCE_S)).data)
        self.assertEqual((line["callee"]["service"], line["status"]), ("page", 408))

    async def test_web_answers(self) -> None:
        ended = asyncio.Event()

        @self.service.web("GET /page")
        def page() -> serin.Response:
            return serin.html("<p>é</p>")

        @self.service.web("GET /items/{id}")
        async def item(request: serin.WebRequest) -> Dict[str, str]:
            return request.params

        @self.service.web("GET /large")
        def large() -> bytes:
            return b"x" * 700_000

        @self.service.web("GET /bad")
        def bad() -> object:
            return {"no json": object()}

        @self.service.web("GET /broken")
        def broken() -> Iterator[str]:
            yield "first"
            raise ArithmeticError("on purpose")

        @self.service.web("GET /pieces")
        def pieces() -> Iterator[bytes]:
            yield b"a"
            yield b"x" * 1_200_000

        @self.service.web("GET /endless")
        async def endless() -> Any:
            async def ticks() -> Any:
                try:
                    while True:
                        yield "tick"
                        await asyncio.sleep(0.001)
                finally:
                    ended.set()

            return ticks()

        await self.start()
        (answer,) = await self.web("GET /page")
        assert answer.headers
        self.assertEqual(answer.headers["h-content-type"], "text/html; charset=utf-8")
        self.assertEqual(answer.data.decode(), "<p>é</p>")
        (answer,) = await self.web("GET /items/7")
        self.assertEqual(json.loads(answer.data), {"id": "7"})
        self.assertEqual((answer.headers or {})["serin-http-pattern"], "/items/{id}")
        chunks = await self.web("GET /large")
        self.assertEqual((len(chunks), sum(len(one.data) for one in chunks)), (3, 700_000))
        for target, status, pattern in [
            ("GET /bad", "500", "/bad"),
            ("GET /none", "404", None),
            ("PUT /page", "405", None),
        ]:
            (answer,) = await self.web(target)
            said = answer.headers or {}
            self.assertEqual(said["serin-http-status"], status)
            self.assertEqual(said.get("serin-http-pattern"), pattern)
        sizes = [len(one.data) for one in await self.web("GET /pieces")]
        self.assertEqual((sizes[0], sum(sizes), len(sizes)), (1, 1_200_001, 7))
        first, last = await self.web("GET /broken")
        self.assertEqual(first.data, b"first")
        self.assertEqual((last.headers or {})["Nats-Service-Error-Code"], "500")
        inbox = self.fixture.client.new_inbox()
        listening = await self.fixture.client.subscribe(inbox)
        await self.fixture.client.publish(
            "svc.cart.v3.http", b"", reply=inbox, headers={"serin-http": "GET /endless"}
        )
        await listening.next_msg(PATIENCE_S)
        await listening.unsubscribe()
        await asyncio.wait_for(ended.wait(), PATIENCE_S)

    async def test_log_lines_carry_their_trace(self) -> None:
        lines = await self.fixture.client.subscribe("tel.log.cart.v3.cart-v3-1")
        await self.fixture.client.flush()
        log = logging.getLogger("shop.cart")
        log.propagate = False
        handler = self.app.log_handler()
        log.addHandler(handler)
        self.addCleanup(log.removeHandler, handler)
        with self.app.span("work") as span:
            log.warning("took %d", 3, extra={"sku": "a", "object": Item("b")})
        line = json.loads((await lines.next_msg(PATIENCE_S)).data)
        self.assertEqual(
            (line["level"], line["message"], line["source"]), ("warn", "took 3", "shop.cart")
        )
        self.assertEqual(line["trace_id"], f"{span.trace.trace_id:032x}")
        self.assertEqual(line["fields"]["sku"], "a")
        await self.app.drain(1.0)

    async def test_plain_handlers_call_by_the_synchronous_face(self) -> None:
        service = sync.service("cart")
        service._core = self.app.core

        @service.endpoint
        def outer(number: int) -> Any:
            return service.call("cart", "inner", number + 1)

        @service.endpoint
        def inner(number: int) -> Any:
            caller = serin.Context.current()
            return {"number": number, "caller": caller.caller, "depth": caller.depth}

        async def tell(message: Msg) -> None:
            versions = [{"version": "v3", "weight": 10_000}]
            routes = {"revision": 1, "services": {"cart": {"versions": versions}}}
            await message.respond(json.dumps(routes).encode())

        await self.fixture.client.subscribe("ctl.routes.get", cb=tell)
        await self.fixture.client.flush()
        await asyncio.get_running_loop().run_in_executor(None, service.start)
        answer = json.loads((await self.ask("outer", 1)).data)
        self.assertEqual(answer, {"number": 2, "caller": "cart", "depth": 1})
        is_done = await asyncio.get_running_loop().run_in_executor(None, service.stop, 5.0)
        self.assertTrue(is_done)


if __name__ == "__main__":
    unittest.main()
