//! The system's resolver and the overlay's names. The node itself answers DNS on the virtual interface, for its zone
//! only. Here the system's resolver is told so, and the change is undone when the node ends.

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
use crate::tasks;

const RESOLV_CONF: &str = "/etc/resolv.conf";
/// The folder of systemd-resolved's files.
const RESOLVED: &str = "/run/systemd/resolve";
const RESOLVED_FILES: [&str; 3] = ["io.systemd.Resolve", "resolv.conf", "stub-resolv.conf"];
/// How often the node checks whether systemd-resolved has started, or started again.
const LOOK: Duration = Duration::from_secs(2);
/// Checks after which `resolvectl` is called again, if it failed and nothing has changed.
const LOOKS_AFTER_FAILURE: u32 = 15;
/// Most symbolic links that are followed to a file: as many as the kernel follows.
const LINKS: usize = 40;
/// How long `resolvectl` may take.
const PATIENCE: Duration = Duration::from_secs(10);
const BEGIN: &str = "# cyphonic: the next line is for names in the overlay";
/// The mark before our line at the end: the last search list counts (resolv.conf(5)).
const SEARCH: &str = "# cyphonic: the next line is for short names in the overlay";
/// The same, where the file did not end with a line break and we had to add one.
const SEARCH_AFTER_BREAK: &str = "# cyphonic: the line break before this is ours, and the next line is for short names";
/// The mark at the top of a file that we made, followed by the number of folders that we made for it. A later run knows
/// by it what to remove.
const MADE: &str = "# cyphonic: there was no such file; folders made for it: ";

/// What was done to the system, so that it can be undone.
pub(super) struct Resolver {
    way: Dns,
    tun: String,
    overlay: Overlay,
    file: PathBuf,
    done: bool,
}

impl Resolver {
    pub(super) fn new(way: Dns, tun: String, overlay: Overlay) -> Self {
        Self { way, tun, overlay, file: PathBuf::from(RESOLV_CONF), done: false }
    }

    /// The files to open again while the daemon runs.
    pub(super) fn later(&self) -> Option<Later> {
        (self.way == Dns::ResolvConf).then(|| Later::write(&self.file))
    }

    /// Tells the system once.
    pub(super) fn install(&mut self) {
        if std::mem::replace(&mut self.done, true) {
            return;
        }
        match self.way {
            Dns::ResolvConf => match self.rewrite() {
                Ok(()) => tracing::info!(file = %self.file.display(), "names in the overlay are resolved"),
                Err(error) => {
                    let immutable = error.raw_os_error() == Some(rustix::io::Errno::PERM.raw_os_error());
                    let remedy = if immutable {
                        "is it or its folder immutable? `lsattr -d` shows it, `chattr -i` ends it"
                    } else {
                        "set `dns = \"none\"` and let the system's resolver ask the node for the zone"
                    };
                    tracing::warn!(%error, file = %self.file.display(), remedy, "cannot be rewritten");
                }
            },
            Dns::Resolved => self.tell_resolved(),
            Dns::Auto => {
                if stamps().is_none() {
                    self.advise();
                }
                self.tell_resolved();
            }
            Dns::None => self.advise(),
        }
    }

    fn advise(&self) {
        let (zone, server) = (&self.overlay.zone, self.overlay.dns_v4);
        tracing::info!("for names in {zone} ask {server}; or set `dns = \"resolv-conf\"`");
    }

    /// Tells systemd-resolved, as soon as it runs and whenever it has started again. Packets do not wait for that.
    fn tell_resolved(&self) {
        let (v4, v6) = (self.overlay.dns_v4.to_string(), self.overlay.dns_v6.to_string());
        // The zone is a search domain too: the first label of a name is enough. The others only say where to ask.
        let [zone, reverse @ ..] = &domains(&self.overlay)[..] else { unreachable!("the zone is the first") };
        let reverse = reverse.iter().map(|domain| format!("~{domain}"));
        let domains = ["domain".to_owned(), self.tun.clone(), zone.clone()].into_iter().chain(reverse).collect();
        let mut resolved = Resolved {
            zone: self.overlay.zone.to_string(),
            server: v4.clone(),
            ask: vec!["dns".to_owned(), self.tun.clone()],
            tell: [vec!["dns".to_owned(), self.tun.clone(), v4, v6], domains],
            told: None,
            failed: None,
            must: self.way == Dns::Resolved,
        };
        tasks::forever("tells systemd-resolved of the overlay's names", async move {
            loop {
                resolved.look().await;
                tokio::time::sleep(LOOK).await;
            }
        });
    }

