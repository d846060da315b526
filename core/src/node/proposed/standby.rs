//! A standing leg to the TRS (`signaling = "fast"`): a node that the NMS sees behind a NAT opens it once it is
//! registered, and tells the NMS. The next relayed tunnel begins on this leg, so it waits for no handshake with the
//! TRS. Then the node opens another standing leg.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::tunnel::Opening;
use super::{Owner, Proposed};
use crate::event::DropReason;
use crate::header::Header;
use crate::message::{Message, RelayLeg, TunnelRequest};
use crate::name::RelayCid;
use crate::node::carriage::Carriage;
use crate::node::part::TunnelId;
use crate::quic::{LinkId, Load};
use crate::time::Instant;
use crate::timing::node::LEG_AGAIN;
use crate::timing::{Due, Timer, earliest};

/// Most Tunnel Requests that wait on a standing leg for their Route Directions.
const MAX_EARLY_ON_LEG: usize = 8;

/// The standing leg.
#[derive(Default)]
pub(super) struct Standby {
    /// The addresses of the TRS. Empty if the NMS offers none.
    at: Vec<SocketAddr>,
    leg: Option<Opening>,
    is_up: bool,
    /// The identifier of the leg, once it is up.
    cid: Option<RelayCid>,
    /// When the next standing leg is opened.
    again: Option<Instant>,
    /// Tunnel Requests that came before their Route Directions.
    early: VecDeque<(Header, TunnelRequest)>,
}

/// A standing leg that a tunnel takes, and the Tunnel Requests that came on it.
pub(super) struct Taken {
    /// Our link to the TRS, or the first of those that are being opened.
    leg: LinkId,
    is_up: bool,
    /// Whether the NMS has told the peer of this leg.
    is_told: bool,
    early: VecDeque<(Header, TunnelRequest)>,
}

impl Standby {
    pub(super) fn next_timer(&self) -> Option<Due> {
        let other = self.leg.as_ref().and_then(|leg| leg.other_at);
        earliest([self.again.map(|at| Timer::StandingLeg.at(at)), other.map(|at| Timer::OtherPath.at(at))])
    }

    /// Starts afresh, because all links are gone.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

impl Proposed {
    /// Takes the addresses of the TRS that the NMS offers. Opens a standing leg, or reports the one that is up.
    pub(super) fn take_offer(&mut self, now: Instant, addresses: Vec<SocketAddr>) {
        self.standby.at = addresses;
        match &self.standby.leg {
            Some(_) if self.standby.is_up => self.report_leg(now, self.standby.cid),
            Some(_) => {}
            None => self.open_standby(now),
        }
    }

    /// Tells the NMS which standing leg the node has. `None`: it has none any more.
    fn report_leg(&mut self, now: Instant, leg: Option<RelayCid>) {
        if self.nms.is_some() {
            let transaction = self.random();
            self.send_nms(now, transaction, 0, Message::RelayLeg(RelayLeg { leg }));
        }
    }

    fn open_standby(&mut self, now: Instant) {
        let at = self.standby.at.clone();
        self.standby.again = None;
        if at.is_empty() || self.standby.leg.is_some() {
            return;
        }
        match self.open_leg(now, &at, Load::Signaling, Owner::Standby) {
            Ok(leg) => self.standby.leg = Some(leg),
            Err(_) => self.standby.again = Some(now + LEG_AGAIN),
        }
    }

    /// The handshake with the TRS is finished. The NMS is told of the leg.
    pub(super) fn on_standby_open(&mut self, now: Instant, leg: LinkId) {
        self.standby.is_up = true;
        let others = self.standby.leg.replace(Opening::done(leg)).map_or(Vec::new(), |opening| opening.links);
        for other in others.into_iter().filter(|&other| other != leg) {
            self.close(now, other);
        }
        self.standby.cid = self.links.relay_cid(leg);
        self.report_leg(now, self.standby.cid);
    }

    /// The identifier of the standing leg, if it is up.
    pub(super) const fn standby_cid(&self) -> Option<RelayCid> {
        self.standby.cid
    }

    pub(super) fn on_standby_closed(&mut self, now: Instant, link: LinkId) {
        if let Some(leg) = &mut self.standby.leg {
            leg.links.retain(|&other| other != link);
            if !leg.links.is_empty() {
                return;
            }
        }
        let was_up = std::mem::take(&mut self.standby.is_up);
        self.standby.leg = None;
        self.standby.cid = None;
        self.standby.early.clear();
        self.standby.again = Some(now + LEG_AGAIN);
        if was_up {
            self.report_leg(now, None);
        }
    }

    /// A message on the standing leg: a Tunnel Request waits for the Route Direction that announces it.
    pub(super) fn on_standby_message(&mut self, header: &Header, message: Message) {
        let Message::TunnelRequest(request) = message else { return self.dropped(DropReason::Unexpected) };
        if self.standby.early.len() >= MAX_EARLY_ON_LEG {
            self.standby.early.pop_front();
            self.dropped(DropReason::Limit);
        }
        self.standby.early.push_back((*header, request));
    }

    /// Takes the standing leg for a tunnel, even if it is still being opened. With `which` only that leg is taken, and
    /// only if it is up. After [`LEG_AGAIN`] another standing leg is opened.
    pub(super) fn take_standby(&mut self, now: Instant, which: Option<RelayCid>) -> Option<(Opening, Taken)> {
        let (first, is_up) = (*self.standby.leg.as_ref()?.links.first()?, self.standby.is_up);
        if which.is_some() && (!is_up || self.standby.cid != which) {
            return None;
        }
        let opening = self.standby.leg.take()?;
        self.standby.cid = None;
        self.standby.is_up = false;
        self.standby.again = Some(now + LEG_AGAIN);
        let early = std::mem::take(&mut self.standby.early);
        Some((opening, Taken { leg: first, is_up, is_told: which.is_some(), early }))
    }

    /// A tunnel begins on the leg that it took.
    pub(super) fn begin_on(&mut self, now: Instant, id: TunnelId, Taken { leg, is_up, is_told, early }: Taken) {
        let Some(transaction) = self.tunnels.get(&id).map(|tunnel| tunnel.transaction).filter(|_| is_up) else {
            return;
        };
        if !is_told {
            return self.on_leg_open(now, id, leg);
        }
        self.wait_on_leg(now, id, leg);
        for (header, request) in early {
            if header.transaction == transaction {
                self.on_leg_message(now, id, leg, &header, &Message::TunnelRequest(request));
            } else {
                self.dropped(DropReason::Unexpected);
            }
        }
    }

    pub(super) fn standby_timeout(&mut self, now: Instant) {
        if self.standby.again.is_some_and(|at| at <= now) {
            self.open_standby(now);
        }
        if let Some(mut leg) = self.standby.leg.take() {
            let at = self.standby.at.clone();
            self.try_other_way(now, &mut leg, &at, Load::Signaling, Owner::Standby);
            self.standby.leg = Some(leg);
        }
    }
}
