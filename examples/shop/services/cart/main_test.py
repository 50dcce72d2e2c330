"""PYTHONPATH=../../.serin/sdk/python python3 -m unittest main_test"""

import os
import tempfile
import time
import unittest
from contextlib import ExitStack
from unittest import mock

import main
import serin
from serin.testing import recording


class Cart(unittest.TestCase):
    def setUp(self) -> None:
        around = ExitStack()
        self.addCleanup(around.close)
        folder = around.enter_context(tempfile.TemporaryDirectory())
        around.enter_context(mock.patch.dict(os.environ, SERIN_DATA=folder))
        self.events = around.enter_context(recording(main.app))
        main.prepare()

    def test_items_add_up(self) -> None:
        main.add(main.Item("ada", "de", "seed-finch"))
        cart = main.add(main.Item("ada", "de", "seed-finch", 2))
        self.assertEqual(cart, {"lines": [{"sku": "seed-finch", "count": 3}]})
        self.assertEqual([event["is_new"] for _, event in self.events], [True, False])

    def test_nobody_buys_nothing_or_all(self) -> None:
        for count in (0, -1, 21):
            with self.assertRaises(serin.CallError):
                main.add(main.Item("ada", "de", "seed-finch", count))
        self.assertEqual(self.events, [])

    def test_a_cart_is_abandoned_once(self) -> None:
        main.add(main.Item("ada", "de", "seed-finch", 2))
        later = time.time() + main.ABANDONED_AFTER_S + 1
        main.abandon(later)
        main.abandon(later)
        abandoned = [event for kind, event in self.events if kind == "cart.abandoned"]
        self.assertEqual(abandoned, [{"visitor": "ada", "country": "de", "items": 2}])
        with self.assertRaises(serin.CallError):
            main.contents(serin.Packet("order", 1, {"visitor": "ada"}))


if __name__ == "__main__":
    unittest.main()
