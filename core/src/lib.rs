//! The CYPHONIC protocol, pure.

pub mod event;
pub mod header;
pub mod key;
pub mod machine;
pub mod message;
pub mod name;
pub mod route;
pub mod time;
pub mod tls;
