//! Web requests over the bus: the endpoint `http`, whose answers may come in chunks.
//!
//! Method and target travel in `serin-http`, HTTP headers under the prefix `h-`, the body as it is.
//! Each chunk of an answer but the last says `serin-http-more`. Only shapes here, no waiting.

use std::fmt;
use std::str::FromStr;

use async_nats::HeaderMap;
use async_nats::header::{HeaderName, HeaderValue};
use bytes::Bytes;
use futures::stream::{BoxStream, Stream, StreamExt};
use serde::Serialize;
use serin_wire::call;

use crate::call::read;
use crate::serve::failure::Failure;

/// A larger body goes in chunks of this, below NATS's default of 1 MiB per message with headers.
pub(crate) const CHUNK_BYTES: usize = 512 << 10;

/// What a visitor reads of an error that the service did not mean for them.
const FAULT_PAGE: &str = "the service failed; what went wrong is in its trace";

/// An HTTP request as the gateway passed it on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebRequest {
    /// `GET`.
    pub method: String,
    /// The path, decoded, without the prefix the service is mounted at; begins with `/`.
    pub path: String,
    /// The path as it came.
    pub raw_path: String,
    /// What follows the `?`, not decoded; empty where there is none.
    pub query: String,
    /// Lower-case names with their values; repeated headers repeat.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

/// An HTTP answer.
pub struct WebResponse {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: WebBody,
}

pub(crate) enum WebBody {
    Whole(Bytes),
    Chunks(Chunks),
}

pub(crate) type Chunks = BoxStream<'static, Result<Bytes, Failure>>;

impl WebRequest {
    /// The first header of this lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The last value of this name in the query, decoded.
    pub fn query_value(&self, name: &str) -> Option<String> {
        let named = query_pairs(&self.query).filter(|(known, _)| known == name);
        named.last().map(|(_, value)| value)
    }

    pub(crate) fn read(headers: &HeaderMap, body: Bytes) -> Result<WebRequest, Failure> {
        let line = read(headers, call::WEB_REQUEST).unwrap_or_default();
        let (method, target) = line.split_once(' ').ok_or_else(|| {
            let wanted = format!(
                "the header {} must be a method and a target",
                call::WEB_REQUEST
            );
            Failure::new(call::CODE_BAD_REQUEST, wanted)
        })?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut fields = Vec::new();
        for (name, values) in headers.iter() {
            let name: &str = name.as_ref();
            if let Some(name) = name.strip_prefix(call::WEB_HEADER_PREFIX) {
                let value = |value: &HeaderValue| (name.to_owned(), value.as_str().to_owned());
                fields.extend(values.iter().map(value));
            }
        }
        fields.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(WebRequest {
            method: method.to_owned(),
            path: decoded(path),
            raw_path: path.to_owned(),
            query: query.to_owned(),
            headers: fields,
            body,
        })
    }
}

impl WebResponse {
    /// An answer with this status and no body.
    pub fn new(status: u16) -> WebResponse {
        WebResponse {
            status,
            headers: Vec::new(),
            body: WebBody::Whole(Bytes::new()),
        }
    }

    /// Plain text, status 200.
    pub fn text(text: impl Into<String>) -> WebResponse {
        let response = WebResponse::new(200).header("content-type", "text/plain; charset=utf-8");
        response.body(text.into())
    }

    /// A page, status 200.
    pub fn html(page: impl Into<String>) -> WebResponse {
        let response = WebResponse::new(200).header("content-type", "text/html; charset=utf-8");
        response.body(page.into())
    }

    /// Sends the visitor elsewhere, as after a form, with status 303. `items/7` is below the page they are
    /// at; a path from the root begins with where the service is mounted, which the header
    /// `x-forwarded-prefix` says.
    pub fn redirect(location: &str) -> WebResponse {
        WebResponse::new(303).header("location", &encoded(location))
    }

    /// A value as JSON, status 200.
    pub fn json(value: &(impl Serialize + ?Sized)) -> Result<WebResponse, Failure> {
        let body = serde_json::to_vec(value)?;
        let response = WebResponse::new(200).header("content-type", "application/json");
        Ok(response.body(body))
    }

    /// Takes another status.
    pub fn status(mut self, status: u16) -> WebResponse {
        self.status = status;
        self
    }

    /// Adds a header. One that cannot travel is left out, and told in the log.
    pub fn header(mut self, name: &str, value: &str) -> WebResponse {
        let name = format!("{}{}", call::WEB_HEADER_PREFIX, name.to_ascii_lowercase());
        match (HeaderName::from_str(&name), HeaderValue::from_str(value)) {
            (Ok(name), Ok(value)) => self.headers.push((name, value)),
            _ => tracing::warn!(name, "left out a header that NATS cannot carry"),
        }
        self
    }

