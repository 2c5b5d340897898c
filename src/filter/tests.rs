#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, json};

use super::field::Kind;
use super::parse::DEPTH_MAX;
use super::*;

/// A filter for each operator of each field, as it is printed.
const EVERY: &[&str] = &[
    r#"eq(id, "019c90ea-7b1c-7000-8000-000000000001")"#,
    r#"neq(id, "not-a-uuid")"#,
    r#"in(id, ["a", "b"])"#,
    r#"eq(name, "agent")"#,
    "neq(name, null)",
    r#"in(name, ["agent", "chat"])"#,
    r#"like(name, "agent%_")"#,
    r#"search(name, "AGENT")"#,
    r#"eq(run_type, "llm")"#,
    r#"neq(run_type, "llm")"#,
    r#"in(run_type, ["llm", "tool"])"#,
    r#"like(run_type, "l%")"#,
    r#"search(run_type, "l")"#,
    r#"eq(status, "success")"#,
    r#"neq(status, "pending")"#,
    r#"in(status, ["success"])"#,
    r#"like(status, "s%")"#,
    r#"search(status, "succ")"#,
    r#"eq(trace_id, "t")"#,
    r#"neq(trace_id, "t")"#,
    r#"in(trace_id, ["t"])"#,
    "eq(parent_run_id, null)",
    "neq(parent_run_id, null)",
    "in(parent_run_id, [])",
    r#"eq(session_id, "s")"#,
    r#"neq(session_id, "s")"#,
    r#"in(session_id, ["s"])"#,
    r#"eq(reference_example_id, "e")"#,
    "neq(reference_example_id, null)",
    r#"in(reference_example_id, ["e"])"#,
    r#"eq(thread_id, "t1")"#,
    r#"neq(thread_id, "t1")"#,
    r#"in(thread_id, ["t1", "t2"])"#,
    r#"like(thread_id, "t_")"#,
    r#"search(thread_id, "T")"#,
    r#"eq(start_time, "2026-10-01T12:00:00Z")"#,
    r#"neq(start_time, "2026-10-01T12:00:00Z")"#,
    r#"gt(start_time, "2026-10-01T12:00:00Z")"#,
    r#"gte(start_time, "2026-10-01T12:00:00.5Z")"#,
    r#"lt(start_time, "2026-10-01T12:00:00Z")"#,
    r#"lte(start_time, "2026-10-01T12:00:00Z")"#,
    r#"in(start_time, ["2026-10-01T12:00:00Z"])"#,
    "eq(end_time, null)",
    "neq(end_time, null)",
    r#"gt(end_time, "0000-01-01T00:00:00Z")"#,
    r#"gte(end_time, "2026-10-01T12:00:00Z")"#,
    r#"lt(end_time, "9999-12-31T23:59:59.999999Z")"#,
    r#"lte(end_time, "2026-10-01T12:00:00Z")"#,
    r#"in(end_time, ["2026-10-01T12:00:00Z"])"#,
    "eq(latency, 5)",
    "neq(latency, null)",
    "gt(latency, 0.3)",
    "gte(latency, 0.000001)",
    "lt(latency, 3600)",
    "lte(latency, -0.25)",
    "in(latency, [1, 2.5])",
    "eq(first_token, null)",
    "neq(first_token, null)",
    "gt(first_token, 1)",
    "gte(first_token, 1)",
    "lt(first_token, 1)",
    "lte(first_token, 1)",
    "in(first_token, [1])",
    "eq(total_tokens, 0)",
    "neq(total_tokens, null)",
    "gt(total_tokens, 1.5)",
    "gte(total_tokens, 9223372036854775807)",
    "lt(total_tokens, -1)",
    "lte(total_tokens, 10)",
    "in(total_tokens, [1, 2])",
    "eq(prompt_tokens, 0)",
    "neq(prompt_tokens, 0)",
    "gt(prompt_tokens, 0)",
    "gte(prompt_tokens, 0)",
    "lt(prompt_tokens, 0)",
    "lte(prompt_tokens, 0)",
    "in(prompt_tokens, [0])",
    "eq(completion_tokens, 0)",
    "neq(completion_tokens, 0)",
    "gt(completion_tokens, 0)",
    "gte(completion_tokens, 0)",
    "lt(completion_tokens, 0)",
    "lte(completion_tokens, 0)",
    "in(completion_tokens, [0])",
    "eq(total_cost, 0.1)",
    "neq(total_cost, null)",
    "gt(total_cost, 0.000000000001)",
    "gte(total_cost, 9223372.036854775807)",
    "lt(total_cost, 1)",
    "lte(total_cost, 1)",
    "in(total_cost, [0.1, 0.2])",
    "eq(prompt_cost, 0)",
    "neq(prompt_cost, 0)",
    "gt(prompt_cost, 0)",
    "gte(prompt_cost, 0)",
    "lt(prompt_cost, 0)",
    "lte(prompt_cost, 0)",
    "in(prompt_cost, [0])",
    "eq(completion_cost, 0)",
    "neq(completion_cost, 0)",
    "gt(completion_cost, 0)",
    "gte(completion_cost, 0)",
    "lt(completion_cost, 0)",
    "lte(completion_cost, 0)",
    "in(completion_cost, [0])",
    "eq(error, true)",
    "neq(error, null)",
    r#"like(error, "RateLimit%")"#,
    r#"search(error, "timeout")"#,
    "eq(is_root, true)",
    "neq(is_root, false)",
    "eq(execution_order, 1)",
    "neq(execution_order, 1)",
    r#"has(tags, "prod")"#,
    r#"in(tags, ["prod", "dev"])"#,
    "eq(tags, null)",
    "neq(tags, null)",
    r#"has(metadata, '{"user":"it\'s","n":{"m":[1,null]}}')"#,
    "eq(metadata, null)",
    "neq(metadata, null)",
    r#"eq(metadata_key, "user")"#,
    r#"neq(metadata_key, "user")"#,
    r#"in(metadata_key, ["session_id", "thread_id"])"#,
    r#"like(metadata_key, "ls_%")"#,
    r#"search(metadata_key, "ls")"#,
    "eq(metadata_value, true)",
    r#"neq(metadata_value, "u1")"#,
    "gt(metadata_value, 1)",
    "gte(metadata_value, 1)",
    "lt(metadata_value, 1)",
    "lte(metadata_value, 1)",
    r#"in(metadata_value, ["u1", 2, false])"#,
    r#"like(metadata_value, "u%")"#,
    r#"search(metadata_value, "u")"#,
    r#"eq(feedback_key, "helpful")"#,
    r#"neq(feedback_key, "helpful")"#,
    r#"in(feedback_key, ["helpful"])"#,
    r#"like(feedback_key, "h%")"#,
    r#"search(feedback_key, "h")"#,
    "eq(feedback_score, 1)",
    "neq(feedback_score, null)",
    "gt(feedback_score, 0.5)",
    "gte(feedback_score, 0.300000000000000004)",
    "lt(feedback_score, -1)",
    "lte(feedback_score, 0)",
    "in(feedback_score, [0, 1])",
    r#"eq(feedback_value, "good")"#,
    r#"neq(feedback_value, "good")"#,
    "gt(feedback_value, 1)",
    "gte(feedback_value, 1)",
    "lt(feedback_value, 1)",
    "lte(feedback_value, 1)",
    r#"in(feedback_value, ["good"])"#,
    r#"like(feedback_value, "g%")"#,
    r#"search(feedback_value, "g")"#,
    r#"eq(input_key, "messages.0.content")"#,
    r#"neq(input_key, "x")"#,
    r#"in(input_key, ["x"])"#,
    r#"like(input_key, "messages.%")"#,
    r#"search(input_key, "x")"#,
    r#"eq(input_value, "why?")"#,
    r#"neq(input_value, "why?")"#,
    "gt(input_value, 1)",
    "gte(input_value, 1)",
    "lt(input_value, 1)",
    "lte(input_value, 1)",
    r#"in(input_value, ["x"])"#,
    r#"like(input_value, "x%")"#,
    r#"search(input_value, "x")"#,
    r#"eq(output_key, "answer")"#,
    r#"neq(output_key, "x")"#,
    r#"in(output_key, ["x"])"#,
    r#"like(output_key, "x%")"#,
    r#"search(output_key, "x")"#,
    "eq(output_value, null)",
    "neq(output_value, null)",
    "gt(output_value, 1)",
    "gte(output_value, 1)",
    "lt(output_value, 1)",
    "lte(output_value, 1)",
    r#"in(output_value, ["x"])"#,
    r#"like(output_value, "x%")"#,
    r#"search(output_value, "x")"#,
];

