//! Why a node is not registered, in words: what happened, with which service, and the remedy.
//!
//! The role knows the reason and the service. Its driver adds the facts that an operator needs: the clock and the
//! certificate's dates, whether TCP gets through if UDP does not, and how often the registration was lost lately.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use cyphonic_core::event::Failure as Reason;
use cyphonic_core::message::ErrorCode;
use cyphonic_core::method::Method;
use cyphonic_core::name::{Fqdn, Party};
use cyphonic_core::node::{ChoiceStatus, Node, TunnelStatus};
use cyphonic_core::time::Instant;
use cyphonic_core::trouble::NoTcp;
use cyphonic_core::version::Versions;
use rustix::net::sockopt;
use tokio::net::TcpStream;

use crate::drive;
use crate::files::{self, Ends, Span};

/// How long a TCP connection to the AS may take.
const PROBE: Duration = Duration::from_secs(3);
/// Losses of a registration, and the time in which they count as more than accidents.
const OFTEN: (usize, Duration) = (3, Duration::from_secs(90));

/// A problem and its remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    /// The problem, with the place where it is.
    pub(super) what: String,
    /// What the operator can do, safe to paste.
    pub(super) remedy: String,
}

/// A failure of login or registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failed {
    /// As the role reports it.
    pub(super) reason: Reason,
    /// The service in question: AS or NMS.
    pub(super) with: Option<Party>,
    /// Whether the node was registered until then.
    pub(super) stood: bool,
    /// Why the services were not reached by TCP either, where that was tried.
    pub(super) tcp: Option<NoTcp>,
}

/// How the services are reached, where that is not by UDP; why they are not reached by TCP either.
pub(super) fn transport(machine: &Node) -> Option<String> {
    let fallback = machine.fallback()?;
    let proxy = if fallback.has_proxy { ", by the HTTP proxy" } else { "" };
    if let Some(why) = &fallback.trouble {
        let service = &why.service;
        return Some(format!(
            "{service} does not answer by UDP, and is not reached by TCP: {why}; remedy: {}",
            why.remedy()
        ));
    }
    let mut services: Vec<String> = fallback.by_tcp.iter().map(|name| name.short().to_ascii_uppercase()).collect();
    services.sort_unstable();
    services.dedup();
    match (fallback.blocked, services.is_empty()) {
        (false, true) => None,
        (true, true) => Some("UDP is blocked here".to_owned()),
        (true, false) => Some(format!("UDP is blocked here; through {} by TCP 443{proxy}", services.join(", "))),
        (false, false) => Some(format!("{} by TCP 443{proxy}, everything else by UDP", services.join(", "))),
    }
}

/// Facts about a node besides the role's reason.
pub(super) struct Facts {
    /// The FQDN of the node.
    pub(super) name: Fqdn,
    /// The method by which it logs in.
    pub(super) method: Method,
    /// The addresses of the AS.
    pub(super) auth: Vec<SocketAddr>,
    /// The node's certificate. None if it logs in by password.
    pub(super) certificate: Option<(PathBuf, Option<Span>)>,
    /// When the certificate ends, and when the CA's does.
    pub(super) ends: Option<Ends>,
    /// The times of recent losses of the registration.
    lost: VecDeque<Instant>,
}

impl Facts {
    pub(super) fn new(
        name: Fqdn,
        method: Method,
        auth: Vec<SocketAddr>,
        certificate: Option<(PathBuf, Option<Span>)>,
    ) -> Self {
        Self { name, method, auth, certificate, ends: None, lost: VecDeque::new() }
    }

    /// Notes that a registration was lost.
    pub(super) fn lost(&mut self, now: Instant) {
        self.lost.push_back(now);
        while self.lost.len() > OFTEN.0 {
            self.lost.pop_front();
        }
    }

    fn is_often_lost(&self, now: Instant) -> bool {
        self.lost.len() >= OFTEN.0 && self.lost.front().is_some_and(|&first| now <= first + OFTEN.1)
    }

