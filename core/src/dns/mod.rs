//! The DNS that a node answers inside itself.
//!
//! A node is the name server of the overlay's zone for its own applications. A query for a peer's name starts route
//! construction, and the answer is the peer's virtual address (paper §2.1). Queries come in over the virtual interface
//! as UDP payloads. No query is ever forwarded, so the zone's names do not leak.
//!
//! [`parse`] reads a query as a [`Question`]. [`Question::within`] says where in the zone its name is. The question has
//! a method for each answer: [`Question::answer`], [`Question::apex`], [`Question::pointer`], [`Question::name_error`],
//! [`Question::no_address`], [`Question::refused`].
//!
//! Every answer repeats the id, RD, and the question in the spelling of the query (RFC 1035 §4.1.2). It has an OPT
//! record if and only if the query has one (RFC 6891 §6.1.1). It has at most 512 bytes, which every client accepts. RA
//! is clear, because there is no recursion. Negative answers have a SOA record with a short TTL (RFC 2308 §3, §5),
//! because the name may exist soon.
//!
//! No answer about the zone makes a client ask another server. A C library that gets SERVFAIL or REFUSED asks the next
//! one of resolv.conf(5). So the answer for a peer that is offline is NOERROR without an address.
//!
//! [`query`] and [`parse_answer`] are the client's side, for tests and the simulator. hickory-proto parses and writes
//! the messages.

mod zone;

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, NS, PTR};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use thiserror::Error;

use crate::event::DropReason;
use crate::name::{Fqdn, Virtual};

pub use zone::Place;

/// How long clients may cache an answer, seconds. A virtual address is fixed for the life of its name, so this could be
/// long. It is short so that a removed name, or an overlay that is switched off, is soon forgotten.
pub const TTL: u32 = 60;

/// How long clients may cache that a name or record does not exist, seconds (RFC 2308 §5). It is short, because a
/// device may be added at any time.
pub const NEGATIVE_TTL: u32 = 5;

/// The port, of UDP and TCP, on which a node answers.
pub const PORT: u16 = 53;

/// The largest UDP payload that we announce (OPT record): the value of DNS flag day 2020, which no path fragments.
const MAX_PAYLOAD: u16 = 1232;

/// The type of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum QueryKind {
    /// The IPv4 address.
    A,
    /// The IPv6 address.
    Aaaa,
    /// Another record type, by number.
    Other(u16),
}

impl From<RecordType> for QueryKind {
    fn from(kind: RecordType) -> Self {
        match kind {
            RecordType::A => Self::A,
            RecordType::AAAA => Self::Aaaa,
            other => Self::Other(other.into()),
        }
    }
}

impl From<QueryKind> for RecordType {
    fn from(kind: QueryKind) -> Self {
        match kind {
            QueryKind::A => Self::A,
            QueryKind::Aaaa => Self::AAAA,
            QueryKind::Other(number) => Self::from(number),
        }
    }
}

/// The response code of a query (RFC 1035 §4.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rcode {
    /// NOERROR, with or without data.
    NoError,
    /// SERVFAIL: no answer now.
    ServerFailure,
    /// NXDOMAIN: there is no such name.
    NameError,
    /// REFUSED: not our zone.
    Refused,
    /// Another code, by number.
    Other(u16),
}

impl From<ResponseCode> for Rcode {
    fn from(code: ResponseCode) -> Self {
        match code {
            ResponseCode::NoError => Self::NoError,
            ResponseCode::ServFail => Self::ServerFailure,
            ResponseCode::NXDomain => Self::NameError,
            ResponseCode::Refused => Self::Refused,
            other => Self::Other(other.into()),
        }
    }
}

/// A DNS query that can be answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// The query's id.
    pub id: u16,
    /// The name in the spelling of the query, without the final dot. Bytes that are no letters, digits or hyphens are
    /// escaped.
    pub name: String,
    /// The name, if a node can have it.
    pub fqdn: Option<Fqdn>,
    /// The type of the record that is asked for.
    pub kind: QueryKind,
    query: Query,
    recursion_desired: bool,
    /// The OPT record of the query, if it has one.
    edns: Option<Box<Edns>>,
    /// The zone whose SOA record goes into negative answers.
    authority: Option<Box<Name>>,
}

