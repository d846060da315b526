//! A session of two ends that share a key: it seals and opens messages.

use std::ops::Range;

use super::cipher::Cipher;
use super::keys::{Direction, Sealing};
use super::replay::{ReplayWindow, Sequence};
use super::seal::{OVERHEAD, is_from, open_any, open_from_in, seal, seal_into};
use crate::event::DropReason;
use crate::header::{Flags, Header, Kind};
use crate::key::Key128;
use crate::message::{ErrorCode, Message};
use crate::version::{Spoken, Versions};

/// One end of a session. It numbers the messages that it sends, and accepts each number from the other end once.
#[derive(Debug)]
pub struct Session {
    sealing: Sealing,
    ours: Direction,
    sequence: Sequence,
    window: ReplayWindow,
    versions: Versions,
    /// The versions in the last message of the other end.
    theirs: Option<Spoken>,
}

impl Session {
    /// A fresh session; `ours` is the direction in which we send.
    pub fn new(key: &Key128, ours: Direction) -> Self {
        Self::with(Sealing::new(key), ours)
    }

    /// A fresh session under the end key of a tunnel.
    pub fn of_tunnel(end_key: &Key128, ours: Direction, cipher: Cipher) -> Self {
        Self::with(Sealing::of_tunnel(end_key, cipher), ours)
    }

    /// A fresh session for one registration under a common key: see [`Sealing::of_registration`].
    pub fn of_registration(common: &Key128, epoch: u64, ours: Direction) -> Self {
        Self::with(Sealing::of_registration(common, epoch), ours)
    }

    fn with(sealing: Sealing, ours: Direction) -> Self {
        let (sequence, window) = (Sequence::default(), ReplayWindow::default());
        Self { sealing, ours, sequence, window, versions: Versions::OURS, theirs: None }
    }

    /// A session of an end that speaks these versions.
    #[must_use]
    pub fn speaking(mut self, versions: Versions) -> Self {
        self.versions = versions;
        self
    }

    /// The version in which we write to the other end.
    pub fn version(&self) -> u8 {
        self.versions.towards(self.theirs).version
    }

    /// Continues from this sequence number, because another process has used the same key before.
    pub fn count_from(&mut self, first: u32) {
        self.sequence = Sequence::from(first);
    }

    /// Goes on from this sequence number, unless a later one is due.
    pub fn count_on_from(&mut self, sequence: u32) {
        self.sequence.at_least(sequence);
    }

    /// As [`Self::open_message`], but without the replay check, for a receiver with another protection against replay
    /// and a sender that may have lost its sequence numbers in a crash.
    pub fn open_unnumbered(&mut self, datagram: &mut [u8]) -> Result<(Header, Message), DropReason> {
        let (header, range) = open_from_in(&self.sealing, self.versions, self.ours.other(), datagram)?;
        let message = Message::decode_body(header.kind, &datagram[range]).map_err(|_| DropReason::BadBody)?;
        self.theirs = Some(header.spoken);
        Ok((header, message))
    }

    /// Whether the other end sealed this datagram. Its bytes are undefined afterwards.
    pub fn would_open(&self, datagram: &mut [u8]) -> bool {
        open_from_in(&self.sealing, self.versions, self.ours.other(), datagram).is_ok()
    }

    /// Whether no later message than `sequence` was opened. Only the latest message shows the other end's present
    /// address.
    pub fn is_latest(&self, sequence: u32) -> bool {
        self.window.is_latest(sequence)
    }

    /// Counts `sequence` of the other end as seen: that message was opened before this session was made.
    #[must_use]
    pub fn having_seen(mut self, sequence: u32) -> Self {
        self.window.set(sequence);
        self
    }

    /// A sealed message. `None` once every sequence number was used.
    pub fn seal(&mut self, transaction: u32, count: u8, id: [u8; 16], message: &Message) -> Option<Vec<u8>> {
        self.seal_flagged(transaction, Flags(0), count, id, message)
    }

