//! Allocates the addresses of nodes in sites.

use std::collections::BTreeMap;

use ipnet::IpNet;

use crate::address::{ROUTER, host_v4, host_v6};
use crate::error::Problem;
use crate::scenario::{Interface, Site, SiteV4, SiteV6};

/// Gives nodes their addresses. A node that returns to a site gets its old one.
#[derive(Default)]
pub(super) struct Hosts {
    given: BTreeMap<(usize, usize), Interface>,
    count: BTreeMap<usize, u32>,
}

impl Hosts {
    /// The place of a node in a site.
    pub(super) fn place(&mut self, node: usize, index: usize, site: &Site) -> Result<Interface, Problem> {
        if let Some(interface) = self.given.get(&(node, index)) {
            return Ok(*interface);
        }
        let count = self.count.entry(index).or_insert(ROUTER);
        *count += 1;
        let full = |prefix: IpNet| Problem::SiteFull { prefix };
        let v4 = match site.v4.as_ref().map(SiteV4::prefix) {
            Some(prefix) => Some(host_v4(prefix, *count).ok_or_else(|| full(prefix.into()))?),
            None => None,
        };
        let v6 = match site.v6.as_ref().map(SiteV6::prefix) {
            Some(prefix) => Some(host_v6(prefix, *count).ok_or_else(|| full(prefix.into()))?),
            None => None,
        };
        let interface = Interface { site: index, v4, v6 };
        self.given.insert((node, index), interface);
        Ok(interface)
    }
}
