//! `paper-figs`: draws the paper's figures from results files.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use paper_figs::{DIAGRAMS, Diagram, FIGURES, Failure, Figure, Options, report};

/// Draws figures, as SVG and PNG, and diagrams, as SVG and Mermaid, from the CSV files of the results folder alone; or
/// writes the report.
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
    /// Draw only these figures and diagrams; `report`: instead, one HTML file with every claim and every figure
    #[arg(value_name = "FIGURE", value_parser = picture)]
    pictures: Vec<Picture>,
    /// The results folder: it holds sim/ and paper/
    #[arg(long, value_name = "DIR", default_value = "results")]
    results: PathBuf,
    /// Where the figures go
    #[arg(long, value_name = "DIR", default_value = "paper-figs/out")]
    out: PathBuf,
    /// List the figures and the files that they are drawn from
    #[arg(long)]
    list: bool,
    /// Draw figures without the caption below; the SVG's description keeps it
    #[arg(long)]
    no_captions: bool,
    /// Write each figure as PDF, too: one page of its size, with the pixels of the PNG
    #[arg(long)]
    pdf: bool,
}

/// What can be asked for by its name.
#[derive(Clone, Copy)]
enum Picture {
    Figure(&'static Figure),
    Diagram(&'static Diagram),
    Report,
}

/// Every figure and diagram, in the order of the lists.
fn all() -> impl Iterator<Item = Picture> {
    FIGURES.iter().map(Picture::Figure).chain(DIAGRAMS.iter().map(Picture::Diagram))
}

impl Picture {
    const fn name(self) -> &'static str {
        match self {
            Self::Figure(figure) => figure.name,
            Self::Diagram(diagram) => diagram.name,
            Self::Report => "report",
        }
    }
}

fn picture(name: &str) -> Result<Picture, String> {
    let mut known = all().chain([Picture::Report]);
    known.find(|picture| picture.name() == name).ok_or_else(|| {
        let names: Vec<_> = all().map(Picture::name).collect();
        format!("there is no figure of that name; there are {}, and report", names.join(", "))
    })
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let chosen = if arguments.pictures.is_empty() { all().collect() } else { arguments.pictures.clone() };
    if arguments.list {
        for picture in chosen {
            let (about, inputs) = match picture {
                Picture::Figure(figure) => (figure.about, figure.inputs.join(", ")),
                Picture::Diagram(diagram) => (diagram.about, diagram.inputs().join(", ")),
                Picture::Report => ("every claim of the paper, tested", "every file".to_owned()),
            };
            let inputs = if inputs.is_empty() { "the source tree".to_owned() } else { inputs };
            println!("{:<18} {about}\n{:<18} from {inputs}", picture.name(), "");
        }
        return ExitCode::SUCCESS;
    }
    let mut code = 0;
    for picture in chosen {
        match make(picture, &arguments) {
            Ok(files) => files.iter().for_each(|file| println!("{}", file.display())),
            Err(failure) => {
                eprintln!("{}: {failure}", picture.name());
                code = code.max(if matches!(failure, Failure::Input(_)) { 2 } else { 1 });
            }
        }
    }
    ExitCode::from(code)
}

/// Makes one, and gives its files.
fn make(picture: Picture, arguments: &Arguments) -> Result<Vec<PathBuf>, Failure> {
    let (results, out) = (&arguments.results, &arguments.out);
    let options = Options { has_caption: !arguments.no_captions, has_pdf: arguments.pdf };
    match picture {
        Picture::Figure(figure) => figure.make(results, out, options),
        Picture::Diagram(diagram) => diagram.make(results, out),
        Picture::Report => {
            let (path, missing) = report::write(results, out)?;
            for line in missing {
                eprintln!("not in the report: {line}");
            }
            Ok(vec![path])
        }
    }
}
