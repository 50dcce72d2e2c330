//! The NATS micro protocol (ADR-32): who serves what, for `nats micro` and any other client.
//!
//! `$SRV.PING`, `$SRV.INFO` and `$SRV.STATS`, each for all services, for those of our name, and for
//! our instance. The shapes are the protocol's, to the letter.

use std::collections::BTreeMap;

use serde::Serialize;
use serin_wire::{call, subject, time};

use crate::options::Options;
use crate::serve::endpoint::Served;

/// The questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Ping,
    Info,
    Stats,
}

pub(crate) const VERBS: [Verb; 3] = [Verb::Ping, Verb::Info, Verb::Stats];

/// What every answer begins with.
#[derive(Debug, Serialize)]
struct Standard<'a> {
    r#type: &'static str,
    name: &'a str,
    id: &'a str,
    version: String,
    metadata: BTreeMap<&'a str, &'a str>,
}

#[derive(Debug, Serialize)]
struct Info<'a> {
    #[serde(flatten)]
    standard: Standard<'a>,
    description: &'a str,
    endpoints: Vec<EndpointInfo<'a>>,
}

#[derive(Debug, Serialize)]
struct EndpointInfo<'a> {
    name: &'a str,
    subject: String,
    queue_group: &'a str,
    metadata: BTreeMap<&'a str, &'a str>,
}

#[derive(Debug, Serialize)]
struct Stats<'a> {
    #[serde(flatten)]
    standard: Standard<'a>,
    endpoints: Vec<EndpointStats<'a>>,
    started: String,
}

#[derive(Debug, Serialize)]
struct EndpointStats<'a> {
    name: &'a str,
    subject: String,
    queue_group: &'a str,
    num_requests: u64,
    num_errors: u64,
    last_error: String,
    processing_time: u64,
    average_processing_time: u64,
}

/// What is asked about.
#[derive(Debug)]
pub(crate) struct About<'a> {
    pub(crate) options: &'a Options,
    pub(crate) description: &'a str,
    pub(crate) started_us: i64,
    pub(crate) endpoints: &'a [std::sync::Arc<Served>],
}

impl Verb {
    /// The subjects on which it is asked, for all, for a service, for an instance.
    pub(crate) fn subjects(self, options: &Options) -> [String; 3] {
        let verb = match self {
            Verb::Ping => "PING",
            Verb::Info => "INFO",
            Verb::Stats => "STATS",
        };
        [
            format!("$SRV.{verb}"),
            format!("$SRV.{verb}.{}", options.service),
            format!("$SRV.{verb}.{}.{}", options.service, options.instance),
        ]
    }
}

impl About<'_> {
    /// The answer, as JSON.
    pub(crate) fn answer(&self, verb: Verb) -> Vec<u8> {
        let written = match verb {
            Verb::Ping => serde_json::to_vec(&self.standard("io.nats.micro.v1.ping_response")),
            Verb::Info => serde_json::to_vec(&Info {
                standard: self.standard("io.nats.micro.v1.info_response"),
                description: self.description,
                endpoints: self.endpoints.iter().map(|one| self.info(one)).collect(),
            }),
            Verb::Stats => serde_json::to_vec(&Stats {
                standard: self.standard("io.nats.micro.v1.stats_response"),
                endpoints: self.endpoints.iter().map(|one| self.stats(one)).collect(),
                started: time::to_rfc3339(self.started_us),
            }),
        };
        written.unwrap_or_default()
    }

    fn standard(&self, r#type: &'static str) -> Standard<'_> {
        Standard {
            r#type,
            name: &self.options.service,
            id: &self.options.instance,
            version: format!("0.0.0+{}", self.options.version),
            metadata: BTreeMap::from([
                ("sdk", "serin-rust"),
                (call::VERSION, self.options.version.as_str()),
            ]),
        }
    }

    fn subject(&self, served: &Served) -> String {
        let options = self.options;
        subject::call(&options.service, &options.version, &served.endpoint.name)
    }

    fn info<'a>(&'a self, served: &'a Served) -> EndpointInfo<'a> {
        let endpoint = &served.endpoint;
        let mut metadata = BTreeMap::new();
        if endpoint.is_idempotent {
            metadata.insert("idempotent", "true");
        }
        if let Some(description) = &endpoint.description {
            metadata.insert("description", description);
        }
        EndpointInfo {
            name: &endpoint.name,
            subject: self.subject(served),
            queue_group: &self.options.version,
            metadata,
        }
    }

    fn stats<'a>(&'a self, served: &'a Served) -> EndpointStats<'a> {
        let tally = served.tally();
        EndpointStats {
            name: &served.endpoint.name,
            subject: self.subject(served),
            queue_group: &self.options.version,
            num_requests: tally.requests,
            num_errors: tally.errors,
            last_error: tally.last_error,
            processing_time: tally.processing_ns,
            average_processing_time: tally.processing_ns.checked_div(tally.requests).unwrap_or(0),
        }
    }
}
