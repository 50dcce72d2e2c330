"""PYTHONPATH=../../.serin/sdk/python python3 -m unittest main_test"""

import unittest

%WEB%import serin
import serin.testing

import main


class Greetings(unittest.TestCase):
    def test_a_caller_is_greeted_and_counted(self) -> None:
        with serin.testing.recording(main.app) as events:
            self.assertEqual(main.greet({"name": "Ada"}), {"text": "Hello, Ada!"})
        self.assertEqual(events, [("%NAME%.greeted", {"name": "Ada"})])
%WEB%
%WEB%    def test_a_name_is_no_markup(self) -> None:
%WEB%        request = serin.WebRequest.of("GET /?name=%3CAda%3E")
%WEB%        with serin.testing.recording(main.app):
%WEB%            answer = main.page(request)
%WEB%        self.assertEqual(answer.body, "Hello, &lt;Ada&gt;!")
%WEB%        self.assertEqual(answer.content_type, "text/html; charset=utf-8")


if __name__ == "__main__":
    unittest.main()
