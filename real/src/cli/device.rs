//! `device`: who may log in, in the database of AS and NMS.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use cyphonic_core::name::{Fqdn, NodeId, Virtual};
use cyphonic_core::store::{Device, PasswordHash, Store, VirtualRange};

use super::print;
use crate::error::{Code, Failure};
use crate::store::{SqliteStore, store_failure};
use crate::{ca, drive, files};

/// PBKDF2 iterations of passwords: about a fifth of a second of work for each guess.
const PASSWORD_ITERATIONS: std::num::NonZeroU32 = std::num::NonZeroU32::new(600_000).expect("not zero");

#[derive(Args)]
pub(super) struct DeviceArgs {
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

pub(super) fn run(args: &DeviceArgs) -> Result<(), Failure> {
    let path = &args.database;
    match &args.command {
        DeviceCommands::Add { names, password_file, replace } => {
            let store = open(path)?;
            let fail = |error| store_failure(path, &error);
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
            let fail = |error| store_failure(path, &error);
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
            if !remove(path, name)? {
                let what = format!("{}: there is no device {name}", path.display());
                return Err(Failure::new(Code::Usage, what, "`cyphonic device list` shows all"));
            }
            print(&format!("{name} may not log in any more\n"));
        }
        DeviceCommands::List { json } => {
            let devices = open(path)?.devices().map_err(|error| store_failure(path, &error))?;
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

fn open(path: &Path) -> Result<SqliteStore, Failure> {
    // Devices need no range: addresses are given by the NMS.
    SqliteStore::open(path, VirtualRange::default())
}

/// Whether there was such a device.
pub(super) fn remove(path: &Path, name: &Fqdn) -> Result<bool, Failure> {
    let fail = |error| store_failure(path, &error);
    let (store, node) = (open(path)?, NodeId::of(name));
    let was = store.device(node).map_err(fail)?.is_some();
    store.remove_device(node).map_err(fail)?;
    Ok(was)
}
