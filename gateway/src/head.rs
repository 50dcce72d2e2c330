//! Headers on their way through: what is taken off, what is put on, what is read.
//!
//! Values in, values out. What belongs to one connection stays on it; what a client claims about
//! where it comes from is not believed, unless it is a proxy on this machine and that was asked
//! for; names of ours come from us alone. Start at [`to_service`].

use std::net::SocketAddr;

use hyper::HeaderMap;
use hyper::header::{self, HeaderName, HeaderValue};
use serin_wire::event::Trace;
use serin_wire::{Route, call, request};

use crate::table::Sticky;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const TRACEPARENT: HeaderName = HeaderName::from_static(call::TRACEPARENT);
const TRACESTATE: HeaderName = HeaderName::from_static(call::TRACESTATE);
const ARM: HeaderName = HeaderName::from_static(call::ARM);
/// Ours begin so.
const OWN: &str = "serin-";
/// What a client may claim about where it comes from.
const CLAIMS: [&str; 4] = ["forwarded", "x-real-ip", "via", "x-forwarded-"];
/// Of one connection, whether `connection` names them or not: RFC 9110, 7.6.1.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// A longer key is none: it would only be hashed, but also be a way to make us hash a lot.
const KEY_BYTES_MAX: usize = 256;

/// Who asks, as the connection shows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    pub(crate) address: SocketAddr,
    /// Whether a proxy on this machine is believed.
    pub(crate) trusts_loopback: bool,
}

/// Makes a client's headers those for a service.
pub(crate) fn to_service(headers: &mut HeaderMap, caller: Caller, prefix: &str, trace: Trace) {
    take_off_hop_by_hop(headers);
    headers.remove(header::EXPECT);
    let address = caller.address.ip().to_canonical();
    let is_trusted = caller.trusts_loopback && address.is_loopback();
    let is_false = |name: &HeaderName| {
        let claims = || CLAIMS.iter().any(|claim| name.as_str().starts_with(claim));
        name.as_str().starts_with(OWN) || (!is_trusted && claims())
    };
    let false_ones: Vec<_> = headers
        .keys()
        .filter(|name| is_false(name))
        .cloned()
        .collect();
    for name in false_ones {
        headers.remove(name);
    }
    let before = joined(headers, &FORWARDED_FOR);
    let chain = match before.is_empty() {
        true => address.to_string(),
        false => format!("{before}, {address}"),
    };
    set(headers, FORWARDED_FOR, &chain);
    if !headers.contains_key(FORWARDED_PROTO) {
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
    if let (false, Some(host)) = (
        headers.contains_key(FORWARDED_HOST),
        headers.get(header::HOST).cloned(),
    ) {
        headers.insert(FORWARDED_HOST, host);
    }
    match prefix.trim_end_matches('/') {
        "" => {}
        prefix => set(headers, FORWARDED_PREFIX, prefix),
    }
    // Without a trace of the client's there is nothing that its state may speak of.
    let state = match self::trace(headers) {
        Some(_) => joined(headers, &TRACESTATE),
        None => String::new(),
    };
    set(
        headers,
        TRACESTATE,
        &request::tell_on(&state, trace.span_id),
    );
    set(headers, TRACEPARENT, &trace.to_traceparent());
}

/// Sets the version under trial that a request goes to, or takes it off again.
pub(crate) fn set_arm(headers: &mut HeaderMap, arm: Option<&str>) {
    match arm {
        Some(arm) => set(headers, ARM, arm),
        None => drop(headers.remove(ARM)),
    }
}

/// The arm of a request: its service and version, where the service has a trial.
pub(crate) fn arm_of(service: &str, version: &str, route: &Route) -> Option<String> {
    route.has_trial().then(|| format!("{service}={version}"))
}

/// Takes off what belongs to one connection alone.
pub(crate) fn take_off_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = words(headers, &header::CONNECTION)
        .filter_map(|name| name.parse().ok())
        // Naming these would take from the service what it needs to know.
        .filter(|name| *name != header::HOST && *name != header::CONTENT_LENGTH)
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// The protocol that both ends of a connection want to go on with, `websocket`.
pub(crate) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut wishes = words(headers, &header::CONNECTION);
    let is_wished = wishes.any(|word| word.eq_ignore_ascii_case("upgrade"));
    is_wished.then(|| headers.get(header::UPGRADE).cloned())?
}

/// Asks for the protocol, or says yes to it.
pub(crate) fn set_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, protocol);
}

/// The trace a client is in.
pub(crate) fn trace(headers: &HeaderMap) -> Option<Trace> {
    Trace::parse(headers.get(TRACEPARENT)?.to_str().ok()?)
}

