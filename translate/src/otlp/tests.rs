//! Whole requests: in JSON as the examples of the specification, in protobuf as written by hand.

use expect_test::{Expect, expect};
use prost::Message;

use super::*;
use crate::lines::Refused;

/// After all times in the requests but those that say otherwise.
const NOW_US: i64 = 1_544_712_700_000_000;

fn shown(translated: &Translated) -> String {
    let mut shown = String::new();
    for lines in translated.lines.iter().chain(&translated.derived) {
        shown += &format!(
            "{}\n{}",
            lines.subject,
            String::from_utf8_lossy(&lines.text)
        );
    }
    if translated.refused.count > 0 {
        let Refused { count, why } = &translated.refused;
        shown += &format!("refused {count}: {why}\n");
    }
    if translated.left_out > 0 {
        shown += &format!("left out {}\n", translated.left_out);
    }
    shown
}

fn check(signal: Signal, body: &str, wanted: &Expect) {
    let increases = Increases::new(0);
    let read = read(signal, Encoding::Json, body.as_bytes(), &increases, NOW_US);
    wanted.assert_eq(&match read {
        Ok(translated) => shown(&translated),
        Err(error) => format!("error: {error}\n"),
    });
}

#[test]
fn a_span_in_json() {
    check(
        Signal::Traces,
        r#"{"resourceSpans":[{"resource":{"attributes":[
            {"key":"service.name","value":{"stringValue":"My Service"}},
            {"key":"service.version","value":{"stringValue":"1.2.3"}},
            {"key":"service.instance.id","value":{"stringValue":"pod-1"}},
            {"key":"host.cpus","value":{"intValue":"4"}}]},
          "scopeSpans":[{"scope":{"name":"my.library","version":"1.0.0"},"spans":[{
            "traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"EEE19B7EC3C1B174",
            "parentSpanId":"EEE19B7EC3C1B173","name":"I'm a server span",
            "startTimeUnixNano":"1544712660000000000","endTimeUnixNano":"1544712661000000000",
            "kind":2,"droppedAttributesCount":0,"unknown":{"a":[1]},
            "attributes":[{"key":"http.route","value":{"stringValue":"/a"}},
              {"key":"http_route","value":{"boolValue":true}},
              {"key":"list","value":{"arrayValue":{"values":[{"intValue":1},{"doubleValue":2.5}]}}},
              {"key":"map","value":{"kvlistValue":{"values":[{"key":"x.y","value":{"bytesValue":"AAE="}}]}}}],
            "events":[{"timeUnixNano":"1544712660500000000","name":"exception","attributes":[
              {"key":"exception.type","value":{"stringValue":"E"}}]}],
            "links":[{"traceId":"5b8efff798038103d269b633813fc60d","spanId":"eee19b7ec3c1b175"}],
            "status":{"code":2,"message":"it broke"}}]}]}]}"#,
        &expect![[r#"
            tel.span.my-service.1-2-3.pod-1
            {"trace_id":"5b8efff798038103d269b633813fc60c","span_id":"eee19b7ec3c1b174","parent_id":"eee19b7ec3c1b173","name":"I'm a server span","service":"my-service","version":"1-2-3","instance":"pod-1","time":1544712660000000,"duration_us":1000000,"status":"error","attributes":{"http_route":"/a","http_route_2":true,"list":[1,2.5],"map":{"x.y":"AAE="},"otel":{"events":[{"attributes":{"exception_type":"E"},"name":"exception","time":1544712660500000}],"kind":"server","links":[{"attributes":{},"span_id":"eee19b7ec3c1b175","trace_id":"5b8efff798038103d269b633813fc60d"}],"scope":"my.library","status_message":"it broke"},"resource":{"host_cpus":4,"service_name":"My Service","service_version":"1.2.3"}}}
        "#]],
    );
}

