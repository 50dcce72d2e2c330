"""Small logs whose numbers are known by hand."""

import unittest

import expected

LINES = [
    '1.1.1.1 - - [18/May/2015:00:00:59 +0000] "GET /a?x=1 HTTP/1.1" 200 10 "http://r/" "agent"',
    '1.1.1.1 - bob [18/May/2015:00:01:00 +0000] "GET /a?x=1 HTTP/1.1" 404 - "-" "-"',
    '2.2.2.2 - - [18/May/2015:02:01:30 +0200] "POST /b HTTP/1.0" 500 5 "http://r/" "say \\"hi\\""',
]


class Expected(unittest.TestCase):
    def setUp(self):
        requests = [expected.request(expected.LINE.match(line)) for line in LINES]
        self.numbers = expected.expected(requests, 60)

    def test_time_is_utc_and_cut_into_steps(self):
        first = 1431907200
        self.assertEqual(self.numbers["requests_per_step"], [(first, 1), (first + 60, 2)])
        self.assertEqual(self.numbers["hour_by_weekday"], [[1, 0, 3]])

    def test_a_dash_is_nothing(self):
        self.assertEqual((self.numbers["bytes"], self.numbers["bytes_missing"]), (15, 1))
        self.assertEqual(self.numbers["referrers"], [("http://r/", 2)])

    def test_shares_and_ranks(self):
        self.assertEqual(self.numbers["errors"], {"4xx": 1, "5xx": 1})
        self.assertAlmostEqual(self.numbers["error_share"], 2 / 3)
        self.assertEqual(self.numbers["visitors"], 2)
        self.assertEqual(self.numbers["pages"], [("/a?x=1", 2), ("/b", 1)])


if __name__ == "__main__":
    unittest.main()
