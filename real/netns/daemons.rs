//! The daemons of a lab: their keys and configurations, and the processes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use cyphonic::ca::{self, Ca};
use cyphonic::control;
use cyphonic::error::{Code, Failure};
use cyphonic::files;
use cyphonic_core::name::Fqdn;
use cyphonic_core::rules::Rules;
use cyphonic_scenarios::log::Entry;
use cyphonic_scenarios::{Login, Method, Policy, Scenario, Service, VIRTUAL_V4, VIRTUAL_V6, ZONE};
use rustix::process::{Pid, Signal, kill_process};

use super::build::{self, Lab};
use super::layout::{addresses_of, node_host, sites_of};

/// How long a service may take until it can serve.
const SERVICE_TIMEOUT: Duration = Duration::from_secs(20);
/// The AS's TCP port in the conventional method.
const LOGIN_PORT: u16 = 443;
/// The NMS's file of access rules.
const RULES: &str = "rules.toml";
/// How long the NMS may take to read its rules again: it looks at the file once a second, and at a SIGHUP.
const RELOAD: Duration = Duration::from_secs(3);
/// How long a daemon may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(5);

/// AS, NMS, TRS and nodes of a lab.
pub(super) struct Daemons<'a> {
    lab: &'a Lab,
    scenario: &'a Scenario,
    program: PathBuf,
    running: Mutex<BTreeMap<String, Child>>,
}

/// A daemon that was started: where it will tell that it does its work.
pub(super) struct Starting {
    host: String,
    notices: UnixDatagram,
}

impl<'a> Daemons<'a> {
    /// Makes keys, the database and configurations; no process yet.
    pub(super) fn new(lab: &'a Lab, scenario: &'a Scenario, program: &Path) -> Result<Self, Failure> {
        let folder = lab.folder();
        let zone: Fqdn = ZONE.parse().expect("the zone is a name");
        ca::init(&folder.join("pki"), &zone)?;
        let authority = Ca::open(&folder.join("pki"))?;
        let services = ["as", "nms", "trs"].map(|service| format!("{service}.{ZONE}").parse().expect("a name"));
        for name in services.iter().chain(scenario.nodes.iter().map(|node| &node.name)) {
            authority.issue(name, 1, false)?;
        }
        let daemons = Self { lab, scenario, program: program.to_owned(), running: Mutex::default() };
        daemons.devices()?;
        for (service, text) in [("as", daemons.auth()), ("nms", daemons.nms()), ("trs", daemons.trs())] {
            daemons.write(service, &format!("{service}.{ZONE}"), &text)?;
        }
        if scenario.rules.are_set() {
            daemons.write_rules(&scenario.rules)?;
        }
        for node in 0..scenario.nodes.len() {
            daemons.write(node_host(scenario, node), scenario.nodes[node].name.as_str(), &daemons.node(node))?;
        }
        Ok(daemons)
    }

    fn devices(&self) -> Result<(), Failure> {
        let folder = self.lab.folder();
        let mut command = Command::new(&self.program);
        command.args(["device", "add", "--database"]).arg(folder.join("cyphonic.db"));
        command.args(self.scenario.nodes.iter().map(|node| node.name.as_str()));
        if self.scenario.login == Login::Password {
            // As long as the simulator's.
            let mut random = [0; 32];
            getrandom::fill(&mut random).map_err(Failure::other)?;
            let password = random.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
            files::write_secret(&folder.join("password"), &password)?;
            command.arg("--password-file").arg(folder.join("password"));
        }
        build::run(&mut command, "")
    }

    fn write(&self, host: &str, name: &str, text: &str) -> Result<(), Failure> {
        let credentials = format!(
            "certificate = \"pki/{name}.pem\"\nkey = \"pki/{name}.key\"\nroots = \"pki/root.pem\"\n\
             event-log = \"{host}.jsonl\"\nlog = \"info,cyphonic=debug\"\n"
        );
        // The TRS gives out no addresses.
        let overlay = format!("overlay-v4 = \"{VIRTUAL_V4}\"\noverlay-v6 = \"{VIRTUAL_V6}\"\n");
        let overlay = if host == "trs" { "" } else { &overlay };
        let path = self.lab.folder().join(format!("{host}.toml"));
        fs::write(&path, credentials + overlay + text)
            .map_err(|error| Failure::new(Code::Config, format!("{}: {error}", path.display()), "run as root"))
    }

