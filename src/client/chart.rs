//! Lines in the terminal, drawn with braille: two by four dots in a character.

use std::fmt::Write;

use chrono::DateTime;

use super::scale::{Unit, time_ticks, value_ticks};
use super::style::{DIM, Style, printable, series_color};

/// Rows of a chart, without axis and legend.
pub(crate) const ROWS_DEFAULT: u16 = 16;

/// Most series in the legend, and drawn: more cannot be told apart in a terminal.
const LINES_MAX: usize = 24;

/// Columns that one label of the time axis takes, space included.
const TIME_LABEL_COLUMNS: usize = 14;

/// A gap wider than this many usual steps is not bridged by a line.
const GAP_STEPS: i64 = 3;

/// Where a braille dot sits: `DOTS[y][x]` in a character of 2 x 4 dots.
const DOTS: [[u8; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];

/// One series: (milliseconds, value), oldest first.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line {
    /// What the legend calls it.
    pub(crate) name: String,
    /// The points; what is not finite leaves a gap.
    pub(crate) points: Vec<(i64, f64)>,
}

/// The size and axes of a chart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chart {
    /// Columns in all.
    pub(crate) columns: u16,
    /// Rows of the plot.
    pub(crate) rows: u16,
    /// The values' unit.
    pub(crate) unit: Unit,
    /// The time axis in milliseconds; the points' own range when missing.
    pub(crate) range_ms: Option<(i64, i64)>,
}

/// Renders lines with axes and a legend.
pub(crate) fn render(lines: &[Line], chart: &Chart, style: Style) -> String {
    let shown = &lines[..lines.len().min(LINES_MAX)];
    let (low, high) = value_range(shown);
    let ticks = value_ticks(low, high, usize::from(chart.rows / 4).max(2), chart.unit);
    let labels: Vec<String> = ticks.iter().map(|tick| chart.unit.format(*tick)).collect();
    let margin = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
    let columns = usize::from(chart.columns).saturating_sub(margin + 2).max(10);
    let mut plot = Plot {
        columns,
        rows: usize::from(chart.rows.max(2)),
        time: chart.range_ms.unwrap_or_else(|| time_range(shown)),
        value: (ticks[0], ticks[ticks.len() - 1]),
        cells: Vec::new(),
    };
    plot.cells = vec![Cell::default(); plot.columns * plot.rows];
    for (index, line) in shown.iter().enumerate() {
        plot.draw(line, index);
    }
    let mut text = String::new();
    plot.write_body(&ticks, &labels, margin, style, &mut text);
    plot.write_time_axis(margin, style, &mut text);
    write_legend(lines, chart.unit, style, &mut text);
    text
}

fn value_range(lines: &[Line]) -> (f64, f64) {
    let values = lines.iter().flat_map(|line| &line.points).map(|(_, value)| *value).filter(|value| value.is_finite());
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    if low > high {
        return (0.0, 1.0);
    }
    // An axis that starts at zero tells the truth about proportions, unless the values are far from it.
    if low > 0.0 && low < high * 0.5 { (0.0, high) } else { (low, high) }
}

fn time_range(lines: &[Line]) -> (i64, i64) {
    let times = || lines.iter().flat_map(|line| &line.points).map(|(at, _)| *at);
    (times().min().unwrap_or(0), times().max().unwrap_or(0))
}

#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    dots: u8,
    line: usize,
}

struct Plot {
    columns: usize,
    rows: usize,
    time: (i64, i64),
    value: (f64, f64),
    cells: Vec<Cell>,
}

impl Plot {
    fn draw(&mut self, line: &Line, index: usize) {
        let gap = usual_step(&line.points).saturating_mul(GAP_STEPS);
        let mut last: Option<(i64, (i64, i64))> = None;
        for &(at, value) in &line.points {
            if !value.is_finite() {
                last = None;
                continue;
            }
            let dot = (self.x(at), self.y(value));
            match last {
                Some((before, from)) if at.saturating_sub(before) <= gap => self.segment(from, dot, index),
                _ => self.dot(dot, index),
            }
            last = Some((at, dot));
        }
    }

    /// Returns the dot column of a time; outside the plot for times outside its range.
    fn x(&self, at: i64) -> i64 {
        let (start, end) = self.time;
        let width = i128::try_from(self.columns * 2 - 1).unwrap_or(1);
        let span = (i128::from(end) - i128::from(start)).max(1);
        let x = (i128::from(at) - i128::from(start)) * width / span;
        i64::try_from(x.clamp(-1, width + 1)).unwrap_or(-1)
    }

