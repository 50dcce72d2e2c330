//! The listeners for OpenTelemetry's exporters, on loopback alone.
//!
//! A port that is taken is told and does without: the exporters' usual ports may be another
//! collector's, and nothing else depends on them. Services that Serin runs are told where to send
//! and under which name, so that one that has OpenTelemetry already needs no setting.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpListener;

use crate::commands::remark;
use crate::settings::{OtlpPort, OtlpPorts};

/// Where exporters are heard.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) http: Option<TcpListener>,
    pub(super) grpc: Option<TcpListener>,
}

/// The same as exporters are told it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Urls {
    pub(super) http: Option<String>,
    pub(super) grpc: Option<String>,
}

impl Listeners {
    /// Takes the ports. Where the pages are on any free port, so are those that nobody wrote.
    pub(super) async fn bind(ports: OtlpPorts, listen: SocketAddr) -> Listeners {
        let is_any = listen.port() == 0;
        Listeners {
            http: bind(ports.http, is_any, "HTTP", "otlp.http_port").await,
            grpc: bind(ports.grpc, is_any, "gRPC", "otlp.grpc_port").await,
        }
    }

    pub(super) fn urls(&self) -> Urls {
        let url = |listener: &Option<TcpListener>| {
            let address = listener.as_ref()?.local_addr().ok()?;
            Some(format!("http://{address}"))
        };
        Urls {
            http: url(&self.http),
            grpc: url(&self.grpc),
        }
    }
}

impl Urls {
    /// What services get in their environment.
    pub(super) fn env(&self) -> BTreeMap<String, String> {
        let (url, protocol) = match (&self.http, &self.grpc) {
            (Some(url), _) => (url, "http/protobuf"),
            (None, Some(url)) => (url, "grpc"),
            (None, None) => return BTreeMap::new(),
        };
        [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
    }

    /// In one line, for whoever starts Serin.
    pub(super) fn shown(&self) -> Option<String> {
        let one = |url: &Option<String>, over: &str| Some(format!("{} ({over})", url.as_ref()?));
        let all: Vec<String> = [one(&self.http, "HTTP"), one(&self.grpc, "gRPC")]
            .into_iter()
            .flatten()
            .collect();
        (!all.is_empty()).then(|| all.join("  "))
    }
}

async fn bind(port: OtlpPort, is_any: bool, over: &str, setting: &str) -> Option<TcpListener> {
    let port = match port {
        OtlpPort::Off => return None,
        OtlpPort::Usual(_) if is_any => 0,
        OtlpPort::Usual(port) | OtlpPort::Written(port) => port,
    };
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
        Ok(listener) => Some(listener),
        Err(error) => {
            remark(&format!(
                "note: OpenTelemetry over {over} is not heard at 127.0.0.1:{port}: {error}; free the port, or set \
                 {setting} in serin.yaml to another (0 switches it off)"
            ));
            None
        }
    }
}
