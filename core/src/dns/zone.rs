//! The overlay's zone: the names in it, and its own records.

use hickory_proto::rr::Name;
use hickory_proto::rr::rdata::SOA;

use super::{NEGATIVE_TTL, Question};
use crate::name::Fqdn;

/// The label of the zone's name server. No node can have it.
const SERVER: &str = "_dns";
/// The serial number of the zone. The zone is never transferred to another server, so the number never changes.
const SERIAL: u32 = 1;
/// The timers of a secondary server, seconds, in the order of RFC 1035 §3.3.13: RIPE's recommendation (RIPE-203).
const REFRESH: i32 = 86_400;
const RETRY: i32 = 7_200;
const EXPIRE: i32 = 3_600_000;

/// The place of a name relative to the zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The name is outside of the zone.
    Outside,
    /// A name of the zone to which a search list (resolv.conf(5)) has appended labels. A query for such a name must not
    /// leave this machine. Such names are recognised only if the zone has two labels or more.
    Searched,
    /// The zone itself.
    Apex,
    /// The zone's name server.
    Server,
    /// A name that a node can have.
    Node(Fqdn),
    /// A name in the zone that no node can have.
    Nobody,
}

impl Question {
    /// The place of the queried name relative to the overlay's zone. A negative answer gets the zone's SOA record.
    pub fn within(&mut self, zone: &Fqdn) -> Place {
        let apex = Name::from_ascii(format!("{zone}.")).expect("an FQDN is a DNS name");
        let name = self.query.name();
        if !apex.zone_of(name) {
            // If the zone's labels stand within the name, a search list has appended the labels after them. A zone of
            // one label, such as `vpn`, is not looked for, because that label may well be part of a foreign name.
            let labels: Vec<_> = name.iter().map(<[u8]>::to_ascii_lowercase).collect();
            let zone: Vec<_> = apex.iter().map(<[u8]>::to_ascii_lowercase).collect();
            let searched = zone.len() > 1 && labels.windows(zone.len()).any(|some| some == zone);
            return if searched { Place::Searched } else { Place::Outside };
        }
        let labels = name.num_labels() - apex.num_labels();
        let first = name.iter().next().unwrap_or_default();
        let place = match (labels, self.fqdn.clone()) {
            (0, _) => Place::Apex,
            (1, _) if first.eq_ignore_ascii_case(SERVER.as_bytes()) => Place::Server,
            (_, Some(name)) => Place::Node(name),
            (_, None) => Place::Nobody,
        };
        self.authority = Some(Box::new(apex));
        place
    }

    /// Notes that the name is the reverse name of an overlay address. A negative answer gets a SOA record, whose owner
    /// is the name one label shorter.
    pub fn within_reverse(&mut self) {
        self.authority = Some(Box::new(self.query.name().base_name()));
    }
}

/// The name of the zone's name server.
pub(super) fn server(zone: &Name) -> Name {
    zone.prepend_label(SERVER).unwrap_or_else(|_| zone.clone())
}

/// The zone's SOA record.
pub(super) fn soa(zone: &Name) -> SOA {
    let contact = zone.prepend_label("hostmaster").unwrap_or_else(|_| zone.clone());
    SOA::new(server(zone), contact, SERIAL, REFRESH, RETRY, EXPIRE, NEGATIVE_TTL)
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{Message, ResponseCode};
    use hickory_proto::rr::{RData, RecordType};

    use super::super::{QueryKind, TTL, parse, query};
    use super::*;

    fn zone() -> Fqdn {
        "cyphonic.test".parse().unwrap()
    }

    fn asked(name: &str, kind: RecordType) -> (Question, Place) {
        let bytes = query(7, &"x.example".parse().unwrap(), QueryKind::from(kind));
        let mut message = Message::from_vec(&bytes).unwrap();
        message.queries[0].set_name(Name::from_ascii(name).unwrap());
        let mut question = parse(&message.to_vec().unwrap()).unwrap();
        let place = question.within(&zone());
        (question, place)
    }

    #[test]
    fn every_name_has_its_place() {
        for (name, place) in [
            ("cyphonic.test.", Place::Apex),
            ("CYPHONIC.Test.", Place::Apex),
            ("_dns.cyphonic.test.", Place::Server),
            ("b.cyphonic.test.", Place::Node("b.cyphonic.test".parse().unwrap())),
            ("_ssh._tcp.b.cyphonic.test.", Place::Nobody),
            ("test.", Place::Outside),
            (".", Place::Outside),
            ("notcyphonic.test.", Place::Outside),
            ("b.cyphonic.example.", Place::Outside),
            ("cyphonic.test.corp.example.", Place::Searched),
            ("b.cyphonic.test.corp.example.", Place::Searched),
            ("_ssh._tcp.b.Cyphonic.TEST.example.", Place::Searched),
        ] {
            assert_eq!(asked(name, RecordType::A).1, place, "{name}");
        }
        // A zone of a single label would be found in many names.
        let (mut question, _) = asked("www.test.example.", RecordType::A);
        assert_eq!(question.within(&"test".parse().unwrap()), Place::Outside);
    }

    #[test]
    fn the_apex_has_its_soa_and_its_name_server_and_nothing_else() {
        let answer = |kind| Message::from_vec(&asked("cyphonic.test.", kind).0.apex()).unwrap();
        let soa = answer(RecordType::SOA);
        assert!(matches!(&soa.answers[0].data, RData::SOA(soa) if soa.minimum == NEGATIVE_TTL));
        assert_eq!((soa.answers[0].ttl, soa.metadata.authoritative), (TTL, true));
        let ns = answer(RecordType::NS);
        assert!(matches!(&ns.answers[0].data, RData::NS(ns) if ns.0.to_ascii() == "_dns.cyphonic.test."));
        assert_eq!(answer(RecordType::ANY).answers.len(), 2);
        for kind in [RecordType::A, RecordType::MX, RecordType::SRV] {
            let none = answer(kind);
            assert!(none.answers.is_empty() && none.metadata.response_code == ResponseCode::NoError);
            assert_eq!((none.authorities[0].record_type(), none.authorities[0].ttl), (RecordType::SOA, NEGATIVE_TTL));
        }
    }

    #[test]
    fn negative_answers_have_the_zones_soa_and_a_ttl() {
        let (question, _) = asked("_ssh._tcp.b.cyphonic.test.", RecordType::SRV);
        for (bytes, ttl) in [(question.name_error(), NEGATIVE_TTL), (question.no_address(), 0)] {
            let none = Message::from_vec(&bytes).unwrap();
            assert_eq!(none.authorities[0].name.to_ascii(), "cyphonic.test.");
            assert_eq!((none.authorities[0].ttl, bytes.len() <= 512), (ttl, true));
        }
        let refused = Message::from_vec(&question.refused()).unwrap();
        assert!(refused.authorities.is_empty() && !refused.metadata.authoritative);
    }
}
