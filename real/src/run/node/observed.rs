//! What is observed of a node: its events, its traffic, and captures of both.
//!
//! * In: passing packets ([`Observed::sees`]), events ([`Observed::event`]), a request to capture
//!   ([`Observed::capture`]).
//! * Out: log lines, numbers, captures.

use std::collections::BTreeMap;
use std::sync::Arc;

use cyphonic_core::event::Event;

use super::super::capture::Capture;
use super::super::metrics::{Page, Traffic};
use super::super::report::Report;
use super::super::secrets::Kept;
use crate::control::{Answer, Reply};
use crate::drive::Passing;
use crate::error::Code;

/// Most captures under way.
const CAPTURES: usize = 4;

pub(super) struct Observed {
    report: Report,
    traffic: Traffic,
    /// Secrets of TLS sessions, if captures are allowed.
    secrets: Option<Arc<Kept>>,
    captures: Vec<Capture>,
    /// The title of captures, and the name of the virtual interface in them.
    title: (String, String),
}

impl Observed {
    pub(super) fn new(report: Report, secrets: Option<Arc<Kept>>, title: String, tun: String) -> Self {
        Self { report, traffic: Traffic::default(), secrets, captures: Vec::new(), title: (title, tun) }
    }

    pub(super) fn sees(&mut self, passing: &Passing<'_>) {
        self.traffic.count(passing);
        for capture in &mut self.captures {
            capture.take(passing);
        }
    }

    pub(super) fn event(&mut self, event: &Event) {
        self.report.event(event);
    }

    /// Sends what the captures hold. A capture ends when its reader has closed.
    pub(super) fn flush(&mut self) {
        self.captures.retain_mut(Capture::flush);
    }

    /// The drops by reason.
    pub(super) fn drops(&self) -> BTreeMap<String, u64> {
        self.report.drops().into_iter().map(|(reason, count)| (reason.to_owned(), count)).collect()
    }

    pub(super) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Writes the counts of events to a page of numbers.
    pub(super) fn on(&self, page: &mut Page) {
        self.report.on(page);
    }

    /// Begins a capture, if captures are allowed. Otherwise the reply is an error, without a second part.
    pub(super) fn capture(&mut self) -> Reply {
        let refuse = |code, what: &str, remedy: &str| {
            Answer::Error { code, what: what.to_owned(), remedy: remedy.to_owned() }.into()
        };
        let Some(secrets) = &self.secrets else {
            let remedy = "set `allow-capture = true` and start it again";
            return refuse(Code::Config, "this node allows no captures", remedy);
        };
        if self.captures.len() >= CAPTURES {
            return refuse(Code::Other, "too many captures are under way", "end one of them");
        }
        tracing::warn!("A CAPTURE BEGINS: a client of the control socket sees all traffic of this node unencrypted");
        let (title, tun) = &self.title;
        let (capture, pieces) = Capture::begin(title, tun, secrets.clone());
        self.captures.push(capture);
        Reply { answer: Answer::Capturing, then: Some(pieces) }
    }
}
