"""The SDK against the real nats-server: what is emitted is in the stream once, whatever happens."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import textwrap
import time
import unittest
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List

import serin
from serin import sync

from .fixture import PATIENCE_S, Fixture, until

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ROOT = Path(__file__).parent.parent


@serin.event("cart.filled")
@dataclass
class Filled:
    by: str


def emit_numbers(app: Any, first: int, end: int) -> None:
    for n in range(first, end):
        app.emit("order.paid", n=n, text="some more bytes for the batch")


class BusTest(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self) -> None:
        self.fixture = Fixture()
        self.addAsyncCleanup(self.fixture.close)
        await self.fixture.start()

    async def connect(self, **options: Any) -> serin.Serin:
        app = serin.connect(self.fixture.options(**options))
        self.addAsyncCleanup(app.drain, 0.1)
        return app

    def check_all(self, found: List[Dict[str, Any]], count: int) -> None:
        self.assertEqual([event["data"]["n"] for event in found], list(range(count)))
        ids = [event["id"] for event in found]
        self.assertEqual(ids, sorted(set(ids)))

    async def flush(self, app: serin.Serin) -> None:
        self.assertTrue(await app.flush(PATIENCE_S), app.counts())

    async def test_what_is_emitted_is_in_the_stream(self) -> None:
        app = await self.connect()
        app.emit("order.paid", {"amount": 3})
        app.emit("order.paid", {"order.id": "x"}, amount=4.5)
        app.emit_event(Filled("me"))
        with serin.Context.from_headers(PARENT, "cart=v8").scope():
            app.emit("a")
        for refused in (3, [1], "text"):
            app.emit("c", refused)
        app.emit("d", {"value": object()})
        app.emit("no good", {})
        app.emit("serin.decision", {})
        app.emit("large", text="x" * (600 << 10))
        app.emit("nan", value=float("nan"))
        await self.flush(app)
        found = await self.fixture.events()
        self.assertEqual(
            [(event["type"], event["data"]) for event in found],
            [
                ("order.paid", {"amount": 3}),
                ("order.paid", {"amount": 4.5, "order.id": "x"}),
                ("cart.filled", {"by": "me"}),
                ("a", {}),
                ("nan", {"value": None}),
            ],
        )
        self.assertEqual((found[3]["trace"], found[3]["arm"]), (PARENT, "cart=v8"))
        dropped = {"bad-type": 2, "not-an-object": 3, "too-large": 1, "not-json": 1}
        self.assertEqual(app.counts(), {"emitted": 5, "acknowledged": 5, "dropped": dropped})

    async def test_a_killed_bus_loses_and_doubles_nothing(self) -> None:
        app = await self.connect()
        for round_ in range(3):
            emit_numbers(app, round_ * 3000, (round_ + 1) * 3000)
            await self.fixture.stop()
            await self.fixture.start()
        emit_numbers(app, 9000, 12000)
        await self.flush(app)
        self.check_all(await self.fixture.events(), 12000)

    async def test_a_later_run_sends_what_an_earlier_one_left(self) -> None:
        await self.fixture.stop()
        earlier = await self.connect()
        emit_numbers(earlier, 0, 5000)
        self.assertFalse(await earlier.drain(0.1))
        self.assertTrue(self.fixture.segments())
        await self.fixture.start()
        later = await self.connect()
        await until(lambda: not self.fixture.segments())
        later.emit("order.paid", n=5000)
        await self.flush(later)
        found = await self.fixture.events()
        self.check_all(found, 5001)
        producers = {event["message_id"].split("/")[0] for event in found}
        self.assertEqual(len(producers), 2)

    async def test_damage_on_disk_is_counted_and_costs_no_more_than_its_batch(self) -> None:
        await self.fixture.stop()
        earlier = await self.connect()
        emit_numbers(earlier, 0, 5000)
        self.assertFalse(await earlier.drain(0.1))
        (segment,) = self.fixture.segments()
        with open(segment, "r+b") as file:
            file.seek(segment.stat().st_size // 2)
            file.write(bytes(4))
        # A segment that cannot be read; the run's others are sent, and it stays.
        unreadable = segment.with_name("00000000.seg")
        unreadable.mkdir()
        await self.fixture.start()
        later = await self.connect()
        later.emit("order.paid", n=5000)
        await self.flush(later)

        async def are_sent() -> bool:
            return len(await self.fixture.events()) > 2000

        await until(are_sent)
        self.assertTrue(await later.drain(PATIENCE_S))
        self.assertEqual(later.counts()["dropped"], {})
        unreadable.rmdir()
        last = await self.connect()
        await until(lambda: not self.fixture.segments())
        lost = last.counts()["dropped"]["spill-lost"]
        self.assertTrue(0 < lost < 2000, lost)
        self.assertEqual(len(await self.fixture.events()) + lost, 5001)

    async def test_what_nobody_will_send_is_counted(self) -> None:
        await self.fixture.stop()
        app = await self.connect(spill_dir=None)
        emit_numbers(app, 0, 5000)
        self.assertFalse(await app.drain(0.1))
        self.assertFalse(await app.flush())
        counts = app.counts()
        self.assertEqual((counts["emitted"], counts["acknowledged"]), (5000, 0))
        self.assertEqual(counts["dropped"], {"abandoned": 5000})

    async def test_events_wait_on_disk_and_the_bound_holds(self) -> None:
        await self.fixture.stop()
        app = await self.connect(queue_bytes_max=1 << 20, spill_bytes_max=2 << 20)
        emitted = 0
        while "spill-full" not in app.counts()["dropped"]:
            emit_numbers(app, emitted, emitted + 100)
            emitted += 100
            self.assertLess(emitted, 1_000_000)
            await asyncio.sleep(0)
        self.assertLessEqual(sum(path.stat().st_size for path in self.fixture.segments()), 2 << 20)
        await self.fixture.start()
        await self.flush(app)
        counts = app.counts()
        self.assertEqual(counts["emitted"] + sum(counts["dropped"].values()), emitted)
        ids = [event["id"] for event in await self.fixture.events()]
        self.assertEqual(len(ids), counts["emitted"])
        self.assertEqual(ids, sorted(set(ids)))

    async def test_a_stuck_bus_never_blocks_emit(self) -> None:
        app = await self.connect()
        emit_numbers(app, 0, 100)
        await self.flush(app)
        self.fixture.send(signal.SIGSTOP)
        began = time.monotonic()
        emit_numbers(app, 100, 20_000)
        took_s = time.monotonic() - began
        self.fixture.send(signal.SIGCONT)
        self.assertLess(took_s, 5)
        await self.flush(app)
        self.check_all(await self.fixture.events(), 20_000)

    async def test_beats_and_pulses_go_on_while_the_service_is_busy(self) -> None:
        beats = await self.fixture.client.subscribe("tel.beat.cart.v3.cart-v3-1")
        pulses = await self.fixture.client.subscribe("tel.pulse.cart.v3.cart-v3-1")
        await self.fixture.client.flush()
        app = await self.connect()
        app.gauge("queue.depth", lambda: 7)
        app.gauge("bad", lambda: 1 / 0)
        app.emit("bad type", {})
        with app.request():
            pass
        told = [json.loads((await beats.next_msg(PATIENCE_S)).data)]
        # The loop of the service stands still, and so would anything in it.
        busy_until = time.monotonic() + 3.2
        while time.monotonic() < busy_until:
            emit_numbers(app, 0, 50)
        were_busy_until_us = time.time() * 1e6
        for _ in range(2):
            told.append(json.loads((await beats.next_msg(PATIENCE_S)).data))
        self.assertEqual([beat["number"] for beat in told], [1, 2, 3])
        self.assertLess(told[2]["time_us"], were_busy_until_us)
        self.assertEqual(told[2]["gauges"], {"queue.depth": 7.0})
        self.assertEqual(told[2]["dropped"], {"bad-type": 1})
        self.assertEqual(sum(beat["requests"]["count"] for beat in told), 1)
        self.assertGreater(told[2]["memory_bytes"], 1 << 20)
        await until(lambda: pulses.pending_msgs >= 8)
        await self.flush(app)
        found = await self.fixture.events()
        for beat in told:
            sealed = beat["sealed"]
            for event in found:
                number = int(event["message_id"].rpartition("/")[2])
                is_true = event["time_us"] > sealed["time_us"] or number <= sealed["number"]
                self.assertTrue(is_true, sealed)

    async def test_drained_means_acknowledged_and_closed(self) -> None:
        app = await self.connect()
        emit_numbers(app, 0, 1000)
        self.assertTrue(await app.drain(PATIENCE_S))
        emit_numbers(app, 1000, 1010)
        self.assertEqual(app.counts()["dropped"], {"drained": 10})
        self.check_all(await self.fixture.events(), 1000)

    async def test_the_synchronous_face_waits(self) -> None:
        def work() -> Any:
            with sync.connect(self.fixture.options()) as app:
                emit_numbers(app, 0, 10)
                is_flushed = app.flush(PATIENCE_S)
                service = app.service()
                service.endpoint("double")(lambda number: number * 2)
                service.start()
                answer = service.call("cart", "double", 21) if is_flushed else None
                return is_flushed, answer

        self.routes = await self.fixture.client.subscribe("ctl.routes.get", cb=self.tell_routes)
        await self.fixture.client.flush()
        answer = await asyncio.get_running_loop().run_in_executor(None, work)
        self.assertEqual(answer, (True, 42))
        self.check_all(await self.fixture.events(), 10)
        app = sync.connect(self.fixture.options())
        self.addCleanup(app.drain, 0.1)
        with self.assertRaisesRegex(RuntimeError, "use the same name of `serin` with `await`"):
            app.call("cart", "double", 1)

    async def tell_routes(self, message: Any) -> None:
        versions = [{"version": "v3", "weight": 10_000}]
        routes = {"revision": 1, "services": {"cart": {"versions": versions}}}
        await message.respond(json.dumps(routes).encode())

    async def run_program(self, text: str) -> "subprocess.Popen[bytes]":
        environment = {
            "SERIN_BUS": self.fixture.url,
            "SERIN_SERVICE": "cart",
            "SERIN_VERSION": "v3",
            "SERIN_INSTANCE": "cart-v3-1",
            "SERIN_SPILL_DIR": str(self.fixture.spill),
            "PYTHONPATH": ":".join([str(ROOT), *sys.path]),
        }
        program = subprocess.Popen([sys.executable, "-c", textwrap.dedent(text)], env=environment)
        self.addCleanup(program.kill)
        return program

    async def end(self, program: "subprocess.Popen[bytes]") -> int:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, program.wait, PATIENCE_S)

    async def test_the_end_of_a_program_drains(self) -> None:
        program = await self.run_program(
            """
            import dataclasses, serin
            usual = serin.Options.from_env()
            app = serin.connect(dataclasses.replace(usual, drain_deadline_s=30))
            for n in range(500):
                app.emit("order.paid", n=n)
            """
        )
        self.assertEqual(await self.end(program), 0)
        self.check_all(await self.fixture.events(), 500)

    async def test_sigterm_ends_a_service_after_its_calls(self) -> None:
        program = await self.run_program(
            """
            import time, serin
            app = serin.service()

            @app.endpoint
            def slow(data):
                app.emit("slow.begun")
                app.core.queue.seal()
                while not gate.exists():
                    time.sleep(0.01)
                app.emit("slow.ended")
                return "done"

            import pathlib, os
            gate = pathlib.Path(os.environ["SERIN_SPILL_DIR"] + ".gate")
            app.run()
            """
        )
        call = asyncio.get_running_loop().create_task(self.retried("svc.cart.v3.slow"))
        await until(self.has_events)
        program.send_signal(signal.SIGTERM)
        self.fixture.spill.with_suffix(".gate").touch()
        self.assertEqual(json.loads((await call).data), "done")
        self.assertEqual(await self.end(program), 143)
        kinds = [event["type"] for event in await self.fixture.events()]
        self.assertEqual(kinds, ["slow.begun", "slow.ended"])

    async def test_sigterm_ends_a_service_whose_bus_is_away(self) -> None:
        await self.fixture.stop()
        program = await self.run_program(
            """
            import os, signal, threading, time, serin

            def end():
                while signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
                    time.sleep(0.01)
                os.kill(os.getpid(), signal.SIGTERM)

            app = serin.service()
            app.emit("order.paid", n=0)
            threading.Thread(target=end).start()
            app.run(drain_deadline=0.5)
            """
        )
        self.assertEqual(await self.end(program), 143)
        self.assertTrue(self.fixture.segments())

    async def test_sigterm_ends_a_program_whatever_lock_it_holds(self) -> None:
        program = await self.run_program(
            """
            import os, signal, threading, time, serin
            app = serin.connect()
            app.drain_on_sigterm(30)
            app.emit("order.paid", n=0)
            with app.core.queue._lock, app.core._lock, app.core.logs._lock:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0.1)
            threading.Event().wait()
            """
        )
        self.assertEqual(await self.end(program), 143)
        self.check_all(await self.fixture.events(), 1)

    async def test_sigterm_ends_a_service_whose_task_hangs(self) -> None:
        program = await self.run_program(
            """
            import os, signal, threading, serin
            app = serin.service()

            @app.every(0.01)
            def hang():
                os.kill(os.getpid(), signal.SIGTERM)
                threading.Event().wait()

            app.run(drain_deadline=0.5)
            """
        )
        self.assertEqual(await self.end(program), 143)

    async def has_events(self) -> bool:
        return bool(await self.fixture.events())

    async def retried(self, subject: str) -> Any:
        while True:
            try:
                return await self.fixture.client.request(subject, b"{}", timeout=PATIENCE_S)
            except Exception as error:  # noqa: BLE001
                if type(error).__name__ != "NoRespondersError":
                    raise
                await asyncio.sleep(0.02)

    async def test_a_service_is_quick_to_be_seen(self) -> None:
        beats = await self.fixture.client.subscribe("tel.beat.>")
        await self.fixture.client.flush()
        took_s, bare_s = [], []
        for _ in range(3):
            began = time.monotonic()
            await self.end(await self.run_program("import serin"))
            bare_s.append(time.monotonic() - began)
            began, began_us = time.monotonic(), time.time() * 1e6
            program = await self.run_program("import serin; serin.service().run()")
            # The one before may have told one more.
            while json.loads((await beats.next_msg(PATIENCE_S)).data)["started_us"] < began_us:
                pass
            took_s.append(time.monotonic() - began)
            program.kill()
            program.wait()
        # Little more than Python itself; here only what would be a fault is one.
        self.assertLess(min(took_s) - min(bare_s), 2.0, (took_s, bare_s))


if __name__ == "__main__":
    unittest.main()
