//! The virtual interface.
//!
//! The kernel hands over up to 64 KB of one flow at once (TSO, USO), which is cut into packets here, and packets of one
//! flow that came in one turn go back joined (GRO): most of what a packet costs is paid once for many.

use std::collections::VecDeque;
use std::io;

use bytes::{Bytes, BytesMut};
use tun_rs::{AsyncDevice, DeviceBuilder, GROTable, IDEAL_BATCH_SIZE, VIRTIO_NET_HDR_LEN};

use crate::error::{Code, Failure};

/// Packets that one turn may write; more than one receive batch can make.
const WRITE_LIMIT: usize = 4096;

/// A TUN device.
pub struct Tun {
    device: AsyncDevice,
    original: Vec<u8>,
    cut: Vec<Vec<u8>>,
    sizes: Vec<usize>,
    arrived: VecDeque<Bytes>,
    out: Vec<Vec<u8>>,
    used: usize,
    table: GROTable,
}

impl Tun {
    /// Makes the device. It has no address and is down until [`crate::net::Network`] says otherwise.
    pub fn new(name: &str, mtu: u16) -> Result<Self, Failure> {
        let device = DeviceBuilder::new()
            .name(name)
            .mtu(mtu)
            .offload(true)
            .enable(false)
            .build_async()
            .map_err(|error| refused(name, &error))?;
        Ok(Self {
            device,
            original: vec![0; VIRTIO_NET_HDR_LEN + 65_535],
            // Not `vec!` of `vec!`: memory that is never written costs nothing.
            cut: (0..IDEAL_BATCH_SIZE).map(|_| vec![0; 65_535]).collect(),
            sizes: vec![0; IDEAL_BATCH_SIZE],
            arrived: VecDeque::new(),
            out: Vec::new(),
            used: 0,
            table: GROTable::default(),
        })
    }

    pub(super) async fn readable(&self) {
        // An error shows itself at the read.
        let _ = self.device.readable().await;
    }

    /// Takes one read's packets, if there are any.
    pub(super) fn receive(&mut self) -> Result<(), Failure> {
        let got = self.device.try_recv_multiple(&mut self.original, &mut self.cut, &mut self.sizes, 0);
        let count = match got {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            // EIO: the interface is down, not yet up or taken down by someone.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => return Ok(()),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::BADFD.raw_os_error()) => {
                let what = "the virtual interface is gone";
                return Err(Failure::new(Code::Permission, what, "someone deleted it: start again"));
            }
            Err(error) => {
                tracing::debug!(%error, "a packet of the virtual interface was dropped");
                return Ok(());
            }
        };
        let total = self.sizes[..count].iter().sum();
        let mut all = BytesMut::with_capacity(total);
        for (buffer, size) in self.cut.iter().zip(&self.sizes).take(count) {
            all.extend_from_slice(&buffer[..*size]);
        }
        for size in &self.sizes[..count] {
            self.arrived.push_back(all.split_to(*size).freeze());
        }
        Ok(())
    }

    pub(super) fn next(&mut self) -> Option<Bytes> {
        self.arrived.pop_front()
    }

    /// Queues a packet until [`Self::flush`].
    pub(super) fn push(&mut self, packet: &[u8]) {
        if self.used == WRITE_LIMIT {
            return;
        }
        if self.used == self.out.len() {
            self.out.push(Vec::with_capacity(2048));
        }
        let buffer = &mut self.out[self.used];
        buffer.clear();
        buffer.resize(VIRTIO_NET_HDR_LEN, 0);
        buffer.extend_from_slice(packet);
        self.used += 1;
    }

    pub(super) async fn flush(&mut self) {
        if self.used == 0 {
            return;
        }
        let written = self.device.send_multiple(&mut self.table, &mut self.out[..self.used], VIRTIO_NET_HDR_LEN).await;
        if let Err(error) = written {
            tracing::debug!(%error, "the virtual interface did not take a packet");
        }
        self.used = 0;
    }
}

/// Why there is no device, for people.
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
