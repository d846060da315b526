//! The CYPHONIC protocol, pure.

pub mod conventional;
pub mod event;
pub mod header;
pub mod key;
pub mod machine;
pub mod message;
pub mod name;
pub mod pki;
pub mod route;
pub mod store;
pub mod time;
pub mod tls;
