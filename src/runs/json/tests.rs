#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::fmt::Write as _;

use datafusion::arrow::array::{BinaryViewBuilder, StringViewArray};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{Expr, ident};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::Value;

use super::*;
use crate::runs::functions::{self, A_WHOLE_NUMBER, whole_of_text};

/// One text through a function of columns.
fn one(json: &str, read: impl Fn(&BinaryViewArray) -> Result<ArrayRef>) -> Option<String> {
    let jsons = BinaryViewArray::from(vec![json.as_bytes()]);
    let found = read(&jsons).unwrap();
    let found = found.as_string_view();
    found.iter().next().unwrap().map(str::to_owned)
}

fn bytes_of(texts: &ArrayRef) -> BinaryViewArray {
    texts.as_string_view().clone().to_binary_view()
}

fn at(json: &str, path: &str) -> Option<String> {
    one(json, |jsons| texts_at(jsons, None, path))
}

#[test]
fn scalars_are_found_as_text() {
    let json = r#" {"text": "plain", "long": "a text that no view holds itself", "escaped": "a\u00e9\n\"",
        "empty": "", "whole": -12, "wide": 123456789012345678901234567890, "decimal": 1.50, "power": 1e3,
        "yes": true, "no": false, "null": null, "list": [1], "object": {"a": 1}} "#;
    for (path, text) in [
        ("text", Some("plain")),
        ("long", Some("a text that no view holds itself")),
        ("escaped", Some("aé\n\"")),
        ("empty", Some("")),
        ("whole", Some("-12")),
        ("wide", Some("123456789012345678901234567890")),
        ("decimal", Some("1.5")),
        ("power", Some("1000.0")),
        ("yes", Some("true")),
        ("no", Some("false")),
        ("null", None),
        ("list", None),
        ("object", None),
        ("object.a", Some("1")),
        ("list.0", None),
        ("text.a", None),
        ("absent", None),
    ] {
        assert_eq!(at(json, path).as_deref(), text, "{path}");
    }
}