    /// The problem in words. `probe` is what was found out about the way to the AS, if it was probed.
    pub(super) fn explain(&self, now: Instant, failed: &Failed, probe: Option<Probe>) -> Trouble {
        let reason = &failed.reason;
        let is_as = failed.with == Some(Party::As);
        let who = if is_as { format!("the AS ({})", places(&self.auth)) } else { "the NMS".to_owned() };
        let trouble = |what: String, remedy: &str| Trouble { what, remedy: remedy.to_owned() };
        if self.is_often_lost(now)
            && !matches!(reason, Reason::CertificateDates | Reason::Refused(_) | Reason::Displaced)
        {
            let what = format!(
                "registered and lost again {} times in {} s ({reason}): does another machine log in as {}?",
                OFTEN.0,
                OFTEN.1.as_secs(),
                self.name
            );
            let remedy =
                "a name is for one machine: end the other node, or give it a name, certificate and device of its own";
            return trouble(what, remedy);
        }
        // Where nothing answers by TCP, the causes below are more likely than a network that stops TCP, too.
        if let (Reason::Timeout | Reason::ConnectionLost, Some(tcp)) = (reason, &failed.tcp)
            && tcp.explains()
        {
            return trouble(format!("{who} does not answer by UDP, and is not reached by TCP: {tcp}"), tcp.remedy());
        }
        match reason {
            Reason::Timeout if is_as && self.method == Method::Proposed => match probe {
                Some(Probe { narrow: Some(mtu), .. }) => trouble(
                    format!(
                        "the path MTU to {who} is {mtu} bytes, and QUIC's packets need {QUIC_MTU_V4} by IPv4 and \
                         {QUIC_MTU_V6} by IPv6 (RFC 9000, section 14)"
                    ),
                    "raise the MTU of this machine's interface, or of the link on the way; `ip route get ADDRESS` shows it; or \
                     use `method = \"conventional\"`",
                ),
                Some(Probe { tcp: true, .. }) => trouble(
                    format!("UDP is blocked: {who} can be reached by TCP, but does not answer by UDP"),
                    "let UDP to and from that port through the firewall on the way, or on this machine; the node keeps trying",
                ),
                _ => trouble(
                    format!("{who} does not answer"),
                    "is it running? check `as-addresses`, and that UDP to that port gets through; the node keeps trying",
                ),
            },
            Reason::Timeout | Reason::ConnectionLost if is_as => trouble(
                format!("{who} does not answer ({reason})"),
                "is it running? check `as-addresses`, and that no firewall stops the port; an AS of an older version does not answer \
                 this node: upgrade it; the node keeps trying",
            ),
            Reason::Timeout | Reason::ConnectionLost if failed.stood => trouble(
                format!("the NMS does not answer any more ({reason})"),
                "is it running? does UDP still get through to it? the node keeps trying, and its tunnels live on",
            ),
            Reason::Timeout if self.method == Method::Conventional => trouble(
                "the AS answers by TCP, but the NMS does not answer by UDP: it does not run, or UDP is blocked"
                    .to_owned(),
                "is the NMS running? an NMS of an older version does not answer this node: upgrade it; let UDP port 4501 through \
                 the firewall, or use `method = \"proposed\"`, which needs UDP port \
                 443 only; the node keeps trying",
            ),
            Reason::Timeout | Reason::ConnectionLost => trouble(
                format!("the AS answers, but the NMS does not ({reason})"),
                "is the NMS running? is `nms` right at the AS? the node keeps trying, and its tunnels live on",
            ),
            Reason::CertificateDates => self.dates(&who),
            Reason::Authentication => trouble(
                format!("this node and {who} do not believe each other's certificates"),
                "both must be of the same `cyphonic ca init`, with the names that `name`, `as-name` and `nms-name` say: \
                 `cyphonic ca print FILE` shows them",
            ),
            Reason::Refused(ErrorCode::Unauthorized) => trouble(
                format!("{who} does not know the device {}, or not by this certificate or password", self.name),
                "`cyphonic device list` at the AS shows all, `cyphonic device add NAME` adds one",
            ),
            Reason::Refused(ErrorCode::StaleEpoch(_)) => trouble(
                "the NMS takes no registration number of this node any more".to_owned(),
                "enrol the node anew: `cyphonic device add NAME --replace` at the AS, or an invitation",
            ),
            Reason::Refused(ErrorCode::Unavailable) => trouble(
                format!(
                    "{who} cannot serve now: its database fails, no virtual address is left, or too many passwords were tried"
                ),
                "its log says which: a disk that is full, a program that holds the database; the node keeps trying",
            ),
            Reason::WrongAddresses => trouble(
                "the NMS says other virtual addresses for this node than its certificate has".to_owned(),
                "upgrade the NMS, whose log names the addresses; or restore its database from a backup",
            ),
            Reason::Outdated => {
                trouble(format!("{who} speaks an older version of the protocol only"), &format!("upgrade {who}"))
            }
            Reason::Refused(ErrorCode::UnknownVersion(theirs)) => {
                let (theirs, ours) = (*theirs, Versions::OURS);
                let older = if theirs.newest < ours.oldest { who.as_str() } else { "this node" };
                trouble(
                    format!(
                        "{who} speaks the versions {} to {} of the protocol, this node {} to {}",
                        theirs.oldest, theirs.newest, ours.oldest, ours.newest
                    ),
                    &format!("upgrade {older}"),
                )
            }
            Reason::Refused(ErrorCode::NotRegistered) => trouble(
                "the NMS has been restarted or stopped".to_owned(),
                "none needed while it comes back; the node keeps trying, and its tunnels live on",
            ),
            Reason::Displaced => {
                trouble(format!("another machine has registered with the name and key of {}", self.name), OTHER_MACHINE)
            }
            Reason::Refused(ErrorCode::OtherMachine(at)) => {
                let place = if at.ip().is_unspecified() { String::new() } else { format!(" at {at}") };
                trouble(
                    format!("another machine{place} uses the name and key of {}, and is served", self.name),
                    OTHER_MACHINE,
                )
            }
            Reason::Refused(_) | Reason::Protocol => trouble(
                format!("{who} does not speak as this node does ({reason})"),
                "use the same version of cyphonic on both sides",
            ),
            Reason::NoAddress => trouble(
                "no address of this machine has the family (IPv4 or IPv6) of a service".to_owned(),
                "check this machine's network, and `addresses` if it is set",
            ),
            Reason::Stranded => trouble(reason.to_string(), STRANDED),
            Reason::Replaced | Reason::Moved => trouble(reason.to_string(), "none needed"),
        }
    }