    /// Says which pattern the path matched, `/items/{id}`: requests are counted by it. Without it they are
    /// by the words of the path.
    pub fn pattern(mut self, pattern: &str) -> WebResponse {
        match HeaderValue::from_str(pattern) {
            Ok(value) => self
                .headers
                .push((HeaderName::from_static(call::WEB_PATTERN), value)),
            Err(_) => tracing::warn!(pattern, "left out a pattern that NATS cannot carry"),
        }
        self
    }

    /// Takes this body.
    pub fn body(mut self, body: impl Into<Bytes>) -> WebResponse {
        self.body = WebBody::Whole(body.into());
        self
    }

    /// Sends the body chunk by chunk, as they come. A failure breaks the answer off. Where nobody reads
    /// any more, since the visitor left, the stream is dropped.
    pub fn stream(
        mut self,
        chunks: impl Stream<Item = Result<Bytes, Failure>> + Send + 'static,
    ) -> WebResponse {
        self.body = WebBody::Chunks(chunks.boxed());
        self
    }

    /// The page for a failure.
    pub(crate) fn of(failure: &Failure) -> WebResponse {
        let page = if failure.is_fault {
            FAULT_PAGE
        } else {
            failure.message.as_str()
        };
        WebResponse::text(page).status(call::web_status(failure.code))
    }

    /// Status and headers, as they travel with the first chunk.
    pub(crate) fn head(&self, headers: &mut HeaderMap) {
        headers.insert(call::WEB_STATUS, self.status.to_string());
        for (name, value) in &self.headers {
            headers.append(name.clone(), value.clone());
        }
    }
}

/// The names and values of a query such as `a=1&b=two+words`, decoded.
pub fn query_pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let text = |text: &str| decoded(&text.replace('+', " "));
        (text(name), text(value))
    })
}

/// What a header cannot carry is percent-encoded, so that a value from outside adds no header of its own.
fn encoded(location: &str) -> String {
    let bytes = location.bytes().map(|byte| match byte.is_ascii_graphic() {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    bytes.collect()
}

/// Percent-decoded; what is no UTF-8 is replaced.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let escaped = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (byte, escaped) {
            (b'%', Some(escaped)) => {
                bytes.push(escaped);
                rest = &after[2..];
                continue;
            }
            (byte, _) => bytes.push(byte),
        }
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A body as pieces that fit a message; one at least.
pub(crate) fn pieces(body: &Bytes) -> impl Iterator<Item = Bytes> {
    let starts = (0..body.len().max(1)).step_by(CHUNK_BYTES);
    starts.map(|at| body.slice(at..body.len().min(at + CHUNK_BYTES)))
}

impl fmt::Debug for WebResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("WebResponse");
        shown.field("status", &self.status).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_cut_into_pieces() {
        let cut = |len: usize| -> Vec<usize> {
            let body = Bytes::from(vec![0; len]);
            pieces(&body).map(|piece| piece.len()).collect()
        };
        assert_eq!(cut(0), [0]);
        assert_eq!(cut(CHUNK_BYTES), [CHUNK_BYTES]);
        assert_eq!(cut(CHUNK_BYTES + 1), [CHUNK_BYTES, 1]);
    }

    #[test]
    fn a_query_is_decoded_and_its_last_value_counts() {
        let mut headers = HeaderMap::new();
        let line = "GET /?name=Bo&x&name=%3CAda%3E+%26+%C3%A9%zz%ff";
        headers.insert(call::WEB_REQUEST, line);
        let request = WebRequest::read(&headers, Bytes::new()).expect("a request");
        let name = request.query_value("name");
        assert_eq!(name.as_deref(), Some("<Ada> & é%zz\u{fffd}"));
        assert_eq!(request.query_value("x").as_deref(), Some(""));
        assert_eq!(request.query_value("y"), None);
    }

    #[test]
    fn a_request_is_read_from_its_headers() {
        let mut headers = HeaderMap::new();
        headers.insert(call::WEB_REQUEST, "GET /items?page=2");
        headers.append("h-accept", "a");
        headers.append("h-accept", "b");
        let request = WebRequest::read(&headers, Bytes::new()).expect("a request");
        assert_eq!((&*request.path, &*request.query), ("/items", "page=2"));
        assert_eq!(request.header("accept"), Some("a"));
        assert_eq!(request.headers.len(), 2);
        assert!(WebRequest::read(&HeaderMap::new(), Bytes::new()).is_err());
    }
}
