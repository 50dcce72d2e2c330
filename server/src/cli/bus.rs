//! `--bus`: a port for our own bus, or the URL of one to join.

/// Which bus is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BusAt {
    /// Our own, at this port; `None` takes a free one.
    Own(Option<u16>),
    /// One that runs already. Its URL is looked at when it is joined: an error of this command line would
    /// show the password.
    Joined(String),
}

/// Why it is neither.
const NOTHING: &str = "say a port, or the URL of a bus to join such as nats://127.0.0.1:4222";
const NO_PORT: &str = "it is no port: those are 1 to 65535, and 0 for a free one; a bus to join is said as a URL such as \
     nats://127.0.0.1:4222";

impl BusAt {
    /// Reads what was said.
    pub(crate) fn read(text: &str) -> Result<BusAt, &'static str> {
        if text.is_empty() {
            return Err(NOTHING);
        }
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(BusAt::Joined(text.to_owned()));
        }
        let port = text.parse::<u16>().map_err(|_| NO_PORT)?;
        Ok(BusAt::Own((port > 0).then_some(port)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_told_from_a_url() {
        for (text, read) in [
            ("4222", Some(BusAt::Own(Some(4222)))),
            ("0", Some(BusAt::Own(None))),
            ("99999", None),
            ("", None),
            ("nats://h:1", Some(BusAt::Joined("nats://h:1".into()))),
            ("localhost", Some(BusAt::Joined("localhost".into()))),
        ] {
            assert_eq!(BusAt::read(text).ok(), read, "{text}");
        }
    }
}
