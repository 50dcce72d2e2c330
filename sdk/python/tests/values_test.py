"""What needs no bus: encodings, names, the queue's times, typed bodies, web routes."""

from __future__ import annotations

import asyncio
import datetime
import enum
import json
import os
import random
import runpy
import subprocess
import sys
import tempfile
import textwrap
import unittest
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional
from unittest import mock

import serin
from serin import left, segment, typed
from serin.beats import next_due
from serin.clock import Ulids
from serin.dropped import Dropped
from serin.encode import to_json
from serin.left import left_under
from serin.periodic import Periodic
from serin.queue import Batch, Queue
from serin.segment import checksum
from serin.sample import Offer, Sampler
from serin.span import Spans
from serin.trouble import Trouble
from serin.spill import Spill
from serin.testing import recording
from serin.usage import CpuShare
from serin.web import Router, WebRequest
from serin.wire import batch, name
from serin.wire.chain import Hop, merge
from serin.wire.histogram import bucket_of
from serin.wire.route import Route
from serin.wire.trace import SAMPLED, Trace, add_arm, cut_arm


@dataclass
class Line:
    sku: str
    count: int = 1
    price: Optional[float] = None


@dataclass
class Order:
    lines: List[Line]
    by: Dict[str, str]


def offer(n: int) -> Offer:
    """One of traces that are spread over their range, as random identities are."""
    trace_id = n * 0x9E37_79B9_7F4A_7C15 % (1 << 64)
    return Offer(Trace(trace_id, 1, SAMPLED), "add", 1_000, False)


