"""Takes orders: a chain of four stages, and what follows from how it ends."""

import asyncio
import secrets
import time
from dataclasses import dataclass

import serin

app = serin.service(description="takes orders")

ORDER = serin.Chain(
    "order",
    serin.Stage("cart.contents", timeout=1.0),
    serin.Stage("price.basket", "stock.reserve", timeout=1.0),
    serin.Stage("tax.order", timeout=1.0),
    serin.Stage("payment.charge", timeout=3.0),
)


@dataclass
class Order:
    visitor: str
    country: str
    card: str


@app.endpoint
async def place(order: Order) -> dict:
    """Takes the order of a visitor's cart; says how it ended."""
    number = f"S-{secrets.token_hex(4)}"
    asked = {"order": number, "visitor": order.visitor, "country": order.country}
    app.emit("order.placed", asked)
    began = time.monotonic()
    try:
        done = await app.chain(ORDER, {**asked, "card": order.card})
        outcome, data = done.data["payment"]["status"], done.data
    except serin.ChainError as error:
        outcome, data = outcome_of(error), {}
    took_ms = (time.monotonic() - began) * 1000
    app.emit("checkout.done", asked, outcome=outcome, chain_ms=took_ms)
    if outcome == "paid":
        await ship(asked, data)
    else:
        await app.call("stock", "release", {"order": number})
    return {"order": number, "outcome": outcome, "gross": data.get("gross")}


def outcome_of(error: serin.ChainError) -> str:
    """Which step stopped the order, in a word; the page has the sentences."""
    failed = [hop.enhancer for hop in error.hops if hop.status != "ok"]
    if failed and failed[0] == "cart.contents":
        return "empty"
    return "sold_out" if "stock.reserve" in failed else "failed"


async def ship(asked: dict, data: dict) -> None:
    """What is done once an order is paid. The order stands even where one of these fails."""
    steps = {
        "cart.clear": {"visitor": asked["visitor"]},
        "mail.receipt": {**asked, "gross": data["gross"]},
        "recommendation.learn": {"skus": [line["sku"] for line in data["lines"]]},
    }
    calls = [app.call(*step.split("."), body, timeout=2.0) for step, body in steps.items()]
    for step, answer in zip(steps, await asyncio.gather(*calls, return_exceptions=True)):
        if isinstance(answer, Exception):
            print(f"{step} of {asked['order']} failed: {answer}")


if __name__ == "__main__":
    app.run()