    /// As [`Self::seal`], with further flags.
    pub fn seal_flagged(
        &mut self,
        transaction: u32,
        flags: Flags,
        count: u8,
        id: [u8; 16],
        message: &Message,
    ) -> Option<Vec<u8>> {
        let mut header = self.header(transaction, count, id, message.kind())?;
        header.flags.0 |= flags.0;
        Some(seal(&self.sealing, header, &message.encode_body()))
    }

    /// A sealed capsule, appended to `out`. False once every sequence number was used.
    pub fn seal_capsule(&mut self, id: [u8; 16], packet: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(header) = self.header(0, 0, id, Kind::Capsule) else { return false };
        seal_into(&self.sealing, header, packet, out);
        true
    }

    fn header(&mut self, transaction: u32, count: u8, id: [u8; 16], kind: Kind) -> Option<Header> {
        let sequence = self.sequence.next()?;
        let (spoken, flags) = (self.versions.towards(self.theirs), self.ours.flags());
        Some(Header { transaction, spoken, flags, kind, count, sequence, length: 0, option: 0, id })
    }

    /// Verifies and decrypts in place a message of the other end: right key, right direction, never seen before.
    pub fn open(&mut self, datagram: &mut [u8]) -> Result<(Header, Range<usize>), DropReason> {
        let (header, range) = open_from_in(&self.sealing, self.versions, self.ours.other(), datagram)?;
        if !self.window.check_and_set(header.sequence) {
            return Err(DropReason::Replayed);
        }
        self.theirs = Some(header.spoken);
        Ok((header, range))
    }

    /// The answer to a message of an unknown type (it did not open because of [`DropReason::UnknownType`]): an Error
    /// that names the type. `None` if the message is not authentic or was answered before, or if the answer would be
    /// longer than the message. The datagram's bytes are undefined afterwards.
    pub fn refuse_unknown(&mut self, datagram: &mut [u8]) -> Option<(Message, Vec<u8>)> {
        let len = datagram.len();
        is_from(self.ours.other(), datagram).ok()?;
        let (header, _) = open_any(&self.sealing, self.versions, datagram).ok()?;
        let unknown = header.known().is_err();
        if !unknown || !self.window.check_and_set(header.sequence) {
            return None;
        }
        let answer = Message::Error(ErrorCode::UnknownType(header.kind));
        if OVERHEAD + answer.body_len() > len {
            return None;
        }
        let sealed = self.seal(header.transaction, 0, header.id, &answer)?;
        Some((answer, sealed))
    }

