//! The page: tables and figures in one file.

use std::fmt::Write as _;

use cyphonic_sequence::escaped;

use super::claims::{Claim, Verdict};
use super::source::{Made, Run};

const FONTS: [(&str, &[u8]); 2] = [
    ("normal", include_bytes!("../../assets/Arimo-Regular.ttf")),
    ("bold", include_bytes!("../../assets/Arimo-Bold.ttf")),
];

const STYLE: &str = "
body { font: 13px/1.45 Arimo, Arial, Helvetica, sans-serif; margin: 24px auto; max-width: 1180px; padding: 0 16px; color: #111; }
h1 { font-size: 20px; } h2 { font-size: 16px; margin-top: 28px; break-after: avoid; } h3 { font-size: 13px; margin: 18px 0 4px; break-after: avoid; }
table { border-collapse: collapse; width: 100%; font-size: 11.5px; }
th, td { border: 1px solid #999; padding: 3px 5px; text-align: left; vertical-align: top; overflow-wrap: anywhere; }
th { background: #eee; } tr { break-inside: avoid; }
#claims td:nth-child(7), #claims th:nth-child(7) { white-space: nowrap; overflow-wrap: normal; }
.reproduced { font-weight: bold; }
.differs { background: #eee; font-weight: bold; }
.refuted { background: #222; color: #fff; font-weight: bold; }
code { font-size: 10.5px; overflow-wrap: anywhere; }
figure { margin: 14px 0; break-inside: avoid; overflow-x: auto; } figure svg { max-width: 100%; height: auto; }
figcaption { font-size: 11.5px; max-width: 110ch; }
@page { size: A4 landscape; margin: 12mm; }
@media print { body { margin: 0; max-width: none; } }
";

/// The page.
pub(super) fn page(
    claims: &[Claim],
    figures: &[(&'static str, String, String)],
    missing: &[String],
    manifests: &[Made],
    runs: &[Run],
) -> String {
    let mut fonts = String::new();
    for (weight, bytes) in FONTS {
        let data = base64(bytes);
        let _ = writeln!(
            fonts,
            "@font-face {{ font-family: Arimo; font-weight: {weight}; src: url(data:font/ttf;base64,{data}); }}"
        );
    }
    let mut text = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; font-src data:; \
         img-src data:\">\n<link rel=\"icon\" href=\"data:,\">\n<title>CYPHONIC over QUIC: the paper's claims, tested</title>\n\
         <style>{fonts}{STYLE}</style>\n</head>\n<body>\n<h1>CYPHONIC over QUIC: the paper's claims, tested</h1>\n\
         <p>Each row is one claim of the paper by Horisaki, Matama, Naito and Suzuki. Each number is computed from the file \
         that its row names. The same file gives the same report. Conventional: CYPHONIC on UDP 4501. Proposed: CYPHONIC in \
         QUIC as in the paper, on a stream (its Figure 12); other framings are named.</p>\n"
    );
    let _ = writeln!(text, "<p>{}</p>", tally(claims));
    text.push_str("<h2>Claims</h2>\n<table id=\"claims\"><thead><tr><th>Place</th><th>Claim</th><th>How it was tested</th><th>Paper</th>\
                   <th>Ours</th><th>Interval</th><th>Verdict</th><th>File, command, digest</th></tr></thead><tbody>\n");
    for claim in claims {
        let class = match claim.verdict {
            Verdict::Reproduced => "reproduced",
            Verdict::Differs => "differs",
            Verdict::Refuted => "refuted",
            Verdict::Untestable | Verdict::Undecided | Verdict::Answer | Verdict::Missing => "open",
        };
        let cells = [claim.place, &claim.claim, &claim.how, &claim.paper, &claim.ours, &claim.interval].map(escaped);
        let _ = writeln!(
            text,
            "<tr><td>{}</td><td class=\"{class}\">{}</td><td><code>{}</code></td></tr>",
            cells.join("</td><td>"),
            claim.verdict.name(),
            escaped(&claim.source)
        );
    }
    text.push_str("</tbody></table>\n<h2>Figures</h2>\n");
    for (name, caption, svg) in figures {
        let _ = writeln!(
            text,
            "<figure id=\"{name}\"><h3>{name}</h3>\n{}<figcaption>{}</figcaption></figure>",
            unique(svg, name),
            escaped(caption)
        );
    }
    text.push_str("<h2>Files</h2>\n<table><thead><tr><th>File</th><th>Command</th><th>Seeds</th><th>SHA-256</th><th>Sources</th><th>Toolchain</th></tr></thead><tbody>\n");
    for made in manifests {
        let cells = [&made.file, &made.command, &made.seeds, &made.sha256, &made.build.sources, &made.build.toolchain];
        let _ = writeln!(text, "<tr><td>{}</td></tr>", cells.map(|cell| escaped(cell)).join("</td><td>"));
    }
    text.push_str("</tbody></table>\n<h2>Runs on real machines</h2>\n<table><thead><tr><th>Run</th><th>Command</th><th>Commit</th><th>Processor</th><th>Kernel</th><th>Docker</th><th>Load</th></tr></thead><tbody>\n");
    for run in runs {
        let processor =
            if run.cores == 0 { "not recorded".to_owned() } else { format!("{} × {}", run.cores, run.cpu) };
        let cells = [&run.run, &run.command, &run.commit, &processor, &run.kernel, &run.docker, &run.load_1min];
        let _ = writeln!(text, "<tr><td>{}</td></tr>", cells.map(|cell| escaped(cell)).join("</td><td>"));
    }
    text.push_str("</tbody></table>\n");
    if !missing.is_empty() {
        text.push_str("<h2>Missing</h2>\n<ul>\n");
        for line in missing {
            let _ = writeln!(text, "<li>{}</li>", escaped(line));
        }
        text.push_str("</ul>\n");
    }
    text + "</body>\n</html>\n"
}

/// How many claims have each verdict.
fn tally(claims: &[Claim]) -> String {
    let all = [
        Verdict::Reproduced,
        Verdict::Differs,
        Verdict::Refuted,
        Verdict::Undecided,
        Verdict::Untestable,
        Verdict::Missing,
        Verdict::Answer,
    ];
    let counts = all.into_iter().filter_map(|verdict| {
        let count = claims.iter().filter(|claim| claim.verdict == verdict).count();
        (count > 0).then(|| format!("{count} {}", verdict.name()))
    });
    format!("{} claims: {}.", claims.len(), counts.collect::<Vec<_>>().join(", "))
}

/// Identifiers inside a drawing, made those of this drawing: a page has one of each.
fn unique(svg: &str, name: &str) -> String {
    svg.replace("id=\"head\"", &format!("id=\"head-{name}\"")).replace("url(#head)", &format!("url(#head-{name})"))
}

/// RFC 4648 §4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0_u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            if digit <= chunk.len() {
                text.push(DIGITS[(group >> (18 - 6 * digit) & 63) as usize] as char);
            } else {
                text.push('=');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        let vectors =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")];
        for (bytes, text) in vectors {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
