//! A TRS with some paths, without a network.

use super::*;
use crate::message::{AtEnd, Framing, Granted, TunnelRequest};

#[derive(Debug)]
struct Still;

impl WallClock for Still {
    fn since_unix_epoch(&self) -> Duration {
        Duration::from_secs(1_000)
    }
}

fn name(name: &str) -> Fqdn {
    format!("{name}.test").parse().unwrap()
}

fn address(name: &str) -> SocketAddr {
    SocketAddr::new([10, 0, 0, name.as_bytes()[0]].into(), 4501)
}

/// One end of a path: its capsule, and where its node is.
struct End {
    at: SocketAddr,
    capsule: Vec<u8>,
}

struct Relay {
    paths: Paths,
    nms: Session,
    number: u32,
    now: Instant,
}

impl Relay {
    fn new(granted: bool, limits: Option<RelayLimits>) -> Self {
        let versions = (Arc::new(Still) as Arc<dyn WallClock>, Versions::OURS);
        let service = Key128([1; 16]);
        let paths = Paths::new(&name("trs"), &service, None, versions, 0).limited(granted, limits);
        let nms = Session::new(&service, Direction::FromInitiator);
        Self { paths, nms, number: 0, now: Instant::from_millis(1_000) }
    }

    /// What the TRS sends because of a datagram.
    fn take(&mut self, from: SocketAddr, datagram: &[u8]) -> Vec<Vec<u8>> {
        let (local, mut out) = ("192.0.2.4:4501".parse().unwrap(), VecDeque::new());
        self.paths.handle_datagram(self.now, local, from, datagram.into(), &mut out);
        let sent = out.into_iter().filter_map(|output| match output {
            Output::Transmit(transmit) => Some(transmit.payload.clone()),
            _ => None,
        });
        sent.collect()
    }

    /// What the NMS says, with a new epoch. Whether the TRS agrees.
    fn say(&mut self, message: impl FnOnce(u64) -> Message) -> bool {
        self.number += 1;
        let epoch = Duration::from_secs(2_000 + u64::from(self.number)).as_nanos() as u64;
        let sealed = self.nms.seal(self.number, 0, NodeId::of(&name("trs")).0, &message(epoch)).unwrap();
        let answers = self.take("192.0.2.3:4501".parse().unwrap(), &sealed);
        let [answer] = &answers[..] else { panic!("{answers:?}") };
        let (_, answer) = self.nms.open_unnumbered(&mut answer.clone()).unwrap();
        answer == Message::RelayResponse(RelayResponse { accepted: true })
    }

    /// The two ends of a path between two nodes. `seconds`: the time of the grant. `is_asked`: whether the initiator
    /// sends its Tunnel Request.
    fn open(&mut self, [a, b]: [&str; 2], seconds: Option<u16>, is_asked: bool) -> [End; 2] {
        let tunnel_key = Key128([2; 16]);
        let [forward, backward] = [(a, b), (b, a)].map(|(from, to)| PathId::of(&name(from), &name(to)));
        let [initiator, responder] = [a, b].map(|node| NodeId::of(&name(node)));
        let granted = AtEnd(seconds.map(|seconds| Granted { initiator, responder, seconds }));
        let key = tunnel_key.clone();
        let request = |epoch| RelayRequest { epoch, forward, backward, tunnel_key: key, granted };
        assert!(self.say(|epoch| Message::RelayRequest(request(epoch))));
        let mut ours = Session::new(&tunnel_key, Direction::FromInitiator);
        let mut theirs = Session::new(&tunnel_key, Direction::FromResponder);
        self.take(address(b), &theirs.seal(1, 0, backward.0, &Message::HolePunching).unwrap());
        let first = if is_asked {
            let (from, to, framing) = (name(a), name(b), Framing::Udp4501);
            Message::TunnelRequest(TunnelRequest { from, to, wrapped_end_key: None, relay_cid: None, framing })
        } else {
            Message::HolePunching
        };
        let sent = self.take(address(a), &ours.seal(1, 0, forward.0, &first).unwrap());
        assert_eq!(sent.len(), usize::from(is_asked));
        let mut capsules = [Vec::new(), Vec::new()];
        ours.seal_capsule(forward.0, &[0; 952], &mut capsules[0]);
        theirs.seal_capsule(backward.0, &[0; 952], &mut capsules[1]);
        let [mine, other] = capsules;
        [End { at: address(a), capsule: mine }, End { at: address(b), capsule: other }]
    }

