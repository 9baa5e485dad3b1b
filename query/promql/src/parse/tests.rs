//! Errors with their places, limits, and canonical form.

use super::parse;

#[track_caller]
fn refused(text: &str, place: &str, message: &str) {
    match parse(text) {
        Ok(expr) => panic!("{text} is read as {expr}"),
        Err(found) => assert_eq!(found.to_string(), format!("{place}: parse error: {message}"), "{text}"),
    }
}

#[track_caller]
fn printed(text: &str, canonical: &str) {
    let expr = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(expr.to_string(), canonical);
    assert_eq!(parse(canonical).as_ref(), Ok(&expr), "{text}");
    assert_eq!(parse(canonical).map(|expr| expr.to_string()).as_deref(), Ok(canonical));
}

#[test]
fn text_that_cannot_be_cut_into_tokens_is_refused_at_their_place() {
    let cases = [
        ("", "unknown position", "no expression found in input"),
        ("# only a comment", "1:1", "no expression found in input"),
        ("   ", "1:1", "no expression found in input"),
        ("1+", "1:3", "unexpected end of input"),
        ("1\n+\n*2", "3:1", "unexpected <op:*>"),
        ("(1", "1:3", "unclosed left parenthesis"),
        ("(1))", "1:5", "unexpected right parenthesis ')'"),
        ("up)", "1:4", "unexpected right parenthesis ')'"),
        ("}", "1:1", "unexpected character: '}'"),
        ("up}", "1:3", "unexpected character: '}'"),
        ("up]", "1:3", "unexpected right bracket ']'"),
        (r#""abc"#, "1:1", "unterminated quoted string"),
        ("'abc", "1:1", "unterminated quoted string"),
        ("`abc", "1:1", "unterminated raw string"),
        (r#""a\"#, "1:1", "escape sequence not terminated"),
        (r#""a\y""#, "1:1", "unknown escape sequence U+0079 'y'"),
        (r#"'\u00zz'"#, "1:1", "illegal character U+007A 'z' in escape sequence"),
        (r#""\400""#, "1:1", "escape sequence is an invalid Unicode code point"),
        (r#""\ud800""#, "1:1", "escape sequence is an invalid Unicode code point"),
        ("a $ b", "1:3", "unexpected character: '$'"),
        ("a ! b", "1:3", "unexpected character after '!': ' '"),
        ("a =~ b", "1:3", "unexpected character after '=': '~'"),
        ("é", "1:1", "unexpected character: 'é'"),
        ("5x", "1:1", r#"bad number or duration syntax: "5""#),
        ("7..2", "1:1", r#"bad number or duration syntax: "7..""#),
        ("1.5.", "1:1", r#"bad number or duration syntax: "1.5.""#),
        ("3e", "1:1", r#"bad number or duration syntax: "3e""#),
        ("3e+", "1:1", r#"bad number or duration syntax: "3e+""#),
        ("1__0", "1:1", r#"bad number or duration syntax: "1__""#),
        ("0x12__f", "1:1", r#"bad number or duration syntax: "0x12__""#),
        ("5h7y", "1:1", r#"bad number or duration syntax: "5h7""#),
        ("4ks", "1:1", r#"bad number or duration syntax: "4""#),
        ("up[5m", "1:6", "unclosed left bracket"),
        ("up[", "1:4", "unexpected end of input in duration expression"),
        (r#"up["5m"]"#, "1:4", r#"unexpected character in duration expression: '"'"#),
        ("up[#]", "1:4", "unexpected character in duration expression: '#'"),
        ("up[:1m]", "1:5", "unexpected colon before duration in duration expression"),
        ("up[1m::]", "1:7", "unexpected colon ':'"),
        ("up[1m:1m:1m]", "1:9", "unexpected colon ':'"),
        ("up[1m z]", "1:7", "unexpected character: 'z', expected ':'"),
        ("up[[1m]]", "1:4", "unexpected character in duration expression: '['"),
        ("up{", "1:4", "unexpected end of input inside braces"),
        (r#"up{a$="b"}"#, "1:5", "unexpected character inside braces: '$'"),
        (r#"up{a>"b"}"#, "1:5", "unexpected character inside braces: '>'"),
        (r#"up{1="b"}"#, "1:4", "unexpected character inside braces: '1'"),
        (r#"up{a!"b"}"#, "1:5", r#"unexpected character after '!' inside braces: '"'"#),
        ("up{{", "1:4", "unexpected left brace '{'"),
        (r#"up{a="b"}{"#, "1:10", r#"unexpected "{""#),
        (r#"up{a:b="c"}"#, "1:5", "unexpected character inside braces: ':'"),
        ("1e999", "1:1", r#"error parsing number: strconv.ParseFloat: parsing "1e999": value out of range"#),
        ("1_", "1:1", r#"bad number or duration syntax: "1_""#),
    ];
    for (text, place, message) in cases {
        refused(text, place, message);
    }
}

#[test]
fn tokens_that_do_not_fit_are_refused_at_their_place() {
    let cases = [
        ("@", "1:1", "unexpected <op:@>"),
        ("=", "1:1", r#"unexpected "=""#),
        ("1 = 1", "1:3", r#"unexpected "=""#),
        ("*", "1:1", "unexpected <op:*>"),
        ("up up", "1:4", r#"unexpected identifier "up""#),
        ("up offset", "1:10", "unexpected end of input in offset, expected number, duration, step(), or range()"),
        (
            "up offset x",
            "1:11",
            r#"unexpected identifier "x" in offset, expected number, duration, step(), or range()"#,
        ),
        ("up offset (1", "1:13", "unclosed left parenthesis"),
        ("up @", "1:5", "unexpected end of input in @, expected timestamp"),
        ("up @ x", "1:6", r#"unexpected identifier "x" in @, expected timestamp"#),
        ("up @ start", "1:11", "unexpected end of input in @, expected timestamp"),
        ("up @ start(1)", "1:12", r#"unexpected number "1" in @, expected timestamp"#),
        ("up @ -", "1:7", "unexpected end of input in @, expected timestamp"),
        ("rate(up[5m]", "1:12", "unclosed left parenthesis"),
        ("rate(up[5m],)", "1:12", "trailing commas not allowed in function call args"),
        ("rate(,)", "1:6", r#"unexpected ",""#),
        ("nosuch(a)", "1:1", r#"unknown function with name "nosuch""#),
        ("nosuch(1 +)", "1:11", r#"unexpected ")""#),
        ("Rate(up[1m])", "1:1", r#"unknown function with name "Rate""#),
        ("START()", "1:1", r#"unknown function with name "START""#),
        ("sum by a (up)", "1:8", r#"unexpected identifier "a" in grouping opts, expected "(""#),
        ("sum by (a b) (up)", "1:11", r#"unexpected identifier "b" in grouping opts, expected "," or ")""#),
        ("sum by (a,,b) (up)", "1:11", r#"unexpected "," in grouping opts, expected label"#),
        ("sum by (without) (up)", "1:9", "unexpected <without> in grouping opts, expected label"),
        ("sum by (1) (up)", "1:9", r#"unexpected number "1" in grouping opts, expected label"#),
        (r#"sum by ("") (up)"#, "1:9", r#"invalid label name for grouping: """#),
        ("sum by (a) up", "1:12", r#"unexpected identifier "up" in aggregation"#),
        ("sum(up + )", "1:10", r#"unexpected ")" in aggregation"#),
        ("sum(up", "1:7", "unclosed left parenthesis"),
        ("sum()", "1:1", "no arguments for aggregate expression provided"),
        ("sum by (a)()", "1:1", "no arguments for aggregate expression provided"),
        ("topk(up)", "1:1", "wrong number of arguments for aggregate expression provided, expected 2, got 1"),
        ("sum(up, up)", "1:1", "wrong number of arguments for aggregate expression provided, expected 1, got 2"),
        ("avg up", "1:5", r#"unexpected identifier "up""#),
        ("up + on a up", "1:9", r#"unexpected identifier "a" in grouping opts, expected "(""#),
        ("up + on(a) group_left", "1:22", r#"unexpected end of input in grouping opts, expected "(""#),
        ("up + bool", "1:10", "unexpected end of input"),
        ("up + ignoring", "1:14", r#"unexpected end of input in grouping opts, expected "(""#),
        ("a + on(b) on(c) d", "1:11", "unexpected <on>"),
        ("a + fill(x) b", "1:10", r#"unexpected identifier "x""#),
        ("a + fill(1) fill(2) b", "1:17", r#"unexpected "(""#),
        ("a + fill_left b", "1:15", r#"unexpected identifier "b""#),
        ("up[5m:1m", "1:9", "unclosed left bracket"),
        ("up[5m:x]", "1:7", "unexpected character: 'x', expected ':'"),
        (
            "up[]",
            "1:4",
            r#"unexpected "]" in subquery or range selector, expected number, duration, step(), or range()"#,
        ),
        (
            "up[5m+]",
            "1:7",
            r#"unexpected "]" in subquery or range selector, expected number, duration, step(), or range()"#,
        ),
        ("up[5m 6m]", "1:7", r#"unexpected duration "6m" in subquery or range, expected ":" or "]""#),
        ("up[5m:1m 2m]", "1:10", r#"unexpected duration "2m" in subquery selector, expected "]""#),
        (
            "up[step]",
            "1:8",
            r#"unexpected "]" in subquery or range selector, expected number, duration, step(), or range()"#,
        ),
        (
            "up[min_of(1)]",
            "1:12",
            r#"unexpected ")" in subquery or range selector, expected number, duration, step(), or range()"#,
        ),
        (
            "up[range(1)]",
            "1:10",
            r#"unexpected number "1" in subquery or range selector, expected number, duration, step(), or range()"#,
        ),
        ("bool", "1:1", "unexpected <bool>"),
        ("on(a)", "1:1", "unexpected <on>"),
        ("atan2", "1:1", "unexpected <op:atan2>"),
        ("up{a=1}", "1:6", "unexpected character inside braces: '1'"),
        ("up{a}", "1:5", r#"unexpected "}" in label matching, expected label matching operator"#),
        ("up{=}", "1:4", r#"unexpected "=" in label matching, expected identifier or "}""#),
        ("up{,}", "1:4", r#"unexpected "," in label matching, expected identifier or "}""#),
        (r#"up{a="b" c="d"}"#, "1:10", r#"unexpected identifier "c" in label matching, expected "," or "}""#),
        (r#"up{a="b",,c="d"}"#, "1:10", r#"unexpected "," in label matching, expected identifier or "}""#),
        (r#"{"a" b}"#, "1:6", r#"unexpected identifier "b" in label matching, expected "," or "}""#),
        ("sum(a[5m)", "1:9", r#"unexpected ")" in subquery or range, expected ":" or "]""#),
        ("topk(1,", "1:8", "unclosed left parenthesis"),
    ];
    for (text, place, message) in cases {
        refused(text, place, message);
    }
}

#[test]
fn expressions_without_a_meaning_are_refused_at_their_place() {
    let cases = [
        ("{}", "1:1", "vector selector must contain at least one non-empty matcher"),
        (r#"{a=~".*"}"#, "1:1", "vector selector must contain at least one non-empty matcher"),
        (r#"{a!="b"}"#, "1:1", "vector selector must contain at least one non-empty matcher"),
        (r#"up{__name__="x"}"#, "1:1", r#"metric name must not be set twice: "up" or "x""#),
        (r#"up{__name__=~"x"}"#, "1:1", r#"metric name must not be set twice: "up" or "x""#),
        (r#"up{"x"}"#, "1:1", r#"metric name must not be set twice: "up" or "x""#),
        ("rate(up)", "1:6", r#"expected type range vector in call to function "rate", got instant vector"#),
        ("floor()", "1:1", r#"expected 1 argument(s) in call to "floor", got 0"#),
        ("hour(a, b)", "1:1", r#"expected at most 1 argument(s) in call to "hour", got 2"#),
        (r#"label_join(a, "b")"#, "1:1", r#"expected at least 3 argument(s) in call to "label_join", got 2"#),
        (
            r#"label_join(a, "b", "c", "d", 5)"#,
            "1:30",
            r#"expected type string in call to function "label_join", got scalar"#,
        ),
        ("round(a, b)", "1:10", r#"expected type scalar in call to function "round", got instant vector"#),
        ("time(1)", "1:1", r#"expected 0 argument(s) in call to "time", got 1"#),
        (
            r#"histogram_quantiles(a, "b")"#,
            "1:1",
            r#"expected at least 3 argument(s) in call to "histogram_quantiles", got 2"#,
        ),
        ("sum(1)", "1:5", "expected type instant vector in aggregation expression, got scalar"),
        ("topk(a, a)", "1:6", "expected type scalar in aggregation parameter, got instant vector"),
        ("count_values(1, a)", "1:14", "expected type string in aggregation parameter, got scalar"),
        (r#"quantile("x", a)"#, "1:10", "expected type scalar in aggregation parameter, got string"),
        ("1 == 1", "1:3", "comparisons between scalars must use BOOL modifier"),
        ("1 and 1", "1:1", r#"set operator "and" not allowed in binary scalar expression"#),
        ("a or 1", "1:1", r#"set operator "or" not allowed in binary scalar expression"#),
        ("a == on(b) 1", "1:1", "vector matching only allowed between instant vectors"),
        ("a + on(b) group_left(b) c", "1:3", r#"label "b" must not occur in ON and GROUP clause at once"#),
        ("a and on(b) group_left c", "1:1", r#"no grouping allowed for "and" operation"#),
        ("a unless fill(0) b", "1:1", "filling in missing series not allowed for set operators"),
        ("a + fill(0) 1", "1:1", "filling in missing series only allowed between instant vectors"),
        ("a + bool b", "1:3", "bool modifier can only be used on comparison operators"),
        ("1 + bool 1", "1:3", "bool modifier can only be used on comparison operators"),
        ("a  /  bool  b", "1:4", "bool modifier can only be used on comparison operators"),
        (r#""x" + 1"#, "1:1", "binary expression must contain only scalar and instant vector types"),
        ("a + b[5m]", "1:5", "binary expression must contain only scalar and instant vector types"),
        (
            r#"-"a""#,
            "1:1",
            r#"unary expression only allowed on expressions of type scalar or instant vector, got "string""#,
        ),
        (
            "+a[5m]",
            "1:1",
            r#"unary expression only allowed on expressions of type scalar or instant vector, got "range vector""#,
        ),
        ("(a + b)[5m]", "1:8", "ranges only allowed for vector selectors"),
        ("5[5m]", "1:2", "ranges only allowed for vector selectors"),
        ("a offset 1m [5m]", "1:13", "no offset modifiers allowed before range"),
        ("a @ 1 [5m]", "1:7", "no @ modifiers allowed before range"),
        ("a[5m:1m][5m:1m]", "1:1", "subquery is only allowed on instant vector, got matrix instead"),
        ("1[5m:]", "1:1", "subquery is only allowed on instant vector, got scalar instead"),
        (r#""a"[5m:1m]"#, "1:1", "subquery is only allowed on instant vector, got string instead"),
        ("a[0s]", "1:3", "duration must be greater than 0"),
        ("a[5m:0s]", "1:6", "duration must be greater than 0"),
        ("a[-1m]", "1:3", "duration must be greater than 0"),
        ("a offset 1m offset 2m", "1:1", "offset may not be set multiple times"),
        (
            "1 offset 1m",
            "1:1",
            "offset modifier must be preceded by an instant vector selector or range vector selector or a subquery",
        ),
        (
            "sum(a) offset 1m",
            "1:1",
            "offset modifier must be preceded by an instant vector selector or range vector selector or a subquery",
        ),
        ("a @ 1 @ 2", "1:1", "@ <timestamp> may not be set multiple times"),
        ("a @ start() @ end()", "1:1", "@ <timestamp> may not be set multiple times"),
        (
            "1 @ 2",
            "1:1",
            "@ modifier must be preceded by an instant vector selector or range vector selector or a subquery",
        ),
        ("a @ NaN", "1:1", "timestamp out of bounds for @ modifier: NaN"),
        ("a @ Inf", "1:1", "timestamp out of bounds for @ modifier: +Inf"),
        (
            "a @ -1e300",
            "1:1",
            "timestamp out of bounds for @ modifier: -1000000000000000052504760255204420248704468581108159154915854115511802457988908195786371375080447864043704443832883878176942523235360430575644792184786706982848387200926575803737830233794788090059368953234970799945081119038967640880074652742780142494579258788820056842838115669472196386865459400540160.000000",
        ),
        ("a[5m:1m] anchored", "1:1", "anchored modifier is not supported for subqueries"),
        ("a[5m:1m] smoothed", "1:1", "smoothed modifier is not supported for subqueries"),
        ("1 anchored", "1:1", "anchored modifier not implemented"),
        ("sum(a) smoothed", "1:1", "smoothed modifier not implemented"),
        ("a[5m] anchored smoothed", "1:1", "anchored and smoothed modifiers cannot be used together"),
        ("a[99999999y]", "1:3", "duration out of range"),
        ("a[1e300]", "1:3", "duration out of range"),
        ("a offset 1e300", "1:10", "duration out of range"),
        ("a offset -1e300", "1:10", "duration out of range"),
        ("a[5m/0]", "1:5", "division by zero"),
        ("a[1m % 0s]", "1:6", "modulo by zero"),
        ("a offset (1/0)", "1:12", "division by zero"),
        ("info(a, b)", "1:9", "expected label selectors only, got vector selector instead"),
        (r#"info(a, {b="c"} == 1)"#, "1:9", "expected label selectors only"),
        ("info(a, 1)", "1:1", r#"expected type instant vector in call to function "info", got scalar"#),
        (r#"info(a, ({b="c"}))"#, "1:9", "expected label selectors only"),
        ("info(1)", "1:6", r#"expected type instant vector in call to function "info", got scalar"#),
        ("info(a, b, c)", "1:1", r#"expected at most 2 argument(s) in call to "info", got 3"#),
        ("a[1d5y]", "1:3", r#"bad number or duration syntax: "1d5""#),
        ("a[5s1m]", "1:3", r#"not a valid duration string: "5s1m""#),
        ("a[1ss]", "1:3", r#"unknown unit "ss" in duration "1ss""#),
        ("5mm", "1:1", r#"bad number or duration syntax: "5mm""#),
    ];
    for (text, place, message) in cases {
        refused(text, place, message);
    }
}

#[test]
fn the_canonical_form_is_that_of_prometheus() {
    printed("sum(up)by(job)", "sum by (job) (up)");
    printed("sum by () (up)", "sum(up)");
    printed(r#"sum without()(up{b='1',a="2"})"#, r#"sum without () (up{a="2",b="1"})"#);
    printed("a+on(x)group_left(y)b", "a + on (x) group_left (y) b");
    printed("a + on() group_right b", "a + on () group_right () b");
    printed("a + ignoring() b", "a + b");
    printed("a> bool b", "a > bool b");
    printed("a + fill(0) b", "a + fill (0) b");
    printed("a + fill_right(NaN) fill_left(-1e30) b", "a + fill_left (-1e+30) fill_right (NaN) b");
    printed("a and b", "a and b");
    printed("1 + on() 2", "1 + 2");
    printed("rate(a[5m]offset 1h)", "rate(a[5m] offset 1h)");
    printed("a offset 0s", "a");
    printed("a[90s:]@start()", "a[1m30s:] @ start()");
    printed("a @ -1.5 offset -1m", "a @ -1.500 offset -1m");
    printed(r#"{"a.b","c d"="e"}"#, r#"{"c d"="e",__name__="a.b"}"#);
    printed(r#"{"up"}"#, r#"{__name__="up"}"#);
    printed(r#"{__name__="up"}"#, r#"{__name__="up"}"#);
    printed(r#"up{b="c",a!~"d",a=~"e"}"#, r#"up{a!~"d",a=~"e",b="c"}"#);
    printed("-2^2", "-2 ^ 2");
    printed("-5m", "-5m");
    printed("+5m", "5m");
    printed("+a", "+a");
    printed("- - a", "--a");
    printed("1e3 + 0x10 + .5 + inf", "1000 + 16 + 0.5 + +Inf");
    printed("017 + 09 + 1_000.5", "15 + 9 + 1000.5");
    printed("-0", "-0");
    printed("a[step()+1m]", "a[step() + 1m]");
    printed("a[300]", "a[5m]");
    printed("a[max_of(100y1ms, 5m)]", "a[max_of(36500d1ms, 5m)]");
    printed("a[0.5]", "a[500ms]");
    printed("a[1001ms]", "a[1s1ms]");
    printed("a[2*1h:1]", "a[2 * 1h:1s]");
    printed("a[(5)]", "a[(5)]");
    printed("a[((5m))]", "a[(5m)]");
    printed("a offset -(5)", "a offset -(5)");
    printed("a offset +(5 + 1m)", "a offset (5 + 1m)");
    printed("a[-(-5m)]", "a[-(-5m)]");
    printed("a[5m - -step()]", "a[5m - -step()]");
    printed("a[max_of(range(), 5m)]", "a[max_of(range(), 5m)]");
    printed("a offset (1m) * 2", "a offset (1m) * 2");
    printed("a[5m] anchored", "a[5m] anchored");
    printed("a smoothed offset 1m", "a smoothed offset 1m");
    printed("a[5m] @ end() smoothed offset 1m", "a[5m] smoothed @ end() offset 1m");
    printed("count_values('v', a)", r#"count_values("v", a)"#);
    printed(r#"sum by ("a.b", c) (a)"#, r#"sum by ("a.b", c) (a)"#);
    printed("sum by (a:b, on, bool) (a)", r#"sum by ("a:b", on, bool) (a)"#);
    printed(r#""\xff\t\"é\u00a0""#, r#""\xff\t\"é\u00a0""#);
    printed(r#"`a\b`"#, r#""a\\b""#);
    printed(r#"'it\'s'"#, r#""it's""#);
    printed("and and or", "and and or");
    printed("offset offset 5m", "offset offset 5m");
    printed("sum + avg", "sum + avg");
    printed("fill + fill_left", "fill + fill_left");
    printed(r#"by{a="b"}"#, r#"by{a="b"}"#);
    printed("start + start()", "start + start()");
    printed("a # b\n + c", "a + c");
    printed("NaN", "NaN");
    printed("(a)", "(a)");
    printed("((a))", "((a))");
    printed(r#"label_replace(a,"b","$1","c","(.*)")"#, r#"label_replace(a, "b", "$1", "c", "(.*)")"#);
    printed("info(a, {})", "info(a, {})");
    printed(r#"info(a,{b=~".+"})"#, r#"info(a, {b=~".+"})"#);
    printed("time()", "time()");
    printed("a >/ 5 </ b", "a >/ 5 </ b");
    printed("a atan2 b % c ^ d", "a atan2 b % c ^ d");
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
