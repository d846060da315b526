//! Two nodes with good certificates that want the TRS without a word of the NMS.

use cyphonic_core::event::DropReason;
use cyphonic_core::header::Flags;
use cyphonic_core::message::{ErrorCode, Framing, Message, RelayGrant, TunnelRequest};
use cyphonic_core::name::PathId;
use cyphonic_core::signaling::Signaling;

use crate::arena::{Arena, Role};
use crate::common::{NAT, scene};
use crate::rogue::{Rogue, fqdn};

const SETTINGS: &str = "method = \"proposed\"\npolicy = \"optimal\"";

#[test]
pub(crate) fn two_legs_are_not_bound_without_a_grant_or_with_a_forged_one() {
    let mut arena = Arena::after(scene(SETTINGS, [NAT, NAT], "{ delay_ms = 2 }"));
    let [mut mallory, mut oscar] = ["mallory", "oscar"].map(Rogue::new);
    oscar.at = "198.51.100.201:443".parse().unwrap();
    let theirs = oscar.connect(&mut arena, Role::Trs, &fqdn("trs"));
    let leg = oscar.leg(theirs);
    let ours = mallory.connect(&mut arena, Role::Trs, &fqdn("trs"));
    let (from, to) = (mallory.name.clone(), oscar.name.clone());
    let path = PathId::of(&from, &to).0;
    let grant = RelayGrant { from: from.clone(), to: to.clone(), leg, serial: 1, seconds: 600, mac: [7; 16] };
    let framing = Framing::Compact;
    let request = TunnelRequest { from, to, wrapped_end_key: None, relay_cid: Some(leg), framing };
    for grant in [None, Some(grant)] {
        if let Some(grant) = grant {
            assert_eq!(mallory.say(&mut arena, ours, path, &Message::RelayGrant(grant)), []);
        }
        for signaling in [Signaling::Paper, Signaling::Fast] {
            let flags = Flags(0).with_signaling(signaling);
            let frame = Message::TunnelRequest(request.clone()).to_bytes(77, flags, 0, 0, path);
            let answer = mallory.say_frame(&mut arena, ours, frame.into());
            assert_eq!(answer, [Message::Error(ErrorCode::NoRelay)], "{signaling}");
        }
    }
    assert_eq!(arena.drops(Role::Trs, DropReason::NotGranted), 5);
    arena.assert_works();
}
