//! `device`: the devices that may log in, and the invitations, in the database of AS and NMS.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use cyphonic_core::name::{Fqdn, NodeId, Virtual};
use cyphonic_core::store::{Device, PasswordHash, Store, StoreError, VirtualRange};

use super::print;
use crate::error::{Code, Failure};
use crate::store::{Evicted, Offer, SqliteStore, store_failure};
use crate::{ca, drive, files, names};

/// PBKDF2 iterations of passwords: each guess costs about a fifth of a second of work.
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
    Add(AddArgs),
    /// Invite a name: prints a token, whose holder gets a first certificate, once.
    Invite(InviteArgs),
    /// Remove an invitation that was not used yet.
    Uninvite {
        /// The name that was invited.
        name: Fqdn,
    },
    /// Remove a device and its invitation, so that it cannot log in. It keeps its virtual addresses.
    Remove {
        /// Its name.
        name: Fqdn,
    },
    /// List every device with its virtual addresses, and every invitation that was not used yet.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
struct AddArgs {
    /// Their names.
    #[arg(required = true)]
    names: Vec<Fqdn>,
    /// A file with its password (conventional method), readable by its owner only. Without it, the device logs in by
    /// certificate only.
    #[arg(long)]
    password_file: Option<PathBuf>,
    /// Replace an existing device.
    #[arg(long)]
    replace: bool,
    /// The zone of the names. Without it, no name may begin with as., nms. or trs.
    #[arg(long, env = "CYPHONIC_ZONE")]
    zone: Option<Fqdn>,
}

#[derive(Args)]
struct InviteArgs {
    /// The name.
    name: Fqdn,
    /// Hours for which it is valid.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=720))]
    hours: u64,
    /// Replace an existing device of that name. Revoke its certificate (`cyphonic ca revoke`).
    #[arg(long)]
    replace: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
    /// The zone of the name. Without it, the name may not begin with as., nms. or trs.
    #[arg(long, env = "CYPHONIC_ZONE")]
    zone: Option<Fqdn>,
}

pub(super) fn run(args: &DeviceArgs) -> Result<(), Failure> {
    let path = &args.database;
    match &args.command {
        DeviceCommands::Add(args) => add(path, args),
        DeviceCommands::Invite(args) => invite(path, args),
        DeviceCommands::Uninvite { name } => uninvite(path, name),
        DeviceCommands::Remove { name } => remove(path, name),
        DeviceCommands::List { json } => list(path, *json),
    }
}

fn add(path: &Path, args: &AddArgs) -> Result<(), Failure> {
    // All names are checked before anything is written.
    args.names.iter().try_for_each(|name| names::of_device(name, args.zone.as_ref()))?;
    let store = SqliteStore::open(path, VirtualRange::default())?;
    let fail = |error| store_failure(path, &error);
    let password = args.password_file.as_deref().map(files::read_password).transpose()?;
    for name in &args.names {
        if !args.replace && store.device(NodeId::of(name)).map_err(fail)?.is_some() {
            let remedy = "choose another name, or give --replace";
            return Err(Failure::new(Code::Duplicate, format!("{name} is a device already"), remedy));
        }
        let password = match &password {
            Some(text) => {
                let mut salt = [0; 16];
                getrandom::fill(&mut salt).map_err(Failure::other)?;
                Some(PasswordHash::new(text, salt, PASSWORD_ITERATIONS))
            }
            None => None,
        };
        store.put_device(&Device { name: name.clone(), password, certificate_login: true }).map_err(fail)?;
        print(&format!("{name} may log in\n"));
    }
    Ok(())
}

fn invite(path: &Path, args: &InviteArgs) -> Result<(), Failure> {
    let InviteArgs { name, hours, replace, json, zone } = args;
    names::of_device(name, zone.as_ref())?;
    let store = SqliteStore::open(path, VirtualRange::default())?;
    let fail = |error| store_failure(path, &error);
    if !replace && store.device(NodeId::of(name)).map_err(fail)?.is_some() {
        let remedy = "choose another name, or give --replace if a new device shall take its place";
        return Err(Failure::new(Code::Duplicate, format!("{name} is a device already"), remedy));
    }
    let token = ca::hex(&*ca::random::<16>()?);
    let made = drive::since_epoch();
    let until = made + Duration::from_secs(hours * 3600);
    let replaced = store.invite(name, &token, Offer { made, until, replaces: *replace }).map_err(fail)?;
    if replaced {
        // The note goes to standard error: standard output has only the token.
        let note = format!("note: {name} was invited already; the earlier token does not count any more\n");
        let _ = std::io::stderr().write_all(note.as_bytes());
    }
    if *json {
        let invitation = serde_json::json!({
            "name": name.as_str(), "token": *token, "until": until.as_secs(), "replaced": replaced
        });
        print(&format!("{invitation:#}\n"));
    } else {
        print(&format!("{}\n", *token));
    }
    Ok(())
}

