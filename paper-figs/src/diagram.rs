//! The diagrams: the paper's Figures 2 to 9 as sequences, 10 and 11 as lists of modules and steps, 12 as a capture.
//!
//! A diagram is written as SVG; a sequence also as Mermaid. Figures 10 and 11 are drawn from `assets/modules.csv`. A
//! test compares its paths and functions with the source tree.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use cyphonic_sequence::{Sequence, escaped, fields};

use crate::figure::Failure;
use crate::input::{InputError, Origin};
use crate::output::{make_folder, write_file};

/// The list of modules and steps, without its header.
pub const MODULES: &str = include_str!("../assets/modules.csv");

/// One diagram.
#[derive(Clone, Copy, Debug)]
pub struct Diagram {
    /// Its name: that of its files.
    pub name: &'static str,
    /// What it shows.
    pub about: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sequence,
    Composition,
    Flow,
    Capture,
}

/// A diagram, drawn.
#[derive(Clone, Debug)]
pub struct Drawn {
    /// What the reader has to know.
    pub caption: String,
    /// The drawing.
    pub svg: String,
    /// The same as Mermaid, of a sequence.
    pub mermaid: Option<String>,
}

const fn sequence(name: &'static str, about: &'static str) -> Diagram {
    Diagram { name, about, kind: Kind::Sequence }
}

/// Every diagram.
pub const DIAGRAMS: &[Diagram] = &[
    sequence("figure-2", "Figure 2. Login and registration, conventional"),
    sequence("figure-3", "Figure 3. Pattern 1, conventional"),
    sequence("figure-4-initiator", "Figure 4. Pattern 2, conventional, Node A behind a NAT"),
    sequence("figure-4-responder", "Figure 4. Pattern 2, conventional, Node B behind a NAT"),
    sequence("figure-5", "Figure 5. Pattern 3, conventional"),
    sequence("figure-6", "Figure 6. Login and registration, proposed"),
    sequence("figure-7", "Figure 7. Pattern 1, proposed"),
    sequence("figure-8-initiator", "Figure 8. Pattern 2, proposed, Node A behind a NAT"),
    sequence("figure-8-responder", "Figure 8. Pattern 2, proposed, Node B behind a NAT"),
    sequence("figure-9", "Figure 9. Pattern 3, proposed"),
    sequence("ours-blind-relay", "Ours: pattern 3 through a relay that holds no key"),
    Diagram { name: "figure-10", about: "Figure 10. Modules of a node", kind: Kind::Composition },
    Diagram { name: "figure-11", about: "Figure 11. A packet's way out and in, both methods", kind: Kind::Flow },
    Diagram { name: "figure-12", about: "Figure 12. Two pings in a capture at Node A, proposed", kind: Kind::Capture },
];

impl Diagram {
    /// The files from which it is drawn, within the results folder.
    pub fn inputs(&self) -> Vec<String> {
        match self.kind {
            Kind::Sequence => vec![format!("sim/sequences/{}.csv", self.name)],
            Kind::Composition | Kind::Flow => Vec::new(),
            Kind::Capture => ["packets", "fields"].map(|part| format!("sim/sequences/{}-{part}.csv", self.name)).into(),
        }
    }

