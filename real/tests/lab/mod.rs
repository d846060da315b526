//! A network of namespaces with daemons in it, for tests: `netns/lab.sh`, and operations on it.

#![allow(dead_code, reason = "each test program uses its part")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const TOOLS: [&str; 12] =
    ["ip", "nft", "socat", "tcpdump", "ping", "ss", "getent", "dig", "drill", "tinyproxy", "curl", "python3"];
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/netns/lab.sh");
const PROGRAM: &str = env!("CARGO_BIN_EXE_cyphonic");

/// The reason why the lab cannot run here.
pub(crate) fn obstacle() -> Option<String> {
    let output = |program: &str, arguments: &[&str]| Command::new(program).args(arguments).output().ok();
    let id = output("id", &["-u"])?;
    if id.stdout != b"0\n" {
        return Some("it needs root".to_owned());
    }
    if !Path::new("/dev/net/tun").exists() {
        return Some("there is no /dev/net/tun".to_owned());
    }
    let lacks = |tool: &&&str| {
        let found = Command::new("sh").args(["-c", &format!("command -v {tool}")]).output();
        !found.is_ok_and(|output| output.status.success())
    };
    let missing: Vec<_> = TOOLS.iter().filter(lacks).copied().collect();
    if !missing.is_empty() {
        return Some(format!("missing: {}", missing.join(" ")));
    }
    let may = output("unshare", &["--net", "true"]).is_some_and(|output| output.status.success());
    (!may).then(|| "no network namespace can be made".to_owned())
}

/// The library that shows a program another time.
pub(crate) fn faketime() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).find(|library| library.exists())
}

/// Prints that a test cannot run here. With `CYPHONIC_SKIP_NOTHING` set, that is a failure.
pub(crate) fn skipped(why: &str) {
    assert!(std::env::var_os("CYPHONIC_SKIP_NOTHING").is_none(), "skipped: {why}");
    eprintln!("skipped: {why}");
}

/// A lab. It is taken down when this is dropped.
pub(crate) struct Lab {
    name: String,
    folder: tempfile::TempDir,
    children: Vec<Child>,
}

impl Lab {
    /// Builds a lab and starts these daemons, out of "as nms trs a b". If none can be built, prints why and returns
    /// none.
    pub(crate) fn up(name: &str, pattern: &str, method: &str, start: &str) -> Option<Self> {
        Self::up_under(name, pattern, method, start, "paper")
    }

    /// As [`Self::up`], under this policy.
    pub(crate) fn up_under(name: &str, pattern: &str, method: &str, start: &str, policy: &str) -> Option<Self> {
        if let Some(obstacle) = obstacle() {
            skipped(&format!("{name}, on real sockets: {obstacle}"));
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let lab = Self { name: format!("cf{name}{}", std::process::id()), folder, children: Vec::new() };
        let mut script = lab.script(&["up", pattern, method]);
        let output = script.env("LAB_START", start).env("LAB_POLICY", policy).output().unwrap();
        assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
        Some(lab)
    }

    fn script(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("bash");
        command.arg(SCRIPT).args(arguments).stdin(Stdio::null());
        command.env("CYPHONIC", PROGRAM).env("LAB", &self.name).env("LAB_DIR", self.path(""));
        command.env("CYPHONIC_IDLE_TIMEOUT", "12");
        command
    }

    /// A file of the lab.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        let lab = self.folder.path().join("lab");
        if file.is_empty() { lab } else { lab.join(file) }
    }

    /// A file of a namespace's own /etc.
    pub(crate) fn namespace_file(&self, host: &str, file: &str) -> PathBuf {
        Path::new("/etc/netns").join(format!("{}-{host}", self.name)).join(file)
    }

