//! The figures: a module for each, and the list of all.

mod bench;
mod blocked;
mod docker;
mod handover;
mod matrix;
mod mobility;
mod scale;
mod setup;
mod setup_loss;
mod soak;
mod strips;
mod style;
mod table1;
mod table3;
mod table4;
mod throughput;

use std::path::{Path, PathBuf};

use crate::input::InputError;
use crate::output::{OutputError, make_folder, write_file};
use crate::render::{Drawing, RenderError, pdf};

/// One figure.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// Its name: that of the results file it shows, and of the files it is written to.
    pub name: &'static str,
    /// What it shows.
    pub about: &'static str,
    /// The files from which it is drawn, within the results folder.
    pub inputs: &'static [&'static str],
    /// Reads its rows from the results folder and arranges them.
    pub prepare: fn(&Path) -> Result<Drawing, InputError>,
}

/// Every figure. A new one needs its module and its line here.
pub const FIGURES: &[Figure] = &[
    Figure {
        name: "table1",
        about: "signaling pattern, dialer and success of every pair of networks, each framing",
        inputs: &["sim/table1.csv", "paper/table1-signaling-patterns.csv"],
        prepare: table1::prepare,
    },
    Figure {
        name: "table3",
        about: "what a full packet is made of, each framing beside the paper's columns",
        inputs: &["sim/table3.csv", "paper/table3-packet-size.csv"],
        prepare: table3::prepare,
    },
    Figure {
        name: "table4",
        about: "distribution of the round-trip time, each framing beside the paper's statistics",
        inputs: &["sim/table4.csv", "paper/table4-rtt.csv"],
        prepare: table4::prepare,
    },
    Figure {
        name: "setup",
        about: "round trips, packets and bytes until the first echo, each framing, all patterns",
        inputs: &["sim/setup.csv"],
        prepare: setup::prepare,
    },
    Figure {
        name: "setup-loss",
        about: "share of set-ups complete within a time, under loss and jitter, each framing, patterns 1 and 3",
        inputs: &["sim/setup-loss.csv"],
        prepare: setup_loss::prepare,
    },
    Figure {
        name: "scale",
        about: "signaling of 2 to 250 nodes, when all start at once and after a restart of the NMS, both methods",
        inputs: &["sim/scale.csv"],
        prepare: scale::prepare,
    },
    Figure {
        name: "matrix",
        about: "the paths between every kind of site and every other, both methods and policies",
        inputs: &["sim/matrix.csv"],
        prepare: matrix::prepare,
    },
    Figure {
        name: "handover",
        about: "how long a TCP transfer takes with and without a move, each framing",
        inputs: &["sim/handover.csv"],
        prepare: handover::prepare,
    },
    Figure {
        name: "mobility",
        about: "share of moves after which packets flowed again within a time, each strategy, each framing",
        inputs: &["sim/mobility.csv"],
        prepare: mobility::prepare,
    },
    Figure {
        name: "throughput",
        about: "goodput of a TCP transfer over round-trip time and loss, each framing and congestion control",
        inputs: &["sim/throughput.csv"],
        prepare: throughput::prepare,
    },
    Figure {
        name: "blocked",
        about: "goodput where UDP is blocked, over round-trip time and loss: UDP, TCP 443, TCP through an HTTP proxy",
        inputs: &["sim/blocked.csv"],
        prepare: blocked::prepare_goodput,
    },
    Figure {
        name: "blocked-rtt",
        about: "round trips where UDP is blocked, over round-trip time and loss: UDP, TCP 443, TCP through an HTTP proxy",
        inputs: &["sim/blocked-rtt.csv"],
        prepare: blocked::prepare_rtt,
    },
    Figure {
        name: "docker",
        about: "round-trip times between containers, each pattern and framing, a ping every 0.1 s and every 1 s",
        inputs: &["real/pings.csv"],
        prepare: docker::prepare,
    },
    Figure {
        name: "bench",
        about: "throughput of TCP through our node and through other tunnels, beside that without a tunnel",
        inputs: &["real/bench.csv"],
        prepare: bench::prepare_tcp,
    },
    Figure {
        name: "bench-cost",
        about: "processor time for each gigabyte, our node and other tunnels",
        inputs: &["real/bench.csv"],
        prepare: bench::prepare_cost,
    },
    Figure {
        name: "bench-rtt",
        about: "round-trip time through our node and through other tunnels",
        inputs: &["real/bench.csv"],
        prepare: bench::prepare_rtt,
    },
    Figure {
        name: "soak",
        about: "how often the soak reached each event, over kinds of sites, patterns and methods",
        inputs: &["sim/soak.csv"],
        prepare: soak::prepare,
    },
];

/// What is made of a figure.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether the caption is drawn below it.
    pub has_caption: bool,
    /// Whether a PDF is written, too.
    pub has_pdf: bool,
}

/// Why a figure was not made.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Its results are missing or damaged.
    #[error(transparent)]
    Input(#[from] InputError),
    /// It could not be drawn.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// It could not be written.
    #[error(transparent)]
    Output(#[from] OutputError),
}

impl Figure {
    /// Draws it and writes `NAME.svg` and `NAME.png` into a folder, which is made if need be; gives their paths.
    ///
    /// # Errors
    /// See [`Failure`]. Files from before are then untouched.
    pub fn make(&self, results: &Path, out: &Path, options: Options) -> Result<Vec<PathBuf>, Failure> {
        let drawing = (self.prepare)(results)?;
        let drawing = if options.has_caption { drawing } else { drawing.without_caption() };
        let (svg, png) = (drawing.svg()?, drawing.png()?);
        make_folder(out)?;
        let paths = ["svg", "png"].map(|kind| out.join(format!("{}.{kind}", self.name)));
        write_file(&paths[0], svg.as_bytes())?;
        write_file(&paths[1], &png)?;
        let mut paths: Vec<PathBuf> = paths.into();
        if options.has_pdf {
            paths.push(out.join(format!("{}.pdf", self.name)));
            write_file(&paths[2], &pdf(&png)?)?;
        }
        Ok(paths)
    }
}