    /// Writes the file. The overlay's server comes first, because the C library asks the next one for what the first
    /// refuses. The zone is the first search domain, so that no other server is asked for a peer's short name.
    fn rewrite(&self) -> io::Result<()> {
        let file = target(&self.file)?;
        let mut new = Vec::new();
        let old = match fs::read(&file) {
            Ok(old) => old,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                writeln!(new, "{MADE}{}", make_folders(&file)?)?;
                Vec::new()
            }
            Err(error) => return Err(error),
        };
        if let Some(folders) = made(&old) {
            writeln!(new, "{MADE}{folders}")?;
        }
        writeln!(new, "{BEGIN}\nnameserver {}", self.overlay.dns_v4)?;
        let theirs = without_ours(&old);
        let mark = if matches!(theirs.last(), None | Some(b'\n')) { SEARCH } else { SEARCH_AFTER_BREAK };
        new.extend_from_slice(&theirs);
        if mark == SEARCH_AFTER_BREAK {
            new.push(b'\n');
        }
        writeln!(new, "{mark}\nsearch {}", search(&theirs, &self.overlay.zone.to_string()))?;
        replace(&file, &new)
    }

    /// Undoes what was done.
    pub(super) fn restore(&mut self) {
        // systemd-resolved forgets the interface by itself.
        if std::mem::take(&mut self.done)
            && self.way == Dns::ResolvConf
            && let Err(error) = clean(&self.file)
        {
            tracing::warn!(%error, file = %self.file.display(), "cannot be restored");
        }
    }
}

/// systemd-resolved, and what it has to be told.
struct Resolved {
    zone: String,
    /// The overlay's server. The answer to `ask` has to contain it.
    server: String,
    /// The arguments of resolvectl(1) that show the virtual interface's servers.
    ask: Vec<String>,
    /// The arguments that set servers and domains.
    tell: [Vec<String>; 2],
    /// The stamps of its files when it knew everything.
    told: Option<Stamps>,
    /// After a failure: the stamps of its files, the error, and the number of checks since.
    failed: Option<(Option<Stamps>, String, u32)>,
    /// Whether it is told even if its files are not found.
    must: bool,
}

impl Resolved {
    /// Tells systemd-resolved, if it runs and does not know yet.
    async fn look(&mut self) {
        let now = stamps();
        if (now.is_none() && !self.must) || (now.is_some() && now == self.told) {
            return;
        }
        if let Some((stamps, _, looks)) = &mut self.failed
            && *stamps == now
            && *looks < LOOKS_AFTER_FAILURE
        {
            *looks += 1;
            return;
        }
        // systemd-resolved also rewrites its files for other reasons, such as our own commands.
        let knows = self.told.is_some()
            && run("resolvectl", &self.ask, PATIENCE).await.is_ok_and(|said| said.contains(&self.server));
        let mut done = Ok(String::new());
        for arguments in self.tell.iter().filter(|_| !knows) {
            if done.is_ok() {
                done = run("resolvectl", arguments, PATIENCE).await;
            }
        }
        match done {
            Ok(_) => {
                if !knows {
                    tracing::info!(zone = %self.zone, "names in the overlay are resolved by systemd-resolved");
                }
                self.failed = None;
                self.told = now.or(Some([None; 3]));
                self.must = false;
            }
            Err(error) => {
                if self.failed.as_ref().is_none_or(|(_, said, _)| *said != error) {
                    tracing::warn!(%error, "resolvectl failed; set `dns = \"resolv-conf\"` or \"none\"");
                }
                self.failed = Some((now, error, 0));
            }
        }
    }
}

