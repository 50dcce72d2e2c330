"""A service that knows nothing of Serin and counts who reads its metrics; run by tests/e2e/otlp.rs."""

import http.server
import os

METRICS = """# TYPE asked counter
asked_total{{by="{by}"}} {asked}
# TYPE took_seconds histogram
took_seconds_bucket{{le="0.1"}} {asked}
took_seconds_bucket{{le="+Inf"}} {twice}
took_seconds_sum {thrice}
took_seconds_count {twice}
"""
asked = 0


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        global asked
        body = "hello"
        if self.path == "/numbers":
            asked += 1
            by = self.headers["user-agent"]
            body = METRICS.format(by=by, asked=asked, twice=2 * asked, thrice=3 * asked)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Page).serve_forever()
