//! MSS clamping: the largest segment that TCP may send is told to both ends in their SYNs.

use etherparse::{IpNumber, IpSlice};

use super::slice;

/// Where the checksum stands in the TCP header (RFC 9293 §3.1).
const CHECKSUM: usize = 16;
/// TCP header without options, bytes.
const TCP_HEADER: usize = 20;

/// In a TCP SYN, lowers the MSS option to what an inner packet of `mtu` bytes holds: `mtu` less the headers without
/// options (RFC 6691 §2). The checksum is updated for just this change (RFC 1624), so a wrong one stays wrong. Any
/// other packet, and a SYN whose MSS is already low enough or not stated, stays as it is.
///
/// Returns whether the packet was changed.
pub fn clamp_mss(packet: &mut [u8], mtu: u16) -> bool {
    let Some((tcp, option, fits)) = find(packet, mtu) else { return false };
    let stated = u16::from_be_bytes([packet[option], packet[option + 1]]);
    if stated <= fits {
        return false;
    }
    packet[option..option + 2].copy_from_slice(&fits.to_be_bytes());
    // A field at an odd distance lies across two of the checksum's words: there its bytes count swapped.
    let swap = |value: u16| if (option - tcp) % 2 == 0 { value } else { value.swap_bytes() };
    let checksum = &mut packet[tcp + CHECKSUM..tcp + CHECKSUM + 2];
    let old = u16::from_be_bytes([checksum[0], checksum[1]]);
    checksum.copy_from_slice(&update(old, swap(stated), swap(fits)).to_be_bytes());
    true
}

/// Where the TCP header and the value of its MSS option begin, and the MSS that fits; only in a SYN.
fn find(packet: &[u8], mtu: u16) -> Option<(usize, usize, u16)> {
    let ip = slice(packet)?;
    let ip_header: u16 = match ip {
        IpSlice::Ipv4(_) => 20,
        IpSlice::Ipv6(_) => 40,
    };
    let inside = ip.payload();
    if inside.ip_number != IpNumber::TCP || inside.fragmented {
        return None;
    }
    let segment = inside.payload;
    let flags = *segment.get(13)?;
    if flags & 0x02 == 0 {
        return None;
    }
    let options_end = usize::from(segment[12] >> 4) * 4;
    let options = segment.get(TCP_HEADER..options_end)?;
    let fits = mtu.checked_sub(ip_header + TCP_HEADER as u16).filter(|fits| *fits > 0)?;
    // The payload is the packet's tail.
    let tcp = packet.len() - segment.len();
    Some((tcp, tcp + TCP_HEADER + mss_value(options)?, fits))
}

/// Where the MSS option's two bytes of value begin.
fn mss_value(options: &[u8]) -> Option<usize> {
    const END: u8 = 0;
    const NOP: u8 = 1;
    const MSS: u8 = 2;
    let mut at = 0;
    loop {
        match *options.get(at)? {
            END => return None,
            NOP => at += 1,
            kind => {
                let len = usize::from(*options.get(at + 1)?);
                if len < 2 || at + len > options.len() {
                    return None;
                }
                if kind == MSS {
                    return (len == 4).then_some(at + 2);
                }
                at += len;
            }
        }
    }
}

/// RFC 1624 equation 3: `HC' = ~(~HC + ~m + m')`, in ones' complement.
fn update(checksum: u16, old: u16, new: u16) -> u16 {
    let sum = u32::from(!checksum) + u32::from(!old) + u32::from(new);
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}