fn parsed(text: &str) -> Filter {
    Filter::parse(text).unwrap_or_else(|error| panic!("{error}"))
}

fn compared(field: Field, operator: Operator, value: Value) -> Filter {
    Filter::compare(field, operator, value).unwrap()
}

#[test]
fn every_operator_of_every_field_is_read_and_printed() {
    let mut found = BTreeSet::new();
    for text in EVERY {
        let filter = parsed(text);
        assert_eq!(filter.to_string(), *text);
        let Node::Comparison(comparison) = filter.node() else {
            panic!("{text}");
        };
        let words = (
            comparison.operator().name(),
            comparison.subject().field.name(),
        );
        assert!(
            text.starts_with(&format!("{}({}, ", words.0, words.1)),
            "{text}"
        );
        found.insert((comparison.subject().field, comparison.operator()));
        let of_root = text.replacen('(', "(root.", 1);
        assert_eq!(parsed(&of_root).to_string(), of_root);
    }
    for field in Field::ALL {
        for operator in Operator::ALL {
            let is_found = found.contains(&(*field, *operator));
            assert_eq!(
                is_found,
                field.operators().contains(operator),
                "{operator}({field})"
            );
        }
    }
}

#[test]
fn values_are_exact() {
    for (text, field, operator, value) in [
        (
            r#"eq(name, "x")"#,
            Field::Name,
            Operator::Eq,
            Value::text("x"),
        ),
        (
            "eq(end_time, null)",
            Field::EndTime,
            Operator::Eq,
            Value::Null,
        ),
        (
            "gte(start_time, '2026-10-01')",
            Field::StartTime,
            Operator::Gte,
            Value::Time(1_790_812_800_000_000),
        ),
        (
            "gt(latency, 0.3)",
            Field::Latency,
            Operator::Gt,
            Value::Duration(300_000),
        ),
        (
            "lt(latency, '1.5h')",
            Field::Latency,
            Operator::Lt,
            Value::Duration(5_400_000_000),
        ),
        (
            "eq(total_tokens, 1.5)",
            Field::TotalTokens,
            Operator::Eq,
            Value::Number(Number::parse("1.5").unwrap()),
        ),
        (
            "lte(total_cost, 8.2e-6)",
            Field::TotalCost,
            Operator::Lte,
            Value::Cost(8_200_000),
        ),
        (
            "in(tags, ['a', 'b'])",
            Field::Tags,
            Operator::In,
            Value::List(vec![Value::text("a"), Value::text("b")]),
        ),
        (
            "eq(is_root, false)",
            Field::IsRoot,
            Operator::Eq,
            Value::Boolean(false),
        ),
        (
            r#"has(metadata, "{\"a\": 1}")"#,
            Field::Metadata,
            Operator::Has,
            Value::Object(json!({"a": 1}).as_object().unwrap().clone()),
        ),
    ] {
        assert_eq!(parsed(text), compared(field, operator, value), "{text}");
    }
    let number = |text: &str| Number::parse(text).unwrap();
    assert_eq!(
        (number("-1.5").floor(), number("-1.5").is_whole()),
        (-2, false)
    );
    assert_eq!(
        (number("2e0").floor(), number("2.00").is_whole()),
        (2, true)
    );
    assert_eq!(number("1e-18").units(), 1);
    assert_eq!(number("100e-2"), 1.into());
    assert_eq!(number(&format!("0.1{}", "0".repeat(99))), number(".1"));
    assert_eq!(number("0e99"), 0.into());
    for wrong in [
        "",
        "-",
        ".",
        "1e",
        "1e-19",
        "1e20",
        "1.1.1",
        "0x1",
        "é",
        "1e99999999999",
        "--1",
    ] {
        assert_eq!(Number::parse(wrong), None, "{wrong}");
    }
    assert_eq!(
        number("99999999999999999999.999999999999999999").units(),
        10_i128.pow(38) - 1
    );
    assert_eq!(
        Number::from(i64::MIN).units(),
        i128::from(i64::MIN) * 10_i128.pow(18)
    );
}

