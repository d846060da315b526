//! The command line. Each subcommand, or family of subcommands, has a module.

mod ask;
mod backup;
mod ca;
mod config;
mod daemon;
mod device;
mod migrate;
mod rules;
mod signup;

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use clap::{Command, CommandFactory, FromArgMatches, Parser, Subcommand};

use self::daemon::Daemon;
use crate::error::{Code, Failure};
use crate::run;
use crate::settings::{AuthSettings, Key, NmsSettings, NodeSettings, Settings, TrsSettings};

#[derive(Parser)]
#[command(name = "cyphonic", version, about = "CYPHONIC overlay network: services, node and tools")]
#[command(after_help = exit_codes())]
struct Cli {
    #[command(subcommand)]
    command: Commands,
}

#[derive(Subcommand)]
enum Commands {
    /// Make, revoke and print certificates.
    Ca(ca::CaArgs),
    /// Manage the devices that may log in, in the database of AS and NMS.
    Device(device::DeviceArgs),
    /// Copy the database of AS and NMS, and put a copy in its place.
    Backup {
        #[command(subcommand)]
        command: backup::BackupCommands,
    },
    /// Bring the database and the authority's folder of an earlier version up to date. A copy of the database stays.
    Migrate(migrate::MigrateArgs),
    /// Check the NMS's access rules, or ask them which nodes may talk to which.
    Rules {
        #[command(subcommand)]
        command: rules::RulesCommands,
    },
    /// Get a first certificate from the AS, by an invitation (`cyphonic device invite`).
    Signup(signup::SignupArgs),
    /// Run the Authentication Service.
    As(Daemon<AuthSettings>),
    /// Run the Node Management Service.
    Nms(Daemon<NmsSettings>),
    /// Run the Tunnel Relay Service.
    Trs(Daemon<TrsSettings>),
    /// Run a node.
    Node(Daemon<NodeSettings>),
    /// Print an example configuration file, or check a file.
    Config {
        #[command(subcommand)]
        command: config::ConfigCommands,
    },
    /// Show the running node's registration, peers and tunnels. With the NMS's socket (`--control`): its access rules.
    Status(ask::StatusArgs),
    /// Show every device, which of them are online and where, and when the others were: asks the running NMS, which
    /// needs `control` for that.
    Fleet(ask::FleetArgs),
    /// Measure the round trip to a peer, through the running node. Ends with 0 if at least one echo came back, with 8
    /// if none did. Ctrl-C ends it early and prints the summary.
    Ping(ask::PingArgs),
    /// Capture all packets of the running node as pcapng for Wireshark, with the secrets that decrypt them. The node
    /// must have `allow-capture = true`. Only the owner can read the file.
    Capture(ask::CaptureArgs),
    /// Show what this machine's network lets through: the running node asks its services.
    Netcheck(ask::NetcheckArgs),
    /// Undo the change of a killed node in /etc/resolv.conf. While a node runs, nothing is done.
    Restore(ask::RestoreArgs),
    /// Print completions for a shell, to be sourced.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
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
        Ok(()) => {
            run::last_words("");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            run::last_words(&format!("error: {failure}\nremedy: {}\n", failure.remedy()));
            failure.code.into()
        }
    }
}

fn execute(commands: Commands) -> Result<(), Failure> {
    match commands {
        Commands::Ca(args) => ca::run(&args),
        Commands::Device(args) => device::run(&args),
        Commands::Backup { command } => backup::run(command),
        Commands::Migrate(args) => migrate::run(&args),
        Commands::Rules { command } => rules::run(command),
        Commands::Signup(args) => signup::run(args),
        Commands::As(daemon) => daemon::auth(daemon),
        Commands::Nms(daemon) => daemon::nms(daemon),
        Commands::Trs(daemon) => daemon::trs(daemon),
        Commands::Node(daemon) => daemon::node(daemon),
        Commands::Config { command } => config::run(command),
        Commands::Status(args) => ask::status(&args),
        Commands::Fleet(args) => ask::fleet(&args),
        Commands::Ping(args) => ask::ping(&args),
        Commands::Capture(args) => ask::capture(&args),
        Commands::Netcheck(args) => ask::netcheck(&args),
        Commands::Restore(args) => ask::restore(&args),
        Commands::Completions { shell } => {
            // The text is collected first, because the generator panics if standard output is closed; `print` does not.
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut command(), "cyphonic", &mut text);
            print(&String::from_utf8_lossy(&text));
            Ok(())
        }
    }
}

/// Prints to standard output. A failed write, such as to a closed pipe, is ignored.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
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
    fn the_readmes_table_has_every_command() {
        let readme = include_str!("../../README.md");
        let table = readme.split("\n## Commands\n").nth(1).unwrap().split("\n## ").next().unwrap();
        // A command may stand alone, or with its arguments.
        let has = |words: &str| table.contains(&format!("`{words}`")) || table.contains(&format!("`{words} "));
        for command in command().get_subcommands() {
            let name = command.get_name();
            let parts: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
            assert!(parts.is_empty() && has(name) || !parts.is_empty(), "real/README.md has no row of `{name}`");
            for part in parts {
                let whole = format!("{name} {part}");
                assert!(has(&whole) || has(part), "real/README.md has no row of `{whole}`");
            }
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
