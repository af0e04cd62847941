use std::collections::BTreeMap;

use super::{json::TEXT_BYTES_MAX, *};
use crate::{
    event::{BodyDigest, EventKey},
    names::{EventId, EventType, SourceName},
    time::Timestamp,
};

/// A body as an expression sees it, with an event around it.
pub(crate) fn input(body: &str) -> JqInput {
    JqInput::new(body.as_bytes(), &event(None)).unwrap()
}

fn event(occurred_at: Option<Timestamp>) -> Event {
    Event {
        key: EventKey { source: SourceName::parse("shop").unwrap(), event_id: EventId::parse("evt_1").unwrap() },
        event_type: EventType::parse("order.paid").unwrap(),
        received_at: Timestamp::from_seconds(1_795_328_675),
        occurred_at,
        headers: BTreeMap::from([("content-type".to_owned(), "application/json".to_owned())]),
        body_bytes: 0,
        sha256: BodyDigest::of(b""),
        compared_sha256: None,
        part: None,
        key_id: String::new(),
        destinations: Vec::new(),
        expires_at: Timestamp::from_seconds(1_795_328_675),
    }
}

fn map(expression: &str, body: &str) -> Result<String, JqFailure> {
    let output = Jq::compile(expression).unwrap().map(&input(body))?;
    Ok(String::from_utf8(output).unwrap())
}

#[track_caller]
fn gives(expression: &str, body: &str, output: &str) {
    assert_eq!(map(expression, body).as_deref(), Ok(output), "{expression}");
}

#[track_caller]
fn fails(expression: &str, body: &str, failure: JqFailure) {
    assert_eq!(map(expression, body), Err(failure), "{expression}");
}

#[track_caller]
fn operation(expression: &str, body: &str, words: &str) {
    fails(expression, body, JqFailure::Operation(words.to_owned()));
}

#[track_caller]
fn refused(expression: &str, words: &str) {
    assert_eq!(Jq::compile(expression).unwrap_err().to_string(), words);
}