    /// Returns the dot row of a value, counted from above.
    fn y(&self, value: f64) -> i64 {
        let (low, high) = self.value;
        let height = i64::try_from(self.rows * 4 - 1).unwrap_or(1);
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a few hundred dots")]
        let up = ((value - low) / (high - low) * height as f64).round() as i64;
        height - up.clamp(0, height)
    }

    /// Draws from one dot to another, as Bresenham does.
    fn segment(&mut self, from: (i64, i64), to: (i64, i64), line: usize) {
        let (dx, dy) = ((to.0 - from.0).abs(), -(to.1 - from.1).abs());
        let (step_x, step_y) = ((to.0 - from.0).signum(), (to.1 - from.1).signum());
        let (mut x, mut y) = from;
        let mut error = dx + dy;
        loop {
            self.dot((x, y), line);
            if (x, y) == to {
                return;
            }
            let doubled = 2 * error;
            if doubled >= dy {
                error += dy;
                x += step_x;
            }
            if doubled <= dx {
                error += dx;
                y += step_y;
            }
        }
    }

    fn dot(&mut self, (x, y): (i64, i64), line: usize) {
        let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) else { return };
        if x / 2 >= self.columns || y / 4 >= self.rows {
            return;
        }
        let cell = &mut self.cells[y / 4 * self.columns + x / 2];
        cell.dots |= DOTS[y % 4][x % 2];
        cell.line = line;
    }

    fn write_body(&self, ticks: &[f64], labels: &[String], margin: usize, style: Style, text: &mut String) {
        for row in 0..self.rows {
            let tick = ticks.iter().position(|tick| usize::try_from(self.y(*tick)).unwrap_or(0) / 4 == row);
            let (label, edge) = tick.map_or(("", '│'), |tick| (labels[tick].as_str(), '┤'));
            text.push_str(&style.paint(DIM, &format!("{label:>margin$} {edge}")));
            text.push_str(&self.row_text(row, style));
            text.push('\n');
        }
    }

    /// Returns the plot's characters of one row, runs of one colour painted together, without trailing blanks.
    fn row_text(&self, row: usize, style: Style) -> String {
        let cells = &self.cells[row * self.columns..(row + 1) * self.columns];
        let used = cells.iter().rposition(|cell| cell.dots != 0).map_or(0, |last| last + 1);
        let mut text = String::new();
        for run in cells[..used].chunk_by(|a, b| (a.dots == 0) == (b.dots == 0) && (a.dots == 0 || a.line == b.line)) {
            if run[0].dots == 0 {
                text.extend(std::iter::repeat_n(' ', run.len()));
            } else {
                let glyphs: String = run.iter().map(|cell| braille(cell.dots)).collect();
                text.push_str(&style.paint(series_color(run[0].line), &glyphs));
            }
        }
        text
    }

    fn write_time_axis(&self, margin: usize, style: Style, text: &mut String) {
        let (start, end) = self.time;
        let (ticks, format) = time_ticks(start, end, (self.columns / TIME_LABEL_COLUMNS).max(1));
        let mut axis = vec!['─'; self.columns];
        let mut labels = String::new();
        for tick in ticks {
            let column = usize::try_from(self.x(tick) / 2).unwrap_or(0);
            let Some(time) = DateTime::from_timestamp_millis(tick) else { continue };
            let label = time.format(format).to_string();
            let at = column.saturating_sub(label.len() / 2).min(self.columns.saturating_sub(label.len()));
            if column < self.columns {
                axis[column] = '┬';
            }
            let used = labels.chars().count();
            if used == 0 || at > used {
                labels.extend(std::iter::repeat_n(' ', at.saturating_sub(used)));
                labels.push_str(&label);
            }
        }
        let axis: String = axis.into_iter().collect();
        let axis = format!("{:margin$} └{axis}", "");
        let labels = format!("{:margin$}  {labels}", "UTC");
        for line in [axis.as_str(), labels.trim_end()] {
            text.push_str(&style.paint(DIM, line));
            text.push('\n');
        }
    }
}

fn braille(dots: u8) -> char {
    char::from_u32(0x2800 + u32::from(dots)).unwrap_or(' ')
}

/// Returns the median distance of neighbouring points.
fn usual_step(points: &[(i64, f64)]) -> i64 {
    let mut steps: Vec<i64> = points.windows(2).map(|pair| pair[1].0.saturating_sub(pair[0].0)).collect();
    if steps.is_empty() {
        return 0;
    }
    let middle = steps.len() / 2;
    *steps.select_nth_unstable(middle).1
}

