//! Templates of `line_format` and `label_format`.

use model::Timestamp;

use crate::row::RowLabels;

/// A template, ready to run.
#[derive(Debug)]
pub(crate) struct Template(Vec<Piece>);

#[derive(Debug)]
enum Piece {
    Text(String),
    Field(String),
}

impl Template {
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            pieces.push(Piece::Text(before.to_owned()));
            let (inside, behind) = after.split_once("}}").ok_or("template: line:1: unclosed action")?;
            let name = inside.trim().strip_prefix('.').ok_or_else(|| format!("function {inside:?} not defined"))?;
            pieces.push(Piece::Field(name.to_owned()));
            rest = behind;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Ok(Self(pieces))
    }

    pub(crate) fn fields(&self, names: &mut Vec<String>) {
        for piece in &self.0 {
            if let Piece::Field(name) = piece {
                names.push(name.clone());
            }
        }
    }

    pub(crate) fn render(&self, at: Timestamp, line: &str, row: &RowLabels<'_>) -> Result<String, String> {
        self.render_with(at, line, |name| row.get(name))
    }

    pub(crate) fn render_with<'v>(
        &self,
        _at: Timestamp,
        _line: &str,
        get: impl Fn(&str) -> Option<&'v str>,
    ) -> Result<String, String> {
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Field(name) => out.push_str(get(name).unwrap_or("")),
            }
        }
        Ok(out)
    }
}
