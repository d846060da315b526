//! The event log of a run: each message with sender, receiver and length, and each outcome.
//!
//! The simulator and the daemons write the same log, so that runs of a scenario on both can be compared. It is JSON,
//! with one [`Entry`] in a line, in the order of events. It contains no secret: only the name of a message, the fields
//! worth showing and the length.

use std::fmt;

use cyphonic_core::event::{Event, Protection};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The number of the sweep's cell.
    #[serde(default)]
    pub cell: usize,
    /// The time, nanoseconds: since the start of a simulated run, or since 1970 in a real one.
    pub at_ns: u64,
    /// The host that reports it: `as`, `nms`, `trs`, a node's short name, or `lab`.
    pub host: String,
    /// The event.
    #[serde(flatten)]
    pub what: What,
}

/// The kinds of events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum What {
    /// A signaling message was sent, or a handshake finished.
    Signal(Signal),
    /// The node is registered.
    Registered {
        /// Whether the NMS found a NAT in front of it.
        nat: bool,
    },
    /// The node lost its registration, or could not register.
    Unregistered {
        /// Why.
        reason: String,
    },
    /// The NMS chose a route.
    RouteChosen {
        /// The short name of the node that asked.
        initiator: String,
        /// The short name of its peer.
        responder: String,
        /// The signaling pattern; `None` if there is no route.
        pattern: Option<u8>,
    },
    /// A tunnel is ready for packets.
    TunnelUp {
        /// The other node: its short name.
        peer: String,
        /// The signaling pattern that was used.
        pattern: u8,
        /// Whether this node sent the Tunnel Request.
        dialed: bool,
        /// How packets are carried.
        framing: String,
    },
    /// A tunnel is gone, or could not be built.
    TunnelDown {
        /// The other node: its short name, or its virtual address if its name is not known.
        peer: String,
        /// Why.
        reason: String,
    },
    /// A step of the scenario begins.
    Step {
        /// Its number, from 0.
        step: usize,
    },
    /// A step of the scenario is complete.
    Outcome {
        /// Its number, from 0.
        step: usize,
        /// The outcome, in words.
        outcome: String,
    },
}

/// One arrow of a sequence diagram.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// The sender; of a handshake, the client.
    pub from: String,
    /// The receiver of this hop; of a handshake, the server.
    pub to: String,
    /// The message's name, or that of the handshake.
    pub what: String,
    /// The fields worth showing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Its protection, as in diagrams: `QUIC`, `CK_alice`; empty for a handshake.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub protection: String,
    /// Length of header, body and HMAC, bytes; `None` for a handshake.
    pub bytes: Option<usize>,
    /// Whether it was sent before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repeated: bool,
}

impl fmt::Display for Signal {
    /// `alice → nms Direction Request { peer: bob } [QUIC], 61 bytes`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arrow = if self.bytes.is_none() { '⇄' } else { '→' };
        write!(f, "{} {arrow} {} {}", self.from, self.to, self.what)?;
        if !self.detail.is_empty() {
            write!(f, " {}", self.detail)?;
        }
        if !self.protection.is_empty() {
            write!(f, " [{}]", self.protection)?;
        }
        match self.bytes {
            Some(bytes) => write!(f, ", {bytes} bytes"),
            None => Ok(()),
        }
    }
}

/// A line of an event log that cannot be read.
#[derive(Debug, Error)]
#[error("line {line}: {source}")]
pub struct LogError {
    /// Its number, from 1.
    pub line: usize,
    /// What is wrong.
    pub source: serde_json::Error,
}

