//! A packet filter around a node's virtual addresses, in nf_tables.
//!
//! Linux takes a packet for any of its addresses on any interface (RFC 1122 §3.3.4.2 calls this the weak host model).
//! Without a filter, a neighbour on the LAN that has no key could send past the tunnel, "from a peer's virtual address"
//! to ours. So packets to or from a virtual address of this node are dropped, in and out, on all interfaces but the
//! virtual one and loopback.
//!
//! A neighbour could also send "from a peer's virtual address" to a real address of this machine. Services that listen
//! on all addresses would take that for a packet of the peer. So a packet that comes in from an address of the
//! overlay's range is dropped, too, if this machine's route to that address leads into the virtual interface (`fib`, a
//! reverse-path check as in RFC 3704 §2.2). Where another network of the machine has the range, its route wins, and its
//! packets pass. A kernel without `fib` has a filter without this check.
//!
//! Packets to the overlay's range do not leave by another interface, even if a program asks for that interface, or if
//! a rule of policy routing (ip-rule(8)) leads past the routes of the main table. Prefixes of the range that another
//! network of the machine has are excepted.
//!
//! The filter is a table of its own for each family, made over netlink. That needs no program: containers often lack
//! nft(8). The tables belong to the socket that made them (`NFT_TABLE_F_OWNER`, Linux 5.12). No other program can
//! change them, and `flush ruleset` skips them. The kernel removes them when the daemon ends for any reason. By then
//! the virtual addresses are gone, because they end with the virtual interface. On an older kernel every program can
//! change the tables. Then [`Filter::stands`] tells whether one did, and tables of an earlier run are replaced.
//!
//! The message formats are those of `linux/netfilter/nf_tables.h`.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use cyphonic_core::name::Virtual;
use ipnet::IpNet;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

/// The loopback interface has this index in every network namespace.
const LOOPBACK: u32 = 1;
/// The families (`NFPROTO_IPV4`, `NFPROTO_IPV6`). Each has a table, so a packet meets no rule of the other family.
const FAMILIES: [u8; 2] = [V4, 10];
const V4: u8 = 2;
/// `NFPROTO_INET`: the family of the one table that earlier versions made.
const INET: u8 = 1;
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const GET_RULE: u16 = 7;
/// `NLM_F_REQUEST`, `_ACK`, `_DUMP`; `_CREATE` and `_APPEND`.
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const DUMP: u16 = 0x300;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;
/// `NFT_TABLE_F_OWNER`.
const OWNER: u32 = 2;
/// `NLMSG_ERROR`, `NLMSG_DONE`.
const ERROR: u16 = 2;
const DONE: u16 = 3;

/// Before connection tracking (-200) and before all address translation.
const PRIORITY: i32 = -300;
/// Hooks by number (`NF_INET_PRE_ROUTING`, `NF_INET_POST_ROUTING`), the key of the interface (`NFT_META_IIF`, `_OIF`),
/// and the chain's name.
const CHAINS: [(u32, u32, &str); 2] = [(0, 4, "in"), (4, 5, "out")];
const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;
/// Most prefixes that are excepted one by one. If there are more, the whole range is.
const EXCEPTED: usize = 64;

/// What a filter is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Guarded {
    /// The node's virtual addresses.
    pub(super) own: Virtual,
    /// The overlay's ranges, IPv4 and IPv6.
    pub(super) ranges: [IpNet; 2],
    /// Prefixes that meet the ranges and that another network of the machine has.
    pub(super) others: BTreeSet<IpNet>,
}

/// The filter of a node. It is removed when this is dropped.
pub(super) struct Filter {
    socket: OwnedFd,
    table: String,
    interface: u32,
    /// Whether other programs are kept from changing the tables.
    owned: bool,
    /// Whether the kernel can look up the route to a packet's source.
    looks_up: bool,
    guarded: Guarded,
    /// The number of rules in both tables.
    rules: usize,
}

