"""A program without asyncio: the same words, waiting."""

from serin import sync as serin


def main() -> None:
    with serin.connect() as app:
        with app.request(), app.span("import", source="list"):
            for row in range(1000):
                app.emit("row.read", number=row)
        app.flush(timeout=10)
        print(app.counts())


if __name__ == "__main__":
    main()
