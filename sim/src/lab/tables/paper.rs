//! The values of the paper's tables, from `results/paper`.

use std::collections::BTreeMap;

fn records(csv: &str) -> impl Iterator<Item = Vec<&str>> {
    csv.lines().skip(1).map(|line| line.split(',').collect())
}

/// Table 1, in the paper's order: the networks of initiator and responder, and the signaling pattern.
pub(super) fn patterns() -> Vec<((String, String), u8)> {
    let csv = include_str!("../../../../results/paper/table1-signaling-patterns.csv");
    let cell = |r: Vec<&str>| ((r[0].to_owned(), r[1].to_owned()), r[2].parse().expect("a pattern"));
    records(csv).map(cell).collect()
}

/// Table 3: the bytes of each field in the conventional and the proposed method. The key `sum` has the sums of both
/// columns, which the paper does not print.
pub(super) fn sizes() -> BTreeMap<String, [i64; 2]> {
    let csv = include_str!("../../../../results/paper/table3-packet-size.csv");
    let number = |text: &str| text.parse().unwrap_or(0);
    let mut sizes: BTreeMap<_, _> = records(csv).map(|r| (r[0].to_owned(), [number(r[1]), number(r[2])])).collect();
    let sum = [0, 1].map(|method| sizes.values().map(|sizes| sizes[method]).sum());
    sizes.insert("sum".to_owned(), sum);
    sizes
}

/// Table 4: milliseconds in the conventional and the proposed method, by the name of the statistic.
pub(super) fn rtts() -> BTreeMap<String, [f64; 2]> {
    let csv = include_str!("../../../../results/paper/table4-rtt.csv");
    let number = |text: &str| text.parse().expect("milliseconds");
    records(csv).map(|r| (r[0].to_owned(), [number(r[1]), number(r[2])])).collect()
}

/// Table 2: the words in the columns of the conventional and the proposed method, by property.
pub(in crate::lab) fn comparison() -> BTreeMap<String, [String; 2]> {
    let csv = include_str!("../../../../results/paper/table2-comparison.csv");
    records(csv).map(|r| (r[0].to_owned(), [r[1].to_owned(), r[2].to_owned()])).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_papers_columns_sum_to_a_full_ethernet_packet() {
        let sizes = super::sizes();
        assert_eq!(sizes["sum"], [1500, 1500]);
        assert_eq!(sizes["quic_header"], [0, 20]);
        assert_eq!(super::patterns().len(), 9);
        assert_eq!(super::rtts()["mean"].map(|ms| ms.to_string()), ["4.018", "4.034"]);
    }
}
