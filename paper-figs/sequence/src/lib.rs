//! One drawing of sequences of messages: for figures, reports, and the page of a run.
//!
//! A [`Sequence`] has lifelines from left to right and messages from top to bottom, in the order of their times. It is
//! read from a CSV file ([`Sequence::parse`]), and drawn as SVG ([`Sequence::svg`]) or as Mermaid
//! ([`Sequence::mermaid`]). The same sequence gives the same bytes. Lines differ in pattern, not in colour, so a grey
//! print says as much.

use std::fmt::Write as _;

/// The columns of a CSV file of messages.
pub const COLUMNS: [&str; 8] = ["ms", "from", "to", "what", "detail", "protection", "bytes", "note"];

/// A message, or a handshake.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrow {
    /// When it was sent, milliseconds of the run.
    pub ms: f64,
    /// The sender; of a handshake, the client.
    pub from: String,
    /// The receiver; of a handshake, the server.
    pub to: String,
    /// The message's name.
    pub what: String,
    /// Its fields, if they say something.
    pub detail: String,
    /// What protects it: `TLS`, `QUIC`, a key such as `CK_alice`, or `handshake`.
    pub protection: String,
    /// Its length, bytes; empty for a handshake.
    pub bytes: String,
    /// What the reader has to know beside the paper.
    pub note: String,
}

impl Arrow {
    /// Whether it stands for several messages in both directions.
    pub fn is_handshake(&self) -> bool {
        self.protection == "handshake"
    }

    /// What is written above its line.
    fn label(&self) -> String {
        let detail = if self.detail.is_empty() { String::new() } else { format!(" {}", self.detail) };
        let protection = if self.is_handshake() { String::new() } else { format!(" [{}]", self.protection) };
        format!("{}{detail}{protection}", self.what)
    }
}

/// Messages in the order of their times.
#[derive(Clone, Debug, PartialEq)]
pub struct Sequence {
    /// What it shows.
    pub title: String,
    /// The parties, from left to right.
    pub lifelines: Vec<String>,
    /// The messages.
    pub arrows: Vec<Arrow>,
}

/// The order of lifelines: one node at the left, the services, and all other nodes at the right.
fn place(name: &str) -> usize {
    match name {
        "alice" => 0,
        "as" => 1,
        "nms" => 2,
        "trs" => 3,
        _ => 4,
    }
}

/// How the figures of the paper call a party.
fn called(name: &str) -> String {
    match name {
        "alice" => "Node A".to_owned(),
        "bob" => "Node B".to_owned(),
        "as" | "nms" | "trs" => name.to_uppercase(),
        other => other.to_owned(),
    }
}

/// Distance of two lifelines, and the other measures of a drawing, pixels.
const COLUMN: f64 = 178.0;
const MARGIN: f64 = 78.0;
const HEAD: f64 = 44.0;
const LINE: f64 = 13.0;
/// Characters of a label in one column.
const PER_COLUMN: usize = 29;

impl Sequence {
    /// The sequence of these messages. Lifelines are those that appear.
    pub fn new(title: &str, arrows: Vec<Arrow>) -> Self {
        let mut lifelines: Vec<String> = Vec::new();
        for name in arrows.iter().flat_map(|arrow| [&arrow.from, &arrow.to]) {
            if !lifelines.contains(name) {
                lifelines.push(name.clone());
            }
        }
        lifelines.sort_by_key(|name| place(name));
        Self { title: title.to_owned(), lifelines, arrows }
    }

    /// Reads the bytes of a CSV file with [`COLUMNS`].
    ///
    /// # Errors
    /// The number of the line, and what is wrong with it.
    pub fn parse(title: &str, text: &str) -> Result<Self, (usize, String)> {
        let mut lines = text.lines().enumerate();
        let header = lines.next().map(|(_, line)| fields(line)).unwrap_or_default();
        if header != COLUMNS {
            return Err((1, format!("the header is not {}", COLUMNS.join(","))));
        }
        if !text.ends_with('\n') {
            return Err((text.lines().count(), "the file is cut off: its last line has no end".to_owned()));
        }
        let mut arrows = Vec::new();
        for (index, line) in lines {
            let wrong = |what: &str| (index + 1, what.to_owned());
            let fields: [String; COLUMNS.len()] =
                fields(line).try_into().map_err(|_| wrong("the number of fields is wrong"))?;
            let [ms, from, to, what, detail, protection, bytes, note] = fields;
            let ms = ms.parse().map_err(|_| wrong("the time is no number"))?;
            arrows.push(Arrow { ms, from, to, what, detail, protection, bytes, note });
        }
        if arrows.is_empty() {
            return Err((1, "there are no messages below the header".to_owned()));
        }
        Ok(Self::new(title, arrows))
    }