#[test]
fn an_expression_is_true_like_in_jq_and_no_output_is_false() {
    let is_true = |expression: &str| Jq::compile(expression).unwrap().is_true(&input(r#"{"a":1,"b":null,"c":false}"#));
    for expression in [".a", "0", "\"\"", "[]", "{}", "select(.a == 1)", ".a == 1 and (.b | not)"] {
        assert_eq!(is_true(expression), Ok(true), "{expression}");
    }
    for expression in [".b", ".c", ".d", "empty", "select(.a == 2)"] {
        assert_eq!(is_true(expression), Ok(false), "{expression}");
    }
    assert_eq!(is_true(".a, .a"), Err(JqFailure::Several));
    assert!(is_true(".a.b").is_err());
}

#[test]
fn a_map_gives_one_value() {
    gives(".", r#"{ "b": [1, "x"], "a": null }"#, r#"{"b":[1,"x"],"a":null}"#);
    gives("{id, total: (.items | map(.price * .count) | add)}", ORDER, r#"{"id":7,"total":25.5}"#);
    fails("empty", "{}", JqFailure::Nothing);
    fails("1, 2", "{}", JqFailure::Several);
    // The second output fails, and so there is no telling what it is.
    fails("1, error", "{}", JqFailure::CalledError);
}

const ORDER: &str = r#"{"id":7,"items":[{"price":2.5,"count":3},{"price":9,"count":2}]}"#;

#[test]
fn one_value_keeps_its_kind() {
    let one = |expression: &str, body: &str| Jq::compile(expression).unwrap().one(&input(body));
    assert_eq!(one(".a", r#"{"a":"x"}"#), Ok("x".into()));
    assert_eq!(one(".", "18446744073709551615"), Ok(u64::MAX.into()));
    assert_eq!(one(".", "-9223372036854775808"), Ok(i64::MIN.into()));
    assert_eq!(one(".", "18446744073709551616"), Err(JqFailure::LargeNumber));
    assert_eq!(one(".", "1e400"), Err(JqFailure::LargeNumber));
    assert_eq!(one(".", "12.10"), Ok(12.1.into()));
    assert_eq!(one("nan", "0"), Ok(serde_json::Value::Null));
    assert_eq!(one(".", r#"{"a":[1,true,null]}"#), Ok(serde_json::json!({"a": [1, true, null]})));
    assert_eq!(one("empty", "0"), Err(JqFailure::Nothing));
    assert_eq!(one("1, 2", "0"), Err(JqFailure::Several));
}

#[test]
fn the_event_is_a_variable() {
    let all = r#"{"id":"evt_1","type":"order.paid","source":"shop","receivedAt":"2026-11-22T06:24:35Z","occurredAt":null,"headers":{"content-type":"application/json"}}"#;
    gives("$event", "0", all);
    let occurred = JqInput::new(b"0", &event(Some(Timestamp::from_seconds(0)))).unwrap();
    assert_eq!(Jq::compile("$event.occurredAt").unwrap().one(&occurred), Ok("1970-01-01T00:00:00Z".into()));
}

#[test]
fn a_number_that_is_only_passed_on_is_as_it_was_written() {
    let numbers = "[9223372036854775807,9223372036854775808,18446744073709551615,12.10,1e400,-0,1E2,0.1]";
    gives(".", numbers, numbers);
    gives("map(.)", numbers, numbers);
    gives("{a: .[3]}", numbers, r#"{"a":12.10}"#);
    gives("map(tostring) | .[2:5]", numbers, r#"["18446744073709551615","12.10","1e400"]"#);
    gives(".[2] + 1", numbers, "18446744073709551616");
    gives(".[1] == .[2]", numbers, "false");
    gives(".[3] + 0", numbers, "12.1");
    gives("1.10", "0", "1.10");
    gives("\"12.10\" | tonumber", "0", "12.10");
    gives("[4 / 2, 1 / 4, 7 % 4, 1e3, (3.0 | floor), 1.5 * 2]", "0", "[2,0.25,3,1e3,3,3]");
}

#[test]
fn the_order_of_members_is_kept_and_of_two_of_one_name_the_later_counts() {
    gives(".", r#"{"z":1,"a":2,"z":3}"#, r#"{"z":3,"a":2}"#);
    gives(".b = 1 | .a = 2", r#"{"z":0,"a":0}"#, r#"{"z":0,"a":2,"b":1}"#);
    gives("del(.b)", r#"{"a":1,"b":2,"c":3,"d":4}"#, r#"{"a":1,"c":3,"d":4}"#);
    gives("keys", r#"{"z":1,"a":2}"#, r#"["a","z"]"#);
    gives("to_entries | map(.key)", r#"{"z":1,"a":2}"#, r#"["z","a"]"#);
}

#[test]
fn what_jq_users_expect_is_there() {
    for (expression, body, output) in [
        (r#""\(.a)-\(.b)""#, r#"{"a":"x","b":1}"#, r#""x-1""#),
        ("map(select(. > 1)) | length", "[1,2,3]", "2"),
        (".a // \"none\"", "{}", "\"none\""),
        ("[.[] | try error catch .]", "[1,\"x\"]", "[1,\"x\"]"),
        ("try (.a.b) catch .", r#"{"a":5}"#, r#""cannot index a number with a string""#),
        ("[.a?]", "[]", "[]"),
        ("[limit(2; .[]), first(.[]), last(.[])]", "[1,2,3]", "[1,2,1,3]"),
        ("[min, max, any, all, add]", "[1,2]", "[1,2,true,true,3]"),
        ("[ascii_downcase, ascii_upcase]", "\"aB\"", "[\"ab\",\"AB\"]"),
        ("if .a then 1 elif .b then 2 else 3 end", r#"{"b":1}"#, "2"),
        ("reduce .[] as $x (0; . + $x)", "[1,2,3]", "6"),
        ("[foreach .[] as $x (0; . + $x)]", "[1,2,3]", "[1,3,6]"),
        ("with_entries(.value += 1)", r#"{"a":1}"#, r#"{"a":2}"#),
        ("walk(if type == \"number\" then . + 1 else . end)", r#"{"a":[1]}"#, r#"{"a":[2]}"#),
        ("[paths]", r#"{"a":[1]}"#, r#"[["a"],["a",0]]"#),
        ("getpath([\"a\",\"b\"])", r#"{"a":{"b":1}}"#, "1"),
        ("setpath([\"a\"]; 1)", "{}", r#"{"a":1}"#),
        ("delpaths([[\"a\"]])", r#"{"a":1,"b":2}"#, r#"{"b":2}"#),
        (".a.b.c = 1", "null", r#"{"a":{"b":{"c":1}}}"#),
        (".[1:3] = [9]", "[1,2,3,4]", "[1,9,4]"),
        (".[-1]", "[1,2]", "2"),
        (".[1:]", "\"äöü\"", "\"öü\""),
        (".[:-1]", "\"äöü\"", "\"äö\""),
        ("[.[] |= . + 1, .[0] |= empty]", "[1,2]", "[[2,3],[2]]"),
        ("group_by(.a) | map(length)", r#"[{"a":1},{"a":2},{"a":1}]"#, "[2,1]"),
        ("unique", "[3,1,3,2]", "[1,2,3]"),
        ("sort", r#"[{"a":1},[1],"b","a",2,1,true,false,null]"#, r#"[null,false,true,1,2,"a","b",[1],{"a":1}]"#),
        ("[min_by(.a), max_by(.a)] | map(.a)", r#"[{"a":2},{"a":1}]"#, "[1,2]"),
        ("flatten", "[1,[2,[3]]]", "[1,2,3]"),
        ("transpose", "[[1,2],[3]]", "[[1,3],[2,null]]"),
        ("[splits(\", *\")]", "\"a, b,c\"", r#"["a","b","c"]"#),
        ("split(\",\") | join(\"-\")", "\"a,b\"", "\"a-b\""),
        ("join(\",\")", r#"["a",1,null,true]"#, r#""a,1,,true""#),
        ("test(\"^A\"; \"i\")", "\"abc\"", "true"),
        ("capture(\"(?<y>[0-9]{4})-(?<m>[0-9]{2})\")", "\"2026-11\"", r#"{"y":"2026","m":"11"}"#),
        ("[match(\"ö\"; \"g\").offset]", "\"äöäö\"", "[1,3]"),
        ("[scan(\"[a-z]+\")]", "\"ab 1 cd\"", r#"["ab","cd"]"#),
        ("gsub(\"(?<d>[0-9])\"; \"<\\(.d)>\")", "\"a1b2\"", "\"a<1>b<2>\""),
        ("sub(\"a\"; \"b\")", "\"aa\"", "\"ba\""),
        ("[match(\"(a)|(b)\"; \"g\") | .captures | length]", "\"ab\"", "[1,1]"),
        ("[match(\"\"; \"gn\")] | length", "\"ab\"", "0"),
        ("ltrimstr(\"a\") | rtrimstr(\"c\") | trim", "\"a b c\"", "\"b\""),
        ("startswith(\"a\") and endswith(\"c\")", "\"abc\"", "true"),
        ("indices(\"aa\")", "\"aaä aa\"", "[0,4]"),
        ("[indices(1), index(1), rindex(1)]", "[1,2,1]", "[[0,2],0,2]"),
        ("indices([1,2])", "[1,2,1,2]", "[0,2]"),
        ("inside(\"abc\")", "\"b\"", "true"),
        ("contains({a: [1]})", r#"{"a":[1,2],"b":3}"#, "true"),
        ("[has(\"a\"), has(\"b\")]", r#"{"a":null}"#, "[true,false]"),
        ("[has(0), has(1)]", "[1]", "[true,false]"),
        ("map(in([0,1]))", "[0,2]", "[true,false]"),
        ("[bsearch(2), bsearch(0)]", "[1,2]", "[1,-1]"),
        ("map(length)", r#"[null,-12.10,"äö",[1],{"a":1}]"#, "[0,12.10,2,1,1]"),
        ("tojson | fromjson", r#"{"a":[1.10,"\u0001\"\\\n"]}"#, r#"{"a":[1.10,"\u0001\"\\\n"]}"#),
        ("map(toboolean)", r#"[true,"false"]"#, "[true,false]"),
        (
            "[@base64, (@base64 | @base64d), @uri, @html, @sh, @json, @text]",
            "\"<a b>\"",
            r#"["PGEgYj4=","<a b>","%3Ca%20b%3E","&lt;a b&gt;","'<a b>'","\"<a b>\"","<a b>"]"#,
        ),
        ("@uri \"q=\\(.a)\"", r#"{"a":"x y"}"#, "\"q=x%20y\""),
        ("fromdate", "\"2026-11-22T06:24:35Z\"", "1795328675"),
        ("todate", "1795328675", "\"2026-11-22T06:24:35Z\""),
        ("strftime(\"%Y-%m-%d\")", "1795328675", "\"2026-11-22\""),
        ("strptime(\"%d.%m.%Y\") | mktime", "\"22.11.2026\"", "1795305600"),
        ("gmtime | mktime", "1795328675", "1795328675"),
        ("[floor, ceil, round, sqrt]", "2.25", "[2,3,2,1.5]"),
        ("[pow(2; 10), (8 | log2), (-3 | abs)]", "0", "[1024,3,3]"),
        ("[nan, infinite, -infinite] | [map(isnan), map(isinfinite)]", "0", "[[true,false,false],[false,true,true]]"),
        ("explode | implode", "\"aä\"", "\"aä\""),
        ("[.[] | tostring]", r#"[1,"a",[1]]"#, r#"["1","a","[1]"]"#),
        ("def twice(f): f | f; twice(. * 2)", "3", "12"),
        ("label $out | .[] | if . > 1 then ., break $out else empty end", "[1,2,3]", "2"),
        (". as [$a, {b: $c}] | $a + $c", r#"[1,{"b":2}]"#, "3"),
        ("\"ab\" * 2", "0", "\"abab\""),
        (
            "[\"ab\" * 0, {a: {b: 1}} * {a: {c: 2}}, [1,2,1] - [1], \"a,b\" / \",\"]",
            "0",
            r#"[null,{"a":{"b":1,"c":2}},[2],["a","b"]]"#,
        ),
        ("null + 1", "0", "1"),
    ] {
        gives(expression, body, output);
    }
}

#[test]
fn what_depends_on_more_than_the_webhook_is_not_there() {
    let clock = "an expression gives the same in every attempt, wherever it runs";
    refused("now", &format!("jq, line 1, column 1: there is no function `now/0`: {clock}"));
    refused("1 | localtime", &format!("jq, line 1, column 5: there is no function `localtime/0`: {clock}"));
    refused("strflocaltime(\"%Z\")", &format!("jq, line 1, column 1: there is no function `strflocaltime/1`: {clock}"));
    let function = "an expression sees the webhook and nothing of the function";
    refused("env.PATH", &format!("jq, line 1, column 1: there is no function `env/0`: {function}"));
    refused("$ENV.PATH", &format!("jq, line 1, column 1: there is no variable `$ENV`: {function}"));
    refused("$__prog_args", &format!("jq, line 1, column 1: there is no variable `$__prog_args`: {function}"));
    for name in ["input", "inputs", "input_filename", "input_line_number"] {
        refused(name, &format!("jq, line 1, column 1: there is no function `{name}/0`: the webhook is the only input"));
    }
    for name in ["debug", "stderr", "halt", "halt_error"] {
        let words = "an expression has its output alone";
        refused(name, &format!("jq, line 1, column 1: there is no function `{name}/0`: {words}"));
    }
    refused("debug(1)", "jq, line 1, column 1: there is no function `debug/1`: an expression has its output alone");
    for name in ["halt(1)", "halt_error(1)", "debug_empty", "stderr_empty", "error_empty(1)", "get_search_list"] {
        assert!(Jq::compile(name).is_err(), "{name}");
    }
    for import in ["include \"a\"; 1", "import \"a\" as a; 1", "import \"/etc/passwd\" as $x; $x"] {
        assert!(Jq::compile(import).is_err(), "{import}");
    }
    refused("import \"a\" as $x; $x", "jq, line 1, column 9: an expression reads no files");
}

#[test]
fn a_mistake_is_told_with_its_place() {
    refused(".a |", "jq, line 1, column 5: expected term, found the end");
    refused(".a\n| ü", "jq, line 2, column 3: expected a token");
    refused("(.a", "jq, line 1, column 4: expected a closing parenthesis");
    refused("\"a", "jq, line 1, column 3: expected a closing quote");
    refused("\"ä\" | fo(1; 2)", "jq, line 1, column 7: there is no function `fo/2`");
    refused("$evnt", "jq, line 1, column 1: there is no variable `$evnt`");
    refused("break $x", "jq, line 1, column 7: there is no label `$x`");
    refused("", "jq, line 1, column 1: expected term, found the end");
    refused(
        "if . then 1 abcdefghijklmnopqrstuvwxyz end",
        "jq, line 1, column 13: expected else or end, found `abcdefghijklmnopqrst`",
    );
}

#[test]
fn an_expression_has_its_length_and_brackets_within_brackets_do_no_harm() {
    let padded = |bytes: usize| Jq::compile(&format!("{}1", " ".repeat(bytes - 1)));
    assert!(padded(EXPRESSION_BYTES_MAX).is_ok());
    let words = format!("jq, line 1, column 1: the expression is longer than {EXPRESSION_BYTES_MAX} bytes");
    assert_eq!(padded(EXPRESSION_BYTES_MAX + 1).unwrap_err().to_string(), words);
    for (open, close) in [("(", ")"), ("[", "]"), ("-", ""), ("try ", ""), ("1|", "")] {
        let count = (EXPRESSION_BYTES_MAX - 1) / (open.len() + close.len());
        let nested = format!("{}1{}", open.repeat(count), close.repeat(count));
        let ended = Jq::compile(&nested).map(|jq| jq.map(&input("0")));
        assert!(matches!(ended, Ok(Ok(_) | Err(JqFailure::Nesting | JqFailure::Recursion))), "{open}: {ended:?}");
    }
    assert!(Jq::compile(&"(".repeat(EXPRESSION_BYTES_MAX)).is_err());
}

#[test]
fn a_body_that_is_no_json_is_told_with_its_place_alone() {
    let at = |body: &[u8]| match JqInput::new(body, &event(None)) {
        Err(JqFailure::NotJson { line, column }) => (line, column),
        other => panic!("{other:?}"),
    };
    assert_eq!(at(b""), (1, 1));
    assert_eq!(at(b"{\"a\":1,\n \"b\":secret}"), (2, 6));
    assert_eq!(at(b"1 2"), (1, 3));
    for body in [
        "NaN",
        "Infinity",
        "-Infinity",
        "+1",
        "01",
        "1.",
        ".5",
        "1e",
        "[1,]",
        "{\"a\":1,}",
        "{a:1}",
        "{1:2}",
        "'a'",
        "\"a\nb\"",
        "# a\n1",
        "b\"a\"",
        "nul",
        "\"\\x\"",
        "[1",
        "\"a",
        "1,",
        "tru",
        "{\"a\"}",
        "[1 2]",
    ] {
        at(body.as_bytes());
    }
    assert_eq!(at(b"\xef\xbb\xbf{"), (1, 5));
    let words = JqInput::new(b"secret", &event(None)).unwrap_err().to_string();
    assert_eq!(words, "the body is not JSON (line 1, column 1)");
}

/// An event with this `content-encoding`.
fn encoded(coding: &str) -> Event {
    let mut event = event(None);
    event.headers.insert("content-encoding".to_owned(), coding.to_owned());
    event
}

#[test]
fn an_expression_sees_the_decoded_body() {
    let body = zstd::encode_all(&br#"{"a":12.10}"#[..], 3).unwrap();
    let read = |coding: &str| JqInput::new(&body, &encoded(coding));
    assert_eq!(Jq::compile(".").unwrap().map(&read("zstd").unwrap()), Ok(br#"{"a":12.10}"#.to_vec()));
    assert_eq!(read("gzip").unwrap_err(), JqFailure::Undecodable(ContentError::Broken("gzip")));
    let words = "the body is not valid gzip, although `content-encoding` says that it is";
    assert_eq!(read("gzip").unwrap_err().to_string(), words);
    assert_eq!(read("lzma").unwrap_err(), JqFailure::Undecodable(ContentError::UnknownCoding));
    let no_json = zstd::encode_all(&b"{\n}}"[..], 3).unwrap();
    assert_eq!(JqInput::new(&no_json, &encoded("zstd")).unwrap_err(), JqFailure::NotJson { line: 2, column: 2 });
}

#[test]
fn an_expression_sees_the_body_as_it_was_sent_where_its_content_encoding_was_never_applied() {
    for coding in ["gzip", "utf-8"] {
        let input = JqInput::new(b"[1]", &encoded(coding)).unwrap();
        assert_eq!(Jq::compile(".").unwrap().map(&input), Ok(b"[1]".to_vec()), "{coding}");
    }
}

#[test]
fn what_is_unusual_and_yet_json_is_read() {
    let map = |body: &[u8]| {
        let input = JqInput::new(body, &event(None)).unwrap();
        String::from_utf8(Jq::compile(".").unwrap().map(&input).unwrap()).unwrap()
    };
    assert_eq!(map(b"\xef\xbb\xbf[1e400,-0]"), "[1e400,-0]");
    assert_eq!(map(br#""a\ud83c""#), "\"a\u{fffd}\"");
    assert_eq!(map(b"\"\xff\""), "\"\u{fffd}\"");
    assert_eq!(map(br#"{"a":1,"a":2}"#), r#"{"a":2}"#);
}

#[test]
fn nesting_is_bounded_in_the_body_and_in_what_an_expression_makes() {
    let nested = |depth: usize| format!("{}0{}", "[".repeat(depth), "]".repeat(depth));
    let members = |depth: usize| format!("{}0{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    for body in [nested(JSON_DEPTH_MAX), members(JSON_DEPTH_MAX)] {
        assert_eq!(map(".", &body), Ok(body));
    }
    for body in [nested(JSON_DEPTH_MAX + 1), members(JSON_DEPTH_MAX + 1), "[".repeat(1_000_000)] {
        assert_eq!(JqInput::new(body.as_bytes(), &event(None)).unwrap_err(), JqFailure::Nesting);
    }
    let made = |depth: usize| map(&format!("reduce range({depth}) as $i (0; [.])"), "0");
    assert_eq!(made(JSON_DEPTH_MAX), Ok(nested(JSON_DEPTH_MAX)));
    assert_eq!(made(JSON_DEPTH_MAX + 1), Err(JqFailure::Nesting));
    for grow in
        ["{a: .}", ".a = {a: .}", ".b |= [.] | [.]", ". + {a: [.]}", ". * {a: {b: .}}", "[.] + [[.]]", "[tojson, .] | .[0] = [.]"]
    {
        let failure = map(&format!("reduce range(1000) as $i ({{}}; {grow} | if type == \"array\" then {{a: .}} end)"), "0");
        assert!(matches!(failure, Err(JqFailure::Nesting | JqFailure::Memory)), "{grow}: {failure:?}");
    }
}

/// As [`map`], with a small part of the steps, so that what never ends is soon stopped.
fn hurried(expression: &str, body: &str) -> Result<usize, JqFailure> {
    let (jq, input) = (Jq::compile(expression).unwrap(), input(body));
    let outputs = meter::run_within(STEPS_MAX / 40, || jq.outputs(&input).and_then(Outputs::one).map(|value| value.depth()));
    outputs?
}

#[test]
fn what_runs_for_ever_is_stopped() {
    for expression in [
        "[range(1e12)] | length",
        "last(repeat(1))",
        "first(repeat(empty))",
        "def f: f; f",
        "until(false; .)",
        "last(while(true; .))",
        "last(recurse([.[]?]))",
        "reduce range(1e12) as $i (0; . + $i)",
        "last(limit(1e12; repeat(1)))",
        "last(skip(1e12; repeat(1)))",
        "def f: 1, f; last(f)",
        "def f: 0, (f | . + 1); last(f)",
        "first(range(1e12) | select(false))",
        "label $x | last(repeat(1))",
        "[.[] |= repeat(1)] | length",
        "def f: .a | f; null | path(f)",
        "null | last(path(recurse(.a)))",
        "isempty(repeat(empty))",
        "def f(g): f(g | g); f(.)",
        "[limit(1e12; combinations(100))] | length",
        "all(repeat(true); .)",
        "try last(repeat(1)) catch 1",
        "last(repeat(1)?) // 2",
        "def f: try f catch 1 | f; f",
    ] {
        let failure = hurried(expression, "[[1,2],[3,4]]");
        let is_stopped = matches!(failure, Err(JqFailure::Steps | JqFailure::Memory | JqFailure::Recursion));
        assert!(is_stopped, "{expression}: {failure:?}");
    }
}

#[test]
fn the_longest_lists_of_jaq_are_dropped_within_the_stack() {
    // A call makes an entry for each of its parameters, and these are as many as an expression has room for.
    let list = |part: fn(usize) -> String| (0..1000).map(part).collect::<Vec<_>>().join(";");
    let (names, dots) = (list(|at| format!("a{at}")), list(|_| ".".to_owned()));
    let many = format!("def f({names}): f({names}); f({dots})");
    for expression in ["def f(g): f(g | g); f(.)", &many, "def f: .a | f; null | path(f)"] {
        fails(expression, "0", JqFailure::Steps);
    }
}

#[test]
fn recursion_is_stopped_before_the_stack_ends() {
    for expression in [
        "def f: f + 1; f",
        "def f: [f]; f",
        "def f: {a: f}; f",
        "def f: (f | f) + 1; f",
        "def f: .a |= f; null | f",
        "def f: f as $x | $x; f",
    ] {
        fails(expression, "{}", JqFailure::Recursion);
    }
    gives("def f: if . == 0 then 0 else . - 1 | f | . + 1 end; 200 | f", "0", "200");
}

#[test]
fn sharing_makes_nothing_larger_than_its_bounds() {
    let doubled = "reduce range(60) as $i (0; [., .])";
    fails(doubled, "0", JqFailure::TooLong);
    gives(&format!("{doubled} | length"), "0", "2");
    for use_all in [
        format!("{doubled} | tojson"),
        format!("{doubled} as $a | {doubled} | . == $a"),
        format!("[{doubled}, {doubled}] | sort"),
        format!("{doubled} | [..] | length"),
        format!("{doubled} | contains({doubled})"),
    ] {
        assert_eq!(hurried(&use_all, "0"), Err(JqFailure::Steps), "{use_all}");
    }
}

#[test]
fn a_string_has_its_length() {
    gives(&format!("\"x\" * {TEXT_BYTES_MAX} | length"), "0", &TEXT_BYTES_MAX.to_string());
    fails(&format!("\"x\" * {} | length", TEXT_BYTES_MAX + 1), "0", JqFailure::Memory);
    fails("\"x\" * 1e300 | length", "0", JqFailure::Memory);
    gives("\"\" * 1e300", "0", "\"\"");
    fails("[range(100) | \"x\" * 1000000] | add | length", "0", JqFailure::Memory);
    fails("[range(100) | \"x\" * 100000] | join(\"-\") * 2 | length", "0", JqFailure::Memory);
}

#[test]
fn a_map_has_its_length() {
    let text = |bytes: usize| map(&format!("\"x\" * {}", bytes - 2), "0").map(|output| output.len());
    assert_eq!(text(MAP_OUTPUT_BYTES_MAX), Ok(MAP_OUTPUT_BYTES_MAX));
    assert_eq!(text(MAP_OUTPUT_BYTES_MAX + 1), Err(JqFailure::TooLong));
    fails("(\"x\" * 1000000) as $x | [range(10) | $x]", "0", JqFailure::TooLong);
}

#[test]
fn a_body_may_take_so_much_memory() {
    let zeros = |count: usize| JqInput::new(format!("[{}0]", "0,".repeat(count - 1)).as_bytes(), &event(None));
    // Its event takes some of it.
    let fit = MEMORY_BYTES_MAX / 48;
    assert!(zeros(fit - 100).is_ok());
    assert_eq!(zeros(fit).unwrap_err(), JqFailure::Memory);
    let six_megabytes = format!("\"{}\"", "x".repeat(6 * 1024 * 1024 - 2));
    assert!(JqInput::new(six_megabytes.as_bytes(), &event(None)).is_ok());
}

#[test]
fn memory_that_is_let_go_of_can_be_had_again() {
    // Forty times as much as there is, one after the other.
    gives("reduce range(40) as $i (0; [range(10000)] | [., .] | length)", "0", "2");
    gives("[range(2000) | tostring] | join(\",\") | length", "0", "8889");
    fails("reduce range(22) as $i ([0]; . + .) | length", "0", JqFailure::Memory);
}

#[test]
fn a_regular_expression_takes_time_in_proportion() {
    for pattern in ["(a*)*b", "(a|a)*b", "(a|aa)+b", "(.*a){8}b"] {
        gives(&format!("(\"a\" * 1000) | test(\"{pattern}\")"), "0", "false");
    }
    fails("(\"a\" * 5000) | [match(\"a*?b|a\"; \"g\")] | length", "0", JqFailure::Steps);
    fails("(\"a\" * 8000000) | test(\"[a-z]{100}b\")", "0", JqFailure::Steps);
    operation("test(\"(a{1,100}){1,100}\")", "\"a\"", "cannot use a string as a regular expression");
    operation("test(\"(\")", "\"a\"", "cannot use a string as a regular expression");
    operation("test(\"a\"; \"q\")", "\"a\"", "cannot use a string as flags of a regular expression");
    operation("test(1)", "\"a\"", "cannot use a number as a regular expression");
    operation("test(\"a\")", "1", "cannot use a number as a string");
}

#[test]
fn a_regular_expression_has_its_size() {
    let test = |repeats: usize| map(&format!("test(\"^a{{{repeats}}}$\")"), "\"a\"");
    let largest = (1..10_000).collect::<Vec<_>>().partition_point(|repeats| test(*repeats).is_ok());
    assert_eq!(test(largest), Ok("false".to_owned()));
    assert!(matches!(test(largest + 1), Err(JqFailure::Operation(_))));
    let state_bytes = REGEX_BYTES_MAX / largest;
    assert!((16..=64).contains(&state_bytes), "{state_bytes} bytes for each of {largest} states");
}

#[test]
fn no_failure_says_anything_of_the_body() {
    let body = r#"{"s":"secret","n":424242,"a":["secret"],"o":{"secret":1},"b":true}"#;
    operation(".n.s", body, "cannot index a number with a string");
    operation(".s[0]", body, "cannot index a string with a number");
    operation(".n[]", body, "cannot use a number as an array or an object");
    operation(".s + 1", body, "cannot calculate a string + a number");
    operation(".o - .a", body, "cannot calculate an object - an array");
    operation("-.s", body, "cannot use a string as a number");
    operation("1 % 0", body, "cannot calculate a number % a number");
    operation("{(.n): 1}", body, "cannot use a number as the name of a member");
    operation(".s | fromjson", body, "cannot use a string as JSON");
    operation(".s | tonumber", body, "cannot use a string as a number");
    operation(".b | length", body, "cannot use a boolean as what has a length");
    operation("path(1)", body, "invalid path expression with input an object");
    fails("error(.s)", body, JqFailure::CalledError);
    fails(".s | error", body, JqFailure::CalledError);
    fails("error(.o)", body, JqFailure::CalledError);
    for expression in [
        ".s | fromdate",
        ".s | strptime(\"%Y\")",
        ".s | @base64d",
        "[-424242] | implode",
        ".n | strftime(\"%\")",
        ".s | split(1)",
    ] {
        let words = map(expression, body).unwrap_err().to_string();
        assert!(!words.contains("secret") && !words.contains("424242"), "{expression}: {words}");
    }
    assert_eq!(format!("{:?}", input(body)), "JqInput(..)");
    assert_eq!(format!("{:?} {}", input(body).body, input(body).body), "an object an object");
}

#[test]
fn an_expression_shows_itself_as_it_was_written() {
    let jq = Jq::compile(".a | .b").unwrap();
    assert_eq!(format!("{jq:?}"), "Jq(\".a | .b\")");
    assert_eq!(jq.expression(), ".a | .b");
}

#[test]
fn a_scalar_is_found_by_its_pointer() {
    let input = input(r#"{"a":{"b":["x",12.10,true,null,{}]},"c/d":{"~":"y"}}"#);
    for (pointer, text) in [
        ("/a/b/0", Some("x")),
        ("/a/b/1", Some("12.10")),
        ("/a/b/2", Some("true")),
        ("/a/b/3", None),
        ("/a/b/4", None),
        ("/a/b/5", None),
        ("/c~1d/~0", Some("y")),
        ("/a/b/0/c", None),
        ("", None),
    ] {
        assert_eq!(input.text_at(pointer).as_deref(), text, "{pointer}");
    }
}

#[test]
fn what_one_thread_compiled_others_use_at_once() {
    let jq = Jq::compile(".a + 1").unwrap();
    let input = input(r#"{"a":1}"#);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| jq.map(&input))).collect();
        threads.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap(), Ok(b"2".to_vec())));
    });
}

#[test]
fn the_documentation_says_what_is_so() {
    let document = include_str!("../../../docs/routes.md");
    let examples: Vec<&str> = document.split("```jq\n").skip(1).collect();
    assert_eq!(examples.len(), 9);
    for example in examples {
        let blocks: Vec<&str> = example.split("```").take(5).collect();
        let [expression, _, body, _, output] = blocks[..] else {
            panic!("an expression, a body and what comes of it: {example}")
        };
        let body = body.strip_prefix("json\n").unwrap();
        match output.strip_prefix("text\n") {
            Some(words) => assert_eq!(map(expression, body).unwrap_err().to_string(), words.trim()),
            None => gives(expression, body, &map(".", output.strip_prefix("json\n").unwrap()).unwrap()),
        }
    }
}
