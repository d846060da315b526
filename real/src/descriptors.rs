//! File descriptors: how many this process may have, and how many of them strangers may use up.
//!
//! Each TCP connection takes a descriptor. A daemon also needs some for itself: the lists of revoked certificates, the
//! database and the log are opened while it runs. So the connections of strangers get half of all at most.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How many are counted on where the system sets no limit.
const UNLIMITED: u64 = 1 << 20;

/// Raises the limit of this process to the most that it may have. Shells set 1,024 for programs that use select(2),
/// which this one does not.
pub fn raise() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => tracing::debug!(?current, ?maximum, "the limit of file descriptors was raised"),
        Err(error) => tracing::warn!(%error, ?current, "the limit of file descriptors cannot be raised"),
    }
}

/// How many connections strangers may have at one time at one kind of port, of which there are two at most: no more
/// than `most`, and a quarter of all descriptors.
pub fn share(most: usize) -> usize {
    let all = getrlimit(Resource::Nofile).current.unwrap_or(UNLIMITED);
    usize::try_from(all / 4).unwrap_or(most).clamp(1, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_leave_three_quarters_of_the_descriptors() {
        raise();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
        let all = usize::try_from(current.unwrap_or(UNLIMITED)).unwrap();
        assert_eq!(share(usize::MAX), all / 4);
        assert_eq!((share(1), share(all / 4)), (1, all / 4));
    }
}
