//! Joins packets of one flow on their way into the virtual interface, as Linux's GRO does.
//!
//! ```text
//! packet ─▶ the latest run of its flow ─ fits at its end ─▶ joined to it
//!                                      └ does not, or none ─▶ a run of its own
//! run    ─▶ [virtio-net header | IP, TCP or UDP header] [payload] [payload] …      one write
//! ```
//!
//! The header of a run tells the kernel the segment size, so that it can cut the run again. So packets may join only if
//! the kernel would make the same packets of the run: their headers differ only in length, checksum, number and (TCP)
//! PSH, and all payloads but the last have one length. The order within a flow never changes. The checksum of each
//! packet is verified before it joins, because the kernel trusts the run. A packet with a wrong checksum is written
//! alone, and the kernel drops it.

use std::io::IoSlice;

use bytes::{Buf, Bytes};
use tun_rs::VIRTIO_NET_HDR_LEN as VNET;

/// Most runs that are searched for the flow of a packet.
const LOOK_BACK: usize = 8;
/// The largest IP packet, bytes.
const MAX_PACKET: usize = 65_535;
/// Most payloads of one run: Linux cuts a UDP packet into at most 64.
const MAX_PARTS: usize = 64;

/// Virtio-net (Virtual I/O Device 1.2 §5.1.6): the checksum has to be completed; what kind of segments.
const NEEDS_CHECKSUM: u8 = 1;
const GSO_TCP_V4: u8 = 1;
const GSO_TCP_V6: u8 = 4;
const GSO_UDP: u8 = 5;

const TCP: u8 = 6;
const UDP: u8 = 17;
const ACK: u8 = 0x10;
const PSH: u8 = 0x08;

/// The packets of one turn, as runs.
pub(super) struct Joined {
    /// The first `used` runs are in use. The others are kept for their memory.
    runs: Vec<Run>,
    used: usize,
    udp: bool,
}

/// One packet, or several joined.
#[derive(Default)]
struct Run {
    /// Virtio-net header and, once something was joined, the headers of the whole.
    head: Vec<u8>,
    /// The whole packet if there is one, the payloads if there are several.
    parts: Vec<Bytes>,
    shape: Option<Shape>,
    /// Bytes of each payload but the last, and of all.
    segment: usize,
    payload: usize,
    /// Whether no more packets can join.
    ended: bool,
}

/// Where the headers of a TCP or UDP packet end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    protocol: u8,
    /// Bytes of the IP header, and of both.
    ip: usize,
    all: usize,
    /// A packet such as others join.
    joins: bool,
}

impl Shape {
    /// `None` for fragments, for packets with IP options or extension headers, and for protocols other than TCP and
    /// UDP.
    fn of(packet: &[u8]) -> Option<Self> {
        let (protocol, ip, plain) = match packet.first()? >> 4 {
            // No options, not a fragment. A packet joins only with DF: without it, its identification matters.
            4 if packet.len() >= 20 && packet[0] == 0x45 && packet[6].trailing_zeros() >= 6 && packet[7] == 0 => {
                (packet[9], 20, packet[6] == 0x40)
            }
            6 if packet.len() >= 40 => (packet[6], 40, true),
            _ => return None,
        };
        let (all, plain) = match protocol {
            TCP => {
                let all = ip + usize::from(packet.get(ip + 12)? >> 4) * 4;
                (all, plain && all >= ip + 20 && packet.get(ip + 13)? & !PSH == ACK)
            }
            // A UDP packet without a checksum does not join: it cannot be verified.
            UDP => (ip + 8, plain && packet.get(ip + 6..ip + 8)? != [0, 0]),
            _ => return None,
        };
        Some(Self { protocol, ip, all, joins: plain && packet.len() > all })
    }

    fn v6(self) -> bool {
        self.ip == 40
    }

    /// Addresses and ports.
    fn same_flow(self, other: Self, a: &[u8], b: &[u8]) -> bool {
        let addresses = if self.v6() { 8..40 } else { 12..20 };
        let ports = self.ip..self.ip + 4;
        self.protocol == other.protocol
            && self.ip == other.ip
            && a.get(ports.clone()) == b.get(ports)
            && a[addresses.clone()] == b[addresses]
    }

    /// Whether the headers agree in all fields that are the same in all segments of one packet.
    fn same_headers(self, other: Self, a: &[u8], b: &[u8]) -> bool {
        let ip = if self.v6() { a[..4] == b[..4] && a[7] == b[7] } else { a[1] == b[1] && a[8] == b[8] };
        let (a, b) = (&a[self.ip..], &b[self.ip..]);
        let end = self.all - self.ip;
        let tcp = || a[8..13] == b[8..13] && a[14..16] == b[14..16] && a[18..end] == b[18..end];
        self.all == other.all && ip && (self.protocol == UDP || tcp())
    }

