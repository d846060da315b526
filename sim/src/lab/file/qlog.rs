//! qlog traces: one file for each connection of a client, and one for all connections of a server.
//!
//! quinn writes the records of an early draft. They are rewritten to the present one: JSON text sequences (RFC 7464,
//! `.sqlog`) by draft-ietf-quic-qlog-main-schema-12 and draft-ietf-quic-qlog-quic-events-12. Times are milliseconds
//! since the begin of the run. The vantage point is the host, as the client or the server of the connection.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use cyphonic_core::quic::{QlogSink, Vantage};
use cyphonic_scenarios::write_whole;
use serde_json::{Map, Value, json};

use crate::world::QlogSinks;

/// Begins each record of a JSON text sequence (RFC 7464 §2.2).
const RECORD_SEPARATOR: u8 = 0x1e;

/// Where the traces of each host go: `out/STEM-HOST-NUMBER_client.sqlog`, or `_server`. Each kind is numbered in the
/// order in which the host opens them, also after a restart of the host.
pub(super) fn sinks(out: PathBuf, stem: String) -> QlogSinks {
    let opened: Arc<Mutex<BTreeMap<(String, &str), u64>>> = Arc::default();
    Arc::new(move |host| {
        let (out, stem, host, opened) = (out.clone(), stem.clone(), host.to_owned(), opened.clone());
        QlogSink(Arc::new(move |vantage| {
            let number = {
                let mut opened = opened.lock().expect("no holder panics");
                let next = opened.entry((host.clone(), vantage.name())).or_default();
                *next += 1;
                *next - 1
            };
            let file = out.join(format!("{stem}-{host}-{number}_{}.sqlog", vantage.name()));
            Box::new(Trace { file, host: host.clone(), vantage, bytes: Vec::new() })
        }))
    })
}

/// A trace. It is written when its connections are gone, whole or not at all. Without events there is no file.
struct Trace {
    file: PathBuf,
    host: String,
    vantage: Vantage,
    bytes: Vec<u8>,
}

impl Write for Trace {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.bytes.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let Some(text) = rewritten(&self.bytes, &self.host, self.vantage) else { return };
        if let Err(error) = write_whole(&self.file, &text) {
            let _ = writeln!(std::io::stderr(), "warning: {error}: this trace is lost");
        }
    }
}

/// The trace in the present schema; `None` if it has no events.
fn rewritten(bytes: &[u8], host: &str, vantage: Vantage) -> Option<Vec<u8>> {
    let records = bytes.split(|byte| *byte == RECORD_SEPARATOR).filter(|record| !record.is_empty());
    let mut records = records.filter_map(|record| serde_json::from_slice::<Map<String, Value>>(record).ok());
    let before = records.next()?;
    let mut text = Vec::new();
    let mut put = |record: &Value| {
        text.push(RECORD_SEPARATOR);
        text.extend_from_slice(record.to_string().as_bytes());
        text.push(b'\n');
    };
    put(&json!({
        "file_schema": "urn:ietf:params:qlog:file:sequential",
        "serialization_format": "application/qlog+json-seq",
        "title": before.get("title"),
        "trace": {
            "common_fields": {
                "time_format": "relative_to_epoch",
                "reference_time": { "clock_type": "monotonic", "epoch": "unknown" },
            },
            "vantage_point": { "name": host, "type": vantage.name() },
            "event_schemas": ["urn:ietf:params:qlog:events:quic-12"],
        },
    }));
    let mut events = records.filter_map(event).peekable();
    events.peek()?;
    events.for_each(|event| put(&event));
    Some(text)
}

/// An event in the present schema.
fn event(mut before: Map<String, Value>) -> Option<Value> {
    let name = match before.get("name")?.as_str()? {
        "recovery:metrics_updated" => "quic:recovery_metrics_updated".to_owned(),
        other => format!("quic:{}", other.split_once(':')?.1),
    };
    let mut data = before.remove("data")?;
    // The length is that of the whole packet. In the present schema `length` of a header is the field of that name,
    // which short headers do not have.
    if let Some(length) =
        data.get_mut("header").and_then(Value::as_object_mut).and_then(|header| header.remove("length"))
    {
        data.as_object_mut()?.insert("raw".to_owned(), json!({ "length": length }));
    }
    let mut event = json!({ "time": before.get("time")?, "name": name, "data": data });
    // The peer's first connection ID. It may be empty.
    if let Some(group) = before.remove("group_id").filter(|group| group.as_str().is_some_and(|id| !id.is_empty())) {
        event.as_object_mut()?.insert("group_id".to_owned(), group);
    }
    Some(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_the_early_draft_are_rewritten_and_a_trace_without_events_is_none() {
        let header = "\u{1e}{\"qlog_version\":\"0.3\",\"qlog_format\":\"JSON-SEQ\",\"title\":\"alice\",\"trace\":{}}\n";
        assert_eq!(rewritten(header.as_bytes(), "alice", Vantage::Client), None);
        let sent = "\u{1e}{\"time\":40.5,\"name\":\"transport:packet_sent\",\"data\":{\"header\":{\"packet_type\":\"1RTT\",\
                    \"packet_number\":7,\"length\":1200}},\"group_id\":\"aa\"}\n";
        let text = rewritten(format!("{header}{sent}").as_bytes(), "alice", Vantage::Client).unwrap();
        let text = String::from_utf8(text).unwrap();
        let records: Vec<Value> =
            text.split('\u{1e}').skip(1).map(|record| serde_json::from_str(record).unwrap()).collect();
        assert_eq!(records[0]["trace"]["vantage_point"], json!({ "name": "alice", "type": "client" }));
        let data = json!({ "header": { "packet_type": "1RTT", "packet_number": 7 }, "raw": { "length": 1200 } });
        assert_eq!(records[1], json!({ "time": 40.5, "name": "quic:packet_sent", "data": data, "group_id": "aa" }));
    }
}
