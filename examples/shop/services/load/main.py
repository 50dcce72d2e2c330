"""Visitors, through the gateway as browsers: more at noon and in the evening than at night.

A day is compressed into minutes. Everything that is random comes from one seed, which is logged.
``python3 main.py --days 1`` does the same by hand, with ``SERIN_GATEWAY`` saying where the shop is.
"""

import argparse
import http.client
import math
import os
import random
import threading
import time
from dataclasses import dataclass, field
from typing import Dict, Iterator, List, Optional, Set, Tuple
from urllib.parse import urlencode, urlsplit

from serin import sync

#: Visitors in the shop at a time; whoever comes when it is full is turned away and counted.
PLACES = 64
#: Seconds that somebody looks at a page, in the mean.
LOOKS_S = 1.2
#: The hour at which the first day begins.
OPENS_AT = 11
ITEMS = [
    "seed-finch", "seed-tit", "suet-balls", "feeder-tube", "feeder-window", "bath-stone",
    "box-tit", "box-swift", "box-wren", "glass-8x32", "book-birds", "book-songs",
]  # fmt: skip
#: Share of the visitors, and how many of those with a full cart buy.
COUNTRIES = {
    "de": (46, 0.55),
    "at": (12, 0.50),
    "ch": (10, 0.60),
    "fr": (16, 0.40),
    "nl": (10, 0.45),
    "it": (6, 0.35),
}
#: Cards for tests, and how often they are shown.
CARDS = {
    "4242424242424242": 92,
    "4000000000000002": 4,
    "4000000000009995": 3,
    "4000000000000069": 1,
}


def share_of_peak(hour: float) -> float:
    """How busy an hour is, from 0 to 1: quiet at night, a hill at noon, a higher one at eight."""

    def hill(at: float, width: float) -> float:
        away = min(abs(hour - at), 24 - abs(hour - at))
        return math.exp(-((away / width) ** 2))

    return min(1.0, 0.08 + 0.55 * hill(12.5, 3.0) + 0.9 * hill(20.0, 2.5))


def arrivals(rng: random.Random, peak: float, day_s: float, days: float) -> Iterator[float]:
    """When visitors come, in seconds since the first day began."""
    at = 0.0
    while True:
        # Thinning: as many as at the busiest time, of whom the hour lets in its share.
        at += rng.expovariate(peak)
        if at > days * day_s:
            return
        if rng.random() < share_of_peak((OPENS_AT + at / day_s * 24) % 24):
            yield at


@dataclass
class Visit:
    """What somebody is going to do, drawn before the first click."""

    country: str
    looks_at: List[str]
    takes: List[str]
    buys: bool
    card: str
    pauses: random.Random


def drawn(rng: random.Random) -> Visit:
    """A visit at random."""
    country = rng.choices(list(COUNTRIES), [share for share, _ in COUNTRIES.values()])[0]
    # The first ones of the list are looked at most.
    weights = [1 / (place + 2) for place in range(len(ITEMS))]
    looks_at = rng.choices(ITEMS, weights, k=min(6, 1 + int(rng.expovariate(0.6))))
    takes = [sku for sku in looks_at if rng.random() < 0.28]
    card = rng.choices(list(CARDS), list(CARDS.values()))[0]
    buys = bool(takes) and rng.random() < COUNTRIES[country][1]
    return Visit(country, looks_at, takes, buys, card, random.Random(rng.random()))


@dataclass
class Browser:
    """Keeps cookies, follows no links by itself."""

    host: str
    cookies: Dict[str, str] = field(default_factory=dict)
    connection: Optional[http.client.HTTPConnection] = None

    def ask(self, path: str, form: Optional[Dict[str, str]] = None) -> int:
        """Asks for a page, or sends a form; the status."""
        connection = self.connection or http.client.HTTPConnection(self.host, timeout=10)
        self.connection = connection
        headers = {"cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        if form is not None:
            headers["content-type"] = "application/x-www-form-urlencoded"
        body = None if form is None else urlencode(form)
        connection.request("GET" if body is None else "POST", path, body, headers)
        answer = connection.getresponse()
        answer.read()
        for line in answer.headers.get_all("set-cookie") or []:
            name, _, value = line.partition(";")[0].partition("=")
            self.cookies[name] = value
        return answer.status


class Shop:
    """Lets visitors in, each in a thread, and tells how they fared."""

    def __init__(self, app: sync.Serin, gateway: str) -> None:
        self.app = app
        self.host = urlsplit(gateway).netloc
        self.places = threading.Semaphore(PLACES)
        self.inside: Set[threading.Thread] = set()
        app.gauge("load.visitors", lambda: len(self.inside))

    def let_in(self, visit: Visit) -> None:
        """Starts a visit, where there is a place."""
        if self.places.acquire(blocking=False):
            threading.Thread(target=self.visit, args=(visit,), daemon=True).start()
        else:
            self.app.emit("visit.refused", country=visit.country)

    def visit(self, visit: Visit) -> None:
        """One visitor from the door to the door."""
        self.inside.add(threading.current_thread())
        browser, failed = Browser(self.host), 0
        for path, form in steps(visit):
            try:
                failed += browser.ask(path, form) >= 500
            except (OSError, http.client.HTTPException):
                # The connection may be gone; the next click makes another one.
                browser.connection, failed = None, failed + 1
            time.sleep(visit.pauses.expovariate(1 / LOOKS_S))
        self.app.emit("visit.ended", country=visit.country, failed=failed, took=len(visit.takes))
        self.inside.discard(threading.current_thread())
        self.places.release()

    def close(self) -> None:
        """Waits until everybody has left."""
        for _ in range(PLACES):
            self.places.acquire()


def steps(visit: Visit) -> Iterator[Tuple[str, Optional[Dict[str, str]]]]:
    """The clicks of a visit, each a path and the form that is sent."""
    yield "/", None
    yield f"/country/{visit.country}", None
    for sku in visit.looks_at:
        yield f"/items/{sku}", None
        if sku in visit.takes:
            yield "/cart", {"sku": sku, "count": str(visit.pauses.choice((1, 1, 1, 2, 3)))}
    if visit.takes:
        yield "/cart", None
    if visit.buys:
        yield "/order", {"card": visit.card}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--days", type=float, default=math.inf, help="end after so many days")
    days = options.parse_args().days
    peak, day_s = float(os.environ.get("PEAK", "2")), float(os.environ.get("DAY_S", "600"))
    seed = int(os.environ.get("SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
    print(f"seed {seed}: at most {peak:g} visitors a second, a day in {day_s:g} s")
    rng = random.Random(seed)
    with sync.connect() as app:
        app.drain_on_sigterm()
        shop = Shop(app, os.environ.get("SERIN_GATEWAY", "http://127.0.0.1:8080"))
        began = time.monotonic()
        for at in arrivals(rng, peak, day_s, days):
            visit = drawn(rng)
            time.sleep(max(0.0, began + at - time.monotonic()))
            shop.let_in(visit)
        shop.close()


if __name__ == "__main__":
    main()
