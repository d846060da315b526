//! `migrate`: brings what an earlier version made up to date.

use std::path::PathBuf;

use clap::Args;

use super::print;
use crate::ca::Ca;
use crate::error::{Code, Failure};
use crate::store::SqliteStore;

#[derive(Args)]
pub(super) struct MigrateArgs {
    /// The database of AS and NMS.
    #[arg(long, env = "CYPHONIC_DATABASE", default_value = "cyphonic.db")]
    database: PathBuf,
    /// The authority's folder.
    #[arg(long, env = "CYPHONIC_CA", default_value = "pki")]
    dir: PathBuf,
}

pub(super) fn run(args: &MigrateArgs) -> Result<(), Failure> {
    let MigrateArgs { database, dir } = args;
    if !database.exists() && !dir.exists() {
        let what = format!("there is neither {} nor {}", database.display(), dir.display());
        return Err(Failure::new(Code::Usage, what, "give --database, or --dir, or both"));
    }
    if dir.exists() {
        let done = Ca::migrate(dir)?;
        let lines: Vec<_> = done.iter().map(|done| format!("{}: {done}\n", dir.display())).collect();
        print(&if lines.is_empty() { format!("{}: up to date\n", dir.display()) } else { lines.concat() });
    }
    if database.exists() {
        let done = SqliteStore::migrate(database)?;
        let name = database.display();
        match &done.copy {
            Some(copy) => {
                print(&format!("{name}: version {} is now {}; a copy is {}\n", done.from, done.to, copy.display()));
            }
            None => print(&format!("{name}: up to date\n")),
        }
        if done.readmitted > 0 {
            print(&format!("{name}: {} names that a registration had shut out can register again\n", done.readmitted));
        }
    }
    Ok(())
}
