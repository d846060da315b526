//! Numbers for Prometheus: the text format (version 0.0.4) over HTTP, on loopback only.
//!
//! Nothing is shared with the loop that moves packets. A request for the numbers goes to the loop as every other
//! request does.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

use crate::drive::Passing;
use crate::error::{Code, Failure};
use crate::seats::Seats;
use crate::tasks;

/// The longest request that is read.
const REQUEST_BYTES: usize = 8192;
/// Most connections at a time; beyond, the idlest gives way. Each takes one request, and ends within [`PATIENCE`].
const CONNECTIONS: usize = 16;
/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The sender for the text of one request.
pub(super) type Asked = oneshot::Sender<String>;

/// Serves the numbers at `place`, if there is one. Each request goes through `ask` to the loop.
pub(super) async fn serve<R: Send + 'static>(
    place: Option<SocketAddr>,
    ask: mpsc::Sender<R>,
    wrap: fn(Asked) -> R,
) -> Result<(), Failure> {
    let Some(place) = place else { return Ok(()) };
    if !place.ip().is_loopback() {
        let what = format!("`metrics`: {place} is not on loopback, and nothing asks who asks");
        return Err(Failure::new(Code::Config, what, "use 127.0.0.1:PORT or [::1]:PORT"));
    }
    let listener =
        TcpListener::bind(place).await.map_err(|error| crate::drive::refused("TCP", place, "metrics", &error))?;
    let seats = Seats::new(CONNECTIONS, CONNECTIONS);
    tasks::forever("answers for numbers", async move {
        loop {
            match listener.accept().await {
                Ok((stream, from)) => {
                    let Some((seat, gone)) = seats.take(from.ip()) else { continue };
                    let ask = ask.clone();
                    tokio::spawn(async move {
                        tokio::select! {
                            _ = tokio::time::timeout(PATIENCE, answer(stream, ask, wrap)) => {}
                            _ = gone => {}
                        }
                        drop(seat);
                    });
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    });
    Ok(())
}

async fn answer<R>(mut stream: TcpStream, ask: mpsc::Sender<R>, wrap: fn(Asked) -> R) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut piece = [0; 1024];
        let length = stream.read(&mut piece).await?;
        request.extend_from_slice(&piece[..length]);
        if length == 0 || request.len() > REQUEST_BYTES {
            return Ok(());
        }
    }
    let (status, body) = if request.starts_with(b"GET /metrics ") {
        let (sender, receiver) = oneshot::channel();
        if ask.send(wrap(sender)).await.is_err() {
            return Ok(());
        }
        ("200 OK", receiver.await.unwrap_or_default())
    } else {
        ("404 Not Found", "the numbers are at /metrics\n".to_owned())
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

/// The traffic through the loop.
#[derive(Default)]
pub(super) struct Traffic {
    /// Packets and bytes: UDP in, UDP out, from applications, and to applications.
    counts: [(u64, u64); 4],
}

impl Traffic {
    pub(super) fn count(&mut self, passing: &Passing<'_>) {
        let (what, length) = match passing {
            Passing::Received { payload, .. } => (0, payload.len()),
            Passing::Sent { payload, .. } => (1, payload.len()),
            Passing::FromTun(packet) => (2, packet.len()),
            Passing::ToTun(packet) => (3, packet.len()),
        };
        self.counts[what].0 += 1;
        self.counts[what].1 += length as u64;
    }
}

/// A page of numbers while it is written.
pub(super) struct Page(String);

impl Page {
    /// Begins a page with the numbers that every role has.
    pub(super) fn begin(role: &str, name: &str, uptime: Duration, traffic: &Traffic) -> Self {
        let mut page = Self(String::new());
        let version = env!("CARGO_PKG_VERSION");
        page.gauge(
            "info",
            "Role, name and version of this daemon.",
            [(vec![("role", role), ("name", name), ("version", version)], 1.0)],
        );
        page.gauge("uptime_seconds", "Time since the start.", [(Vec::new(), uptime.as_secs_f64())]);
        let [received, sent, from_tun, to_tun] = traffic.counts;
        let ways = |way: fn((u64, u64)) -> u64, pair: [(&'static str, (u64, u64)); 2]| {
            pair.map(|(direction, count)| (vec![("direction", direction)], way(count)))
        };
        let udp = [("received", received), ("sent", sent)];
        page.counter("udp_datagrams_total", "Datagrams of UDP.", ways(|count| count.0, udp));
        page.counter("udp_bytes_total", "Bytes in datagrams of UDP.", ways(|count| count.1, udp));
        if role == "node" {
            let tun = [("from_applications", from_tun), ("to_applications", to_tun)];
            page.counter("tun_packets_total", "Packets of the virtual interface.", ways(|count| count.0, tun));
            page.counter("tun_bytes_total", "Bytes in packets of the virtual interface.", ways(|count| count.1, tun));
        }
        page
    }

    /// Adds numbers that one label tells apart.
    pub(super) fn by(&mut self, name: &str, help: &str, label: &str, counts: &BTreeMap<&'static str, u64>) {
        self.counter(name, help, counts.iter().map(|(value, count)| (vec![(label, *value)], *count)));
    }

    pub(super) fn counter<'a>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Vec<(&'a str, &'a str)>, u64)>,
    ) {
        self.rows(name, help, "counter", rows);
    }

    pub(super) fn gauge<'a>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Vec<(&'a str, &'a str)>, f64)>,
    ) {
        self.rows(name, help, "gauge", rows);
    }

    fn rows<'a, V: std::fmt::Display>(
        &mut self,
        name: &str,
        help: &str,
        kind: &str,
        rows: impl IntoIterator<Item = (Vec<(&'a str, &'a str)>, V)>,
    ) {
        let text = &mut self.0;
        let _ = writeln!(text, "# HELP cyphonic_{name} {help}\n# TYPE cyphonic_{name} {kind}");
        for (labels, value) in rows {
            let _ = write!(text, "cyphonic_{name}");
            for (n, (label, value)) in labels.iter().enumerate() {
                let value = value.replace('\\', "\\\\").replace('"', "\\\"");
                let _ = write!(text, "{}{label}=\"{value}\"", if n == 0 { '{' } else { ',' });
            }
            let _ = writeln!(text, "{} {value}", if labels.is_empty() { "" } else { "}" });
        }
    }

    pub(super) fn end(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_in_the_text_format() {
        let mut traffic = Traffic::default();
        traffic.count(&Passing::FromTun(&[0; 20]));
        let mut page = Page::begin("node", "a\"b", Duration::from_millis(1500), &traffic);
        page.by("dropped_total", "What was dropped.", "reason", &BTreeMap::from([("bad-header", 3)]));
        let text = page.end();
        for line in [
            "# TYPE cyphonic_uptime_seconds gauge",
            "cyphonic_uptime_seconds 1.5",
            "cyphonic_tun_bytes_total{direction=\"from_applications\"} 20",
            "cyphonic_dropped_total{reason=\"bad-header\"} 3",
            "name=\"a\\\"b\"",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }

    async fn get(place: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(place).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[test]
    fn the_loop_is_asked_and_other_paths_are_refused_and_so_are_other_places() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let place = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let (ask, mut asked) = mpsc::channel::<Asked>(1);
            serve(Some(place), ask.clone(), |asked| asked).await.unwrap();
            tokio::spawn(async move {
                while let Some(asked) = asked.recv().await {
                    let _ = asked.send("cyphonic_up 1\n".to_owned());
                }
            });
            assert!(get(place, "/metrics").await.ends_with("\r\n\r\ncyphonic_up 1\n"));
            assert!(get(place, "/").await.starts_with("HTTP/1.1 404 "));
            let failure = serve(Some("192.0.2.1:1".parse().unwrap()), ask, |asked| asked).await.unwrap_err();
            assert_eq!(failure.code, Code::Config);
        });
    }
}
