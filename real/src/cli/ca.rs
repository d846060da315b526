//! `ca`: an authority in a folder.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use cyphonic_core::name::Fqdn;
use cyphonic_core::pki::Subject;
use cyphonic_core::store::Store;
use ipnet::{Ipv4Net, Ipv6Net};

use super::{device, print};
use crate::error::{Code, Failure};
use crate::settings::Parsed;
use crate::store::{SqliteStore, store_failure};
use crate::{ca, drive, files, inspect, names, run};

#[derive(Args)]
pub(super) struct CaArgs {
    /// The authority's folder.
    #[arg(long, global = true, default_value = "pki", env = "CYPHONIC_CA")]
    dir: PathBuf,
    /// A file with the passphrase of the CA's keys, readable by its owner only. Needed if they are sealed.
    #[arg(long, global = true, env = "CYPHONIC_CA_PASSPHRASE_FILE")]
    passphrase_file: Option<PathBuf>,
    #[command(subcommand)]
    command: CaCommands,
}

/// Where devices get their virtual addresses from.
#[derive(Args)]
struct Places {
    /// The database of AS and NMS: each device gets its virtual addresses from there, and they are in its certificate.
    #[arg(long, env = "CYPHONIC_DATABASE")]
    database: Option<PathBuf>,
    /// With --database: the setting `overlay-v4` of AS and NMS, if they have one.
    #[arg(long, requires = "database", env = "CYPHONIC_OVERLAY_V4")]
    overlay_v4: Option<Parsed<Ipv4Net>>,
    /// With --database: the setting `overlay-v6` of AS and NMS, if they have one.
    #[arg(long, requires = "database", env = "CYPHONIC_OVERLAY_V6")]
    overlay_v6: Option<Parsed<Ipv6Net>>,
}