    /// Replaces the NMS's file of access rules in one step, so that the NMS never reads half of it.
    fn write_rules(&self, rules: &Rules) -> Result<(), Failure> {
        let path = self.lab.folder().join(RULES);
        let new = path.with_extension("new");
        fs::write(&new, rules_text(rules))
            .and_then(|()| fs::rename(&new, &path))
            .map_err(|error| Failure::new(Code::Config, format!("{}: {error}", path.display()), "run as root"))
    }

    /// Changes the access rules, and waits until the NMS says that it has read them.
    pub(super) fn change_rules(&self, rules: &Rules) -> Result<(), Failure> {
        let said = || {
            let text = fs::read_to_string(self.lab.folder().join("nms.log")).unwrap_or_default();
            text.matches("access rules were read again").count()
        };
        let before = said();
        self.write_rules(rules)?;
        self.signal("nms", Signal::HUP);
        let end = Instant::now() + RELOAD;
        while said() == before {
            if Instant::now() >= end {
                let what = format!("the NMS did not read its rules again: {}", self.last_lines("nms"));
                return Err(Failure::new(Code::Other, what, "look at its log with --keep"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// The ports of both methods at NMS and TRS; the scenario has the one of its own method.
    fn ports(&self) -> (u16, u16) {
        let (port, other) =
            (self.scenario.port, |wanted: u16| if self.scenario.port == wanted { wanted + 1 } else { wanted });
        match self.scenario.method {
            Method::Conventional => (other(LOGIN_PORT), port),
            Method::Proposed => (port, other(4501)),
        }
    }

    fn auth(&self) -> String {
        let (port, conventional) = self.ports();
        let nms = &self.scenario.services.nms;
        let own = if self.scenario.method == Method::Conventional { LOGIN_PORT } else { port };
        format!(
            "database = \"cyphonic.db\"\nport = {own}\nnms = {}\nnms-conventional = {}\n",
            places(nms, port),
            places(nms, conventional)
        )
    }

    fn nms(&self) -> String {
        let (port, conventional) = self.ports();
        let services = &self.scenario.services;
        format!(
            "database = \"cyphonic.db\"\nservice-key = \"pki/service.key\"\nport = {port}\nconventional-port = {conventional}\n\
             addresses = [\"{}\", \"{}\"]\ntrs = {}\ntrs-conventional = {}\npolicy = \"{}\"\ngrants = {}\nrelay = \"{}\"\n{}",
            services.nms.v6,
            services.nms.v4,
            places(&services.trs, port),
            places(&services.trs, conventional),
            self.scenario.policy,
            self.has_grants(),
            self.relay(),
            if self.scenario.rules.are_set() { format!("rules = \"{RULES}\"\n") } else { String::new() },
        )
    }

    fn trs(&self) -> String {
        let (port, conventional) = self.ports();
        format!(
            "service-key = \"pki/service.key\"\nport = {port}\nconventional-port = {conventional}\nrelay = \"{}\"\n\
             grants = {}\ncongestion = \"{}\"\n",
            self.relay(),
            self.has_grants(),
            self.scenario.congestion,
        )
    }

    /// As in the simulator.
    fn has_grants(&self) -> bool {
        self.scenario.policy == cyphonic_scenarios::Policy::Optimal
    }

    fn relay(&self) -> &'static str {
        match self.scenario.relay_mode {
            cyphonic_core::message::RelayMode::Blind => "blind",
            cyphonic_core::message::RelayMode::Terminating => "terminating",
        }
    }

    fn node(&self, node: usize) -> String {
        let scenario = self.scenario;
        let words = &scenario.nodes[node];
        let as_port = if scenario.method == Method::Conventional { LOGIN_PORT } else { scenario.port };
        let mut text = format!(
            "name = \"{}\"\nmethod = \"{}\"\nport = {}\nas-addresses = {}\nmtu = {}\n\
             control = \"{}.sock\"\ndns = \"resolv-conf\"\n",
            words.name,
            scenario.method,
            scenario.port,
            places(&scenario.services.auth, as_port),
            scenario.tun_mtu,
            words.name.short(),
        );
        // A node that moves follows its addresses.
        if sites_of(scenario, node).len() == 1 {
            let addresses: Vec<String> =
                words.interfaces.iter().flat_map(addresses_of).map(|address| format!("\"{address}\"")).collect();
            let _ = writeln!(text, "addresses = [{}]", addresses.join(", "));
        }
        match (scenario.method, scenario.login) {
            (Method::Proposed, _) => {
                if let Some(name) = &words.tcp_name {
                    let _ = writeln!(text, "tcp-name = \"{name}\"");
                }
                let _ = writeln!(
                    text,
                    "framing = \"{}\"\ncongestion = \"{}\"\nhandover = \"{}\"\nsignaling = \"{}\"\ntcp = {}",
                    scenario.framing.name(),
                    scenario.congestion,
                    scenario.handover.name(),
                    scenario.signaling.name(),
                    // As in the simulator: the paper's nodes know no other way than UDP.
                    scenario.policy == Policy::Optimal
                );
            }
            (Method::Conventional, Login::Password) => {
                text.push_str("login = \"password\"\npassword-file = \"password\"\n");
            }
            (Method::Conventional, Login::Certificate) => {}
        }
        text
    }

    /// Starts AS, NMS and TRS, and waits until they serve.
    pub(super) fn serve(&self) -> Result<(), Failure> {
        let starting = ["as", "nms", "trs"].map(|service| self.start(service));
        for started in starting {
            self.wait(&started?, SERVICE_TIMEOUT)?
                .then_some(())
                .ok_or_else(|| Failure::other("a service does not serve"))?;
        }
        Ok(())
    }

    /// Starts a daemon. Of a node the notice is that it is registered.
    pub(super) fn start(&self, host: &str) -> Result<Starting, Failure> {
        let folder = self.lab.folder();
        let socket = folder.join(format!("{host}.notify"));
        let _ = fs::remove_file(&socket);
        let notices = UnixDatagram::bind(&socket).map_err(Failure::other)?;
        let log = File::options().create(true).append(true).mode(0o600).open(folder.join(format!("{host}.log")));
        let role = if ["as", "nms", "trs"].contains(&host) { host } else { "node" };
        let mut command = self.lab.command(host, &self.program);
        command.arg(role).arg("--config").arg(folder.join(format!("{host}.toml")));
        command.env("NOTIFY_SOCKET", &socket).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(log.map_err(Failure::other)?).spawn().map_err(Failure::other)?;
        self.running.lock().expect("no holder panics").insert(host.to_owned(), child);
        Ok(Starting { host: host.to_owned(), notices })
    }

    /// Waits until a daemon does its work: false if it takes longer, an error if it ended.
    pub(super) fn wait(&self, starting: &Starting, timeout: Duration) -> Result<bool, Failure> {
        let end = Instant::now() + timeout;
        let _ = starting.notices.set_read_timeout(Some(Duration::from_millis(100)));
        let mut buffer = [0; 1024];
        while Instant::now() < end {
            if let Ok(length) = starting.notices.recv(&mut buffer)
                && String::from_utf8_lossy(&buffer[..length]).lines().any(|line| line == "READY=1")
            {
                return Ok(true);
            }
            let mut running = self.running.lock().expect("no holder panics");
            if let Some(child) = running.get_mut(&starting.host)
                && let Ok(Some(status)) = child.try_wait()
            {
                let what = format!("{} ended ({status}): {}", starting.host, self.last_lines(&starting.host));
                return Err(Failure::new(Code::Other, what, "look at its log with --keep"));
            }
        }
        Ok(false)
    }

    /// Whether a node says that these are its addresses; nothing if it does not run.
    pub(super) fn knows_its_addresses(&self, host: &str, addresses: &[IpAddr]) -> Option<bool> {
        let said = control::status(&self.lab.folder().join(format!("{host}.sock")), true).ok()?;
        let said: serde_json::Value = serde_json::from_str(&said).ok()?;
        let known = said["addresses"].as_array()?.iter().filter_map(serde_json::Value::as_str);
        Some(known.eq(addresses.iter().map(IpAddr::to_string)))
    }

    /// A crash, and another life with the same files.
    pub(super) fn restart(&self, host: &str) -> Result<(), Failure> {
        self.kill(host);
        self.start(host).map(drop)
    }

    /// A crash, and another life with a new certificate.
    pub(super) fn renew(&self, host: &str, name: &Fqdn) -> Result<(), Failure> {
        self.kill(host);
        Ca::open(&self.lab.folder().join("pki"))?.issue(name, 1, true)?;
        self.start(host).map(drop)
    }

    /// Tells a daemon something, if it runs.
    pub(super) fn signal(&self, host: &str, signal: Signal) {
        if let Some(child) = self.running.lock().expect("no holder panics").get(host) {
            let _ = kill_process(Pid::from_child(child), signal);
        }
    }

    /// A crash.
    pub(super) fn kill(&self, host: &str) {
        if let Some(mut child) = self.running.lock().expect("no holder panics").remove(host) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Ends all in order, nodes first; says who did not.
    pub(super) fn stop(&self) -> Result<(), Failure> {
        let mut running = std::mem::take(&mut *self.running.lock().expect("no holder panics"));
        let is_service = |host: &String| ["as", "nms", "trs"].contains(&host.as_str());
        let mut bad = Vec::new();
        for services in [false, true] {
            for child in running.iter().filter(|(host, _)| is_service(host) == services).map(|(_, child)| child) {
                let _ = kill_process(Pid::from_child(child), Signal::TERM);
            }
            for (host, child) in running.iter_mut().filter(|(host, _)| is_service(host) == services) {
                let status = wait_until(child, Instant::now() + GOODBYE);
                if !status.is_some_and(|status| status.success()) {
                    bad.push(format!("{host}: {}", self.last_lines(host)));
                }
            }
        }
        if bad.is_empty() { Ok(()) } else { Err(Failure::other(format!("did not end in order: {}", bad.join("; ")))) }
    }

    /// All that the daemons logged, in order of time.
    pub(super) fn entries(&self) -> Result<Vec<Entry>, Failure> {
        let nodes = (0..self.scenario.nodes.len()).map(|node| node_host(self.scenario, node));
        let mut entries = Vec::new();
        for host in ["as", "nms", "trs"].into_iter().chain(nodes) {
            // A node that was never started has none.
            let text = fs::read_to_string(self.lab.folder().join(format!("{host}.jsonl"))).unwrap_or_default();
            entries.extend(Entry::read(&text).map_err(|error| Failure::other(format!("{host}.jsonl: {error}")))?);
        }
        entries.sort_by_key(|entry| entry.at_ns);
        Ok(entries)
    }

    fn last_lines(&self, host: &str) -> String {
        let text = fs::read_to_string(self.lab.folder().join(format!("{host}.log"))).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(3).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
    }
}

impl Drop for Daemons<'_> {
    fn drop(&mut self) {
        let Ok(running) = self.running.get_mut() else { return };
        for child in running.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// How a process ended, if it does before then; otherwise it is killed.
pub(super) fn wait_until(child: &mut Child, end: Instant) -> Option<std::process::ExitStatus> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(5)),
            Ok(None) | Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    }
}

/// A service's addresses with a port, IPv6 first, in TOML.
fn places(service: &Service, port: u16) -> String {
    format!("[\"[{}]:{port}\", \"{}:{port}\"]", service.v6, service.v4)
}

/// A list of texts in TOML.
fn list<T: std::fmt::Display>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(|item| format!("\"{item}\"")).collect();
    format!("[{}]", items.join(", "))
}

/// Access rules as the NMS reads them.
fn rules_text(rules: &Rules) -> String {
    if rules.is_open() {
        return "default = \"open\"\n".to_owned();
    }
    let mut text = "default = \"closed\"\n".to_owned();
    for allow in rules.allow() {
        let _ = writeln!(text, "[[allow]]\nfrom = {}\nto = {}", list(&allow.from), list(&allow.to));
        if !allow.services.is_empty() {
            let _ = writeln!(text, "services = {}", list(&allow.services));
        }
    }
    text
}

/// Makes a lab's folder, which only its owner can read.
pub(super) fn folder(lab: &Lab) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt;
    let made =
        fs::DirBuilder::new().recursive(true).mode(0o700).create(lab.folder()).and_then(|()| {
            File::create(lab.folder().join("pid"))?.write_all(std::process::id().to_string().as_bytes())
        });
    made.map_err(|error| Failure::new(Code::Permission, format!("{}: {error}", lab.folder().display()), "run as root"))
}

#[cfg(test)]
mod tests {
    use cyphonic_core::rules::Allow;

    use super::*;

    #[test]
    fn the_nms_reads_the_rules_of_a_scenario_as_they_are() {
        let glob = |text: &str| vec![text.parse().unwrap()];
        let services = ["tcp/443", "udp/8000-8010", "icmp"].map(|text| text.parse().unwrap()).to_vec();
        let some = Allow { from: glob("a*.example"), to: glob("b.example"), services };
        let all = Allow { from: glob("*"), to: glob("c.example"), services: Vec::new() };
        let folder = tempfile::tempdir().unwrap();
        for rules in [Rules::closed(vec![some, all]).unwrap(), Rules::closed(Vec::new()).unwrap(), Rules::open()] {
            let path = folder.path().join(RULES);
            fs::write(&path, rules_text(&rules)).unwrap();
            assert_eq!(cyphonic::run::read_rules(&path).unwrap(), rules);
        }
    }
}
