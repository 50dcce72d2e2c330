//! The service %NAME%: %WHAT%.

use serde::{Deserialize, Serialize};
%WEB%use serin_sdk::{Event, Failure, Incoming, Serin, WebRequest, WebResponse};
%BUS%use serin_sdk::{Event, Failure, Incoming, Serin};

/// Somebody was greeted.
#[derive(Serialize, Event)]
#[event("%NAME%.greeted")]
struct Greeted<'a> {
    name: &'a str,
}

#[derive(Deserialize)]
struct Greet {
    name: Option<String>,
}

#[derive(Serialize)]
struct Greeting {
    text: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let serin = Serin::from_env()?;
    serin
        .service()
%WEB%        .web(page)
        .endpoint("greet", greet)
        .run()
        .await?;
    Ok(())
}

%WEB%async fn page(call: Incoming, request: WebRequest) -> Result<WebResponse, Failure> {
%WEB%    let name = request.query_value("name");
%WEB%    let greeting = greeting(&call, name.as_deref());
%WEB%    Ok(WebResponse::html(escaped(&greeting.text)))
%WEB%}
%WEB%
async fn greet(call: Incoming, asked: Greet) -> Result<Greeting, Failure> {
    Ok(greeting(&call, asked.name.as_deref()))
}

/// Greets somebody, and says so.
fn greeting(call: &Incoming, name: Option<&str>) -> Greeting {
    let name = name.unwrap_or("world");
    call.serin().emit_event(&Greeted { name });
    Greeting { text: text(name) }
}

fn text(name: &str) -> String {
    format!("Hello, {name}!")
}
%WEB%
%WEB%/// Text as it may stand in a page.
%WEB%fn escaped(text: &str) -> String {
%WEB%    let text = text.replace('&', "&amp;").replace('"', "&quot;");
%WEB%    text.replace('<', "&lt;").replace('>', "&gt;")
%WEB%}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_greeted() {
        assert_eq!(text("Ada"), "Hello, Ada!");
    }
%WEB%
%WEB%    #[test]
%WEB%    fn a_name_is_no_markup() {
%WEB%        assert_eq!(escaped(&text("<Ada>")), "Hello, &lt;Ada&gt;!");
%WEB%    }
}
