//! Which regular expressions are no more than searches for plain text.
//!
//! Loki turns such patterns into plain searches, and shows the others in backquotes: the canonical text needs the same
//! decision. The index needs the literals that every match holds.

use regex_syntax::ast::{self, Ast};

/// A pattern, reduced to what matters here.
#[derive(Debug, Clone, PartialEq)]
enum Node {
    Empty,
    Literal(Vec<char>, bool),
    AnyStar,
    AnyPlus,
    Concat(Vec<Node>),
    Alternate(Vec<Node>),
    Other,
}

/// Says whether Loki would turn the pattern into searches for text.
pub(crate) fn is_simple(pattern: &str) -> bool {
    let Ok(tree) = ast::parse::Parser::new().parse(pattern) else { return false };
    simple(&reduce(&tree, false))
}

fn reduce(tree: &Ast, fold: bool) -> Node {
    match tree {
        Ast::Empty(_) => Node::Empty,
        Ast::Literal(literal) => Node::Literal(vec![literal.c], fold),
        Ast::Repetition(repetition) => reduce_repetition(repetition),
        Ast::Group(group) => {
            let fold = match &group.kind {
                ast::GroupKind::NonCapturing(flags) => flags.flag_state(ast::Flag::CaseInsensitive).unwrap_or(fold),
                ast::GroupKind::CaptureIndex(_) | ast::GroupKind::CaptureName { .. } => fold,
            };
            reduce(&group.ast, fold)
        }
        Ast::Alternation(alternation) => alternate(alternation.asts.iter().map(|tree| reduce(tree, fold)).collect()),
        Ast::Concat(concat) => {
            let mut fold = fold;
            let mut nodes = Vec::new();
            for tree in &concat.asts {
                if let Ast::Flags(set) = tree {
                    fold = set.flags.flag_state(ast::Flag::CaseInsensitive).unwrap_or(fold);
                    continue;
                }
                push(&mut nodes, reduce(tree, fold));
            }
            one_or(nodes, Node::Concat)
        }
        Ast::Flags(_) => Node::Empty,
        _ => Node::Other,
    }
}

fn reduce_repetition(repetition: &ast::Repetition) -> Node {
    match (&*repetition.ast, &repetition.op.kind) {
        (Ast::Dot(_), ast::RepetitionKind::ZeroOrMore) => Node::AnyStar,
        (Ast::Dot(_), ast::RepetitionKind::OneOrMore) => Node::AnyPlus,
        _ => Node::Other,
    }
}

/// Appends to a concatenation: neighbouring literals become one, nested concatenations are opened.
fn push(nodes: &mut Vec<Node>, node: Node) {
    match (nodes.last_mut(), node) {
        (_, Node::Concat(inner)) => inner.into_iter().for_each(|node| push(nodes, node)),
        (Some(Node::Literal(text, fold)), Node::Literal(more, more_fold)) if *fold == more_fold => text.extend(more),
        (_, node) => nodes.push(node),
    }
}

fn one_or(mut nodes: Vec<Node>, many: impl Fn(Vec<Node>) -> Node) -> Node {
    match nodes.len() {
        0 => Node::Empty,
        1 => nodes.remove(0),
        _ => many(nodes),
    }
}

/// Joins alternatives as Go's parser does: neighbours that start alike share the start, single characters make a class.
fn alternate(nodes: Vec<Node>) -> Node {
    let mut flat = Vec::new();
    for node in nodes {
        match node {
            Node::Alternate(inner) => flat.extend(inner),
            node => flat.push(node),
        }
    }
    let mut out: Vec<Node> = Vec::new();
    let mut rest = flat.into_iter().peekable();
    while let Some(node) = rest.next() {
        let Some((mut prefix, fold)) = leading(&node) else {
            out.push(node);
            continue;
        };
        let mut run = vec![node];
        while let Some((next, next_fold)) = rest.peek().and_then(leading) {
            let shared = prefix.iter().zip(&next).take_while(|(a, b)| a == b).count();
            if shared == 0 || next_fold != fold {
                break;
            }
            prefix.truncate(shared);
            run.extend(rest.next());
        }
        if run.len() == 1 {
            out.append(&mut run);
            continue;
        }
        let tails = run.into_iter().map(|node| without_prefix(node, prefix.len())).collect();
        let mut nodes = vec![Node::Literal(prefix, fold)];
        push(&mut nodes, alternate(tails));
        out.push(one_or(nodes, Node::Concat));
    }
    let single = |node: &Node| matches!(node, Node::Literal(text, _) if text.len() == 1);
    if out.len() > 1 && out.windows(2).any(|two| two.iter().all(single)) {
        // Go makes one class of them.
        return if out.iter().all(single) { Node::Other } else { Node::Alternate(vec![Node::Other]) };
    }
    one_or(out, Node::Alternate)
}

fn leading(node: &Node) -> Option<(Vec<char>, bool)> {
    match node {
        Node::Literal(text, fold) => Some((text.clone(), *fold)),
        Node::Concat(nodes) => nodes.first().and_then(leading),
        _ => None,
    }
}

fn without_prefix(node: Node, length: usize) -> Node {
    match node {
        Node::Literal(mut text, fold) => {
            text.drain(..length.min(text.len()));
            if text.is_empty() { Node::Empty } else { Node::Literal(text, fold) }
        }
        Node::Concat(mut nodes) => {
            let first = without_prefix(nodes.remove(0), length);
            if first != Node::Empty {
                nodes.insert(0, first);
            }
            one_or(nodes, Node::Concat)
        }
        node => node,
    }
}

fn simple(node: &Node) -> bool {
    match node {
        Node::Empty | Node::Literal(..) | Node::AnyStar | Node::AnyPlus => true,
        Node::Alternate(nodes) => nodes.iter().all(simple),
        Node::Concat(nodes) => simple_concat(nodes, None),
        Node::Other => false,
    }
}

/// A concatenation may hold one literal, alternatives of literals behind it, and `.*`.
fn simple_concat(nodes: &[Node], base: Option<bool>) -> bool {
    let nodes: Vec<&Node> = nodes.iter().filter(|node| **node != Node::Empty).collect();
    let mut base = base;
    let mut literals = 0;
    let found = nodes.len() <= 3
        && nodes.iter().all(|node| match node {
            Node::Literal(_, fold) => {
                literals += 1;
                base = Some(*fold);
                literals == 1
            }
            Node::Alternate(inner) => base.is_some_and(|fold| simple_tails(inner, fold)),
            Node::AnyStar => true,
            _ => false,
        });
    found && base.is_some()
}

fn simple_tails(nodes: &[Node], fold: bool) -> bool {
    nodes.iter().all(|node| match node {
        Node::Empty | Node::AnyStar => true,
        Node::Literal(_, own) => fold || !own,
        Node::Concat(inner) => simple_concat(inner, Some(fold)),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::is_simple;

    #[test]
    fn plain_searches_are_told_from_patterns() {
        for pattern in [".*", ".+", "foo", ".*foo.*", "foo|bar", "debug|info|warn|error", "(?i)foo", "foo.*", "b|buzz"]
        {
            assert!(is_simple(pattern), "{pattern}");
        }
        for pattern in ["value1|value5", "value[0-9]", r"\w.*", "^a", "foo.*bar", "a|b", "(", "fo+"] {
            assert!(!is_simple(pattern), "{pattern}");
        }
    }
}
