//! The links to AS and NMS: attempts that stay open beside each other, and an NMS that falls silent.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Owner, Proposed};
use crate::event::Failure;
use crate::message::LoginResponse;
use crate::node::carriage::CarriageOutput;
use crate::node::places::Places;
use crate::quic::{LinkId, Load};
use crate::time::Instant;
use crate::timing::node::{NMS_SILENCE, NMS_SILENCE_ROUND_TRIPS};
use crate::timing::quic::SIGNALING_KEEP_ALIVE;

/// Most links that are being opened to one service.
const MAX_OPENING: usize = 4;

/// The links to the NMS.
#[derive(Default)]
pub(super) struct NmsLinks {
    /// Links whose handshake is under way, and since when.
    opening: Vec<(LinkId, Instant)>,
    /// The link in whose place the one in use came. It is closed when the NMS has registered the node on that one: the
    /// NMS forgets a node whose link is closed, and refuses what it was asked for the node meanwhile.
    before: Option<LinkId>,
    /// Where the NMS is, by the last login.
    at: Vec<SocketAddr>,
    /// When the last message was sent on the link in use.
    asked: Option<Instant>,
    /// When to look whether the NMS still answers; only if there is another path to it.
    pub(super) watch: Option<Instant>,
}

impl Proposed {
    pub(super) fn start_login(&mut self, now: Instant, attempt: usize) {
        let open: Vec<_> = self.as_links();
        for &link in open.iter().take((open.len() + 1).saturating_sub(MAX_OPENING)) {
            self.close(now, link);
        }
        let remotes = Places::in_turn(&self.services.as_addresses, attempt);
        let name = self.services.as_name.clone();
        match self.open(now, &remotes, &name, Load::Signaling) {
            Ok(link) => {
                let transaction = self.random();
                self.owners.insert(link, Owner::As { transaction });
            }
            Err(reason) => self.out.push_back(CarriageOutput::LoginFailed(reason)),
        }
        self.drain_links(now);
    }

    fn as_links(&self) -> Vec<LinkId> {
        self.owners.iter().filter(|(_, o)| matches!(o, Owner::As { .. })).map(|(&link, _)| link).collect()
    }

    /// A login succeeded or was refused, or is not needed any more: no other attempt is.
    pub(super) fn end_logins(&mut self, now: Instant) {
        for link in self.as_links() {
            self.close(now, link);
        }
    }

    /// A link to the AS is gone. While others are open, that says nothing yet.
    pub(super) fn on_as_closed(&mut self, reason: Failure) {
        if self.as_links().is_empty() || !is_silence(&reason) {
            self.out.push_back(CarriageOutput::LoginFailed(reason));
        }
    }

    pub(super) fn start_nms(&mut self, now: Instant, login: &LoginResponse) {
        self.nms_links.at.clone_from(&login.nms);
        let Some(place) = self.places.first(&login.nms) else {
            return self.out.push_back(CarriageOutput::NmsLost(Failure::NoAddress));
        };
        self.open_nms_at(now, place);
        self.drain_links(now);
    }

    fn open_nms_at(&mut self, now: Instant, place: (SocketAddr, SocketAddr)) {
        if self.nms_links.opening.len() >= MAX_OPENING {
            let (oldest, _) = self.nms_links.opening.remove(0);
            self.close(now, oldest);
        }
        let name = self.services.nms_name.clone();
        let places = if self.shared.is_some() { self.nms_links.at.clone() } else { Vec::new() };
        match self.links.connect_service(now, place, &places, &name, Load::Signaling) {
            Some(link) => {
                self.nms_links.opening.push((link, now));
                self.owners.insert(link, Owner::Nms);
            }
            None => self.out.push_back(CarriageOutput::NmsLost(Failure::Protocol)),
        }
    }

    /// A link to the NMS stands. It takes the place of the one that there was, unless that one speaks again.
    pub(super) fn on_nms_connected(&mut self, now: Instant, link: LinkId) {
        let began = self.nms_links.opening.iter().find(|(other, _)| *other == link).map(|(_, began)| *began);
        let old = self.nms;
        let speaks = |nms: LinkId| self.links.heard_at(nms).zip(began).is_some_and(|(heard, began)| heard > began);
        if self.nms_links.watch.is_some() && old.is_some_and(speaks) {
            return self.end_opening(now);
        }
        self.nms_links.opening.retain(|(other, _)| *other != link);
        self.end_opening(now);
        (self.nms_links.asked, self.nms_links.watch) = (None, None);
        self.nms = Some(link);
        if let Some(before) = std::mem::replace(&mut self.nms_links.before, old) {
            self.close(now, before);
        }
        self.keep_way(link);
        self.out.push_back(CarriageOutput::NmsReady);
    }

