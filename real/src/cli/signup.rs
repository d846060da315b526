//! `signup`: gets a certificate from the AS.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use cyphonic_core::name::Fqdn;

use super::print;
use crate::error::{Code, Failure};
use crate::{files, run, signup};

#[derive(Args)]
pub(super) struct SignupArgs {
    /// The device's name.
    name: Fqdn,
    /// The AS: HOST:PORT of its `signup-port`.
    #[arg(long = "as")]
    place: String,
    /// A file with the token, readable by its owner only.
    #[arg(long, required_unless_present = "renew")]
    token_file: Option<PathBuf>,
    /// Get the next certificate, for the same key. The present one, in the folder, must still be valid. No token is
    /// needed.
    #[arg(long, conflicts_with = "token_file")]
    renew: bool,
    /// The certificates of the root CA (PEM).
    #[arg(long, default_value = "root.pem")]
    roots: PathBuf,
    /// The name in the AS's certificate. Default: as.ZONE, with the zone of the device's name.
    #[arg(long)]
    as_name: Option<Fqdn>,
    /// The folder of certificate and key, NAME.pem and NAME.key.
    #[arg(long, default_value = ".")]
    out: PathBuf,
}

pub(super) fn run(args: SignupArgs) -> Result<(), Failure> {
    let SignupArgs { name, place, token_file, renew: _, roots, as_name, out } = args;
    let as_name = match (as_name, name.as_str().split_once('.')) {
        (Some(name), _) => name,
        (None, Some((_, zone))) => format!("as.{zone}").parse().map_err(Failure::other)?,
        (None, None) => return Err(Failure::new(Code::Usage, "the AS has no name", "give --as-name")),
    };
    let right = match token_file {
        Some(file) => signup::Right::Invitation(files::read_secret(&file)?),
        None => signup::Right::Certificate { gain: Duration::ZERO },
    };
    let places = run::resolve("--as", &[place])?;
    let file = |end: &str| out.join(format!("{name}.{end}"));
    let (certificate, key) = (file("pem"), file("key"));
    let applicant = signup::Applicant { name, places, as_name, roots, right, certificate, key };
    let (certificate, key) = run::block_on(applicant.sign_up())?;
    print(&format!("{}\n{}\n", certificate.display(), key.display()));
    Ok(())
}