/// Tells one run of systemd-resolved from another: its files' inode numbers and times.
type Stamps = [Option<(u64, i64, i64)>; 3];

/// None if systemd-resolved has no files.
fn stamps() -> Option<Stamps> {
    let stamps = RESOLVED_FILES.map(|file| {
        let facts = fs::metadata(Path::new(RESOLVED).join(file)).ok()?;
        Some((facts.ino(), facts.mtime(), facts.mtime_nsec()))
    });
    stamps.iter().any(Option::is_some).then_some(stamps)
}

/// Removes the lines that an earlier run left. Its server no longer answers, and would still be asked first.
pub(super) fn clean_up() {
    if let Err(error) = clean(Path::new(RESOLV_CONF)) {
        tracing::warn!(%error, file = RESOLV_CONF, "the server of an earlier run cannot be removed");
    }
}

/// As `clean_up`, for an operator or a service manager, with the error.
pub fn put_back() -> io::Result<()> {
    clean(Path::new(RESOLV_CONF))
}

/// Removes our lines. If we made the file and nothing else is in it, removes it too, with the folders made for it.
fn clean(file: &Path) -> io::Result<()> {
    let file = target(file)?;
    let old = match fs::read(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        old => old?,
    };
    let rest = without_ours(&old);
    match (rest.len(), made(&old)) {
        (0, Some(folders)) => {
            fs::remove_file(&file)?;
            // A folder in which something else is by now stays.
            file.ancestors().skip(1).take(folders).all(|folder| fs::remove_dir(folder).is_ok());
            Ok(())
        }
        (length, _) if length == old.len() => Ok(()),
        _ => replace(&file, &rest),
    }
}

/// The file behind symbolic links, even if it does not exist yet: systemd-resolved's link can be there before its file.
fn target(file: &Path) -> io::Result<PathBuf> {
    let mut file = file.to_owned();
    for _ in 0..LINKS {
        match fs::read_link(&file) {
            Ok(next) => file = file.parent().unwrap_or(Path::new("/")).join(next),
            // The path is no link, or does not exist.
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound) => {
                return Ok(file);
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("too many links"))
}

/// Makes the folders that a file lacks. Returns how many.
fn make_folders(file: &Path) -> io::Result<usize> {
    let missing: Vec<_> = file.ancestors().skip(1).take_while(|folder| !folder.exists()).collect();
    for folder in missing.iter().rev().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir(folder)?;
    }
    Ok(missing.len())
}

/// How many folders were made for the file, if we made it.
fn made(text: &[u8]) -> Option<usize> {
    let mut lines = text.split(|&byte| byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    lines.find_map(|line| line.strip_prefix(MADE)?.parse().ok())
}

/// Replaces a file by a new one with its owner and mode. A file that is a mount, as in containers and namespaces,
/// cannot be replaced. It is overwritten.
fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
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

/// Runs a program, with a time limit. Returns its output.
async fn run(program: &str, arguments: &[String], patience: Duration) -> Result<String, String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).kill_on_drop(true).output();
    match tokio::time::timeout(patience, output).await {
        Ok(Ok(output)) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(Ok(output)) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Ok(Err(error)) => Err(format!("it cannot be run: {error}")),
        Err(_) => Err(format!("it did not end in {} s", patience.as_secs_f64())),
    }
}

/// The zone, and the zones of reverse lookups that contain the overlay's addresses only.
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

