//! How the system learns of the overlay's names. The node itself answers DNS on the virtual interface, for its zone
//! only; here the system's resolver is told, and told back when the node ends.

use std::fs;
use std::path::{Path, PathBuf};

use cyphonic_core::node::Overlay;
use tokio::process::Command;

use super::privileges::Later;
use crate::settings::Dns;

const BEGIN: &str = "# cyphonic: the next line is for names in the overlay";

/// What was done, so that it can be undone.
pub(super) struct Resolver {
    way: Dns,
    tun: String,
    overlay: Overlay,
    file: PathBuf,
    done: bool,
}

impl Resolver {
    pub(super) fn new(way: Dns, tun: String, overlay: Overlay) -> Self {
        Self { way, tun, overlay, file: PathBuf::from("/etc/resolv.conf"), done: false }
    }

    /// What is opened again once the daemon runs.
    pub(super) fn later(&self) -> Option<Later> {
        (self.way == Dns::ResolvConf).then(|| Later::write(&self.file))
    }

    /// Tells the system, once.
    pub(super) async fn install(&mut self) {
        if std::mem::replace(&mut self.done, true) {
            return;
        }
        let resolved = Path::new("/run/systemd/resolve").exists();
        match self.way {
            Dns::ResolvConf => match self.rewrite() {
                Ok(()) => tracing::info!(file = %self.file.display(), "names in the overlay are resolved"),
                Err(error) => tracing::warn!(%error, file = %self.file.display(), "cannot be rewritten"),
            },
            Dns::Resolved => self.resolvectl().await,
            Dns::Auto if resolved => self.resolvectl().await,
            Dns::Auto | Dns::None => {
                let (zone, server) = (&self.overlay.zone, self.overlay.dns_v4);
                tracing::info!("for names in {zone} ask {server}; or set `dns = \"resolv-conf\"`");
            }
        }
    }

    async fn resolvectl(&self) {
        let (v4, v6) = (self.overlay.dns_v4.to_string(), self.overlay.dns_v6.to_string());
        let domains: Vec<String> = domains(&self.overlay).iter().map(|domain| format!("~{domain}")).collect();
        let domains = ["domain", &self.tun].into_iter().chain(domains.iter().map(String::as_str)).collect();
        for arguments in [vec!["dns", &self.tun, &v4, &v6], domains] {
            match Command::new("resolvectl").args(&arguments).output().await {
                Ok(output) if output.status.success() => {}
                Ok(output) => {
                    let error = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                    return tracing::warn!(%error, "resolvectl refused; set `dns = \"resolv-conf\"` or \"none\"");
                }
                Err(error) => return tracing::warn!(%error, "resolvectl cannot be run; set another `dns`"),
            }
        }
        tracing::info!(zone = %self.overlay.zone, "names in the overlay are resolved by systemd-resolved");
    }

    /// The overlay's server comes first; what it refuses, the C library asks the next one. The file keeps its inode:
    /// in containers and namespaces it is a mount.
    fn rewrite(&self) -> std::io::Result<()> {
        let old = fs::read_to_string(&self.file).unwrap_or_default();
        fs::write(&self.file, format!("{BEGIN}\nnameserver {}\n{}", self.overlay.dns_v4, without_ours(&old)))
    }

    /// Takes back what was done.
    pub(super) fn restore(&self) {
        // systemd-resolved forgets the interface by itself.
        if self.done && self.way == Dns::ResolvConf {
            let old = fs::read_to_string(&self.file).unwrap_or_default();
            let _ = fs::write(&self.file, without_ours(&old));
        }
    }
}

/// The zone, and the zones of reverse lookups in which every address is the overlay's.
fn domains(overlay: &Overlay) -> Vec<String> {
    let mut domains = vec![overlay.zone.to_string()];
    let (v4, length) = overlay.v4;
    if length % 8 == 0 {
        let octets = v4.octets().into_iter().take(usize::from(length / 8)).map(|octet| format!("{octet}."));
        domains.push(octets.rev().collect::<Vec<_>>().concat() + "in-addr.arpa");
    }
    let (v6, length) = overlay.v6;
    if length % 4 == 0 {
        let nibbles = (0..u32::from(length) / 4).rev().map(|n| v6.to_bits() >> (124 - 4 * n) & 0xf);
        domains.push(nibbles.map(|nibble| format!("{nibble:x}.")).collect::<Vec<_>>().concat() + "ip6.arpa");
    }
    domains
}

/// The file without our lines, also those of an earlier life that ended in disorder.
fn without_ours(text: &str) -> String {
    let mut lines = text.lines();
    let mut kept = String::new();
    while let Some(line) = lines.next() {
        if line == BEGIN {
            lines.next();
        } else {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reverse_lookups_of_the_overlay_are_ours_too() {
        let domains = domains(&Overlay::new("cyphonic.test".parse().unwrap()));
        let v6 = "0.0.0.0.c.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
        assert_eq!(domains, ["cyphonic.test", "18.198.in-addr.arpa", v6]);
    }

    #[test]
    fn resolv_conf_gets_our_server_first_once_and_is_as_before_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("resolv.conf");
        let before = "search example.org\nnameserver 192.0.2.53\n";
        fs::write(&file, before).unwrap();
        let overlay = Overlay::new("cyphonic.test".parse().unwrap());
        let mut resolver = Resolver::new(Dns::ResolvConf, "tun".into(), overlay);
        resolver.file = file.clone();
        resolver.rewrite().unwrap();
        resolver.rewrite().unwrap();
        let during = fs::read_to_string(&file).unwrap();
        assert_eq!(during.matches("nameserver 198.18.0.1\n").count(), 1, "{during}");
        assert!(during.ends_with(before), "{during}");
        resolver.done = true;
        resolver.restore();
        assert_eq!(fs::read_to_string(&file).unwrap(), before);
    }
}
