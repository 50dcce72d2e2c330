//! What a client is told when no service answers: a page for browsers, JSON for programs.
//!
//! Each refusal has a status, a code with a line in `docs/errors.md`, and one sentence that says what
//! to do. Text of the request never becomes markup: the page shows escaped text only.

use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use pulldown_cmark_escape::escape_html;
use serde_json::json;
use serin_wire::call;

/// Why a request is not passed on, or its answer not passed back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No service has this path; these are there.
    NoPath { path: String, services: Vec<String> },
    /// The service has no instance that answers.
    NoInstance { service: String, why: NoInstance },
    /// The answer did not come in time.
    TooLate { service: String, after: Duration },
    /// The instance ended after the request was sent.
    BrokeOff {
        service: String,
        instance: String,
        not_again: NotAgain,
    },
    /// What came back is no answer.
    BadAnswer {
        service: String,
        instance: String,
        what: &'static str,
    },
    /// The service answered with an error of its own.
    Failed {
        service: String,
        code: u16,
        message: String,
    },
    /// The body is longer than the service or the bus takes.
    TooLarge { most: usize },
    /// The body did not come in time.
    BodyTooSlow,
    /// The body ended too early.
    BodyBroken,
    /// Too many bodies are held at this moment.
    Full,
    /// Likewise, when the answer came: the request has run.
    NoRoom { service: String, instance: String },
    /// A method that means something else to a gateway.
    Method,
}

/// Why a request whose answer is lost is not sent to another instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotAgain {
    /// It may have run, and may not run twice.
    MayHaveRun,
    /// It was, and that one ended too.
    WasAlready,
    /// Its body was passed on as it came, and is gone.
    BodyGone,
    /// There is no other.
    NoOther,
}

/// Why there is no instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoInstance {
    /// Somebody stopped the service.
    Stopped,
    /// Its newest version never got ready.
    Failed,
    /// None is running yet.
    None,
    /// Those that run did not take it.
    Unreachable,
    /// Those that run have enough to do.
    Busy,
    /// The bus is away.
    NoBus,
}

impl NoInstance {
    /// Whether there may be one in a moment, without anybody doing something.
    pub(crate) fn is_passing(self) -> bool {
        !matches!(self, NoInstance::Stopped | NoInstance::Failed)
    }
}