    /// As [`Self::open`], and decodes the message.
    pub fn open_message(&mut self, datagram: &mut [u8]) -> Result<(Header, Message), DropReason> {
        let (header, range) = self.open(datagram)?;
        let message = Message::decode_body(header.kind, &datagram[range]).map_err(|_| DropReason::BadBody)?;
        Ok((header, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restarted_sender_is_heard_where_numbers_do_not_count_and_in_a_registration_of_its_own() {
        let key = Key128([9; 16]);
        let mut receiver = Session::new(&key, Direction::FromResponder);
        let mut before = Session::new(&key, Direction::FromInitiator);
        let mut first = before.seal(7, 0, [1; 16], &Message::KeepAlive).unwrap();
        receiver.open_message(&mut first).unwrap();
        let again = Session::new(&key, Direction::FromInitiator).seal(8, 0, [1; 16], &Message::KeepAlive).unwrap();
        assert_eq!(receiver.open_message(&mut again.clone()), Err(DropReason::Replayed));
        assert!(receiver.open_unnumbered(&mut again.clone()).is_ok());
        let mut on = Session::new(&key, Direction::FromInitiator);
        on.count_from(1);
        assert!(receiver.open_message(&mut on.seal(9, 0, [1; 16], &Message::KeepAlive).unwrap()).is_ok());

        let registration = |epoch, ours| Session::of_registration(&key, epoch, ours);
        let mut node = registration(5, Direction::FromInitiator);
        let answer = registration(5, Direction::FromResponder).seal(1, 0, [1; 16], &Message::KeepAliveAck).unwrap();
        assert!(node.open_message(&mut answer.clone()).is_ok());
        let other = registration(6, Direction::FromResponder).seal(1, 0, [1; 16], &Message::KeepAliveAck).unwrap();
        assert_eq!(node.open_message(&mut other.clone()), Err(DropReason::BadHmac));
    }

    #[test]
    fn a_message_is_accepted_once_and_never_by_its_own_sender() {
        let key = Key128([9; 16]);
        let mut a = Session::new(&key, Direction::FromInitiator);
        let mut b = Session::new(&key, Direction::FromResponder);
        let datagram = a.seal(7, 0, [1; 16], &Message::KeepAlive).unwrap();
        let (header, message) = b.open_message(&mut datagram.clone()).unwrap();
        assert_eq!((header.transaction, message), (7, Message::KeepAlive));
        assert_eq!(b.open_message(&mut datagram.clone()), Err(DropReason::Replayed));
        assert_eq!(a.open_message(&mut datagram.clone()), Err(DropReason::Unexpected));
    }

    #[test]
    fn what_a_later_version_says_is_answered_by_its_name_and_never_at_greater_length() {
        let key = Key128([9; 16]);
        let mut a = Session::new(&key, Direction::FromInitiator);
        let mut b = Session::new(&key, Direction::FromResponder);
        let mut later = |body: &[u8]| {
            let header = Header { kind: 200, ..a.header(7, 0, [1; 16], Kind::KeepAlive).unwrap().raw() };
            let mut datagram = Vec::new();
            crate::conventional::seal::seal_any(&a.sealing, header, body, &mut datagram);
            datagram
        };
        let (long, short) = (later(&[1, 2]), later(&[1]));
        assert_eq!(b.open_message(&mut long.clone()), Err(DropReason::UnknownType));
        let (message, answer) = b.refuse_unknown(&mut long.clone()).unwrap();
        assert_eq!(message, Message::Error(ErrorCode::UnknownType(200)));
        assert!(answer.len() <= long.len());
        assert_eq!(b.refuse_unknown(&mut long.clone()), None, "a repetition is not answered");
        assert_eq!(b.refuse_unknown(&mut short.clone()), None, "nothing is answered by more");
        let mut forged = long;
        forged[49] ^= 1;
        assert_eq!(b.refuse_unknown(&mut forged), None);
        let (header, message) = a.open_message(&mut answer.clone()).unwrap();
        assert_eq!((header.transaction, message), (7, Message::Error(ErrorCode::UnknownType(200))));
    }

    #[test]
    fn two_ends_go_on_in_the_newest_version_that_both_speak() {
        let key = Key128([9; 16]);
        let (old, new) = (Versions { oldest: 2, newest: 3 }, Versions { oldest: 2, newest: 4 });
        let mut a = Session::new(&key, Direction::FromInitiator).speaking(old);
        let mut b = Session::new(&key, Direction::FromResponder).speaking(new);
        let first = a.seal(1, 0, [1; 16], &Message::KeepAlive).unwrap();
        let (header, _) = b.open_message(&mut first.clone()).unwrap();
        let answer = b.seal(1, 0, [1; 16], &Message::KeepAliveAck).unwrap();
        let (after, _) = a.open_message(&mut answer.clone()).unwrap();
        assert_eq!((header.spoken.version, after.spoken.version, a.version(), b.version()), (2, 3, 3, 3));
        let mut c = Session::new(&key, Direction::FromResponder).speaking(Versions { oldest: 4, newest: 4 });
        let second = a.seal(2, 0, [1; 16], &Message::KeepAlive).unwrap();
        assert_eq!(c.open_message(&mut second.clone()), Err(DropReason::UnknownVersion));
    }
}
