//! IPv4 fragmentation (RFC 791 §3.2).

use etherparse::{IpFragOffset, Ipv4Header, Ipv4Options};

use super::Inner;

/// Options with this bit go into every fragment, the others into the first only (RFC 791 §3.1).
const COPIED: u8 = 0x80;

/// Cuts an IPv4 packet without DF into fragments of at most `mtu` bytes; the whole packet if it fits. A fragment can be
/// cut again: its pieces keep their places in the original packet.
///
/// `None` if the packet is not IPv4, has DF, has a wrong header checksum (the fragments' correct checksums would hide
/// it), is longer than 65,535 bytes when reassembled, or if `mtu` leaves no room for eight bytes of payload.
pub fn fragment_v4(packet: &[u8], mtu: u16) -> Option<Vec<Vec<u8>>> {
    Inner::parse(packet).ok()?;
    let (whole, mut rest) = Ipv4Header::from_slice(packet).ok()?;
    let end = usize::from(whole.fragment_offset.byte_offset()) + packet.len();
    if whole.dont_fragment || whole.header_checksum != whole.calc_header_checksum() || end > usize::from(u16::MAX) {
        return None;
    }
    let mtu = usize::from(mtu);
    if packet.len() <= mtu {
        return Some(vec![packet.to_vec()]);
    }
    let mut header = whole.clone();
    let mut fragments = Vec::with_capacity(rest.len() / mtu.max(28) + 1);
    loop {
        let room = mtu.checked_sub(header.header_len()).filter(|room| *room >= 8)?;
        let last = rest.len() <= room;
        let len = if last { rest.len() } else { room & !7 };
        let (piece, after) = rest.split_at(len);
        header.more_fragments = !last || whole.more_fragments;
        header.set_payload_len(len).ok()?;
        let mut fragment = Vec::with_capacity(header.header_len() + len);
        header.write(&mut fragment).ok()?;
        fragment.extend_from_slice(piece);
        fragments.push(fragment);
        if last {
            return Some(fragments);
        }
        rest = after;
        let next = header.fragment_offset.value() + u16::try_from(len / 8).ok()?;
        header.fragment_offset = IpFragOffset::try_new(next).ok()?;
        header.options = Ipv4Options::try_from(&copied(&whole.options)[..]).ok()?;
    }
}

/// The options that every fragment repeats, padded to whole words. A malformed option ends the list.
fn copied(mut options: &[u8]) -> Vec<u8> {
    const END: u8 = 0;
    const NOP: u8 = 1;
    let mut out = Vec::with_capacity(options.len());
    while let [kind, rest @ ..] = options {
        let len = match (*kind, rest) {
            (END, _) => break,
            (NOP, _) => 1,
            (_, [len, ..]) if *len >= 2 => usize::from(*len),
            _ => break,
        };
        let Some((option, after)) = options.split_at_checked(len) else { break };
        if kind & COPIED != 0 {
            out.extend_from_slice(option);
        }
        options = after;
    }
    out.resize(out.len().next_multiple_of(4), END);
    out
}