/// What a visitor's version depends on, where the visitor has it.
pub(crate) fn key(headers: &HeaderMap, sticky: &Sticky) -> Option<String> {
    let key = match sticky {
        Sticky::Header(name) => headers.get(name.as_str())?.to_str().ok()?,
        Sticky::Cookie(name) => headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .find_map(|pair| {
                let (found, value) = pair.trim().split_once('=')?;
                (found == name).then_some(value)
            })?,
    };
    (1..=KEY_BYTES_MAX)
        .contains(&key.len())
        .then(|| key.to_owned())
}

/// Gives a visitor the cookie that keeps the version.
pub(crate) fn set_cookie(headers: &mut HeaderMap, name: &str, key: &str, prefix: &str) {
    let path = match prefix.trim_end_matches('/') {
        "" => "/",
        path => path,
    };
    let cookie = format!("{name}={key}; Path={path}; Max-Age=31536000; HttpOnly; SameSite=Lax");
    if let Ok(cookie) = HeaderValue::try_from(cookie) {
        headers.append(header::SET_COOKIE, cookie);
    }
}

/// Whether an answer goes on for as long as somebody listens.
pub(crate) fn is_event_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}

/// Whether the client would rather read a page than JSON.
pub(crate) fn wants_page(headers: &HeaderMap) -> bool {
    let wishes = joined(headers, &header::ACCEPT);
    wishes.contains("text/html")
}

fn words<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).map(str::trim)
}

fn joined(headers: &HeaderMap, name: &HeaderName) -> String {
    words(headers, name).collect::<Vec<_>>().join(", ")
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn check(client: &str, trusts_loopback: bool, service: Expect) {
        let mut headers = HeaderMap::new();
        for line in client.lines().map(str::trim) {
            let (name, value) = line.split_once(": ").expect("a header");
            let name: HeaderName = name.parse().expect("a name");
            headers.append(name, value.parse().expect("a value"));
        }
        let caller = Caller {
            address: "127.0.0.1:4711".parse().expect("an address"),
            trusts_loopback,
        };
        let trace = Trace::parse(PARENT).expect("valid");
        to_service(&mut headers, caller, "/cart", trace);
        let mut lines: Vec<_> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}\n", value.to_str().expect("text")))
            .collect();
        lines.sort();
        service.assert_eq(&lines.concat());
    }

    #[test]
    fn what_belongs_to_one_connection_stays_on_it() {
        let client = "Host: shop.example\nConnection: keep-alive, X-Once, Host\nX-Once: 1\n\
            Keep-Alive: timeout=5\nTE: trailers\nUpgrade: h2c\nProxy-Authorization: x\n\
            Accept: */*\nExpect: 100-continue\nTracestate: a=1";
        let service = expect![[r#"
            accept: */*
            host: shop.example
            traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
            tracestate: serin=00f067aa0ba902b7
            x-forwarded-for: 127.0.0.1
            x-forwarded-host: shop.example
            x-forwarded-prefix: /cart
            x-forwarded-proto: http
        "#]];
        check(client, false, service);
    }

    #[test]
    fn claims_are_believed_from_this_machine_alone_and_only_if_asked_for() {
        let client = "Host: inside\nForwarded: for=9.9.9.9\nX-Forwarded-For: 9.9.9.9\n\
            X-Forwarded-Proto: https\nX-Forwarded-Host: shop.example\nX-Real-IP: 9.9.9.9\n\
            Serin-Arm: cart=v9\nSerin-From: pay\n\
            Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b1-01\nTracestate: a=1,serin=0";
        let own = expect![[r#"
            host: inside
            traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
            tracestate: serin=00f067aa0ba902b7,a=1
            x-forwarded-for: 127.0.0.1
            x-forwarded-host: inside
            x-forwarded-prefix: /cart
            x-forwarded-proto: http
        "#]];
        check(client, false, own);
        let believed = expect![[r#"
            forwarded: for=9.9.9.9
            host: inside
            traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
            tracestate: serin=00f067aa0ba902b7,a=1
            x-forwarded-for: 9.9.9.9, 127.0.0.1
            x-forwarded-host: shop.example
            x-forwarded-prefix: /cart
            x-forwarded-proto: https
            x-real-ip: 9.9.9.9
        "#]];
        check(client, true, believed);
    }

    #[test]
    fn a_key_is_found_among_cookies() {
        let mut headers = HeaderMap::new();
        let cookie = Sticky::Cookie("who".into());
        assert_eq!(key(&headers, &cookie), None);
        headers.append(header::COOKIE, "a=1; whoso=2".parse().expect("a value"));
        headers.append(header::COOKIE, "b=3;who=ada=1".parse().expect("a value"));
        assert_eq!(key(&headers, &cookie).as_deref(), Some("ada=1"));
        let long = "x".repeat(KEY_BYTES_MAX + 1);
        headers.insert("x-user", long.parse().expect("a value"));
        assert_eq!(key(&headers, &Sticky::Header("x-user".into())), None);
    }
}
