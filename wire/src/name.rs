//! Names of services, versions, instances and event types, and the rules they keep.
//!
//! A name that passes here is safe as a NATS subject token, a file name and a table name. Every
//! door checks with these functions before anything else is done. Start at [`check_service`].

use thiserror::Error;

/// Longest name of a service or a version, in bytes.
pub const NAME_BYTES_MAX: usize = 32;
/// Longest event type, in bytes; a subject stays far below NATS's 4 KiB control line.
pub const TYPE_BYTES_MAX: usize = 128;
/// Event types under this prefix are Serin's own and only accepted from Serin.
pub const OWN_TYPE_PREFIX: &str = "serin.";

/// Names that services may not have: Serin itself and its gateway.
pub const OWN_SERVICES: [&str; 2] = ["serin", "gateway"];

/// Names of tables that are not event types; an event type may not take one of them.
pub const OWN_TABLES: [&str; 9] = [
    "beats",
    "requests",
    "logs",
    "spans",
    "metrics",
    "decisions",
    "usage",
    "refused",
    "events",
];

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// The name of a service or version breaks `[a-z0-9][a-z0-9-]{0,31}`.
    #[error(
        "{what} name {name:?} must be 1 to 32 of a-z, 0-9 and '-', and start with a letter or digit"
    )]
    Name {
        /// What was named: "service" or "version".
        what: &'static str,
        /// The name as given, cut to 64 characters.
        name: String,
    },
    /// The instance name has a character that cannot be part of a subject.
    #[error("instance name {0:?} must be 1 to 96 of a-z, A-Z, 0-9, '-' and '_'")]
    Instance(String),
    /// The event type is not dot-separated words.
    #[error(
        "event type {0:?} must be words of a-z, A-Z, 0-9, '_' and '-' joined by dots, at most 128 \
         characters, such as order.paid"
    )]
    Type(String),
    /// The event type is the name of one of our own tables.
    #[error(
        "event type {0:?} is the name of one of Serin's own tables; choose another, such as app.{0}"
    )]
    OwnTable(String),
    /// The event type starts with `serin.` and does not come from Serin.
    #[error("event types starting with \"serin.\" are Serin's own; {0:?} needs another name")]
    OwnType(String),
}

fn shown(name: &str) -> String {
    name.chars().take(64).collect()
}

fn is_short_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= NAME_BYTES_MAX
        && bytes[0] != b'-'
        && bytes
            .iter()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

/// Checks the name of a service: `[a-z0-9][a-z0-9-]{0,31}`.
pub fn check_service(name: &str) -> Result<(), NameError> {
    is_short_name(name)
        .then_some(())
        .ok_or_else(|| NameError::Name {
            what: "service",
            name: shown(name),
        })
}

/// Checks a version: `[a-z0-9][a-z0-9-]{0,31}`.
pub fn check_version(name: &str) -> Result<(), NameError> {
    is_short_name(name)
        .then_some(())
        .ok_or_else(|| NameError::Name {
            what: "version",
            name: shown(name),
        })
}

/// Checks the name of an instance: 1 to 96 characters that fit one subject token.
pub fn check_instance(name: &str) -> Result<(), NameError> {
    let fits = (1..=96).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    fits.then_some(())
        .ok_or_else(|| NameError::Instance(shown(name)))
}

/// Checks an event type that a user's service emits.
pub fn check_type(name: &str) -> Result<(), NameError> {
    check_any_type(name)?;
    if OWN_TABLES.iter().any(|own| own.eq_ignore_ascii_case(name)) {
        return Err(NameError::OwnTable(shown(name)));
    }
    if name.len() >= OWN_TYPE_PREFIX.len()
        && name.as_bytes()[..OWN_TYPE_PREFIX.len()].eq_ignore_ascii_case(OWN_TYPE_PREFIX.as_bytes())
    {
        return Err(NameError::OwnType(shown(name)));
    }
    Ok(())
}

/// Checks the form of an event type alone; Serin's own types pass.
pub fn check_any_type(name: &str) -> Result<(), NameError> {
    let fits = name.len() <= TYPE_BYTES_MAX
        && name.split('.').all(|word| {
            !word.is_empty()
                && word
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        });
    fits.then_some(())
        .ok_or_else(|| NameError::Type(shown(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_keep_to_the_pattern() {
        for good in ["cart", "0", "a-b-9", "a2345678901234567890123456789012"] {
            assert_eq!(check_service(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "-a",
            "Cart",
            "a.b",
            "a b",
            "ä",
            "a23456789012345678901234567890123",
        ] {
            assert!(check_service(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn types_are_words_joined_by_dots() {
        for good in ["order.paid", "a", "com.example.Order_2", "http.request"] {
            assert_eq!(check_type(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "a b",
            "a*",
            ">",
            "order/paid",
            "é",
        ] {
            assert!(matches!(check_type(bad), Err(NameError::Type(_))), "{bad}");
        }
        assert!(matches!(check_type("Logs"), Err(NameError::OwnTable(_))));
        assert!(matches!(
            check_type("serin.decision"),
            Err(NameError::OwnType(_))
        ));
        assert_eq!(check_any_type("serin.decision"), Ok(()));
    }
}
