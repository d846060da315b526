//! Grants, by which the NMS allows a TRS to relay between two nodes for some time (proposed method, ours).
//!
//! The NMS sends a [`RelayGrant`] to the initiator before the Route Direction, and the initiator sends it to the TRS
//! before its Tunnel Request. It has a MAC under a key that NMS and TRS derive from their service key. So the TRS needs
//! no message from the NMS, and no common clock:
//!
//! * A grant names the responder's leg by an identifier from the leg's TLS session. So the grant ends with that leg,
//!   and does not survive a restart of the TRS.
//! * Its time begins when the TRS sees its serial number for the first time. A number that is not greater than the last
//!   one of the same two nodes and leg has no effect. Serial numbers follow the NMS's time. So the time of a later
//!   grant begins no later after the pair's first one than it was made, and collecting grants is of no use.
//!
//! The initiator asks for the next grant in time (*Grant Request*). The NMS refuses it if the two nodes may not talk
//! any more. When the time of the last grant is over, the TRS unbinds the legs.

use ring::hmac;
use subtle::ConstantTimeEq;

use crate::key::Key128;
use crate::message::RelayGrant;
use crate::name::{Fqdn, RelayCid};

/// Makes and checks grants.
pub struct Grants(hmac::Key);

impl Grants {
    /// Derives the key of grants from the key that NMS and TRS share.
    pub fn new(service_key: &Key128) -> Self {
        let secret = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &service_key.0), b"cyphonic relay grant");
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret.as_ref()))
    }

    /// A grant for `seconds`, for the leg of `to`. `serial` is above that of every earlier grant.
    pub fn grant(&self, from: Fqdn, to: Fqdn, leg: RelayCid, serial: u64, seconds: u16) -> RelayGrant {
        let mut grant = RelayGrant { from, to, leg, serial, seconds, mac: [0; 16] };
        grant.mac = self.mac(&grant);
        grant
    }

    /// Whether the NMS made this grant.
    pub fn is_good(&self, grant: &RelayGrant) -> bool {
        self.mac(grant).ct_eq(&grant.mac).into()
    }

    fn mac(&self, grant: &RelayGrant) -> [u8; 16] {
        let RelayGrant { from, to, leg, serial, seconds, mac: _ } = grant;
        let mut text = Vec::new();
        for name in [from, to] {
            // At most 253 bytes, by construction.
            text.push(name.as_str().len() as u8);
            text.extend_from_slice(name.as_str().as_bytes());
        }
        text.extend_from_slice(&leg.0);
        text.extend_from_slice(&serial.to_be_bytes());
        text.extend_from_slice(&seconds.to_be_bytes());
        *hmac::sign(&self.0, &text).as_ref().first_chunk().expect("32 bytes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_is_good_as_it_was_made_and_with_no_field_changed() {
        let name = |text: &str| text.parse::<Fqdn>().unwrap();
        let grants = Grants::new(&Key128([3; 16]));
        let good = grants.grant(name("a.test"), name("b.test"), RelayCid([1; 8]), 7, 600);
        assert!(grants.is_good(&good));
        let others = [
            RelayGrant { from: name("c.test"), ..good.clone() },
            RelayGrant { to: name("c.test"), ..good.clone() },
            RelayGrant { from: good.to.clone(), to: good.from.clone(), ..good.clone() },
            RelayGrant { leg: RelayCid([2; 8]), ..good.clone() },
            RelayGrant { serial: 8, ..good.clone() },
            RelayGrant { seconds: 601, ..good.clone() },
            RelayGrant { mac: [0; 16], ..good.clone() },
        ];
        assert!(!others.iter().any(|other| grants.is_good(other)));
        assert!(!Grants::new(&Key128([4; 16])).is_good(&good));
    }
}
