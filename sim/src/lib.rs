//! The network in which the same core runs; the lab.

pub mod host;
pub mod net;
