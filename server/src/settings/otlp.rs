//! Section `otlp`: where OpenTelemetry's exporters are heard.
//!
//! [`resolve`] gives the ports, on loopback alone; the port of everything else hears them too, with
//! the token.

use super::raw::{RawOtlp, Written};
use super::resolve::{Bound, Resolver};

/// The ports that exporters use unless told otherwise.
const HTTP_PORT: u16 = 4318;
const GRPC_PORT: u16 = 4317;

const HTTP: Bound = Bound {
    name: "otlp.http_port",
    unit: "port",
    least: (0, "0 switches it off"),
    most: (65_535, "the last port there is"),
    what: "where OTLP over HTTP is heard on 127.0.0.1; 0 is nowhere",
};
const GRPC: Bound = Bound {
    name: "otlp.grpc_port",
    what: "where OTLP over gRPC is heard on 127.0.0.1; 0 is nowhere",
    ..HTTP
};

/// A port for exporters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OtlpPort {
    /// None.
    Off,
    /// This one, which nobody wrote.
    Usual(u16),
    /// This one, as it was written.
    Written(u16),
}

/// Both ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OtlpPorts {
    pub(crate) http: OtlpPort,
    pub(crate) grpc: OtlpPort,
}

pub(super) fn resolve(raw: &RawOtlp, to: &mut Resolver) -> OtlpPorts {
    OtlpPorts {
        http: port(HTTP, raw.http_port.as_ref(), HTTP_PORT, to),
        grpc: port(GRPC, raw.grpc_port.as_ref(), GRPC_PORT, to),
    }
}

fn port(bound: Bound, raw: Option<&Written>, usual: u16, to: &mut Resolver) -> OtlpPort {
    let port = to.number(bound, raw, u64::from(usual));
    match (u16::try_from(port).unwrap_or(usual), raw) {
        (0, _) => OtlpPort::Off,
        (port, Some(_)) => OtlpPort::Written(port),
        (port, None) => OtlpPort::Usual(port),
    }
}
