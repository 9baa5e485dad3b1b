//! What a query would read, for people.

use std::io::{self, Write};

use query_wire::plan::{BlockPlan, QueryPlan, Selection};

use super::style::Style;
use super::table;
use super::time::rfc3339;

/// Prints a plan: for each selection what it asks for, then a row for each block of which something is read.
pub(crate) fn print(plan: &QueryPlan, style: Style, out: &mut impl Write) -> io::Result<()> {
    for selection in &plan.selections {
        print_selection(selection, style, out)?;
    }
    let total = &plan.total;
    writeln!(
        out,
        "at most {} of {} pages in {} of {} blocks, {} records, {}",
        total.pages_read,
        total.pages_inside,
        total.blocks_read,
        total.blocks,
        total.records_read,
        size(total.bytes_read)
    )?;
    if total.records_counted > 0 {
        writeln!(out, "{} records are counted without reading any", total.records_counted)?;
    }
    Ok(())
}

fn print_selection(selection: &Selection, style: Style, out: &mut impl Write) -> io::Result<()> {
    let time = |ns: &str| ns.parse().map_or_else(|_| ns.to_owned(), rfc3339);
    writeln!(out, "{}  {} to {}", selection.selector, time(&selection.start_ns), time(&selection.end_ns))?;
    writeln!(out, "  reads {}", selection.columns.join(", "))?;
    for needle in &selection.needles {
        writeln!(out, "  asks the index where {needle}")?;
    }
    if selection.head_records > 0 {
        writeln!(out, "  {} records in memory", selection.head_records)?;
    }
    if selection.blocks_outside > 0 {
        writeln!(out, "  {} blocks lie outside the range", selection.blocks_outside)?;
    }
    let untouched = |block: &&BlockPlan| block.pages_read == 0 && block.records_counted == 0;
    let count = selection.blocks.iter().filter(untouched).count();
    if count > 0 {
        writeln!(out, "  nothing is read of {count} blocks")?;
    }
    let rows: Vec<Vec<String>> = selection.blocks.iter().filter(|block| !untouched(block)).map(row).collect();
    if !rows.is_empty() {
        let header = ["block", "streams", "pages", "inside", "read", "index", "records", "counted", "bytes"];
        for line in table::render(&header, &rows, style).lines() {
            writeln!(out, "  {line}")?;
        }
    }
    writeln!(out)
}

fn row(block: &BlockPlan) -> Vec<String> {
    vec![
        block.block.clone(),
        block.streams.to_string(),
        block.pages.to_string(),
        block.pages_inside.to_string(),
        block.pages_read.to_string(),
        if block.by_index { "yes" } else { "no" }.to_owned(),
        block.records_read.to_string(),
        block.records_counted.to_string(),
        size(block.bytes_read),
    ]
}

/// Returns bytes in a unit that keeps the number short.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    #[expect(clippy::cast_precision_loss, reason = "a size for people")]
    let mut rest = bytes as f64;
    let mut unit = 0;
    while rest >= 1024.0 && unit + 1 < UNITS.len() {
        rest /= 1024.0;
        unit += 1;
    }
    let unit_name = UNITS.get(unit).copied().unwrap_or_default();
    if unit == 0 { format!("{bytes} B") } else { format!("{rest:.1} {unit_name}") }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use query_wire::plan::Total;

    use super::*;

    #[test]
    fn a_plan_is_told_for_people() {
        let read = BlockPlan {
            block: "000000000001-000000000004".to_owned(),
            records: 1_000_000,
            pages: 980,
            streams: 2,
            pages_inside: 40,
            by_index: true,
            pages_read: 3,
            records_read: 3072,
            bytes_read: 150_000,
            records_counted: 0,
        };
        let selection = Selection {
            selector: "{app=\"a\"}".to_owned(),
            start_ns: "0".to_owned(),
            end_ns: "1000000000".to_owned(),
            needles: vec!["the line holds \"x\"".to_owned()],
            columns: vec!["timestamp".to_owned(), "lines".to_owned()],
            blocks_outside: 5,
            blocks: vec![read, BlockPlan::default()],
            head_records: 7,
        };
        let total = Total {
            blocks: 2,
            blocks_read: 1,
            pages_inside: 40,
            pages_read: 3,
            records_read: 3079,
            bytes_read: 150_000,
            records_counted: 9,
        };
        let plan = QueryPlan { result_type: "plan".to_owned(), selections: vec![selection], total };
        let mut out = Vec::new();
        print(&plan, Style::PLAIN, &mut out).unwrap();
        expect![[r#"
            {app="a"}  1970-01-01T00:00:00Z to 1970-01-01T00:00:01Z
              reads timestamp, lines
              asks the index where the line holds "x"
              7 records in memory
              5 blocks lie outside the range
              nothing is read of 1 blocks
              block                      streams  pages  inside  read  index  records  counted      bytes
              000000000001-000000000004  2        980    40      3     yes    3072     0        146.5 KiB

            at most 3 of 40 pages in 1 of 2 blocks, 3079 records, 146.5 KiB
            9 records are counted without reading any
        "#]]
        .assert_eq(&String::from_utf8(out).unwrap());
    }
}
