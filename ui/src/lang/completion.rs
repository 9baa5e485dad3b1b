//! What a PromQL editor offers at the cursor, decided from the text alone; names and values come from the API.

use super::functions::{AGGREGATIONS, FUNCTIONS, KEYWORDS, WITHOUT, is_function, is_keyword, takes_labels};
use super::token::{Token, TokenKind, tokens};

/// What belongs at the cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A metric's name, a function or a keyword.
    Expression,
    /// A label's name, of this metric if one is known.
    LabelName {
        /// The metric.
        metric: Option<String>,
    },
    /// A label's value.
    LabelValue {
        /// The metric.
        metric: Option<String>,
        /// The label.
        label: String,
    },
    /// A duration, in brackets or behind `offset`.
    Duration,
}

/// What to offer, for which part of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Completion {
    /// What kind of word.
    pub wanted: Wanted,
    /// What is typed of it already, in bytes: it is replaced.
    pub start: usize,
    /// The end of what is replaced, in bytes; the cursor, or a closing quote behind it.
    pub end: usize,
    /// What is typed of it already, without quotes.
    pub prefix: String,
}

/// One offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offer {
    /// What is put in.
    pub insert: String,
    /// What the list shows.
    pub label: String,
    /// A few words about it.
    pub detail: String,
    /// `metric`, `function`, `aggregation`, `keyword`, `label`, `value` or `duration`.
    pub kind: &'static str,
}

/// Most offers in the list: more cannot be read, and narrowing by typing is quicker.
const OFFERS_MAX: usize = 60;

/// Decides what belongs at `cursor`, a byte position; nothing in comments and behind finished texts.
pub(crate) fn at_cursor(query: &str, cursor: usize) -> Option<Completion> {
    let (before, after) = query.split_at_checked(cursor)?;
    let all = tokens(before);
    let current = all.last().filter(|t| matches!(t.kind, TokenKind::Name | TokenKind::Number | TokenKind::Text));
    let (typed, earlier) = match current {
        Some(token) => (Some(*token), all.split_last().map_or(&all[..], |(_, earlier)| earlier)),
        None => (None, &all[..]),
    };
    if all.last().is_some_and(|t| t.kind == TokenKind::Comment) {
        return None;
    }
    let place = Place::of(earlier);
    let start = typed.map_or(cursor, |token| token.start);
    let plain = |wanted, prefix: &str| Some(Completion { wanted, start, end: cursor, prefix: prefix.to_owned() });
    match (place, typed) {
        (Place::LabelValue { metric, label }, Some(token)) if token.kind == TokenKind::Text => {
            if token.is_closed_text() {
                return None;
            }
            let mut prefix = token.text.chars();
            let quote = prefix.next()?;
            // A quote that the editor put behind the cursor is replaced as well.
            let end = cursor + usize::from(after.starts_with(quote));
            let prefix = prefix.as_str().to_owned();
            Some(Completion { wanted: Wanted::LabelValue { metric, label }, start: token.start, end, prefix })
        }
        (Place::LabelValue { metric, label }, None) => plain(Wanted::LabelValue { metric, label }, ""),
        (Place::LabelName { metric }, None) => plain(Wanted::LabelName { metric }, ""),
        (Place::LabelName { metric }, Some(token)) if token.kind == TokenKind::Name => {
            plain(Wanted::LabelName { metric }, token.text)
        }
        (Place::Duration, None) => plain(Wanted::Duration, ""),
        (Place::Duration, Some(token)) if token.kind == TokenKind::Number => plain(Wanted::Duration, token.text),
        (Place::Expression, Some(token)) if token.kind == TokenKind::Name => plain(Wanted::Expression, token.text),
        (Place::Expression, None) if before.trim().is_empty() || before.trim_end().ends_with(['(', ',']) => {
            plain(Wanted::Expression, "")
        }
        _ => None,
    }
}

/// The surroundings of the cursor.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Expression,
    LabelName { metric: Option<String> },
    LabelValue { metric: Option<String>, label: String },
    Duration,
    Nowhere,
}