impl Filter {
    /// Makes the tables. `interface` is the index of the virtual interface, `name` its name.
    ///
    /// # Errors
    /// The kernel has no nf_tables, or refuses.
    pub(super) fn make(name: &str, interface: u32, guarded: Guarded) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let socket =
            rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(netlink::NETFILTER))?;
        let fits = |one: char| one.is_ascii_alphanumeric() || "._-".contains(one);
        let name: String = name.chars().map(|one| if fits(one) { one } else { '_' }).collect();
        let table = format!("cyphonic-{name}");
        let mut filter = Self { socket, table, interface, owned: true, looks_up: true, guarded, rules: 0 };
        filter.replace_or_less()?;
        Ok(filter)
    }

    /// Replaces the tables, if they are about something else. One transaction does it, if the kernel can.
    pub(super) fn replace(&mut self, guarded: Guarded) -> io::Result<()> {
        if self.guarded == guarded {
            return Ok(());
        }
        self.guarded = guarded;
        self.replace_or_less()
    }

    fn replace_or_less(&mut self) -> io::Result<()> {
        let done = self.replace_by();
        if done.is_err() && self.looks_up {
            self.looks_up = false;
            return self.replace_by();
        }
        done
    }

    fn replace_by(&mut self) -> io::Result<()> {
        match self.commit(OWNER) {
            // EOPNOTSUPP: an earlier run left a table without an owner. EINVAL: the kernel is an older one.
            Err(error)
                if [Errno::OPNOTSUPP, Errno::INVAL]
                    .map(|one| Some(one.raw_os_error()))
                    .contains(&error.raw_os_error()) => {}
            done => return done,
        }
        for family in [INET].into_iter().chain(FAMILIES) {
            let mut batch = Batch::begin();
            batch.push(DELETE_TABLE, 0, family, &string(1, &self.table));
            // There may be no table to delete.
            let _ = self.request(&batch.end());
        }
        if self.commit(OWNER).is_ok() {
            self.owned = true;
            return Ok(());
        }
        self.owned = false;
        self.commit(0)
    }

    fn commit(&mut self, flags: u32) -> io::Result<()> {
        let mut batch = Batch::begin();
        let table = [string(1, &self.table), number(2, flags)].concat();
        let mut count = 0;
        for family in FAMILIES {
            // The first command keeps an existing table, so the second always has one to delete.
            batch.push(NEW_TABLE, CREATE, family, &table);
            batch.push(DELETE_TABLE, 0, family, &string(1, &self.table));
            batch.push(NEW_TABLE, CREATE, family, &table);
            for (hook, interface, chain) in CHAINS {
                let hook = [number(1, hook), number(2, PRIORITY.cast_unsigned())].concat();
                let new = [string(1, &self.table), string(3, chain), nested(4, &hook), string(7, "filter")].concat();
                batch.push(NEW_CHAIN, CREATE, family, &new);
                for rule in self.rules_of(chain, interface, family) {
                    let new = [string(1, &self.table), string(2, chain), nested(4, &rule)].concat();
                    batch.push(NEW_RULE, CREATE | APPEND, family, &new);
                    count += 1;
                }
            }
        }
        self.rules = count;
        self.request(&batch.end())
    }

    /// The rules of a chain for packets of a family. `interface` is the key of their interface.
    fn rules_of(&self, chain: &str, interface: u32, family: u8) -> Vec<Vec<u8>> {
        let Guarded { own, ranges, others } = &self.guarded;
        let is_its = |network: &&IpNet| network.addr().is_ipv4() == (family == V4);
        let drop = || [expression("counter", &[]), verdict(NF_DROP)].concat();
        let accept = |index: u32| [meta(interface), equals(&index.to_ne_bytes()), verdict(NF_ACCEPT)].concat();
        let mut rules = vec![accept(self.interface), accept(LOOPBACK)];
        let own = [IpAddr::from(own.v4), own.v6.into()].map(IpNet::from);
        for address in own.iter().filter(is_its) {
            rules.extend([true, false].map(|is_source| [among(*address, is_source), drop()].concat()));
        }
        let ranges = ranges.iter().filter(is_its);
        if chain == "in" {
            let elsewhere = || [way_back(), equals(&self.interface.to_ne_bytes()), drop()].concat();
            let ranges = ranges.filter(|_| self.looks_up);
            rules.extend(ranges.map(|range| [among(*range, true), elsewhere()].concat()));
        } else if others.len() <= EXCEPTED {
            let others = others.iter().filter(is_its);
            rules.extend(others.map(|other| [among(*other, false), verdict(NF_ACCEPT)].concat()));
            rules.extend(ranges.map(|range| [among(*range, false), drop()].concat()));
        }
        rules
    }

    /// Whether the tables are unchanged.
    pub(super) fn stands(&self) -> bool {
        self.owned || self.rules().is_ok_and(|rules| rules == self.rules)
    }

    /// Whether packets from a peer's address that come past the tunnel are dropped.
    pub(super) fn looks_up(&self) -> bool {
        self.looks_up
    }

    fn rules(&self) -> io::Result<usize> {
        FAMILIES.iter().map(|&family| self.rules_in(family)).sum()
    }

    /// The number of rules in the table of a family.
    fn rules_in(&self, family: u8) -> io::Result<usize> {
        let mut bytes = Vec::new();
        message(&mut bytes, (SUBSYSTEM << 8) | GET_RULE, REQUEST | DUMP, [family, 0, 0, 0], &string(1, &self.table));
        rustix::net::send(&self.socket, &bytes, SendFlags::empty())?;
        let mut rules = 0;
        loop {
            for (kind, body) in self.answers(RecvFlags::empty())? {
                match kind {
                    DONE => return Ok(rules),
                    ERROR => refused(&body)?,
                    _ => rules += 1,
                }
            }
        }
    }

    /// Sends a batch. When this returns, the kernel has handled and answered it.
    fn request(&self, batch: &[u8]) -> io::Result<()> {
        rustix::net::send(&self.socket, batch, SendFlags::empty())?;
        let mut done = Ok(());
        loop {
            match self.answers(RecvFlags::DONTWAIT) {
                Ok(answers) => {
                    for (_, body) in answers.into_iter().filter(|(kind, _)| *kind == ERROR) {
                        done = done.and(refused(&body));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return done,
                Err(error) => return Err(error),
            }
        }
    }

    /// The messages of a datagram: their types and bodies.
    fn answers(&self, flags: RecvFlags) -> io::Result<Vec<(u16, Vec<u8>)>> {
        let mut buffer = vec![0; 32_768];
        let (length, _) = rustix::net::recv(&self.socket, &mut buffer, flags)?;
        let mut rest = &buffer[..length];
        let mut found = Vec::new();
        while let Some((header, _)) = rest.split_at_checked(16) {
            let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
            let Some(body) = rest.get(16..length) else { break };
            found.push((u16::from_ne_bytes([header[4], header[5]]), body.to_vec()));
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(found)
    }
}

/// The error in a message of the type `NLMSG_ERROR`.
fn refused(body: &[u8]) -> io::Result<()> {
    match body.first_chunk().map(|code| i32::from_ne_bytes(*code)) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Messages that take effect together.
struct Batch(Vec<u8>);

impl Batch {
    fn begin() -> Self {
        let mut bytes = Vec::new();
        message(&mut bytes, BATCH_BEGIN, REQUEST, [0, 0, 0, SUBSYSTEM as u8], &[]);
        Self(bytes)
    }

    fn push(&mut self, kind: u16, flags: u16, family: u8, attributes: &[u8]) {
        message(&mut self.0, (SUBSYSTEM << 8) | kind, REQUEST | ACK | flags, [family, 0, 0, 0], attributes);
    }

    fn end(mut self) -> Vec<u8> {
        message(&mut self.0, BATCH_END, REQUEST, [0, 0, 0, SUBSYSTEM as u8], &[]);
        self.0
    }
}

/// Appends a netlink message with its header of nfnetlink.
fn message(bytes: &mut Vec<u8>, kind: u16, flags: u16, header: [u8; 4], attributes: &[u8]) {
    let length = (16 + header.len() + attributes.len()) as u32;
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    // Sequence number and sender may be zero: answers are read before the next request, and the kernel fills in the
    // sender.
    bytes.extend([0; 8]);
    bytes.extend(header);
    bytes.extend(attributes);
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::from(((4 + value.len()) as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn nested(kind: u16, value: &[u8]) -> Vec<u8> {
    attribute(kind | NESTED, value)
}

fn string(kind: u16, value: &str) -> Vec<u8> {
    attribute(kind, &[value.as_bytes(), &[0]].concat())
}

fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

/// An expression of a rule, as an element of its list.
fn expression(name: &str, data: &[u8]) -> Vec<u8> {
    nested(1, &[string(1, name), nested(2, data)].concat())
}

/// Loads a fact about the packet into register 1.
fn meta(key: u32) -> Vec<u8> {
    expression("meta", &[number(1, 1), number(2, key)].concat())
}

/// Loads a field of the network header into register 1.
fn payload(offset: u32, length: u32) -> Vec<u8> {
    expression("payload", &[number(1, 1), number(2, 1), number(3, offset), number(4, length)].concat())
}

/// Continues if the source (or else the destination) of a packet of this family is in this network.
fn among(network: IpNet, is_source: bool) -> Vec<u8> {
    // The places of source and destination in the headers.
    let places = if network.addr().is_ipv4() { [12, 16] } else { [8, 24] };
    let bytes = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let (address, mask) = (bytes(network.network()), bytes(network.netmask()));
    let field = payload(places[usize::from(!is_source)], address.len() as u32);
    [field, masked(&mask), equals(&address)].concat()
}

/// Keeps these bits of register 1.
fn masked(mask: &[u8]) -> Vec<u8> {
    if mask.iter().all(|byte| *byte == 255) {
        return Vec::new();
    }
    let nothing = vec![0; mask.len()];
    let length = mask.len() as u32;
    let mask = [nested(4, &attribute(1, mask)), nested(5, &attribute(1, &nothing))].concat();
    expression("bitwise", &[[number(1, 1), number(2, 1), number(3, length)].concat(), mask].concat())
}

/// Loads the interface to which the route to the packet's source leads into register 1: `NFT_FIB_RESULT_OIF` of
/// `NFTA_FIB_F_SADDR`.
fn way_back() -> Vec<u8> {
    expression("fib", &[number(1, 1), number(2, 1), number(3, 1)].concat())
}

/// Continues if register 1 has this value.
fn equals(value: &[u8]) -> Vec<u8> {
    expression("cmp", &[number(1, 1), number(2, 0), nested(3, &attribute(1, value))].concat())
}

/// Ends with a verdict: [`NF_DROP`] or [`NF_ACCEPT`].
fn verdict(code: u32) -> Vec<u8> {
    let data = nested(2, &nested(2, &number(1, code)));
    expression("immediate", &[number(1, 0), data].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_to_four_bytes_and_their_length_is_without() {
        assert_eq!(string(1, "in"), [7, 0, 1, 0, b'i', b'n', 0, 0]);
        assert_eq!(number(2, 2), [8, 0, 2, 0, 0, 0, 0, 2]);
    }

    #[test]
    fn an_error_is_what_the_kernel_says() {
        refused(&0_i32.to_ne_bytes()).unwrap();
        assert_eq!(refused(&(-1_i32).to_ne_bytes()).unwrap_err().raw_os_error(), Some(1));
        refused(&[]).unwrap_err();
    }
}
