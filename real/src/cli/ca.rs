//! `ca`: an authority in a folder.

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use cyphonic_core::name::Fqdn;

use super::{device, print};
use crate::error::Failure;
use crate::{ca, files, inspect, names};

#[derive(Args)]
pub(super) struct CaArgs {
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
        /// Days for which they are valid.
        #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u64).range(1..=3650))]
        days: u64,
        /// Replace an existing certificate and its key. Copies of both are kept beside the new ones.
        #[arg(long)]
        renew: bool,
        /// With --renew: only the certificate is new. Sessions of a daemon that gets it stand.
        #[arg(long, requires = "renew")]
        keep_key: bool,
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
    match &args.command {
        CaCommands::Init { zone } => {
            ca::init(&args.dir, zone)?;
            print(&format!("made {}; give root.pem to everybody, keep the keys\n", args.dir.display()));
        }
        CaCommands::Issue { names, days, renew, keep_key } => {
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
            for name in names {
                let (certificate, key) =
                    if *keep_key { ca.issue_again(name, *days)? } else { ca.issue(name, *days, *renew)? };
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
            let (list, count) = ca::Ca::open(&args.dir)?.revoke(name)?;
            print(&format!("{}: {count} more; copy it to AS, NMS, TRS and every node\n", list.display()));
            if let Some(database) = database {
                let was = device::evict(database, name)?;
                print(&format!("{}: {}", database.display(), device::told(name, was)));
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