impl Place {
    fn of(tokens: &[Token<'_>]) -> Self {
        let tokens: Vec<_> =
            tokens.iter().filter(|t| !matches!(t.kind, TokenKind::Space | TokenKind::Comment)).collect();
        let mut open = Vec::new();
        for (i, token) in tokens.iter().enumerate() {
            match token.text {
                "(" | "{" | "[" if token.kind == TokenKind::Bracket => open.push(i),
                ")" | "}" | "]" if token.kind == TokenKind::Bracket => drop(open.pop()),
                _ => {}
            }
        }
        let last = tokens.last();
        let Some(inner) = open.last().copied() else {
            return match last {
                Some(t) if t.text == "offset" => Self::Duration,
                Some(t) if matches!(t.kind, TokenKind::Text | TokenKind::Number) => Self::Nowhere,
                _ => Self::Expression,
            };
        };
        let name_before = inner.checked_sub(1).map(|i| tokens[i]).filter(|t| t.kind == TokenKind::Name);
        match tokens[inner].text {
            "{" => {
                let metric = name_before.map(|t| t.text.to_owned());
                Self::in_selector(metric, &tokens[inner + 1..])
            }
            "[" => Self::Duration,
            _ if name_before.is_some_and(|t| takes_labels(t.text)) => {
                let metric = tokens.iter().find(|t| is_metric(t)).map(|t| t.text.to_owned());
                Self::LabelName { metric }
            }
            _ => match last {
                Some(t) if t.text == "offset" => Self::Duration,
                Some(t) if matches!(t.kind, TokenKind::Text | TokenKind::Number) => Self::Nowhere,
                _ => Self::Expression,
            },
        }
    }

    fn in_selector(metric: Option<String>, inside: &[&Token<'_>]) -> Self {
        let matcher = inside.rsplit(|t| t.text == ",").next().unwrap_or_default();
        match matcher {
            [] => Self::LabelName { metric },
            [label, operator] if operator.kind == TokenKind::Operator => {
                Self::LabelValue { metric, label: label.text.trim_matches('"').to_owned() }
            }
            _ => Self::Nowhere,
        }
    }
}

fn is_metric(token: &Token<'_>) -> bool {
    token.kind == TokenKind::Name && !is_function(token.text) && !is_keyword(token.text)
}

/// Returns the offers for `completion` from names (of metrics, labels or values) that the API gave, best first.
///
/// `help` gives a few words about a metric.
pub(crate) fn offers(completion: &Completion, names: &[String], help: impl Fn(&str) -> String) -> Vec<Offer> {
    let prefix = completion.prefix.to_lowercase();
    let mut found: Vec<(u8, Offer)> = Vec::new();
    let mut offer = |insert: String, label: &str, detail: String, kind: &'static str| {
        if let Some(rank) = rank(label, &prefix) {
            found.push((rank, Offer { insert, label: label.to_owned(), detail, kind }));
        }
    };
    match &completion.wanted {
        Wanted::Expression => {
            if !prefix.is_empty() {
                for (name, takes, gives) in FUNCTIONS {
                    offer(format!("{name}("), name, format!("{takes} {gives}"), "function");
                }
                for (name, gives) in AGGREGATIONS {
                    offer(format!("{name}("), name, gives.to_owned(), "aggregation");
                }
                for name in KEYWORDS.into_iter().chain([WITHOUT]) {
                    offer(format!("{name} "), name, String::new(), "keyword");
                }
            }
            for name in names {
                offer(name.clone(), name, String::new(), "metric");
            }
        }
        Wanted::LabelName { .. } => {
            for name in names.iter().filter(|name| *name != "__name__") {
                offer(name.clone(), name, String::new(), "label");
            }
        }
        Wanted::LabelValue { .. } => {
            for name in names {
                offer(format!("{name:?}"), name, String::new(), "value");
            }
        }
        Wanted::Duration => {
            for name in ["1m", "5m", "10m", "30m", "1h", "6h", "1d", "7d"] {
                offer(name.to_owned(), name, String::new(), "duration");
            }
        }
    }
    // Sorting by rank only is stable, so equal ranks stay in the API's order.
    found.sort_by_key(|(rank, offer)| (*rank, if *rank == 0 { offer.label.len() } else { 0 }));
    let mut offers: Vec<Offer> = found.into_iter().map(|(_, offer)| offer).take(OFFERS_MAX).collect();
    for offer in offers.iter_mut().filter(|offer| offer.kind == "metric") {
        offer.detail = help(&offer.label);
    }
    offers
}

/// How well a name fits what was typed: 0 starts with it, 1 has a word that does, 2 has it somewhere.
fn rank(name: &str, prefix: &str) -> Option<u8> {
    if prefix.is_empty() {
        return Some(0);
    }
    let name = name.to_lowercase();
    if name.starts_with(prefix) {
        return Some(0);
    }
    let is_word_start = name.split(['_', ':', '.', '-', '/']).any(|word| word.starts_with(prefix));
    if is_word_start { Some(1) } else { name.contains(prefix).then_some(2) }
}

/// Puts an offer in and returns the new text with the new cursor, a byte position.
pub(crate) fn apply(query: &str, completion: &Completion, offer: &Offer) -> (String, usize) {
    let head = query.get(..completion.start).unwrap_or(query);
    let tail = query.get(completion.end..).unwrap_or_default();
    // A bracket that is there already is used.
    let insert = offer.insert.strip_suffix('(').filter(|_| tail.starts_with('(')).unwrap_or(&offer.insert);
    (format!("{head}{insert}{tail}"), head.len() + insert.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `|` marks the cursor.
    fn wanted(text: &str) -> Option<(Wanted, String)> {
        let cursor = text.find('|').unwrap();
        let completion = at_cursor(&text.replacen('|', "", 1), cursor)?;
        Some((completion.wanted, completion.prefix))
    }

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn metrics_and_functions_are_wanted_where_an_expression_starts() {
        for (text, prefix) in
            [("|", ""), ("ra|", "ra"), ("sum(ra|", "ra"), ("a + b|", "b"), ("sum(|", ""), ("up{a=\"b\"} or x|", "x")]
        {
            assert_eq!(wanted(text), Some((Wanted::Expression, prefix.to_owned())), "{text}");
        }
    }

    #[test]
    fn labels_are_wanted_in_braces_and_groupings() {
        let metric = Some("up".to_owned());
        for (text, prefix) in [("up{|", ""), ("up{jo|", "jo"), ("up{a=\"b\", in|}", "in"), ("sum by (jo|) (up)", "jo")]
        {
            let (found, typed) = wanted(text).unwrap();
            let expected = if text.starts_with("sum") { None } else { metric.clone() };
            assert_eq!((found, typed.as_str()), (Wanted::LabelName { metric: expected }, prefix), "{text}");
        }
        assert_eq!(wanted("sum(up) by (|").unwrap().0, Wanted::LabelName { metric });
    }

    #[test]
    fn values_are_wanted_behind_an_operator() {
        let value =
            |metric: Option<&str>| Wanted::LabelValue { metric: metric.map(str::to_owned), label: "job".to_owned() };
        assert_eq!(wanted("up{job=\"no|"), Some((value(Some("up")), "no".to_owned())));
        assert_eq!(wanted("up{job=|"), Some((value(Some("up")), String::new())));
        assert_eq!(wanted("{job=~\"|\"}"), Some((value(None), String::new())));
    }

    #[test]
    fn durations_are_wanted_in_brackets_and_behind_offset() {
        for text in ["rate(up[|", "rate(up[5|])", "up offset |", "sum(up offset 1|"] {
            assert_eq!(wanted(text).unwrap().0, Wanted::Duration, "{text}");
        }
    }

    #[test]
    fn nothing_is_wanted_where_nothing_fits() {
        for text in ["# no|", "up{a=\"b\"|", "up{a=\"b\"}|", "5|", "up |", "\"x|", "up{a=\"b\" c|"] {
            assert_eq!(wanted(text), None, "{text}");
        }
        assert_eq!(at_cursor("é", 1), None);
        assert_eq!(at_cursor("a", 9), None);
    }

    #[test]
    fn what_starts_as_typed_comes_first() {
        let completion = at_cursor("cpu", 3).unwrap();
        let offers = offers(&completion, &names(&["a_cpu_x", "scpu", "cpu_total", "cpu"]), |m| format!("about {m}"));
        let labels: Vec<_> = offers.iter().map(|o| o.label.as_str()).collect();
        assert_eq!(labels, ["cpu", "cpu_total", "a_cpu_x", "scpu"]);
        assert_eq!(offers[0].detail, "about cpu");
    }

    #[test]
    fn an_offer_takes_the_place_of_what_was_typed() {
        let put = |text: &str, list: &[&str]| {
            let cursor = text.find('|').unwrap();
            let query = text.replacen('|', "", 1);
            let completion = at_cursor(&query, cursor).unwrap();
            let (query, cursor) = apply(&query, &completion, &offers(&completion, &names(list), |_| String::new())[0]);
            let (head, tail) = query.split_at(cursor);
            format!("{head}|{tail}")
        };
        assert_eq!(put("sum(rat|)", &[]), "sum(rate(|)");
        assert_eq!(put("irat|(x)", &[]), "irate|(x)");
        assert_eq!(put("up{job=\"no|\"}", &["node \"a\""]), "up{job=\"node \\\"a\\\"\"|}");
        assert_eq!(put("up{jo|=\"x\"}", &["job"]), "up{job|=\"x\"}");
    }

    #[test]
    fn any_cursor_in_any_text_is_safe() {
        let text = "sum by (a, 결) (rate(x{b=~\"c\\\"|d\", `e}[5m] offset 1h)) # é";
        for cursor in 0..text.len() + 2 {
            if let Some(completion) = at_cursor(text, cursor) {
                for offer in offers(&completion, &names(&["결제", "b"]), |_| String::new()) {
                    assert!(apply(text, &completion, &offer).1 > 0);
                }
            }
        }
    }
}
