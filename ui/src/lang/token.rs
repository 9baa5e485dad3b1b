//! Cuts PromQL and LogQL into tokens, for colours and for completion. It never fails: what it does not know is `Other`.

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// A name: of a metric, a label, a function or a keyword.
    Name,
    /// Text in quotes, perhaps not closed.
    Text,
    /// A number or a duration.
    Number,
    /// `# …` up to the end of the line.
    Comment,
    /// One of `(){}[],`.
    Bracket,
    /// An operator such as `=~`.
    Operator,
    /// White space.
    Space,
    /// Anything else.
    Other,
}

/// A piece of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    /// What it is.
    pub kind: TokenKind,
    /// As written.
    pub text: &'a str,
    /// Where it starts, in bytes.
    pub start: usize,
}

impl Token<'_> {
    /// Where it ends, in bytes.
    pub(crate) fn end(&self) -> usize {
        self.start + self.text.len()
    }

    /// Whether this is quoted text with its closing quote.
    pub(crate) fn is_closed_text(&self) -> bool {
        let Some(quote) = self.text.chars().next() else { return false };
        let mut is_escaped = false;
        let mut closings = 0;
        for c in self.text.chars().skip(1) {
            closings += usize::from(c == quote && !is_escaped);
            is_escaped = c == '\\' && !is_escaped && quote != '`';
        }
        self.kind == TokenKind::Text && closings > 0
    }
}

/// Returns all tokens of `query` in order; together they are the whole text.
pub(crate) fn tokens(query: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = query;
    while let Some(first) = rest.chars().next() {
        let (kind, length) = measure(first, rest);
        let Some((text, tail)) = rest.split_at_checked(length.max(first.len_utf8())) else { break };
        tokens.push(Token { kind, text, start: query.len() - rest.len() });
        rest = tail;
    }
    tokens
}

fn measure(first: char, rest: &str) -> (TokenKind, usize) {
    let run = |is_part: fn(char) -> bool| rest.find(|c| !is_part(c)).unwrap_or(rest.len());
    match first {
        c if c.is_whitespace() => (TokenKind::Space, run(char::is_whitespace)),
        c if c.is_alphabetic() || c == '_' || c == ':' => {
            (TokenKind::Name, run(|c| c.is_alphanumeric() || matches!(c, '_' | ':' | '.')))
        }
        c if c.is_ascii_digit() || c == '.' => (TokenKind::Number, run(|c| c.is_ascii_alphanumeric() || c == '.')),
        '"' | '\'' | '`' => (TokenKind::Text, text_length(first, rest)),
        '#' => (TokenKind::Comment, rest.find('\n').unwrap_or(rest.len())),
        '(' | ')' | '{' | '}' | '[' | ']' | ',' => (TokenKind::Bracket, 1),
        c if "=!~<>+-*/%^|@&".contains(c) => (TokenKind::Operator, run(|c| "=!~<>|".contains(c)).max(1)),
        _ => (TokenKind::Other, first.len_utf8()),
    }
}

fn text_length(quote: char, rest: &str) -> usize {
    let mut is_escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        if c == quote && !is_escaped {
            return at + 1;
        }
        is_escaped = c == '\\' && !is_escaped && quote != '`';
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(query: &str, expected: &str) {
        let found = tokens(query);
        assert_eq!(found.iter().map(|t| t.text).collect::<String>(), query, "nothing is lost");
        let shown = found.iter().filter(|t| t.kind != TokenKind::Space).map(|t| format!("{:?}:{}", t.kind, t.text));
        assert_eq!(shown.collect::<Vec<_>>().join(" "), expected);
    }

    #[test]
    fn a_query_falls_into_tokens() {
        check(
            r#"rate(x:y{a=~"b\"c"}[5m]) > 1.5e3 # end"#,
            r#"Name:rate Bracket:( Name:x:y Bracket:{ Name:a Operator:=~ Text:"b\"c" Bracket:} Bracket:[ Number:5m Bracket:] Bracket:) Operator:> Number:1.5e3 Comment:# end"#,
        );
        check(
            r#"{a="b"} |= "x" | json"#,
            r#"Bracket:{ Name:a Operator:= Text:"b" Bracket:} Operator:|= Text:"x" Operator:| Name:json"#,
        );
    }

    #[test]
    fn broken_and_foreign_text_is_cut_too() {
        for query in ["\"open", "'", "`a", "결제{", "💥 $ ;", "\\", "\"a\\", "é=\"ü"] {
            let found = tokens(query);
            assert_eq!(found.iter().map(|t| t.text).collect::<String>(), query);
        }
        assert!(!tokens("\"open")[0].is_closed_text());
        assert!(!tokens("\"a\\\"")[0].is_closed_text());
        assert!(tokens("\"a\\\"\"")[0].is_closed_text());
    }
}
