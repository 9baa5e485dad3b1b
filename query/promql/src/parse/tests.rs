//! Errors with their places, limits, and canonical form.

use super::parse;

#[track_caller]
fn refused(text: &str, error: &str) {
    match parse(text) {
        Ok(expr) => panic!("{text} is read as {expr}"),
        Err(found) => assert_eq!(found.to_string(), error, "{text}"),
    }
}

#[track_caller]
fn printed(text: &str, canonical: &str) {
    let expr = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(expr.to_string(), canonical);
    assert_eq!(parse(canonical).map(|expr| expr.to_string()).as_deref(), Ok(canonical));
}

#[test]
fn errors_tell_place_and_cause() {
    refused("", "unknown position: parse error: no expression found in input");
    refused("# only a comment", "1:1: parse error: no expression found in input");
    refused("1+", "1:3: parse error: unexpected end of input");
    refused("1\n+\n*2", "3:1: parse error: unexpected <op:*>");
    refused("(1", "1:3: parse error: unclosed left parenthesis");
    refused("(1))", "1:4: parse error: unexpected right parenthesis ')'");
    refused("1 == 1", "1:3: parse error: comparisons between scalars must use BOOL modifier");
    refused("1 and 1", "1:2: parse error: set operator \"and\" not allowed in binary scalar expression");
    refused("foo unless on(a) group_left(b) bar", "1:18: parse error: no grouping allowed for \"unless\" operation");
    refused("foo + bool bar", "1:7: parse error: bool modifier can only be used on comparison operators");
    refused("foo{a=1}", "1:7: parse error: unexpected number \"1\" in label matching, expected string");
    refused("foo{a}", "1:6: parse error: unexpected \"}\" in label matching, expected label matching operator");
    refused("{}", "1:1: parse error: vector selector must contain at least one non-empty matcher");
    refused("foo{__name__=\"bar\"}", "1:1: parse error: metric name must not be set twice: \"foo\" or \"bar\"");
    refused("nosuch(a)", "1:1: parse error: unknown function with name \"nosuch\"");
    refused("rate(a)", "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector");
    refused("floor()", "1:1: parse error: expected 1 argument(s) in call to \"floor\", got 0");
    refused("hour(a, b)", "1:1: parse error: expected at most 1 argument(s) in call to \"hour\", got 2");
    refused("sum(1)", "1:5: parse error: expected type instant vector in aggregation expression, got scalar");
    refused(
        "topk(a)",
        "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 2, got 1",
    );
    refused("(a + b)[5m]", "1:8: parse error: ranges only allowed for vector selectors");
    refused(
        "a[5m:1m][5m:1m]",
        "1:1: parse error: subquery is only allowed on instant vector, got range vector instead",
    );
    refused("a[0s]", "1:3: parse error: duration must be greater than 0");
    refused("a offset 1m offset 2m", "1:1: parse error: offset may not be set multiple times");
    refused(
        "1 offset 1m",
        "1:1: parse error: offset modifier must be preceded by an instant vector selector or range vector selector or a subquery",
    );
    refused("a @ NaN", "1:5: parse error: timestamp out of bounds for @ modifier: NaN");
    refused("\"abc", "1:1: parse error: unterminated quoted string");
    refused("a $ b", "1:3: parse error: unexpected character: '$'");
    refused("5x", "1:1: parse error: bad number or duration syntax: \"5x\"");
    refused("a[99999999y]", "1:3: parse error: duration out of range");
    refused(
        "-\"a\"",
        "1:1: parse error: unary expression only allowed on expressions of type scalar or instant vector, got \"string\"",
    );
}

#[test]
fn the_canonical_form_is_that_of_prometheus() {
    printed("sum(up)by(job)", "sum by (job) (up)");
    printed("sum without()(up{b='1',a=\"2\"})", "sum without () (up{a=\"2\",b=\"1\"})");
    printed("a+on(x)group_left(y)b", "a + on (x) group_left (y) b");
    printed("a> bool b", "a > bool b");
    printed("a + fill(0) b", "a + fill (0) b");
    printed("rate(a[5m]offset 1h)", "rate(a[5m] offset 1h)");
    printed("a[90s:]@start()", "a[1m30s:] @ start()");
    printed("a @ -1.5 offset -1m", "a @ -1.500 offset -1m");
    printed("{\"a.b\",\"c d\"=\"e\"}", "{\"a.b\",\"c d\"=\"e\"}");
    printed("-2^2", "-2 ^ 2");
    printed("1e3 + 0x10 + .5 + inf", "1000 + 16 + 0.5 + +Inf");
    printed("a[step()+1m]", "a[step() + 1m]");
    printed("a[5m] anchored", "a[5m] anchored");
    printed("count_values('v', a)", "count_values(\"v\", a)");
    printed("sum by (\"a.b\") (a)", "sum by (\"a.b\") (a)");
}

#[test]
fn powers_bind_to_the_right_and_others_to_the_left() {
    let tree = |text: &str| parse(text).map(|expr| format!("{:?}", expr.kind));
    assert_eq!(parse("a^b^c"), parse("a^b^c"));
    assert_ne!(tree("a^b^c"), tree("(a^b)^c"));
    assert_eq!(parse("a-b-c").map(|e| e.to_string()).as_deref(), Ok("a - b - c"));
    assert_ne!(parse("a-b-c"), parse("a-(b-c)"));
}

#[test]
fn deep_and_huge_expressions_are_refused_with_the_limit() {
    let deep = format!("{}a{}", "(".repeat(100_000), ")".repeat(100_000));
    assert!(parse(&deep).unwrap_err().message.ends_with("nested deeper than the limit of 80 levels"));
    let chain = vec!["a"; 10_000].join("+");
    assert!(parse(&chain).unwrap_err().message.ends_with("nested deeper than the limit of 200 levels"));
    let signs = format!("{}a", "-".repeat(50_000));
    assert!(parse(&signs).unwrap_err().message.contains("limit of 80 levels"));
    let long = format!("a{{b=\"{}\"}}", "x".repeat(300 << 10));
    assert_eq!(parse(&long).unwrap_err().message, "expression of 307207 bytes is over the limit of 262144");
    let fits = format!("{}a{}", "(".repeat(70), ")".repeat(70));
    assert!(parse(&fits).is_ok());
    let chain = vec!["a"; 190].join("+");
    assert_eq!(parse(&chain).map(|expr| expr.to_string()), Ok(chain.replace('+', " + ")));
}
