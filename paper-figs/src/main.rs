//! `paper-figs`: draws the paper's figures from results files.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use paper_figs::{FIGURES, Failure, Figure};

/// Draws figures, as SVG and PNG, from the CSV files of the results folder alone.
#[derive(Parser)]
#[command(
    version,
    after_help = "\
Exit codes:
  0  every figure was drawn
  1  a figure could not be written
  2  a results file is missing or damaged (the other figures are drawn), or the command line is wrong

The results come from `cargo run --release`; `paper-figs --list` says which figure needs which."
)]
struct Arguments {
    /// Draw only these figures
    #[arg(value_name = "FIGURE", value_parser = figure)]
    figures: Vec<&'static Figure>,
    /// The results folder: it holds sim/ and paper/
    #[arg(long, value_name = "DIR", default_value = "results")]
    results: PathBuf,
    /// Where the figures go
    #[arg(long, value_name = "DIR", default_value = "paper-figs/out")]
    out: PathBuf,
    /// List the figures and the files that they are drawn from
    #[arg(long)]
    list: bool,
}

fn figure(name: &str) -> Result<&'static Figure, String> {
    FIGURES.iter().find(|figure| figure.name == name).ok_or_else(|| {
        let names: Vec<_> = FIGURES.iter().map(|figure| figure.name).collect();
        format!("there is no figure of that name; there are {}", names.join(", "))
    })
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let chosen = if arguments.figures.is_empty() { FIGURES.iter().collect() } else { arguments.figures };
    if arguments.list {
        for figure in chosen {
            println!("{:<8} {}\n{:<8} from {}", figure.name, figure.about, "", figure.inputs.join(", "));
        }
        return ExitCode::SUCCESS;
    }
    let mut code = 0;
    for figure in chosen {
        match figure.make(&arguments.results, &arguments.out) {
            Ok(files) => files.iter().for_each(|file| println!("{}", file.display())),
            Err(failure) => {
                eprintln!("{}: {failure}", figure.name);
                code = code.max(if matches!(failure, Failure::Input(_)) { 2 } else { 1 });
            }
        }
    }
    ExitCode::from(code)
}
