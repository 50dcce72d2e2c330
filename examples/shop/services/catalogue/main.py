"""What the shop sells: items by their number, from a file beside this one."""

import json
from dataclasses import dataclass
from pathlib import Path

import serin

FILE = Path(__file__).with_name("items.json")
ITEMS = {item["sku"]: item for item in json.loads(FILE.read_text("utf-8"))}

app = serin.service(description="what the shop sells")


@dataclass
class Sku:
    sku: str


@app.endpoint("list", idempotent=True)
def all_items() -> list:
    return list(ITEMS.values())


@app.endpoint(idempotent=True)
def check(of: Sku) -> dict:
    """The item of a number, or an error that says that there is none."""
    if of.sku not in ITEMS:
        raise serin.CallError(404, f"nothing is sold as {of.sku}")
    return ITEMS[of.sku]


@app.endpoint(idempotent=True)
def item(packet: serin.Packet) -> dict:
    """Enhances a page with its item; without one there is no page."""
    return {"item": check(Sku(packet.data["sku"]))}


@app.endpoint(idempotent=True)
def cards(packet: serin.Packet) -> dict:
    """Enhances a page with the items that a service before has named."""
    return {"related": [ITEMS[sku] for sku in packet.data.get("also", []) if sku in ITEMS]}


if __name__ == "__main__":
    app.run()
