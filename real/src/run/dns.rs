//! How the system learns of the overlay's names. The node itself answers DNS on the virtual interface, for its zone
//! only; here the system's resolver is told, and told back when the node ends.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use cyphonic_core::node::Overlay;
use tokio::process::Command;

use super::privileges::Later;
use crate::files;
use crate::settings::Dns;

const RESOLV_CONF: &str = "/etc/resolv.conf";
/// How long `resolvectl` may take.
const PATIENCE: Duration = Duration::from_secs(10);
const BEGIN: &str = "# cyphonic: the next line is for names in the overlay";

/// What was done, so that it can be undone.
pub(super) struct Resolver {
    way: Dns,
    tun: String,
    overlay: Overlay,
    file: PathBuf,
    done: bool,
    /// Whether there was no such file before.
    made: bool,
}

impl Resolver {
    pub(super) fn new(way: Dns, tun: String, overlay: Overlay) -> Self {
        Self { way, tun, overlay, file: PathBuf::from(RESOLV_CONF), done: false, made: false }
    }

    /// What is opened again once the daemon runs.
    pub(super) fn later(&self) -> Option<Later> {
        (self.way == Dns::ResolvConf).then(|| Later::write(&self.file))
    }

    /// Tells the system, once.
    pub(super) fn install(&mut self) {
        if std::mem::replace(&mut self.done, true) {
            return;
        }
        let resolved = Path::new("/run/systemd/resolve").exists();
        match self.way {
            Dns::ResolvConf => match self.rewrite() {
                Ok(()) => tracing::info!(file = %self.file.display(), "names in the overlay are resolved"),
                Err(error) => tracing::warn!(%error, file = %self.file.display(), "cannot be rewritten"),
            },
            Dns::Resolved => self.resolvectl(),
            Dns::Auto if resolved => self.resolvectl(),
            Dns::Auto | Dns::None => {
                let (zone, server) = (&self.overlay.zone, self.overlay.dns_v4);
                tracing::info!("for names in {zone} ask {server}; or set `dns = \"resolv-conf\"`");
            }
        }
    }

    /// Packets do not wait for it.
    fn resolvectl(&self) {
        let zone = self.overlay.zone.clone();
        let (v4, v6) = (self.overlay.dns_v4.to_string(), self.overlay.dns_v6.to_string());
        let domains = domains(&self.overlay).into_iter().map(|domain| format!("~{domain}"));
        let domains = ["domain".to_owned(), self.tun.clone()].into_iter().chain(domains).collect();
        let calls = [vec!["dns".to_owned(), self.tun.clone(), v4, v6], domains];
        tokio::spawn(async move {
            for arguments in calls {
                if let Err(error) = run("resolvectl", &arguments, PATIENCE).await {
                    return tracing::warn!(%error, "resolvectl did not do it; set `dns = \"resolv-conf\"` or \"none\"");
                }
            }
            tracing::info!(%zone, "names in the overlay are resolved by systemd-resolved");
        });
    }

    /// The overlay's server comes first; what it refuses, the C library asks the next one.
    fn rewrite(&mut self) -> io::Result<()> {
        let old = match fs::read(&self.file) {
            Ok(old) => old,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.made = true;
                Vec::new()
            }
            Err(error) => return Err(error),
        };
        let mut new = format!("{BEGIN}\nnameserver {}\n", self.overlay.dns_v4).into_bytes();
        new.extend(without_ours(&old));
        replace(&self.file, &new)
    }

    /// Takes back what was done.
    pub(super) fn restore(&self) {
        // systemd-resolved forgets the interface by itself.
        if self.done
            && self.way == Dns::ResolvConf
            && let Err(error) = clean(&self.file, self.made)
        {
            tracing::warn!(%error, file = %self.file.display(), "cannot be restored");
        }
    }
}

/// Takes the lines away that an earlier life left: its server does not answer, and would be asked first.
pub(super) fn clean_up() {
    if let Err(error) = clean(Path::new(RESOLV_CONF), false) {
        tracing::warn!(%error, file = RESOLV_CONF, "an earlier life's server cannot be taken away");
    }
}

/// Takes our lines away; and the file, if nothing else is in it and we have made it.
fn clean(file: &Path, made: bool) -> io::Result<()> {
    let old = match fs::read(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        old => old?,
    };
    let rest = without_ours(&old);
    match rest.len() {
        0 if made => fs::remove_file(file),
        length if length == old.len() => Ok(()),
        _ => replace(file, &rest),
    }
}