/// Reads the payload of a query: opcode QUERY, exactly one question, no answers, and no bytes after the message. Any
/// other payload is [`DropReason::BadDns`].
pub fn parse(payload: &[u8]) -> Result<Question, DropReason> {
    // The counts are checked first, because they bound the parser's work on a hostile payload. OPT and a signature may
    // follow the question.
    let counts = payload.get(4..12).ok_or(DropReason::BadDns)?;
    if counts[..6] != [0, 1, 0, 0, 0, 0] || counts[6] != 0 || counts[7] > 2 {
        return Err(DropReason::BadDns);
    }
    let message = decode(payload).ok_or(DropReason::BadDns)?;
    let Message { metadata, queries, edns, .. } = message;
    let [query] = <[Query; 1]>::try_from(queries).map_err(|_| DropReason::BadDns)?;
    if metadata.message_type != MessageType::Query || metadata.op_code != OpCode::Query {
        return Err(DropReason::BadDns);
    }
    let mut name = query.name().to_ascii();
    name.pop(); // the final dot, which a name off the wire always has
    Ok(Question {
        id: metadata.id,
        fqdn: name.parse().ok(),
        name,
        kind: query.query_type().into(),
        query,
        recursion_desired: metadata.recursion_desired,
        edns: edns.map(Box::new),
        authority: None,
    })
}

impl Question {
    /// The answer for a name that has these addresses. A gets the IPv4 address, AAAA the IPv6 one, ANY both, valid for
    /// `ttl` seconds ([`TTL`]). Every other type gets NOERROR without data. The answer is authoritative.
    pub fn answer(&self, addresses: &Virtual, ttl: u32) -> Vec<u8> {
        let (v4, v6) = (RData::A(A(addresses.v4)), RData::AAAA(AAAA(addresses.v6)));
        let data = match RecordType::from(self.kind) {
            RecordType::A => vec![v4],
            RecordType::AAAA => vec![v6],
            RecordType::ANY => vec![v4, v6],
            _ => Vec::new(),
        };
        self.reply(ResponseCode::NoError, self.records(data, ttl), NEGATIVE_TTL)
    }

    /// The answer for the name of the zone itself. SOA, NS and ANY get its records, every other type NOERROR without
    /// data. The answer is authoritative.
    pub fn apex(&self) -> Vec<u8> {
        let zone = self.query.name();
        let (soa, ns) = (RData::SOA(zone::soa(zone)), RData::NS(NS(zone::server(zone))));
        let data = match RecordType::from(self.kind) {
            RecordType::SOA => vec![soa],
            RecordType::NS => vec![ns],
            RecordType::ANY => vec![soa, ns],
            _ => Vec::new(),
        };
        self.reply(ResponseCode::NoError, self.records(data, TTL), NEGATIVE_TTL)
    }

    fn records(&self, data: Vec<RData>, ttl: u32) -> Vec<Record> {
        data.into_iter().map(|data| Record::from_rdata(self.query.name().clone(), ttl, data)).collect()
    }

    /// The address of a reverse lookup, if the name is that of a whole address under in-addr.arpa or ip6.arpa (RFC 1035
    /// §3.5, RFC 3596 §2.5).
    pub fn reverse(&self) -> Option<IpAddr> {
        let net = self.query.name().parse_arpa_name().ok()?;
        (net.prefix_len() == net.max_prefix_len()).then(|| net.addr())
    }

    /// The answer to a reverse lookup of an address that has this name. PTR gets the name, every other type NOERROR
    /// without data. The answer is authoritative.
    pub fn pointer(&self, name: &Fqdn, ttl: u32) -> Vec<u8> {
        let data = (self.kind == QueryKind::Other(RecordType::PTR.into()))
            .then(|| RData::PTR(PTR(Name::from_ascii(format!("{name}.")).expect("an FQDN is a DNS name"))));
        self.reply(ResponseCode::NoError, self.records(data.into_iter().collect(), ttl), NEGATIVE_TTL)
    }

    /// NXDOMAIN: the zone has no such name. The answer is authoritative.
    pub fn name_error(&self) -> Vec<u8> {
        self.reply(ResponseCode::NXDomain, Vec::new(), NEGATIVE_TTL)
    }