#[test]
fn a_span_of_a_server_is_a_request_unless_the_gateway_tells_it() {
    let span = |name: &str, kind: u8, more: &str, attributes: &[(&str, &str)]| {
        let attributes: Vec<String> = attributes
            .iter()
            .map(|(key, value)| format!(r#"{{"key":"{key}","value":{value}}}"#))
            .collect();
        let attributes = attributes.join(",");
        format!(
            r#"{{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","kind":{kind},"name":"{name}",
            "startTimeUnixNano":"1544712660000000000","endTimeUnixNano":"1544712660250000000"{more},"attributes":[{attributes}]}}"#
        )
    };
    let get = ("http.request.method", r#"{"stringValue":"GET"}"#);
    let marked = r#","parentSpanId":"00000000000000ab","traceState":"x=1,serin=00000000000000ab""#;
    let below = r#","parentSpanId":"00000000000000ac","traceState":"serin=00000000000000ab""#;
    let failed = r#","status":{"code":2}"#;
    let spans = [
        span(
            "GET /a",
            2,
            "",
            &[
                get,
                ("http.route", r#"{"stringValue":"/a/{id}"}"#),
                ("http.response.status_code", r#"{"intValue":"404"}"#),
                ("http.response.body.size", r#"{"intValue":7}"#),
            ],
        ),
        // As instrumentations told it before the conventions of 1.21.
        span(
            "old",
            2,
            below,
            &[
                ("http.method", r#"{"stringValue":"POST"}"#),
                ("http.status_code", r#"{"intValue":201}"#),
            ],
        ),
        span("broke off", 2, failed, &[get]),
        span("a client", 3, "", &[get]),
        span("no http", 2, "", &[]),
        span("told by the gateway", 2, marked, &[get]),
    ];
    let spans = spans.join(",");
    let body = format!(
        r#"{{"resourceSpans":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"a"}}}}]}},
        "scopeSpans":[{{"spans":[{spans}]}}]}}]}}"#
    );
    let body = body.as_bytes();
    let read = read(
        Signal::Traces,
        Encoding::Json,
        body,
        &Increases::new(0),
        NOW_US,
    );
    let mut translated = read.expect("it is a request");
    let lines = std::mem::take(&mut translated.lines);
    assert_eq!(lines[0].text.split(|byte| *byte == b'\n').count(), 7);
    expect![[r#"
        tel.req.a._._
        {"time":1544712660000000,"endpoint":"/a/{id}","status":404,"duration_us":250000,"method":"GET","bytes":7,"trace_id":"5b8efff798038103d269b633813fc60c"}
        {"time":1544712660000000,"endpoint":"old","status":201,"duration_us":250000,"method":"POST","bytes":0,"trace_id":"5b8efff798038103d269b633813fc60c"}
        {"time":1544712660000000,"endpoint":"broke off","status":500,"duration_us":250000,"method":"GET","bytes":0,"trace_id":"5b8efff798038103d269b633813fc60c"}
    "#]].assert_eq(&shown(&translated));
}

#[test]
fn a_body_of_empty_pieces_is_refused_before_it_takes_long() {
    let empty = |tag: u8, count: usize| -> Vec<u8> { [tag << 3 | 2, 0].repeat(count) };
    let many = 7 << 20;
    let in_group = |inner: &[u8]| message(&[(1, inner)]);
    let in_scope = |inner: &[u8]| in_group(&message(&[(2, inner)]));
    let metric = message(&[(1, b"n"), (5, &empty(1, 500_000))]);
    for (signal, body) in [
        (Signal::Logs, empty(1, many)),
        (Signal::Traces, in_group(&empty(2, many))),
        (Signal::Traces, in_scope(&empty(2, many))),
        (Signal::Metrics, in_scope(&message(&[(2, &metric)]))),
    ] {
        let read = read(
            signal,
            Encoding::Protobuf,
            &body,
            &Increases::new(0),
            NOW_US,
        );
        let error = read.expect_err("too many pieces");
        assert!(error.to_string().contains("more than 100000"), "{error}");
    }
    for body in [
        format!(r#"{{"resourceSpans":[{}{{}}]}}"#, "{},".repeat(many / 2)),
        format!(
            r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{}{{}}]}}]}}]}}"#,
            "{},".repeat(many / 2)
        ),
    ] {
        let body = body.as_bytes();
        let read = read(
            Signal::Traces,
            Encoding::Json,
            body,
            &Increases::new(0),
            NOW_US,
        );
        assert!(matches!(read, Err(OtlpError::TooMuch(_))), "{read:?}");
    }
}

