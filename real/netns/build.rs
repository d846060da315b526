//! Makes a [`Layout`] real with `ip` and `nft`, and takes it down.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cyphonic::error::{Code, Failure};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tun_rs::{DeviceBuilder, SyncDevice};

use super::impair::Pair;
use super::layout::{Cable, Device, Host, Layout};

/// The folder of the files of all labs.
pub(super) const LABS: &str = "/run/cyphonic-netns";
/// The tools that are needed, and the Debian packages that have them.
const TOOLS: [(&str, &str); 3] = [("ip", "iproute2"), ("nft", "nftables"), ("ping", "iputils-ping")];

/// A lab's name: unique, and part of its namespaces' names.
#[derive(Clone, Debug)]
pub(super) struct Lab(pub(super) String);

impl Lab {
    /// The namespace of a host.
    pub(super) fn namespace(&self, host: &str) -> String {
        format!("{}-{host}", self.0)
    }

    /// The folder of its files: keys, configurations, logs.
    pub(super) fn folder(&self) -> PathBuf {
        Path::new(LABS).join(&self.0)
    }

    /// A program to be run in a host's namespace.
    pub(super) fn command(&self, host: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(host)]).arg(program);
        command
    }
}

/// The reason why no lab can be made here.
pub(super) fn obstacle() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("network namespaces need root".to_owned());
    }
    if !Path::new("/dev/net/tun").exists() {
        return Some("there is no /dev/net/tun".to_owned());
    }
    let there =
        |tool: &str| std::env::split_paths(&std::env::var_os("PATH")?).map(|p| p.join(tool)).find(|p| p.is_file());
    let missing: Vec<_> = TOOLS.iter().filter(|(tool, _)| there(tool).is_none()).map(|(_, package)| *package).collect();
    (!missing.is_empty()).then(|| format!("missing: {} (as Debian's packages are called)", missing.join(" ")))
}

/// Makes namespaces, devices, addresses, routes and rules. The pairs are for the impairment router. It holds the
/// devices, which are gone without it.
pub(super) fn up(lab: &Lab, layout: &Layout) -> Result<Vec<Pair>, Failure> {
    for host in &layout.hosts {
        namespace(lab, host)?;
    }
    let mut pairs = Vec::new();
    for Cable { inner, outer, up, down, .. } in &layout.wires {
        let device = |end: &(String, String)| {
            let host = layout.hosts.iter().find(|host| host.name == end.0).expect("a wire joins hosts");
            let mtu = host.devices.iter().find(|device| device.name == end.1).expect("to their devices").mtu;
            tun(lab, end, mtu)
        };
        let name = format!("{}:{} {}:{}", inner.0, inner.1, outer.0, outer.1);
        pairs.push(Pair { name, inner: device(inner)?, outer: device(outer)?, up: *up, down: *down });
    }
    for host in &layout.hosts {
        configure(lab, host)?;
    }
    Ok(pairs)
}

/// Takes down a lab, or the remains of one. Removes its files too, unless `keep`.
pub(super) fn down(lab: &Lab, keep: bool) {
    let prefix = format!("{}-", lab.0);
    let list = Command::new("ip").args(["netns", "list"]).output().map(|output| output.stdout).unwrap_or_default();
    for line in String::from_utf8_lossy(&list).lines() {
        let Some(name) = line.split_whitespace().next().filter(|name| name.starts_with(&prefix)) else { continue };
        let pids = Command::new("ip").args(["netns", "pids", name]).output().map(|output| output.stdout);
        for pid in String::from_utf8_lossy(&pids.unwrap_or_default()).split_whitespace() {
            let pid = pid.parse().ok().and_then(rustix::process::Pid::from_raw);
            let _ = pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
        }
        let _ = Command::new("ip").args(["netns", "del", name]).stderr(Stdio::null()).status();
        let _ = fs::remove_dir_all(format!("/etc/netns/{name}"));
    }
    if !keep {
        let _ = fs::remove_dir_all(lab.folder());
    }
}

fn namespace(lab: &Lab, host: &Host) -> Result<(), Failure> {
    let name = lab.namespace(&host.name);
    run(Command::new("ip").args(["netns", "add", &name]), "")?;
    // A namespace's own resolv.conf, for a node to write to. A query for a name ends after ten seconds, as in the
    // simulator.
    let folder = format!("/etc/netns/{name}");
    let file = format!("{folder}/resolv.conf");
    let made = fs::create_dir_all(folder).and_then(|()| fs::write(&file, "options timeout:2 attempts:5\n"));
    made.map_err(|error| Failure::new(Code::Permission, format!("{file}: {error}"), "run as root"))
}

/// Makes a TUN device in a namespace. It stays there when this thread leaves.
fn tun(lab: &Lab, (host, device): &(String, String), mtu: u16) -> Result<SyncDevice, Failure> {
    let make = || -> std::io::Result<SyncDevice> {
        let device = DeviceBuilder::new().name(device).mtu(mtu).enable(false).build_sync()?;
        device.set_nonblocking(true)?;
        Ok(device)
    };
    within(lab, host, make).map_err(|error| {
        let what = format!("the device {device} of {} cannot be made: {error}", lab.namespace(host));
        Failure::new(Code::Permission, what, "run as root, with /dev/net/tun")
    })
}

/// Does work in a host's namespace, on a thread of its own. The calling thread stays in its namespace.
fn within<T: Send>(lab: &Lab, host: &str, work: impl FnOnce() -> std::io::Result<T> + Send) -> std::io::Result<T> {
    let path = format!("/run/netns/{}", lab.namespace(host));
    let enter = || {
        let namespace = File::open(path)?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        work()
    };
    std::thread::scope(|scope| scope.spawn(enter).join().expect("no step of it panics"))
}