    /// How many of these capsules are forwarded, one after another, until one is not.
    fn forwards(&mut self, end: &End) -> usize {
        std::iter::repeat_with(|| self.take(end.at, &end.capsule).len()).take(100).take_while(|sent| *sent == 1).count()
    }

    fn works(&mut self, ends: &[End; 2]) -> bool {
        let sent = ends.iter().map(|end| self.take(end.at, &end.capsule).len()).sum::<usize>();
        assert_ne!(sent, 1, "both directions end at one time");
        sent == 2
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.paths.handle_timeout(self.now);
    }

    fn grant(&mut self, [a, b]: [&str; 2], seconds: u16) -> bool {
        let forward = PathId::of(&name(a), &name(b));
        self.say(|epoch| Message::PathGrant(PathGrant { epoch, forward, seconds }))
    }
}

#[test]
fn a_node_has_its_rate_on_all_of_its_paths_together_and_no_other_node_pays() {
    // A node that the NMS did not name is known from its Tunnel Request, and a node that the NMS named from the start.
    for (seconds, is_asked) in [(None, true), (Some(600), true), (Some(600), false)] {
        let mut relay = Relay::new(false, Some(RelayLimits { rate: 40_000, hourly: 1_000_000 }));
        let ends = ["b", "c"].map(|other| relay.open(["a", other], seconds, is_asked));
        // A quarter of a second of its rate, of which Tunnel Requests may have taken some.
        assert!((9..=10).contains(&relay.forwards(&ends[0][0])));
        assert_eq!(relay.forwards(&ends[1][0]), 0, "its other path");
        assert_eq!(ends.each_ref().map(|ends| relay.forwards(&ends[1])), [10, 10]);
    }
}

#[test]
fn a_path_ends_with_its_grant_however_much_it_is_used_and_a_new_grant_begins_its_time_anew() {
    let mut relay = Relay::new(true, None);
    let ends = relay.open(["a", "b"], Some(120), true);
    for _ in 0..3 {
        relay.pass(30);
        assert!(relay.works(&ends));
    }
    assert!(relay.grant(["a", "b"], 120));
    assert!(!relay.grant(["a", "c"], 120), "no such path");
    for _ in 0..3 {
        relay.pass(30);
        assert!(relay.works(&ends));
    }
    // The datagram is there before the timer: the time counts, not the timer.
    relay.now += Duration::from_secs(30);
    assert!(!relay.works(&ends));
    assert!(!relay.grant(["a", "b"], 120), "what has ended does not begin again");
    relay.pass(0);
    assert_eq!((relay.paths.count(), relay.works(&ends)), (0, false));
}

#[test]
fn an_old_grant_that_comes_again_prolongs_nothing() {
    let mut relay = Relay::new(true, None);
    let ends = relay.open(["a", "b"], Some(60), true);
    let forward = PathId::of(&name("a"), &name("b"));
    let grant = Message::PathGrant(PathGrant { epoch: u64::MAX / 4, forward, seconds: 60 });
    let sealed = relay.nms.seal(77, 0, NodeId::of(&name("trs")).0, &grant).unwrap();
    let nms = "192.0.2.3:4501".parse().unwrap();
    relay.take(nms, &sealed);
    relay.pass(50);
    relay.take(nms, &sealed);
    relay.pass(9);
    assert!(relay.works(&ends));
    relay.pass(1);
    assert!(!relay.works(&ends));
}

#[test]
fn a_path_without_a_time_does_not_outlive_the_shortest_one_where_grants_are_asked_for() {
    for (granted, is_there) in [(true, false), (false, true)] {
        let mut relay = Relay::new(granted, None);
        let ends = relay.open(["a", "b"], None, true);
        relay.pass(60);
        assert!(relay.works(&ends));
        relay.pass(30);
        assert_eq!(relay.works(&ends), is_there);
    }
}
