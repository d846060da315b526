//! Two ends with paths beneath them, in virtual time: the promises of the path layer, alone and under real QUIC.

mod budget;
mod dying;
mod quic;
mod world;
