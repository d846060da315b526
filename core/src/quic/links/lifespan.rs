//! How long the peer of a link counts: until its certificate ends, or is not trusted any more.
//!
//! A link ends with the peer's chain ([`tls::ends`]), by our own clock. A peer that gets its next certificate in time,
//! for the same key, sends it on the link as a *Certificate Renewed*. The handshake has proved that the peer holds that
//! key, so the chain is judged as in a handshake, and no other proof is needed: the link stands, and no packet is lost.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::pki_types::CertificateDer;

use super::{Link, LinkClosed, LinkId, LinkOutput, Links};
use crate::event::DropReason;
use crate::header::{Flags, Kind};
use crate::message::{CertificateRenewed, Der, MAX_BODY, Message};
use crate::name::Virtual;
use crate::quic::config::QuicConfig;
use crate::time::Instant;
use crate::timing::quic::{CERTIFICATE_LOOK, CERTIFICATE_WAIT, RENEWAL_EVERY};
use crate::tls::{self, Identity, Judge, Roots, TlsError};

/// The peer's certificates, and what it said of them.
#[derive(Default)]
pub(super) struct Lifespan {
    /// When they end, since 1970; `None` until the handshake is finished.
    ends: Option<Duration>,
    /// Those of the last renewal; `None`: those of the handshake.
    renewed: Option<Vec<CertificateDer<'static>>>,
    /// The body of the last *Certificate Renewed* that was not looked at.
    pub(super) offered: Option<Bytes>,
    /// When one was looked at last.
    looked: Option<Instant>,
}

impl Link {
    /// The handshake is finished.
    pub(super) fn begins(&mut self) {
        self.lifespan.ends = tls::ends(&self.peer_chain());
    }

    /// Whether the peer's certificate has ended, at `time` since 1970.
    pub(super) fn has_lapsed(&self, time: Duration) -> bool {
        let ended = self.lifespan.ends.is_some_and(|ends| ends <= time);
        ended && !self.closed && !defect!(LapsedLinkKept)
    }

    /// Whether packets of this link go to applications, at `time` since 1970.
    pub(super) fn delivers(&self, time: Duration) -> bool {
        self.connected && !self.closed && !self.has_lapsed(time)
    }

    /// When to look whether the certificate has ended: `time` is `now`, since 1970.
    pub(super) fn lapses_at(&self, now: Instant, time: Duration) -> Option<Instant> {
        let ends = self.lifespan.ends.filter(|_| !self.closed)?;
        let left = ends.checked_sub(time).filter(|left| !left.is_zero());
        Some(now + left.map_or(CERTIFICATE_LOOK, |left| left.clamp(CERTIFICATE_WAIT, CERTIFICATE_LOOK)))
    }

    /// The certificates of the peer, its own first.
    pub(super) fn peer_chain(&self) -> Vec<CertificateDer<'static>> {
        if let Some(renewed) = &self.lifespan.renewed {
            return renewed.clone();
        }
        let identity = self.connection.crypto_session().peer_identity();
        identity.and_then(|shown| shown.downcast().ok()).map(|chain| *chain).unwrap_or_default()
    }

    /// Takes a certificate in place of the peer's present one, if it is for the same names, addresses and key, ends
    /// later, and is good.
    pub(super) fn take_renewal(&mut self, now: Instant, body: &[u8], judge: &Judge) -> Result<(), DropReason> {
        let Ok(Message::CertificateRenewed(new)) = Message::decode_body(Kind::CertificateRenewed, body) else {
            return Err(DropReason::BadBody);
        };
        let old = self.peer_chain();
        let chain: Vec<_> = [new.certificate].into_iter().chain(new.issuers).map(|der| der.0.into()).collect();
        let chain =
            if chain.len() > 1 { chain } else { chain.into_iter().chain(old.iter().skip(1).cloned()).collect() };
        let Some(old) = old.first().filter(|_| self.connected && !self.closed) else { return Ok(()) };
        if chain[0] == *old {
            return Ok(());
        }
        let keeps_addresses = tls::addresses(old).is_none_or(|shown| tls::addresses(&chain[0]) == Some(shown));
        if tls::names(&chain[0]) != tls::names(old) || !tls::share_key(&chain[0], old) || !keeps_addresses {
            return Err(DropReason::WrongIdentity);
        }
        let ends = tls::ends(&chain);
        let soon = self.lifespan.looked.is_some_and(|last| now < last + RENEWAL_EVERY);
        if ends <= self.lifespan.ends || soon {
            return Err(DropReason::Unexpected);
        }
        // The signatures come last: they cost the most.
        self.lifespan.looked = Some(now);
        judge.check(&chain).map_err(|_| DropReason::WrongIdentity)?;
        (self.lifespan.ends, self.lifespan.renewed) = (ends, Some(chain));
        Ok(())
    }
}

