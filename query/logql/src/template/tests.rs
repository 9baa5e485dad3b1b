//! Templates, as users write them.

use expect_test::{Expect, expect};
use model::{Labels, Timestamp};

use super::Template;
use crate::row::RowLabels;

#[track_caller]
fn check(text: &str, expected: Expect) {
    let stream = Labels::from_pairs([
        ("app", "web"),
        ("level", "warn"),
        ("path", "/a b/c"),
        ("n", "42"),
        ("json", r#"{"a":{"b":[1,2.5,"x"]},"ok":true}"#),
    ]);
    let row = RowLabels::new(&stream);
    let at = Timestamp(1_700_000_000_123_456_789);
    let shown = match Template::new("line", text).and_then(|template| template.render(at, "the line", &row)) {
        Ok(text) => text,
        Err(error) => format!("error: {error}"),
    };
    expected.assert_eq(&shown);
}

#[test]
fn fields_are_put_in() {
    check("{{.app}} {{ .level }}{{.missing}}!", expect!["web warn!"]);
    check("{{.app}}", expect!["web"]);
    check("plain", expect!["plain"]);
    check("{{__line__}} {{ __timestamp__ | unixEpochMillis }}", expect!["the line 1700000000123"]);
    check("a {{- .app -}} b{{/* no */}}", expect!["awebb"]);
}

#[test]
fn functions_may_be_piped_and_nested() {
    check(r#"{{ .level | upper | printf "%-6s|" }}"#, expect!["WARN  |"]);
    check(r#"{{ ToUpper (Replace .path "/" "-" 1) }}"#, expect!["-A B/C"]);
    check(r#"{{ .app | replace "w" "W" | trunc 2 }} {{ substr 1 2 .app }}"#, expect!["We e"]);
    check(r#"{{ alignLeft 5 .app }}|{{ alignRight 5 .app }}|{{ alignLeft 2 .app }}"#, expect!["web  |  web|we"]);
    check(
        r#"{{ .path | urlencode }} {{ "a%20b" | urldecode }} {{ b64enc .app }} {{ b64dec "d2Vi" }}"#,
        expect!["%2Fa+b%2Fc a b d2Vi web"],
    );
    check(r#"{{ regexReplaceAll "([a-z])b" .app "<$1>" }} {{ count "/" .path }}"#, expect!["w<e> 2"]);
    check(r#"{{ default "none" .missing }} {{ .app | title }} {{ trimPrefix "we" .app }}"#, expect!["none Web b"]);
}

#[test]
fn numbers_are_computed() {
    check("{{ add .n 1 2 }} {{ sub .n 2 }} {{ mul 2 3 }} {{ div 7 2 }} {{ mod 7 2 }}", expect!["45 40 6 3 1"]);
    check(
        "{{ addf 1.5 .n }} {{ divf 1 4 }} {{ round 1.256 2 }} {{ ceil 1.2 }} {{ max 1 .n }}",
        expect!["43.5 0.25 1.26 2 42"],
    );
    check(
        r#"{{ printf "%05.1f|%d|%x|%q|%v|%t" 3.14159 7 255 "a" 1.5 true }}"#,
        expect![[r#"003.1|7|ff|"a"|1.5|true"#]],
    );
    check(r#"{{ duration "1m30s" }} {{ bytes "2KB" }} {{ int "12" }}"#, expect!["90 2000 12"]);
    check(
        "{{ div 1 0 }}",
        expect![[
            r#"error: template: line:1:3: executing "line" at <div 1 0>: error calling div: runtime error: integer divide by zero"#
        ]],
    );
}

#[test]
fn blocks_choose_and_repeat() {
    check(r#"{{ if eq .level "warn" }}W{{ else if eq .level "error" }}E{{ else }}-{{ end }}"#, expect!["W"]);
    check(r#"{{ if and (gt (int .n) 40) (not .missing) }}big{{ end }}"#, expect!["big"]);
    check(r#"{{ with .missing }}x{{ else }}none{{ end }}{{ with .app }}<{{.}}>{{ end }}"#, expect!["none<web>"]);
    check(
        r#"{{ range $i, $x := (fromJson .json).a.b }}{{ if $i }},{{ end }}{{ $i }}={{ $x }}{{ end }}"#,
        expect!["0=1,1=2.5,2=x"],
    );
    check(
        r#"{{ $x := .app }}{{ range fromJson "[1,2,3]" }}{{ if eq . 2.0 }}{{ continue }}{{ end }}{{ $x }}{{ end }}"#,
        expect!["webweb"],
    );
    check(r#"{{ $x := "a" }}{{ if true }}{{ $x = "b" }}{{ end }}{{ $x }}"#, expect!["b"]);
}

#[test]
fn times_follow_gos_layouts() {
    check(r#"{{ __timestamp__ | date "2006-01-02T15:04:05.000Z07:00" }}"#, expect!["2023-11-14T22:13:20.123Z"]);
    check(r#"{{ date "Mon Jan _2 3:04PM 06" (unixToTime "1700000000") }}"#, expect!["Tue Nov 14 10:13PM 23"]);
    check(r#"{{ toDate "2006-01-02" "2023-11-14" | unixEpoch }}"#, expect!["1699920000"]);
    check(
        r#"{{ toDateInZone "2006-01-02 15:04" "UTC" "2023-11-14 22:13" | unixEpochNanos }}"#,
        expect!["1699999980000000000"],
    );
    check("{{ __timestamp__ }}", expect!["2023-11-14 22:13:20.123456789 +0000 UTC"]);
}

#[test]
fn bad_templates_are_refused_when_read() {
    check("{{ nosuch }}", expect![[r#"error: template: line:1: function "nosuch" not defined"#]]);
    check("x\n{{", expect!["error: template: line:2: unclosed action"]);
    check("{{ if .app }}x", expect!["error: template: line:1: unexpected EOF"]);
    check("{{ end }}", expect!["error: template: line:1: unexpected {{end}}"]);
    check("{{ }}", expect!["error: template: line:1: missing value for command"]);
    check("{{ (.app }}", expect!["error: template: line:1: unclosed left paren"]);
    check("{{ $x }}", expect![[r#"error: template: line:1: undefined variable "$x""#]]);
    check("{{ .app | \"x\" }}", expect!["error: template: line:1: non executable command in pipeline"]);
    check("{{ $x, $y := .app }}", expect!["error: template: line:1: too many declarations in command"]);
    check("{{ break }}", expect!["error: template: line:1: {{break}} outside {{range}}"]);
    check("{{ \"a }}", expect!["error: template: line:1: unterminated quoted string"]);
    check(&"{{ if 1 }}".repeat(100), expect!["error: template: line:1: blocks are nested more than 50 levels deep"]);
}

#[test]
fn failing_and_hostile_templates_end_with_an_error() {
    check(
        "{{ upper 1 }}",
        expect![[r#"error: template: line:1:9: executing "line" at <1>: expected string; found 1"#]],
    );
    check(
        r#"{{ repeat 1000000000 "x" }}"#,
        expect![[
            r#"error: template: line:1:3: executing "line" at <repeat 1000000000 "x">: error calling repeat: the text is over the limit of 16777216 bytes"#
        ]],
    );
    check(
        r#"{{ lt 1 "x" }}"#,
        expect![[
            r#"error: template: line:1:3: executing "line" at <lt 1 "x">: error calling lt: incompatible types for comparison: int and string"#
        ]],
    );
    check(
        r#"{{ regexReplaceAll "(" .app "" }}"#,
        expect![[
            r#"error: template: line:1:3: executing "line" at <regexReplaceAll "(" .app "">: error calling regexReplaceAll: error parsing regexp: missing closing ): `(`"#
        ]],
    );
    check(
        r#"{{ index "abc" 9 }}"#,
        expect![[
            r#"error: template: line:1:3: executing "line" at <index "abc" 9>: error calling index: index out of range: 9"#
        ]],
    );
    check(r#"{{ printf "%d %s" "x" }}"#, expect!["%!d(string=x) %!s(MISSING)"]);
}

#[test]
fn no_template_takes_gigabytes_or_hours() {
    let fails = |text: &str| {
        let stream = Labels::from_pairs([("app", "web")]);
        let row = RowLabels::new(&stream);
        let error =
            Template::new("line", text).and_then(|template| template.render(Timestamp(0), "line", &row)).unwrap_err();
        assert!(error.contains("limit of"), "{error}");
    };
    let (xs, ys) = ("x".repeat(10_000), "y".repeat(10_000));
    fails(&format!(r#"{{{{ regexReplaceAll "" "{xs}" "{ys}" }}}}"#));
    fails(&format!(r#"{{{{ regexReplaceAllLiteral "x" "{xs}" "{ys}" }}}}"#));
    fails(r#"{{ regexReplaceAll "(.*)" (repeat 5000000 "x") "$1$1$1$1$1" }}"#);
    let long = r#"{{ $x := repeat 12000000 "x" }}"#;
    for call in ["print", "println", "html", "js", "urlquery", "printf \"%s%s\"", "eq"] {
        fails(&format!("{long}{{{{ {call} {}}}}}", "$x ".repeat(2_000)));
        fails(&format!("{long}{{{{ {call} $x $x }}}}{}", "{{ $x }}".repeat(2)));
    }
    let variables: String = (0..200).map(|i| format!(r#"{{{{ $v{i} := repeat 12000000 "x" }}}}"#)).collect();
    fails(&variables);
    fails(&format!("{long}{{{{ $x {} }}}}", "| urlencode ".repeat(50)));
    // Loops in loops that write nothing.
    let list = format!("{{{{ $l := fromJson \"[1{}]\" }}}}", ",1".repeat(99));
    fails(&format!("{list}{}{}", "{{ range $l }}".repeat(20), "{{ end }}".repeat(20)));
    fails(&format!("{list}{}x{}", "{{ range $l }}".repeat(20), "{{ end }}".repeat(20)));
}

#[test]
fn faults_tell_their_place() {
    check(
        "{{ .app.x }}",
        expect![[r#"error: template: line:1:7: executing "line" at <.app.x>: can't evaluate field x in type string"#]],
    );
    check(
        "one\n  {{ $x := .app }}{{ $x.y.z }}",
        expect![[r#"error: template: line:2:23: executing "line" at <$x.y.z>: can't evaluate field y in type string"#]],
    );
    check(
        "{{ .app | substr 9 1 }}",
        expect![[
            r#"error: template: line:1:10: executing "line" at <substr 9 1>: error calling substr: runtime error: slice bounds out of range [9:1]"#
        ]],
    );
    check(
        r#"{{ if index (fromJson .json).a.b 9 }}x{{ end }}"#,
        expect![[
            r#"error: template: line:1:6: executing "line" at <index (fromJson .json).a.b 9>: error calling index: index out of range: 9"#
        ]],
    );
    check(
        "{{ upper `a` 2 }}",
        expect![[
            r#"error: template: line:1:3: executing "line" at <upper>: wrong number of args for upper: want 1 got 2"#
        ]],
    );
    check(
        "{{ 0x10 | upper }}",
        expect![[
            r#"error: template: line:1:10: executing "line" at <upper>: wrong type for value; expected string; got int"#
        ]],
    );
    check(
        "{{ trunc .n .app }}",
        expect![[
            r#"error: template: line:1:9: executing "line" at <.n>: wrong type for value; expected int; got string"#
        ]],
    );
    check(
        r#"{{ trunc "x" .app }}"#,
        expect![[r#"error: template: line:1:9: executing "line" at <"x">: expected integer; found "x""#]],
    );
    check(
        "{{ lower nil }}",
        expect![[r#"error: template: line:1:9: executing "line" at <nil>: cannot assign nil to string"#]],
    );
    check(
        "{{ (add 1 2) 3 }}",
        expect![[
            r#"error: template: line:1:3: executing "line" at <(add 1 2) 3>: can't give argument to non-function add 1 2"#
        ]],
    );
    check(
        "{{ range $i, $x := .app }}{{ end }}",
        expect![[r#"error: template: line:1:19: executing "line" at <.app>: range can't iterate over web"#]],
    );
    check(
        "{{ range $i, $x := 3 }}{{ end }}",
        expect![[
            r#"error: template: line:1:19: executing "line" at <3>: can't use 3 to iterate over more than one variable"#
        ]],
    );
}

#[test]
fn faults_of_functions_are_gos() {
    check(
        r#"{{ urldecode "a%zz" }}"#,
        expect![[
            r#"error: template: line:1:3: executing "line" at <urldecode "a%zz">: error calling urldecode: invalid URL escape "%zz""#
        ]],
    );
    check(
        r#"{{ urldecode "a%4" }}"#,
        expect![[
            r#"error: template: line:1:3: executing "line" at <urldecode "a%4">: error calling urldecode: invalid URL escape "%4""#
        ]],
    );
    check(
        r#"{{ repeat -1 "x" }}"#,
        expect![[
            r#"error: template: line:1:3: executing "line" at <repeat -1 "x">: error calling repeat: strings: negative Repeat count"#
        ]],
    );
    check(
        r#"{{ unixToTime "soon" }}"#,
        expect![[
            r#"error: template: line:1:3: executing "line" at <unixToTime "soon">: error calling unixToTime: unable to parse time 'soon': strconv.ParseInt: parsing "soon": invalid syntax"#
        ]],
    );
    check(
        "{{ slice .app 2 1 }}",
        expect![[
            r#"error: template: line:1:3: executing "line" at <slice .app 2 1>: error calling slice: invalid slice index: 2 > 1"#
        ]],
    );
    check(
        "{{ slice .app 4 }}",
        expect![[
            r#"error: template: line:1:3: executing "line" at <slice .app 4>: error calling slice: index out of range: 4"#
        ]],
    );
    check(
        "{{ index .app .n }}",
        expect![[
            r#"error: template: line:1:3: executing "line" at <index .app .n>: error calling index: cannot index slice/array with type string"#
        ]],
    );
    check(
        "{{ eq 1 }}",
        expect![[
            r#"error: template: line:1:3: executing "line" at <eq 1>: error calling eq: missing argument for comparison"#
        ]],
    );
    check("{{ html 1 2 }}", expect!["1 2"]);
}

#[test]
fn templates_may_be_defined_and_used() {
    check(r#"{{ define "pair" }}<{{ .app }}={{ $.n }}>{{ end }}{{ template "pair" . }}"#, expect!["<web=42>"]);
    check(r#"{{ template "a" .app }}{{ define "a" }}[{{ . }}{{ $ }}]{{ end }}"#, expect!["[webweb]"]);
    check(r#"{{ define "a" }}[{{ .app }}]{{ end }}{{ template "a" }}"#, expect!["[<no value>]"]);
    check(
        r#"{{ range 2 }}{{ block "a" . }}({{ . }}){{ end }}{{ end }}{{ template "a" upper .app }}"#,
        expect!["(0)(1)(WEB)"],
    );
    // What is defined under the template's own name takes its place when it writes nothing itself.
    check(r#"{{ define "line" }}other{{ end }}"#, expect!["other"]);
    check(r#"{{ if .missing }}{{ template "nosuch" }}{{ end }}fine"#, expect!["fine"]);
}

#[test]
fn wrong_uses_of_templates_are_told() {
    check(
        r#"{{ template "x" . }}"#,
        expect![[r#"error: template: line:1:12: executing "line" at <{{template "x" .}}>: template "x" not defined"#]],
    );
    check(
        "{{ define \"x\" }}\n {{ .app.y }}{{ end }}{{ template \"x\" . }}",
        expect![[r#"error: template: line:2:8: executing "x" at <.app.y>: can't evaluate field y in type string"#]],
    );
    check(
        r#"{{ define "x" }}a{{ end }}{{ define "x" }}b{{ end }}"#,
        expect![[r#"error: template: line:1: template: multiple definition of template "x""#]],
    );
    check(
        r#"{{ define "line" }}a{{ end }}b"#,
        expect![[r#"error: template: line:1: template: multiple definition of template "line""#]],
    );
    check(
        r#"{{ if 1 }}{{ define "x" }}a{{ end }}{{ end }}"#,
        expect!["error: template: line:1: unexpected <define> in command"],
    );
    check(r#"{{ define x }}a{{ end }}"#, expect![[r#"error: template: line:1: unexpected "x" in define clause"#]]);
    check(r#"{{ define "x" . }}a{{ end }}"#, expect!["error: template: line:1: unexpected <.> in define clause"]);
    check(
        r#"{{ define "x" }}a{{ else }}{{ end }}"#,
        expect!["error: template: line:1: unexpected {{else}} in define clause"],
    );
    check(r#"{{ define "x" }}a"#, expect!["error: template: line:1: unexpected EOF"]);
    check("{{ template }}", expect![[r#"error: template: line:1: unexpected "}}" in template clause"#]]);
    check(r#"{{ block "x" }}a{{ end }}"#, expect!["error: template: line:1: missing value for block clause"]);
    check(
        r#"{{ $v := 1 }}{{ define "x" }}{{ $v }}{{ end }}"#,
        expect![[r#"error: template: line:1: undefined variable "$v""#]],
    );
    check(
        r#"{{ range 3 }}{{ block "x" . }}{{ break }}{{ end }}{{ end }}"#,
        expect!["error: template: line:1: {{break}} outside {{range}}"],
    );
}

#[test]
fn templates_in_templates_end() {
    check(
        r#"{{ define "x" }}a{{ template "x" . }}{{ end }}{{ template "x" . }}"#,
        expect![[
            r#"error: template: line:1:29: executing "x" at <{{template "x" .}}>: exceeded maximum template depth (150)"#
        ]],
    );
    check(
        r#"{{ if true }}{{ template "line" . }}{{ end }}"#,
        expect![[
            r#"error: template: line:1:25: executing "line" at <{{template "line" .}}>: exceeded maximum template depth (150)"#
        ]],
    );
    let nested = format!("{}{{{{ template \"x\" . }}}}{}", "{{ if true }}".repeat(45), "{{ end }}".repeat(45));
    check(
        &format!(r#"{{{{ define "x" }}}}{nested}{{{{ end }}}}{{{{ template "x" . }}}}"#),
        expect![[r#"error: template: line:1:152: executing "x" at <true>: exceeded maximum template depth (150)"#]],
    );
    // Twice as many at each level.
    let doubling: String = (0..40)
        .map(|i| {
            format!(
                r#"{{{{ define "t{i}" }}}}{{{{ template "t{n}" }}}}{{{{ template "t{n}" }}}}{{{{ end }}}}"#,
                n = i + 1
            )
        })
        .collect();
    let stream = Labels::from_pairs([("app", "web")]);
    let template = format!(r#"{doubling}{{{{ define "t40" }}}}{{{{ end }}}}{{{{ template "t0" }}}}"#);
    let template = Template::new("line", &template).unwrap();
    let error = template.render(Timestamp(0), "line", &RowLabels::new(&stream)).unwrap_err();
    assert!(error.contains("the template takes more than the limit of"), "{error}");
}