impl Refusal {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Refusal::NoPath { .. } => StatusCode::NOT_FOUND,
            Refusal::NoInstance { .. } | Refusal::Full => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::TooLate { .. } => StatusCode::GATEWAY_TIMEOUT,
            Refusal::BrokeOff { .. } | Refusal::BadAnswer { .. } | Refusal::NoRoom { .. } => {
                StatusCode::BAD_GATEWAY
            }
            Refusal::Failed { code, .. } => StatusCode::from_u16(call::web_status(*code))
                .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            Refusal::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            Refusal::BodyBroken => StatusCode::BAD_REQUEST,
            Refusal::Method => StatusCode::METHOD_NOT_ALLOWED,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Refusal::NoPath { .. } => "SER-GATE-001",
            Refusal::NoInstance { .. } => "SER-GATE-002",
            Refusal::TooLate { .. } => "SER-GATE-003",
            Refusal::BrokeOff { .. } => "SER-GATE-004",
            Refusal::BadAnswer { .. } => "SER-GATE-005",
            Refusal::Failed { .. } => "SER-GATE-006",
            Refusal::TooLarge { .. } => "SER-GATE-007",
            Refusal::BodyTooSlow | Refusal::BodyBroken => "SER-GATE-008",
            Refusal::Full => "SER-GATE-009",
            Refusal::Method => "SER-GATE-010",
            Refusal::NoRoom { .. } => "SER-GATE-011",
        }
    }

    fn message(&self) -> String {
        match self {
            Refusal::NoPath { path, services } if services.is_empty() => {
                format!("no service has the path {path:?}, and no web service is deployed yet")
            }
            Refusal::NoPath { path, .. } => format!("no service has the path {path:?}"),
            Refusal::NoInstance { service, why } => {
                let why = match why {
                    NoInstance::Stopped => {
                        return format!(
                            "{service:?} is stopped; `serin deploy {service}` starts it"
                        );
                    }
                    NoInstance::Failed => {
                        return format!(
                            "{service:?} does not run, its last version did not get ready; \
                             `serin logs {service}` shows why, `serin deploy {service}` tries again"
                        );
                    }
                    NoInstance::None => "none is running",
                    NoInstance::Unreachable => "those that run do not answer",
                    NoInstance::Busy => "those that run have as many requests as they take",
                    NoInstance::NoBus => "the bus is away",
                };
                format!("no instance of {service:?} takes requests: {why}; try again in a moment")
            }
            Refusal::TooLate { service, after } => {
                let seconds = after.as_secs_f64();
                format!("{service:?} did not answer within {seconds} s; it may still be at work")
            }
            Refusal::BrokeOff {
                service,
                instance,
                not_again,
            } => {
                let then = match not_again {
                    NotAgain::MayHaveRun => "the request may have run, so it was not sent again",
                    NotAgain::WasAlready => {
                        "the request was sent to another one before, which ended too; it may have run"
                    }
                    NotAgain::BodyGone => {
                        "the request may have run, and its body is too long to be kept and sent again"
                    }
                    NotAgain::NoOther => "the request may have run, and no other could be asked",
                };
                format!("{instance:?} of {service:?} ended before it answered; {then}")
            }
            Refusal::BadAnswer {
                service,
                instance,
                what,
            } => format!("{instance:?} of {service:?} answered {what}"),
            Refusal::Failed {
                service, message, ..
            } => format!("{service:?} failed: {message}"),
            Refusal::TooLarge { most } => {
                format!("the request is larger than {most} bytes, the `body_max` of its service")
            }
            Refusal::BodyTooSlow => "the body of the request came too slowly; send it again".into(),
            Refusal::BodyBroken => "the body of the request ended too early; send it again".into(),
            Refusal::Full => {
                "the gateway holds as many bodies as it may; try again in a moment".into()
            }
            Refusal::NoRoom { service, instance } => format!(
                "{instance:?} of {service:?} answered, but the gateway holds as many bodies as it may; \
                 the request has run, so it was not sent again"
            ),
            Refusal::Method => "this method is for proxies, which the gateway is not".into(),
        }
    }

    /// Why a lost answer is not asked for once more.
    pub(crate) fn because(mut self, why: NotAgain) -> Refusal {
        if let Refusal::BrokeOff { not_again, .. } = &mut self {
            *not_again = why;
        }
        self
    }

    /// Whether the client is told when to come again.
    fn is_passing(&self) -> bool {
        match self {
            Refusal::NoInstance { why, .. } => why.is_passing(),
            Refusal::Full => true,
            _ => false,
        }
    }

    /// The answer: a page where the client reads pages.
    pub(crate) fn response(&self, wants_page: bool) -> Response<Full<Bytes>> {
        let (kind, body) = if wants_page {
            ("text/html; charset=utf-8", self.page())
        } else {
            ("application/json", self.json())
        };
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        let fixed = [
            (header::CACHE_CONTROL, "no-store"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (
                header::CONTENT_SECURITY_POLICY,
                "default-src 'none'; style-src 'unsafe-inline'; img-src data:",
            ),
        ];
        for (name, value) in fixed {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if self.is_passing() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }

    fn json(&self) -> String {
        let mut body = json!({"error": self.message(), "code": self.code()});
        if let Refusal::NoPath { services, .. } = self {
            body["services"] = json!(services);
        }
        format!("{body}\n")
    }

    fn page(&self) -> String {
        let status = self.status();
        let title = status.canonical_reason().unwrap_or("Error");
        let mut links = String::new();
        if let Refusal::NoPath { services, .. } = self
            && !services.is_empty()
        {
            links.push_str("<p>These are there:</p><ul>");
            for path in services.iter().map(|path| escaped(path)) {
                write!(links, "<li><a href=\"{path}\">{path}</a></li>")
                    .expect("writing to a String never fails");
            }
            links.push_str("</ul>");
        }
        if self.is_passing() {
            links.push_str("<p><a href=\"\">Try again</a></p>");
        }
        format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <title>{number} {title}</title>\
             <link rel=\"icon\" href=\"data:image/svg+xml,{ICON}\"><style>{STYLE}</style>\
             <main><p class=\"status\">{number}</p><h1>{title}</h1><p>{message}</p>{links}\
             <footer>The gateway of Serin · <code>{code}</code></footer></main>\n",
            number = status.as_u16(),
            message = marked(&escaped(&sentence(&self.message()))),
            code = self.code(),
        )
    }
}

