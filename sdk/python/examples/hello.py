"""The smallest web service: `serin run hello`."""

import serin

app = serin.service()


@app.web
def hello(request: serin.WebRequest) -> str:
    name = request.query.get("name", "world")
    app.emit("greeting.sent", to=name)
    return f"Hello, {name}!"


if __name__ == "__main__":
    app.run()
