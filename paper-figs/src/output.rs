//! Writes files so that no reader sees an incomplete one.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// A file or folder cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("{path}: cannot be written: {source}; choose another folder with --out", path = path.display())]
pub struct OutputError {
    path: PathBuf,
    source: io::Error,
}

/// Makes a folder, with those above it.
///
/// # Errors
/// It cannot be made.
pub fn make_folder(folder: &Path) -> Result<(), OutputError> {
    fs::create_dir_all(folder).map_err(|source| OutputError { path: folder.to_owned(), source })
}

/// Writes a file under another name, then renames it. A failure leaves the earlier file.
///
/// # Errors
/// It cannot be written or renamed.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), OutputError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.part"));
    let write = || {
        let mut file = fs::File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().map_err(|source| {
        // It may not exist. The first error is reported.
        let _ = fs::remove_file(&beside);
        OutputError { path: path.to_owned(), source }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("figure.svg");
        write_file(&path, b"a first and longer one").unwrap();
        write_file(&path, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named_and_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("figure.svg");
        fs::create_dir(&path).unwrap();
        let error = write_file(&path, b"bytes").unwrap_err().to_string();
        assert!(error.contains("figure.svg: cannot be written: "), "{error}");
        assert!(error.ends_with("; choose another folder with --out"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
