//! `backup`: copies of the database, and how one takes its place again.

use std::path::PathBuf;

use clap::Subcommand;

use super::print;
use crate::drive;
use crate::error::Failure;
use crate::store::SqliteStore;

#[derive(Subcommand)]
pub(super) enum BackupCommands {
    /// Write a copy of the database into a new file. AS and NMS may run meanwhile.
    Save {
        /// The new file.
        file: PathBuf,
        /// The database of AS and NMS.
        #[arg(long, env = "CYPHONIC_DATABASE", default_value = "cyphonic.db")]
        database: PathBuf,
    },
    /// Put a copy in the place of the database, while AS and NMS are stopped. No address is given and no epoch accepted
    /// a second time. Nodes log in anew. Open invitations are void. Devices that were removed since the copy was made
    /// are back: remove them again.
    Restore {
        /// The copy.
        file: PathBuf,
        /// The database of AS and NMS.
        #[arg(long, env = "CYPHONIC_DATABASE", default_value = "cyphonic.db")]
        database: PathBuf,
        /// How many names at most may have got addresses since the copy was made. It matters only if the database that
        /// is replaced is lost.
        #[arg(long, default_value_t = 256)]
        skip: u32,
    },
}

pub(super) fn run(command: BackupCommands) -> Result<(), Failure> {
    match command {
        BackupCommands::Save { file, database } => {
            SqliteStore::backup(&database, &file)?;
            print(&format!(
                "{}: a copy of {}; it has what the database has: keep it secret\n",
                file.display(),
                database.display()
            ));
        }
        BackupCommands::Restore { file, database, skip } => {
            let done = SqliteStore::restore(&file, &database, skip, drive::since_epoch())?;
            let count = if done.devices == 1 { "1 device".to_owned() } else { format!("{} devices", done.devices) };
            print(&format!("{}: restored, {count}; nodes log in anew\n", database.display()));
            if let Some(replaced) = done.replaced {
                print(&format!("what was there is {}; its addresses stay given\n", replaced.display()));
            } else {
                print(&format!("{} pairs of addresses are left out\n", done.left_out));
            }
            print("note: open invitations are void; devices that were removed since the copy was made are back\n");
        }
    }
    Ok(())
}