fn write_legend(lines: &[Line], unit: Unit, style: Style, text: &mut String) {
    for (index, line) in lines.iter().take(LINES_MAX).enumerate() {
        let values: Vec<f64> = line.points.iter().map(|(_, value)| *value).filter(|value| value.is_finite()).collect();
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let figures = values.last().map_or_else(
            || "no finite value".to_owned(),
            |last| format!("last {}, min {}, max {}", unit.format(*last), unit.format(low), unit.format(high)),
        );
        let mark = style.paint(series_color(index), "━━");
        let figures = style.paint(DIM, &figures);
        writeln!(text, "{mark} {}  {figures}", printable(&line.name)).expect("writing to a String succeeds");
    }
    if lines.len() > LINES_MAX {
        let more = lines.len() - LINES_MAX;
        writeln!(text, "and {more} more series, not drawn: aggregate, or use --output table")
            .expect("writing to a String succeeds");
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    const CHART: Chart = Chart { columns: 46, rows: 8, unit: Unit::Plain, range_ms: None };

    #[track_caller]
    fn check(lines: &[Line], chart: &Chart, expected: Expect) {
        expected.assert_eq(&render(lines, chart, Style::PLAIN));
    }

    fn line(name: &str, values: impl IntoIterator<Item = f64>) -> Line {
        let points = values.into_iter().enumerate().map(|(i, v)| (i64::try_from(i).unwrap() * 60_000, v)).collect();
        Line { name: name.to_owned(), points }
    }

    #[test]
    fn a_line_rises_between_its_axes() {
        check(
            &[line("up", (0..60).map(f64::from))],
            &CHART,
            expect![[r#"
            100 ┤
                │
                │
             50 ┤                                  ⣀⣀⡠⠤⠔⠒⠒
                │                         ⢀⣀⡠⠤⠤⠒⠒⠉⠉
                │                ⢀⣀⣀⠤⠤⠒⠒⠉⠉⠁
                │        ⣀⣀⠤⠤⠒⠒⠉⠉⠁
              0 ┤⣀⠤⠤⠒⠒⠊⠉⠉
                └┬───────────────────┬────────────────────
            UTC  00:00             00:30
            ━━ up  last 59, min 0, max 59
        "#]],
        );
    }

    #[test]
    fn a_missing_stretch_is_a_gap() {
        let mut gap = line("gap", (0..60).map(|_| 1.0));
        gap.points.retain(|(at, _)| !(1_000_000..2_500_000).contains(at));
        gap.points[3].1 = f64::NAN;
        check(
            &[gap],
            &CHART,
            expect![[r#"
            1.1 ┤
                │
                │
                │
              1 ┤⠉⠁⠈⠉⠉⠉⠉⠉⠉⠉⠉                 ⠈⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉
                │
                │
            0.9 ┤
                └┬───────────────────┬────────────────────
            UTC  00:00             00:30
            ━━ gap  last 1, min 1, max 1
        "#]],
        );
    }

    #[test]
    fn bytes_have_binary_ticks_and_the_asked_range_is_the_axis() {
        let chart = Chart { unit: Unit::Bytes, range_ms: Some((0, 7_200_000)), ..CHART };
        check(
            &[line("heap", (0..60).map(|i| f64::from(i) * 100_000.0))],
            &chart,
            expect![[r#"
            8 MiB ┤
                  │
                  │                 ⣠⠴
            4 MiB ┤             ⣀⡤⠖⠋
                  │          ⣠⠴⠚⠁
                  │      ⢀⡠⠖⠉
                  │   ⣀⠔⠊⠁
              0 B ┤⡠⠔⠉
                  └┬──────────────────┬──────────────────┬
            UTC    00:00            01:00            02:00
            ━━ heap  last 5.63 MiB, min 0 B, max 5.63 MiB
        "#]],
        );
    }

    #[test]
    fn colours_tell_lines_apart() {
        let text = render(&[line("a", [1.0, 1.0]), line("b", [5.0, 5.0])], &CHART, Style { color: true });
        assert!(text.contains("\u{1b}[38;5;33m━━") && text.contains("\u{1b}[38;5;208m━━"), "{text}");
    }

    #[test]
    fn nothing_that_a_server_can_answer_breaks_it() {
        let wild = Line {
            name: "wild".to_owned(),
            points: vec![(i64::MIN, f64::MAX), (0, f64::MIN), (0, f64::NAN), (1, 1e-320), (i64::MAX, f64::INFINITY)],
        };
        for columns in [0, 1, 20, 1000] {
            for range_ms in [None, Some((5, 5)), Some((10, 0))] {
                let chart = Chart { columns, range_ms, rows: columns, ..CHART };
                assert!(render(std::slice::from_ref(&wild), &chart, Style::PLAIN).contains("wild"));
            }
        }
        assert!(render(&[line("nan", [f64::NAN])], &CHART, Style::PLAIN).contains("no finite value"));
        assert!(render(&vec![line("x", [1.0]); 30], &CHART, Style::PLAIN).contains("and 6 more series"));
    }
}
