//! I5 at a node: the probes that ask whether a path works.
//!
//! A path is asked once in a patience of at least 200 ms, and more often when its size is tried, when a node moves, and
//! when the peer says that it hears nothing. Probes that answer probes by probes could fill a slow path.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use cyphonic_core::name::RelayCid;
use cyphonic_core::paths::probe::{ProbeKind, kind_of, tag_of};
use cyphonic_core::time::Instant;

use super::super::violation::{Invariant, Violation, violation as violated};
use super::Datagram;

/// The time over which questions are counted.
const SPAN: Duration = Duration::from_secs(1);
/// Most questions by one way in that time. No more than 20 were seen in 1,500 runs, and 53 while each end answered the
/// other's.
const MOST: usize = 30;

pub(super) fn violation(node: &str, datagrams: &[Datagram<'_>]) -> Option<Violation> {
    let mut asked: BTreeMap<(SocketAddr, RelayCid), VecDeque<Instant>> = BTreeMap::new();
    for datagram in datagrams.iter().filter(|datagram| datagram.is_out) {
        if kind_of(datagram.payload) != Some(ProbeKind::Hello) {
            continue;
        }
        let tag = tag_of(datagram.payload).expect("a probe has one");
        let recent = asked.entry((datagram.remote, tag)).or_default();
        recent.push_back(datagram.at);
        while recent.front().is_some_and(|&at| at + SPAN <= datagram.at) {
            recent.pop_front();
        }
        if recent.len() > MOST {
            let (remote, at) = (datagram.remote, datagram.at);
            let text = format!(
                "{node} asked {} times within {SPAN:?} whether its path to {remote} works, at {at}",
                recent.len()
            );
            return Some(violated(Invariant::I5, text));
        }
    }
    None
}
