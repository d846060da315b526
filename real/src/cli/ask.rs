//! `status`, `fleet`, `ping`, `netcheck` and `capture`: the commands that ask a running daemon through its control
//! socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::print;
use crate::control::{self, DEFAULT_SOCKET, NMS_SOCKET};
use crate::error::{Code, Failure};
use crate::net;
use crate::run;

#[derive(Args)]
struct Control {
    /// The node's control socket.
    #[arg(long, default_value = DEFAULT_SOCKET, env = "CYPHONIC_CONTROL")]
    control: PathBuf,
}

#[derive(Args)]
pub(super) struct StatusArgs {
    /// As JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    control: Control,
}

#[derive(Args)]
pub(super) struct FleetArgs {
    /// As JSON.
    #[arg(long)]
    json: bool,
    /// The NMS's control socket.
    #[arg(long, default_value = NMS_SOCKET, env = "CYPHONIC_CONTROL")]
    control: PathBuf,
}

#[derive(Args)]
pub(super) struct PingArgs {
    /// The peer: its name, or the first label of the name.
    name: String,
    /// Number of echoes.
    #[arg(short, long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Seconds between two echoes.
    #[arg(short, long, default_value_t = 1.0)]
    interval: f64,
    /// Print JSON, at the end.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    control: Control,
}

#[derive(Args)]
pub(super) struct CaptureArgs {
    /// The file, or - for standard output (`cyphonic capture - | wireshark -k -i -`).
    file: PathBuf,
    /// Seconds to capture. Default: until Ctrl-C.
    #[arg(short, long)]
    seconds: Option<f64>,
    /// Build every connection anew first. Wireshark decrypts a QUIC connection only if the capture has its handshake.
    #[arg(long)]
    rebuild: bool,
    #[command(flatten)]
    control: Control,
}

#[derive(Args)]
pub(super) struct NetcheckArgs {
    /// As JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    control: Control,
}

#[derive(Args)]
pub(super) struct RestoreArgs {
    /// Also remove the routes that make the overlay's range unreachable while no node runs.
    #[arg(long)]
    routes: bool,
    #[command(flatten)]
    control: Control,
}

pub(super) fn restore(args: &RestoreArgs) -> Result<(), Failure> {
    if std::os::unix::net::UnixStream::connect(&args.control.control).is_ok() {
        return Ok(());
    }
    if args.routes {
        run::block_on(net::forget())?;
    }
    run::put_back().map_err(|error| {
        let what = format!("/etc/resolv.conf cannot be put back: {error}");
        Failure::new(Code::Permission, what, "run with sudo; or take the two lines of cyphonic out by hand")
    })
}

pub(super) fn status(args: &StatusArgs) -> Result<(), Failure> {
    let text = control::status(&args.control.control, args.json)?;
    print(&format!("{}\n", text.trim_end()));
    Ok(())
}

pub(super) fn fleet(args: &FleetArgs) -> Result<(), Failure> {
    let text = control::fleet(&args.control, args.json)?;
    print(&format!("{}\n", text.trim_end()));
    Ok(())
}

pub(super) fn ping(args: &PingArgs) -> Result<(), Failure> {
    let pause = seconds(args.interval, "--interval", "0.2")?;
    control::ping(&args.control.control, &args.name, args.count, pause, args.json, print)
}

pub(super) fn capture(args: &CaptureArgs) -> Result<(), Failure> {
    let time = args.seconds.map(|time| seconds(time, "--seconds", "10")).transpose()?;
    run::block_on(async {
        let bytes = control::capture(&args.control.control, &args.file, time, args.rebuild).await?;
        if args.file != Path::new("-") {
            let warning = "with it anyone can read what this node sent and received";
            print(&format!("{}: {bytes} bytes; {warning}\n", args.file.display()));
        }
        Ok(())
    })
}

pub(super) fn netcheck(args: &NetcheckArgs) -> Result<(), Failure> {
    let text = control::netcheck(&args.control.control, args.json)?;
    print(&format!("{}\n", text.trim_end()));
    Ok(())
}

/// The value of a flag as a duration. `such_as` is an example for the error.
fn seconds(value: f64, flag: &str, such_as: &str) -> Result<Duration, Failure> {
    Duration::try_from_secs_f64(value).map_err(|_| {
        Failure::new(Code::Usage, format!("{flag} is no time"), format!("give seconds, such as {such_as}"))
    })
}
