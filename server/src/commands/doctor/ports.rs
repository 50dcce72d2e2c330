//! The ports that `serin up` takes unless told otherwise, where nothing runs: whether they are free.

use std::net::TcpListener;

use super::Report;
use crate::settings::{OtlpPort, OtlpPorts};

/// What wants a port, where, and what to do if another program has it.
struct Wanted {
    what: &'static str,
    address: String,
    todo: &'static str,
}

/// Looks at all of them; `exporters` is what serin.yaml says of OpenTelemetry's.
pub(super) fn ports(exporters: OtlpPorts, report: &mut Report) {
    for wanted in wanted(exporters) {
        let Wanted {
            what,
            address,
            todo,
        } = wanted;
        match TcpListener::bind(&address) {
            Ok(_) => report.ok("port", format!("{address} is free for {what}")),
            Err(error) => report.warn("port", format!("{address}, for {what}: {error}"), todo),
        }
    }
}

fn wanted(exporters: OtlpPorts) -> Vec<Wanted> {
    let mut all = vec![
        Wanted {
            what: "the pages",
            address: String::from("127.0.0.1:7070"),
            todo: "another program has it; choose one with `serin up --listen 127.0.0.1:0`",
        },
        Wanted {
            what: "the gateway",
            address: String::from("127.0.0.1:8080"),
            todo: "another program has it; choose one with `serin up --gateway 127.0.0.1:0`",
        },
    ];
    for (what, port, todo) in [
        (
            "OTLP over HTTP",
            exporters.http,
            "Serin does without it; `otlp.http_port` in serin.yaml sets another",
        ),
        (
            "OTLP over gRPC",
            exporters.grpc,
            "Serin does without it; `otlp.grpc_port` in serin.yaml sets another",
        ),
    ] {
        if let OtlpPort::Usual(port) | OtlpPort::Written(port) = port {
            let address = format!("127.0.0.1:{port}");
            all.push(Wanted {
                what,
                address,
                todo,
            });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn a_port_that_is_taken_is_told_and_one_that_is_off_is_not_tried() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = taken.local_addr().expect("bound").port();
        let mut report = Report::default();
        let exporters = OtlpPorts {
            http: OtlpPort::Written(port),
            grpc: OtlpPort::Off,
        };
        ports(exporters, &mut report);
        assert_eq!(report.findings.len(), 3, "{report:?}");
        let last = &report.findings[2];
        assert_eq!(last.state, State::Warn);
        assert!(last.found.contains(&port.to_string()), "{last:?}");
    }
}
