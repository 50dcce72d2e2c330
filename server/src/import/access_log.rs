//! Access logs in the common and the combined format, as Apache and nginx write them.
//!
//! `client ident user [time] "request" status bytes ["referrer" "agent"]`; `-` is null. Of the
//! escapes in quotes only `\"` and `\\` are undone: the others stand for bytes that are no text.

use std::borrow::Cow;
use std::io::BufRead;

use anyhow::Result;
use serin_lake::{Column, ColumnKind};

use super::lines::{each_line, too_long};
use super::records::{Cell, Data, Head, Record, Take};
use super::time;

/// A line, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hit<'a> {
    time_us: i64,
    client: Option<&'a str>,
    user: Option<&'a str>,
    request: Option<Cow<'a, str>>,
    status: Option<i64>,
    bytes: Option<i64>,
    referrer: Option<Cow<'a, str>>,
    agent: Option<Cow<'a, str>>,
}

/// The columns of an access log, in the order of its lines.
pub(crate) fn columns() -> Vec<Column> {
    use ColumnKind::{Int, Text};
    [
        ("client", Text),
        ("user", Text),
        ("method", Text),
        ("path", Text),
        ("protocol", Text),
        ("status", Int),
        ("bytes", Int),
        ("referrer", Text),
        ("agent", Text),
    ]
    .map(|(name, kind)| Column::new(name, kind))
    .to_vec()
}

pub(crate) fn read(mut reader: impl BufRead, take: &mut Take<'_>) -> Result<()> {
    each_line(&mut reader, &mut |number, line| {
        let Some(line) = line else {
            return take(number, Err(too_long()));
        };
        let line = String::from_utf8_lossy(line);
        if line.trim().is_empty() {
            return Ok(());
        }
        match parse(&line) {
            Ok(hit) => take(number, Ok(hit.record())),
            Err(why) => take(number, Err(why.to_owned())),
        }
    })
}

/// Takes a line apart, or says where it differs.
pub(crate) fn parse(line: &str) -> Result<Hit<'_>, &'static str> {
    let (client, rest) = line.split_once(' ').ok_or("no client and time")?;
    let (names, rest) = rest.split_once('[').ok_or("no time in brackets")?;
    let (at, rest) = rest.split_once(']').ok_or("no time in brackets")?;
    let time_us = time::parse_clf(at).ok_or("the time is not like 17/May/2015:10:05:03 +0000")?;
    // The user may have spaces, the identity before it has none.
    let user = names.trim().split_once(' ').map_or("-", |(_, user)| user);
    let (request, rest) = quoted(rest).ok_or("no request in quotes")?;
    let mut words = rest.trim_start().splitn(3, ' ');
    let status = number(words.next()).ok_or("no status after the request")?;
    let bytes = number(words.next()).ok_or("no bytes after the status")?;
    let rest = words.next().unwrap_or_default();
    let (referrer, rest) = quoted(rest).unwrap_or((Cow::Borrowed("-"), rest));
    let (agent, _) = quoted(rest).unwrap_or((Cow::Borrowed("-"), ""));
    let some = |text: Cow<'_, str>| text != "-" && !text.is_empty();
    Ok(Hit {
        time_us,
        client: (client != "-").then_some(client),
        user: (user != "-" && !user.is_empty()).then_some(user),
        request: Some(request).filter(|text| some(text.clone())),
        status,
        bytes,
        referrer: Some(referrer).filter(|text| some(text.clone())),
        agent: Some(agent).filter(|text| some(text.clone())),
    })
}

/// A number, or nothing for `-`; `None` where it is neither.
fn number(word: Option<&str>) -> Option<Option<i64>> {
    match word?.trim_end() {
        "-" => Some(None),
        digits => digits.parse().ok().map(Some),
    }
}

/// The text between the next two quotes, and what follows.
fn quoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let text = text.trim_start().strip_prefix('"')?;
    let mut is_escaped = false;
    let mut has_escapes = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => {
                is_escaped = true;
                has_escapes = true;
            }
            b'"' => {
                let inside = match has_escapes {
                    true => Cow::Owned(unescaped(&text[..at])),
                    false => Cow::Borrowed(&text[..at]),
                };
                return Some((inside, &text[at + 1..]));
            }
            _ => {}
        }
    }
    None
}

fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, chars.clone().next()) {
            ('\\', Some(next @ ('"' | '\\'))) => {
                out.push(next);
                chars.next();
            }
            _ => out.push(c),
        }
    }
    out
}

impl<'a> Hit<'a> {
    fn record(self) -> Record<'a> {
        let (method, path, protocol) = match self.request {
            Some(request) => parts(request),
            None => (None, None, None),
        };
        let text = |value: Option<Cow<'a, str>>| value.map_or(Cell::Null, Cell::Text);
        let number = |value: Option<i64>| value.map_or(Cell::Null, Cell::Int);
        let cells = [
            ("client", text(self.client.map(Cow::Borrowed))),
            ("user", text(self.user.map(Cow::Borrowed))),
            ("method", text(method)),
            ("path", text(path)),
            ("protocol", text(protocol)),
            ("status", number(self.status)),
            ("bytes", number(self.bytes)),
            ("referrer", text(self.referrer)),
            ("agent", text(self.agent)),
        ];
        Record {
            kind: None,
            time_us: Some(self.time_us),
            head: Head::default(),
            data: Data::Cells(
                cells
                    .into_iter()
                    .map(|(name, cell)| (Cow::Borrowed(name), cell))
                    .collect(),
            ),
        }
    }
}

