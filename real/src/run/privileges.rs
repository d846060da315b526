//! The privileges that a daemon keeps once its sockets, interface and files are open. A node keeps `CAP_NET_ADMIN`,
//! because it changes the addresses and routes of its interface. A service keeps none. All others are dropped for good,
//! from the permitted, effective, inheritable, ambient and bounding sets. Because of `no_new_privs`, no program that
//! the daemon starts gets any of them back.
//!
//! Capabilities belong to threads, not to processes. A daemon has three threads when it drops them: the one that drives
//! the role, the runtime's, and the log's, which dropped its own when it began. A thread that these start later
//! inherits their capabilities. Threads that worked on files before end by themselves within moments. The daemon waits
//! until no thread has more capabilities, and verifies it.
//!
//! Root without capabilities is a user like others, and reads and writes its own files. If another user owns a file
//! that is needed later, `CAP_DAC_OVERRIDE` stays, and a warning names the file whose owner should change.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::{self, CapabilitySet, CapabilitySets};

use crate::error::{Code, Failure};

/// The capabilities that a node keeps: for the addresses and routes of its interface.
pub(super) const NODE: CapabilitySet = CapabilitySet::NET_ADMIN;
/// The capabilities that a service keeps.
pub(super) const SERVICE: CapabilitySet = CapabilitySet::empty();

/// The capabilities that open files of other users.
const FILES: CapabilitySet = CapabilitySet::DAC_OVERRIDE.union(CapabilitySet::DAC_READ_SEARCH);

/// How long earlier threads may take to end: see [`super::block_on`].
const PATIENCE: Duration = Duration::from_secs(3);

/// A file or folder that is opened again while the daemon runs.
#[derive(Clone, Debug)]
pub(super) struct Later {
    path: PathBuf,
    access: Access,
}

impl Later {
    /// A file that is only read.
    pub(super) fn read(path: &Path) -> Self {
        Self { path: path.to_owned(), access: Access::READ_OK }
    }

    /// A file that is read and written.
    pub(super) fn write(path: &Path) -> Self {
        Self { path: path.to_owned(), access: Access::READ_OK | Access::WRITE_OK }
    }

    /// The folder of a file, because the daemon makes other files in it.
    pub(super) fn beside(path: &Path) -> Self {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self::folder(folder)
    }

    /// A folder in which files are made.
    pub(super) fn folder(path: &Path) -> Self {
        Self { path: path.to_owned(), access: Access::WRITE_OK | Access::EXEC_OK }
    }

    /// The error with which the file cannot be opened, if it exists. EPERM means an immutable file, which no user may
    /// write.
    fn refusal(&self) -> Option<Errno> {
        let result = accessat(CWD, &self.path, self.access, AtFlags::EACCESS);
        result.err().filter(|error| [Errno::ACCESS, Errno::PERM, Errno::ROFS].contains(error))
    }

    /// The name of a refusal that no privilege overcomes, and its remedy.
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

/// Drops all capabilities but `keep`, in every thread of this process.
pub(super) async fn give_up(keep: CapabilitySet, later: &[Later]) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        let remedy = "check whether seccomp or an old kernel refuses capset or prctl to the daemon";
        Failure::new(Code::Permission, format!("privileges cannot be given up: {error}"), remedy)
    };
    let keep = keep | for_files(later).map_err(|error| failed(&error))?;
    confine(keep).map_err(|error| failed(&error))?;
    // A spawned task runs on the runtime's thread, not on this one.
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

/// Protects keys and passwords in memory. No core is dumped, and no other process of this user reads the memory
/// (`ptrace(2)`, `/proc/PID/mem`).
pub(super) fn keep_memory_private() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let done = setrlimit(Resource::Core, none).and(set_dumpable_behavior(DumpableBehavior::NotDumpable));
    if let Err(error) = done {
        tracing::warn!(%error, "a crash may write keys to the disk: cores cannot be turned off");
    }
}

/// Drops all capabilities of this thread. The daemon's other threads keep theirs.
pub(super) fn give_up_all_of_this_thread() -> rustix::io::Result<()> {
    confine(CapabilitySet::empty())
}

/// The capabilities for files of other users, if there are such files and this process has the capabilities.
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

/// Drops all capabilities of this thread but `keep`. Adds none.
fn confine(keep: CapabilitySet) -> rustix::io::Result<()> {
    thread::set_no_new_privs(true)?;
    for one in (0..u64::BITS).map(|bit| CapabilitySet::from_bits_retain(1 << bit)) {
        match thread::capability_is_in_bounding_set(one) {
            Ok(true) if !keep.contains(one) => match thread::remove_capability_from_bounding_set(one) {
                // Without CAP_SETPCAP the bounding set stays. After no_new_privs it has no effect any more.
                Ok(()) | Err(Errno::PERM) => {}
                Err(error) => return Err(error),
            },
            Ok(_) => {}
            // This kernel knows no further capability.
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

/// Checks that no thread of this process has more than `keep`.
fn verify(keep: CapabilitySet) -> io::Result<()> {
    let tasks = match fs::read_dir("/proc/self/task") {
        // The system has no /proc to look into.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        tasks => tasks?,
    };
    for task in tasks {
        let status = match fs::read_to_string(task?.path().join("status")) {
            Ok(status) => status,
            // The thread has ended.
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
        // A thread of its own, so that the other tests keep their capabilities.
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
        // The capabilities of the tests, or none if root does not run them.
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
            // No user owns an immutable file, and no privilege helps.
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