#[test]
fn a_log_record_in_json() {
    check(
        Signal::Logs,
        r#"{"resourceLogs":[{"resource":{"attributes":[
            {"key":"service.name","value":{"stringValue":"my-service"}}]},
          "scopeLogs":[{"scope":{"name":"my.logger"},"logRecords":[
            {"timeUnixNano":"1544712660300000000","severityNumber":17,"severityText":"Error",
             "traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"EEE19B7EC3C1B174",
             "body":{"stringValue":"it broke"},
             "attributes":[{"key":"code.lineno","value":{"intValue":7}}]},
            {"observedTimeUnixNano":1544712660300000000,"body":{"kvlistValue":{"values":[
              {"key":"a","value":{"intValue":"1"}}]}}},
            {"eventName":"click","body":null}]}]}]}"#,
        &expect![[r#"
            tel.log.my-service._._
            {"time":1544712660300000,"level":"error","message":"it broke","source":"my.logger","trace_id":"5b8efff798038103d269b633813fc60c","fields":{"code_lineno":7,"otel":{"span_id":"eee19b7ec3c1b174"}}}
            {"time":1544712660300000,"level":"info","message":"{\"a\":1}","source":"my.logger"}
            {"time":1544712700000000,"level":"info","message":"click","source":"my.logger","fields":{"otel":{"event":"click"}}}
        "#]],
    );
}

#[test]
fn metrics_in_json() {
    check(
        Signal::Metrics,
        r#"{"resourceMetrics":[{"resource":{"attributes":[
            {"key":"service.name","value":{"stringValue":"my-service"}}]},
          "scopeMetrics":[{"scope":{},"metrics":[
            {"name":"jobs","unit":"1","sum":{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[
              {"asInt":"5","startTimeUnixNano":"1544712660300000000","timeUnixNano":"1544712660400000000",
               "attributes":[{"key":"queue.name","value":{"stringValue":"mail"}}]},
              {"asDouble":7,"startTimeUnixNano":"1544712660300000000","timeUnixNano":"1544712660500000000",
               "attributes":[{"key":"queue.name","value":{"stringValue":"mail"}}]}]}},
            {"name":"bytes","unit":"By","sum":{"aggregationTemporality":1,"isMonotonic":true,"dataPoints":[
              {"asInt":5,"timeUnixNano":"1544712660400000000"}]}},
            {"name":"open","sum":{"aggregationTemporality":2,"dataPoints":[{"asInt":-5,"timeUnixNano":"1"}]}},
            {"name":"load","gauge":{"dataPoints":[{"asDouble":0.5},{"asDouble":"NaN"},{"flags":1}]}},
            {"name":"took","unit":"ms","histogram":{"aggregationTemporality":1,"dataPoints":[
              {"count":"3","sum":9.5,"min":1,"max":6,"bucketCounts":["1","2","0"],"explicitBounds":[2,5]}]}},
            {"name":"sizes","exponentialHistogram":{"aggregationTemporality":1,"dataPoints":[
              {"count":"4","sum":9,"scale":0,"zeroCount":"1","positive":{"offset":1,"bucketCounts":["3"]}}]}},
            {"name":"old","summary":{"dataPoints":[{"count":"2","sum":3,"timeUnixNano":"1544712660400000000",
              "startTimeUnixNano":"1544712660300000000","quantileValues":[{"quantile":0.5,"value":1.5}]}]}},
            {"name":"wrong","histogram":{"aggregationTemporality":1,"dataPoints":[
              {"count":"3","bucketCounts":["1","2"],"explicitBounds":[2,5]}]}},
            {"name":"falls","sum":{"aggregationTemporality":1,"dataPoints":[{"asInt":"1"}]}},
            {"name":"","gauge":{"dataPoints":[]}},
            {"name":"nothing"}
          ]}]}]}"#,
        &expect![[r#"
            tel.metric.my-service._._
            {"time":1544712660400000,"name":"jobs","kind":"counter","unit":"1","value":5.0,"delta":5.0,"labels":{"queue_name":"mail"}}
            {"time":1544712660500000,"name":"jobs","kind":"counter","unit":"1","value":7.0,"delta":2.0,"labels":{"queue_name":"mail"}}
            {"time":1544712660400000,"name":"bytes","kind":"counter","unit":"By","delta":5.0}
            {"time":0,"name":"open","kind":"gauge","value":-5.0}
            {"time":1544712700000000,"name":"load","kind":"gauge","value":0.5}
            {"time":1544712700000000,"name":"took","kind":"histogram","unit":"ms","observed":{"count":3,"sum":9.5,"min":1.0,"max":6.0,"bounds":[2.0,5.0],"counts":[1,2,0]}}
            {"time":1544712700000000,"name":"sizes","kind":"histogram","observed":{"count":4,"sum":9.0,"bounds":[0.0,2.0,4.0],"counts":[1,0,3,0]}}
            {"time":1544712660400000,"name":"old","kind":"gauge","value":1.5,"labels":{"quantile":"0.5"}}
            {"time":1544712660400000,"name":"old_count","kind":"counter","value":2.0,"delta":2.0}
            {"time":1544712660400000,"name":"old_sum","kind":"counter","value":3.0,"delta":3.0}
            refused 4: metric "wrong": the bounds must be finite and rise, with one count more than bounds
            left out 2
        "#]],
    );
}

