"""The service %NAME%: %WHAT%."""

%WEB%from html import escape
%WEB%
import serin

app = serin.service()


def greeting(name: str) -> str:
    app.emit("%NAME%.greeted", name=name)
    return f"Hello, {name}!"


%WEB%@app.web
%WEB%def page(request: serin.WebRequest) -> serin.Response:
%WEB%    return serin.html(escape(greeting(request.query.get("name", "world"))))
%WEB%
%WEB%
@app.endpoint
def greet(data: dict) -> dict:
    return {"text": greeting(data.get("name", "world"))}


if __name__ == "__main__":
    app.run()