    /// Draws it.
    ///
    /// # Errors
    /// Its results are missing or damaged.
    pub fn draw(&self, results: &Path) -> Result<Drawn, InputError> {
        match self.kind {
            Kind::Sequence => {
                let path = results.join(&self.inputs()[0]);
                let text = text_of(&path)?;
                let wrong = |(line, problem): (usize, String)| {
                    InputError::of(&path, Some(line as u64), problem, Origin::Simulator)
                };
                let sequence = Sequence::parse(self.about, &text).map_err(wrong)?;
                let ours = sequence.arrows.iter().any(|arrow| !arrow.note.is_empty());
                let ours = if ours { " Italic: what differs from the paper." } else { "" };
                let caption = format!(
                    "{}: the messages of a simulated run, in its order. Bold broken line: a handshake. Solid: over TLS or \
                     QUIC. Broken: sealed under the key in brackets.{ours}",
                    self.about
                );
                Ok(Drawn { caption, svg: sequence.svg(), mermaid: Some(sequence.mermaid()) })
            }
            Kind::Composition => Ok(Drawn {
                caption: format!(
                    "{}. Each box names the file that it is in. Dark: differs between the methods.",
                    self.about
                ),
                svg: composition(),
                mermaid: None,
            }),
            Kind::Flow => Ok(Drawn {
                caption: format!(
                    "{}. Left: conventional. Right: proposed. Each step names its file and function.",
                    self.about
                ),
                svg: flow(),
                mermaid: None,
            }),
            Kind::Capture => {
                let paths = self.inputs().into_iter().map(|input| results.join(input)).collect::<Vec<_>>();
                let (packets, parts) = (text_of(&paths[0])?, text_of(&paths[1])?);
                let svg = capture(&packets, &parts);
                let svg = svg.ok_or_else(|| {
                    InputError::of(&paths[1], None, "a field has no number".to_owned(), Origin::Simulator)
                })?;
                let caption = format!(
                    "{}: above, the packets with an echo; below, the first of them, field by field. Framed: protected by QUIC; \
                     its bytes are shown as they are on the wire.",
                    self.about
                );
                Ok(Drawn { caption, svg, mermaid: None })
            }
        }
    }

    /// Draws it and writes `NAME.svg`, and `NAME.mmd` of a sequence, into a folder; gives their paths.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn make(&self, results: &Path, out: &Path) -> Result<Vec<PathBuf>, Failure> {
        let drawn = self.draw(results)?;
        make_folder(out)?;
        let mut paths = vec![out.join(format!("{}.svg", self.name))];
        write_file(&paths[0], drawn.svg.as_bytes())?;
        if let Some(mermaid) = drawn.mermaid {
            paths.push(out.join(format!("{}.mmd", self.name)));
            write_file(&paths[1], mermaid.as_bytes())?;
        }
        Ok(paths)
    }
}

/// The text of a file that ends with a newline.
fn text_of(path: &Path) -> Result<String, InputError> {
    let error = |problem: String| InputError::of(path, None, problem, Origin::Simulator);
    let text = std::fs::read_to_string(path).map_err(|problem| error(format!("cannot be read: {problem}")))?;
    if text.ends_with('\n') { Ok(text) } else { Err(error("the file is cut off: its last line has no end".to_owned())) }
}

/// A row of the list of modules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// `figure-10` or `figure-11`.
    pub part: String,
    /// Its layer, or the direction of the packet.
    pub layer: String,
    /// The number of the step.
    pub step: u32,
    /// `both`, `conventional` or `proposed`.
    pub method: String,
    /// What it does.
    pub what: String,
    /// The file.
    pub path: String,
    /// What the file has to contain.
    pub item: String,
}

/// The rows of the list.
pub fn modules() -> Vec<Module> {
    let row = |line: &str| {
        let [part, layer, step, method, what, path, item] = fields(line).try_into().ok()?;
        Some(Module { part, layer, step: step.parse().ok()?, method, what, path, item })
    };
    MODULES.lines().skip(1).filter_map(row).collect()
}

fn begin(width: u32, height: u32, title: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"Arimo, Arial, Helvetica, sans-serif\" font-size=\"11\" role=\"img\">\n<title>{}</title>\n\
         <defs><marker id=\"head\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"9\" markerHeight=\"9\" \
         markerUnits=\"userSpaceOnUse\" orient=\"auto\"><path d=\"M0 0 8 4 0 8z\"/></marker></defs>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        escaped(title)
    )
}