    /// NOERROR without data, not to be cached. The node does not know now whether the name exists, or cannot reach the
    /// peer. It is not SERVFAIL, because then a client would ask its next server for a name of our zone.
    pub fn no_address(&self) -> Vec<u8> {
        self.reply(ResponseCode::NoError, Vec::new(), 0)
    }

    /// REFUSED: the name is not in the overlay's zone. The client asks its next server.
    pub fn refused(&self) -> Vec<u8> {
        self.reply(ResponseCode::Refused, Vec::new(), 0)
    }

    fn reply(&self, code: ResponseCode, records: Vec<Record>, negative_ttl: u32) -> Vec<u8> {
        // Two kinds of query get an error for every name: those of an unknown EDNS version (RFC 6891 §6.1.3), and those
        // of another class than the Internet's.
        let (code, records) = if self.edns.as_ref().is_some_and(|edns| edns.version() != 0) {
            (ResponseCode::BADVERS, Vec::new())
        } else if matches!(self.query.query_class(), DNSClass::IN | DNSClass::ANY) {
            (code, records)
        } else {
            (ResponseCode::Refused, Vec::new())
        };
        let mut reply = Message::response(self.id, OpCode::Query);
        reply.metadata.recursion_desired = self.recursion_desired;
        reply.metadata.authoritative = matches!(code, ResponseCode::NoError | ResponseCode::NXDomain);
        reply.metadata.response_code = code;
        reply.add_query(self.query.clone());
        if records.is_empty()
            && reply.metadata.authoritative
            && let Some(zone) = self.authority.as_deref()
        {
            let soa = RData::SOA(zone::soa(zone));
            reply.add_authority(Record::from_rdata(zone.clone(), negative_ttl, soa));
        }
        reply.add_answers(records);
        if let Some(asked) = &self.edns {
            let mut edns = Edns::new();
            // DO is copied (RFC 3225 §3); options that we do not know are ignored.
            edns.set_max_payload(MAX_PAYLOAD).set_dnssec_ok(asked.flags().dnssec_ok);
            reply.set_edns(edns);
        }
        reply.to_vec().expect("a name that was parsed, and at most two records, can be written")
    }
}

/// Why bytes are no answer to a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AnswerError {
    /// No DNS message.
    #[error("no DNS message")]
    Malformed,
    /// A query.
    #[error("a query, not an answer")]
    NotAnAnswer,
}

/// A query as a stub resolver sends it: RD set, no OPT record.
pub fn query(id: u16, name: &Fqdn, kind: QueryKind) -> Vec<u8> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    let name = Name::from_ascii(format!("{name}.")).expect("an FQDN is a DNS name");
    message.add_query(Query::query(name, kind.into()));
    message.to_vec().expect("one question can be written")
}

/// The id, the code, and the first address (A or AAAA) of an answer.
pub fn parse_answer(payload: &[u8]) -> Result<(u16, Rcode, Option<IpAddr>), AnswerError> {
    let message = decode(payload).ok_or(AnswerError::Malformed)?;
    if message.metadata.message_type != MessageType::Response {
        return Err(AnswerError::NotAnAnswer);
    }
    let address = message.answers.iter().find_map(|record| match &record.data {
        RData::A(a) => Some(IpAddr::V4(a.0)),
        RData::AAAA(a) => Some(IpAddr::V6(a.0)),
        _ => None,
    });
    Ok((message.metadata.id, message.metadata.response_code.into(), address))
}

