//! `as`, `nms`, `trs` and `node`: the commands that run a daemon.

use std::path::PathBuf;

use clap::Args;

use crate::error::Failure;
use crate::run;
use crate::settings::{self, AuthSettings, LogFormat, NmsSettings, NodeSettings, Settings, TrsSettings};

#[derive(Args)]
pub(super) struct Daemon<S: Args> {
    /// The configuration file. Default: /etc/cyphonic/ROLE.toml if it exists.
    #[arg(short, long, env = "CYPHONIC_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: S,
}

impl<S: Settings + Args> Daemon<S> {
    /// The settings from flags, variables and file. Logging is configured by them from now on.
    fn begin(self, logging: impl FnOnce(&S) -> (Option<&str>, Option<LogFormat>)) -> Result<S, Failure> {
        let file = self.config.or_else(|| settings::default_file(S::ROLE));
        let settings = self.settings.with_file(file.as_deref())?;
        let (filter, format) = logging(&settings);
        run::log(filter, format)?;
        Ok(settings)
    }
}

pub(super) fn auth(daemon: Daemon<AuthSettings>) -> Result<(), Failure> {
    run::serve(run::auth(daemon.begin(|settings| (settings.log.as_deref(), settings.log_format))?))
}

pub(super) fn nms(daemon: Daemon<NmsSettings>) -> Result<(), Failure> {
    run::serve(run::nms(daemon.begin(|settings| (settings.log.as_deref(), settings.log_format))?))
}

pub(super) fn trs(daemon: Daemon<TrsSettings>) -> Result<(), Failure> {
    run::serve(run::trs(daemon.begin(|settings| (settings.log.as_deref(), settings.log_format))?))
}

pub(super) fn node(daemon: Daemon<NodeSettings>) -> Result<(), Failure> {
    run::serve(run::node(daemon.begin(|settings| (settings.log.as_deref(), settings.log_format))?))
}
