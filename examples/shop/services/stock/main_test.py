"""PYTHONPATH=../../.serin/sdk/python python3 -m unittest main_test"""

import os
import tempfile
import unittest
from contextlib import ExitStack
from unittest import mock

import main
import serin
from serin.testing import recording


def order(number: str, count: int) -> serin.Packet:
    lines = [{"sku": "seed-finch", "count": 1}, {"sku": "box-tit", "count": count}]
    return serin.Packet("order", 2, {"order": number, "lines": lines})


class Stock(unittest.TestCase):
    def setUp(self) -> None:
        around = ExitStack()
        self.addCleanup(around.close)
        folder = around.enter_context(tempfile.TemporaryDirectory())
        around.enter_context(mock.patch.dict(os.environ, SERIN_DATA=folder))
        self.events = around.enter_context(recording(main.app))
        main.prepare()

    def level(self, sku: str) -> int:
        return main.level(serin.Packet("page", 2, {"sku": sku}))["stock"]["level"]

    def test_an_order_reserves_once_and_gives_back_once(self) -> None:
        for _ in range(2):
            main.reserve(order("S-1", 5))
        self.assertEqual(self.level("box-tit"), main.FULL - 5)
        for _ in range(2):
            main.release(main.Order("S-1"))
        self.assertEqual(self.level("box-tit"), main.FULL)

    def test_an_order_gets_all_or_nothing(self) -> None:
        with self.assertRaises(serin.CallError):
            main.reserve(order("S-1", main.FULL + 1))
        self.assertEqual(self.level("seed-finch"), main.FULL)

    def test_little_is_told_once_until_more_comes(self) -> None:
        main.reserve(order("S-1", main.FULL - main.LOW + 1))
        main.reserve(order("S-2", 1))
        self.assertEqual(self.events, [("stock.low", {"sku": "box-tit"})])


if __name__ == "__main__":
    unittest.main()
