//! The virtual interface.
//!
//! The kernel passes up to 64 KB of one flow at once (TSO, USO), which is cut into packets here. Packets of one flow
//! that arrive in one turn are joined for the kernel ([`super::join`]): many packets then share the cost of one system
//! call and of the kernel's work.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use bytes::{Bytes, BytesMut};
use tun_rs::{
    DeviceBuilder, SyncDevice, VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_TCPV6, VIRTIO_NET_HDR_GSO_UDP_L4,
    VIRTIO_NET_HDR_LEN, VirtioNetHdr, gso_split,
};

use super::gro::Joined;
use super::wait_writable;
use crate::error::{Code, Failure};

/// Most packets that a usual read is cut into: 64 KB of segments of 1,024 bytes or more.
const ROOMS: usize = 64;
/// Most reads of one turn, so that received datagrams do not wait for too many large packets.
const READS: usize = 4;

/// A TUN device.
pub struct Tun {
    device: SyncDevice,
    original: Vec<u8>,
    /// Buffers for the packets that reads are cut into, with room for the longest one. A buffer is used again when none
    /// of its packets exists any more.
    cuts: [Bytes; READS],
    room: usize,
    sizes: Vec<usize>,
    arrived: VecDeque<Bytes>,
    joined: Joined,
}

impl Tun {
    /// Makes the device. [`crate::net::Network`] then gives it addresses and sets it up.
    pub fn new(name: &str, mtu: u16) -> Result<Self, Failure> {
        let device = DeviceBuilder::new()
            .name(name)
            .mtu(mtu)
            .offload(true)
            .enable(false)
            .build_sync()
            .and_then(|device| device.set_nonblocking(true).map(|()| device))
            .map_err(|error| refused(name, &error))?;
        let joined = Joined::new(device.udp_gso());
        Ok(Self {
            device,
            original: vec![0; VIRTIO_NET_HDR_LEN + 65_535],
            cuts: std::array::from_fn(|_| Bytes::new()),
            room: usize::from(mtu).max(1280),
            sizes: vec![0; ROOMS],
            arrived: VecDeque::new(),
            joined,
        })
    }

    /// Takes the packets of a few reads, if there are any.
    pub(super) fn receive(&mut self) -> Result<(), Failure> {
        for read in 0..READS {
            match self.read(read) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // EIO: the interface is down, because it is not up yet or was set down.
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => return Ok(()),
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::BADFD.raw_os_error()) => {
                    let what = "the virtual interface is gone";
                    return Err(Failure::new(Code::Permission, what, "someone deleted it: start again"));
                }
                Err(error) => {
                    tracing::debug!(%error, "a packet of the virtual interface was dropped");
                    // The MTU of the interface may have been raised.
                    self.room = self.device.mtu().map_or(self.room, |mtu| self.room.max(usize::from(mtu)));
                }
            }
        }
        Ok(())
    }

    fn read(&mut self, number: usize) -> io::Result<()> {
        let len = ROOMS * self.room;
        let cut = std::mem::take(&mut self.cuts[number]).try_into_mut().ok().filter(|cut| cut.len() == len);
        let mut cut = cut.unwrap_or_else(|| BytesMut::zeroed(len));
        let mut rooms: Vec<&mut [u8]> = cut.chunks_mut(self.room).collect();
        let got = self.device.recv_multiple(&mut self.original, &mut rooms, &mut self.sizes, 0);
        self.cuts[number] = cut.freeze();
        let sizes = match got {
            Ok(got) => &self.sizes[..got],
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                // It has been read already, and is still where it was read to.
                let packets = cut_small(&mut self.original).ok_or(error)?;
                self.arrived.extend(packets);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let packets = sizes.iter().enumerate().map(|(n, size)| n * self.room..n * self.room + size);
        if let &[size] = sizes {
            // A single small packet is copied: it may wait for long, and must not keep a large buffer in memory.
            self.arrived.push_back(Bytes::copy_from_slice(&self.cuts[number][..size]));
        } else {
            self.arrived.extend(packets.map(|packet| self.cuts[number].slice(packet)));
        }
        Ok(())
    }

    pub(super) fn next(&mut self) -> Option<Bytes> {
        self.arrived.pop_front()
    }

    /// Queues a packet until [`Self::flush`].
    pub(super) fn push(&mut self, packet: Bytes) {
        self.joined.push(packet);
    }

    /// Writes the queued packets; true if there were any.
    pub(super) fn flush(&mut self) -> bool {
        if self.joined.is_empty() {
            return false;
        }
        for write in self.joined.writes() {
            if let Err(error) = send(&self.device, &write) {
                tracing::debug!(%error, "the virtual interface did not take a packet");
            }
        }
        self.joined.clear();
        true
    }
}