    fn checksum_is_right(self, packet: &[u8]) -> bool {
        fold(self.pseudo_header(packet, packet.len()) + sum(&packet[self.ip..])) == 0xffff
    }

    /// The sum of the pseudo-header of a packet of `len` bytes.
    fn pseudo_header(self, packet: &[u8], len: usize) -> u64 {
        let addresses = if self.v6() { &packet[8..40] } else { &packet[12..20] };
        sum(addresses) + u64::from(u16::from(self.protocol).to_be()) + u64::from(((len - self.ip) as u16).to_be())
    }
}

impl Joined {
    /// `udp`: whether the kernel takes runs of UDP.
    pub(super) fn new(udp: bool) -> Self {
        Self { runs: Vec::new(), used: 0, udp }
    }

    pub(super) fn push(&mut self, packet: Bytes) {
        let shape = Shape::of(&packet);
        if let Some(shape) = shape {
            let latest = self.runs[..self.used].iter_mut().rev().take(LOOK_BACK).find(|run| run.is_of(shape, &packet));
            if let Some(run) = latest {
                if run.fits(shape, &packet, self.udp) {
                    return run.join(shape, packet);
                }
                // A later packet must not overtake this one.
                run.ended = true;
            }
        }
        if self.used == self.runs.len() {
            self.runs.push(Run::default());
        }
        self.runs[self.used].begin(shape, packet);
        self.used += 1;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// The writes to the device, one for each run.
    pub(super) fn writes(&mut self) -> impl Iterator<Item = Vec<IoSlice<'_>>> {
        self.runs[..self.used].iter_mut().map(|run| {
            run.finish();
            std::iter::once(&run.head[..]).chain(run.parts.iter().map(|part| &part[..])).map(IoSlice::new).collect()
        })
    }

    pub(super) fn clear(&mut self) {
        for run in &mut self.runs[..self.used] {
            run.parts.clear();
        }
        self.used = 0;
    }
}

impl Run {
    fn begin(&mut self, shape: Option<Shape>, packet: Bytes) {
        self.head.clear();
        self.head.resize(VNET, 0);
        self.shape = shape;
        self.payload = shape.map_or(0, |shape| packet.len().saturating_sub(shape.all));
        self.segment = self.payload;
        self.ended = shape.is_none_or(|shape| !shape.joins || is_last(shape, &packet));
        self.parts.clear();
        self.parts.push(packet);
    }

    /// The headers: in the packet while there is one, in the head once there are several.
    fn headers(&self) -> &[u8] {
        if self.parts.len() == 1 { &self.parts[0] } else { &self.head[VNET..] }
    }

    fn is_of(&self, shape: Shape, packet: &[u8]) -> bool {
        self.shape.is_some_and(|own| own.same_flow(shape, self.headers(), packet))
    }

    /// Joins a packet that fits.
    fn join(&mut self, shape: Shape, mut packet: Bytes) {
        if self.parts.len() == 1 {
            let first = &mut self.parts[0];
            self.head.extend_from_slice(&first[..shape.all]);
            first.advance(shape.all);
        }
        if shape.protocol == TCP {
            self.head[VNET + shape.ip + 13] |= packet[shape.ip + 13] & PSH;
        }
        let is_last = is_last(shape, &packet);
        packet.advance(shape.all);
        self.payload += packet.len();
        self.ended = packet.len() < self.segment || self.parts.len() + 1 == MAX_PARTS || is_last;
        self.parts.push(packet);
    }

    /// Whether a packet of the same flow fits at the end.
    fn fits(&self, shape: Shape, packet: &[u8], udp: bool) -> bool {
        let Some(own) = self.shape else { return false };
        let (headers, payload) = (self.headers(), packet.len().saturating_sub(shape.all));
        let next = || tcp_number(own, headers).wrapping_add(self.payload as u32) == tcp_number(shape, packet);
        !self.ended
            && shape.joins
            && (if shape.protocol == TCP { next() } else { udp })
            && payload <= self.segment
            && own.all + self.payload + payload <= MAX_PACKET
            && own.same_headers(shape, headers, packet)
            && (self.parts.len() > 1 || own.checksum_is_right(headers))
            && shape.checksum_is_right(packet)
    }