    /// The bytes of its CSV file.
    pub fn csv(&self) -> String {
        let mut text = COLUMNS.join(",") + "\n";
        for arrow in &self.arrows {
            let Arrow { ms, from, to, what, detail, protection, bytes, note } = arrow;
            let ms = format!("{ms:.3}");
            let fields = [&ms, from, to, what, detail, protection, bytes, note].map(|field| quoted(field));
            let _ = writeln!(text, "{}", fields.join(","));
        }
        text
    }

    /// As a Mermaid diagram.
    pub fn mermaid(&self) -> String {
        let mut text = format!("---\ntitle: {}\n---\nsequenceDiagram\n", self.title);
        for name in &self.lifelines {
            let _ = writeln!(text, "    participant {name} as {}", called(name));
        }
        for arrow in &self.arrows {
            let line = if arrow.is_handshake() { "<<->>" } else { "->>" };
            // A semicolon ends a statement, and a hash begins an entity.
            let label = arrow.label().replace(';', ",").replace('#', "no. ");
            let _ = writeln!(text, "    {}{line}{}: {label}", arrow.from, arrow.to);
            if !arrow.note.is_empty() {
                let _ = writeln!(text, "    Note over {},{}: {}", arrow.from, arrow.to, arrow.note.replace(';', ","));
            }
        }
        text
    }

    fn x(&self, name: &str) -> f64 {
        let index = self.lifelines.iter().position(|other| other == name).unwrap_or(0);
        MARGIN + COLUMN * index as f64
    }

    /// As an SVG drawing. Each message is a group of the class `message` with its number, from 0, in `data-index`.
    pub fn svg(&self) -> String {
        let width = 2.0 * MARGIN + COLUMN * self.lifelines.len().saturating_sub(1) as f64;
        let width = width.max(440.0);
        let mut body = String::new();
        let mut y = HEAD + 8.0;
        for (index, arrow) in self.arrows.iter().enumerate() {
            y = self.draw(&mut body, index, arrow, y, width);
        }
        let height = y + 14.0;
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"0 0 {width:.0} \
             {height:.0}\" font-family=\"Arimo, Arial, Helvetica, sans-serif\" font-size=\"11\" role=\"img\">\n<title>{}</title>\n\
             <defs><marker id=\"head\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"9\" markerHeight=\"9\" markerUnits=\"userSpaceOnUse\" \
             orient=\"auto-start-reverse\"><path d=\"M0 0 8 4 0 8z\"/></marker></defs>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
            escaped(&self.title)
        );
        for name in &self.lifelines {
            let x = self.x(name);
            let _ = writeln!(
                text,
                "<rect x=\"{:.0}\" y=\"10\" width=\"84\" height=\"24\" fill=\"#eee\" stroke=\"black\"/>\
                 <text x=\"{x:.0}\" y=\"26\" text-anchor=\"middle\" font-weight=\"bold\">{}</text>\
                 <line x1=\"{x:.0}\" y1=\"34\" x2=\"{x:.0}\" y2=\"{:.0}\" stroke=\"#888\" stroke-dasharray=\"2 3\"/>",
                x - 42.0,
                escaped(&called(name)),
                height - 4.0
            );
        }
        text + &body + "</svg>\n"
    }

    /// Draws one message from `y` down, and gives where the next may begin.
    fn draw(&self, body: &mut String, index: usize, arrow: &Arrow, mut y: f64, width: f64) -> f64 {
        let (from, to) = (self.x(&arrow.from), self.x(&arrow.to));
        let columns = ((to - from).abs() / COLUMN).max(1.0);
        let fits = (columns * PER_COLUMN as f64) as usize;
        let middle = f64::midpoint(from, to).clamp(110.0, width - 110.0);
        let _ = writeln!(body, "<g class=\"message\" data-index=\"{index}\">");
        for line in wrapped(&arrow.label(), fits) {
            y += LINE;
            // The white outline keeps a label readable where it crosses a lifeline.
            let _ = writeln!(
                body,
                "<text x=\"{middle:.0}\" y=\"{y:.0}\" text-anchor=\"middle\" stroke=\"white\" stroke-width=\"3\" \
                 paint-order=\"stroke\">{}</text>",
                escaped(&line)
            );
        }
        if !arrow.note.is_empty() {
            for line in wrapped(&arrow.note, fits) {
                y += LINE;
                let _ = writeln!(
                    body,
                    "<text x=\"{middle:.0}\" y=\"{y:.0}\" text-anchor=\"middle\" font-style=\"italic\" font-size=\"10\" \
                     stroke=\"white\" stroke-width=\"3\" paint-order=\"stroke\">{}</text>",
                    escaped(&line)
                );
            }
        }
        y += 6.0;
        // Keys of the conventional method seal datagrams; TLS and QUIC are connections.
        let dash = match arrow.protection.as_str() {
            "handshake" => " stroke-width=\"3\" stroke-dasharray=\"10 4\" marker-start=\"url(#head)\"",
            "TLS" | "QUIC" => " stroke-width=\"1.4\"",
            _ => " stroke-width=\"1.4\" stroke-dasharray=\"5 3\"",
        };
        let _ = writeln!(
            body,
            "<line x1=\"{from:.0}\" y1=\"{y:.0}\" x2=\"{to:.0}\" y2=\"{y:.0}\" stroke=\"black\"{dash} marker-end=\"url(#head)\"/>\
             <text x=\"4\" y=\"{y:.0}\" font-size=\"9\" fill=\"#444\">{:.1} ms</text></g>",
            arrow.ms
        );
        y + 7.0
    }
}