/// The bird, as an address: without it browsers ask the services for one.
const ICON: &str = "%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'%3E\
    %3Crect width='32' height='32' rx='8' fill='%2320312a'/%3E\
    %3Cpath fill='%23f2c230' d='M5 21c5.500 1 8-1.500 9.500-6C15.800 11 18.200 8.500 22 8.500c2 0 3.300.9 \
    4 2.300l2.500 1-2.500 1.400C25.500 20 21 24.500 14 24.500c-4 0-7-1.300-9-3.500z'/%3E\
    %3Ccircle cx='22.300' cy='11.800' r='1.250' fill='%2320312a'/%3E%3C/svg%3E";

/// The colours of the application, so that one knows where one is.
const STYLE: &str = ":root{color-scheme:light dark;\
    font:16px/1.6 system-ui,sans-serif;color:light-dark(#1b2027,#e7eaee);background:light-dark(#f4f6f8,#0f1216)}\
    body{margin:14vh auto 0;max-width:36rem;padding:0 1.25rem;overflow-wrap:anywhere}\
    h1{font-size:1.6rem;line-height:1.25;letter-spacing:-.02em;margin:0 0 .5rem}p,ul{margin:0 0 1rem}\
    .status{margin:0;font-weight:600;font-variant-numeric:tabular-nums}\
    .status,footer{color:light-dark(#5b6572,#9aa4b0)}a{color:light-dark(#0b6b4f,#57cfa5)}\
    footer{margin-top:2rem;padding-top:.75rem;border-top:1px solid light-dark(#dde2e8,#2a313a);font-size:.875rem}";

/// With a capital and a full stop, as a page has it.
fn sentence(message: &str) -> String {
    let mut chars = message.chars();
    let first = chars.next().map(char::to_uppercase);
    let first: String = first.into_iter().flatten().collect();
    format!("{first}{}.", chars.as_str())
}

/// Escaped text in which commands, which stand between backticks, look like commands.
fn marked(escaped: &str) -> String {
    let mut parts = escaped.split('`');
    let mut page = parts.next().unwrap_or_default().to_owned();
    while let (Some(command), Some(text)) = (parts.next(), parts.next()) {
        write!(page, "<code>{command}</code>{text}").expect("writing to a String never fails");
    }
    page
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    escape_html(&mut safe, text).expect("writing to a String never fails");
    safe
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn text_of_a_request_is_never_markup() {
        let refusal = Refusal::NoPath {
            path: "/<script>alert('x')</script>".into(),
            services: vec!["/cart".into()],
        };
        let page = refusal.page();
        assert!(!page.contains("<script"), "{page}");
        assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)"), "{page}");
        assert!(page.contains("<a href=\"/cart\">"), "{page}");
    }

    #[test]
    fn a_program_is_told_the_same_as_json() {
        let refusal = Refusal::NoInstance {
            service: "cart".into(),
            why: NoInstance::Busy,
        };
        expect![[r#"
            {"code":"SER-GATE-002","error":"no instance of \"cart\" takes requests: those that run have as many requests as they take; try again in a moment"}
        "#]]
        .assert_eq(&refusal.json());
        let response = refusal.response(false);
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    }

    #[test]
    fn the_page_of_a_stopped_service_says_how_to_start_it() {
        let refusal = Refusal::NoInstance {
            service: "cart".into(),
            why: NoInstance::Stopped,
        };
        let page = refusal.page();
        let says = "<p>&quot;cart&quot; is stopped; <code>serin deploy cart</code> starts it.</p>";
        assert!(page.contains(says), "{page}");
        assert!(!page.contains("Try again"), "{page}");
        let response = refusal.response(true);
        assert!(!response.headers().contains_key(header::RETRY_AFTER));
    }
}