/// Reads a payload that is one message, without bytes after it.
fn decode(payload: &[u8]) -> Option<Message> {
    let mut decoder = BinDecoder::new(payload);
    let message = Message::read(&mut decoder).ok()?;
    decoder.is_empty().then_some(message)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const BOB: Virtual = Virtual {
        v4: std::net::Ipv4Addr::new(198, 18, 0, 2),
        v6: std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2),
    };

    fn bob() -> Fqdn {
        "bob.cyphonic.example".parse().unwrap()
    }

    fn edited(bytes: &[u8], edit: impl FnOnce(&mut Message)) -> Vec<u8> {
        let mut message = Message::from_vec(bytes).unwrap();
        edit(&mut message);
        message.to_vec().unwrap()
    }

    #[test]
    fn a_query_for_either_family_gets_that_address() {
        for (kind, address) in [(QueryKind::A, IpAddr::V4(BOB.v4)), (QueryKind::Aaaa, IpAddr::V6(BOB.v6))] {
            let question = parse(&query(7, &bob(), kind)).unwrap();
            assert_eq!((question.id, question.kind, &question.fqdn), (7, kind, &Some(bob())));
            assert_eq!(question.name, "bob.cyphonic.example");
            let answer = question.answer(&BOB, TTL);
            assert_eq!(parse_answer(&answer), Ok((7, Rcode::NoError, Some(address))));
            let answer = Message::from_vec(&answer).unwrap();
            assert!(answer.metadata.authoritative && answer.metadata.recursion_desired);
            assert!(!answer.metadata.recursion_available && !answer.metadata.truncation);
            assert_eq!(answer.answers[0].ttl, TTL);
            assert_eq!(answer.edns, None);
        }
    }

    #[test]
    fn another_type_gets_no_data_but_no_error() {
        let question = parse(&query(7, &bob(), QueryKind::Other(65))).unwrap();
        assert_eq!(question.kind, QueryKind::Other(65));
        let answer = question.answer(&BOB, TTL);
        assert_eq!(parse_answer(&answer), Ok((7, Rcode::NoError, None)));
        assert!(Message::from_vec(&answer).unwrap().metadata.authoritative);
    }

    #[test]
    fn each_refusal_has_its_code_and_the_question() {
        let question = parse(&query(9, &bob(), QueryKind::A)).unwrap();
        for (bytes, code, authoritative) in [
            (question.name_error(), Rcode::NameError, true),
            (question.refused(), Rcode::Refused, false),
            (question.no_address(), Rcode::NoError, true),
        ] {
            assert_eq!(parse_answer(&bytes), Ok((9, code, None)));
            let answer = Message::from_vec(&bytes).unwrap();
            assert_eq!(answer.metadata.authoritative, authoritative);
            assert_eq!(answer.queries, std::slice::from_ref(&question.query));
        }
    }

    #[test]
    fn a_reverse_query_asks_for_an_address_and_gets_a_name() {
        let asked = |name: &str, kind| {
            let bytes = edited(&query(7, &bob(), kind), |query| {
                query.queries[0].set_name(Name::from_ascii(name).unwrap());
            });
            parse(&bytes).unwrap()
        };
        let ptr = QueryKind::Other(12);
        let v6 = "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.";
        for (name, address) in [("2.0.18.198.in-addr.arpa.", IpAddr::V4(BOB.v4)), (v6, IpAddr::V6(BOB.v6))] {
            let question = asked(name, ptr);
            assert_eq!(question.reverse(), Some(address));
            let answer = Message::from_vec(&question.pointer(&bob(), TTL)).unwrap();
            assert!(matches!(&answer.answers[0].data, RData::PTR(to) if to.0.to_ascii() == "bob.cyphonic.example."));
            let other = Message::from_vec(&asked(name, QueryKind::A).pointer(&bob(), TTL)).unwrap();
            assert!(other.answers.is_empty() && other.metadata.response_code == ResponseCode::NoError);
        }
        for none in ["18.198.in-addr.arpa.", "ip6.arpa.", "2.0.18.198.example.", "x.2.0.18.198.in-addr.arpa."] {
            assert_eq!(asked(none, ptr).reverse(), None, "{none}");
        }
    }

    #[test]
    fn an_opt_record_is_answered_by_one() {
        let asked = edited(&query(7, &bob(), QueryKind::A), |query| {
            let mut edns = Edns::new();
            edns.set_max_payload(4096).set_dnssec_ok(true);
            query.set_edns(edns);
        });
        let question = parse(&asked).unwrap();
        for bytes in [question.answer(&BOB, TTL), question.refused()] {
            let edns = Message::from_vec(&bytes).unwrap().edns.unwrap();
            assert_eq!((edns.version(), edns.max_payload(), edns.flags().dnssec_ok), (0, MAX_PAYLOAD, true));
            assert!(edns.options().as_ref().is_empty());
        }
    }

    #[test]
    fn an_edns_version_from_the_future_is_badvers() {
        let asked = edited(&query(7, &bob(), QueryKind::A), |query| {
            let mut edns = Edns::new();
            edns.set_version(1);
            query.set_edns(edns);
        });
        let answer = parse(&asked).unwrap().answer(&BOB, TTL);
        assert_eq!(parse_answer(&answer), Ok((7, Rcode::Other(16), None)));
        assert_eq!(Message::from_vec(&answer).unwrap().edns.unwrap().version(), 0);
    }

    #[test]
    fn another_class_is_refused() {
        let asked = edited(&query(7, &bob(), QueryKind::A), |query| {
            query.queries[0].set_query_class(DNSClass::CH);
        });
        assert_eq!(parse_answer(&parse(&asked).unwrap().answer(&BOB, TTL)), Ok((7, Rcode::Refused, None)));
    }

    #[test]
    fn the_spelling_of_the_name_comes_back_as_it_was() {
        let asked = edited(&query(7, &bob(), QueryKind::A), |query| {
            query.queries[0].set_name(Name::from_ascii("bOb.CyPhonic.exaMple.").unwrap());
        });
        let question = parse(&asked).unwrap();
        assert_eq!((question.name.as_str(), &question.fqdn), ("bOb.CyPhonic.exaMple", &Some(bob())));
        assert_eq!(question.answer(&BOB, TTL)[12..34], asked[12..34]);
    }

    #[test]
    fn a_name_that_no_node_can_have_is_still_answered() {
        for odd in ["_dns._udp.example.", "."] {
            let asked = edited(&query(7, &bob(), QueryKind::A), |query| {
                query.queries[0].set_name(Name::from_ascii(odd).unwrap());
            });
            let question = parse(&asked).unwrap();
            assert_eq!((&question.fqdn, format!("{}.", question.name).as_str()), (&None, odd));
            assert_eq!(parse_answer(&question.refused()), Ok((7, Rcode::Refused, None)));
        }
    }

    #[test]
    fn the_answer_to_the_longest_name_fits_512_bytes() {
        let long = [&"a".repeat(63)[..], &"b".repeat(63), &"c".repeat(63), &"d".repeat(61)].join(".");
        let asked = edited(&query(7, &long.parse().unwrap(), QueryKind::Aaaa), |query| {
            query.set_edns(Edns::new());
        });
        let answer = parse(&asked).unwrap().answer(&BOB, TTL);
        assert!(answer.len() <= 512, "{} bytes", answer.len());
        assert_eq!(parse_answer(&answer), Ok((7, Rcode::NoError, Some(BOB.v6.into()))));
    }

    #[test]
    fn what_is_no_single_question_is_dropped() {
        let good = query(7, &bob(), QueryKind::A);
        let question = parse(&good).unwrap();
        let two = edited(&good, |m| {
            m.add_query(question.query.clone());
        });
        let none = edited(&good, |m| m.queries.clear());
        let update = edited(&good, |m| m.metadata.op_code = OpCode::Update);
        let trailing = [&good[..], &[0]].concat();
        let lying = {
            let mut bytes = good.clone();
            bytes[7] = 1; // one answer that is not there
            bytes
        };
        for bad in [two, none, update, trailing, lying, question.answer(&BOB, TTL), question.refused(), vec![]] {
            assert_eq!(parse(&bad), Err(DropReason::BadDns));
        }
        assert_eq!(parse_answer(&good), Err(AnswerError::NotAnAnswer));
        assert_eq!(parse_answer(&[0; 5]), Err(AnswerError::Malformed));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
            let _ = parse_answer(&bytes);
            let mut bytes = bytes;
            if bytes.len() > 12 {
                bytes[2..12].copy_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
            }
            if let Ok(question) = parse(&bytes) {
                prop_assert!(parse_answer(&question.answer(&BOB, TTL)).is_ok());
            }
        }

        #[test]
        fn a_damaged_query_is_dropped_or_answered(
            at in any::<prop::sample::Index>(),
            bit in 0..8,
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = edited(&query(7, &bob(), QueryKind::A), |query| { query.set_edns(Edns::new()); });
            prop_assert_eq!(parse(&bytes[..cut.index(bytes.len())]), Err(DropReason::BadDns));
            let place = at.index(bytes.len());
            bytes[place] ^= 1u8 << bit;
            if let Ok(question) = parse(&bytes) {
                let answer = question.answer(&BOB, TTL);
                prop_assert!(answer.len() <= 512);
                prop_assert!(parse_answer(&answer).is_ok());
            }
        }
    }
}
