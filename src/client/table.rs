//! Tables without borders: easy on the eye, and `awk` can read them.

use comfy_table::{CellAlignment, Table, presets};

use super::style::{DIM, Style, printable};

/// Renders rows below a header; the last column is aligned to the right.
pub(crate) fn render(header: &[&str], rows: &[Vec<String>], style: Style) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(header.to_vec());
    table.add_rows(rows.iter().map(|row| row.iter().map(|cell| printable(cell).into_owned()).collect::<Vec<_>>()));
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((if index == 0 { 0 } else { 2 }, 0));
        if index + 1 == header.len() && header.len() > 1 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = String::new();
    for (index, line) in table.lines().enumerate() {
        let line = line.trim_end();
        if index == 0 {
            text.push_str(&style.paint(DIM, line))
        } else {
            text.push_str(line)
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn wide_characters_and_control_characters_keep_the_columns() {
        let rows = [vec!["결제".to_owned(), "1".to_owned()], vec!["a\u{1b}[0m".to_owned(), "200".to_owned()]];
        expect![[r#"
            name        value
            결제            1
            a\u{1b}[0m    200
        "#]]
        .assert_eq(&render(&["name", "value"], &rows, Style::PLAIN));
    }
}
