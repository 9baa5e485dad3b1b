//! Colours, when they are wanted: never into a file or a pipe.

use std::io::IsTerminal;

/// Whether and how wide to draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
pub(crate) struct StyleArgs {
    /// Never use colours; they are off anyway when the output is no terminal
    #[arg(long, env = "NO_COLOR", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) no_color: bool,
    /// Width of tables and charts in columns; the terminal's unless given
    #[arg(long, value_name = "COLUMNS", value_parser = clap::value_parser!(u16).range(20..=1000))]
    pub(crate) width: Option<u16>,
}

/// Columns of a chart where there is no terminal to ask.
const WIDTH_DEFAULT: u16 = 100;

impl StyleArgs {
    /// Returns the style for standard output.
    pub(crate) fn stdout(self) -> Style {
        Style { color: !self.no_color && std::io::stdout().is_terminal() }
    }

    /// Returns how many columns there are.
    pub(crate) fn columns(self) -> u16 {
        let terminal = || rustix::termios::tcgetwinsize(std::io::stdout()).ok().map(|size| size.ws_col);
        self.width.or_else(terminal).filter(|width| *width >= 20).unwrap_or(WIDTH_DEFAULT)
    }
}

/// Paints text, or leaves it plain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    /// Whether to paint.
    pub(crate) color: bool,
}

/// A colour of the terminal's 256.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Color(u8);

/// What recedes: times, axes.
pub(crate) const DIM: Color = Color(245);
/// What is wrong.
pub(crate) const ERROR: Color = Color(203);
/// What may be wrong.
pub(crate) const WARN: Color = Color(214);
/// Names.
pub(crate) const NAME: Color = Color(74);

/// Colours of series, told apart on dark and light backgrounds and by most colour-blind people.
const SERIES: [Color; 8] = [Color(33), Color(208), Color(35), Color(170), Color(37), Color(167), Color(142), Color(99)];

impl Style {
    /// No colours.
    #[cfg(test)]
    pub(crate) const PLAIN: Self = Self { color: false };

    /// Returns `text` in `color`.
    pub(crate) fn paint(self, color: Color, text: &str) -> String {
        if self.color && !text.is_empty() { format!("\x1b[38;5;{}m{text}\x1b[0m", color.0) } else { text.to_owned() }
    }
}

/// Returns the colour of the series at `index`; they repeat.
pub(crate) fn series_color(index: usize) -> Color {
    SERIES[index % SERIES.len()]
}

/// Replaces what would move the cursor or change colours: a log line must not rule the terminal.
pub(crate) fn printable(text: &str) -> std::borrow::Cow<'_, str> {
    let bad = |c: char| c.is_control() && c != '\t';
    if !text.contains(bad) {
        return text.into();
    }
    let mut clean = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if bad(c) { clean.extend(c.escape_default()) } else { clean.push(c) }
    }
    clean.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_style_leaves_text_alone() {
        assert_eq!(Style::PLAIN.paint(ERROR, "x"), "x");
        assert_eq!(Style { color: true }.paint(ERROR, "x"), "\u{1b}[38;5;203mx\u{1b}[0m");
    }

    #[test]
    fn control_characters_are_shown_not_obeyed() {
        assert_eq!(printable("a\tb"), "a\tb");
        assert_eq!(printable("\u{1b}[2Ja\r"), "\\u{1b}[2Ja\\r");
    }
}