    /// A command in a namespace.
    pub(crate) fn within(&self, host: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &format!("{}-{host}", self.name), program]).stdin(Stdio::null());
        command.current_dir(self.path(""));
        command
    }

    /// A script in a namespace, which must succeed.
    #[track_caller]
    pub(crate) fn sh(&self, host: &str, script: &str) -> String {
        let output = self.within(host, "bash").args(["-euo", "pipefail", "-c", script]).output().unwrap();
        assert!(output.status.success(), "{script}: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    /// The command that runs a daemon.
    pub(crate) fn daemon(&self, host: &str, arguments: &[&str]) -> Command {
        let role = if matches!(host, "a" | "b") { "node" } else { host };
        let mut command = self.within(host, PROGRAM);
        command.arg(role).arg("--config").arg(self.path(&format!("{host}.toml"))).args(arguments);
        command.env("CYPHONIC_IDLE_TIMEOUT", "12");
        command
    }

    /// Starts a daemon. Its output goes to its log.
    pub(crate) fn start(&mut self, host: &str, arguments: &[&str]) {
        let command = self.daemon(host, arguments);
        self.run(host, command);
    }

    /// As [`Self::start`], by this command.
    pub(crate) fn run(&mut self, host: &str, mut command: Command) {
        let log = fs::OpenOptions::new().append(true).create(true).open(self.path(&format!("{host}.log"))).unwrap();
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        fs::write(self.path(&format!("{host}.pid")), child.id().to_string()).unwrap();
        self.children.push(child);
    }

    /// kill -9.
    #[track_caller]
    pub(crate) fn kill(&mut self, host: &str) {
        let pid = fs::read_to_string(self.path(&format!("{host}.pid"))).unwrap();
        let pid = pid.trim();
        assert!(Command::new("kill").args(["-9", pid]).status().unwrap().success(), "{host} does not run");
        if let Some(child) = self.children.iter_mut().find(|child| child.id().to_string() == pid) {
            child.wait().unwrap();
            return;
        }
        // The process is not our child. It is gone when only its name is left. Its threads end one by one.
        let is_gone = || {
            let process = Path::new("/proc").join(pid);
            let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
            let threads = fs::read_dir(process.join("task")).map_or(0, Iterator::count);
            (stat.is_empty() || stat.contains(") Z ") && threads <= 1).then_some(())
        };
        until(3, is_gone).unwrap();
    }

    /// The output of `cyphonic status` or `netcheck` of a node, with or without an error.
    pub(crate) fn ask(&self, node: &str, what: &[&str]) -> String {
        let mut command = Command::new(PROGRAM);
        let output = command.args(what).arg("--control").arg(self.path(&format!("{node}.sock"))).output().unwrap();
        text(&output.stdout) + &text(&output.stderr)
    }

    /// Waits until a node's status has all of these words.
    #[track_caller]
    pub(crate) fn until_status(&self, node: &str, seconds: u64, words: &[&str]) -> String {
        let mut last = String::new();
        let found = until(seconds, || {
            last = self.ask(node, &["status"]);
            words.iter().all(|word| last.contains(word)).then(|| last.clone())
        });
        found.unwrap_or_else(|| panic!("{node} does not say {words:?} but {last}\n{}", self.log(node)))
    }

    /// Waits until a node is registered.
    #[track_caller]
    pub(crate) fn until_registered(&self, node: &str, seconds: u64) -> String {
        self.until_status(node, seconds, &["  registered"])
    }

    /// Waits until a node is registered, its names are resolved, and a ping of another one is answered.
    #[track_caller]
    pub(crate) fn until_reached(&self, from: &str, to: &str) {
        self.until_registered(from, 10);
        let script = format!("ping -n -c 1 -W 12 {to}.cyphonic.test");
        let ping = || self.within(from, "bash").args(["-c", &script]).stdout(Stdio::null()).status().unwrap().success();
        assert!(
            until(10, || ping().then_some(())).is_some(),
            "{from} does not reach {to}: {}\n== {to}\n{}\n== trs\n{}\n== nms\n{}",
            self.log(from),
            self.log(to),
            self.log("trs"),
            self.log("nms")
        );
    }

    /// The log of a daemon.
    pub(crate) fn log(&self, host: &str) -> String {
        fs::read_to_string(self.path(&format!("{host}.log"))).unwrap_or_default()
    }

    /// The number of times that a daemon logged this.
    pub(crate) fn count(&self, host: &str, words: &str) -> usize {
        self.log(host).matches(words).count()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.script(&["down"]).output();
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The exit code and output of a daemon that ends by itself.
pub(crate) fn ends(mut command: Command) -> (i32, String) {
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let ended = until(16, || child.try_wait().unwrap());
    if ended.is_none() {
        let _ = child.kill();
    }
    let output = child.wait_with_output().unwrap();
    (output.status.code().unwrap_or(-1), text(&output.stderr))
}

/// The first result of `look` within this many seconds.
pub(crate) fn until<T>(seconds: u64, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + Duration::from_secs(seconds);
    loop {
        match look() {
            None if Instant::now() < end => std::thread::sleep(Duration::from_millis(100)),
            found => return found,
        }
    }
}

/// The output of a check of `lab.sh`.
pub(crate) fn check(name: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("bash");
    command.arg(SCRIPT).args(arguments).env("CYPHONIC", PROGRAM).env("LAB", name);
    command.envs(environment.iter().copied()).env("LAB_DIR", folder.path().join("lab")).output().unwrap()
}

/// Bytes as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
