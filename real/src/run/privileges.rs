//! The privileges that a daemon keeps once its sockets, interface and files are open: a node changes the addresses and
//! routes of its interface (`CAP_NET_ADMIN`), a service needs none. All others are dropped for good, from the
//! permitted, effective, inheritable, ambient and bounding sets. With `no_new_privs` no program that the daemon starts
//! gets any of them back.
//!
//! Capabilities belong to threads, not to processes. When they are dropped a daemon has three threads: the one that
//! drives the role, the runtime's, and the log's, which has dropped its own when it began. A thread that these start
//! later inherits their capabilities. Threads of earlier work on files end by themselves within moments; the daemon
//! waits until no thread with more capabilities is left, and verifies it.
//!
//! Root without capabilities is a user like others: it reads and writes what it owns. Where files that are needed later
//! belong to someone else, `CAP_DAC_OVERRIDE` stays, and a warning says which file wants another owner.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::{self, CapabilitySet, CapabilitySets};

use crate::error::{Code, Failure};

/// What a node needs all its life: addresses and routes of its interface.
pub(super) const NODE: CapabilitySet = CapabilitySet::NET_ADMIN;
/// What a service needs.
pub(super) const SERVICE: CapabilitySet = CapabilitySet::empty();

/// What opens files of others.
const FILES: CapabilitySet = CapabilitySet::DAC_OVERRIDE.union(CapabilitySet::DAC_READ_SEARCH);

/// How long threads that had something to do before may take to end: see [`super::block_on`].
const PATIENCE: Duration = Duration::from_secs(3);

/// A file or folder that is opened again while the daemon runs.
#[derive(Clone, Debug)]
pub(super) struct Later {
    path: PathBuf,
    access: Access,
}

impl Later {
    /// A file that is read.
    pub(super) fn read(path: &Path) -> Self {
        Self { path: path.to_owned(), access: Access::READ_OK }
    }

    /// A file that is read and written.
    pub(super) fn write(path: &Path) -> Self {
        Self { path: path.to_owned(), access: Access::READ_OK | Access::WRITE_OK }
    }

    /// The folder of a file, in which others are made.
    pub(super) fn beside(path: &Path) -> Self {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self::folder(folder)
    }

    /// A folder in which files are made.
    pub(super) fn folder(path: &Path) -> Self {
        Self { path: path.to_owned(), access: Access::WRITE_OK | Access::EXEC_OK }
    }

    /// Why it cannot be opened, if it is there. EPERM is not about users: nobody can write an immutable file.
    fn refusal(&self) -> Option<Errno> {
        let result = accessat(CWD, &self.path, self.access, AtFlags::EACCESS);
        result.err().filter(|error| [Errno::ACCESS, Errno::PERM, Errno::ROFS].contains(error))
    }

    /// What a refusal that no privilege helps against is called, and what does help.
    fn unwritable(&self, refusal: Errno) -> Option<(&'static str, String)> {
        let file = self.path.display();
        match refusal {
            Errno::PERM => Some(("is immutable: nobody can write it", format!("chattr -i {file}; lsattr -d shows it"))),
            Errno::ROFS => {
                Some(("is on a read-only file system", "let it be on another, or mount that writable".into()))
            }
            _ => None,
        }
    }
}

/// Gives up all but `keep` of what this process has, in every thread.
pub(super) async fn give_up(keep: CapabilitySet, later: &[Later]) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        let remedy = "does something (seccomp, an old kernel) refuse capset or prctl to it?";
        Failure::new(Code::Permission, format!("privileges cannot be given up: {error}"), remedy)
    };
    let keep = keep | for_files(later).map_err(|error| failed(&error))?;
    confine(keep).map_err(|error| failed(&error))?;
    // What is spawned runs on the runtime's thread, not on this one.
    let other = tokio::spawn(async move { confine(keep) }).await;
    other.map_err(Failure::other)?.map_err(|error| failed(&error))?;
    let end = Instant::now() + PATIENCE;
    while let Err(error) = verify(keep) {
        if Instant::now() >= end {
            return Err(failed(&error));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tracing::debug!(?keep, "privileges were given up");
    Ok(())
}

/// Keys and passwords are in memory: no core is dumped, and no other process of this user reads the memory
/// (`ptrace(2)`, `/proc/PID/mem`).
pub(super) fn keep_memory_private() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let done = setrlimit(Resource::Core, none).and(set_dumpable_behavior(DumpableBehavior::NotDumpable));
    if let Err(error) = done {
        tracing::warn!(%error, "a crash may write keys to the disk: cores cannot be turned off");
    }
}

/// Gives up all that this thread has. The daemon's other threads keep what they have.
pub(super) fn give_up_all_of_this_thread() -> rustix::io::Result<()> {
    confine(CapabilitySet::empty())
}

/// What it takes to open files of others, if some are and this process can.
fn for_files(later: &[Later]) -> rustix::io::Result<CapabilitySet> {
    let sets = thread::capabilities(None)?;
    let opens = sets.effective & FILES;
    if opens.is_empty() {
        return Ok(opens);
    }
    thread::set_capabilities(None, CapabilitySets { effective: sets.effective.difference(FILES), ..sets })?;
    let refusals: Vec<_> = later.iter().filter_map(|one| Some((one, one.refusal()?))).collect();
    thread::set_capabilities(None, sets)?;
    for (one, refusal) in &refusals {
        if let Some((what, remedy)) = one.unwritable(*refusal) {
            tracing::warn!(file = %one.path.display(), remedy, "{what}");
        }
    }
    let of_others = refusals.iter().filter(|(_, refusal)| *refusal == Errno::ACCESS);
    let refused: Vec<_> = of_others.map(|(one, _)| one.path.display()).collect();
    if let Some(first) = refused.first() {
        let remedy = "give it, and the folder it is in, to the user that the daemon runs as (chown)";
        tracing::warn!(file = %first, remedy, "belongs to someone else, so CAP_DAC_OVERRIDE is kept");
        return Ok(opens & CapabilitySet::DAC_OVERRIDE);
    }
    Ok(CapabilitySet::empty())
}

