"""The service %NAME%: a page, and an endpoint on the bus."""

from html import escape

import serin

app = serin.service()


@app.web
def page(request: serin.WebRequest) -> str:
    name = request.query.get("name", "world")
    app.emit("%NAME%.greeted", name=name, path=request.path)
    return f"Hello, {escape(name)}!"


@app.endpoint(idempotent=True)
def greet(data: dict) -> dict:
    return {"text": f"Hello, {data.get('name', 'world')}!"}


if __name__ == "__main__":
    app.run()
