//! The CYPHONIC protocol, pure.

pub mod dns;
pub mod event;
pub mod header;
pub mod key;
pub mod machine;
pub mod message;
pub mod name;
pub mod packet;
pub mod route;
pub mod time;
