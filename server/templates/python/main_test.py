"""python3 -m unittest main_test (with PYTHONPATH=.serin/sdk/python of the project's folder)."""

import unittest

import serin
import serin.testing

import main


class Page(unittest.TestCase):
    def test_a_visitor_is_greeted_and_counted(self) -> None:
        request = serin.WebRequest.of("GET /?name=%3CAda%3E")
        with serin.testing.recording(main.app) as events:
            self.assertEqual(main.page(request), "Hello, &lt;Ada&gt;!")
        self.assertEqual(events, [("%NAME%.greeted", {"name": "<Ada>", "path": "/"})])


if __name__ == "__main__":
    unittest.main()