#[test]
fn the_member_of_the_whole_name_decides() {
    for (json, path, text) in [
        (r#"{"a.b": 1, "a": {"b": 2}}"#, "a.b", Some("1")),
        (r#"{"a": {"b": 2}, "a.b": null}"#, "a.b", None),
        (r#"{"a": {"b": 2}, "a.b": {}}"#, "a.b", None),
        (r#"{"a": {"b.c": 1, "b": {"c": 2}}}"#, "a.b.c", Some("1")),
        (r#"{"a": {"b": {"c": 2}}}"#, "a.b.c", Some("2")),
        // A name of two segments is not looked for within three.
        (r#"{"a.b": {"c": 2}}"#, "a.b.c", None),
        (r#"{"a": {"b": 1}, "a": {"b": 2}}"#, "a.b", Some("2")),
        (r#"{"a": {"b": 1}, "a": 2}"#, "a.b", None),
        (r#"{"a": 1, "\u0061": 2}"#, "a", Some("2")),
        (r#"{"": {"": 1}}"#, ".", Some("1")),
        (r#"{"": 1}"#, "", Some("1")),
    ] {
        assert_eq!(at(json, path).as_deref(), text, "{json} {path}");
    }
}

#[test]
fn what_is_no_json_object_as_a_whole_has_nothing() {
    for json in [
        "",
        "null",
        "[1]",
        r#""a""#,
        r#"{"a": 1"#,
        r#"{"a": 1} 2"#,
        r#"{"a": 1}}"#,
        r#"{"a": 1,}"#,
        r#"{"a": 1, "b"}"#,
        r#"{"a": 1, "b": }"#,
        r#"{"a": 1, "b": 01}"#,
        r#"{"a": 1, "b": 1.}"#,
        r#"{"a": 1, "b": -}"#,
        r#"{"a": 1, "b": 1e}"#,
        r#"{"a": 1, "b": tru}"#,
        r#"{"a": 1, "b": nul}"#,
        r#"{"a": 1, "b": "\x"}"#,
        r#"{"a": 1, "b": "\u12g4"}"#,
        "{\"a\": 1, \"b\": \"\n\"}",
        r#"{"a": 1, "b": [1, {"c": 2]}}"#,
        r#"{"a": 1, "b": [1 2]}"#,
        r#"{"a": 1, "b": [1,]}"#,
        r#"{"a": 1 "b": 2}"#,
        r"{a: 1}",
        "{\"a\": 1,\u{a0}\"b\": 2}",
    ] {
        assert_eq!(at(json, "a"), None, "{json}");
        assert_eq!(one(json, |jsons| members(jsons, "a")), None, "{json}");
    }
}

#[test]
fn depth_does_not_matter_where_nothing_is_sought() {
    let deep = format!(
        r#"{{"b": {}{}, "a": 1}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert_eq!(at(&deep, "a").as_deref(), Some("1"));
    assert_eq!(at(&deep.replace("]]]", "]]"), "a"), None);
}

#[test]
fn however_many_values_differ_what_follows_is_found() {
    let rows = 0..5_usize;
    let json = |row: usize| {
        let numbers: Vec<String> = (0..2_000)
            .map(|n| (row * 37 * n % 1_009).to_string())
            .collect();
        format!(
            r#"{{"b": [{}], "c": "{}", "a": "{row}"}}"#,
            numbers.join(", "),
            "é".repeat(row * 50)
        )
    };
    let jsons: BinaryViewArray = rows.clone().map(|row| Some(json(row))).collect();
    let found = texts_at(&jsons, None, "a").unwrap();
    let expected: StringViewArray = rows.map(|row| Some(row.to_string())).collect();
    assert_eq!(found.as_string_view(), &expected);
}

#[test]
fn the_first_scalar_among_names_is_taken() {
    let first = |json: &str| one(json, |jsons| first_texts(jsons, None, &["a", "b", "c"]));
    for (json, text) in [
        (r#"{"c": 3, "b": 2, "a": 1}"#, Some("1")),
        (r#"{"c": 3, "b": 2, "a": null}"#, Some("2")),
        (r#"{"c": 3, "b": [], "a": {}}"#, Some("3")),
        (r#"{"c": 3, "b": "", "a": {}}"#, Some("")),
        (r#"{"d": 3}"#, None),
        (r#"{"a": 3"#, None),
    ] {
        assert_eq!(first(json).as_deref(), text, "{json}");
    }
}

#[test]
fn entries_are_added_by_name() {
    let names = ["cache_read*", "cached"];
    let sum = |json: &str| {
        let jsons = BinaryViewArray::from(vec![json.as_bytes()]);
        let number = |text: &str| whole_of_text(text, "details");
        let sums = sums(&jsons, &names, number)?;
        let sums: &Int64Array = sums.as_primitive();
        Ok::<_, datafusion::common::DataFusionError>(sums.iter().next().unwrap())
    };
    for (json, total) in [
        (
            r#"{"cache_read": 3, "cache_read_over_200k": 4.0, "cached": 5}"#,
            Some(12),
        ),
        (r#"{"cache_read": 0}"#, Some(0)),
        (
            r#"{"cache_read": null, "cached_tokens": 5, "cache_creation": 7}"#,
            None,
        ),
        (r#"{"cached": 1, "cached": 2}"#, Some(2)),
        (r"{}", None),
        ("no json", None),
    ] {
        assert_eq!(sum(json).unwrap(), total, "{json}");
    }
    for json in [
        r#"{"cached": 1.5}"#,
        r#"{"cached": "many"}"#,
        r#"{"cached": 9223372036854775808}"#,
    ] {
        assert!(
            sum(json).unwrap_err().to_string().contains(A_WHOLE_NUMBER),
            "{json}"
        );
    }
    let error = sum(r#"{"cached": 9223372036854775807, "cache_read": 1}"#).unwrap_err();
    assert!(error.to_string().contains("passes 64 bits"), "{error}");
}

#[test]
fn what_is_found_shares_the_bytes_it_was_found_in() {
    let jsons = BinaryViewArray::from(vec![
        br#"{"object": {"text": "a text that no view holds itself"}, "short": "a"}"#.as_slice(),
    ]);
    let objects = members(&jsons, "object").unwrap();
    let texts = texts_at(&bytes_of(&objects), None, "text").unwrap();
    let start = |texts: &ArrayRef| texts.as_string_view().data_buffers()[0].as_ptr();
    assert_eq!(start(&objects), jsons.data_buffers()[0].as_ptr());
    assert_eq!(start(&texts), start(&objects));
    // Nothing is kept for what a view holds.
    let shorts = texts_at(&jsons, None, "short").unwrap();
    assert!(shorts.as_string_view().data_buffers().is_empty());
}

#[test]
fn rows_that_share_a_view_are_read_once() {
    let mut builder = BinaryViewBuilder::new().with_deduplicate_strings();
    for row in 0..2000 {
        builder.append_option((row % 7 > 0).then(|| format!(r#"{{"a long name": {}}}"#, row % 3)));
    }
    let jsons = builder.finish();
    let lengths = RefCell::new(Vec::new());
    let read = |jsons: &BinaryViewArray| {
        lengths.borrow_mut().push(jsons.len());
        Ok(Arc::new(jsons.clone()) as ArrayRef)
    };
    assert_eq!(once_a_view(&jsons, read).unwrap().as_binary_view(), &jsons);
    let all_differ: BinaryViewArray = (0..2000).map(|row| Some(row.to_string())).collect();
    once_a_view(&all_differ, read).unwrap();
    once_a_view(&BinaryViewArray::from(vec![None; 3]), read).unwrap();
    assert_eq!(lengths.into_inner(), [3, 2000, 0]);
}

#[test]
fn texts_of_a_member_are_found_in_one_reading() {
    let simplified = |expr: Expr| {
        let Expr::ScalarFunction(call) = expr else {
            unreachable!()
        };
        match call
            .func
            .simplify(call.args, &SimplifyContext::default())
            .unwrap()
        {
            ExprSimplifyResult::Simplified(expr) => expr.to_string(),
            ExprSimplifyResult::Original(_) => "the same".to_owned(),
        }
    };
    let extra = || ident("extra");
    let metadata = functions::member(extra(), "metadata");
    insta::assert_snapshot!(
        simplified(functions::path_text(metadata.clone(), "team")),
        @r#"path_text(extra, Utf8("metadata"), Utf8("team"))"#
    );
    insta::assert_snapshot!(
        simplified(functions::first_path_text(metadata.clone(), &["user", "user_id"])),
        @r#"first_path_text(extra, Utf8("metadata"), Utf8("user"), Utf8("user_id"))"#
    );
    let deeper = functions::member(metadata, "usage");
    insta::assert_snapshot!(
        simplified(functions::path_text(deeper, "a")),
        @r#"path_text(member(extra, Utf8("metadata")), Utf8("usage"), Utf8("a"))"#
    );
    assert_eq!(
        simplified(functions::path_text(extra(), "team")),
        "the same"
    );
}

/// Names that are paths of others, or are often written with escapes.
const NAMES: [&str; 9] = ["a", "b", "c", "a.b", "a.b.c", "b.c", "", "é\"\\", "😀"];
const PATHS: [&str; 10] = [
    "a", "b", "a.b", "a.b.c", "b.c", "c", "", "a..b", "é\"\\", "😀.a",
];

/// A text as JSON, each character as it is or escaped.
fn written(text: &str, escapes: u16) -> String {
    let mut json = "\"".to_owned();
    for (index, char) in text.chars().enumerate() {
        if matches!(char, '"' | '\\') || escapes >> (index % 16) & 1 == 1 {
            for unit in char.encode_utf16(&mut [0; 2]) {
                write!(json, "\\u{unit:04x}").unwrap();
            }
        } else {
            json.push(char);
        }
    }
    json + "\""
}

fn joined(parts: &[String], space: &str, ends: [char; 2]) -> String {
    let inner = parts.join(&format!(",{space}"));
    format!("{}{space}{inner}{space}{}", ends[0], ends[1])
}

fn any_json() -> impl Strategy<Value = String> {
    let scalars = vec![
        "0", "7", "-3", "12", "1.50", "1e3", "true", "false", "null", "{}", "[]",
    ];
    let texts = ["", "x", "a text that no view holds itself", "é\"\\\t😀"];
    let leaf = prop_oneof![
        select(scalars).prop_map(str::to_owned),
        (select(texts.to_vec()), any::<u16>()).prop_map(|(text, escapes)| match text {
            "é\"\\\t😀" => written(text, escapes | 0b1000),
            _ => written(text, escapes & (escapes >> 3)),
        }),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        let space = select(vec!["", " ", "\n\t"]);
        let member = (select(NAMES.to_vec()), any::<u16>(), inner.clone());
        let member = member.prop_map(|(name, escapes, value)| {
            format!("{}:{value}", written(name, escapes & (escapes >> 5)))
        });
        prop_oneof![
            3 => (vec(member, 0..6), space.clone())
                .prop_map(|(members, space)| joined(&members, space, ['{', '}'])),
            1 => (vec(inner, 0..4), space)
                .prop_map(|(values, space)| joined(&values, space, ['[', ']'])),
        ]
    })
}

/// JSON, a part of it taken away or something put into it.
fn any_text() -> impl Strategy<Value = String> {
    let damage = (
        any::<Index>(),
        0..3_usize,
        select(vec!["", "\"", "}", ",", ":", "1", "\\", "e"]),
    );
    (any_json(), prop::option::weighted(0.3, damage)).prop_map(|(json, damage)| {
        let Some((place, n_lost, more)) = damage else {
            return json;
        };
        let mut chars: Vec<char> = json.chars().collect();
        let from = place.index(chars.len());
        let to = (from + n_lost).min(chars.len());
        chars.splice(from..to, more.chars());
        chars.into_iter().collect()
    })
}

/// The same by a tree of values.
fn naive(value: &Value, path: &str) -> Option<String> {
    let members = value.as_object()?;
    match (members.get(path), path.split_once('.')) {
        (Some(whole), _) => naive_scalar(whole),
        (None, Some((first, rest))) => naive(members.get(first)?, rest),
        (None, None) => None,
    }
}

fn naive_scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        _ => None,
    }
}

proptest! {
    #[test]
    fn trees_give_the_same(
        texts in vec(any_text(), 1..8),
        rows in vec(prop::option::weighted(0.9, any::<Index>()), 1..600),
        path in select(PATHS.to_vec()),
    ) {
        let trees: Vec<Option<Value>> = texts.iter().map(|json| serde_json::from_str(json).ok()).collect();
        // What is passed over need not be a value: half of a surrogate pair, a number beyond a double.
        let are_values = texts.iter().zip(&trees).all(|(json, tree)| {
            tree.is_some() || serde_json::from_str::<&RawValue>(json).is_err()
        });
        prop_assume!(are_values);
        let rows: Vec<Option<usize>> = rows.iter().map(|row| row.map(|row| row.index(texts.len()))).collect();
        let mut shared = BinaryViewBuilder::new().with_deduplicate_strings();
        let mut apart = BinaryViewBuilder::new();
        for row in &rows {
            shared.append_option(row.map(|row| &texts[row]));
            apart.append_option(row.map(|row| &texts[row]));
        }
        for jsons in [shared.finish(), apart.finish()] {
            let tree = |row: Option<usize>| trees[row?].as_ref();
            let expected = |read: &dyn Fn(&Value) -> Option<String>| {
                let read = rows.iter().map(|row| tree(*row).and_then(read));
                read.collect::<StringViewArray>()
            };
            let found = texts_at(&jsons, None, path).unwrap();
            prop_assert_eq!(found.as_string_view(), &expected(&|tree| naive(tree, path)));

            let found = first_texts(&jsons, None, &["b", "é\"\\", "a"]).unwrap();
            let first = |tree: &Value| {
                ["b", "é\"\\", "a"].iter().find_map(|name| naive_scalar(tree.get(name)?))
            };
            prop_assert_eq!(found.as_string_view(), &expected(&first));

            let objects = members(&jsons, "a").unwrap();
            let found = texts_at(&bytes_of(&objects), None, path).unwrap();
            let below = |tree: &Value| naive(tree.get("a")?, path);
            prop_assert_eq!(found.as_string_view(), &expected(&below));
            let found = texts_at(&jsons, Some("a"), path).unwrap();
            prop_assert_eq!(found.as_string_view(), &expected(&below));
            let found = first_texts(&jsons, Some("a"), &["b", "é\"\\", "a"]).unwrap();
            prop_assert_eq!(found.as_string_view(), &expected(&|tree| first(tree.get("a")?)));
        }
    }
}

/// What may stand in the place of a value: values, and what is none.
const FILLINGS: [&str; 24] = [
    r#""""#,
    r#""x""#,
    r#""a text that is longer than what is looked at at a time""#,
    r#""a text that is longer than what is looked at at another time""#,
    r#""a text of more than the sixty-four bytes that short ones have, and then some more of it""#,
    r#""é""#,
    r#""è""#,
    r#""a\"b""#,
    r#""a\\""#,
    r#""a":"#,
    r#""a"#,
    "\"\n\"",
    "1",
    "12",
    "1.25",
    "-1.5e+3",
    "10E2",
    "01",
    "1.",
    "-",
    "true",
    "null",
    r#"{"a": 1}"#,
    "",
];

proptest! {
    #[test]
    fn alike_is_what_differs_in_values_alone(
        // What is none is that of the row before.
        rows in vec((vec(prop::option::of(select(FILLINGS.to_vec())), 4), any::<Index>(), 0..9_usize), 1..40),
    ) {
        let mut values = ["1"; 4];
        let fill = |(new, at, n_lost): &(Vec<Option<&'static str>>, Index, usize)| {
            for (value, new) in values.iter_mut().zip(new) {
                *value = new.unwrap_or(value);
            }
            let mut json = format!(
                r#"{{"a": {}, "b": {{"c": {}, "a": [{}, 1], "b": "x"}}, "c": {}, "b.b": "é"}}"#,
                values[0], values[1], values[2], values[3],
            );
            if *n_lost == 8 {
                let char = json.char_indices().nth(at.index(json.chars().count()));
                json.remove(char.unwrap().0);
            }
            json
        };
        let texts: Vec<String> = rows.iter().map(fill).collect();
        let trees: Vec<Option<Value>> = texts.iter().map(|json| serde_json::from_str(json).ok()).collect();
        let jsons: BinaryViewArray = texts.iter().map(Some).collect();
        for path in ["a", "b.c", "c", "b.b", "b"] {
            let found = texts_at(&jsons, None, path).unwrap();
            let expected = trees.iter().map(|tree| naive(tree.as_ref()?, path));
            prop_assert_eq!(found.as_string_view(), &expected.collect::<StringViewArray>());
        }
        let found = first_texts(&jsons, Some("b"), &["a", "c"]).unwrap();
        let expected = trees.iter().map(|tree| {
            let inner = tree.as_ref()?.get("b")?;
            ["a", "c"].iter().find_map(|name| naive_scalar(inner.get(name)?))
        });
        prop_assert_eq!(found.as_string_view(), &expected.collect::<StringViewArray>());
        let found = members(&jsons, "b").unwrap();
        let expected = texts.iter().zip(&trees).map(|(json, tree)| {
            tree.as_ref()?;
            let mut scanner = Scanner::new(None, &["b"]);
            scanner.find(json)?.first().copied().flatten().map(str::to_owned)
        });
        prop_assert_eq!(found.as_string_view(), &expected.collect::<StringViewArray>());
    }

    #[test]
    fn bytes_that_are_not_utf8_are_an_error_wherever_they_stand(
        rows in vec((vec(select(FILLINGS.to_vec()), 2), any::<Index>(), 0..40_usize), 1..20),
    ) {
        let texts = rows.iter().map(|(values, at, other)| {
            let json = format!(r#"{{"a": {}, "é": [{}, 1], "b": "x"}}"#, values[0], values[1]);
            let mut json = json.into_bytes();
            let at = at.index(json.len());
            match [0xc3, 0x80, 0xa8, 0xff, b'a', b'"'].get(*other) {
                Some(byte) => json[at] = *byte,
                None if *other < 8 => drop(json.remove(at)),
                None => {}
            }
            json
        });
        let texts: Vec<Vec<u8>> = texts.collect();
        let jsons: BinaryViewArray = texts.iter().map(Some).collect();
        let found = texts_at(&jsons, None, "a");
        let are_texts: std::result::Result<Vec<&str>, _> =
            texts.iter().map(|json| std::str::from_utf8(json)).collect();
        prop_assert_eq!(found.is_ok(), are_texts.is_ok());
        if let (Ok(found), Ok(texts)) = (found, are_texts) {
            let trees = texts.iter().map(|json| serde_json::from_str(json).ok());
            let expected = trees.map(|tree: Option<Value>| naive(&tree?, "a"));
            prop_assert_eq!(found.as_string_view(), &expected.collect::<StringViewArray>());
        }
    }
}

#[test]
fn texts_are_plain_up_to_the_first_special_byte() {
    for length in 0..200 {
        let mut text = vec![b'a'; length];
        assert_eq!(plain_length(&text), length);
        for at in 0..length {
            for special in [b'"', b'\\', 0, b'\n', 0x1f] {
                text[at] = special;
                assert_eq!(plain_length(&text), at, "{special} of {length}");
            }
            text[at] = [0x80, 0xff, 0x7f, b' ', b'!'][at % 5];
        }
    }
}