class ValuesTest(unittest.TestCase):
    def test_values_become_json(self) -> None:
        class Colour(enum.Enum):
            RED = "red"

        noon = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.timezone.utc)
        for value, text in [
            ({"a": 1.5, "b": "é"}, '{"a":1.5,"b":"é"}'),
            ({"at": noon, "c": Colour.RED}, '{"at":"2026-11-24T12:00:00Z","c":"red"}'),
            ({"n": float("inf"), "l": (1, float("nan"))}, '{"n":null,"l":[1,null]}'),
            (Line("a", 2), '{"sku":"a","count":2,"price":null}'),
        ]:
            self.assertEqual(to_json(value).decode(), text)
        circle: Dict[str, Any] = {}
        circle["self"] = circle
        for value in (circle, {"x": object()}, {(1, 2): 3}):
            with self.assertRaises((TypeError, ValueError)):
                to_json(value)

    def test_bodies_become_dataclasses(self) -> None:
        order = typed.read(Order, {"lines": [{"sku": "a", "price": 3}], "by": {"x": "y"}})
        self.assertEqual(order, Order([Line("a", 1, 3.0)], {"x": "y"}))
        for value, says in [
            ({"lines": [{"count": 1}], "by": {}}, 'the body.lines[0] has no field "sku"'),
            ({"lines": [{"sku": 1}], "by": {}}, "the body.lines[0].sku must be str, it is int"),
            ({"lines": [], "by": {"a": 1}}, "the body.by.a must be str"),
            ([], "the body must be an object"),
            ({"lines": [{"sku": "a", "count": True}], "by": {}}, "count must be int"),
        ]:
            with self.assertRaises(typed.Mismatch) as caught:
                typed.read(Order, value)
            self.assertIn(says, str(caught.exception))

    def test_the_data_of_a_packet_become_what_its_enhancer_wants(self) -> None:
        sent = {"chain": "page", "stage": 2, "data": {"sku": "a", "more": 1}}
        self.assertEqual(typed.read(serin.Packet[Line], sent).data, Line("a"))
        self.assertEqual(typed.read(serin.Packet, sent).data, sent["data"])
        with self.assertRaises(typed.Mismatch) as caught:
            typed.read(serin.Packet[Line], {**sent, "data": {}})
        self.assertIn('the body.data has no field "sku"', str(caught.exception))

    def test_a_batch_reads_back(self) -> None:
        out = bytearray(batch.head("cart", "v8", "cart-v8-1"))
        trace = Trace(7, 9, 1)
        batch.put_event(
            out, 42, "order.paid", -5, trace, "cart=v8", b'{"text":"' + b"x" * 300 + b'"}'
        )
        batch.put_event(out, 1 << 100, "a", 6, None, None, b"{}")
        first, second = batch.read(bytes(out))
        self.assertEqual(
            (first["type"], first["time_us"], first["arm"]), ("order.paid", -5, "cart=v8")
        )
        self.assertEqual(first["trace"], trace.to_traceparent())
        self.assertEqual(len(json.loads(first["data"])["text"]), 300)
        self.assertEqual((second["trace"], second["service"]), (None, "cart"))
        with self.assertRaisesRegex(batch.BatchError, "in the middle"):
            batch.read(bytes(out[:-1]))

    def test_no_event_is_at_or_before_a_sealed_time(self) -> None:
        now = [1000]
        queue = Queue(batch.head("a", "b", "c"), lambda: now[0], 1 << 20, lambda: None)
        sealed_us = -1
        for now[0] in (2000, 2000, 1500, 2001, 2001, 9000):
            self.assertEqual(queue.push("a", b"{}", None, None), "")
            queue.seal()
            sealed = queue.pop()
            assert sealed
            (event,) = batch.read(sealed.payload)
            self.assertGreater(event["time_us"], sealed_us)
            self.assertLessEqual(event["time_us"], sealed.sealed_us + 1)
            queue.acknowledge(sealed)
            self.assertEqual(queue.mark().number, sealed.number)
            sealed_us = max(sealed.sealed_us, queue.mark().time_us)

    def test_what_is_refused_leaves_no_hole(self) -> None:
        queue = Queue(b"", lambda: 0, 300 << 10, lambda: None)
        large = b" " * (100 << 10)
        taken = [queue.push("a", large, None, None) for _ in range(9)]
        self.assertEqual((taken.count(""), taken.count("queue-full")), (2, 7))
        self.assertEqual(queue.seal(), 2)
        queue.close()
        self.assertEqual(queue.push("a", b"{}", None, None), "drained")

    def test_ulids_rise_whatever_the_clock_does(self) -> None:
        ulids = Ulids()
        made = [ulids.next(us) for us in (5000, 5000, 4000, -7, 6000, 1_800_000_000_000_000)]
        self.assertEqual(made, sorted(set(made)))

    def test_no_id_asks_the_system(self) -> None:
        # It would let go of the interpreter each millisecond, and starve the beats' thread.
        ulids = Ulids()
        with mock.patch("random._urandom", side_effect=AssertionError("asked the system")):
            made = {ulids.next(millis * 1000) for millis in range(1, 1000)}
            made.add(Spans({}, Dropped()).begin("a", None).trace.trace_id)
        self.assertEqual(len(made), 1000)

    def kept_per_s(self, sampler: Sampler, per_s: int) -> int:
        """Offers so many spans a second for four seconds; how many were kept in the last one."""
        kept = [sampler.keeps(offer(n), n / per_s) for n in range(4 * per_s)]
        return sum(kept[3 * per_s :])

    def test_few_spans_are_all_told_many_fit_the_budget_failed_and_slow_ones_always(self) -> None:
        self.assertEqual(self.kept_per_s(Sampler(0.0), 400), 400)
        busy = Sampler(0.0)
        kept = self.kept_per_s(busy, 20_000)
        self.assertTrue(400 < kept < 650, kept)
        unlucky = offer(0)._replace(trace=Trace(1, 1, SAMPLED))
        lucky = Trace((1 << 56) - 1, 1, SAMPLED)
        for offered, is_kept in [
            (unlucky, False),
            (unlucky._replace(has_failed=True), True),
            (unlucky._replace(duration_us=5_000), True),
            (unlucky._replace(trace=lucky), True),
            (unlucky._replace(trace=lucky._replace(flags=0)), False),
        ]:
            self.assertEqual(busy.keeps(offered, 4.0), is_kept, offered)
        self.assertEqual([busy.takes(1), busy.takes(lucky.trace_id)], [False, True])

    def test_a_late_beat_makes_the_next_not_late(self) -> None:
        for now, next_at in [(10.0, 11.0), (10.4, 11.0), (11.0, 12.0), (13.5, 14.5)]:
            self.assertEqual(next_due(10.0, 1.0, now), next_at)

    def test_a_moment_does_not_change_the_share_of_a_core(self) -> None:
        share = CpuShare(1.0, 0.0)
        self.assertEqual(share.next(1.01, 0.005), 0.0)
        self.assertEqual(share.next(1.5, 1.0), 0.5)
        self.assertEqual(share.next(1.51, 1.01), 0.5)
        # What was used in that moment is in the next share.
        self.assertAlmostEqual(share.next(2.49, 2.0), 0.99)

    def check_read(self, data: bytes, after: int, whole: List[int], damaged: List[Any]) -> None:
        found = segment.read(data, after)
        self.assertEqual([one.number for one in found.whole], whole)
        self.assertEqual([(one.number, one.events) for one in found.damaged], damaged)

    def test_what_is_behind_damage_is_read(self) -> None:
        def records(*numbers: int) -> bytearray:
            """Of 100 bytes, with three events each."""
            batches = [Batch(n, 3, 7, bytes([n]) * 68) for n in numbers]
            return bytearray(b"".join(map(segment.encode, batches)))

        self.check_read(bytes(records(5, 6, 8)), 4, [5, 6, 8], [])
        # A bit of the payload, of the number, of the length.
        for at, lost in [(150, (6, 3)), (105, (6, 1)), (102, (6, 3))]:
            flipped = records(5, 6, 7)
            flipped[at] ^= 0x10
            self.check_read(bytes(flipped), 4, [5, 7], [lost])
        # Zeros over two records, and over the first of a segment.
        zeros = records(5, 6, 7, 8)
        zeros[120:250] = bytes(130)
        self.check_read(bytes(zeros), 4, [5, 8], [(6, 1), (7, 1)])
        zeros = records(5, 6)
        zeros[:40] = bytes(40)
        self.check_read(bytes(zeros), 4, [6], [(5, 1)])
        self.check_read(bytes(zeros), 0, [6], [(5, 1)])
        # A torn end.
        for cut in (1, 60, 67):
            self.check_read(bytes(records(5, 6)[:-cut]), 0, [5], [(6, 3)])
        self.check_read(bytes(records(5, 6)[:120]), 0, [5], [(6, 1)])
        self.check_read(b"", 0, [], [])
        for length in range(200):
            noise = bytes(random.Random(length).randrange(4) for _ in range(length))
            self.assertEqual(segment.read(noise, 0).whole, [])

    def test_a_disk_that_refuses_gets_no_more_files(self) -> None:
        program = """
            import resource, sys
            from pathlib import Path
            from serin.queue import Batch
            from serin.spill import Spill

            resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
            spill = Spill(Path(sys.argv[1]), "p", 0, 1 << 30)
            for number, large, small in [(1, 100_000, 30_000), (2, 60_000, 100)]:
                for _ in range(20):
                    try:
                        spill.append(Batch(number, 1, 0, bytes(large)), is_read=False)
                    except OSError:
                        continue
                    sys.exit("the limit does not hold")
                spill.append(Batch(number, 1, 0, bytes(small)), is_read=False)
        """
        with tempfile.TemporaryDirectory() as folder:
            child = [sys.executable, "-c", textwrap.dedent(program), folder]
            subprocess.run(child, check=True)
            (run,) = left_under(Path(folder))
            (path,) = run.segments()
            found = run.read(path, 0)
            self.assertEqual([one.number for one in found.whole], [1, 2])
            self.assertEqual(found.damaged, [])

    def test_the_bound_of_a_spill_is_that_of_all_runs(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            own, other = (Spill(Path(folder), name, 0, 2_500) for name in "ab")
            for number in (1, 2):
                self.assertTrue(own.has_room(Batch(number, 1, 0, bytes(1000))))
                own.append(Batch(number, 1, 0, bytes(1000)), is_read=True)
            self.assertFalse(own.has_room(Batch(3, 1, 0, bytes(1000))))
            self.assertFalse(other.has_room(Batch(1, 1, 0, bytes(1000))))
            own.acknowledge(2)
            self.assertTrue(other.has_room(Batch(1, 1, 0, bytes(1000))))
            own.close()

    def test_what_was_left_first_is_sent_first(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for at, name in enumerate("bca"):
                left.make_folder(Path(folder, f"{name}.0")).close()
                os.utime(Path(folder, f"{name}.0", "lock"), (at, at))
            self.assertEqual([run.producer for run in left_under(Path(folder))], ["b", "c", "a"])

    def test_a_spill_comes_back_in_order_and_leaves_nothing(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            parent = Path(folder)
            spill = Spill(parent, "p", 0, 1 << 30)
            for number in range(1, 41):
                spill.append(Batch(number, 1, 0, bytes([number]) * 500_000), is_read=number == 1)
            self.assertGreater(len(list(parent.rglob("*.seg"))), 2)
            self.assertEqual(left_under(parent), [])
            for number in range(2, 41):
                found = spill.next()
                assert found
                self.assertEqual((found[0].number, found[1]), (number, True))
                spill.acknowledge(number)
            self.assertTrue(spill.is_all_read())
            spill.close()
            self.assertEqual(list(parent.iterdir()), [])

    def test_the_checksum_is_the_one_of_the_other_sdks(self) -> None:
        self.assertEqual(checksum(b"", 1), 0xCBF29CE484222324)
        self.assertNotEqual(checksum(b"12345678", 1), checksum(b"12345679", 1))

    def test_names(self) -> None:
        for good in ("order.paid", "a", "com.example.Order_2"):
            self.assertTrue(name.is_type(good), good)
        for bad in ("", ".", "a.", "a..b", "a b", "a*", "é", "Logs", "serin.x", "a\n", "x" * 129):
            self.assertFalse(name.is_type(bad), bad)
        for bad in ("", "-a", "Cart", "a.b", "ä", "a" * 33):
            with self.assertRaises(name.BadName):
                name.check_short("service", bad)
        with self.assertRaisesRegex(serin.ConnectError, "service name 'Cart' must be"):
            serin.Options("nats://x", "Cart")

    def test_buckets_are_the_wires(self) -> None:
        for value in [0, 9, 10, 12, 15, 20, 1000, 10**12]:
            bucket = bucket_of(value)
            self.assertTrue(0 <= bucket < 104)
            if 10 <= value < 10**8:
                self.assertLessEqual(10 * 2 ** (bucket / 4), value * 1.0000001)
                self.assertGreater(10 * 2 ** ((bucket + 1) / 4), value)

    def test_merging_does_not_depend_on_who_answers_first(self) -> None:
        data: Dict[str, Any] = {"sku": "a", "price": {"net": 10}}
        hop = Hop(1, "a.b", "ok")
        merge(data, {"sku": "b", "price": {"net": 10, "gross": 12}, "stock": 3}, hop)
        self.assertEqual(data, {"sku": "a", "price": {"net": 10, "gross": 12}, "stock": 3})
        self.assertEqual((hop.added, hop.conflicts), (["price.gross", "stock"], ["sku"]))
        hop = Hop(1, "a.b", "ok")
        merge(data, {"stock": True}, hop)
        self.assertEqual(hop.conflicts, ["stock"])

    def test_routes(self) -> None:
        canary = Route((("v2", 500), ("v1", 9500)))
        self.assertEqual(
            [canary.version(slot) for slot in (0, 499, 500, 9999)], ["v2", "v2", "v1", "v1"]
        )
        self.assertTrue(canary.has_trial())
        self.assertIsNone(Route(()).version(0))
        self.assertFalse(Route((("v2", 0), ("v1", 10_000))).has_trial())

    def test_traces_and_arms(self) -> None:
        text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        trace = Trace.parse(text)
        assert trace
        self.assertEqual(trace.to_traceparent(), text)
        self.assertTrue(Trace.parse("cc" + text[2:] + "-more"))
        for bad in (
            "",
            text + "-x",
            "ff" + text[2:],
            text.upper(),
            text.replace("00f067aa0ba902b7", "0" * 16),
        ):
            self.assertIsNone(Trace.parse(bad), bad)
        long = ",".join(f"service-{hop}=v1" for hop in range(40))
        cut = cut_arm(long) or ""
        self.assertTrue(len(cut) <= 256 and cut.endswith("service-39=v1"))
        self.assertEqual(add_arm("a=v1", "a", "v1"), "a=v1")
        self.assertEqual(add_arm(None, "a", "v1"), "a=v1")

    def test_web_patterns(self) -> None:
        router = Router()
        router.add("GET /items/{id}", "item")  # type: ignore[arg-type]
        router.add("POST /items", "add")  # type: ignore[arg-type]

        def find(method: str, path: str) -> Any:
            request = WebRequest.read([("serin-http", f"{method} {path}")], b"")
            return router.find(request), request.params, request.pattern

        self.assertEqual(find("GET", "/items/a%2Fb"), ("item", {"id": "a/b"}, "/items/{id}"))
        self.assertEqual(find("HEAD", "/items/7?x=1"), ("item", {"id": "7"}, "/items/{id}"))
        self.assertEqual(find("POST", "/items"), ("add", {}, "/items"))
        for method, path, code in [("PUT", "/items", 405), ("GET", "/other", 404)]:
            with self.assertRaises(serin.CallError) as caught:
                find(method, path)
            self.assertEqual(caught.exception.code, code)
        router.add(None, "rest")  # type: ignore[arg-type]
        self.assertEqual(find("GET", "/other"), ("rest", {}, ""))

    def test_handlers_are_tested_without_a_bus(self) -> None:
        app = serin.service("hello")

        @app.web
        def hello(request: WebRequest) -> str:
            app.emit("greeting.sent", to=request.query["name"], item=Line("a"))
            return f"Hello, {request.query['name']}!"

        with recording(app) as events, app.span("test"):
            self.assertEqual(hello(WebRequest.of("GET /?name=Ada", x_own="1")), "Hello, Ada!")
        item = {"sku": "a", "count": 1, "price": None}
        self.assertEqual(events, [("greeting.sent", {"to": "Ada", "item": item})])

    def test_any_bytes_are_read_or_refused(self) -> None:
        source = random.Random(7)
        for _ in range(300):
            message = b"SB\x01" + source.randbytes(source.randrange(60))
            try:
                batch.read(message)
            except (batch.BatchError, UnicodeDecodeError):
                pass


class PeriodicTest(unittest.IsolatedAsyncioTestCase):
    async def test_a_task_that_takes_longer_than_its_period_ends_with_its_service(self) -> None:
        ended = asyncio.Event()
        runs = []

        async def slow() -> None:
            runs.append(len(runs))
            await asyncio.sleep(0.02)
            ended.set()

        await asyncio.wait_for(Periodic(0.01, slow).run(ended), 10)
        self.assertEqual(runs, [0])

    async def test_a_task_that_raises_stop_iteration_runs_again(self) -> None:
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        runs = []

        def first() -> None:
            runs.append(len(runs))
            if len(runs) > 1:
                loop.call_soon_threadsafe(ended.set)
            raise StopIteration

        with self.assertLogs("serin.periodic", "ERROR"):
            await asyncio.wait_for(Periodic(0.01, first).run(ended), 10)
        self.assertGreaterEqual(len(runs), 2)


class ExamplesTest(unittest.TestCase):
    def test_every_example_loads_and_defines_what_it_is(self) -> None:
        examples = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))
        self.assertGreaterEqual(len(examples), 4)
        for example in examples:
            with self.subTest(example.name):
                defined = runpy.run_path(str(example), run_name="example")
                self.assertTrue("app" in defined or "main" in defined)


class TroubleTest(unittest.TestCase):
    def test_who_is_turned_away_for_a_moment_is_not_told_of(self) -> None:
        trouble = Trouble()
        away, refused = "AuthorizationError: nats: authorization failed", "Error: permissions"
        told = [trouble.is_news(away, now) for now in (0.0, 0.1)]
        trouble.end()
        told += [trouble.is_news(away, now) for now in (1.0, 1.5, 2.0, 2.5)]
        self.assertEqual(told, [False, False, False, False, True, False])
        self.assertEqual([trouble.is_news(refused, 2.0) for _ in range(2)], [True, False])


if __name__ == "__main__":
    unittest.main()