    fn dates(&self, who: &str) -> Trouble {
        let now = drive::since_epoch();
        let clock = format!("this machine's clock says {}", files::civil(now));
        let Some((path, Some(span))) = &self.certificate else {
            let what =
                format!("the clock and the certificate of {who} disagree: {clock}, and by that it does not count");
            let remedy = "set the clock of the machine that is wrong; `cyphonic ca print FILE` there shows the dates";
            return Trouble { what, remedy: remedy.to_owned() };
        };
        let own = format!("{} counts {span}", path.display());
        if let Some(verdict) = span.verdict(now) {
            let what = format!("the clock and this node's certificate disagree: {clock}, {own}: it {verdict}");
            let remedy = format!(
                "set the clock (the node then logs in by itself); if it is right, `cyphonic ca issue {} --renew`",
                self.name
            );
            return Trouble { what, remedy };
        }
        let what = format!(
            "a clock and a certificate's dates disagree between this node and {who}: {clock}; {own}, and so is good by this \
             clock; the other's is not, or ours is not by the other's clock"
        );
        let remedy = "compare `date -u` on both machines and set the wrong one; `cyphonic ca print FILE` shows a certificate's \
                      dates; the node then logs in by itself";
        Trouble { what, remedy: remedy.to_owned() }
    }
}

/// What helps where two machines have one key.
const OTHER_MACHINE: &str = "a key is for one machine: enrol this one, or the other, under a name of its own (`cyphonic device \
                             invite` at the AS, then `cyphonic signup`); this node takes its place when the other one has stopped, or when it \
                             is restarted itself; if nobody made a copy, the key may be stolen: `cyphonic ca revoke`";

/// What helps where Table 1 knows no way that works.
pub(super) const STRANDED: &str =
    "does a firewall drop it? with `policy = \"optimal\"` at the NMS, and a TRS, such nodes are relayed";

