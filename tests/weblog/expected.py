"""Every number of the weblog dashboard, computed from the raw log and nothing else.

Knows neither Serin nor DuckDB: it reads the combined log format line by line, so that agreement
with Serin means two computations agree. `python3 expected.py LOG[.gz] [--step SECONDS]` prints JSON.
Times are whole seconds since 1970, UTC. Start at `expected`.
"""

import argparse
import collections
import datetime
import gzip
import json
import re

# Fields that the server quotes may hold escaped quotes. One request of the shipped log was cut off
# within its agent: it was made all the same, and counts.
LINE = re.compile(
    r'(?P<client>\S+) \S+ (?P<user>\S+) \[(?P<time>[^\]]+)\] '
    r'"(?P<request>(?:[^"\\]|\\.)*)" (?P<status>\d{3}) (?P<bytes>\d+|-)'
    r'(?: "(?P<referrer>(?:[^"\\]|\\.)*)" "(?P<agent>(?:[^"\\]|\\.)*)(?:"|$))?\s*$'
)

Request = collections.namedtuple("Request", "time client method path status bytes referrer agent")


def read(path):
    """The requests of a log, in its order."""
    opener = gzip.open if str(path).endswith(".gz") else open
    requests = []
    with opener(path, "rt", encoding="utf-8", errors="surrogateescape") as lines:
        for number, line in enumerate(lines, 1):
            found = LINE.match(line)
            if not found:
                raise ValueError(f"{path}:{number}: not a line of the combined log format")
            requests.append(request(found))
    return requests


def request(found):
    time = datetime.datetime.strptime(found["time"], "%d/%b/%Y:%H:%M:%S %z")
    parts = found["request"].split(" ")
    return Request(
        time=int(time.timestamp()),
        client=found["client"],
        method=parts[0],
        path=" ".join(parts[1:-1]) if len(parts) > 2 else " ".join(parts[1:]),
        status=int(found["status"]),
        bytes=None if found["bytes"] == "-" else int(found["bytes"]),
        referrer=None if found["referrer"] in (None, "-") else found["referrer"],
        agent=None if found["agent"] in (None, "-") else found["agent"],
    )


def expected(requests, step):
    """All panels; those over time in steps of `step` seconds, steps without a request left out."""
    start = lambda r: r.time // step * step
    per_step = collections.Counter(map(start, requests))
    return {
        "requests": len(requests),
        "from": min(r.time for r in requests),
        "to": max(r.time for r in requests),
        "requests_per_step": sorted(per_step.items()),
        "errors": {name: sum(r.status // 100 == kind for r in requests) for name, kind in CLASSES},
        "error_share": sum(r.status >= 400 for r in requests) / len(requests),
        "error_share_by_class": {
            name: sum(r.status // 100 == kind for r in requests) / len(requests)
            for name, kind in CLASSES
        },
        "errors_per_step": {
            name: sorted(
                collections.Counter(start(r) for r in requests if r.status // 100 == kind).items()
            )
            for name, kind in CLASSES
        },
        "bytes": sum(r.bytes or 0 for r in requests),
        "bytes_missing": sum(r.bytes is None for r in requests),
        "bytes_per_step": sums(requests, start),
        "visitors": len({r.client for r in requests}),
        "visitors_per_step": distinct(requests, start),
        "pages": ranked(r.path for r in requests),
        "page_bytes": page_bytes(requests),
        "referrers": ranked(r.referrer for r in requests if r.referrer is not None),
        "statuses": sorted(collections.Counter(r.status for r in requests).items()),
        "statuses_per_step": {
            str(status): sorted(
                collections.Counter(start(r) for r in requests if r.status == status).items()
            )
            for status in sorted({r.status for r in requests})
        },
        "hour_by_weekday": heat(requests),
    }


CLASSES = (("4xx", 4), ("5xx", 5))


def sums(requests, start):
    """Bytes per step; a step whose requests all lack a size has none."""
    total = {}
    for r in requests:
        if r.bytes is not None:
            total[start(r)] = total.get(start(r), 0) + r.bytes
    return sorted(total.items())


def distinct(requests, start):
    clients = collections.defaultdict(set)
    for r in requests:
        clients[start(r)].add(r.client)
    return sorted((at, len(seen)) for at, seen in clients.items())


def ranked(values):
    """All values with their counts, most frequent first; equal counts in the order of the text."""
    counted = collections.Counter(values)
    return sorted(counted.items(), key=lambda item: (-item[1], item[0]))


def page_bytes(requests):
    """Bytes served per path; a path none of whose requests has a size has none."""
    total = {}
    for r in requests:
        if r.bytes is not None:
            total[r.path] = total.get(r.path, 0) + r.bytes
    return total


def heat(requests):
    """Count per (weekday, hour) in UTC; Monday is 1, as ISO 8601 counts."""
    cells = collections.Counter()
    for r in requests:
        at = datetime.datetime.fromtimestamp(r.time, datetime.timezone.utc)
        cells[(at.isoweekday(), at.hour)] += 1
    return sorted([day, hour, count] for (day, hour), count in cells.items())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("log")
    parser.add_argument("--step", type=int, default=60, help="seconds; 60 unless said")
    args = parser.parse_args()
    print(json.dumps(expected(read(args.log), args.step)))


if __name__ == "__main__":
    main()
