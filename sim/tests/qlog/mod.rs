//! What a validator of qlog's schema demands of a trace: its file, its trace and its events as a JSON text sequence
//! (draft-ietf-quic-qlog-main-schema-12), and the data of each event (draft-ietf-quic-qlog-quic-events-12).

use serde_json::{Map, Value};

/// The records of a sequence: each begins with RS, and ends with LF (RFC 7464 §2.2).
fn records(name: &str, bytes: &[u8]) -> Vec<Map<String, Value>> {
    let text = std::str::from_utf8(bytes).unwrap();
    let rest = text.strip_prefix('\u{1e}').unwrap_or_else(|| panic!("{name}: no record separator"));
    let record = |record: &str| {
        let text = record.strip_suffix('\n').unwrap_or_else(|| panic!("{name}: a record without its end: {record}"));
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}: {record}"))
    };
    rest.split('\u{1e}').map(record).collect()
}

/// The times of all events of a name, in order.
pub(crate) fn times(bytes: &[u8], kind: &str) -> Vec<f64> {
    let events = records("trace", bytes).into_iter().filter(|event| event.get("name") == Some(&kind.into()));
    events.map(|event| event["time"].as_f64().unwrap()).collect()
}

/// Whether an object has these keys, of which the latter may be missing, and no others.
fn has_keys(object: &Map<String, Value>, needed: &[&str], others: &[&str]) -> bool {
    needed.iter().all(|key| object.contains_key(*key))
        && object.keys().all(|key| needed.contains(&key.as_str()) || others.contains(&key.as_str()))
}

fn assert_is_header(header: &Value) {
    const TYPES: [&str; 8] =
        ["initial", "handshake", "0RTT", "1RTT", "retry", "version_negotiation", "stateless_reset", "unknown"];
    let header = header.as_object().unwrap();
    // No length: it is that of a long header only.
    assert!(has_keys(header, &["packet_type", "packet_number"], &["flags", "version", "scid", "dcid"]), "{header:?}");
    assert!(TYPES.contains(&header["packet_type"].as_str().unwrap()), "{header:?}");
    assert!(header["packet_number"].is_u64(), "{header:?}");
}

/// Fails if a trace is not as the schema wants it.
pub(crate) fn assert_is_valid(name: &str, bytes: &[u8]) {
    let records = records(name, bytes);
    let (file, events) = records.split_first().unwrap();
    assert!(has_keys(file, &["file_schema", "serialization_format", "trace"], &["title", "description"]), "{file:?}");
    assert_eq!(file["file_schema"], "urn:ietf:params:qlog:file:sequential");
    assert_eq!(file["serialization_format"], "application/qlog+json-seq");
    let trace = file["trace"].as_object().unwrap();
    assert!(has_keys(trace, &["event_schemas"], &["title", "description", "common_fields", "vantage_point"]));
    assert_eq!(trace["event_schemas"], serde_json::json!(["urn:ietf:params:qlog:events:quic-12"]));
    let point = trace["vantage_point"].as_object().unwrap();
    let kind = point["type"].as_str().unwrap();
    assert!(has_keys(point, &["type", "name"], &["flow"]) && ["client", "server"].contains(&kind), "{point:?}");
    assert!(name.ends_with(&format!("_{kind}.sqlog")), "{name} is a {kind}'s");
    assert!(name.contains(&format!("-{}-", point["name"].as_str().unwrap())), "{name} is of {point:?}");
    let common = trace["common_fields"].as_object().unwrap();
    assert_eq!(common["time_format"], "relative_to_epoch");
    // A monotonic clock has an epoch that nobody knows.
    assert_eq!(common["reference_time"], serde_json::json!({ "clock_type": "monotonic", "epoch": "unknown" }));
    assert!(!events.is_empty(), "{name}");
    let mut last = 0.0;
    for event in events {
        assert!(has_keys(event, &["time", "name", "data"], &["group_id"]), "{name}: {event:?}");
        let time = event["time"].as_f64().unwrap();
        assert!(time >= last, "{name}: {time} after {last}");
        last = time;
        let data = event["data"].as_object().unwrap();
        match event["name"].as_str().unwrap() {
            "quic:packet_sent" | "quic:packet_received" => {
                assert!(has_keys(data, &["header"], &["raw", "frames", "datagram_id", "trigger"]), "{event:?}");
                assert_is_header(&data["header"]);
            }
            "quic:packet_lost" => {
                assert!(has_keys(data, &[], &["header", "raw", "frames", "trigger"]), "{event:?}");
                data.get("header").into_iter().for_each(assert_is_header);
            }
            "quic:recovery_metrics_updated" => {
                let times = ["smoothed_rtt", "min_rtt", "latest_rtt", "rtt_variance"];
                let counts = ["pto_count", "congestion_window", "bytes_in_flight", "ssthresh", "packets_in_flight"];
                assert!(has_keys(data, &[], &[&times[..], &counts[..], &["pacing_rate"][..]].concat()), "{event:?}");
                assert!(times.iter().filter_map(|key| data.get(*key)).all(Value::is_number), "{event:?}");
                assert!(counts.iter().filter_map(|key| data.get(*key)).all(Value::is_u64), "{event:?}");
            }
            other => panic!("{name}: the schema has no event {other}"),
        }
    }
}