/// Why a peer cannot be reached.
pub(super) fn unreached(name: &Fqdn, reason: Option<&Reason>) -> Trouble {
    let (what, remedy) = match reason {
        Some(Reason::Refused(ErrorCode::UnknownPeer)) => {
            (format!("there is no node {name}"), "check the name: `cyphonic device list` at the AS shows all")
        }
        Some(Reason::Refused(ErrorCode::NotPermitted)) => (
            format!("the access rules of the NMS forbid this node to talk with {name}"),
            "ask the operator of the NMS: `cyphonic rules who-may` there shows the rules",
        ),
        Some(Reason::Refused(ErrorCode::PeerOffline)) => (
            format!("{name} is not registered now, or does not answer the NMS"),
            "is it running? `cyphonic status` there says how it stands; where both are behind NATs or firewalls: is the TRS \
             running?",
        ),
        Some(Reason::Refused(ErrorCode::NoRelay)) => (
            format!("there is no direct way to {name}, and no TRS that could relay"),
            "set `trs` and `service-key` at the NMS, and run a TRS",
        ),
        Some(Reason::Refused(ErrorCode::Unavailable)) => {
            ("the NMS cannot serve now: its database fails".to_owned(), "its log says why; try again in a while")
        }
        Some(Reason::Stranded) => (
            format!(
                "this node and {name} cannot meet under Table 1: it says that their networks reach each other directly, \
                 and nothing gets through"
            ),
            STRANDED,
        ),
        Some(Reason::Authentication | Reason::CertificateDates) => (
            format!("this node and {name} do not believe each other's certificates"),
            "is one of them revoked or expired, or a clock wrong? `cyphonic ca print FILE` and `date -u` show it",
        ),
        Some(reason) => (
            format!("{name} cannot be reached ({reason})"),
            "is it running? if both are behind NATs or firewalls: is the TRS running, and does UDP get through to it?",
        ),
        None => (
            format!("{name} cannot be reached, or there is no such node"),
            "is it running and registered? check the name; `cyphonic status` shows whether this node is registered",
        ),
    };
    Trouble { what, remedy: remedy.to_owned() }
}

/// Why a tunnel is direct or relayed, and whether that may change.
pub(super) fn why(now: Instant, tunnel: &TunnelStatus, choice: &ChoiceStatus, still: Option<&Reason>) -> String {
    let (relayed, pattern) = (tunnel.relayed, tunnel.pattern);
    match (relayed, choice.want) {
        (false, None) => return format!("direct: Table 1 says pattern {pattern} for these two networks"),
        (true, None) => return "relayed: Table 1 has no direct pattern for these two networks".to_owned(),
        (false, Some(_)) => return "direct: the NMS knew a direct way, and it was answered".to_owned(),
        (true, Some(_)) => {}
    }
    let reason = match still {
        Some(Reason::Timeout) => "no direct address answered".to_owned(),
        Some(Reason::Refused(ErrorCode::NoDirectWay)) => {
            "the NMS knows no direct way between these two networks".to_owned()
        }
        Some(reason) => format!("the direct way failed: {reason}"),
        None if choice.trying => "no direct way has answered yet".to_owned(),
        None if choice.asked => "no direct way was tried yet".to_owned(),
        None => "the peer asked for it, and looks for a direct way itself".to_owned(),
    };
    let next = match choice.next_try {
        _ if choice.trying => "; one is being tried now".to_owned(),
        Some(at) => format!("; one is tried again in {} s", at.saturating_since(now).as_secs() + 1),
        None => String::new(),
    };
    format!("relayed: {reason}{next}")
}

/// The least path MTU for QUIC, bytes of IP: datagrams of 1,200 bytes (RFC 9000 §14), and the headers of UDP and IP.
const QUIC_MTU_V4: u32 = 1_200 + 8 + 20;
const QUIC_MTU_V6: u32 = 1_200 + 8 + 40;

/// The result of probing the AS when it does not answer by UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Probe {
    /// Whether any of its addresses takes a TCP connection.
    pub(super) tcp: bool,
    /// The largest path MTU to any of its addresses, if all are too narrow for QUIC. The kernel knows it from the
    /// interface, and from routers' ICMP errors.
    pub(super) narrow: Option<u32>,
}