type Part<'a> = Option<Cow<'a, str>>;

/// `GET /x HTTP/1.1` in three; a request that is not of this form is all path.
fn parts(request: Cow<'_, str>) -> (Part<'_>, Part<'_>, Part<'_>) {
    let cut = |text: &str| -> Option<(usize, usize)> {
        let first = text.find(' ')?;
        let last = text.rfind(' ')?;
        let is_protocol = text[last + 1..].starts_with("HTTP/");
        (first < last && is_protocol).then_some((first, last))
    };
    let Some((first, last)) = cut(&request) else {
        return (None, Some(request), None);
    };
    match request {
        Cow::Borrowed(text) => (
            Some(Cow::Borrowed(&text[..first])),
            Some(Cow::Borrowed(&text[first + 1..last])),
            Some(Cow::Borrowed(&text[last + 1..])),
        ),
        Cow::Owned(text) => (
            Some(Cow::Owned(text[..first].to_owned())),
            Some(Cow::Owned(text[first + 1..last].to_owned())),
            Some(Cow::Owned(text[last + 1..].to_owned())),
        ),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(line: &str, expected: Expect) {
        let text = match parse(line) {
            Ok(hit) => {
                let record = hit.record();
                let data = serde_json::to_string(&record.data).expect("plain values");
                let time = serin_wire::time::to_rfc3339(record.time_us.expect("a time"));
                format!("{time} {data}")
            }
            Err(why) => why.to_owned(),
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn combined_lines() {
        check(
            r#"83.149.9.216 - - [17/May/2015:10:05:03 +0000] "GET /a?b=c HTTP/1.1" 200 203023 "http://x/" "Moz \"q\" \xe4""#,
            expect![[
                r#"2015-05-17T10:05:03Z {"client":"83.149.9.216","user":null,"method":"GET","path":"/a?b=c","protocol":"HTTP/1.1","status":200,"bytes":203023,"referrer":"http://x/","agent":"Moz \"q\" \\xe4"}"#
            ]],
        );
        check(
            r#"::1 - ann lee [01/Jan/2024:00:00:00 +0200] "HEAD / HTTP/1.0" 304 - "-" "-""#,
            expect![[
                r#"2023-12-31T22:00:00Z {"client":"::1","user":"ann lee","method":"HEAD","path":"/","protocol":"HTTP/1.0","status":304,"bytes":null,"referrer":null,"agent":null}"#
            ]],
        );
    }

    #[test]
    fn common_lines_and_odd_requests() {
        check(
            r#"a - - [01/Jan/2024:00:00:00 +0000] "-" 408 -"#,
            expect![[
                r#"2024-01-01T00:00:00Z {"client":"a","user":null,"method":null,"path":null,"protocol":null,"status":408,"bytes":null,"referrer":null,"agent":null}"#
            ]],
        );
        check(
            r#"a - - [01/Jan/2024:00:00:00 +0000] "\x16\x03" 400 226 "-" "-" 0.001"#,
            expect![[
                r#"2024-01-01T00:00:00Z {"client":"a","user":null,"method":null,"path":"\\x16\\x03","protocol":null,"status":400,"bytes":226,"referrer":null,"agent":null}"#
            ]],
        );
        check(
            r#"a - - [01/Jan/2024:00:00:00 +0000] "GET /a b HTTP/1.1" 200 1"#,
            expect![[
                r#"2024-01-01T00:00:00Z {"client":"a","user":null,"method":"GET","path":"/a b","protocol":"HTTP/1.1","status":200,"bytes":1,"referrer":null,"agent":null}"#
            ]],
        );
    }

    #[test]
    fn broken_lines_say_where() {
        check("", expect!["no client and time"]);
        check("a b c", expect!["no time in brackets"]);
        check(
            "a - - [x] ",
            expect!["the time is not like 17/May/2015:10:05:03 +0000"],
        );
        check(
            "a - - [01/Jan/2024:00:00:00 +0000] \"GET",
            expect!["no request in quotes"],
        );
        check(
            "a - - [01/Jan/2024:00:00:00 +0000] \"GET / HTTP/1.1\" x",
            expect!["no status after the request"],
        );
    }

    #[test]
    fn the_shared_log_is_read_whole() {
        let log = include_bytes!("access_log_sample.txt");
        let mut good = 0;
        read(&log[..], &mut |line, record| {
            assert!(record.is_ok(), "line {line}: {record:?}");
            good += 1;
            Ok(())
        })
        .expect("read");
        assert_eq!(good, 3);
    }
}
