//! File descriptors: how many this process may have, and how many of them strangers may use.
//!
//! Each TCP connection takes a descriptor. A daemon also opens files while it runs: the lists of revoked certificates,
//! the database and the log. So connections of strangers get at most half of all descriptors.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The number that is assumed if the system sets no limit.
const UNLIMITED: u64 = 1 << 20;

/// Raises the limit of this process to its maximum. Shells set 1,024 for programs that use select(2), which this
/// program does not.
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

/// Most connections of strangers at one time at one kind of port. There are at most two kinds, so each gets a quarter
/// of all descriptors, and at most `most`.
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
