//! `cyphonic fleet`: every device, and which of them are online.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use cyphonic_core::name::Virtual;
use serde::{Deserialize, Serialize};

use super::client::{PATIENCE, ask, unexpected};
use super::{Answer, Question};
use crate::drive;
use crate::error::Failure;
use crate::files;

/// A device, as the NMS knows it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Its virtual addresses, once it was registered.
    pub virtual_addresses: Option<(std::net::Ipv4Addr, std::net::Ipv6Addr)>,
    /// When it registered last, seconds since 1970: by its own clock, unless the NMS corrected that.
    pub registered: Option<u64>,
    /// How it is registered now.
    pub online: Option<Online>,
}

/// How a device is registered.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Online {
    /// "conventional" or "proposed".
    pub method: String,
    /// Where the NMS sees it.
    pub remote: Option<SocketAddr>,
    /// Seconds since the NMS heard it last.
    pub silent_s: Option<f64>,
    /// Another machine with its name and key, which the NMS refused.
    #[serde(default)]
    pub other: Option<OtherMachine>,
}

/// A second machine with the name and key of one that is registered.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct OtherMachine {
    /// Where the NMS saw it.
    pub remote: SocketAddr,
    /// Seconds since the NMS refused it last.
    pub refused_s: f64,
}

impl OtherMachine {
    /// What is said beside the machine that is registered.
    pub(super) fn describe(&self) -> String {
        format!("another machine with its name and key was refused at {}, {:.0} s ago", self.remote, self.refused_s)
    }
}

impl Device {
    /// What the database has of it.
    pub fn new(name: &str, addresses: Option<Virtual>, last_epoch: Option<u64>) -> Self {
        Self {
            name: name.to_owned(),
            virtual_addresses: addresses.map(|addresses| (addresses.v4, addresses.v6)),
            registered: last_epoch.map(|epoch| Duration::from_nanos(epoch).as_secs()),
            online: None,
        }
    }
}

/// Asks the NMS that has this control socket.
pub fn fleet(socket: &Path, json: bool) -> Result<String, Failure> {
    match ask(socket, &Question::Fleet, PATIENCE)? {
        Answer::Fleet { devices } if json => serde_json::to_string_pretty(&devices).map_err(Failure::other),
        Answer::Fleet { devices } => Ok(describe(&devices)),
        Answer::Error { code, what, remedy } => Err(Failure::new(code, what, remedy)),
        _ => Err(unexpected()),
    }
}

fn describe(devices: &[Device]) -> String {
    let online = devices.iter().filter(|device| device.online.is_some()).count();
    let mut text = format!("{} devices, {online} online\n", devices.len());
    let widest = devices.iter().map(|device| device.name.len()).max().unwrap_or_default();
    for device in devices {
        let addresses = device.virtual_addresses.map_or_else(|| "-".to_owned(), |(v4, v6)| format!("{v4} {v6}"));
        let standing = match (&device.online, device.registered) {
            (Some(online), _) => {
                let remote = online.remote.map_or_else(|| "an unknown place".to_owned(), |remote| remote.to_string());
                let heard = online.silent_s.map(|s| format!(", heard {s:.1} s ago")).unwrap_or_default();
                format!("online at {remote}, {} method{heard}", online.method)
            }
            (None, Some(at)) => {
                let at = Duration::from_secs(at);
                let ago = drive::since_epoch().saturating_sub(at);
                format!("offline, registered last on {} ({})", files::civil(at), rough(ago))
            }
            (None, None) => "was never registered".to_owned(),
        };
        let _ = writeln!(text, "{:<widest$}  {standing}\n{:<widest$}  {addresses}", device.name, "");
        if let Some(other) = device.online.as_ref().and_then(|online| online.other.as_ref()) {
            let _ = writeln!(text, "{:<widest$}  warning: {}", "", other.describe());
        }
    }
    text
}

/// A time in its largest unit.
fn rough(time: Duration) -> String {
    let s = time.as_secs();
    match s {
        0..120 => format!("{s} s ago"),
        120..7_200 => format!("{} min ago", s / 60),
        7_200..172_800 => format!("{} h ago", s / 3600),
        _ => format!("{} days ago", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_device_is_online_or_says_when_it_was() {
        let addresses = Virtual { v4: "198.18.0.2".parse().unwrap(), v6: "2001:db8:c::2".parse().unwrap() };
        let a = Device {
            online: Some(Online {
                method: "proposed".into(),
                remote: Some("192.0.2.5:443".parse().unwrap()),
                silent_s: Some(1.25),
                other: Some(OtherMachine { remote: "198.51.100.7:443".parse().unwrap(), refused_s: 7.2 }),
            }),
            ..Device::new("a.cyphonic.test", Some(addresses), Some(1_700_000_000_000_000_000))
        };
        let b = Device { online: None, name: "b.cyphonic.test".into(), ..a.clone() };
        let text = describe(&[a, b, Device::new("new.cyphonic.test", None, None)]);
        for part in [
            "3 devices, 1 online\n",
            "a.cyphonic.test    online at 192.0.2.5:443, proposed method, heard 1.2 s ago\n",
            "198.18.0.2 2001:db8:c::2\n",
            "warning: another machine with its name and key was refused at 198.51.100.7:443, 7 s ago\n",
            "b.cyphonic.test    offline, registered last on 2023-11-14",
            "days ago)",
            "new.cyphonic.test  was never registered\n",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }
}
