//! The scenarios of this folder, built in, so that the lab finds them wherever it runs.

macro_rules! embedded {
    ($($name:literal,)*) => {
        /// Every scenario of this package: its name and its text, by name.
        pub const EMBEDDED: &[(&str, &str)] = &[$(($name, include_str!(concat!("../", $name, ".toml"))),)*];
    };
}

embedded! {
    "bad-links",
    "blocked",
    "blocked-rtt",
    "cipher",
    "handover",
    "idle",
    "mobility",
    "paced",
    "paced-tcp",
    "queue",
    "relay",
    "setup",
    "setup-loss",
    "table1",
    "table3",
    "table4",
    "throughput",
}
