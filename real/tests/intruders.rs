//! Attacks on a daemon of this machine, by a stranger on the network or by another local user. Each test runs the
//! program on loopback, so it needs no privileges.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_cyphonic");

fn fine(folder: &Path, arguments: &[&str]) {
    let output = Command::new(PROGRAM).args(arguments).current_dir(folder).env_clear().output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The first result of `look` within this many seconds.
fn until<T>(seconds: u64, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + Duration::from_secs(seconds);
    loop {
        match look() {
            None if Instant::now() < end => std::thread::sleep(Duration::from_millis(50)),
            found => return found,
        }
    }
}

/// An AS on loopback with the folder of its authority. It ends when this is dropped.
struct Service {
    folder: tempfile::TempDir,
    child: Child,
    port: u16,
}

impl Service {
    /// Starts it under these limits of descriptors: the soft one, and the hard one.
    fn start(soft: u32, hard: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fine(folder.path(), &["ca", "init"]);
        fine(folder.path(), &["ca", "issue", "as.cyphonic.test", "a.cyphonic.test"]);
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let paper = |end: &str| format!("pki/as.cyphonic.test.{end}");
        let script = format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$@\"");
        let mut command = Command::new("bash");
        command.args(["-c", &script, "bash", PROGRAM, "as", "--listen", "127.0.0.1", "--port", &port.to_string()]);
        command.args(["--certificate", &paper("pem"), "--key", &paper("key"), "--roots", "pki/root.pem"]);
        command.args(["--crl", "pki/crl.pem", "--database", "cyphonic.db", "--nms", "127.0.0.1:9"]);
        let log = fs::File::create(folder.path().join("log")).unwrap();
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let child = command.current_dir(folder.path()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let service = Self { folder, child, port };
        assert!(until(10, || service.log().contains("ready").then_some(())).is_some(), "{}", service.log());
        service
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// The soft and the hard limit of this name.
    fn limit(&self, name: &str) -> [String; 2] {
        let limits = fs::read_to_string(format!("/proc/{}/limits", self.child.id())).unwrap();
        let limit = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        let mut words = limit.split_whitespace().map(str::to_owned);
        [words.next().unwrap(), words.next().unwrap()]
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_stranger_with_idle_connections_does_not_keep_a_service_from_reading_what_was_revoked() {
    let service = Service::start(128, 128);
    let idle: Vec<_> = (0..300)
        .map_while(|_| TcpStream::connect_timeout(&([127, 0, 0, 1], service.port).into(), Duration::from_secs(1)).ok())
        .collect();
    assert!(idle.len() > 100, "{}", idle.len());
    fine(service.folder.path(), &["ca", "revoke", "a.cyphonic.test"]);
    let read = until(8, || service.log().contains("revoked certificates were read again").then_some(()));
    assert!(read.is_some(), "{}", service.log());
    assert!(!service.log().contains("ERROR"), "{}", service.log());
    drop(idle);
}

#[test]
fn a_daemon_takes_as_many_descriptors_as_it_may_have() {
    assert_eq!(Service::start(64, 256).limit("Max open files"), ["256", "256"]);
}

#[test]
fn a_daemon_leaves_no_core_with_keys_in_it() {
    assert_eq!(Service::start(64, 256).limit("Max core file size"), ["0", "0"]);
}

#[test]
fn a_task_that_ends_by_itself_ends_the_daemon_with_an_error() {
    let result = cyphonic::run::serve(async {
        cyphonic::tasks::forever("follows the moon", async {});
        cyphonic::tasks::death().await;
        Ok(())
    });
    assert!(result.unwrap_err().to_string().contains("the task that follows the moon has ended"));
}