impl Links {
    /// The virtual addresses in the certificate of a link's peer; `None` if it has none, or without such a link.
    pub fn peer_addresses(&self, id: LinkId) -> Option<Virtual> {
        tls::addresses(self.links.get(&id)?.peer_chain().first()?)
    }

    /// Trusts these from now on. Links whose peer they do not vouch for any more are closed, and so are those whose
    /// handshake is under way under the old ones; [`LinkOutput::Closed`] follows for each.
    pub fn trust(&mut self, now: Instant, roots: Roots) -> Result<(), TlsError> {
        let config = QuicConfig { roots, ..self.config.clone() };
        let judge = config.roots.judge(&config.tls)?;
        self.apply(&config)?;
        // The chains were good under the same CAs, and each link watches their ends. So if only the lists
        // have changed, a look-up is enough.
        let is_lookup = config.roots.trusts_the_same(&self.config.roots);
        (self.config, self.judge) = (config, judge);
        let judged = |chain: &[CertificateDer<'_>]| {
            if is_lookup { self.judge.look_up(chain) } else { self.judge.check(chain) }
        };
        let good = |link: &Link| link.connected && judged(&link.peer_chain()).is_ok();
        let open = self.links.iter().filter(|(_, link)| !link.closed);
        let bad: Vec<LinkId> = open.filter(|(_, link)| !good(link)).map(|(&id, _)| id).collect();
        for id in bad {
            self.close(now, id);
            self.out.push_back(LinkOutput::Closed(id, LinkClosed::Authentication));
        }
        Ok(())
    }

    /// Is another certificate of ours from now on. If it is for the same name and key, the peers of all links are sent
    /// it. If not, these links stand until the certificate before ends.
    pub fn renew(&mut self, now: Instant, identity: Identity) -> Result<(), TlsError> {
        let is_same = identity.renews(&self.config.identity);
        let config = QuicConfig { identity, ..self.config.clone() };
        self.apply(&config)?;
        self.config = config;
        let Some(frame) = frame(&self.config.identity.chain).filter(|_| is_same && !defect!(RenewalUntold)) else {
            return Ok(());
        };
        // A part that was not heard may be one that closes the link on a message that it does not know.
        let open = self.links.iter().filter(|(_, link)| link.connected && !link.closed && link.theirs.is_some());
        let open: Vec<LinkId> = open.map(|(&id, _)| id).collect();
        for id in open {
            self.send_frame(now, id, frame.clone());
        }
        Ok(())
    }

    /// Later handshakes are by this configuration.
    fn apply(&mut self, config: &QuicConfig) -> Result<(), TlsError> {
        let server = self.tokens.map(|key| config.server(&key)).transpose()?.map(Arc::new);
        self.client = config.client()?;
        self.endpoint.set_server_config(server.clone());
        (self.server, self.unprobed) = (server, None);
        Ok(())
    }
}

/// A *Certificate Renewed* with this chain; without the authorities, if it would be too long with them.
fn frame(chain: &[CertificateDer<'static>]) -> Option<Bytes> {
    let der = |certificate: &CertificateDer<'_>| Der(certificate.to_vec());
    let (own, issuers) = chain.split_first()?;
    [issuers, &[]].into_iter().find_map(|issuers| {
        let long = chain.iter().take(issuers.len() + 1).map(|one| one.len() + 2).sum::<usize>() + 1 > MAX_BODY;
        let renewed = CertificateRenewed { certificate: der(own), issuers: issuers.iter().map(der).collect() };
        (!long).then(|| Message::CertificateRenewed(renewed).to_bytes(0, Flags(0), 0, 0, [0; 16]).into())
    })
}
