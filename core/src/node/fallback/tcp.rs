//! The TCP connections of the fallback to services.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;

use super::{FIRST_STREAM, Fallback, FallbackOutput, Udp, Unanswered};
use crate::event::{DropReason, Event};
use crate::machine::{StreamId, StreamInput, StreamOutput};
use crate::name::Fqdn;
use crate::proxied::conduit::{Conduit, Plan};
use crate::proxied::http::{self, ALPN};
use crate::quic::QuicConfig;
use crate::time::Instant;
use crate::timing::proxied::TCP_PAUSE;
use crate::tls::client_config_of;
use crate::trouble::{NoTcp, Trouble};

impl Fallback {
    /// Opens a TCP connection to a service, if there is none.
    pub(super) fn open(&mut self, now: Instant, remote: SocketAddr) {
        let Some(service) = self.services.get(&remote) else { return };
        if service.conduit.is_some() || service.pause > now {
            return;
        }
        let (name, target) = (service.name.clone(), service.target);
        let Some(to) = service.tcp else { return };
        let Some(tls) = self.tls(&name) else { return };
        let proxy = self.config.proxy.as_ref().filter(|_| service.is_proxied);
        let plan = Plan {
            tls,
            outer: self.config.outer.clone().unwrap_or_else(|| name.clone()),
            service: name,
            port: remote.port(),
            has_credentials: proxy.is_some_and(|proxy| proxy.credentials.is_some()),
            connect: proxy.map(|proxy| {
                let credentials = proxy.credentials.as_ref().map(|credentials| http::basic(credentials));
                http::connect_request(&target.to_string(), credentials.as_deref())
            }),
        };
        let id = StreamId(self.next_stream);
        self.next_stream += 1;
        let Ok(mut conduit) = Conduit::new(now, id, &plan) else { return };
        let Some(service) = self.services.get_mut(&remote) else { return };
        if self.udp == Udp::Unknown {
            for datagram in &service.recent {
                conduit.send(now, datagram);
            }
        }
        service.conduit = Some(conduit);
        self.by_stream.insert(id, remote);
        self.stream(id, StreamOutput::Connect { remote: to });
    }

    fn tls(&self, name: &Fqdn) -> Option<Arc<ClientConfig>> {
        let QuicConfig { tls, roots, identity, .. } = &self.quic;
        client_config_of(tls, roots, identity, ALPN, name).ok().map(Arc::new)
    }

    pub(super) fn close(&mut self, remote: SocketAddr) {
        let conduit = self.services.get_mut(&remote).and_then(|service| service.conduit.take());
        if let Some(conduit) = conduit {
            self.by_stream.remove(&conduit.stream());
            self.stream(conduit.stream(), StreamOutput::Close);
        }
    }

    /// Handles an event of a TCP connection. Returns whether the connection belongs to the fallback.
    pub(in crate::node) fn on_stream(&mut self, now: Instant, id: StreamId, event: StreamInput) -> bool {
        let Some(&remote) = self.by_stream.get(&id) else {
            // A late event of a connection that was closed has no effect.
            return (FIRST_STREAM..self.next_stream).contains(&id.0);
        };
        let is_over = event.is_end();
        let mut datagrams = Vec::new();
        let Some(service) = self.services.get_mut(&remote) else { return true };
        let local = service.local;
        let Some(conduit) = &mut service.conduit else { return true };
        let was_open = conduit.is_open();
        let result = conduit.handle(now, event, &mut datagrams);
        let (opened, nms) = (!was_open && conduit.is_open(), conduit.take_nms());
        if opened {
            self.trouble = None;
            self.won(now, remote);
        }
        if let Some(nms) = nms {
            let nms = nms.split(',').filter_map(|text| text.trim().parse().ok()).collect();
            self.out.push_back(FallbackOutput::Nms(nms));
        }
        for payload in datagrams {
            self.out.push_back(FallbackOutput::Datagram { local, remote, payload });
        }
        if let Err(trouble) = result {
            self.flush(now);
            self.failed(now, remote, trouble, is_over);
        }
        true
    }

    /// A TCP connection has ended, or could not be made.
    pub(super) fn failed(&mut self, now: Instant, remote: SocketAddr, trouble: Trouble, is_closed: bool) {
        let Some(service) = self.services.get_mut(&remote) else { return };
        let is_lost = trouble == Trouble::Lost;
        let no_tcp = NoTcp {
            service: service.name.clone(),
            target: service.target,
            proxy: service.tcp.filter(|_| service.is_proxied),
            trouble,
        };
        service.unanswered = Unanswered::default();
        service.recent.clear();
        // A connection that has carried datagrams may be opened again at once, by the next datagram.
        if !is_lost {
            service.pause = now + TCP_PAUSE;
        }
        if is_closed {
            if let Some(conduit) = service.conduit.take() {
                self.by_stream.remove(&conduit.stream());
            }
        } else {
            self.close(remote);
        }
        if is_lost {
            return;
        }
        let has_others = self.services.values().any(|service| service.conduit.as_ref().is_some_and(Conduit::is_open));
        if self.udp == Udp::Blocked && !has_others {
            // TCP fails, too, so UDP may not be blocked after all.
            self.udp = Udp::Unknown;
            self.next_probe = None;
            for service in self.services.values_mut() {
                service.by_tcp = false;
            }
        }
        self.event(Event::NoTcp(Box::new(no_tcp.clone())));
        self.trouble = Some(no_tcp);
    }

    /// Writes the datagrams that wait for TCP.
    pub(in crate::node) fn flush(&mut self, now: Instant) {
        let mut writes = Vec::new();
        let mut dropped = 0;
        for conduit in self.services.values_mut().filter_map(|service| service.conduit.as_mut()) {
            let bytes = conduit.flush(now);
            dropped += conduit.take_dropped();
            if !bytes.is_empty() {
                writes.push((conduit.stream(), bytes));
            }
        }
        for (id, bytes) in writes {
            self.stream(id, StreamOutput::Write(bytes));
        }
        for _ in 0..dropped {
            self.event(Event::Dropped(DropReason::QueueFull));
        }
    }
}
