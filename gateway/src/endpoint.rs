//! The endpoint of a web request: its path with few values, so that requests can be counted by it.
//!
//! An SDK's router says which of its patterns matched. Of other programs it is the path, and what looks
//! like the name of one thing among many is `{id}` in it. Each service has a bounded number of them;
//! further ones, and paths where the service has nothing, are `other`. Pure. Start at [`Endpoints::of`].

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::access::CLIENT_LEFT;

/// Endpoints that a service has at most: a table that one can still read, and at some hundred bytes each
/// nothing that a thousand services could not have.
const ENDPOINTS_MAX: usize = 64;
/// One that was not asked for so long makes room for another: its version may be gone.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3_600);
/// Segments of a path that are told apart; a tree of files is deeper.
const DEPTH_MAX: usize = 6;
/// A longer segment, or one with more digits, is no word that somebody chose for a path.
const WORD_CHARS_MAX: usize = 32;
const WORD_DIGITS_MAX: usize = 2;
/// The longest pattern of a service that is believed.
const PATTERN_CHARS_MAX: usize = 128;
/// What all further endpoints are told as.
const OTHER: &str = "other";
/// What stands for one thing among many.
const ONE: &str = "{id}";

/// What is known of a request when it is over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) service: &'a str,
    /// The path of the service, `/cart`.
    pub(crate) prefix: &'a str,
    /// The whole path.
    pub(crate) path: &'a str,
    /// Which pattern below the prefix matched, as the service says.
    pub(crate) pattern: Option<&'a str>,
    pub(crate) status: u16,
}

/// The endpoints of every service so far, and when each was asked for last.
#[derive(Debug, Default)]
pub(crate) struct Endpoints {
    by_service: HashMap<String, HashMap<String, Instant>>,
}

impl Endpoints {
    /// The endpoint of a request.
    pub(crate) fn of(&mut self, asked: Asked<'_>, now: Instant) -> String {
        let prefix = asked.prefix.trim_end_matches('/');
        let pattern = asked.pattern.filter(|pattern| is_pattern(pattern));
        let below = match pattern {
            Some(pattern) => pattern.trim_end_matches('/').to_owned(),
            None => shape(asked.path.strip_prefix(prefix).unwrap_or_default()),
        };
        let endpoint = match format!("{prefix}{below}") {
            root if root.is_empty() => String::from("/"),
            endpoint => endpoint,
        };
        if below.is_empty() {
            return endpoint;
        }
        let known = self.by_service.entry(asked.service.to_owned()).or_default();
        if let Some(seen) = known.get_mut(&endpoint) {
            *seen = now;
            return endpoint;
        }
        // Whoever tries paths must not take the room of those that are there.
        let is_visitors_fault = (400..CLIENT_LEFT).contains(&asked.status);
        if pattern.is_none() && is_visitors_fault {
            return OTHER.to_owned();
        }
        if known.len() >= ENDPOINTS_MAX {
            known.retain(|_, seen| now.duration_since(*seen) < FORGOTTEN_AFTER);
        }
        if known.len() >= ENDPOINTS_MAX {
            return OTHER.to_owned();
        }
        known.insert(endpoint.clone(), now);
        endpoint
    }
}

/// Whether a service may mean this: what is in a header came from outside.
fn is_pattern(text: &str) -> bool {
    text.starts_with('/')
        && text.len() <= PATTERN_CHARS_MAX
        && text.chars().all(|c| c.is_ascii_graphic())
}

/// A path by its words; empty for the root.
fn shape(path: &str) -> String {
    let mut shaped = String::new();
    let segments = path.split('/').filter(|segment| !segment.is_empty());
    for (at, segment) in segments.enumerate() {
        if at == DEPTH_MAX {
            shaped.push_str("/*");
            break;
        }
        shaped.push('/');
        shaped.push_str(if is_word(segment) { segment } else { ONE });
    }
    shaped
}