/// A new file takes the old one's place, with its owner and mode; where it cannot, as in containers and namespaces,
/// whose file is a mount, it is written over.
fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    // A link stays one.
    let file = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let mut new = file.clone().into_os_string();
    new.push(".cyphonic");
    let renamed = write_beside(&file, Path::new(&new), bytes).and_then(|()| fs::rename(&new, &file));
    if renamed.is_ok() {
        return files::sync_folder(&file);
    }
    let _ = fs::remove_file(&new);
    let mut old = OpenOptions::new().write(true).create(true).truncate(false).open(&file)?;
    old.write_all(bytes)?;
    old.set_len(bytes.len() as u64)?;
    old.sync_all()
}

fn write_beside(file: &Path, new: &Path, bytes: &[u8]) -> io::Result<()> {
    let _ = fs::remove_file(new);
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o644).open(new)?;
    if let Ok(old) = fs::metadata(file) {
        out.set_permissions(old.permissions())?;
        fchown(&out, Some(old.uid()), Some(old.gid()))?;
    }
    out.write_all(bytes)?;
    out.sync_all()
}

/// Runs a program for so long at most.
async fn run(program: &str, arguments: &[String], patience: Duration) -> Result<(), String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).kill_on_drop(true).output();
    match tokio::time::timeout(patience, output).await {
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Ok(Err(error)) => Err(format!("it cannot be run: {error}")),
        Err(_) => Err(format!("it did not end in {} s", patience.as_secs_f64())),
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

/// The file without our lines, also those of an earlier life that ended in disorder; every other byte stays.
fn without_ours(text: &[u8]) -> Vec<u8> {
    let mut lines = text.split_inclusive(|&byte| byte == b'\n');
    let mut kept = Vec::new();
    while let Some(line) = lines.next() {
        if line.strip_suffix(b"\n") == Some(BEGIN.as_bytes()) {
            lines.next();
        } else {
            kept.extend_from_slice(line);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn reverse_lookups_of_the_overlay_are_ours_too() {
        let domains = domains(&Overlay::new("cyphonic.test".parse().unwrap()));
        let v6 = "0.0.0.0.c.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
        assert_eq!(domains, ["cyphonic.test", "18.198.in-addr.arpa", v6]);
    }

    fn resolver(file: &Path) -> Resolver {
        let overlay = Overlay::new("cyphonic.test".parse().unwrap());
        let mut resolver = Resolver::new(Dns::ResolvConf, "tun".into(), overlay);
        file.clone_into(&mut resolver.file);
        resolver
    }

    #[test]
    fn resolv_conf_gets_our_server_first_once_and_is_as_before_afterwards_byte_by_byte() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("resolv.conf");
        for before in [&b"search example.org\nnameserver 192.0.2.53\n"[..], b"# caf\xe9\r\nnameserver 192.0.2.53", b""]
        {
            fs::write(&file, before).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
            let mut resolver = resolver(&file);
            resolver.rewrite().unwrap();
            // An earlier life ended in disorder.
            resolver.rewrite().unwrap();
            let during = fs::read(&file).unwrap();
            let ours = format!("{BEGIN}\nnameserver 198.18.0.1\n").into_bytes();
            assert_eq!(during, [&ours, before].concat());
            resolver.done = true;
            resolver.restore();
            assert_eq!(fs::read(&file).unwrap(), before);
            assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o640);
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
        }
    }

    #[test]
    fn a_resolv_conf_that_was_not_there_goes_and_a_link_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (file, target) = (folder.path().join("resolv.conf"), folder.path().join("target"));
        let mut made = resolver(&file);
        made.install();
        assert!(file.exists());
        made.restore();
        assert!(!file.exists());
        fs::write(&target, "nameserver 192.0.2.53\n").unwrap();
        std::os::unix::fs::symlink(&target, &file).unwrap();
        let mut linked = resolver(&file);
        linked.install();
        assert!(fs::read_to_string(&target).unwrap().starts_with(BEGIN));
        linked.restore();
        assert_eq!(fs::read_link(&file).unwrap(), target);
        assert_eq!(fs::read_to_string(&target).unwrap(), "nameserver 192.0.2.53\n");
    }

    #[test]
    fn a_resolv_conf_that_cannot_be_read_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("resolv.conf");
        fs::create_dir(&file).unwrap();
        assert!(resolver(&file).rewrite().is_err());
        assert!(file.is_dir());
    }

    #[test]
    fn a_program_that_does_not_end_is_not_waited_for() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let begin = std::time::Instant::now();
            let error = run("sleep", &["60".to_owned()], Duration::from_millis(50)).await.unwrap_err();
            assert!(error.contains("did not end") && begin.elapsed() < Duration::from_secs(30), "{error}");
            assert_eq!(run("true", &[], PATIENCE).await, Ok(()));
            assert!(run("no-such-program", &[], PATIENCE).await.unwrap_err().contains("cannot be run"));
        });
    }
}
