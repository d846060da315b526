//! The CYPHONIC protocol, pure: no sockets, clocks, threads, files or operating-system randomness.
//!
//! Four roles, each a [`machine::Machine`]: [`node`], [`auth`] (AS), [`nms`] and [`trs`]. Two methods carry their
//! messages: [`conventional`] (the paper's own UDP protocol) and [`quic`] (the proposed one). Read [`machine`] first,
//! then [`node`].
//!
//! | | |
//! |---|---|
//! | the shape | [`machine`], [`time`], [`timers`], [`timing`], [`epoch`], [`event`] |
//! | the language | [`header`], [`version`], [`message`], [`name`], [`key`] |
//! | the decision | [`route`], [`probe`] |
//! | the methods | [`conventional`], [`quic`], [`tls`], [`pki`] |
//! | paths beneath a tunnel | [`paths`] |
//! | where UDP is blocked | [`proxied`], [`trouble`] |
//! | the roles | [`node`], [`auth`], [`nms`], [`trs`], [`store`] |
//! | limits | [`shares`], [`grant`] |
//! | the inside | [`packet`], [`dns`] |
//! | for those who look | [`capture`] |
//! | the test of the tests | [`defects`] |

#[macro_use]
pub mod defects;

pub mod auth;
pub mod capture;
pub mod conventional;
pub mod dns;
pub mod epoch;
pub mod event;
pub mod grant;
pub mod key;
pub mod machine;
pub mod message;
pub mod method;
pub mod name;
pub mod nms;
pub mod node;
pub mod packet;
pub mod paths;
pub mod pki;
pub mod probe;
pub mod proxied;
pub mod quic;
pub mod route;
pub mod rules;
pub mod shares;
pub mod signaling;
pub mod store;
pub mod time;
pub mod timers;
pub mod timing;
pub mod tls;
pub mod trouble;
pub mod trs;
pub mod version;

pub use message::header;
