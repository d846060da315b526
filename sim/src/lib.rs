//! The network in which the same core runs; the lab.

pub mod capture;
pub mod host;
pub mod net;
pub mod seeded;
