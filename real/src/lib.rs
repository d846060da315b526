//! CYPHONIC on real networks: the roles of [`cyphonic_core`] as daemons, on tokio, UDP sockets and a TUN device.
//!
//! | | |
//! |---|---|
//! | `cli` | the command line |
//! | `settings` | flags, variables, files |
//! | `run` | the daemons: `as`, `nms`, `trs`, `node` |
//! | `drive` | the loop that drives a role on sockets, TUN and time |
//! | `descriptors` | how many file descriptors there are, and for whom |
//! | `net` | the system's addresses, interfaces and routes |
//! | `control` | `status`, `ping`, `netcheck`: how people ask a running node |
//! | `ca`, `files`, `inspect`, `names`, `signup` | certificates, secrets, and who may have them |
//! | `store` | the database of AS and NMS |
//! | `tasks` | tasks that live as long as a daemon |
//! | `error` | what can go wrong, for people and scripts |

pub mod ca;
pub mod cli;
pub mod control;
pub mod descriptors;
pub mod drive;
pub mod error;
pub mod files;
pub mod inspect;
pub mod names;
pub mod net;
pub mod run;
mod seats;
pub mod settings;
pub mod signup;
pub mod store;
pub mod tasks;

pub use cli::main;