/// A box with a text in two or more lines.
fn boxed(text: &mut String, (x, y): (u32, u32), (width, height): (u32, u32), differs: bool, lines: &[&str]) {
    let stroke = if differs { "2.4" } else { "1" };
    let fill = if differs { "#ddd" } else { "#fff" };
    let _ = writeln!(
        text,
        "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"{fill}\" stroke=\"black\" stroke-width=\"{stroke}\"/>"
    );
    let top = y + (height - 13 * lines.len() as u32) / 2 + 10;
    for (index, line) in lines.iter().enumerate() {
        let small = if index + 1 == lines.len() { " font-size=\"9\" font-family=\"monospace\"" } else { "" };
        let _ = writeln!(
            text,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\"{small}>{}</text>",
            x + width / 2,
            top + 13 * index as u32,
            escaped(line)
        );
    }
}

/// Figure 10: layers from applications to sockets; the methods side by side.
fn composition() -> String {
    let all: Vec<Module> = modules().into_iter().filter(|module| module.part == "figure-10").collect();
    let mut layers: Vec<&str> = Vec::new();
    for module in &all {
        if !layers.contains(&module.layer.as_str()) {
            layers.push(&module.layer);
        }
    }
    let rows: Vec<(&str, Vec<Vec<&Module>>)> = layers
        .iter()
        .map(|layer| {
            let of: Vec<&Module> = all.iter().filter(|module| module.layer == *layer).collect();
            let (both, one): (Vec<&Module>, Vec<&Module>) = of.into_iter().partition(|module| module.method == "both");
            (*layer, [both, one].into_iter().filter(|row| !row.is_empty()).collect())
        })
        .collect();
    let count: usize = rows.iter().map(|(_, rows)| rows.len()).sum();
    let mut text = begin(760, 24 + 58 * count as u32, "Figure 10. Modules of a node");
    let mut y = 12;
    for (layer, rows) in rows {
        let _ = writeln!(text, "<text x=\"8\" y=\"{}\" font-weight=\"bold\">{}</text>", y + 26, escaped(layer));
        for row in rows {
            let width = 648 / row.len() as u32;
            for (index, module) in row.iter().enumerate() {
                let method = if module.method == "both" { String::new() } else { format!("{}: ", module.method) };
                let first = format!("{method}{}", module.what);
                let place = (104 + width * index as u32, y);
                boxed(&mut text, place, (width - 8, 46), module.method != "both", &[&first, &module.path]);
            }
            y += 58;
        }
    }
    text + "</svg>\n"
}

/// Figure 11: the steps of a packet out and in; what differs stands side by side.
fn flow() -> String {
    let all: Vec<Module> = modules().into_iter().filter(|module| module.part == "figure-11").collect();
    let steps =
        |way: &str| all.iter().filter(|module| module.layer == way).map(|module| module.step).max().unwrap_or(0);
    let height = 70 * (steps("out") + steps("in")) + 96;
    let mut text = begin(820, height, "Figure 11. A packet's way out and in, both methods");
    let mut y = 10;
    for (way, title) in [("out", "Out: a packet of an application"), ("in", "In: a datagram of the network")] {
        let _ = writeln!(
            text,
            "<text x=\"410\" y=\"{}\" text-anchor=\"middle\" font-weight=\"bold\">{title}</text>",
            y + 12
        );
        y += 24;
        for step in 1..=steps(way) {
            for module in all.iter().filter(|module| module.layer == way && module.step == step) {
                let (x, width) = match module.method.as_str() {
                    "conventional" => (8, 398),
                    "proposed" => (414, 398),
                    _ => (140, 540),
                };
                let place = format!("{} {}", module.path, module.item.trim_start_matches("fn "));
                let words = split(&module.what, 58);
                let mut lines: Vec<&str> = words.iter().map(String::as_str).collect();
                lines.push(&place);
                boxed(&mut text, (x, y), (width, 54), module.method != "both", &lines);
                if step < steps(way) {
                    let middle = x + width / 2;
                    let _ = writeln!(
                        text,
                        "<line x1=\"{middle}\" y1=\"{}\" x2=\"{middle}\" y2=\"{}\" stroke=\"black\" marker-end=\"url(#head)\"/>",
                        y + 54,
                        y + 69
                    );
                }
            }
            y += 70;
        }
        y += 14;
    }
    text + "</svg>\n"
}

