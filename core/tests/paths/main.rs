//! Two ends with paths beneath them, in virtual time: what the path layer promises, alone and under real QUIC.

mod budget;
mod dying;
mod quic;
mod world;