/// Probes these addresses.
pub(super) async fn probe(places: Vec<SocketAddr>) -> Probe {
    let mut tcp = false;
    for place in &places {
        if matches!(tokio::time::timeout(PROBE, TcpStream::connect(place)).await, Ok(Ok(_))) {
            tcp = true;
            break;
        }
    }
    let mtus: Vec<_> = places.iter().filter_map(|place| Some((place, path_mtu(*place)?))).collect();
    let is_narrow = |place: &SocketAddr, mtu: u32| mtu < if place.is_ipv6() { QUIC_MTU_V6 } else { QUIC_MTU_V4 };
    let narrow = mtus.iter().all(|(place, mtu)| is_narrow(place, *mtu));
    Probe { tcp, narrow: mtus.iter().map(|(_, mtu)| *mtu).max().filter(|_| narrow) }
}

/// The path MTU to an address as the kernel knows it, bytes of IP. Nothing is sent.
fn path_mtu(place: SocketAddr) -> Option<u32> {
    let any: SocketAddr =
        if place.is_ipv6() { (Ipv6Addr::UNSPECIFIED, 0).into() } else { (Ipv4Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(place).ok()?;
    let mtu = if place.is_ipv6() { sockopt::ipv6_mtu(&socket) } else { sockopt::ip_mtu(&socket) };
    mtu.ok()
}

fn places(places: &[SocketAddr]) -> String {
    places.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use cyphonic_core::message::{Framing, Want};
    use cyphonic_core::route::Pattern;

    use super::*;

    fn facts(method: Method, span: Option<Span>) -> Facts {
        let certificate = Some((PathBuf::from("a.pem"), span));
        Facts::new("a.example".parse().unwrap(), method, vec!["192.0.2.2:443".parse().unwrap()], certificate)
    }

    fn said(facts: &Facts, reason: Reason, with: Party, probe: Option<Probe>) -> String {
        let trouble =
            facts.explain(Instant::ZERO, &Failed { reason, with: Some(with), stood: false, tcp: None }, probe);
        format!("{}; {}", trouble.what, trouble.remedy)
    }

    #[test]
    fn udp_is_called_blocked_only_where_tcp_gets_through() {
        let proposed = facts(Method::Proposed, None);
        for (tcp, blocked) in [(None, false), (Some(false), false), (Some(true), true)] {
            let probe = tcp.map(|tcp| Probe { tcp, narrow: None });
            let text = said(&proposed, Reason::Timeout, Party::As, probe);
            assert_eq!(text.contains("UDP is blocked"), blocked, "{text}");
            assert!(text.contains("192.0.2.2:443"), "{text}");
        }
        for tcp in [true, false] {
            let text = said(&proposed, Reason::Timeout, Party::As, Some(Probe { tcp, narrow: Some(1_124) }));
            assert!(text.contains("path MTU") && text.contains("1124") && !text.contains("blocked"), "{text}");
        }
        let text = said(&facts(Method::Conventional, None), Reason::Timeout, Party::Nms, None);
        assert!(text.contains("UDP is blocked") && text.contains("4501"), "{text}");
    }

    #[test]
    fn why_a_tunnel_is_as_it_is_follows_from_what_was_asked_and_what_came_of_it() {
        let tunnel = |relayed| TunnelStatus {
            pattern: if relayed { Pattern::Relayed } else { Pattern::Direct },
            dialed: true,
            framing: Framing::Compact,
            relayed,
            local: "192.0.2.5:443".parse().unwrap(),
            remote: "192.0.2.4:443".parse().unwrap(),
            rtt: None,
            handover: cyphonic_core::paths::strategy::Handover::Rebuild,
            signaling: cyphonic_core::signaling::Signaling::Paper,
            paths: Vec::new(),
        };
        let second = |n| Instant::ZERO + Duration::from_secs(n);
        let choice = |want, asked, next_try, trying| ChoiceStatus { want, asked, next_try, trying };
        let no_way = Reason::Refused(ErrorCode::NoDirectWay);
        for (relayed, choice, still, words) in [
            (false, choice(None, true, None, false), None, "direct: Table 1 says pattern 1 for these two networks"),
            (
                true,
                choice(None, true, None, false),
                None,
                "relayed: Table 1 has no direct pattern for these two networks",
            ),
            (
                false,
                choice(Some(Want::Any), true, None, false),
                None,
                "direct: the NMS knew a direct way, and it was answered",
            ),
            (
                true,
                choice(Some(Want::Relayed), true, Some(second(9)), false),
                Some(&Reason::Timeout),
                "relayed: no direct address answered; one is tried again in 9 s",
            ),
            (
                true,
                choice(Some(Want::Relayed), true, Some(second(9)), true),
                None,
                "relayed: no direct way has answered yet; one is being tried now",
            ),
            (
                true,
                choice(Some(Want::Any), true, Some(second(65)), false),
                Some(&no_way),
                "relayed: the NMS knows no direct way between these two networks; one is tried again in 65 s",
            ),
            (
                true,
                choice(Some(Want::Any), false, None, false),
                None,
                "relayed: the peer asked for it, and looks for a direct way itself",
            ),
        ] {
            assert_eq!(why(Instant::ZERO + Duration::from_millis(500), &tunnel(relayed), &choice, still), words);
        }
    }

    #[test]
    fn a_clock_that_disagrees_is_told_beside_both_dates_of_the_certificate() {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        let now = drive::since_epoch();
        let before = |n| now.checked_sub(hours(n)).unwrap();
        for (begins, ends, whose) in [
            (now + hours(23), now + hours(2000), "does not count for another 22 hours"),
            (before(2000), before(25), "ended 25 hours ago"),
            (before(1), now + hours(2000), "is good by this clock"),
        ] {
            let text =
                said(&facts(Method::Proposed, Some(Span { begins, ends })), Reason::CertificateDates, Party::As, None);
            for part in [whose, &files::civil(now)[..16], &files::civil(begins), &files::civil(ends)] {
                assert!(text.contains(part), "{part} in {text}");
            }
        }
    }

    #[test]
    fn of_two_versions_the_part_to_upgrade_is_named() {
        let facts = facts(Method::Proposed, None);
        let text = said(&facts, Reason::Outdated, Party::As, None);
        assert!(text.contains("an older version") && text.contains("; upgrade the AS (192.0.2.2:443)"), "{text}");
        let text = said(&facts, Reason::Outdated, Party::Nms, None);
        assert!(text.contains("; upgrade the NMS"), "{text}");
        let versions = |oldest, newest| Reason::Refused(ErrorCode::UnknownVersion(Versions { oldest, newest }));
        assert!(said(&facts, versions(8, 9), Party::Nms, None).contains("; upgrade this node"));
        assert!(said(&facts, versions(1, 1), Party::Nms, None).contains("; upgrade the NMS"));
    }

    #[test]
    fn another_machine_with_the_same_key_is_named_with_its_address_and_a_remedy() {
        let facts = facts(Method::Proposed, None);
        let at = |at: &str| Reason::Refused(ErrorCode::OtherMachine(at.parse().unwrap()));
        for (reason, place) in [
            (Reason::Displaced, "another machine has registered with the name and key of a.example"),
            (at("192.0.2.7:443"), "another machine at 192.0.2.7:443 uses the name and key of a.example, and is served"),
            (at("[::]:0"), "another machine uses the name and key of a.example, and is served"),
        ] {
            let text = said(&facts, reason, Party::Nms, None);
            assert!(text.starts_with(place) && text.contains("`cyphonic device invite`"), "{text}");
        }
    }

    #[test]
    fn two_machines_with_one_name_are_suspected_when_registrations_are_lost_again_and_again() {
        let mut facts = facts(Method::Proposed, None);
        let second = |n| Instant::ZERO + Duration::from_secs(n);
        let failed = Failed { reason: Reason::ConnectionLost, with: Some(Party::Nms), stood: true, tcp: None };
        for n in [0, 5, 30] {
            let text = facts.explain(second(n), &failed, None).what;
            assert!(text.contains("does not answer any more"), "{text}");
            facts.lost(second(n));
        }
        let text = facts.explain(second(30), &failed, None).what;
        assert!(text.contains("does another machine log in as a.example?"), "{text}");
        facts.lost(second(1000));
        let text = facts.explain(second(1000), &failed, None).what;
        assert!(!text.contains("another machine"), "long ago: {text}");
    }
}