#[test]
fn bad_records_are_refused_and_bad_bodies_too() {
    let spans = |spans: &str| {
        let resource = r#"{"attributes":[{"key":"service.name","value":{"stringValue":"a"}}]}"#;
        format!(
            r#"{{"resourceSpans":[{{"resource":{resource},"scopeSpans":[{{"spans":[{spans}]}}]}}]}}"#
        )
    };
    let good =
        r#"{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","name":"a"}"#;
    check(
        Signal::Traces,
        &spans(&format!(
            r#"{{"traceId":"00","name":"b"}},{good},{{"traceId":"xy"}},{{"name":7}},null"#
        )),
        &expect![[r#"
            tel.span.a._._
            {"trace_id":"5b8efff798038103d269b633813fc60c","span_id":"eee19b7ec3c1b174","name":"a","service":"a","version":"_","instance":"_","time":1544712700000000,"duration_us":0,"status":"ok"}
            refused 4: span "b" has no trace of 16 bytes and identity of 8, not all 0
        "#]],
    );
    let own = spans(good).replace(r#""a"}}]"#, r#""serin"}}]"#);
    check(
        Signal::Traces,
        &own,
        &expect![[r#"
        refused 1: service.name "serin" is a part of Serin; give the service another name
    "#]],
    );
    for body in [
        "",
        "[]",
        "nonsense",
        r#"{"resourceSpans":7}"#,
        "{\"resourceSpans\":[{}]",
    ] {
        let read = read(
            Signal::Traces,
            Encoding::Json,
            body.as_bytes(),
            &Increases::new(0),
            NOW_US,
        );
        assert!(matches!(read, Err(OtlpError::Json(..))), "{body}");
    }
    check(Signal::Traces, "{}", &expect![""]);
    check(
        Signal::Traces,
        r#"{"resourceSpans":null,"other":1}"#,
        &expect![""],
    );
}

/// A message with these fields, each bytes.
fn message(fields: &[(u8, &[u8])]) -> Vec<u8> {
    let mut message = Vec::new();
    for (tag, bytes) in fields {
        message.push(tag << 3 | 2);
        prost::encode_length_delimiter(bytes.len(), &mut message).expect("it fits");
        message.extend_from_slice(bytes);
    }
    message
}

fn request(leaf: &[u8]) -> Vec<u8> {
    let name = message(&[(1, b"a")]);
    let attribute = message(&[(1, b"service.name"), (2, &name)]);
    let resource = message(&[(1, &attribute)]);
    let scope = message(&[(2, leaf)]);
    // The resource may come last.
    message(&[(1, &message(&[(2, &scope), (1, &resource)]))])
}

#[test]
fn protobuf_is_read_as_json_is() {
    let span = message::Span {
        trace_id: vec![0x5b; 16],
        span_id: vec![0xee; 8],
        name: String::from("work"),
        start_time_unix_nano: 1_544_712_660_000_000_000,
        end_time_unix_nano: 1_544_712_660_000_005_000,
        ..message::Span::default()
    };
    let body = request(&span.encode_to_vec());
    let increases = Increases::new(0);
    let read = |body: &[u8]| read(Signal::Traces, Encoding::Protobuf, body, &increases, NOW_US);
    let translated = read(&body).expect("it is a request");
    expect![[r#"
        tel.span.a._._
        {"trace_id":"5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b","span_id":"eeeeeeeeeeeeeeee","name":"work","service":"a","version":"_","instance":"_","time":1544712660000000,"duration_us":5,"status":"ok"}
    "#]].assert_eq(&shown(&translated));
    let refused = read(&request(b"\xff\xff"))
        .expect("only the span is bad")
        .refused;
    assert_eq!(refused.count, 1);
    for end in 1..body.len() {
        // Whatever is cut off, the rest is refused or read, and nothing breaks.
        if let Ok(translated) = read(&body[..end]) {
            assert_eq!(translated.lines, []);
        }
    }
    assert!(matches!(read(b"nonsense"), Err(OtlpError::Protobuf(_))));
    assert!(read(b"").expect("an empty request").lines.is_empty());
}

#[test]
fn a_small_body_cannot_become_a_large_one() {
    let value = message(&[(1, &vec![b'x'; 1 << 20])]);
    let resource = message(&[(1, &message(&[(1, b"big"), (2, &value)]))]);
    let span = message::Span {
        trace_id: vec![1; 16],
        span_id: vec![1; 8],
        ..message::Span::default()
    };
    let span = span.encode_to_vec();
    let spans: Vec<(u8, &[u8])> = (0..100).map(|_| (2, &*span)).collect();
    let body = message(&[(1, &message(&[(1, &resource), (2, &message(&spans))]))]);
    let read = read(
        Signal::Traces,
        Encoding::Protobuf,
        &body,
        &Increases::new(0),
        NOW_US,
    );
    assert!(matches!(read, Err(OtlpError::TooMuch(_))));
}

#[test]
fn answers_say_how_many_were_refused() {
    let refused = Refused {
        count: 3,
        why: String::from("no"),
    };
    let json = |signal| String::from_utf8(answer::taken(signal, Encoding::Json, &refused));
    assert_eq!(
        json(Signal::Traces).as_deref(),
        Ok(r#"{"partialSuccess":{"errorMessage":"no","rejectedSpans":"3"}}"#)
    );
    assert_eq!(
        answer::taken(Signal::Logs, Encoding::Protobuf, &refused),
        [0x0a, 6, 0x08, 3, 0x12, 2, b'n', b'o']
    );
    let none = Refused::default();
    assert!(answer::taken(Signal::Logs, Encoding::Protobuf, &none).is_empty());
    assert_eq!(answer::taken(Signal::Logs, Encoding::Json, &none), b"{}");
    assert_eq!(
        answer::failed(Encoding::Protobuf, 3, "no"),
        [0x08, 3, 0x12, 2, b'n', b'o']
    );
}
