//! Somebody with a good certificate and a QUIC stack of his own, at an address that no route leads to: what he gets is
//! read off the wires of those who send it.

use std::net::SocketAddr;
use std::time::Duration;

use cyphonic_core::header::{Flags, Header};
use cyphonic_core::message::Message;
use cyphonic_core::name::Fqdn;
use cyphonic_core::quic::{CidScheme, LinkId, LinkOutput, Links, Load, QuicConfig, QuicOptions};
use cyphonic_core::version::Versions;
use cyphonic_sim::seeded;

use crate::arena::{Arena, Role, SEED};

/// The links of somebody whose certificate names him so.
pub(crate) fn links(name: &Fqdn, accept: bool) -> Links {
    links_speaking(name, accept, Versions::OURS)
}

fn links_speaking(name: &Fqdn, accept: bool, versions: Versions) -> Links {
    let pki = seeded::pki(SEED);
    let config = QuicConfig {
        tls: seeded::environment(SEED, &format!("{name} as a rogue")),
        roots: pki.roots(),
        identity: pki.identity(name),
        alpn: b"h3".to_vec(),
        options: QuicOptions { versions, ..QuicOptions::default() },
    };
    let mut rng = seeded::stream(SEED, name.as_str(), "rogue");
    Links::new(config, CidScheme::Direct, accept, &mut rng).expect("a seeded identity is good")
}

/// A name in the zone.
pub(crate) fn fqdn(short: &str) -> Fqdn {
    format!("{short}.{}", cyphonic_scenarios::ZONE).parse().expect("a name")
}

pub(crate) struct Rogue {
    pub(crate) name: Fqdn,
    pub(crate) at: SocketAddr,
    links: Links,
    heard: Vec<LinkOutput>,
}

impl Rogue {
    pub(crate) fn new(name: &str) -> Self {
        let name = fqdn(name);
        let at = "198.51.100.200:443".parse().expect("an address");
        Self { links: links(&name, false), name, at, heard: Vec::new() }
    }

    /// As [`Self::new`], for a stack of these versions.
    pub(crate) fn speaking(name: &str, versions: Versions) -> Self {
        Self { links: links_speaking(&fqdn(name), false, versions), ..Self::new(name) }
    }

    /// The identifier of a link to the TRS as a leg.
    pub(crate) fn leg(&self, link: LinkId) -> cyphonic_core::name::RelayCid {
        self.links.relay_cid(link).expect("the link stands")
    }

    /// The version in which the rogue writes on a link.
    pub(crate) fn version(&self, link: LinkId) -> Option<u8> {
        self.links.version(link)
    }

    /// Opens a link to a role, and does not wait for it.
    pub(crate) fn open(&mut self, arena: &Arena, role: Role, name: &Fqdn) -> LinkId {
        let remote = arena.address(role);
        self.links.connect(arena.world.now(), self.at, remote, name, None, Load::Packets).expect("a good address")
    }

    /// Writes any bytes on a link's stream, and gives what came of it within the next 100 ms.
    pub(crate) fn speak(&mut self, arena: &mut Arena, link: LinkId, bytes: bytes::Bytes) -> Vec<LinkOutput> {
        assert!(self.links.send_frame(arena.world.now(), link, bytes));
        self.listen(arena, 100)
    }

    /// Shakes hands with a role.
    pub(crate) fn connect(&mut self, arena: &mut Arena, role: Role, name: &Fqdn) -> LinkId {
        let remote = arena.address(role);
        let link =
            self.links.connect(arena.world.now(), self.at, remote, name, None, Load::Packets).expect("a good address");
        let heard = self.listen(arena, 50);
        assert!(matches!(heard[..], [LinkOutput::Connected { .. }]), "{heard:?}");
        link
    }

    /// Sends a message, and gives what came within the next 50 ms.
    pub(crate) fn say(&mut self, arena: &mut Arena, link: LinkId, id: [u8; 16], message: &Message) -> Vec<Message> {
        let frame = message.to_bytes(77, Flags(0), 0, 0, id);
        self.say_frame(arena, link, frame.into())
    }

    /// Sends one message in this many transactions at once, and lets a second pass.
    pub(crate) fn repeat(&mut self, arena: &mut Arena, link: LinkId, id: [u8; 16], message: &Message, times: u32) {
        for transaction in 0..times {
            let frame = message.to_bytes(1_000 + transaction, Flags(0), 0, 0, id);
            assert!(self.links.send_frame(arena.world.now(), link, frame.into()));
        }
        self.listen(arena, 1_000);
    }

    pub(crate) fn say_frame(&mut self, arena: &mut Arena, link: LinkId, frame: bytes::Bytes) -> Vec<Message> {
        assert!(self.links.send_frame(arena.world.now(), link, frame));
        let frames = self.listen(arena, 50).into_iter().filter_map(|output| match output {
            LinkOutput::Frame(_, Header { kind, .. }, body) => Some((kind, body)),
            _ => None,
        });
        frames.map(|(kind, body)| Message::decode_body(kind, &body).expect("roles speak well")).collect()
    }

    /// Sends a packet in a DATAGRAM frame, and gives the packets that came within the next 50 ms.
    pub(crate) fn send(&mut self, arena: &mut Arena, link: LinkId, packet: &[u8]) -> Vec<bytes::Bytes> {
        let data = bytes::Bytes::copy_from_slice(packet);
        self.links.send_datagram(arena.world.now(), link, data).expect("it fits");
        let packets = self.listen(arena, 50).into_iter().flat_map(|output| match output {
            LinkOutput::Datagrams(_, packets) => packets,
            _ => Vec::new(),
        });
        packets.collect()
    }

    /// Lets time pass, and gives what was heard.
    pub(crate) fn listen(&mut self, arena: &mut Arena, ms: u64) -> Vec<LinkOutput> {
        for _ in 0..ms {
            self.flush(arena);
            let now = arena.world.now() + Duration::from_millis(1);
            arena.world.run_until(now);
            for role in arena.roles() {
                for datagram in arena.sent(role).into_iter().filter(|d| d.to == self.at) {
                    self.links.handle_datagram(now, self.at, datagram.from, datagram.payload[..].into());
                }
            }
            self.links.handle_timeout(now);
        }
        self.flush(arena);
        std::mem::take(&mut self.heard)
    }

    fn flush(&mut self, arena: &mut Arena) {
        while let Some(output) = self.links.poll() {
            match output {
                LinkOutput::Transmit(sent) => {
                    let role = arena.role_at(sent.remote).expect("a rogue speaks to roles");
                    arena.datagram(role, sent.remote, sent.local, &sent.payload);
                }
                other => self.heard.push(other),
            }
        }
    }
}
