//! Set-up under loss and jitter: the share of set-ups that are complete within a time, for each framing.
//!
//! One row of panels for each kind of link, one column for each pattern. The time is that of login, registration and
//! tunnel together.

use std::collections::BTreeMap;
use std::path::Path;

use cyphonic_statistics::sorted;
use plotters::chart::ChartBuilder;
use plotters::style::text_anchor::{HPos, VPos};

use super::style::{Line, axes, curve, legend_line, to_sheet};
use crate::input::{InputError, Origin, read};
use crate::render::{Drawing, Width};
use crate::rows::{Framing, LossySetup};
use crate::sheet::{Drawn, Sheet, TEXT, at, bold, pt, write};

/// Loss in millionths and jitter in microseconds: numbers with an order.
type Course = (u64, u64);
/// Times in ascending order, milliseconds, by framing.
type Curves = BTreeMap<Framing, Vec<f64>>;

/// The kinds of sites, and the headings of their columns.
const KINDS: [(&str, &str); 2] = [("ipv6", "pattern 1, direct"), ("ipv4-private", "pattern 3, blind relay")];
/// Height of a row of panels, points.
const PANEL: f64 = 105.0;
/// Into how many steps a curve is drawn: finer than the print can show.
const STEPS: usize = 400;
/// Height of the legend, points.
const LEGEND: f64 = 12.0;

pub(super) fn prepare(results: &Path) -> Result<Drawing, InputError> {
    let table = read::<LossySetup>(results, Origin::Simulator, "setup-loss")?;
    let mut sums: BTreeMap<(Course, String, Framing, u64), f64> = BTreeMap::new();
    for row in table.lines.iter().map(|line| &line.row) {
        let course = ((row.link_loss * 1e6).round() as u64, (row.link_jitter_ms * 1e3).round() as u64);
        *sums.entry((course, row.a_kind.clone(), row.framing, row.seed)).or_default() += row.ms;
    }
    let mut panels: BTreeMap<(Course, String), Curves> = BTreeMap::new();
    for ((course, kind, framing, _), ms) in sums {
        panels.entry((course, kind)).or_default().entry(framing).or_default().push(ms);
    }
    for curves in panels.values_mut() {
        for times in curves.values_mut() {
            *times = sorted(times);
        }
    }
    let mut courses: Vec<Course> = panels.keys().map(|(course, _)| *course).collect();
    courses.dedup();
    for (course, (kind, _)) in courses.iter().flat_map(|course| KINDS.map(|kind| (course, kind))) {
        if !panels.contains_key(&(*course, kind.to_owned())) {
            return Err(table.error(format!("there is no set-up between sites of kind {kind} for every kind of link")));
        }
    }
    let runs = panels.values().flat_map(BTreeMap::values).map(Vec::len).max().unwrap_or(0);
    Ok(Drawing {
        title: "Set-up under loss and jitter".into(),
        caption: format!(
            "Share of set-ups (login, registration and tunnel until the first echo’s answer) that are complete within a time: \
             {runs} seeds, the same for each framing. Loss and jitter are those of every link, those of the services too, in \
             each direction; two hosts are two links and a round trip of 40 ms apart. The initiator sends an echo every 50 ms. \
             Where Compact cannot be seen, it lies under Proposed."
        ),
        has_caption: true,
        width: Width::Page,
        height: LEGEND + PANEL * courses.len() as f64,
        paint: Box::new(move |sheet| paint(sheet, &courses, &panels)),
    })
}

/// The line of a framing: they differ in lightness, width and dashes.
const fn line(framing: Framing) -> Line {
    match framing {
        Framing::Udp4501 => Line::Broad,
        Framing::Stream => Line::Solid,
        Framing::Datagram => Line::Dotted,
        Framing::Compact => Line::Dashed,
    }
}

fn paint(sheet: &Sheet<'_>, courses: &[Course], panels: &BTreeMap<(Course, String), Curves>) -> Drawn {
    let (width, _) = sheet.dim_in_pixel();
    let all = panels.values().flat_map(BTreeMap::values).flatten();
    let (least, most) = all.fold((f64::MAX, 1.0_f64), |(low, high), ms| (low.min(*ms), high.max(*ms)));
    let range = (least.max(1.0).log10() - 0.1)..(most.log10() + 0.05);
    let (legend, rest) = sheet.split_vertically(pt(LEGEND));
    let framings: std::collections::BTreeSet<Framing> = panels.values().flat_map(BTreeMap::keys).copied().collect();
    for (index, framing) in framings.into_iter().enumerate() {
        legend_line(&legend, framing.title(), (pt(38.0 + 110.0 * index as f64), pt(6.0)), line(framing))?;
    }
    let rows = rest.split_evenly((courses.len(), 1));
    for (row, course) in rows.iter().zip(courses) {
        let (left, right) = row.split_horizontally(width / 2);
        for (area, (kind, name)) in [left, right].iter().zip(KINDS) {
            let words = match course {
                (0, 0) => "no loss".to_owned(),
                (loss, 0) => format!("loss {} % a link", *loss as f64 / 1e4),
                (0, jitter) => format!("jitter {} ms a link", *jitter as f64 / 1e3),
                (loss, jitter) => format!("loss {} %, jitter {} ms a link", *loss as f64 / 1e4, *jitter as f64 / 1e3),
            };
            let curves = &panels[&(*course, kind.to_owned())];
            panel(area, &format!("{words}; {name}"), curves, range.clone())?;
        }
    }
    Ok(())
}

fn panel(area: &Sheet<'_>, title: &str, curves: &Curves, range: std::ops::Range<f64>) -> Drawn {
    let mut chart = ChartBuilder::on(area)
        .margin_top(pt(14.0))
        .margin_right(pt(8.0))
        .margin_left(pt(4.0))
        .y_label_area_size(pt(34.0))
        .x_label_area_size(pt(24.0))
        .build_cartesian_2d(range.clone(), 0.0..1.0)?;
    axes(&mut chart.configure_mesh())
        .x_labels(6)
        .y_labels(6)
        .x_label_formatter(&|power| format!("{:.1}", 10_f64.powf(*power - 3.0)))
        .y_label_formatter(&|share| format!("{share:.1}"))
        .x_desc("Time (s)")
        .y_desc("Share of set-ups")
        .draw()?;
    let sheet = area.strip_coord_spec();
    let to_sheet = to_sheet(area, &chart);
    for (framing, times) in curves {
        let step = (range.end - range.start) / STEPS as f64;
        let powers = (0..=STEPS).map(|at| range.start + step * at as f64);
        let share = |ms: f64| times.partition_point(|time| *time <= ms) as f64 / times.len().max(1) as f64;
        let points = powers.map(|power| to_sheet(power, share(10_f64.powf(power)))).collect();
        curve(&sheet, points, line(*framing))?;
    }
    write(&sheet, title, &at(&bold(TEXT), HPos::Left, VPos::Center), (pt(38.0), pt(7.0)))
}
