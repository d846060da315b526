//! The command line.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use cyphonic_core::name::{Fqdn, NodeId, Virtual};
use cyphonic_core::store::{Device, PasswordHash, Store, VirtualRange};

use crate::control::{self, DEFAULT_SOCKET};
use crate::error::{Code, Failure};
use crate::settings::{self, AuthSettings, Key, NmsSettings, NodeSettings, Settings, TrsSettings};
use crate::store::SqliteStore;
use crate::{ca, drive, files, inspect, run, signup};

/// PBKDF2 iterations of passwords: about a fifth of a second of work for each guess.
const PASSWORD_ITERATIONS: std::num::NonZeroU32 = std::num::NonZeroU32::new(600_000).expect("not zero");

#[derive(Parser)]
#[command(name = "cyphonic", version, about = "CYPHONIC overlay network: services, node and tools")]
#[command(after_help = exit_codes())]
struct Cli {
    #[command(subcommand)]
    command: Commands,
}

#[derive(Subcommand)]
enum Commands {
    /// Make and look at certificates.
    Ca(CaArgs),
    /// The devices that may log in: the AS's database.
    Device(DeviceArgs),
    /// Get a first certificate from the AS, by an invitation (`cyphonic device invite`).
    Signup {
        /// The device's name.
        name: Fqdn,
        /// The AS: HOST:PORT of its `signup-port`.
        #[arg(long = "as")]
        place: String,
        /// A file with the token, readable by its owner only.
        #[arg(long, required_unless_present = "renew")]
        token_file: Option<PathBuf>,
        /// Get the next certificate, by the one in the folder, which must still count; the key stays. No token is needed.
        #[arg(long, conflicts_with = "token_file")]
        renew: bool,
        /// The certificates of the root CA (PEM).
        #[arg(long, default_value = "root.pem")]
        roots: PathBuf,
        /// The name in the AS's certificate; as.ZONE of the device's name if none is given.
        #[arg(long)]
        as_name: Option<Fqdn>,
        /// Where certificate and key are or are written, as NAME.pem and NAME.key.
        #[arg(long, default_value = ".")]
        out: PathBuf,
    },
    /// Run the Authentication Service.
    As(Daemon<AuthSettings>),
    /// Run the Node Management Service.
    Nms(Daemon<NmsSettings>),
    /// Run the Tunnel Relay Service.
    Trs(Daemon<TrsSettings>),
    /// Run a node.
    Node(Daemon<NodeSettings>),
    /// Examples of configuration files, and whether one is whole.
    Config {
        #[command(subcommand)]
        command: ConfigCommands,
    },
    /// How the running node stands, and with whom it has tunnels.
    Status {
        /// As JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        control: Control,
    },
    /// Measure the way to a peer, through the running node. Ends with 0 if at least one echo came back, with 8 if none did.
    /// Ctrl-C ends it early, with the summary.
    Ping {
        /// The peer: its name, or the first part of it.
        name: String,
        /// How often.
        #[arg(short, long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
        count: u32,
        /// Seconds between two.
        #[arg(short, long, default_value_t = 1.0)]
        interval: f64,
        /// As JSON, at the end.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        control: Control,
    },
    /// All that passes through the running node, as pcapng for Wireshark, with the secrets that open it. The node must have
    /// `allow-capture = true`. The file is readable by its owner only.
    Capture {
        /// The file, or - for standard output (`cyphonic capture - | wireshark -k -i -`).
        file: PathBuf,
        /// How long; until Ctrl-C if nothing is said.
        #[arg(short, long)]
        seconds: Option<f64>,
        /// Build every connection anew first. Wireshark opens a QUIC connection only if it has seen its beginning.
        #[arg(long)]
        rebuild: bool,
        #[command(flatten)]
        control: Control,
    },
    /// What this machine's network lets through: the running node asks its services.
    Netcheck {
        /// As JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        control: Control,
    },
    /// Completions for a shell, to be sourced.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Args)]
struct Control {
    /// The node's control socket.
    #[arg(long, default_value = DEFAULT_SOCKET, env = "CYPHONIC_CONTROL")]
    control: PathBuf,
}

#[derive(Args)]
struct Daemon<S: Args> {
    /// The configuration file; /etc/cyphonic/ROLE.toml if it is there.
    #[arg(short, long, env = "CYPHONIC_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: S,
}

#[derive(Args)]
struct CaArgs {
    /// The authority's folder.
    #[arg(long, global = true, default_value = "pki", env = "CYPHONIC_CA")]
    dir: PathBuf,
    #[command(subcommand)]
    command: CaCommands,
}

#[derive(Subcommand)]
enum CaCommands {
    /// Make a new authority.
    Init {
        /// The zone of all names.
        #[arg(long, default_value = "cyphonic.test")]
        zone: Fqdn,
    },
    /// Make key and certificate for one or more names.
    Issue {
        /// The names: as.ZONE, nms.ZONE, trs.ZONE, and one for each node.
        #[arg(required = true)]
        names: Vec<Fqdn>,
        /// How many days they last.
        #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u64).range(1..=3650))]
        days: u64,
        /// Replace a certificate that is there.
        #[arg(long)]
        renew: bool,
    },
    /// Take a name's certificates back: writes crl.pem. Where that is copied to, and set as `crl`, its sessions end.
    Revoke {
        /// The name.
        name: Fqdn,
        /// Also remove it from the database of AS and NMS, so that it can log in by no new certificate or password either.
        #[arg(long, env = "CYPHONIC_DATABASE")]
        database: Option<PathBuf>,
    },
    /// What is in a certificate file.
    Print {
        /// The file (PEM); the root if none is named.
        file: Option<PathBuf>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
struct DeviceArgs {
    /// The database of AS and NMS.
    #[arg(long, global = true, default_value = "cyphonic.db", env = "CYPHONIC_DATABASE")]
    database: PathBuf,
    #[command(subcommand)]
    command: DeviceCommands,
}

#[derive(Subcommand)]
enum DeviceCommands {
    /// Let a node log in.
    Add {
        /// Their names.
        #[arg(required = true)]
        names: Vec<Fqdn>,
        /// A file with its password (conventional method), readable by its owner only. Without it: by certificate only.
        #[arg(long)]
        password_file: Option<PathBuf>,
        /// Replace a device that is there.
        #[arg(long)]
        replace: bool,
    },
    /// Let who shows a token get a first certificate for a name, once; prints the token.
    Invite {
        /// The name.
        name: Fqdn,
        /// How long it counts, hours.
        #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=720))]
        hours: u64,
        /// Even if there is a device of that name: the new one takes its place. Revoke the old one's certificate
        /// (`cyphonic ca revoke`).
        #[arg(long)]
        replace: bool,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Stop letting a node log in; its virtual addresses stay its own.
    Remove {
        /// Its name.
        name: Fqdn,
    },
    /// Every device, with its virtual addresses.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Subcommand)]
enum ConfigCommands {
    /// Print a commented configuration file.
    Example {
        /// For which role.
        role: Role,
    },
    /// Whether a file can be read, and has every key that is needed.
    Check {
        /// Of which role.
        role: Role,
        /// The file.
        file: PathBuf,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Role {
    As,
    Nms,
    Trs,
    Node,
}

fn exit_codes() -> String {
    let mut text = String::from("Exit codes:\n   0  all is well\n");
    for (code, meaning) in Code::ALL {
        let _ = writeln!(text, "  {:2}  {meaning}", code as u8);
    }
    text
}

/// The command with `CYPHONIC_*` variables for every key of every role.
fn command() -> Command {
    let mut command = Cli::command();
    for (role, keys) in [
        (AuthSettings::ROLE, AuthSettings::KEYS),
        (NmsSettings::ROLE, NmsSettings::KEYS),
        (TrsSettings::ROLE, TrsSettings::KEYS),
        (NodeSettings::ROLE, NodeSettings::KEYS),
    ] {
        command = command.mut_subcommand(role, |command| {
            keys.iter().fold(command, |command, key: &Key| command.mut_arg(key.field, |arg| arg.env(key.variable())))
        });
    }
    command
}

/// Runs the program; the exit code is one of [`Code`].
pub fn main() -> ExitCode {
    let matches = match command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Code::Usage.into() } else { ExitCode::SUCCESS };
        }
    };
    let done = match Cli::from_arg_matches(&matches) {
        Ok(cli) => execute(cli.command),
        Err(error) => Err(Failure::new(Code::Usage, error.to_string(), "see `cyphonic --help`")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "error: {failure}\nremedy: {}", failure.remedy());
            failure.code.into()
        }
    }
}

fn execute(command: Commands) -> Result<(), Failure> {
    match command {
        Commands::Ca(args) => ca_command(&args),
        Commands::Device(args) => device_command(&args),
        Commands::Signup { name, place, token_file, renew: _, roots, as_name, out } => {
            let as_name = match (as_name, name.as_str().split_once('.')) {
                (Some(name), _) => name,
                (None, Some((_, zone))) => format!("as.{zone}").parse().map_err(Failure::other)?,
                (None, None) => return Err(Failure::new(Code::Usage, "the AS has no name", "give --as-name")),
            };
            let right = match token_file {
                Some(file) => signup::Right::Invitation(files::read_secret(&file)?),
                None => signup::Right::Certificate,
            };
            let places = run::resolve("--as", &[place])?;
            let applicant = signup::Applicant { name, places, as_name, roots, right, folder: out };
            let (certificate, key) = run::block_on(applicant.sign_up())?;
            print(&format!("{}\n{}\n", certificate.display(), key.display()));
            Ok(())
        }
        Commands::As(daemon) => {
            let settings = daemon.settings()?;
            run::log(settings.log.as_deref(), settings.log_format)?;
            run::block_on(run::auth(settings))
        }
        Commands::Nms(daemon) => {
            let settings = daemon.settings()?;
            run::log(settings.log.as_deref(), settings.log_format)?;
            run::block_on(run::nms(settings))
        }
        Commands::Trs(daemon) => {
            let settings = daemon.settings()?;
            run::log(settings.log.as_deref(), settings.log_format)?;
            run::block_on(run::trs(settings))
        }
        Commands::Node(daemon) => {
            let settings = daemon.settings()?;
            run::log(settings.log.as_deref(), settings.log_format)?;
            run::block_on(run::node(settings))
        }
        Commands::Config { command: ConfigCommands::Example { role } } => {
            print(&match role {
                Role::As => settings::example::<AuthSettings>(),
                Role::Nms => settings::example::<NmsSettings>(),
                Role::Trs => settings::example::<TrsSettings>(),
                Role::Node => settings::example::<NodeSettings>(),
            });
            Ok(())
        }
        Commands::Config { command: ConfigCommands::Check { role, file } } => {
            match role {
                Role::As => check::<AuthSettings>(&file),
                Role::Nms => check::<NmsSettings>(&file),
                Role::Trs => check::<TrsSettings>(&file),
                Role::Node => check::<NodeSettings>(&file),
            }?;
            print(&format!("{}: can be read, and has every key that is needed\n", file.display()));
            Ok(())
        }
        Commands::Status { json, control } => {
            let text = control::status(&control.control, json)?;
            print(text.trim_end());
            print("\n");
            Ok(())
        }
        Commands::Ping { name, count, interval, json, control } => {
            let pause = Duration::try_from_secs_f64(interval)
                .map_err(|_| Failure::new(Code::Usage, "--interval is no time", "give seconds, such as 0.2"))?;
            control::ping(&control.control, &name, count, pause, json, print)
        }
        Commands::Capture { file, seconds, rebuild, control } => {
            let time = seconds
                .map(Duration::try_from_secs_f64)
                .transpose()
                .map_err(|_| Failure::new(Code::Usage, "--seconds is no time", "give seconds, such as 10"))?;
            run::block_on(async {
                let bytes = control::capture(&control.control, &file, time, rebuild).await?;
                if file != std::path::Path::new("-") {
                    let warning = "whoever has it can read what this node sent and received";
                    print(&format!("{}: {bytes} bytes; {warning}\n", file.display()));
                }
                Ok(())
            })
        }
        Commands::Netcheck { json, control } => {
            let text = control::netcheck(&control.control, json)?;
            print(&format!("{}\n", text.trim_end()));
            Ok(())
        }
        Commands::Completions { shell } => {
            clap_complete::generate(shell, &mut command_for_completions(), "cyphonic", &mut std::io::stdout());
            Ok(())
        }
    }
}

fn command_for_completions() -> Command {
    command()
}

/// Whether a file can be read, and has every key without which the role does not start. Flags and variables may set what it
/// lacks, but not here.
fn check<S: Settings + Default>(file: &std::path::Path) -> Result<(), Failure> {
    let settings = S::default().with_file(Some(file))?;
    match settings.lacks() {
        None => Ok(()),
        Some(field) => settings::required::<S, ()>(None, field),
    }
}

/// To standard output; whoever closed it does not want it.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

impl<S: Settings + Args> Daemon<S> {
    fn settings(self) -> Result<S, Failure> {
        let file = self.config.or_else(|| settings::default_file(S::ROLE));
        self.settings.with_file(file.as_deref())
    }
}

fn ca_command(args: &CaArgs) -> Result<(), Failure> {
    match &args.command {
        CaCommands::Init { zone } => {
            ca::init(&args.dir, zone)?;
            print(&format!("made {}; give root.pem to everybody, keep the keys\n", args.dir.display()));
        }
        CaCommands::Issue { names, days, renew } => {
            let ca = ca::Ca::open(&args.dir)?;
            for name in names {
                let (certificate, key) = ca.issue(name, *days, *renew)?;
                print(&format!("{}\n{}\n", certificate.display(), key.display()));
            }
        }
        CaCommands::Revoke { name, database } => {
            let (list, count) = ca::Ca::open(&args.dir)?.revoke(name)?;
            print(&format!("{}: {count} more; copy it to AS, NMS, TRS and every node\n", list.display()));
            if let Some(database) = database {
                let was = remove_device(database, name)?;
                let may = if was { "may not log in any more" } else { "was no device" };
                print(&format!("{}: {name} {may}\n", database.display()));
            }
        }
        CaCommands::Print { file, json } => {
            let root = args.dir.join("root.pem");
            let file = file.as_ref().unwrap_or(&root);
            print(&if *json { inspect::json(file)? + "\n" } else { ca::print(file)? });
        }
    }
    Ok(())
}

fn device_command(args: &DeviceArgs) -> Result<(), Failure> {
    let path = &args.database;
    match &args.command {
        DeviceCommands::Add { names, password_file, replace } => {
            let store = open(path)?;
            let fail = |error| crate::store::store_failure(path, &error);
            let password = password_file.as_deref().map(files::read_secret).transpose()?;
            for name in names {
                if !replace && store.device(NodeId::of(name)).map_err(fail)?.is_some() {
                    let remedy = "choose another name, or give --replace";
                    return Err(Failure::new(Code::Duplicate, format!("{name} is a device already"), remedy));
                }
                let password = match &password {
                    Some(text) => {
                        let mut salt = [0; 16];
                        getrandom::fill(&mut salt).map_err(Failure::other)?;
                        Some(PasswordHash::new(text.trim_end_matches(['\r', '\n']), salt, PASSWORD_ITERATIONS))
                    }
                    None => None,
                };
                store.put_device(&Device { name: name.clone(), password, certificate_login: true }).map_err(fail)?;
                print(&format!("{name} may log in\n"));
            }
        }
        DeviceCommands::Invite { name, hours, replace, json } => {
            let store = open(path)?;
            let fail = |error| crate::store::store_failure(path, &error);
            if !replace && store.device(NodeId::of(name)).map_err(fail)?.is_some() {
                let remedy = "choose another name, or give --replace if a new device shall take its place";
                return Err(Failure::new(Code::Duplicate, format!("{name} is a device already"), remedy));
            }
            let token = ca::hex(&*ca::random::<16>()?);
            let until = drive::since_epoch() + Duration::from_secs(hours * 3600);
            store.invite(name, &token, until, *replace).map_err(fail)?;
            if *json {
                let invitation =
                    serde_json::json!({ "name": name.as_str(), "token": *token, "until": until.as_secs() });
                print(&format!("{invitation:#}\n"));
            } else {
                print(&format!("{}\n", *token));
            }
        }
        DeviceCommands::Remove { name } => {
            if !remove_device(path, name)? {
                let what = format!("{}: there is no device {name}", path.display());
                return Err(Failure::new(Code::Usage, what, "`cyphonic device list` shows all"));
            }
            print(&format!("{name} may not log in any more\n"));
        }
        DeviceCommands::List { json } => {
            let devices = open(path)?.devices().map_err(|error| crate::store::store_failure(path, &error))?;
            if *json {
                let devices: Vec<_> = devices.iter().map(|(device, addresses)| described(device, *addresses)).collect();
                print(&format!("{:#}\n", serde_json::Value::from(devices)));
                return Ok(());
            }
            for (device, addresses) in devices {
                let addresses = addresses.map_or_else(|| "-".to_owned(), |a| format!("{} {}", a.v4, a.v6));
                let ways = if device.password.is_some() { "certificate, password" } else { "certificate" };
                print(&format!("{}  {addresses}  {ways}\n", device.name));
            }
        }
    }
    Ok(())
}

/// A device as JSON; without addresses if it never was registered.
fn described(device: &Device, addresses: Option<Virtual>) -> serde_json::Value {
    serde_json::json!({
        "name": device.name.as_str(),
        "ipv4": addresses.map(|addresses| addresses.v4),
        "ipv6": addresses.map(|addresses| addresses.v6),
        "certificate": device.certificate_login,
        "password": device.password.is_some(),
    })
}

fn open(path: &std::path::Path) -> Result<SqliteStore, Failure> {
    // Devices need no range: addresses are given by the NMS.
    SqliteStore::open(path, VirtualRange::default())
}

/// Whether there was such a device.
fn remove_device(path: &std::path::Path, name: &Fqdn) -> Result<bool, Failure> {
    let fail = |error| crate::store::store_failure(path, &error);
    let (store, node) = (open(path)?, NodeId::of(name));
    let was = store.device(node).map_err(fail)?.is_some();
    store.remove_device(node).map_err(fail)?;
    Ok(was)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_key_has_a_flag_and_a_variable() {
        let command = command();
        let node = command.find_subcommand("node").unwrap();
        for key in NodeSettings::KEYS {
            let arg = node.get_arguments().find(|arg| arg.get_id() == key.field).unwrap();
            assert_eq!(arg.get_long(), Some(key.name().as_str()));
            assert_eq!(arg.get_env().unwrap(), key.variable().as_str());
        }
    }

    #[test]
    fn the_help_lists_the_exit_codes() {
        let help = command().render_long_help().to_string();
        for (_, meaning) in Code::ALL {
            assert!(help.contains(meaning), "{meaning}");
        }
    }
}