    /// Writes length, checksum and segment size of the run into its headers.
    fn finish(&mut self) {
        let (Some(shape), true) = (self.shape, self.parts.len() > 1) else { return };
        let (vnet, packet) = self.head.split_at_mut(VNET);
        let len = shape.all + self.payload;
        if shape.v6() {
            packet[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
        } else {
            packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            packet[10..12].fill(0);
            let checksum = !fold(sum(&packet[..20]));
            packet[10..12].copy_from_slice(&checksum.to_ne_bytes());
        }
        let partial = fold(shape.pseudo_header(packet, len));
        let transport = &mut packet[shape.ip..];
        let (kind, offset) = match shape.protocol {
            TCP => (if shape.v6() { GSO_TCP_V6 } else { GSO_TCP_V4 }, 16),
            _ => (GSO_UDP, 6),
        };
        if shape.protocol == UDP {
            transport[4..6].copy_from_slice(&((len - shape.ip) as u16).to_be_bytes());
        }
        transport[offset..offset + 2].copy_from_slice(&partial.to_ne_bytes());
        let numbers = [shape.all, self.segment, shape.ip, offset].map(|number| number as u16);
        (vnet[0], vnet[1]) = (NEEDS_CHECKSUM, kind);
        for (field, number) in vnet[2..].chunks_exact_mut(2).zip(numbers) {
            field.copy_from_slice(&number.to_ne_bytes());
        }
    }
}

fn tcp_number(shape: Shape, packet: &[u8]) -> u32 {
    let at = shape.ip + 4;
    u32::from_be_bytes(packet[at..at + 4].try_into().expect("four bytes"))
}

/// Whether the sender marked the packet as the last of a burst (TCP's PSH).
fn is_last(shape: Shape, packet: &[u8]) -> bool {
    shape.protocol == TCP && packet[shape.ip + 13] & PSH != 0
}

/// The sum of 16-bit words as they lie in memory (RFC 1071 §2 B), in larger words: carries are added by [`fold`]. Each
/// half of eight bytes has a sum of its own, so that the compiler can add several at once.
fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(8);
    let mut rest = [0; 8];
    rest[..words.remainder().len()].copy_from_slice(words.remainder());
    let (mut low, mut high) = (0, 0);
    let mut add = |word: [u8; 8]| {
        let word = u64::from_ne_bytes(word);
        low += word & 0xffff_ffff;
        high += word >> 32;
    };
    words.for_each(|word| add(word.try_into().expect("eight bytes")));
    add(rest);
    low + high
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    fn tcp(v6: bool, port: u16, number: u32, payload: &[u8], psh: bool) -> Bytes {
        let builder = if v6 {
            PacketBuilder::ipv6([1; 16], [2; 16], 64)
        } else {
            let mut ip = etherparse::Ipv4Header::new(0, 64, etherparse::IpNumber::TCP, [1; 4], [2; 4]).unwrap();
            ip.dont_fragment = true;
            PacketBuilder::ip(etherparse::IpHeaders::Ipv4(ip, etherparse::Ipv4Extensions::default()))
        };
        let mut builder = builder.tcp(port, 80, number, 1000).ack(7);
        if psh {
            builder = builder.psh();
        }
        let mut packet = Vec::new();
        builder.write(&mut packet, payload).unwrap();
        packet.into()
    }

    fn udp(port: u16, payload: &[u8]) -> Bytes {
        let mut packet = Vec::new();
        PacketBuilder::ipv6([1; 16], [2; 16], 64).udp(port, 53).write(&mut packet, payload).unwrap();
        packet.into()
    }