impl What {
    /// The log's entry for a role's event; `None` for most events.
    pub fn of(event: &Event) -> Option<Self> {
        Some(match event {
            Event::Signal(signal) => Self::Signal(Signal {
                from: signal.from.to_string(),
                to: signal.to.to_string(),
                what: signal.what.to_owned(),
                detail: signal.detail.clone(),
                protection: match &signal.protection {
                    Protection::Handshake => String::new(),
                    other => other.to_string(),
                },
                bytes: signal.bytes,
                repeated: signal.repeated,
            }),
            Event::Registered { nat, .. } => Self::Registered { nat: *nat },
            Event::Unregistered { reason } => Self::Unregistered { reason: reason.to_string() },
            Event::RouteChosen(chosen) => Self::RouteChosen {
                initiator: chosen.initiator.short().to_owned(),
                responder: chosen.responder.short().to_owned(),
                pattern: chosen.choice.as_ref().map(|choice| choice.pattern.number()),
            },
            Event::TunnelUp(up) => Self::TunnelUp {
                peer: up.peer.short().to_owned(),
                pattern: up.pattern.number(),
                dialed: up.dialed,
                framing: up.framing.name().to_owned(),
            },
            Event::TunnelDown { peer, reason } => {
                Self::TunnelDown { peer: short(peer).to_owned(), reason: reason.to_string() }
            }
            Event::RouteRequested { .. }
            | Event::Surveyed(_)
            | Event::StillRelayed { .. }
            | Event::PathSwitched { .. }
            | Event::UdpBlocked { .. }
            | Event::UdpWorks
            | Event::NoTcp(_)
            | Event::AddressesDiffer { .. }
            | Event::OtherMachine { .. }
            | Event::TunnelReady { .. }
            | Event::Dropped(_) => return None,
        })
    }
}

/// The short form of a name or an address.
fn short(peer: &str) -> &str {
    if peer.parse::<std::net::IpAddr>().is_ok() { peer } else { peer.split('.').next().unwrap_or(peer) }
}

/// The outcome of an echo step, in the words of [`What::Outcome`].
pub fn echoes(answered: usize, sent: u32) -> String {
    format!("{answered} of {sent} echoes answered")
}

/// The outcome of a TCP step.
pub fn transfer(bytes: u64, ok: bool) -> String {
    if ok { format!("{bytes} bytes arrived unchanged") } else { format!("{bytes} bytes did not arrive") }
}

/// The outcome of a UDP step.
pub fn datagrams(sent: u64) -> String {
    format!("{sent} datagrams sent")
}

impl Entry {
    /// The log's line, with its end.
    pub fn to_line(&self) -> String {
        let mut line = serde_json::to_string(self).expect("an entry has only strings for keys");
        line.push('\n');
        line
    }

    /// Reads a log. A last line without a line end is still being written and is left out.
    pub fn read(text: &str) -> Result<Vec<Self>, LogError> {
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let line = |(index, line)| serde_json::from_str(line).map_err(|source| LogError { line: index + 1, source });
        whole.lines().enumerate().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use cyphonic_core::event::Failure;
    use cyphonic_core::message::{Credential, LoginRequest, Message};
    use cyphonic_core::name::{Fqdn, NodeId, Party};

    use super::*;

    fn entry(event: &Event) -> Entry {
        Entry { cell: 0, at_ns: 7, host: "alice".to_owned(), what: What::of(event).unwrap() }
    }

    #[test]
    fn what_is_written_is_read_again_and_a_line_without_its_end_is_left_out() {
        let alice: Fqdn = "alice.cyphonic.test".parse().unwrap();
        let secret = Credential::Password("secret-of-alice".to_owned());
        let login = Message::LoginRequest(LoginRequest { device: NodeId::of(&alice), credential: secret });
        let signal = cyphonic_core::event::Signal::message(Party::Node(alice), Party::As, &login, Protection::Tls, 1);
        let entries = [
            entry(&Event::Signal(Box::new(signal))),
            entry(&Event::Unregistered { reason: Failure::Timeout }),
            entry(&Event::TunnelDown { peer: "198.18.0.11".into(), reason: Failure::Moved }),
            entry(&Event::TunnelDown { peer: "bob.cyphonic.test".into(), reason: Failure::Moved }),
            Entry { cell: 3, at_ns: 9, host: "lab".into(), what: What::Outcome { step: 1, outcome: "done".into() } },
        ];
        let text: String = entries.iter().map(Entry::to_line).collect();
        assert_eq!(Entry::read(&text).unwrap(), entries);
        assert!(!text.contains("secret"), "{text}");
        let What::Signal(signal) = &entries[0].what else { panic!() };
        assert_eq!(signal.to_string(), "alice → as Login Request { device id, password } [TLS], 66 bytes");
        assert_eq!(Entry::read(&text[..text.len() - 2]).unwrap(), entries[..4]);
        let error = Entry::read("{}\n").unwrap_err();
        assert!(error.to_string().starts_with("line 1: missing field"), "{error}");
    }
}