/// The search list with the zone before all others. Without a list the C library takes the domain of the machine's
/// name.
fn search(text: &[u8], zone: &str) -> String {
    let lines = text.rsplit(|&byte| byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    let mut lists = lines.filter_map(|line| line.strip_prefix("search").or_else(|| line.strip_prefix("domain")));
    let last = lists.find(|list| list.starts_with([' ', '\t']));
    let name = rustix::system::uname();
    let own = name.nodename().to_str().ok().and_then(|name| name.split_once('.')).map(|(_, domain)| domain);
    let list = last.or(own).unwrap_or_default().split_whitespace().filter(|domain| *domain != zone);
    std::iter::once(zone).chain(list).collect::<Vec<_>>().join(" ")
}

/// The file without our lines, also those of an earlier run that was killed. Every other byte stays.
fn without_ours(text: &[u8]) -> Vec<u8> {
    let mut lines = text.split_inclusive(|&byte| byte == b'\n');
    let mut kept = Vec::new();
    while let Some(line) = lines.next() {
        let mark = line.strip_suffix(b"\n").unwrap_or_default();
        if mark == BEGIN.as_bytes() || mark == SEARCH.as_bytes() {
            lines.next();
        } else if mark == SEARCH_AFTER_BREAK.as_bytes() {
            lines.next();
            kept.pop_if(|byte| *byte == b'\n');
        } else if !line.starts_with(MADE.as_bytes()) {
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
            // An earlier run was killed.
            resolver.rewrite().unwrap();
            let during = fs::read(&file).unwrap();
            let ours = format!("{BEGIN}\nnameserver 198.18.0.1\n").into_bytes();
            assert!(during.starts_with(&[&ours, before].concat()));
            let list = String::from_utf8_lossy(&during).lines().last().map(str::to_owned);
            assert!(list.as_ref().is_some_and(|list| list.starts_with("search cyphonic.test")));
            assert_eq!(list.unwrap().contains("example.org"), before.starts_with(b"search"));
            resolver.done = true;
            resolver.restore();
            assert_eq!(fs::read(&file).unwrap(), before);
            assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o640);
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
        }
    }

    #[test]
    fn the_zone_is_searched_first_and_once() {
        for (text, list) in [
            ("search a.example b.example\nnameserver ::1\n", "cyphonic.test a.example b.example"),
            ("search a.example\ndomain c.example\n", "cyphonic.test c.example"),
            ("search\ta.example cyphonic.test\nsearchlight x\n", "cyphonic.test a.example"),
        ] {
            assert_eq!(search(text.as_bytes(), "cyphonic.test"), list);
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
    fn a_link_to_nothing_is_written_through_and_leads_to_nothing_afterwards_also_after_a_crash() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("resolv.conf");
        for (link, missing) in [("run/systemd/resolve/stub-resolv.conf", "run"), ("target", "target"), ("chain", "run")]
        {
            let _ = fs::remove_file(&file);
            std::os::unix::fs::symlink(link, &file).unwrap();
            let _ = std::os::unix::fs::symlink("run/other.conf", folder.path().join("chain"));
            for crashes in [false, true] {
                let mut now = resolver(&file);
                now.install();
                assert_eq!(fs::read_link(&file).unwrap(), Path::new(link), "the link stays");
                assert!(fs::read_to_string(&file).unwrap().contains("\nnameserver 198.18.0.1\n"));
                if crashes {
                    // The next run finds the file as it is, or an operator cleans up.
                    let mut next = resolver(&file);
                    next.install();
                    now.done = false;
                    clean(&file).unwrap();
                } else {
                    now.restore();
                }
                assert_eq!(fs::read_link(&file).unwrap(), Path::new(link));
                assert!(!folder.path().join(missing).exists(), "{link}: nothing that was made is left");
            }
        }
        // Lines that another program wrote meanwhile stay.
        let mut now = resolver(&file);
        now.install();
        let theirs = [fs::read(&file).unwrap(), b"nameserver 192.0.2.53\n".to_vec()].concat();
        fs::write(&file, theirs).unwrap();
        now.restore();
        assert_eq!(fs::read_to_string(&file).unwrap(), "nameserver 192.0.2.53\n");
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
            assert_eq!(run("echo", &["x".to_owned()], PATIENCE).await, Ok("x\n".to_owned()));
            assert!(run("no-such-program", &[], PATIENCE).await.unwrap_err().contains("cannot be run"));
        });
    }
}