    /// A service answers on this link: its way is the one that services are reached by first.
    pub(super) fn keep_way(&mut self, link: LinkId) {
        if let Some((local, remote)) = self.links.local(link).zip(self.links.remote(link)) {
            self.places.keep(local, remote);
        }
    }

    fn end_opening(&mut self, now: Instant) {
        for (link, _) in std::mem::take(&mut self.nms_links.opening) {
            self.close(now, link);
        }
    }

    pub(super) fn on_nms_closed(&mut self, link: LinkId, reason: Failure) {
        self.nms_links.opening.retain(|(other, _)| *other != link);
        if self.nms_links.before.take_if(|before| *before == link).is_some() {
            return;
        }
        if self.nms == Some(link) {
            (self.nms, self.nms_links.watch) = (None, None);
        } else if reason == Failure::Displaced {
            // The node itself has registered on another link.
            return;
        }
        // While another link stands, or is being opened, nothing is lost.
        let is_lost = self.nms.is_none() && self.nms_links.opening.is_empty();
        if is_lost || !is_silence(&reason) {
            self.out.push_back(CarriageOutput::NmsLost(reason));
        }
    }

    /// The NMS has registered the node on the link in use.
    pub(super) fn on_registered(&mut self, now: Instant) {
        self.end_logins(now);
        self.end_opening(now);
        if let Some(before) = self.nms_links.before.take() {
            self.close(now, before);
        }
        // Attempts by other paths were begun meanwhile.
        if let Some(nms) = self.nms {
            self.keep_way(nms);
        }
        let has_other = self.places.other(&self.nms_links.at).is_some();
        self.nms_links.watch = self.nms_silent_at().filter(|_| has_other);
        self.drain_links(now);
    }

    /// A message goes to the NMS, which acknowledges it.
    pub(super) fn note_asked(&mut self, now: Instant) {
        self.nms_links.asked = Some(now);
        if let (Some(watch), Some(silent)) = (self.nms_links.watch, self.nms_silent_at()) {
            self.nms_links.watch = Some(watch.min(silent));
        }
    }

    /// When the NMS counts as silent, if nothing is heard of it. A link on which nothing happens carries a Keep Alive
    /// from time to time.
    fn nms_silent_at(&self) -> Option<Instant> {
        let nms = self.nms?;
        let heard = self.links.heard_at(nms)?;
        let asked = self.nms_links.asked.filter(|asked| *asked > heard);
        let keep_alive = heard + SIGNALING_KEEP_ALIVE;
        Some(asked.unwrap_or(keep_alive).min(keep_alive) + self.nms_patience(nms))
    }

    /// How long the NMS may take to acknowledge.
    pub(super) fn nms_patience(&self, nms: LinkId) -> Duration {
        let rtt = self.links.rtt(nms).unwrap_or_default();
        NMS_SILENCE.max(u32::from(NMS_SILENCE_ROUND_TRIPS) * rtt)
    }

    /// Looks whether the NMS still answers. If not, a link by another path is opened beside.
    pub(super) fn watch_nms(&mut self, now: Instant) {
        if self.nms_links.watch.is_none_or(|at| at > now) {
            return;
        }
        let (Some(nms), Some(silent_at)) = (self.nms, self.nms_silent_at()) else {
            self.nms_links.watch = None;
            return;
        };
        if silent_at > now {
            self.nms_links.watch = Some(silent_at);
            return self.end_opening(now);
        }
        self.nms_links.watch = Some(now + self.nms_patience(nms));
        let (first, other) = (self.places.first(&self.nms_links.at), self.places.other(&self.nms_links.at));
        let differs =
            |place: &(SocketAddr, SocketAddr)| self.links.local(nms).zip(self.links.remote(nms)) != Some(*place);
        if let Some(place) = first.filter(differs).or(other).filter(|_| self.nms_links.opening.is_empty()) {
            self.open_nms_at(now, place);
        }
    }

    /// All links to the NMS are gone, without a word.
    pub(super) fn forget_nms_links(&mut self) {
        self.nms_links = NmsLinks { at: std::mem::take(&mut self.nms_links.at), ..NmsLinks::default() };
    }
}

/// Whether a link that ended so says only that nobody answers there.
fn is_silence(reason: &Failure) -> bool {
    matches!(reason, Failure::Timeout | Failure::ConnectionLost)
}
