"""Endpoints with typed bodies, a call, a typed event and a gauge."""

from dataclasses import dataclass
from typing import Any, Dict

import serin

app = serin.service(description="what people are about to buy")
carts: Dict[str, Dict[str, int]] = {}


@dataclass
class Item:
    cart: str
    sku: str
    count: int = 1


@serin.event("cart.add")
@dataclass
class CartAdd:
    cart: str
    sku: str
    count: int


@app.endpoint
async def add(item: Item) -> Dict[str, Any]:
    price = await app.call("price", "quote", {"sku": item.sku}, timeout=0.5, idempotent=True)
    cart = carts.setdefault(item.cart, {})
    cart[item.sku] = cart.get(item.sku, 0) + item.count
    app.emit_event(CartAdd(item.cart, item.sku, item.count))
    return {"count": cart[item.sku], "net": price["net"] * item.count}


@app.endpoint(idempotent=True)
def show(data: Dict[str, str]) -> Dict[str, int]:
    if data["cart"] not in carts:
        raise serin.CallError(404, f"no cart {data['cart']}")
    return carts[data["cart"]]


if __name__ == "__main__":
    app.gauge("carts.open", lambda: len(carts))
    app.run()
