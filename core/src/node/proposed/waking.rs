//! A machine that stood still: what is left of sessions and tunnels is asked at once, or forgotten.

use super::Proposed;
use super::end::End;
use crate::quic::{CidScheme, LinkId, Links};
use crate::time::Instant;
use crate::timers::Timers;

impl Proposed {
    /// Asks the NMS, and each peer, for a sign.
    pub(super) fn check_links(&mut self, now: Instant) {
        let links: Vec<LinkId> = self.owners.keys().copied().collect();
        for link in links {
            self.of_mut(link).ping(now, link);
        }
        // The answer to a question from before may have come while nobody listened.
        self.asked_nms = None;
        let ends: Vec<End> = self.pathed.keys().copied().collect();
        for end in ends {
            self.tell_network(now, end);
        }
        if self.nms.is_some() {
            self.note_asked(now);
        }
        self.drain_links(now);
    }

    /// Asks the NMS for a sign.
    pub(super) fn ping_nms(&mut self, now: Instant) {
        if let Some(nms) = self.nms {
            self.links.ping(now, nms);
            self.drain_links(now);
        }
    }

    /// Forgets every link and tunnel, without a word to anyone.
    pub(super) fn forget_all(&mut self) {
        self.owners.clear();
        self.standby.forget();
        self.overtaken.forget();
        self.inbound.clear();
        self.inbound_timers = Timers::default();
        self.nms = None;
        self.forget_nms_links();
        self.tunnels.clear();
        self.expected.end_all();
        self.by_leg.clear();
        self.blind_touched.clear();
        self.expected.search_all();
        self.searches = Timers::default();
        self.timers = Timers::default();
        let ends: Vec<End> = self.pathed.keys().copied().collect();
        for end in ends {
            self.forget_end(end);
        }
        self.closing.clear();
        self.path_timers = Timers::default();
        let alone = self.shared.is_none();
        self.links = Links::new(self.quic.clone(), CidScheme::Direct, alone, &mut self.rng)
            .expect("the same configuration worked before")
            .tell_bare();
        if let Some(shared) = &mut self.shared {
            let anew = Links::new(self.quic.clone(), CidScheme::Marked, true, &mut self.rng);
            *shared = anew.expect("the same configuration worked before").on_paths();
        }
    }
}