#[test]
fn durations_in_every_unit() {
    for (text, us) in [
        ("5s", 5_000_000),
        (" 300ms ", 300_000),
        ("300 ms", 300_000),
        ("2m", 120_000_000),
        ("1h", 3_600_000_000),
        ("250us", 250),
        ("250µs", 250),
        ("1.5", 1_500_000),
        ("0.1", 100_000),
        ("0.29999999999999999", 300_000),
        ("0.5us", 0),
        ("1.5us", 2),
        ("-5s", -5_000_000),
        ("1e3s", 1_000_000_000),
    ] {
        assert_eq!(parse_duration(text), Some(us), "{text}");
    }
    for wrong in [
        "",
        "s",
        "5d",
        "5 s s",
        "1h30m",
        "5e",
        "1e19h",
        "9999999999999999999s",
        "é",
    ] {
        assert_eq!(parse_duration(wrong), None, "{wrong}");
    }
}

#[test]
fn other_spellings_have_one_printed_form() {
    for (text, printed) in [
        ("\n and ( eq( name ,'x' ) )\t", r#"and(eq(name, "x"))"#),
        (r#"eq(name, 'it\'s "x"')"#, r#"eq(name, "it's \"x\"")"#),
        (r#"eq(name, "it's \"x\"")"#, r#"eq(name, "it's \"x\"")"#),
        (
            r#"eq(name, "\u0041\ud83d\ude00\/\n\u0007")"#,
            r#"eq(name, "A😀/\n\u0007")"#,
        ),
        ("eq(name, 'a\nb')", r#"eq(name, "a\nb")"#),
        (r"eq(name, 'C:\\x')", r#"eq(name, "C:\\x")"#),
        ("eq(name, '')", r#"eq(name, "")"#),
        (
            "eq(id, '019C90EA7B1C70008000000000000001')",
            r#"eq(id, "019c90ea-7b1c-7000-8000-000000000001")"#,
        ),
        (
            "in(id, ['{019C90EA-7B1C-7000-8000-000000000001}'])",
            r#"in(id, ["019c90ea-7b1c-7000-8000-000000000001"])"#,
        ),
        (
            "gt(start_time, '2026-10-01 14:00:00.5+02:00')",
            r#"gt(start_time, "2026-10-01T12:00:00.5Z")"#,
        ),
        (
            "gt(start_time, '2026-10-01')",
            r#"gt(start_time, "2026-10-01T00:00:00Z")"#,
        ),
        ("gt(latency, '300ms')", "gt(latency, 0.3)"),
        ("gt(latency, +1.50e0)", "gt(latency, 1.5)"),
        ("gt(total_cost, 1e-13)", "gt(total_cost, 0)"),
        ("gt(total_cost, 0.30000000000000004)", "gt(total_cost, 0.3)"),
        ("gt(total_tokens, 1e3)", "gt(total_tokens, 1000)"),
        ("search('a\"b')", r#"search("a\"b")"#),
        ("or(not(search('x')))", r#"or(not(search("x")))"#),
        ("eq(root.name, 'x')", r#"eq(root.name, "x")"#),
        ("eq(execution_order, 1.0)", "eq(execution_order, 1)"),
    ] {
        let filter = parsed(text);
        assert_eq!(filter.to_string(), printed);
        assert_eq!(parsed(printed), filter);
    }
}

#[test]
fn places_are_known_and_do_not_matter() {
    let text = r#"and( eq(name, "é"), not(search("x")) )"#;
    let filter = parsed(text);
    let Node::And(members) = filter.node() else {
        panic!("{filter}");
    };
    let at = |filter: &Filter| &text[filter.span().start..filter.span().end];
    assert_eq!(at(&filter), text);
    assert_eq!(at(&members[0]), r#"eq(name, "é")"#);
    assert_eq!(at(&members[1]), r#"not(search("x"))"#);
    assert_eq!(parsed("eq(name, 'x')"), parsed("  eq( name , 'x')"));
}

/// The text, the column of the caret (from 0), the message, the hint.
const WRONG: &[(&str, usize, &str, &str)] = &[
    ("", 0, "expected a condition, a field or a value", ""),
    ("  ", 2, "expected a condition, a field or a value", ""),
    ("and()", 4, "expected at least one condition", ""),
    ("not()", 4, "not takes one condition", ""),
    (
        "not(search('a'), search('b'))",
        17,
        "not takes one condition",
        "",
    ),
    ("search()", 7, "search takes a field and a value", ""),
    (
        "search(name)",
        7,
        "expected a text in quotes, found `name`",
        "texts stand in quotes: \"name\"",
    ),
    ("eq(name)", 7, "eq takes a field and a value", ""),
    ("eq(name, 'a', 'b')", 14, "eq takes a field and a value", ""),
    ("eq(name, 'a'", 12, "expected `,` or `)`", ""),
    ("eq(name 'a')", 8, "expected `,` or `)`", ""),
    ("eq(name, 'a'))", 13, "expected the end of the filter", ""),
    (
        "eq(name,)",
        8,
        "expected a condition, a field or a value",
        "",
    ),
    ("eq(,)", 3, "expected `)`", ""),
    ("eq(name, 'a)", 9, "this text has no closing quote", ""),
    (
        r"eq(name, 'a\d')",
        12,
        r#"after a backslash stand `"`, `'`, `\`, `/`, `b`, `f`, `n`, `r`, `t` or `u` and four digits"#,
        r"a backslash itself is written `\\`",
    ),
    (
        r"eq(name, '\ud800')",
        11,
        r#"after a backslash stand `"`, `'`, `\`, `/`, `b`, `f`, `n`, `r`, `t` or `u` and four digits"#,
        r"a backslash itself is written `\\`",
    ),
    ("nmae = 'x'", 5, "expected `(` after `nmae`", ""),
    (
        "name == 'x'",
        5,
        "expected `(` after `name`",
        "write comparisons as eq(name, …)",
    ),
    (
        "error",
        0,
        r#"expected a condition such as eq(name, "x"), found `error`"#,
        "write a comparison such as neq(error, null)",
    ),
    (
        "'timeout'",
        0,
        r#"expected a condition such as eq(name, "x"), found the text "timeout""#,
        "to search for a text, write search(\"text\")",
    ),
    (
        "and(eq(name, 'x'), 5)",
        19,
        r#"expected a condition such as eq(name, "x"), found `5`"#,
        "",
    ),
    (
        "AND(eq(name, 'x'))",
        0,
        "`AND` is no function",
        "did you mean `and`?",
    ),
    (
        "gtt(latency, 5)",
        0,
        "`gtt` is no function",
        "did you mean `gt`?",
    ),
    ("contains(name, 'x')", 0, "`contains` is no function", ""),
    (
        "eq(nmae, 'x')",
        3,
        "there is no field `nmae`",
        "did you mean `name`?",
    ),
    (
        "eq(root.total_token, 1)",
        3,
        "there is no field `root.total_token`",
        "did you mean `root.total_tokens`?",
    ),
    (
        "eq(Status, 'x')",
        3,
        "there is no field `Status`",
        "did you mean `status`?",
    ),
    (
        "eq('name', 'x')",
        3,
        "expected a field, found the text \"name\"",
        "fields are written without quotes: name",
    ),
    ("eq(5, 'x')", 3, "expected a field, found `5`", ""),
    (
        "gt(name, 'x')",
        0,
        "name does not take gt",
        "name takes eq, neq, in, like and search",
    ),
    (
        "eq(tags, 'x')",
        9,
        "tags takes null, not the text \"x\"",
        "to find a tag, write has(tags, \"x\")",
    ),
    (
        "gt(latency, null)",
        12,
        r#"latency takes a number of seconds or a text such as "300ms", not `null`"#,
        "",
    ),
    (
        "gt(latency, '5')",
        12,
        r#"latency takes a number of seconds or a text such as "300ms", not the text "5""#,
        "",
    ),
    (
        "gt(latency, 5s)",
        12,
        r#"latency takes a number of seconds or a text such as "300ms", not `5s`"#,
        "texts stand in quotes: \"5s\"",
    ),
    (
        "gt(start_time, 'yesterday')",
        15,
        r#"start_time takes a time such as "2026-10-01T12:00:00Z", not the text "yesterday""#,
        "",
    ),
    (
        "gt(start_time, '9999-12-31T23:59:59-01:00')",
        15,
        r#"start_time takes a time such as "2026-10-01T12:00:00Z", not the text "9999-12-31T23:59:59-01:00""#,
        "",
    ),
    (
        "gt(total_tokens, '5')",
        17,
        "total_tokens takes a number, not the text \"5\"",
        "",
    ),
    (
        "gt(total_tokens, 1e-19)",
        17,
        "total_tokens takes a number, not `1e-19`",
        "a number has at most 20 digits before the point and 18 after it",
    ),
    (
        "gt(total_cost, 1e9)",
        15,
        "total_cost takes a number of dollars, not `1e9`",
        "",
    ),
    (
        "eq(name, agent)",
        9,
        "name takes a text in quotes or null, not `agent`",
        "texts stand in quotes: \"agent\"",
    ),
    (
        "eq(name, None)",
        9,
        "name takes a text in quotes or null, not `None`",
        "did you mean `null`?",
    ),
    (
        "eq(is_root, True)",
        12,
        "is_root takes true or false, not `True`",
        "did you mean `true`?",
    ),
    (
        "eq(is_root, null)",
        12,
        "is_root takes true or false, not `null`",
        "",
    ),
    (
        "eq(execution_order, 2)",
        20,
        "execution_order takes 1, which the root has, and nothing else, not `2`",
        "",
    ),
    (
        "in(name, 'x')",
        9,
        r#"name takes a list such as ["a", "b"], not the text "x""#,
        "",
    ),
    (
        "in(name, ['x', null])",
        15,
        r#"name takes a list such as ["a", "b"], not `null`"#,
        "",
    ),
    (
        "in(total_tokens, [1, 'x'])",
        21,
        "total_tokens takes a list such as [1, 2.5], not the text \"x\"",
        "",
    ),
    (
        "eq(name, ['x'])",
        9,
        "name takes a text in quotes or null, not a list",
        "",
    ),
    (
        "has(metadata, 'user')",
        14,
        r#"metadata takes a JSON object in quotes such as '{"user": "u1"}', not the text "user""#,
        "",
    ),
    (
        "has(metadata, '{}')",
        14,
        r#"metadata takes a JSON object in quotes such as '{"user": "u1"}', not the text "{}""#,
        "",
    ),
    (
        "eq(name, eq(name, 'x'))",
        9,
        "name takes a text in quotes or null, not `eq(…)`",
        "",
    ),
    ("eq(日本, 'x')", 3, "there is no field `日本`", ""),
    (
        "eq(name, '日本é') x",
        18,
        "expected the end of the filter",
        "",
    ),
    ("eq(name, '\t') x", 15, "expected the end of the filter", ""),
];

#[test]
fn what_is_wrong_is_said_where_it_is() {
    for (text, column, message, hint) in WRONG {
        let error = Filter::parse(text).unwrap_err();
        let shown = text.replace('\t', "\\t");
        let expected = format!("{message}\n  {shown}\n  {}^", " ".repeat(*column));
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.hint().unwrap_or_default(), *hint, "{text}");
        assert_eq!(error.text(), *text);
    }
}

#[test]
fn long_texts_are_shown_around_the_place() {
    let many = "eq(name, 'agent'), ".repeat(50);
    let long = format!("and({many}eq(nmae, 'x'), {many}search('x'))");
    let error = Filter::parse(&long).unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no field `nmae`\n  \
         …me, 'agent'), eq(name, 'agent'), eq(nmae, 'x'), eq(name, 'agent'), eq(na…\n  \
         \u{20}                                    ^"
    );
    let end = Filter::parse(&format!("{}(", "x".repeat(200))).unwrap_err();
    assert_eq!(
        end.to_string().lines().nth(2).unwrap().chars().count(),
        2 + 1 + 72 + 1
    );
}

#[test]
fn depth_has_a_limit_and_width_has_none() {
    let nested =
        |levels: usize| format!("{}search('x'){}", "not(".repeat(levels), ")".repeat(levels));
    assert!(Filter::parse(&nested(DEPTH_MAX - 1)).is_ok());
    for levels in [DEPTH_MAX + 1, 100_000] {
        let error = Filter::parse(&nested(levels)).unwrap_err();
        assert_eq!(
            error.message(),
            "more than 100 levels of parentheses and brackets"
        );
    }
    assert!(Filter::parse(&"[".repeat(100_000)).is_err());
    let wide = format!("and({})", vec!["eq(metadata_key, 'x')"; 20_000].join(", "));
    assert!(matches!(parsed(&wide).resolved(), Condition::All(all) if all.len() == 20_000));
}

#[test]
fn comparisons_that_cannot_be_made_are_refused() {
    for (field, operator, value, expected) in [
        (
            Field::Name,
            Operator::Gt,
            Value::text("x"),
            "name takes eq, neq, in, like and search",
        ),
        (
            Field::Latency,
            Operator::Gt,
            Value::Number(1.into()),
            r#"latency takes a number of seconds or a text such as "300ms""#,
        ),
        (
            Field::StartTime,
            Operator::Gt,
            Value::Time(i64::MAX),
            r#"start_time takes a time such as "2026-10-01T12:00:00Z""#,
        ),
        (
            Field::Metadata,
            Operator::Has,
            Value::Object(Map::new()),
            r#"metadata takes a JSON object in quotes such as '{"user": "u1"}'"#,
        ),
    ] {
        let mismatch = Filter::compare(field, operator, value).unwrap_err();
        assert_eq!(mismatch.to_string(), expected);
    }
}

#[test]
fn flags_become_the_same_filters() {
    let filter = Filter::all(vec![
        Filter::run_type("llm"),
        Filter::errored(false),
        Filter::tag("prod"),
        Filter::model("gpt-5"),
        Filter::user("u1"),
        Filter::run_name("a \"b\""),
        Filter::metadata("env", "3"),
        Filter::min_latency(300_000),
        Filter::max_latency(5_000_000),
    ])
    .unwrap();
    let text = r#"and(eq(run_type, "llm"), eq(error, false), has(tags, "prod"), and(eq(metadata_key, "ls_model_name"), eq(metadata_value, "gpt-5")), and(in(metadata_key, ["user_id", "user"]), eq(metadata_value, "u1")), eq(name, "a \"b\""), and(eq(metadata_key, "env"), eq(metadata_value, "3")), gte(latency, 0.3), lte(latency, 5))"#;
    assert_eq!(filter.to_string(), text);
    assert_eq!(parsed(text), filter);
    assert_eq!(Filter::all(Vec::new()), None);
    let one = Filter::search("x");
    assert_eq!(Filter::all(vec![one.clone()]), Some(one.clone()));
    let any = Filter::any(vec![one.clone(), one.clone().negated()]).unwrap();
    assert_eq!(any.to_string(), r#"or(search("x"), not(search("x")))"#);
}

/// A condition, short.
fn outlined(condition: &Condition) -> String {
    let all = |members: &[Condition]| {
        let members: Vec<String> = members.iter().map(outlined).collect();
        members.join(", ")
    };
    match condition {
        Condition::All(members) => format!("all({})", all(members)),
        Condition::Any(members) => format!("any({})", all(members)),
        Condition::Not(inner) => format!("not({})", outlined(inner)),
        Condition::Field(subject, test) => format!("{subject} {}", outlined_test(test)),
        Condition::Entry(entry) => {
            let root = if entry.of_root { "root " } else { "" };
            let key = entry.key.as_ref().map(outlined_test);
            let value = entry.value.as_ref();
            let value = value.map(|(part, test)| format!("{part:?} {}", outlined_test(test)));
            let parts: Vec<String> = key
                .map(|key| format!("Key {key}"))
                .into_iter()
                .chain(value)
                .collect();
            format!("{root}{:?}[{}]", entry.family, parts.join(", "))
        }
        Condition::Search(text) => format!("search {text}"),
    }
}

fn outlined_test(of: &Test) -> String {
    match of {
        Test::Present => "present".to_owned(),
        Test::Equals(value) => format!("= {value}"),
        Test::Compared(order, value) => format!("{order:?} {value}"),
        Test::OneOf(list) => format!("in {}", Value::List(list.clone())),
        Test::Contains(object) => format!("contains {}", serde_json::to_string(object).unwrap()),
        Test::Like(text) => format!("like {text}"),
        Test::Search(text) => format!("search {text}"),
        Test::Not(inner) => format!("not({})", outlined_test(inner)),
    }
}

#[test]
fn what_filters_mean() {
    for (text, outline) in [
        ("eq(name, 'x')", r#"name = "x""#),
        ("neq(name, 'x')", r#"not(name = "x")"#),
        ("eq(name, null)", "not(name present)"),
        ("neq(name, null)", "name present"),
        ("eq(root.name, null)", "not(root.name present)"),
        ("lt(latency, '1s')", "latency Less 1"),
        ("in(status, ['a'])", r#"status in ["a"]"#),
        ("like(status, 'a%')", "status like a%"),
        ("search(status, 'a')", "status search a"),
        ("search('a')", "search a"),
        ("has(tags, 'a')", r#"tags = "a""#),
        ("in(tags, ['a'])", r#"tags in ["a"]"#),
        ("eq(tags, null)", "not(tags present)"),
        (
            r#"has(metadata, '{"a":1}')"#,
            r#"metadata contains {"a":1}"#,
        ),
        ("eq(thread_id, 't')", r#"thread_id = "t""#),
        // Each of the words for roots and failures.
        ("eq(is_root, true)", "is_root = true"),
        ("eq(is_root, false)", "is_root = false"),
        ("neq(is_root, true)", "not(is_root = true)"),
        ("neq(is_root, false)", "not(is_root = false)"),
        ("eq(execution_order, 1)", "is_root = true"),
        ("neq(root.execution_order, 1)", "not(root.is_root = true)"),
        ("eq(error, true)", "error = true"),
        ("neq(error, false)", "not(error = false)"),
        ("neq(error, null)", "error = true"),
        ("eq(error, null)", "not(error = true)"),
        ("eq(error, false)", "error = false"),
        ("neq(error, true)", "not(error = true)"),
        ("eq(error, 'x')", r#"error = "x""#),
        ("neq(error, 'x')", r#"not(error = "x")"#),
        // Nested.
        ("and(search('a'))", "search a"),
        (
            "and(search('a'), and(search('b'), and(search('c'))))",
            "all(search a, search b, search c)",
        ),
        (
            "or(search('a'), or(search('b')))",
            "any(search a, any(search b))",
        ),
        (
            "not(and(search('a'), search('b')))",
            "not(all(search a, search b))",
        ),
        // Keys and values, alone and bound.
        ("eq(metadata_key, 'k')", r#"Metadata[Key = "k"]"#),
        ("neq(metadata_key, 'k')", r#"not(Metadata[Key = "k"])"#),
        ("eq(metadata_value, null)", "not(Metadata[Value present])"),
        ("gt(feedback_score, 0.5)", "Feedback[Score Greater 0.5]"),
        (
            "and(eq(metadata_key, 'k'), eq(metadata_value, 'v'))",
            r#"Metadata[Key = "k", Value = "v"]"#,
        ),
        (
            "and(neq(metadata_key, 'k'), neq(metadata_value, null))",
            r#"Metadata[Key not(= "k"), Value present]"#,
        ),
        (
            "and(eq(feedback_key, 'k'), eq(feedback_score, null))",
            r#"Feedback[Key = "k", Score not(present)]"#,
        ),
        (
            "and(eq(metadata_value, 'v'), eq(metadata_key, 'k'))",
            r#"all(Metadata[Value = "v"], Metadata[Key = "k"])"#,
        ),
        (
            "and(eq(input_key, 'k'), search('s'), eq(output_value, 'o'), and(eq(input_value, 'v')))",
            r#"all(Input[Key = "k", Value = "v"], search s, Output[Value = "o"])"#,
        ),
        (
            "and(eq(feedback_key, 'a'), eq(feedback_key, 'b'), gt(feedback_score, 1), eq(feedback_value, 'v'))",
            r#"all(Feedback[Key = "a"], Feedback[Key = "b", Score Greater 1], Feedback[Value = "v"])"#,
        ),
        (
            "and(eq(metadata_key, 'a'), eq(root.metadata_key, 'b'), eq(root.metadata_value, 'r'), eq(metadata_value, 'v'))",
            r#"all(Metadata[Key = "a", Value = "v"], root Metadata[Key = "b", Value = "r"])"#,
        ),
        (
            "and(eq(metadata_key, 'a'), not(eq(metadata_value, 'v')))",
            r#"all(Metadata[Key = "a"], not(Metadata[Value = "v"]))"#,
        ),
        (
            "or(eq(metadata_key, 'a'), eq(metadata_value, 'v'))",
            r#"any(Metadata[Key = "a"], Metadata[Value = "v"])"#,
        ),
    ] {
        assert_eq!(outlined(&parsed(text).resolved()), outline, "{text}");
    }
}

fn any_text() -> BoxedStrategy<String> {
    prop_oneof![
        "[a-z%_ ]{0,8}",
        any::<String>(),
        "[\"'\\\\\n\t\u{0}-\u{9f}é😀\u{200b}]{0,8}"
    ]
    .boxed()
}

fn any_number() -> impl Strategy<Value = Value> {
    let limit = 10_i128.pow(38) - 1;
    prop_oneof![
        any::<i64>().prop_map(|whole| Value::Number(whole.into())),
        (-limit..=limit, 0..38_u32).prop_map(|(units, cut)| {
            let units = units / 10_i128.pow(cut);
            Value::Number(Number::parse(&format!("{units}e-18")).unwrap())
        }),
    ]
}

fn any_object() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|truth| json!(truth)),
        any::<i64>().prop_map(|number| json!(number)),
        any::<f64>().prop_filter_map("finite", |number| {
            number.is_finite().then(|| json!(number))
        }),
        any_text().prop_map(|text| json!(text)),
    ];
    let json = leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(|list| json!(list)),
            vec((any_text(), inner), 0..3)
                .prop_map(|entries| serde_json::Value::Object(entries.into_iter().collect())),
        ]
    });
    vec((any_text(), json), 1..3).prop_map(|entries| Value::Object(entries.into_iter().collect()))
}

/// A value of a field, other than null, a list and an object.
fn any_one(kind: Kind) -> BoxedStrategy<Value> {
    let text = any_text().prop_map(Value::Text);
    let truth = any::<bool>().prop_map(Value::Boolean);
    let time = -62_167_219_200_000_000_i64..253_402_300_800_000_000;
    match kind {
        Kind::Id => {
            let id =
                any::<u128>().prop_map(|id| Value::Text(uuid::Uuid::from_u128(id).to_string()));
            prop_oneof![text, id].boxed()
        }
        Kind::Text | Kind::Tags | Kind::Object => text.boxed(),
        Kind::Time => time.prop_map(Value::Time).boxed(),
        Kind::Duration => any::<i64>().prop_map(Value::Duration).boxed(),
        Kind::Number => any_number().boxed(),
        Kind::Cost => any::<i64>().prop_map(Value::Cost).boxed(),
        Kind::Error => prop_oneof![text, truth].boxed(),
        Kind::Flag => truth.boxed(),
        Kind::One => Just(Value::Number(1.into())).boxed(),
        Kind::Scalar => prop_oneof![text, truth, any_number()].boxed(),
    }
}

fn any_comparison() -> impl Strategy<Value = Filter> {
    (select(Field::ALL), any::<bool>())
        .prop_flat_map(|(field, of_root)| {
            let subject = Subject { field, of_root };
            (Just(subject), select(field.operators()))
        })
        .prop_flat_map(|(subject, operator)| {
            let kind = subject.field.kind();
            let one = any_one(kind);
            let has_null = !matches!(kind, Kind::Flag | Kind::One);
            let value = match (operator, kind) {
                (Operator::Has, Kind::Object) => any_object().boxed(),
                (Operator::In, _) => vec(one, 0..4).prop_map(Value::List).boxed(),
                (Operator::Eq | Operator::Neq, Kind::Tags | Kind::Object) => {
                    Just(Value::Null).boxed()
                }
                (Operator::Eq | Operator::Neq, _) if has_null => {
                    prop_oneof![1 => Just(Value::Null), 4 => one].boxed()
                }
                (Operator::Like | Operator::Search | Operator::Has, _) => {
                    any_text().prop_map(Value::Text).boxed()
                }
                (Operator::Gt | Operator::Gte | Operator::Lt | Operator::Lte, Kind::Scalar) => {
                    any_number().boxed()
                }
                _ => one,
            };
            (Just((subject, operator)), value)
        })
        .prop_map(|((subject, operator), value)| {
            Filter::compare(subject, operator, value.clone())
                .unwrap_or_else(|mismatch| panic!("{mismatch}: {value}"))
        })
}

fn any_filter() -> impl Strategy<Value = Filter> {
    let leaf = prop_oneof![8 => any_comparison(), 1 => any_text().prop_map(Filter::search)];
    leaf.prop_recursive(5, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 1..4).prop_map(|members| of(Node::And(members))),
            vec(inner.clone(), 1..4).prop_map(|members| of(Node::Or(members))),
            inner.prop_map(Filter::negated),
        ]
    })
}

fn of(node: Node) -> Filter {
    let span = Span::default();
    Filter { node, span }
}

/// What an error says can be shown: three lines, the caret below a place of the text.
fn check_error(error: &FilterError) -> Result<(), TestCaseError> {
    let shown = error.to_string();
    let lines: Vec<&str> = shown.split('\n').collect();
    prop_assert_eq!(lines.len(), 3, "{}", shown);
    prop_assert!(!shown.replace('\n', "").contains(char::is_control));
    let width = unicode_width::UnicodeWidthStr::width(lines[1]);
    prop_assert!(width <= 2 + 1 + 72 + 1, "{}", shown);
    prop_assert!(lines[2].len() <= width + 1, "{}", shown);
    prop_assert!(error.text().is_char_boundary(error.at()));
    Ok(())
}

proptest! {
    #[test]
    fn printing_and_parsing_are_inverse(filter in any_filter()) {
        let text = filter.to_string();
        prop_assert!(!text.contains(char::is_control), "{}", text);
        let again = Filter::parse(&text);
        prop_assert_eq!(again.as_ref(), Ok(&filter), "{}", text);
        prop_assert_eq!(again.unwrap().to_string(), text);
        let _ = filter.resolved();
    }

    #[test]
    fn no_text_panics(text in any::<String>(), near in "(and|eq|in|search|name|latency|[(),'\"\\[\\]\\\\ ]|é|-?[0-9.e]{0,4}|\t){0,12}") {
        for text in [text, near] {
            if let Err(error) = Filter::parse(&text) {
                check_error(&error)?;
            }
        }
    }

    #[test]
    fn no_damaged_filter_panics(filter in any_filter(), at: prop::sample::Index, other in any::<char>(), how in 0..4) {
        let mut chars: Vec<char> = filter.to_string().chars().collect();
        let at = at.index(chars.len());
        match how {
            0 => chars[at] = other,
            1 => chars.truncate(at),
            2 => { chars.remove(at); }
            _ => chars.insert(at, other),
        }
        match Filter::parse(&chars.iter().collect::<String>()) {
            Ok(filter) => prop_assert_eq!(Filter::parse(&filter.to_string()), Ok(filter)),
            Err(error) => check_error(&error)?,
        }
    }

    #[test]
    fn numbers_are_those_of_the_text(units in -(10_i128.pow(38) - 1)..10_i128.pow(38), exponent in 0..18_i32) {
        let number = Number::parse(&format!("{units}e-18")).unwrap();
        prop_assert_eq!(number.units(), units);
        prop_assert_eq!(Number::parse(&number.to_string()), Some(number));
        let scaled = Number::parse(&format!("{number}e{}", -exponent));
        let factor = 10_i128.pow(exponent.unsigned_abs());
        prop_assert_eq!(scaled.map(Number::units), (units % factor == 0).then_some(units / factor));
        prop_assert!(number.floor() * 10_i128.pow(18) <= units);
    }
}