/// Words in lines of at most so many characters, if no word is longer.
fn wrapped(text: &str, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= most => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Text as XML has it.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A field of CSV (RFC 4180).
pub fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field.to_owned() }
}

/// The fields of a line of CSV (RFC 4180), of which none has a line break.
pub fn fields(line: &str) -> Vec<String> {
    let (mut fields, mut field, mut inside) = (Vec::new(), String::new(), false);
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if inside && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' => inside = !inside,
            ',' if !inside => fields.push(std::mem::take(&mut field)),
            other => field.push(other),
        }
    }
    fields.push(field);
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrow(from: &str, to: &str, what: &str, protection: &str) -> Arrow {
        let [from, to, what, protection] = [from, to, what, protection].map(str::to_owned);
        let (detail, note) = ("{ peer: bob, \"x\" }".to_owned(), String::new());
        Arrow { ms: 1.5, from, to, what, detail, protection, bytes: "49".to_owned(), note }
    }

    fn some() -> Sequence {
        let arrows = vec![
            arrow("bob", "nms", "Report <1>", "CK_bob"),
            arrow("alice", "trs", "QUIC handshake", "handshake"),
            Arrow { note: "ours".to_owned(), ..arrow("alice", "nms", "Request", "QUIC") },
        ];
        Sequence::new("Two & more", arrows)
    }

    #[test]
    fn a_file_reads_as_it_was_written_and_a_damaged_one_names_its_line() {
        let text = some().csv();
        assert_eq!(Sequence::parse("Two & more", &text), Ok(some()));
        assert_eq!(Sequence::parse("", &text.replace("1.500", "soon")).unwrap_err().0, 2);
        assert_eq!(Sequence::parse("", &text[..text.len() - 3]).unwrap_err().0, 4);
        assert_eq!(Sequence::parse("", "a,b\n").unwrap_err().0, 1);
    }

    #[test]
    fn lifelines_are_in_the_order_of_the_figures_and_every_message_is_drawn() {
        let sequence = some();
        assert_eq!(sequence.lifelines, ["alice", "nms", "trs", "bob"]);
        let svg = sequence.svg();
        assert_eq!(svg.matches("class=\"message\"").count(), 3);
        assert!(
            svg.contains("Report &lt;1&gt;") && svg.contains("Node A") && svg.contains("NMS") && !svg.contains("<1>")
        );
        assert_eq!(svg.matches("<text ").count(), svg.matches("</text>").count());
        let mermaid = sequence.mermaid();
        assert!(mermaid.contains("alice<<->>trs: QUIC handshake") && mermaid.contains("Note over alice,nms: ours"));
        let order: Vec<_> = mermaid.lines().filter_map(|line| line.trim().strip_prefix("participant ")).collect();
        assert_eq!(order, ["alice as Node A", "nms as NMS", "trs as TRS", "bob as Node B"]);
    }
}