/// Whether somebody chose it for a path: no number, no identity, nothing that had to be escaped.
fn is_word(segment: &str) -> bool {
    let digits = segment.chars().filter(char::is_ascii_digit).count();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.~".contains(c);
    segment.len() <= WORD_CHARS_MAX
        && digits <= WORD_DIGITS_MAX.min(segment.len() - 1)
        && segment.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(path: &str) -> Asked<'_> {
        Asked {
            service: "cart",
            prefix: "/cart",
            path,
            pattern: None,
            status: 200,
        }
    }

    #[test]
    fn what_names_one_thing_among_many_is_no_endpoint_of_its_own() {
        for (path, endpoint) in [
            ("/cart", "/cart"),
            ("/cart/", "/cart"),
            ("/cart/items/", "/cart/items"),
            ("/cart/items/7", "/cart/items/{id}"),
            ("/cart/v2/style.css", "/cart/v2/style.css"),
            ("/cart/S-3F2A9C41", "/cart/{id}"),
            ("/cart/8e7f8d2c-95c5-4a9e-b1f0-3c1d2f6a7b8c", "/cart/{id}"),
            ("/cart/%3Cscript%3E/x", "/cart/{id}/x"),
            ("/cart/averyveryveryveryveryverylongsegment", "/cart/{id}"),
            ("/cart//a///b", "/cart/a/b"),
            ("/cart/a/b/c/d/e/f/g/h", "/cart/a/b/c/d/e/f/*"),
        ] {
            let found = Endpoints::default().of(asked(path), Instant::now());
            assert_eq!(found, endpoint, "{path}");
        }
        let root = Asked {
            prefix: "/",
            ..asked("/items/7")
        };
        let mut endpoints = Endpoints::default();
        assert_eq!(endpoints.of(root, Instant::now()), "/items/{id}");
        let root = Asked { path: "/", ..root };
        assert_eq!(endpoints.of(root, Instant::now()), "/");
    }

    #[test]
    fn a_pattern_of_the_service_counts_where_it_is_one() {
        for (pattern, endpoint) in [
            ("/items/{sku}", "/cart/items/{sku}"),
            ("/", "/cart"),
            ("items", "/cart/seed-mix"),
            ("/a b", "/cart/seed-mix"),
        ] {
            let asked = Asked {
                pattern: Some(pattern),
                status: 404,
                ..asked("/cart/seed-mix")
            };
            let mut endpoints = Endpoints::default();
            endpoints.of(
                Asked {
                    status: 200,
                    pattern: None,
                    ..asked
                },
                Instant::now(),
            );
            assert_eq!(endpoints.of(asked, Instant::now()), endpoint, "{pattern}");
        }
    }

    #[test]
    fn they_are_bounded_and_what_is_not_there_takes_no_room() {
        let (mut endpoints, start) = (Endpoints::default(), Instant::now());
        let path = |n: usize| {
            let letter = |n: usize| char::from(b'a' + u8::try_from(n % 26).expect("a letter"));
            format!("/cart/{}{}", letter(n / 26), letter(n))
        };
        for n in 0..500 {
            let path = path(n);
            let missing = Asked {
                status: 404,
                ..asked(&path)
            };
            assert_eq!(endpoints.of(missing, start), OTHER);
        }
        for n in 0..500 {
            let path = path(n);
            let is_told = endpoints.of(asked(&path), start) == path;
            assert_eq!(is_told, n < ENDPOINTS_MAX, "{path}");
        }
        // A failure of one that is known is told as its own; others make room when they are forgotten.
        let (first, last) = (path(0), path(499));
        let failed = Asked {
            status: 404,
            ..asked(&first)
        };
        let later = start + FORGOTTEN_AFTER;
        assert_eq!(endpoints.of(failed, later - Duration::from_secs(1)), first);
        assert_eq!(endpoints.of(asked(&last), later), last);
        assert_eq!(endpoints.of(asked(&first), later), first);
        assert_eq!(endpoints.of(asked(&path(1)), later), path(1));
    }
}