/// Empties a host's conntrack table of one family. `conntrack -F -f FAMILY` does the same, and nftables cannot. The NAT
/// then gives out its ports anew, as if it had no mappings.
pub(super) fn forget(lab: &Lab, host: &str, ipv4: bool) -> Result<(), Failure> {
    let family = if ipv4 { AddressFamily::INET } else { AddressFamily::INET6 };
    let flush = || {
        let flags = SocketFlags::CLOEXEC;
        let socket =
            rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(netlink::NETFILTER))?;
        rustix::net::send(&socket, &flush_message(family), SendFlags::empty())?;
        let mut answer = [0; 64];
        let (length, _) = rustix::net::recv(&socket, &mut answer, RecvFlags::empty())?;
        match answer[..length].get(16..20).and_then(|error| error.try_into().ok()).map(i32::from_ne_bytes) {
            Some(0) => Ok(()),
            Some(error) => Err(std::io::Error::from_raw_os_error(-error)),
            None => Err(std::io::ErrorKind::UnexpectedEof.into()),
        }
    };
    within(lab, host, flush).map_err(|error| {
        let what = format!("conntrack of {} cannot be emptied: {error}", lab.namespace(host));
        Failure::new(Code::Permission, what, "run as root, on a kernel with nf_conntrack_netlink")
    })
}

/// The message of ctnetlink that deletes every entry of a family (linux/netlink.h, linux/netfilter/nfnetlink.h and
/// nfnetlink_conntrack.h).
fn flush_message(family: AddressFamily) -> [u8; 20] {
    const CTNETLINK: u16 = 1;
    const DELETE: u16 = 2;
    const REQUEST_AND_ACK: u16 = 1 | 4;
    // In version 0 the family is ignored, and all entries are deleted.
    const VERSION: u8 = 1;
    let mut message = [0; 20];
    message[..4].copy_from_slice(&20_u32.to_ne_bytes());
    message[4..6].copy_from_slice(&(CTNETLINK << 8 | DELETE).to_ne_bytes());
    message[6..8].copy_from_slice(&REQUEST_AND_ACK.to_ne_bytes());
    // The sequence number and the sender's address stay zero. Then the family follows in its one byte.
    message[16] = family.as_raw().to_ne_bytes()[usize::from(cfg!(target_endian = "big"))];
    message[17] = VERSION;
    message
}

/// Takes a host's devices down and makes `device` its only one that is up: the host is in another network at once.
pub(super) fn move_to(lab: &Lab, host: &Host, device: &Device) -> Result<(), Failure> {
    let mut script = String::new();
    for old in &host.devices {
        let _ = writeln!(script, "link set dev {0} down\naddr flush dev {0}", old.name);
    }
    addresses_and_routes(&mut script, device);
    run(Command::new("ip").args(["-n", &lab.namespace(&host.name), "-batch", "-"]), &script)
}

/// Replaces a host's rules, or some of them, atomically.
pub(super) fn rules(lab: &Lab, host: &str, script: &str) -> Result<(), Failure> {
    run(lab.command(host, "nft").args(["-f", "-"]), script)
}

/// The commands of `ip -batch` that bring a device up.
fn addresses_and_routes(script: &mut String, device: &Device) {
    let name = &device.name;
    for address in &device.addresses {
        let nodad = if address.is_ipv6() { " nodad" } else { "" };
        let _ = writeln!(script, "addr add {} dev {name}{nodad}", whole(*address));
    }
    let _ = writeln!(script, "link set dev {name} up");
    for route in &device.routes {
        let _ = writeln!(script, "route add {route} dev {name}");
    }
}

fn configure(lab: &Lab, host: &Host) -> Result<(), Failure> {
    let mut script = String::from("link set lo up\n");
    for address in &host.addresses {
        let _ = writeln!(script, "addr add {} dev lo", whole(*address));
    }
    for prefix in &host.discards {
        let _ = writeln!(script, "route add blackhole {prefix}");
    }
    for device in &host.devices {
        let _ = writeln!(script, "link set dev {} addrgenmode none txqueuelen 1000", device.name);
        if device.up {
            addresses_and_routes(&mut script, device);
        }
    }
    run(Command::new("ip").args(["-n", &lab.namespace(&host.name), "-batch", "-"]), &script)?;
    if !host.ruleset.is_empty() {
        rules(lab, &host.name, &host.ruleset)?;
    }
    let mut keys = vec![
        ("net.ipv4.conf.all.rp_filter", "0".to_owned()),
        ("net.ipv4.icmp_ratelimit", "0".to_owned()),
        ("net.ipv6.icmp.ratelimit", "0".to_owned()),
    ];
    if host.forwards {
        keys.push(("net.ipv4.ip_forward", "1".to_owned()));
        keys.push(("net.ipv6.conf.all.forwarding", "1".to_owned()));
    }
    keys.extend(host.sysctls.iter().cloned());
    let mut lines = String::new();
    for (key, value) in &keys {
        let _ = writeln!(lines, "echo {value} > /proc/sys/{}", key.replace('.', "/"));
    }
    run(lab.command(&host.name, "sh").arg("-e"), &lines)
}

/// An address as a prefix of full length.
fn whole(address: IpAddr) -> ipnet::IpNet {
    address.into()
}

/// Runs a program with this input; an error has what it said.
pub(super) fn run(command: &mut Command, input: &str) -> Result<(), Failure> {
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => return Err(Failure::new(Code::Permission, format!("{command:?}: {error}"), "is it installed?")),
    };
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends early reports the reason itself.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(Failure::other)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(Code::Other, format!("{command:?}: {}", said.trim()), "see what the program says"))
}
