//! The keys of each role. A key whose help has "Default:" or "Optional" may be left out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::Args;
use cyphonic_core::name::Fqdn;
use ipnet::{Ipv4Net, Ipv6Net};
use serde::Deserialize;

use super::{
    Congestion, Dns, Framing, Handover, Key, List, Located, LogFormat, Login, Method, Parsed, Policy, Relay, Renew,
    Settings, Short, Signaling,
};

/// The settings of a role: its own keys, and those that every role has.
macro_rules! settings {
    ($(#[doc = $about:literal])* $name:ident $role:literal { $($own:tt)* }) => {
        keys! {
            $(#[doc = $about])*
            $name $role {
                $($own)*
                /// The certificates of the root CA (PEM).
                roots: PathBuf = "\"root.pem\"",
                /// The list of revoked certificates (PEM, as `cyphonic ca revoke` writes it). It and the roots are read
                /// again when they change, and on SIGHUP. Sessions of certificates that are not valid any more end.
                /// Optional.
                crl: PathBuf = "\"crl.pem\"",
                /// Where that list is fetched from every ten seconds: HOST:PORT of the AS's `signup-port`, if it has
                /// `ca` set. Otherwise it has to be copied. Optional.
                crl_from: String = "\"192.0.2.2:4433\"",
                /// Whether to renew the certificate before it ends, for the same key: "auto" (from the AS, in the last
                /// third of its time, without a restart) or "off". Default: "auto".
                renew: Renew = "\"auto\"",
                /// Where the next certificate comes from: HOST:PORT of the AS's `signup-port`, if it has `ca` set.
                /// Default: `crl-from`; at a node without that the hosts of `as-addresses`, port 4433; at the AS with
                /// `ca` its own.
                renew_from: String = "\"192.0.2.2:4433\"",
                /// The zone of all names. Default: "cyphonic.test".
                zone: Parsed<Fqdn> = "\"cyphonic.test\"",
                /// The QUIC application protocol. Default: "h3".
                alpn: String = "\"h3\"",
                /// Write TLS secrets and the keys of the conventional method to this file, so that a capture can be
                /// decrypted. For tests only. Optional.
                key_log: PathBuf = "\"secrets.log\"",
                /// Write every signaling message (name, length, never a secret), registration and tunnel to this file,
                /// one JSON object a line. Optional.
                event_log: PathBuf = "\"events.jsonl\"",
                /// When that file has so many bytes, it is renamed to `events.jsonl.1`, and a new one begins. 0: never.
                /// Default: 67108864 (64 MiB).
                event_log_bytes: u64 = "67108864",
                /// How many renamed files are kept; the oldest is removed. Default: 4.
                event_log_files: u16 = "4",
                /// The endpoint of Prometheus: IP:PORT, on this machine's loopback. Optional.
                metrics: Parsed<SocketAddr> = "\"127.0.0.1:9464\"",
                /// What to log: error, warn, info, debug, trace, or a filter as `cyphonic=debug`. Default: "info".
                log: String = "\"info\"",
                /// "text" or "json". Default: "text".
                log_format: LogFormat = "\"text\"",
            }
        }
    };
}

macro_rules! keys {
    ($(#[doc = $about:literal])* $name:ident $role:literal { $($(#[doc = $help:literal])+ $field:ident: $type:ty = $example:literal,)* }) => {
        $(#[doc = $about])*
        #[derive(Args, Clone, Debug, Default, Deserialize)]
        #[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
        #[group(skip)]
        pub struct $name {
            $($(#[doc = $help])+ #[arg(long, hide_short_help = false)] pub $field: Option<$type>,)*
        }

        impl Settings for $name {
            const ROLE: &'static str = $role;
            const KEYS: &'static [Key] =
                &[$(Key { field: stringify!($field), help: concat!($($help, "\n"),+), example: $example },)*];

            fn over(self, file: Self) -> Self {
                Self { $($field: self.$field.or(file.$field),)* }
            }

            fn lacks(&self) -> Option<&'static str> {
                let set = [$(self.$field.is_some(),)*];
                let lacking = Self::KEYS.iter().zip(set).find(|(key, set)| !set && key.is_needed());
                lacking.map(|(key, _)| key.field).or_else(|| self.lacks_beside())
            }

            fn locate(&mut self, folder: &Path) {
                $(if let Some(value) = &mut self.$field { value.locate(folder); })*
            }
        }
    };
}

settings! {
    /// The settings of a node.
    NodeSettings "node" {
        /// The node's name, in the zone; the certificate's.
        name: Parsed<Fqdn> = "\"a.cyphonic.test\"",
        /// The AS: one or more HOST:PORT, both families if it has both (TCP in the conventional method, UDP in the
        /// proposed).
        as_addresses: List<String> = "[\"[2001:db8::2]:443\", \"192.0.2.2:443\"]",
        /// The node's certificate and those between it and the root (PEM). Needed unless `login = "password"`.
        certificate: PathBuf = "\"a.cyphonic.test.pem\"",
        /// The certificate's key (PEM, readable by its owner only). Needed unless `login = "password"`.
        key: PathBuf = "\"a.cyphonic.test.key\"",
        /// Which protocol: "proposed" (QUIC) or "conventional" (the paper's own, UDP 4501). Default: "proposed".
        method: Method = "\"proposed\"",
        /// How to log in: "certificate", or "password" (conventional method only). Default: "certificate".
        login: Login = "\"certificate\"",
        /// A file with the password, readable by its owner only. Optional.
        password_file: PathBuf = "\"password\"",
        /// The UDP port to send from and listen on. Default: 443, or 4501 in the conventional method.
        port: u16 = "443",
        /// The addresses of this machine to listen on and to send from. Default: all.
        listen: List<IpAddr> = "[\"2001:db8::5\"]",
        /// This machine's addresses that peers may reach. Default: `listen`, or those from which the AS is reached,
        /// followed when they change.
        addresses: List<IpAddr> = "[\"2001:db8::5\"]",
        /// The prefix of a NAT64 in this machine's network, a /96, so that IPv4 can be reached without an IPv4 address.
        /// Optional.
        nat64: Parsed<Ipv6Net> = "\"64:ff9b::/96\"",
        /// How packets are carried in QUIC: "compact" or "datagram" (DATAGRAM frames, without and with the paper's
        /// header), or "stream". Default: "compact".
        framing: Framing = "\"compact\"",
        /// What to do when this node or a peer moves to another network: "rebuild" (another connection), "migrate" (the
        /// QUIC client migrates) or "seamless" (one connection, with paths beneath it). Two nodes use the lower of
        /// their two. The conventional method always rebuilds. Default: "seamless".
        handover: Handover = "\"seamless\"",
        /// What to wait for while a tunnel comes up: "paper" (the paper's sequences), "confirmed" (the NMS waits for
        /// the responder's Confirmation, as in the conventional method) or "fast" (packets follow the Tunnel Request
        /// at once). Two nodes use the lower of their two. The conventional method has "paper" only. Default: "fast".
        signaling: Signaling = "\"fast\"",
        /// The congestion control of the QUIC connections between nodes: "new-reno", which RFC 9221 asks for in every
        /// framing, or "none". Default: "new-reno" for "stream", whose losses the flows inside never see; "none"
        /// otherwise, because those flows have their own.
        congestion: Congestion = "\"none\"",
        /// The name in the AS's certificate. Default: as.ZONE.
        as_name: Parsed<Fqdn> = "\"as.cyphonic.test\"",
        /// The name in the NMS's certificate. Default: nms.ZONE.
        nms_name: Parsed<Fqdn> = "\"nms.cyphonic.test\"",
        /// The name in the TRS's certificate. Default: trs.ZONE.
        trs_name: Parsed<Fqdn> = "\"trs.cyphonic.test\"",
        /// The range of virtual IPv4 addresses. Default: 198.18.0.0/16.
        overlay_v4: Parsed<Ipv4Net> = "\"198.18.0.0/16\"",
        /// The range of virtual IPv6 addresses, a /64. Default: 2001:db8:c::/64.
        overlay_v6: Parsed<Ipv6Net> = "\"2001:db8:c::/64\"",
        /// Where the node answers DNS, in the IPv4 range. Default: its first host.
        dns_v4: Parsed<Ipv4Addr> = "\"198.18.0.1\"",
        /// Where the node answers DNS, in the IPv6 range. Default: its first host.
        dns_v6: Parsed<Ipv6Addr> = "\"2001:db8:c::1\"",
        /// How the system gets the node's DNS server: "auto" (resolvectl where systemd-resolved runs), "resolved",
        /// "resolv-conf" (rewrite /etc/resolv.conf: containers, namespaces) or "none" (only log how). Default: "auto".
        dns: Dns = "\"auto\"",
        /// The virtual interface's name. Default: "cyphonic0".
        tun: Parsed<Short> = "\"cyphonic0\"",
        /// The virtual interface's MTU. Default: the largest packet that fits 1,500 bytes of IPv6: 1406 compact, 1374
        /// datagram (8 more unless `handover` is "seamless"), 1404 otherwise.
        mtu: u16 = "1406",
        /// Where `cyphonic status` and `cyphonic ping` ask. Default: /run/cyphonic/node.sock.
        control: PathBuf = "\"/run/cyphonic/node.sock\"",
        /// Seconds after which an idle QUIC connection sends a keep-alive, so that NAT mappings do not expire. Default:
        /// 10.
        keep_alive: u64 = "10",
        /// Seconds without a received packet after which a QUIC connection is lost. Default: 30.
        idle_timeout: u64 = "30",
        /// The largest UDP payload to try, bytes. Default: 1452, which fills IPv6 over Ethernet.
        max_udp_payload: u16 = "1452",
        /// Reach the services by TCP where a network lets no UDP out (proposed method). Default: true.
        tcp: bool = "true",
        /// The server name that a network sees in these TCP connections, in place of the service's. The certificate
        /// must name the service nevertheless. Default: the service's name.
        tcp_name: Parsed<Fqdn> = "\"www.example\"",
        /// An HTTP proxy for these TCP connections: http://HOST:PORT; or "none", whatever the environment says.
        /// Default: HTTPS_PROXY of the environment.
        proxy: String = "\"http://192.0.2.8:3128\"",
        /// A file with USER:PASSWORD for the proxy (Basic authentication), readable by its owner only. Optional.
        proxy_credentials: PathBuf = "\"proxy-credentials\"",
        /// Allow users of the control socket to capture all packets, with the secrets that decrypt them
        /// (`cyphonic capture`). For tests only. Default: false.
        allow_capture: bool = "false",
    }
}

settings! {
    /// The settings of the AS.
    AuthSettings "as" {
        /// Its certificate and those between it and the root (PEM).
        certificate: PathBuf = "\"as.cyphonic.test.pem\"",
        /// The certificate's key (PEM, readable by its owner only).
        key: PathBuf = "\"as.cyphonic.test.key\"",
        /// The database that it shares with the NMS (SQLite; made if it is not there).
        database: PathBuf = "\"cyphonic.db\"",
        /// The NMS: IP:PORT, both families if it has both. Every node gets these addresses.
        nms: List<SocketAddr> = "[\"[2001:db8::3]:443\", \"192.0.2.3:443\"]",
        /// The NMS in the conventional method. Default: the same addresses, port 4501.
        nms_conventional: List<SocketAddr> = "[\"[2001:db8::3]:4501\", \"192.0.2.3:4501\"]",
        /// Its name. Default: as.ZONE.
        name: Parsed<Fqdn> = "\"as.cyphonic.test\"",
        /// The addresses of this machine to listen on, so that services can share it. Default: all.
        listen: List<IpAddr> = "[\"2001:db8::2\", \"192.0.2.2\"]",
        /// The port, TCP and UDP. Default: 443.
        port: u16 = "443",
        /// Serve nodes whose networks let no UDP out by TCP. Default: true.
        tcp: bool = "true",
        /// The authority's folder, without root.key. With it the AS gives invited devices their first certificate
        /// (`cyphonic device invite`, `cyphonic signup`). Optional.
        ca: PathBuf = "\"pki\"",
        /// A file with the passphrase of the authority's keys, readable by its owner only. Needed if they are sealed
        /// (`cyphonic ca passphrase`).
        ca_passphrase_file: PathBuf = "\"passphrase\"",
        /// The TCP port of that. Default: 4433.
        signup_port: u16 = "4433",
        /// The range of virtual IPv4 addresses. Default: 198.18.0.0/16.
        overlay_v4: Parsed<Ipv4Net> = "\"198.18.0.0/16\"",
        /// The range of virtual IPv6 addresses, a /64. Default: 2001:db8:c::/64.
        overlay_v6: Parsed<Ipv6Net> = "\"2001:db8:c::/64\"",
        /// After how many days the virtual addresses of a removed device may go to a new name, once no others are left
        /// and its last certificate has ended; the same at the NMS. Default: 365.
        free_after: u64 = "365",
    }
}

settings! {
    /// The settings of the NMS.
    NmsSettings "nms" {
        /// Its certificate and those between it and the root (PEM).
        certificate: PathBuf = "\"nms.cyphonic.test.pem\"",
        /// The certificate's key (PEM, readable by its owner only).
        key: PathBuf = "\"nms.cyphonic.test.key\"",
        /// The database that it shares with the AS (SQLite; made if it is not there).
        database: PathBuf = "\"cyphonic.db\"",
        /// The TRS: IP:PORT, both families. Optional: without it, nodes that cannot reach each other directly have no
        /// tunnel.
        trs: List<SocketAddr> = "[\"[2001:db8::4]:443\", \"192.0.2.4:443\"]",
        /// The TRS in the conventional method. Default: the same addresses, port 4501.
        trs_conventional: List<SocketAddr> = "[\"[2001:db8::4]:4501\", \"192.0.2.4:4501\"]",
        /// How it chooses routes: "optimal" (from what is observed of both networks; nodes behind NATs are brought
        /// together directly where that can be), or "paper" (Table 1). Default: "optimal".
        policy: Policy = "\"optimal\"",
        /// A second UDP port, which nodes use to learn how their NATs behave; only under the optimal policy. Default:
        /// 3478.
        probe_port: u16 = "3478",
        /// The key that it shares with the TRS (32 hexadecimal digits, readable by its owner only). Optional without a
        /// TRS.
        service_key: PathBuf = "\"service.key\"",
        /// How the TRS relays in the proposed method: "blind" (it can read nothing) or "terminating" (as the paper has
        /// it); the same there. Default: "blind".
        relay: Relay = "\"blind\"",
        /// Whether it grants two nodes the TRS for an hour at a time; the same at the TRS. Default: true.
        grants: bool = "true",
        /// A file of access rules: which nodes may talk to which (`cyphonic rules`). It is read again when it changes.
        /// Optional: without it everybody may talk to everybody.
        rules: PathBuf = "\"rules.toml\"",
        /// The name in the TRS's certificate. Default: trs.ZONE.
        trs_name: Parsed<Fqdn> = "\"trs.cyphonic.test\"",
        /// The name in the AS's certificate, for `crl-from`. Default: as.ZONE.
        as_name: Parsed<Fqdn> = "\"as.cyphonic.test\"",
        /// Its name. Default: nms.ZONE.
        name: Parsed<Fqdn> = "\"nms.cyphonic.test\"",
        /// The addresses of this machine to listen on, so that services can share it. Default: all.
        listen: List<IpAddr> = "[\"2001:db8::3\", \"192.0.2.3\"]",
        /// The port of the proposed method: UDP, and TCP for nodes whose networks let no UDP out. Default: 443.
        port: u16 = "443",
        /// Serve those nodes. Default: true.
        tcp: bool = "true",
        /// The UDP port of the conventional method. Default: 4501.
        conventional_port: u16 = "4501",
        /// Its own addresses, from which it speaks to the TRS. Default: `listen`, or those of this machine's
        /// interfaces.
        addresses: List<IpAddr> = "[\"2001:db8::3\", \"192.0.2.3\"]",
        /// Where `cyphonic fleet` asks. Optional.
        control: PathBuf = "\"/run/cyphonic/nms.sock\"",
        /// The range of virtual IPv4 addresses. Default: 198.18.0.0/16.
        overlay_v4: Parsed<Ipv4Net> = "\"198.18.0.0/16\"",
        /// The range of virtual IPv6 addresses, a /64. Default: 2001:db8:c::/64.
        overlay_v6: Parsed<Ipv6Net> = "\"2001:db8:c::/64\"",
        /// After how many days the virtual addresses of a removed device may go to a new name, once no others are left
        /// and its last certificate has ended; the same at the AS. Default: 365.
        free_after: u64 = "365",
    }
}

settings! {
    /// The settings of the TRS.
    TrsSettings "trs" {
        /// Its certificate and those between it and the root (PEM).
        certificate: PathBuf = "\"trs.cyphonic.test.pem\"",
        /// The certificate's key (PEM, readable by its owner only).
        key: PathBuf = "\"trs.cyphonic.test.key\"",
        /// The key that it shares with the NMS (32 hexadecimal digits, readable by its owner only).
        service_key: PathBuf = "\"service.key\"",
        /// The TRS's own database, for the last epoch that it accepted (SQLite; made if it does not exist). It is not
        /// that of AS and NMS. Default: none; then the TRS relies on its clock, which must not be behind the NMS's.
        database: PathBuf = "\"trs.db\"",
        /// How it relays in the proposed method: "blind" (it can read nothing) or "terminating" (as the paper has it);
        /// the same at the NMS. Default: "blind".
        relay: Relay = "\"blind\"",
        /// Whether it relays between two nodes only with a grant of the NMS, and for as long as that lasts; the same at
        /// the NMS. Default: true.
        grants: bool = "true",
        /// Bytes a second that one node may send through it; more is dropped. Default: 125000000 (1 Gbit/s).
        relay_rate: u64 = "125000000",
        /// Bytes an hour that one node may send through it; more is dropped. Default: no limit.
        relay_hourly: u64 = "100000000000",
        /// The congestion control of its QUIC connections with nodes when it ends them (`relay = "terminating"`):
        /// "new-reno", or "none". Set what the nodes have. Default: "none".
        congestion: Congestion = "\"none\"",
        /// The name in the AS's certificate, for `crl-from`. Default: as.ZONE.
        as_name: Parsed<Fqdn> = "\"as.cyphonic.test\"",
        /// Its name. Default: trs.ZONE.
        name: Parsed<Fqdn> = "\"trs.cyphonic.test\"",
        /// The addresses of this machine to listen on, so that services can share it. Default: all.
        listen: List<IpAddr> = "[\"2001:db8::4\", \"192.0.2.4\"]",
        /// The port of the proposed method: UDP, and TCP for nodes whose networks let no UDP out. Default: 443.
        port: u16 = "443",
        /// Serve those nodes. Default: true.
        tcp: bool = "true",
        /// The UDP port of the conventional method. Default: 4501.
        conventional_port: u16 = "4501",
    }
}

/// Keys that are needed only together with others.
trait Beside {
    /// The first of them that is needed and not set.
    fn lacks_beside(&self) -> Option<&'static str> {
        None
    }
}

impl Beside for NodeSettings {
    fn lacks_beside(&self) -> Option<&'static str> {
        if self.login == Some(Login::Password) {
            return self.password_file.is_none().then_some("password_file");
        }
        let files = [(&self.certificate, "certificate"), (&self.key, "key")];
        files.into_iter().find(|(file, _)| file.is_none()).map(|(_, field)| field)
    }
}

impl Beside for AuthSettings {}

impl Beside for NmsSettings {
    fn lacks_beside(&self) -> Option<&'static str> {
        (self.trs.is_some() && self.service_key.is_none()).then_some("service_key")
    }
}

impl Beside for TrsSettings {}