fn uninvite(path: &Path, name: &Fqdn) -> Result<(), Failure> {
    let store = SqliteStore::existing(path)?;
    if !store.uninvite(name, drive::since_epoch()).map_err(|error| store_failure(path, &error))? {
        let what = format!("{}: {name} has no invitation that could be used", path.display());
        let remedy = "`cyphonic device list` shows all; `cyphonic device remove` takes a device away";
        return Err(Failure::new(Code::Usage, what, remedy));
    }
    print(&format!("{name} is not invited any more\n"));
    Ok(())
}

fn remove(path: &Path, name: &Fqdn) -> Result<(), Failure> {
    let was = evict(path, name)?;
    if !was.device && !was.invitation {
        let what = format!("{}: there is no device {name}, and no invitation", path.display());
        return Err(Failure::new(Code::Usage, what, "`cyphonic device list` shows all"));
    }
    print(&told(name, was));
    Ok(())
}

/// The result of an eviction, in words.
pub(super) fn told(name: &Fqdn, was: Evicted) -> String {
    let may = if was.device { "may not log in any more" } else { "was no device" };
    let invited = if was.invitation { ", and is not invited any more" } else { "" };
    format!("{name} {may}{invited}\n")
}

/// Removes a name's device and its invitation from the database.
pub(super) fn evict(path: &Path, name: &Fqdn) -> Result<Evicted, Failure> {
    let store = SqliteStore::existing(path)?;
    store.evict(name, drive::since_epoch()).map_err(|error| store_failure(path, &error))
}

fn list(path: &Path, json: bool) -> Result<(), Failure> {
    let store = SqliteStore::existing(path)?;
    let fail = |error: StoreError| store_failure(path, &error);
    let devices = store.devices().map_err(fail)?;
    let invitations = store.invitations(drive::since_epoch()).map_err(fail)?;
    let invited = |name: &Fqdn| invitations.iter().find(|(invited, _)| invited == name).map(|(_, until)| *until);
    let is_device = |name: &Fqdn| devices.iter().any(|(device, _)| device.name == *name);
    let guests = invitations.iter().filter(|(name, _)| !is_device(name));
    if json {
        let devices = devices.iter().map(|(device, addresses)| described(device, *addresses, invited(&device.name)));
        let guests = guests.map(|(name, until)| {
            serde_json::json!({ "name": name.as_str(), "device": false, "invited_until": until.as_secs() })
        });
        let all: Vec<_> = devices.chain(guests).collect();
        print(&format!("{:#}\n", serde_json::Value::from(all)));
        return Ok(());
    }
    let until = |until: Duration| format!("invited until {}", files::civil(until));
    for (device, addresses) in &devices {
        let addresses = addresses.map_or_else(|| "-".to_owned(), |a| format!("{} {}", a.v4, a.v6));
        let ways = if device.password.is_some() { "certificate, password" } else { "certificate" };
        let invited = invited(&device.name).map(|at| format!("  {}", until(at))).unwrap_or_default();
        print(&format!("{}  {addresses}  {ways}{invited}\n", device.name));
    }
    for (name, at) in guests {
        print(&format!("{name}  -  no device yet  {}\n", until(*at)));
    }
    Ok(())
}

/// A device as JSON, without addresses if it was never registered.
fn described(device: &Device, addresses: Option<Virtual>, invited: Option<Duration>) -> serde_json::Value {
    serde_json::json!({
        "name": device.name.as_str(),
        "device": true,
        "ipv4": addresses.map(|addresses| addresses.v4),
        "ipv6": addresses.map(|addresses| addresses.v6),
        "certificate": device.certificate_login,
        "password": device.password.is_some(),
        "invited_until": invited.map(|until| until.as_secs()),
    })
}