/// Cuts a large packet of the kernel, behind its virtio header, into more packets than a usual read has room for. These
/// are segments of a flow with a small maximum segment size, as behind `advmss` or a narrow link. None if it is no such
/// packet.
fn cut_small(original: &mut [u8]) -> Option<Vec<Bytes>> {
    let (header, packet) = original.split_at_mut_checked(VIRTIO_NET_HDR_LEN)?;
    let mut header = VirtioNetHdr::decode(header).ok()?;
    let v6 = packet.first()? >> 4 == 6;
    let length = usize::from(u16::from_be_bytes(*packet.get(if v6 { 4..6 } else { 2..4 })?.first_chunk()?));
    let packet = packet.get_mut(..length + if v6 { 40 } else { 0 })?;
    let transport = usize::from(header.csum_start);
    // On forwarded packets the kernel may set the length of headers to that of a whole packet.
    let headers = transport
        + match header.gso_type {
            VIRTIO_NET_HDR_GSO_TCPV4 | VIRTIO_NET_HDR_GSO_TCPV6 => usize::from(packet.get(transport + 12)? >> 4) * 4,
            VIRTIO_NET_HDR_GSO_UDP_L4 => 8,
            _ => return None,
        };
    header.hdr_len = headers as u16;
    let room = headers + usize::from(header.gso_size);
    let count = packet.len().checked_sub(headers)?.div_ceil(usize::from(header.gso_size).max(1));
    let (mut cut, mut sizes) = (BytesMut::zeroed(count * room), vec![0; count]);
    let mut rooms: Vec<&mut [u8]> = cut.chunks_mut(room).collect();
    let count = gso_split(packet, header, &mut rooms, &mut sizes, 0, v6).ok()?;
    let cut = cut.freeze();
    Some(sizes[..count].iter().enumerate().map(|(n, size)| cut.slice(n * room..n * room + size)).collect())
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

fn send(device: &SyncDevice, packet: &[io::IoSlice<'_>]) -> io::Result<usize> {
    loop {
        match device.send_vectored(packet) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait_writable(device.as_fd())?,
            other => return other,
        }
    }
}

/// The failure to make the device, for people.
fn refused(name: &str, error: &io::Error) -> Failure {
    let (code, remedy) = match error.kind() {
        io::ErrorKind::PermissionDenied => (
            Code::Permission,
            "run as root, or give the program CAP_NET_ADMIN; in a container also --device /dev/net/tun".to_owned(),
        ),
        io::ErrorKind::NotFound => (
            Code::Permission,
            "there is no /dev/net/tun: `modprobe tun`; in a container --device /dev/net/tun".to_owned(),
        ),
        io::ErrorKind::ResourceBusy => {
            (Code::Address, format!("another program has {name}: end it, or set another `tun`"))
        }
        _ => (Code::Permission, "check that /dev/net/tun is there and that this user may use it".to_owned()),
    };
    Failure::new(code, format!("the virtual interface {name} cannot be made: {error}"), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_of_more_segments_than_a_read_has_room_for_is_cut_into_all_of_them() {
        let payload: Vec<u8> = (0..60_000_u32).map(|n| n as u8).collect();
        for (size, v6) in [(400, false), (48, false), (400, true)] {
            let mut packet = Vec::new();
            let builder = if v6 {
                etherparse::PacketBuilder::ipv6([1; 16], [2; 16], 64).tcp(1, 2, 1000, 9)
            } else {
                etherparse::PacketBuilder::ipv4([198, 18, 0, 10], [198, 18, 0, 11], 64).tcp(1, 2, 1000, 9)
            };
            builder.fin().write(&mut packet, &payload).unwrap();
            let ip = if v6 { 40 } else { 20 };
            let gso_type = if v6 { VIRTIO_NET_HDR_GSO_TCPV6 } else { VIRTIO_NET_HDR_GSO_TCPV4 };
            // The length of headers is that of a forwarded packet.
            let header =
                VirtioNetHdr { flags: 1, gso_type, hdr_len: 900, gso_size: size, csum_start: ip, csum_offset: 16 };
            let mut original = vec![0; VIRTIO_NET_HDR_LEN + 65_535];
            header.encode(&mut original[..VIRTIO_NET_HDR_LEN]).unwrap();
            original[VIRTIO_NET_HDR_LEN..VIRTIO_NET_HDR_LEN + packet.len()].copy_from_slice(&packet);
            let cut = cut_small(&mut original).unwrap();
            assert_eq!(cut.len(), payload.len().div_ceil(usize::from(size)));
            let mut got = Vec::new();
            for (n, packet) in cut.iter().enumerate() {
                let headers = etherparse::SlicedPacket::from_ip(packet).unwrap();
                let Some(etherparse::TransportSlice::Tcp(tcp)) = headers.transport else { panic!("no TCP") };
                assert_eq!(tcp.sequence_number(), 1000 + n as u32 * u32::from(size));
                assert_eq!(tcp.fin(), n + 1 == cut.len());
                got.extend_from_slice(tcp.payload());
            }
            assert_eq!(got, payload);
        }
        assert!(cut_small(&mut [0; VIRTIO_NET_HDR_LEN + 60]).is_none(), "one that is no such packet");
    }
}