impl Places {
    /// The database with its path, if one is given.
    fn open(&self) -> Result<Option<(&Path, SqliteStore)>, Failure> {
        let Some(path) = &self.database else { return Ok(None) };
        let range = run::range(self.overlay_v4.as_ref(), self.overlay_v6.as_ref())?;
        Ok(Some((path, SqliteStore::open(path, range)?)))
    }
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
        /// Days for which they are valid.
        #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u64).range(1..=3650))]
        days: u64,
        /// Replace an existing certificate and its key. Copies of both are kept beside the new ones.
        #[arg(long)]
        renew: bool,
        /// With --renew: only the certificate is new. Sessions of a daemon that gets it stand.
        #[arg(long, requires = "renew")]
        keep_key: bool,
        #[command(flatten)]
        places: Places,
    },
    /// Roll the CA over, in three steps: make the next CA, let it sign, end the one before. Both are trusted meanwhile.
    Rotate {
        /// The second step: certificates come from the next CA.
        #[arg(long)]
        switch: bool,
        /// The third step: the CA before is not trusted any more.
        #[arg(long, conflicts_with = "switch")]
        finish: bool,
        /// With --finish: though certificates of the CA before still count.
        #[arg(long, requires = "finish")]
        force: bool,
    },
    /// Revoke a name's certificates: writes crl.pem. Daemons that have a copy of it as `crl` end the name's sessions.
    Revoke {
        /// The name.
        name: Fqdn,
        /// Also remove its device and its invitation from the database of AS and NMS, so that no new certificate,
        /// password or token lets it log in.
        #[arg(long, env = "CYPHONIC_DATABASE")]
        database: Option<PathBuf>,
    },
    /// Seal the CA's keys by a passphrase, by another one, or no more.
    Passphrase {
        /// A file with the new passphrase, readable by its owner only.
        #[arg(long, required_unless_present = "none")]
        new_file: Option<PathBuf>,
        /// Write the keys unsealed.
        #[arg(long, conflicts_with = "new_file")]
        none: bool,
    },
    /// Print the contents of a certificate file.
    Print {
        /// The file (PEM). Default: the root certificate.
        file: Option<PathBuf>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(args: &CaArgs) -> Result<(), Failure> {
    args.passphrase_file.as_deref().map(ca::use_passphrase).transpose()?;
    match &args.command {
        CaCommands::Init { zone } => {
            ca::init(&args.dir, zone)?;
            print(&format!("made {}; give root.pem to everybody, keep the keys\n", args.dir.display()));
        }
        CaCommands::Issue { names, days, renew, keep_key, places } => {
            let ca = ca::Ca::open(&args.dir)?;
            // All names are checked before anything is written.
            names.iter().try_for_each(|name| names::of_zone(name, ca.zone()))?;
            if let Some(ends) = ca.limits(*days) {
                let note = format!(
                    "note: the CA ends at {}: certificates end with it, and not after {days} days; {}\n",
                    files::civil(ends),
                    files::NEW_AUTHORITY
                );
                let _ = std::io::stderr().write_all(note.as_bytes());
            }
            let database = places.open()?;
            for name in names {
                let whom = subject(&ca, name, *days, database.as_ref())?;
                let (certificate, key) =
                    if *keep_key { ca.issue_again(whom, *days)? } else { ca.issue(whom, *days, *renew)? };
                print(&format!("{}\n{}\n", certificate.display(), key.display()));
            }
        }
        CaCommands::Rotate { switch, finish, force } => {
            let step = match (switch, finish) {
                (true, _) => ca::Step::Switch,
                (_, true) => ca::Step::Finish,
                _ => ca::Step::Begin,
            };
            print(&format!("{}: {}\n", args.dir.display(), ca::rotate(&args.dir, step, *force)?));
        }
        CaCommands::Revoke { name, database } => {
            let ca = ca::Ca::open(&args.dir)?;
            // The database comes first, also for a name without a certificate, which may have a password or an
            // invitation. A device that signs up at this moment has its certificate before that, and it is revoked; or
            // it finds no invitation, and gets none.
            let evicted = database.as_deref().map(|database| device::evict(database, name).map(|was| (database, was)));
            let revoked = ca.revoke(name);
            let had_another = matches!(&evicted, Some(Ok((_, was))) if was.device || was.invitation);
            match revoked {
                Ok((list, count)) => {
                    print(&format!("{}: {count} more; copy it to AS, NMS, TRS and every node\n", list.display()));
                }
                Err(error) if error.code == Code::Usage && had_another => {
                    let _ = std::io::stderr().write_all(format!("note: {error}\n").as_bytes());
                }
                Err(error) => return Err(error),
            }
            if let Some(evicted) = evicted {
                let (database, was) = evicted?;
                print(&format!("{}: {}", database.display(), device::told(name, was)));
            }
        }
        CaCommands::Passphrase { new_file, .. } => {
            let how = if new_file.is_some() { "sealed" } else { "not sealed" };
            for key in ca::seal_anew(&args.dir, new_file.as_deref())? {
                print(&format!("{}: {how}\n", key.display()));
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

/// A name, with its virtual addresses if it is a device's and a database is given. A name that has addresses in its
/// certificate keeps those. The database learns how long the certificate counts.
fn subject(ca: &ca::Ca, name: &Fqdn, days: u64, database: Option<&(&Path, SqliteStore)>) -> Result<Subject, Failure> {
    if names::of_device(name, Some(ca.zone())).is_err() {
        return Ok(name.into());
    }
    let present = ca.addresses(name);
    let Some((path, store)) = database else {
        if present.is_none() {
            let note = format!(
                "note: no virtual addresses are in the certificate of {name}: until it is renewed over the network, \
                 peers believe the NMS about them; --database gives it addresses\n"
            );
            let _ = std::io::stderr().write_all(note.as_bytes());
        }
        return Ok(name.into());
    };
    let fail = |error| store_failure(path, &error);
    let addresses = match present {
        Some(present) => present,
        None => store.allocate(name).map_err(fail)?,
    };
    let until = drive::since_epoch() + Duration::from_secs(days.saturating_mul(86_400));
    store.note_certificate(name, until).map_err(fail)?;
    Ok(Subject { name: name.clone(), addresses: Some(addresses) })
}
