//! The files of `reproduce` that are no experiment of one scenario file: one table.

use std::path::{Path, PathBuf};

use super::experiment::Extent;
use super::{matrix, scale, sequences, table2};
use crate::error::LabError;
use crate::manifest::Manifest;

/// Files that are made together.
pub struct Extra {
    /// What they are, in a line.
    pub title: &'static str,
    /// The set of results that they belong to.
    pub extent: Extent,
    /// Their places in the folder of results.
    pub names: fn() -> Vec<PathBuf>,
    /// Makes them.
    pub make: fn() -> Result<Made, LabError>,
    /// The manifest of one of them: by the command, the file and its bytes.
    pub manifest: fn(&str, &Path, &[u8]) -> Manifest,
}

/// Files that were made.
pub struct Made {
    /// Place and bytes of each.
    pub files: Vec<(PathBuf, Vec<u8>)>,
    /// What to print.
    pub report: String,
    /// What came out otherwise than it must.
    pub failed: Option<LabError>,
}

/// All of them, in the order in which they are made.
pub const EXTRAS: [Extra; 4] = [
    Extra {
        title: "Every kind of site with every other",
        extent: Extent::Usual,
        names: || vec![matrix::FILE.into()],
        make: || {
            let meetings = matrix::meetings()?;
            let report = format!(
                "Paths between every kind of site and every other (`cyphonic-lab matrix` shows each pair)\n{}",
                matrix::summary(&meetings)
            );
            let files = vec![(matrix::FILE.into(), matrix::csv(&meetings))];
            Ok(Made { files, report, failed: matrix::agree(&meetings).err() })
        },
        manifest: matrix::manifest,
    },
    Extra {
        title: "Table 2: comparison of the methods, each cell from runs",
        extent: Extent::Usual,
        names: || vec![table2::FILE.into()],
        make: || {
            let findings = table2::findings()?;
            let files = vec![(table2::FILE.into(), table2::csv(&findings))];
            Ok(Made { files, report: table2::report(&findings), failed: None })
        },
        manifest: table2::manifest,
    },
    Extra {
        title: "Figures 2 to 9 and 12: messages and packets of runs",
        extent: Extent::Usual,
        names: sequences::names,
        make: || {
            let files = sequences::files()?.into_iter().collect();
            Ok(Made { files, report: String::new(), failed: None })
        },
        manifest: sequences::manifest,
    },
    Extra {
        title: "Signaling of 2 to 250 nodes, also after a restart of the NMS",
        extent: Extent::Full,
        names: || vec![scale::FILE.into()],
        make: || {
            let (bytes, report) = scale::made()?;
            Ok(Made { files: vec![(scale::FILE.into(), bytes)], report, failed: None })
        },
        manifest: scale::manifest,
    },
];