/// Words in lines of at most so many characters.
fn split(text: &str, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.len() - 1;
        if !lines[last].is_empty() && lines[last].len() + 1 + word.len() > most {
            lines.push(word.to_owned());
        } else {
            let gap = if lines[last].is_empty() { "" } else { " " };
            lines[last] = format!("{}{gap}{word}", lines[last]);
        }
    }
    lines
}

/// How many bytes of a field are shown.
const SHOWN: usize = 24;

/// Figure 12: the list of packets, then the fields of the first of them.
fn capture(packets: &str, parts: &str) -> Option<String> {
    let packets: Vec<Vec<String>> = packets.lines().skip(1).map(fields).collect();
    let parts: Vec<Vec<String>> = parts.lines().skip(1).map(fields).collect();
    let height = 60 + 16 * packets.len() + 24 * parts.len() + 30;
    let mut text = begin(860, height as u32, "Figure 12. Two pings in a capture at Node A, proposed");
    text.push_str("<g font-family=\"monospace\" font-size=\"10\">\n");
    let mut line = |y: usize, x: usize, words: &str, bold: bool| {
        let weight = if bold { " font-weight=\"bold\"" } else { "" };
        let _ = writeln!(text, "<text x=\"{x}\" y=\"{y}\"{weight} xml:space=\"preserve\">{}</text>", escaped(words));
    };
    let mut y = 20;
    line(y, 8, "No.  Time (ms)   Source              Destination         Length  Protocol  Info", true);
    for packet in &packets {
        y += 16;
        let [number, ms, from, to, bytes, protocol, info] = packet.as_slice() else { return None };
        line(y, 8, &format!("{number:<4} {ms:<11} {from:<19} {to:<19} {bytes:<7} {protocol:<9} {info}"), false);
    }
    y += 34;
    line(y, 8, "Packet 1: offset, bytes, field, bytes on the wire", true);
    y += 8;
    let begins = y + 4;
    let mut protected = None;
    for part in &parts {
        let [name, offset, bytes, is_protected, wire, _] = part.as_slice() else { return None };
        let count: usize = bytes.parse().ok()?;
        if is_protected == "true" && protected.is_none() {
            protected = Some(y + 4);
        }
        y += 24;
        let shown: Vec<String> =
            wire.as_bytes().chunks(2).take(SHOWN).map(|b| String::from_utf8_lossy(b).into_owned()).collect();
        let more = if count > SHOWN { " …" } else { "" };
        line(y - 4, 14, &format!("{offset:>5} {count:>5}  {name:<30} {}{more}", shown.join(" ")), false);
    }
    let top = protected.unwrap_or(begins);
    let _ = writeln!(
        text,
        "</g>\n<rect x=\"8\" y=\"{top}\" width=\"844\" height=\"{}\" fill=\"none\" stroke=\"black\" stroke-width=\"2\"/>\n\
         <text x=\"846\" y=\"{}\" text-anchor=\"end\" font-weight=\"bold\">Protected Payload</text>",
        y - top + 4,
        top + 13
    );
    Some(text + "</svg>\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Figures 10 and 11 say where everything is: the tree has to agree.
    #[test]
    fn every_module_and_step_is_in_the_source_tree() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let all = modules();
        assert_eq!(all.len(), MODULES.lines().count() - 1, "a line does not parse");
        for module in &all {
            let source = std::fs::read_to_string(root.join(&module.path));
            let source = source.unwrap_or_else(|error| panic!("{}: {error}", module.path));
            assert!(source.contains(&module.item), "{} has no `{}`", module.path, module.item);
            assert!(["both", "conventional", "proposed"].contains(&module.method.as_str()));
        }
        for way in ["out", "in"] {
            let steps: std::collections::BTreeSet<u32> =
                all.iter().filter(|module| module.part == "figure-11" && module.layer == way).map(|m| m.step).collect();
            assert_eq!(steps, (1..=steps.len() as u32).collect(), "{way}");
        }
    }
}