    /// Each write's virtio-net header and packet.
    fn written(packets: impl IntoIterator<Item = Bytes>) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut joined = Joined::new(true);
        packets.into_iter().for_each(|packet| joined.push(packet));
        let writes = joined.writes().map(|write| write.iter().flat_map(|part| part.to_vec()).collect::<Vec<u8>>());
        writes.map(|all| (all[..VNET].to_vec(), all[VNET..].to_vec())).collect()
    }

    /// Cuts a joined TCP packet as the kernel would.
    fn cut(vnet: &[u8], packet: &[u8]) -> Vec<Bytes> {
        let field = |n: usize| usize::from(u16::from_ne_bytes(vnet[2 + 2 * n..4 + 2 * n].try_into().unwrap()));
        let (all, segment) = (field(0), field(1));
        let headers = etherparse::PacketHeaders::from_ip_slice(packet).unwrap();
        let Some(etherparse::TransportHeader::Tcp(header)) = headers.transport else { panic!("no TCP") };
        let payloads: Vec<_> = packet[all..].chunks(segment).collect();
        let last = payloads.len() - 1;
        let one = |(n, payload): (usize, &&[u8])| {
            let number = header.sequence_number.wrapping_add((n * segment) as u32);
            tcp(packet[0] >> 4 == 6, header.source_port, number, payload, header.psh && n == last)
        };
        payloads.iter().enumerate().map(one).collect()
    }

    #[test]
    fn segments_in_a_row_become_one_packet_that_is_cut_into_the_same_again() {
        for v6 in [false, true] {
            let number = |n: u32| (u32::MAX - 5000).wrapping_add(n * 1360);
            let packets: Vec<_> = (0..40).map(|n| tcp(v6, 5, number(n), &[n as u8; 1360], n == 39)).collect();
            let writes = written(packets.clone());
            assert_eq!(writes.len(), 1);
            let (vnet, packet) = &writes[0];
            assert_eq!((vnet[0], vnet[1]), (NEEDS_CHECKSUM, if v6 { GSO_TCP_V6 } else { GSO_TCP_V4 }));
            let shape = Shape::of(packet).unwrap();
            let checksum = &packet[shape.ip + 16..shape.ip + 18];
            assert_eq!(checksum, fold(shape.pseudo_header(packet, packet.len())).to_ne_bytes());
            assert_eq!(cut(vnet, packet), packets);
        }
    }

    #[test]
    fn what_does_not_fit_goes_alone_and_its_flow_stays_in_order() {
        let damaged = {
            let mut packet = tcp(false, 5, 1200, &[3; 100], false).to_vec();
            packet[60] ^= 1;
            Bytes::from(packet)
        };
        let packets = [
            tcp(false, 5, 1000, &[1; 100], false),
            tcp(false, 6, 1000, &[1; 100], false),
            tcp(false, 5, 1100, &[2; 100], false),
            damaged.clone(),
            tcp(false, 5, 1300, &[4; 100], false),
            tcp(false, 6, 1200, &[1; 100], false),
            tcp(false, 5, 1400, &[], false),
            tcp(false, 5, 1400, &[5; 101], false),
            Bytes::from_static(b"\x45junk"),
        ];
        let writes = written(packets.clone());
        let lens: Vec<_> = writes.iter().map(|(_, packet)| packet.len()).collect();
        assert_eq!(lens, [240, 140, 140, 140, 140, 40, 141, 5]);
        assert_eq!(writes[2], (vec![0; VNET], damaged.to_vec()));
        assert_eq!(writes[6].1, packets[7]);
    }

    #[test]
    fn nothing_joins_after_a_push_or_a_shorter_segment() {
        let push = [tcp(true, 5, 0, &[1; 10], true), tcp(true, 5, 10, &[1; 10], false)];
        assert_eq!(written(push).len(), 2);
        let short =
            [tcp(true, 5, 0, &[1; 10], false), tcp(true, 5, 10, &[1; 9], false), tcp(true, 5, 19, &[1; 9], false)];
        assert_eq!(written(short).len(), 2);
    }

    #[test]
    fn datagrams_of_one_length_join_and_their_number_is_limited() {
        let writes = written((0..130).map(|n| udp(9, &[n; 100])));
        let lens: Vec<_> = writes.iter().map(|(_, packet)| packet.len() - 48).collect();
        assert_eq!(lens, [6400, 6400, 200]);
        let (vnet, packet) = &writes[0];
        assert_eq!((vnet[1], &packet[44..46]), (GSO_UDP, &6408_u16.to_be_bytes()[..]));
        assert_eq!(written([udp(9, &[1; 100]), udp(9, &[1; 101])]).len(), 2);
    }

    #[test]
    fn a_whole_never_becomes_longer_than_a_packet_can_be() {
        let writes = written((0..60).map(|n| tcp(false, 5, n * 1400, &[7; 1400], false)));
        let lens: Vec<_> = writes.iter().map(|(_, packet)| packet.len()).collect();
        assert_eq!(lens, [40 + 46 * 1400, 40 + 14 * 1400]);
    }

    #[test]
    fn the_sum_is_that_of_the_standard() {
        let bytes: Vec<u8> = (0..=255).cycle().take(1403).collect();
        for len in [0, 1, 2, 3, 4, 7, 1400, 1403] {
            let words = bytes[..len].chunks(2).map(|w| (u64::from(w[0]) << 8) | w.get(1).map_or(0, |b| u64::from(*b)));
            assert_eq!(fold(sum(&bytes[..len])).to_be(), fold(words.sum()), "{len}");
        }
    }
}
