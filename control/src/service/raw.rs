//! `service.yaml` as people write it: every key but `run` may be missing, unknown ones are refused.

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serin_yaml::{Entries, Names, Span, Spanned};

use crate::shim::StopSignal;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawService {
    pub(super) service: Option<Spanned<String>>,
    pub(super) run: Spanned<RawCommand>,
    pub(super) build: Option<Spanned<RawCommand>>,
    pub(super) build_within: Option<Spanned<Span>>,
    #[serde(default)]
    pub(super) env: Entries<RawValue>,
    pub(super) web: Option<Spanned<String>>,
    pub(super) port: Option<Spanned<RawPort>>,
    pub(super) ready: Option<Spanned<RawReady>>,
    pub(super) ready_within: Option<Spanned<Span>>,
    pub(super) instances: Option<Spanned<u32>>,
    pub(super) scale: Option<RawScale>,
    pub(super) stop_within: Option<Spanned<Span>>,
    #[serde(default)]
    pub(super) stop_signal: StopSignal,
    pub(super) hang_after: Option<Spanned<Span>>,
    pub(super) after: Option<Spanned<Names>>,
    #[serde(default)]
    pub(super) idempotent: Names,
    pub(super) sticky: Option<RawSticky>,
    pub(super) answer_within: Option<Spanned<Span>>,
    pub(super) body_max: Option<Spanned<RawSize>>,
    #[serde(default)]
    pub(super) alone: bool,
    #[serde(default)]
    pub(super) job: bool,
    pub(super) scrape: Option<Spanned<RawScrape>>,
    pub(super) limits: Option<RawLimits>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLimits {
    pub(super) memory: Option<Spanned<RawSize>>,
    pub(super) cpu: Option<Spanned<f64>>,
}

/// Bytes, written `512KiB`, `256MiB` or `2GiB`.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawSize(pub(super) u64);

/// A command line, or its words.
#[derive(Debug)]
pub(super) enum RawCommand {
    Line(String),
    Words(Vec<String>),
}

/// A value of the environment: text, a number or a boolean, as text.
#[derive(Debug)]
pub(super) struct RawValue(pub(super) String);

#[derive(Debug, Clone, Copy)]
pub(super) enum RawPort {
    Auto,
    Fixed(u16),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawReady {
    Beat,
    Tcp,
    Started,
    Http(String),
    Run(RawCommand),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawScale {
    pub(super) min: Option<Spanned<u32>>,
    pub(super) max: Spanned<u32>,
}

/// A path, or a path with how often.
#[derive(Debug)]
pub(super) struct RawScrape {
    pub(super) path: String,
    pub(super) every: Option<Span>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawSticky {
    Cookie(Spanned<String>),
    Header(Spanned<String>),
}

impl<'de> Deserialize<'de> for RawCommand {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RawCommand, D::Error> {
        struct Written;
        impl<'de> Visitor<'de> for Written {
            type Value = RawCommand;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a command such as python3 main.py, or a list of its words")
            }

            fn visit_str<E>(self, line: &str) -> Result<RawCommand, E> {
                Ok(RawCommand::Line(line.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RawCommand, A::Error> {
                let mut words = Vec::new();
                while let Some(RawValue(word)) = seq.next_element()? {
                    words.push(word);
                }
                Ok(RawCommand::Words(words))
            }
        }
        deserializer.deserialize_any(Written)
    }
}

impl<'de> Deserialize<'de> for RawValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RawValue, D::Error> {
        struct Written;
        impl Visitor<'_> for Written {
            type Value = RawValue;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text, a number or true or false")
            }

            fn visit_str<E>(self, text: &str) -> Result<RawValue, E> {
                Ok(RawValue(text.to_owned()))
            }

            fn visit_bool<E>(self, value: bool) -> Result<RawValue, E> {
                Ok(RawValue(value.to_string()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<RawValue, E> {
                Ok(RawValue(value.to_string()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<RawValue, E> {
                Ok(RawValue(value.to_string()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<RawValue, E> {
                Ok(RawValue(value.to_string()))
            }
        }
        deserializer.deserialize_any(Written)
    }
}

impl<'de> Deserialize<'de> for RawPort {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RawPort, D::Error> {
        struct Written;
        impl Visitor<'_> for Written {
            type Value = RawPort;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("auto, or a port from 1 to 65535")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<RawPort, E> {
                match text {
                    "auto" => Ok(RawPort::Auto),
                    other => Err(E::invalid_value(serde::de::Unexpected::Str(other), &self)),
                }
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<RawPort, E> {
                match u16::try_from(number) {
                    Ok(port) if port > 0 => Ok(RawPort::Fixed(port)),
                    _ => Err(E::invalid_value(
                        serde::de::Unexpected::Unsigned(number),
                        &self,
                    )),
                }
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<RawPort, E> {
                self.visit_u64(u64::try_from(number).unwrap_or_default())
            }
        }
        deserializer.deserialize_any(Written)
    }
}

impl<'de> Deserialize<'de> for RawScrape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RawScrape, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Whole {
            path: String,
            every: Option<Span>,
        }
        struct Written;
        impl<'de> Visitor<'de> for Written {
            type Value = RawScrape;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a path such as /metrics, or {path: /metrics, every: 15s}")
            }

            fn visit_str<E>(self, path: &str) -> Result<RawScrape, E> {
                Ok(RawScrape {
                    path: path.to_owned(),
                    every: None,
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawScrape, A::Error> {
                let Whole { path, every } = Whole::deserialize(MapAccessDeserializer::new(map))?;
                Ok(RawScrape { path, every })
            }
        }
        deserializer.deserialize_any(Written)
    }
}

impl<'de> Deserialize<'de> for RawSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RawSize, D::Error> {
        struct Written;
        impl Visitor<'_> for Written {
            type Value = RawSize;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a size such as 512KiB, 256MiB or 2GiB")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<RawSize, E> {
                let unknown = || E::invalid_value(serde::de::Unexpected::Str(text), &self);
                let at = text.find(|c: char| !c.is_ascii_digit());
                let (number, unit) = text.split_at(at.ok_or_else(unknown)?);
                let shift = match unit.trim_start() {
                    "KiB" => 10,
                    "MiB" => 20,
                    "GiB" => 30,
                    _ => return Err(unknown()),
                };
                let number: u64 = number.parse().map_err(|_| unknown())?;
                number
                    .checked_mul(1 << shift)
                    .map(RawSize)
                    .ok_or_else(unknown)
            }
        }
        deserializer.deserialize_any(Written)
    }
}
