//! The network in which the same core runs; the lab.

pub mod seeded;
pub mod host;
pub mod net;
