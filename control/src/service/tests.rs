//! What a file says is what is run; what is wrong with one is told with its place.

use expect_test::{Expect, expect};

use super::*;

fn good(text: &str) -> Service {
    read("services/cart/service.yaml", "cart", text).expect("a right file")
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "reads as `wrong(text, expect![…])`"
)]
fn wrong(text: &str, expected: Expect) {
    let problems = read("service.yaml", "cart", text).expect_err("a wrong file");
    let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    expected.assert_eq(&lines.join("\n"));
}

#[test]
fn a_line_is_enough() {
    let service = good("run: python3 main.py");
    assert_eq!(service.name, "cart");
    assert_eq!(service.run, ["python3", "main.py"]);
    assert_eq!(service.instances, Instances { min: 2, max: 2 });
    assert_eq!(service.ready, Ready::Beat);
}

#[test]
fn a_program_with_a_port_is_asked_by_http() {
    let service = good("run: [node, server.js]\nport: auto\nweb: /cart/\nscale: {max: 8}\n");
    assert_eq!(service.ready, Ready::Http(String::from("/")));
    assert_eq!(service.web.as_deref(), Some("/cart"));
    assert_eq!(service.instances, Instances { min: 2, max: 8 });
    let one = good("run: postgres -D data\nport: 5432\nready: tcp\n");
    assert_eq!(one.instances, Instances { min: 1, max: 1 });
    assert!(one.is_alone() && good("run: x\nalone: true\n").is_alone());
    assert_eq!(one.stop_signal, StopSignal::Term);
    let asked =
        good("run: db\nready: {run: pg_isready -q}\nstop_within: 30s\nstop_signal: SIGINT\n");
    assert_eq!(
        asked.ready,
        Ready::Run(vec!["pg_isready".into(), "-q".into()])
    );
    assert_eq!(asked.stop_within_ms, 30_000);
    assert_eq!(asked.stop_signal, StopSignal::Int);
    wrong(
        "run: x\nstop_signal: INT\n",
        expect![[
            r#"service.yaml:2:14: "INT" is not known here; there are SIGTERM, SIGINT, SIGQUIT, SIGUSR1, SIGWINCH"#
        ]],
    );
    wrong(
        "run: x\nalone: true\ninstances: 2\n",
        expect![
            "service.yaml:3:12: 2 instances of what can run once; leave `alone:` out for several, or write instances: 1"
        ],
    );
}

#[test]
fn a_web_service_says_how_long_and_how_large() {
    let usual = good("run: x\nweb: /x\n");
    assert_eq!(
        (usual.answer_within_ms, usual.body_bytes_max),
        (30_000, 1 << 20)
    );
    let service = good("run: x\nweb: /x\nport: auto\nanswer_within: 2m\nbody_max: 1GiB\n");
    assert_eq!(
        (service.answer_within_ms, service.body_bytes_max),
        (120_000, 1 << 30)
    );
    for (yaml, place) in [
        ("run: x\nanswer_within: 2h", "2:16"),
        ("run: x\nbody_max: 8MiB", "2:11"),
        ("run: x\nbody_max: 8", "2:1"),
    ] {
        let problems = read("service.yaml", "x", yaml).expect_err(yaml);
        assert_eq!(
            format!("{}:{}", problems[0].line, problems[0].column),
            place
        );
    }
}

