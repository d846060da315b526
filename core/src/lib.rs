//! The CYPHONIC protocol, pure: no sockets, clocks, threads, files or operating-system randomness.
//!
//! There are four roles, each a [`machine::Machine`]: [`node`], [`auth`] (AS), [`nms`] and [`trs`]. Two methods carry
//! their messages: [`conventional`] (CYPHONIC's own UDP protocol) and [`quic`] (the proposed method). Read [`machine`]
//! first, then [`node`].
//!
//! | subject | modules |
//! |---|---|
//! | the interface of roles, time | [`machine`], [`time`], [`timers`], [`timing`], [`epoch`], [`event`] |
//! | messages | [`header`], [`version`], [`message`], [`name`], [`key`], [`signaling`] |
//! | the choice of a path | [`route`], [`probe`], [`rules`] |
//! | the methods | [`method`], [`conventional`], [`quic`], [`tls`], [`pki`] |
//! | paths beneath a tunnel | [`paths`] |
//! | networks that block UDP | [`proxied`], [`trouble`] |
//! | the roles | [`node`], [`auth`], [`nms`], [`trs`], [`store`] |
//! | limits | [`shares`], [`grant`] |
//! | packets of applications | [`packet`], [`dns`] |
//! | captures of packets | [`capture`] |
//! | planted defects, to test the tests | [`defects`] |

#[macro_use]
pub mod defects;

pub mod auth;
pub mod capture;
pub mod conventional;
mod der;
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
