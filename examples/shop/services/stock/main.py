"""How much of each item is there: levels, reservations, and deliveries when little is left."""

import fcntl
import os
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import serin

FULL, LOW = 80, 10
DELIVERY_S = 20

SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS levels (
    sku TEXT PRIMARY KEY, level INTEGER NOT NULL CHECK (level >= 0), due REAL);
CREATE TABLE IF NOT EXISTS reserved (
    order_id TEXT, sku TEXT, count INTEGER NOT NULL, PRIMARY KEY (order_id, sku));
"""

app = serin.service(description="how much of each item is there")


@dataclass
class Order:
    order: str


def opened() -> sqlite3.Connection:
    """The file that all instances share; a statement is by itself unless a transaction is begun."""
    path = Path(os.environ.get("SERIN_DATA", "."), "stock.db")
    return sqlite3.connect(path, timeout=5, isolation_level=None)


def deliver(db: sqlite3.Connection) -> None:
    """What was ordered from the supplier and is due has come."""
    db.execute("UPDATE levels SET level = ?, due = NULL WHERE due < ?", (FULL, time.time()))


def take(db: sqlite3.Connection, sku: str, count: int) -> bool:
    """Takes so many, and orders more where few are left; whether it did."""
    db.execute("INSERT OR IGNORE INTO levels VALUES (?, ?, NULL)", (sku, FULL))
    (level,) = db.execute("SELECT level FROM levels WHERE sku = ?", (sku,)).fetchone()
    if level < count:
        raise serin.CallError(409, f"only {level} of {sku} are left")
    db.execute("UPDATE levels SET level = level - ? WHERE sku = ?", (count, sku))
    ordering = "UPDATE levels SET due = ? WHERE sku = ? AND due IS NULL AND level < ?"
    return db.execute(ordering, (time.time() + DELIVERY_S, sku, LOW)).rowcount == 1


@app.endpoint(idempotent=True)
def level(packet: serin.Packet) -> dict:
    """Enhances a page with what is there of its item."""
    with closing(opened()) as db:
        deliver(db)
        row = db.execute("SELECT level FROM levels WHERE sku = ?", (packet.data["sku"],)).fetchone()
    return {"stock": {"level": row[0] if row else FULL}}


@app.endpoint(idempotent=True)
def reserve(packet: serin.Packet) -> dict:
    """Enhances an order with its reservation: all of its lines, or none and an error."""
    order, lines = packet.data["order"], packet.data["lines"]
    few = []
    with closing(opened()) as db, db:
        db.execute("BEGIN IMMEDIATE")
        deliver(db)
        if not lines_of(db, order):
            rows = [(order, line["sku"], line["count"]) for line in lines]
            few = [sku for _, sku, count in rows if take(db, sku, count)]
            db.executemany("INSERT INTO reserved VALUES (?, ?, ?)", rows)
    for sku in few:
        app.emit("stock.low", sku=sku)
    return {"reserved": True}


@app.endpoint(idempotent=True)
def release(order: Order) -> None:
    """Puts back what an order had reserved."""
    with closing(opened()) as db, db:
        db.execute("BEGIN IMMEDIATE")
        for sku, count in lines_of(db, order.order):
            db.execute("UPDATE levels SET level = level + ? WHERE sku = ?", (count, sku))
        db.execute("DELETE FROM reserved WHERE order_id = ?", (order.order,))


def lines_of(db: sqlite3.Connection, order: str) -> list:
    """What an order has reserved."""
    return db.execute("SELECT sku, count FROM reserved WHERE order_id = ?", (order,)).fetchall()


def prepare() -> None:
    """Makes the tables where they are missing; one instance after the other, for WAL waits for nobody."""
    with open(Path(os.environ.get("SERIN_DATA", "."), "stock.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with closing(opened()) as db:
            db.executescript(SCHEMA)


if __name__ == "__main__":
    prepare()
    app.run()