#[test]
fn who_it_waits_for_must_be_there_and_not_wait_for_it() {
    let others = |all: &[(&str, &[&str])]| -> Others {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let all = all.iter();
        all.map(|(name, after)| ((*name).to_owned(), names(after)))
            .collect()
    };
    let said = |text: &str, others: &Others| {
        let read = read_beside("service.yaml", "cart", text, others);
        let problems = read.expect_err("a wrong file");
        let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
        lines.join("\n")
    };
    let known = others(&[
        ("cart", &[]),
        ("postgres", &[]),
        ("shop", &["stock"]),
        ("stock", &["cart"]),
    ]);
    let good = read_beside("service.yaml", "cart", "run: x\nafter: postgres\n", &known);
    assert_eq!(good.expect("a right file").after, ["postgres"]);
    expect![[r#"service.yaml:2:8: after: no service "postgre"; did you mean "postgres"?"#]]
        .assert_eq(&said("run: x\nafter: postgre\n", &known));
    expect!["service.yaml:2:8: after: cart → shop → stock → cart wait for each other; none of them would ever start; take one `after:` away"]
        .assert_eq(&said("run: x\nafter: [postgres, shop]\n", &known));
}

#[test]
fn a_job_answers_no_requests() {
    assert!(good("run: x\njob: true\n").is_job);
    wrong(
        "run: x\njob: true\nweb: /x\n",
        expect![
            "service.yaml:3:6: a job runs to its end and answers no requests; leave `web:` or `job: true` out"
        ],
    );
}

#[test]
fn a_build_has_ten_minutes_unless_said() {
    assert_eq!(good("run: x\nbuild: make\n").build_within_ms, 600_000);
    let service = good("run: x\nbuild: make\nbuild_within: 90s\n");
    assert_eq!(service.build_within_ms, 90_000);
}

#[test]
fn limits_are_sizes_and_parts_of_a_core() {
    let service = good("run: x\nlimits: {memory: 256MiB, cpu: 0.5}\n");
    let expected = Limits {
        memory_bytes: Some(256 << 20),
        cpu_milli: Some(500),
    };
    assert_eq!(service.limits, expected);
    wrong(
        "run: x\nlimits: {memory: 256, cpu: 0}",
        expect![[
            r#"service.yaml:2:10: "memory": found 256, expected a size such as 512KiB, 256MiB or 2GiB"#
        ]],
    );
    wrong(
        "run: x\nlimits: {memory: 1MiB, cpu: 0}",
        expect![[r#"
        service.yaml:2:18: 1024 KiB of memory; no program starts with less than 4MiB
        service.yaml:2:29: 0 of a core; write 0.5 for half a core, 2 for two; from 0.01 to 1024"#]],
    );
    wrong(
        "run: x\nlimits: {mem: 1GiB}",
        expect![[r#"service.yaml:2:10: unknown key "mem"; there are memory, cpu"#]],
    );
}

#[test]
fn metrics_are_read_where_and_when_it_says() {
    let scrape = |text: &str| good(&format!("run: x\nport: auto\nscrape: {text}")).scrape;
    let wanted = |every_ms| {
        let path = String::from("/metrics");
        Some(Scrape { path, every_ms })
    };
    assert_eq!(scrape("/metrics"), wanted(15_000));
    assert_eq!(scrape("{path: /metrics, every: 1m}"), wanted(60_000));
    assert_eq!(good("run: x").scrape, None);
}

#[test]
fn what_is_wrong_has_its_place() {
    wrong(
        "run: x\nscrape: /metrics",
        expect![
            "service.yaml:2:9: the service has no port to read metrics from; add port: auto, and listen on $PORT"
        ],
    );
    wrong(
        "run: x\nport: auto\nscrape: {path: metrics, evry: 5s}",
        expect![[r#"service.yaml:3:25: unknown key "evry"; did you mean "every"?"#]],
    );
    wrong(
        "run: x\nport: auto\nscrape: {path: /metrics, every: 500ms}",
        expect![
            "service.yaml:3:9: metrics every 500 ms; must be 1 s or more; write scrape: {path: /metrics, every: 15s}"
        ],
    );
    wrong(
        "runn: x",
        expect![[r#"service.yaml:1:1: unknown key "runn"; did you mean "run"?"#]],
    );
    wrong(
        "build: x",
        expect![[r#"service.yaml:1:1: "run" is missing"#]],
    );
    wrong(
        "run: a | b",
        expect!["service.yaml:1:6: run: '|' needs a shell; write sh -c '…' around the command"],
    );
    wrong(
        "service: kart\nrun: x",
        expect![[
            r#"service.yaml:1:10: the service is named "kart", its folder "cart"; name both the same, or leave `service:` out"#
        ]],
    );
    wrong(
        "service: gateway\nrun: x",
        expect![[
            r#"service.yaml:1:10: "gateway" is a part of Serin; give the service another name"#
        ]],
    );
    wrong(
        "run: x\nport: 70000",
        expect![[
            r#"service.yaml:2:1: "port": found 70000, expected auto, or a port from 1 to 65535"#
        ]],
    );
    wrong(
        "run: x\nport: 8000\ninstances: 2",
        expect![
            "service.yaml:3:12: 2 instances of what can run once; write port: auto for several, or instances: 1"
        ],
    );
    wrong(
        "run: x\nready: {http: /}",
        expect![
            "service.yaml:2:8: the service has no port to ask; add port: auto, or write ready: started"
        ],
    );
    wrong(
        "run: x\nport: auto\nready: {http: \"/ HTTP/1.1\\r\\nX: y\"}",
        expect![[
            r#"service.yaml:3:8: "/ HTTP/1.1\r\nX: y" is no path; write ready: {http: /healthz}"#
        ]],
    );
    wrong(
        "run: x\nready: soon",
        expect![[
            r#"service.yaml:2:8: "soon" is not known here; there are beat, tcp, started, http, run"#
        ]],
    );
    wrong(
        "run: x\nscale: {min: 3, max: 2}\nweb: cart",
        expect![[r#"
        service.yaml:3:6: "cart" is no path of the gateway; write web: /cart, or web: / for all that is left
        service.yaml:2:22: 3 to 2 instances; must be 1 to 64, and max at least min; `serin stop` runs none"#]],
    );
    wrong(
        "run: x\nenv: {SERIN_BUS: y}",
        expect![[
            r#"service.yaml:2:7: "SERIN_BUS" cannot be set here; names starting with SERIN_ are Serin's own"#
        ]],
    );
    wrong(
        "run: x\nstop_within: 5",
        expect![[
            r#"service.yaml:2:1: "stop_within": found 5, expected a length of time such as 30s, 5m, 6h or 1d"#
        ]],
    );
}