/// Takes all but `keep` from this thread; nothing is added.
fn confine(keep: CapabilitySet) -> rustix::io::Result<()> {
    thread::set_no_new_privs(true)?;
    for one in (0..u64::BITS).map(|bit| CapabilitySet::from_bits_retain(1 << bit)) {
        match thread::capability_is_in_bounding_set(one) {
            Ok(true) if !keep.contains(one) => match thread::remove_capability_from_bounding_set(one) {
                // Without CAP_SETPCAP the bounding set stays; after no_new_privs it bounds nothing any more.
                Ok(()) | Err(Errno::PERM) => {}
                Err(error) => return Err(error),
            },
            Ok(_) => {}
            // Past the last that this kernel knows.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error),
        }
        if !keep.contains(one) && thread::capability_is_in_ambient_set(one)? {
            thread::configure_capability_in_ambient_set(one, false)?;
        }
    }
    let before = thread::capabilities(None)?;
    let after = CapabilitySets {
        effective: before.effective & keep,
        permitted: before.permitted & keep,
        inheritable: before.inheritable & keep,
    };
    thread::set_capabilities(None, after)
}

/// That no thread of this process has more than `keep`.
fn verify(keep: CapabilitySet) -> io::Result<()> {
    let tasks = match fs::read_dir("/proc/self/task") {
        // There is no /proc to look into.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        tasks => tasks?,
    };
    for task in tasks {
        let status = match fs::read_to_string(task?.path().join("status")) {
            Ok(status) => status,
            // It has ended.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let lines = status.lines().filter_map(|line| line.split_once(":\t"));
        for (set, bits) in lines.filter(|(key, _)| ["CapInh", "CapPrm", "CapEff", "CapAmb"].contains(key)) {
            let bits = u64::from_str_radix(bits.trim(), 16).map_err(io::Error::other)?;
            if bits & !keep.bits() != 0 {
                return Err(io::Error::other(format!("a thread has {set} {bits:x}")));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_keeps_what_it_is_left_with_and_gets_nothing_back() {
        // In a thread of its own: the other tests keep what they have.
        let lost = || {
            confine(CapabilitySet::NET_ADMIN).unwrap();
            let now = thread::capabilities(None).unwrap();
            for set in [now.effective, now.permitted, now.inheritable] {
                assert!(CapabilitySet::NET_ADMIN.contains(set), "{now:?}");
            }
            assert!(thread::no_new_privs().unwrap());
            let all = CapabilitySet::SYS_ADMIN;
            let back = CapabilitySets { effective: all, permitted: all, inheritable: all };
            assert_eq!(thread::set_capabilities(None, back), Err(Errno::PERM));
            // A child process cannot get it back either.
            let child = std::process::Command::new("grep").args(["-E", "^Cap(Eff|Prm)", "/proc/self/status"]).output();
            let child = String::from_utf8(child.unwrap().stdout).unwrap();
            for line in child.lines() {
                let bits = u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap();
                assert_eq!(bits & !CapabilitySet::NET_ADMIN.bits(), 0, "{child}");
            }
        };
        std::thread::spawn(lost).join().unwrap();
    }

    #[test]
    fn a_process_whose_memory_is_private_cannot_be_dumped() {
        keep_memory_private();
        let now = rustix::process::dumpable_behavior().unwrap();
        rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable).unwrap();
        assert_eq!(now, DumpableBehavior::NotDumpable);
    }

    #[test]
    fn a_thread_that_has_kept_more_is_found() {
        // What tests run with, or nothing where they are not root's.
        let now = thread::capabilities(None).unwrap();
        verify(now.permitted | now.inheritable).unwrap();
        if !now.permitted.is_empty() {
            assert!(verify(CapabilitySet::empty()).unwrap_err().to_string().contains("a thread has Cap"));
        }
    }

    #[test]
    fn files_of_others_that_are_needed_later_keep_what_opens_them_and_no_others_do() {
        let look = || {
            let folder = tempfile::tempdir().unwrap();
            let (ours, theirs) = (folder.path().join("ours"), folder.path().join("theirs"));
            for file in [&ours, &theirs] {
                fs::write(file, "").unwrap();
                fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            }
            let before = thread::capabilities(None).unwrap();
            let mine = [
                Later::read(&ours),
                Later::write(&ours),
                Later::beside(&ours),
                Later::read(&folder.path().join("none")),
            ];
            assert_eq!(for_files(&mine).unwrap(), CapabilitySet::empty());
            if std::os::unix::fs::chown(&theirs, Some(65_534), None).is_ok() {
                let kept = for_files(&[Later::read(&ours), Later::write(&theirs)]).unwrap();
                assert_eq!(kept, before.effective & CapabilitySet::DAC_OVERRIDE);
            }
            assert_eq!(thread::capabilities(None).unwrap(), before);
            // An immutable file is nobody's, and no privilege helps.
            let chattr = |flag| std::process::Command::new("chattr").arg(flag).arg(&ours).output();
            if chattr("+i").is_ok_and(|done| done.status.success()) {
                let ours = Later::write(&ours);
                assert_eq!(for_files(std::slice::from_ref(&ours)).unwrap(), CapabilitySet::empty());
                let refusal = ours.refusal().unwrap();
                assert!(ours.unwritable(refusal).unwrap().0.contains("immutable"));
                chattr("-i").unwrap();
            }
        };
        std::thread::spawn(look).join().unwrap();
    }
}
