"""What people are about to buy: a cart for each visitor, until it is ordered or abandoned."""

import fcntl
import os
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import serin

ABANDONED_AFTER_S = float(os.environ.get("ABANDONED_AFTER_S", "45"))
LOOK_EVERY_S = 2.0

SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS carts (
    visitor TEXT PRIMARY KEY, country TEXT NOT NULL, touched REAL NOT NULL);
CREATE TABLE IF NOT EXISTS lines (
    visitor TEXT, sku TEXT, count INTEGER NOT NULL, PRIMARY KEY (visitor, sku));
"""

app = serin.service(description="what people are about to buy")


@dataclass
class Item:
    visitor: str
    country: str
    sku: str
    count: int = 1


@dataclass
class Visitor:
    visitor: str


@serin.event("cart.add")
@dataclass
class CartAdd:
    visitor: str
    country: str
    sku: str
    count: int
    is_new: bool


def opened() -> sqlite3.Connection:
    """The file that all instances share; a statement is by itself unless a transaction is begun."""
    path = Path(os.environ.get("SERIN_DATA", "."), "carts.db")
    return sqlite3.connect(path, timeout=5, isolation_level=None)


def lines_of(db: sqlite3.Connection, visitor: str) -> list:
    rows = db.execute("SELECT sku, count FROM lines WHERE visitor = ? ORDER BY rowid", (visitor,))
    return [{"sku": sku, "count": count} for sku, count in rows]


def remove(db: sqlite3.Connection, visitor: str) -> None:
    db.execute("DELETE FROM lines WHERE visitor = ?", (visitor,))
    db.execute("DELETE FROM carts WHERE visitor = ?", (visitor,))


@app.endpoint
def add(item: Item) -> dict:
    """Puts an item into a visitor's cart; the cart's lines."""
    if not 1 <= item.count <= 20:
        raise serin.CallError(400, f"{item.count} cannot be bought at once; 1 to 20 can")
    with closing(opened()) as db, db:
        db.execute("BEGIN IMMEDIATE")
        opening = (item.visitor, item.country, time.time())
        is_new = db.execute("INSERT OR IGNORE INTO carts VALUES (?, ?, ?)", opening).rowcount == 1
        db.execute("UPDATE carts SET touched = ? WHERE visitor = ?", (time.time(), item.visitor))
        db.execute(
            "INSERT INTO lines VALUES (?, ?, ?) "
            "ON CONFLICT DO UPDATE SET count = count + excluded.count",
            (item.visitor, item.sku, item.count),
        )
        lines = lines_of(db, item.visitor)
    app.emit_event(CartAdd(item.visitor, item.country, item.sku, item.count, is_new))
    return {"lines": lines}


@app.endpoint(idempotent=True)
def show(of: Visitor) -> dict:
    """The lines of a visitor's cart."""
    with closing(opened()) as db:
        return {"lines": lines_of(db, of.visitor)}


@app.endpoint(idempotent=True)
def contents(packet: serin.Packet) -> dict:
    """Enhances an order with the lines of its cart; an empty one cannot be ordered."""
    lines = show(Visitor(packet.data["visitor"]))["lines"]
    if not lines:
        raise serin.CallError(409, "the cart is empty")
    return {"lines": lines}


@app.endpoint(idempotent=True)
def clear(of: Visitor) -> None:
    """Empties the cart: it was ordered."""
    with closing(opened()) as db, db:
        db.execute("BEGIN IMMEDIATE")
        remove(db, of.visitor)


def abandon(now: float) -> None:
    """Forgets carts that nobody came back to, and tells. Both instances do; one gets each."""
    with closing(opened()) as db, db:
        db.execute("BEGIN IMMEDIATE")
        late = db.execute(
            "SELECT visitor, country, sum(count) FROM carts JOIN lines USING (visitor) "
            "WHERE touched < ? GROUP BY visitor, country",
            (now - ABANDONED_AFTER_S,),
        ).fetchall()
        for visitor, _, _ in late:
            remove(db, visitor)
    for visitor, country, items in late:
        app.emit("cart.abandoned", visitor=visitor, country=country, items=items)


@app.every(LOOK_EVERY_S)
def abandon_late_ones() -> None:
    abandon(time.time())


def prepare() -> None:
    """Makes the tables where they are missing; one instance after the other, for WAL waits for nobody."""
    with open(Path(os.environ.get("SERIN_DATA", "."), "cart.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with closing(opened()) as db:
            db.executescript(SCHEMA)


if __name__ == "__main__":
    prepare()
    app.run()
