"""A product page in ten lines: two stages of enhancers, one of them optional."""

import asyncio

import serin

PAGE = serin.Chain(
    "product-page",
    serin.Stage("catalogue.item", timeout=0.3),
    serin.Stage("price.quote", "stock.level", "reviews.top?", timeout=0.2),
)


async def main() -> None:
    async with serin.connect() as app:
        done = await app.chain(PAGE, {"sku": "a"})
        print(done.data)
        for hop in done.hops:
            print(f"{hop.enhancer:20} {hop.status:7} {hop.total_us / 1000:7.1f} ms")


if __name__ == "__main__":
    asyncio.run(main())
