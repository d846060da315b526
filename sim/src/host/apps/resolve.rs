//! A stub resolver: one query, sent every second until it is answered (RFC 1035 §4.2.1).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use cyphonic_core::name::Fqdn;
use cyphonic_core::time::Instant;
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};

use super::{Family, Inbound};
use crate::host::outlet::Outlet;

/// How long a query waits for its answer before it is sent again.
const RETRY: Duration = Duration::from_secs(1);
/// How long a resolution may take.
const GIVE_UP: Duration = Duration::from_secs(10);

/// How a name was resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolution {
    /// How many queries were sent.
    pub queries: u32,
    /// When the answer came, or when the resolver gave up.
    pub finished: Option<Instant>,
    /// The address, or why there is none.
    pub result: Option<Result<IpAddr, ResolveError>>,
}

/// Why a name was not resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResolveError {
    /// The server refused, with this response code.
    Refused(u16),
    /// The name exists and has no address of this family.
    NoAddress,
    /// No answer came in time.
    NoAnswer,
}

pub(super) struct Resolver {
    started: Instant,
    next: Instant,
    /// The server of the last query.
    server: Option<SocketAddr>,
    query: Vec<u8>,
    id: u16,
    kind: RecordType,
}

impl Resolver {
    pub(super) fn new(started: Instant, name: &Fqdn, family: Family, id: u16) -> Self {
        let kind = match family {
            Family::V4 => RecordType::A,
            Family::V6 => RecordType::AAAA,
        };
        let name = Name::from_ascii(format!("{name}.")).expect("an Fqdn is a domain name");
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(name, kind));
        let query = message.to_vec().expect("a question fits a message");
        Self { started, next: started, server: None, query, id, kind }
    }

    /// Sends the query, sends it again, or gives up.
    pub(super) fn wake(&mut self, outlet: &mut Outlet<'_>, port: u16, resolution: &mut Resolution) {
        if resolution.result.is_some() {
            return;
        }
        if outlet.now >= self.started + GIVE_UP {
            resolution.finished = Some(outlet.now);
            resolution.result = Some(Err(ResolveError::NoAnswer));
        } else if outlet.now >= self.next {
            // A query that cannot be sent yet (no virtual address) is repeated like one that was lost.
            let server = outlet.config.dns;
            self.server = Some(server);
            if outlet.udp(port, server, &self.query).is_ok() {
                resolution.queries += 1;
            }
            self.next = outlet.now + RETRY;
        }
    }

    /// Takes an answer to this query; false for any other packet.
    pub(super) fn receive(&mut self, inbound: &Inbound<'_>, now: Instant, resolution: &mut Resolution) -> bool {
        let &Inbound::Datagram { from, payload } = inbound else { return false };
        if self.server != Some(from) {
            return false;
        }
        let Ok(message) = Message::from_vec(payload) else { return false };
        if message.metadata.id != self.id || message.metadata.message_type != MessageType::Response {
            return false;
        }
        let address = message.answers.iter().find_map(|record| match (&record.data, self.kind) {
            (RData::A(a), RecordType::A) => Some(IpAddr::V4(a.0)),
            (RData::AAAA(a), RecordType::AAAA) => Some(IpAddr::V6(a.0)),
            _ => None,
        });
        resolution.finished = Some(now);
        resolution.result = Some(match (message.metadata.response_code, address) {
            (ResponseCode::NoError, Some(address)) => Ok(address),
            (ResponseCode::NoError, None) => Err(ResolveError::NoAddress),
            (code, _) => Err(ResolveError::Refused(code.into())),
        });
        true
    }

    pub(super) fn deadline(&self) -> Instant {
        self.next.min(self.started + GIVE_UP)
    }
}
