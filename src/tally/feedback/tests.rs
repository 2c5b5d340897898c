#![allow(clippy::unwrap_used, clippy::expect_used, clippy::float_cmp)]

use num_bigint::BigInt;
use proptest::prelude::*;

use super::bytes::{unzigzag, zigzag};
use super::key::{Scores, units_of};
use super::*;
use crate::tally::sketch;

fn of_summaries(texts: &[&str]) -> Feedback {
    let mut feedback = Feedback::default();
    for text in texts {
        feedback.add_summaries(text).unwrap();
    }
    feedback
}

fn of_scores(scores: &[f64]) -> Feedback {
    let mut feedback = Feedback::default();
    for &score in scores {
        feedback.add_record(&scored(score)).unwrap();
    }
    feedback
}

fn scored(score: f64) -> Record {
    Record {
        key: "k".to_owned(),
        score: Some(score),
        ..Record::default()
    }
}

fn only(feedback: &Feedback) -> KeyStats {
    let stats = feedback.stats();
    assert_eq!(stats.len(), 1);
    stats.into_values().next().unwrap()
}

#[test]
fn nothing_adds_nothing() {
    let feedback = of_summaries(&["", "  ", "null", "{}", r#"{"k": null}"#]);
    assert!(feedback.is_empty());
    assert_eq!(feedback.heap_size(), 0);
    assert_eq!(feedback.to_bytes(), [FORMAT_VERSION, 0]);
}

#[test]
fn one_score_is_its_own_mean_and_extremes() {
    let text = r#"{"user_score": {"n": 1, "avg": 0.1, "comments": ["x", {"y": 1}]}}"#;
    let stats = only(&of_summaries(&[text]));
    let expected = KeyStats {
        n: 1,
        avg: Some(0.1),
        stdev: Some(0.0),
        min: Some(0.1),
        max: Some(0.1),
        median: Some(0.1),
        ..KeyStats::default()
    };
    assert_eq!(stats, expected);
}

#[test]
fn a_categorical_key_counts_its_labels() {
    let texts = [
        r#"{"topic": {"n": 2, "avg": null, "values": {"b": 1, "a": 1}}}"#,
        r#"{"topic": {"n": 1, "avg": null, "values": {"a": 1.0, "none": 0, "deep": {"a": 7}}}}"#,
    ];
    let stats = only(&of_summaries(&texts));
    let values = BTreeMap::from([("a".to_owned(), 2), ("b".to_owned(), 1)]);
    let expected = KeyStats {
        n: 3,
        values,
        ..KeyStats::default()
    };
    assert_eq!(stats, expected);
}

#[test]
fn a_key_of_comments_alone_has_no_score() {
    let text =
        r#"{"note": {"n": 0, "avg": null, "values": {}, "comments": ["so so"], "errors": 2}}"#;
    let stats = only(&of_summaries(&[text]));
    assert_eq!(
        stats,
        KeyStats {
            errors: 2,
            ..KeyStats::default()
        }
    );
}

#[test]
fn a_summary_of_many_adds_its_moments() {
    let full = r#"{"k": {"n": 4, "avg": 2.5, "stdev": 1.5, "session_min_score": 1, "session_max_score": 5,
        "contains_thread_feedback": true}}"#;
    let stats = only(&of_summaries(&[full, r#"{"k": {"n": 1, "avg": -1}}"#]));
    assert_eq!((stats.n, stats.avg), (5, Some(1.8)));
    // Σx² = 4·(2.5² + 1.5²) + 1 = 35; 35 ÷ 5 − 1.8² = 3.76
    assert_eq!(stats.stdev, Some(3.76_f64.sqrt()));
    assert_eq!((stats.min, stats.max), (Some(-1.0), Some(5.0)));
    assert_eq!(stats.median, None);
    assert!(stats.contains_thread_feedback);
}

#[test]
fn what_a_summary_lacks_is_not_invented() {
    let one = r#"{"k": {"n": 1, "avg": 3}}"#;
    let stats = only(&of_summaries(&[
        one,
        r#"{"k": {"n": 2, "avg": 3, "min": 2, "max": 4}}"#,
        one,
    ]));
    assert_eq!(
        (stats.n, stats.avg, stats.stdev, stats.stdev_sample),
        (4, Some(3.0), None, None)
    );
    assert_eq!((stats.min, stats.max), (Some(2.0), Some(4.0)));
    let stats = only(&of_summaries(&[
        one,
        r#"{"k": {"n": 2, "avg": 3, "stdev": 0, "min": 2}}"#,
    ]));
    assert_eq!((stats.stdev, stats.min, stats.max), (Some(0.0), None, None));
}

#[test]
fn absurd_summaries_are_refused_and_add_nothing() {
    let mut feedback = of_summaries(&[r#"{"a": {"n": 1, "avg": 1}}"#]);
    let before = feedback.clone();
    for text in [
        "{",
        "[]",
        "3",
        r#"{"a": 1}"#,
        r#"{"a": {"n": -1, "avg": 1}}"#,
        r#"{"a": {"n": 1.5, "avg": 1}}"#,
        r#"{"a": {"n": 1e300, "avg": 1}}"#,
        r#"{"a": {"n": "1", "avg": 1}}"#,
        r#"{"a": {"avg": 1}}"#,
        r#"{"a": {"n": 1, "avg": "1"}}"#,
        r#"{"a": {"n": 2, "avg": 1, "stdev": -1}}"#,
        r#"{"a": {"n": 2, "avg": 1, "min": 2, "max": 1}}"#,
        r#"{"a": {"n": 18446744073709551615, "avg": 0}}"#,
        r#"{"a": {"n": 18446744073709551615, "avg": 1e6}}"#,
        r#"{"a": {"values": {"x": -1}}}"#,
        r#"{"a": {"values": {"x": 0.5}}}"#,
        r#"{"a": {"values": {"x": 18446744073709551615, "y": 1}}}"#,
        r#"{"a": {"errors": true}}"#,
        r#"{"a": {"contains_thread_feedback": 1}}"#,
    ] {
        let with_good_one = text.replacen('{', r#"{"0": {"n": 1, "avg": 1}, "#, 1);
        assert!(feedback.add_summaries(text).is_err(), "{text}");
        assert!(feedback.add_summaries(&with_good_one).is_err(), "{text}");
        assert_eq!(feedback, before, "{text}");
    }
}

#[test]
fn unreadable_summaries_are_counted() {
    let mut feedback = Feedback::default();
    for text in [
        "{",
        "[]",
        r#"{"a": {"n": -1}}"#,
        r#"{"a": {"n": 18446744073709551615, "avg": 1e6}}"#,
    ] {
        feedback.add_summaries_or_count(text).unwrap();
    }
    assert_eq!(feedback.n_unreadable(), 4);
    assert!(!feedback.is_empty());
    assert_ne!(feedback, Feedback::default());
    assert_eq!(feedback.to_bytes(), [FORMAT_VERSION, 0, 4]);
    assert!(feedback.stats().is_empty());

    let readable = r#"{"k": {"n": 1, "avg": 1}}"#;
    feedback.add_summaries_or_count(readable).unwrap();
    feedback.merge(&feedback.clone()).unwrap();
    assert_eq!((feedback.n_unreadable(), only(&feedback).n), (8, 2));
    let mut merged = Feedback::default();
    merged.merge_bytes(&feedback.to_bytes()).unwrap();
    assert_eq!(merged, feedback);
    assert!(Feedback::from_bytes(&[FORMAT_VERSION, 0, 0]).is_err());
}

#[test]
fn sums_that_overflow_are_no_unreadable_text() {
    let most = format!(
        r#"{{"a": {{"n": {}, "avg": 0}}, "b": {{"n": 1, "avg": 1}}}}"#,
        sketch::COUNT_MAX
    );
    let mut feedback = of_summaries(&[&most]);
    let before = feedback.clone();
    let error = feedback.add_summaries_or_count(r#"{"0": {"errors": 1}, "a": {"n": 1, "avg": 1}}"#);
    assert!(matches!(error, Err(FeedbackError::Overflow { key }) if key == "a"));
    assert_eq!(feedback, before);
}

#[test]
fn a_merge_that_overflows_changes_nothing() {
    let mut scores = Scores::default();
    scores.negative.record_n(1, sketch::COUNT_MAX).unwrap();
    let tally = KeyTally {
        n: sketch::COUNT_MAX,
        scores: Some(scores),
        ..KeyTally::default()
    };
    let mut full = Feedback::default();
    full.insert("k".to_owned(), tally);
    let before = full.clone();
    let mut one = of_scores(&[-1.0]);
    one.add_summaries(r#"{"0": {"n": 1, "avg": 1}}"#).unwrap();
    assert!(matches!(full.merge(&one), Err(FeedbackError::Overflow { key }) if key == "k"));
    assert_eq!(full, before);
}

#[test]
fn errors_name_key_field_and_value() {
    let error = Feedback::default()
        .add_summaries(r#"{"a": {"n": -1}}"#)
        .unwrap_err();
    let expected =
        r#"feedback key "a", field `n`: expected a whole number of at least 0, found -1"#;
    assert_eq!(error.to_string(), expected);
}

#[test]
fn scores_out_of_range_are_counted_and_left_out() {
    let mut feedback = of_scores(&[
        1e15,
        1.000_000_000_000_000_2e15,
        f64::NEG_INFINITY,
        f64::NAN,
    ]);
    feedback
        .add_summaries(r#"{"k": {"n": 1, "avg": 1e999}}"#)
        .unwrap();
    feedback
        .add_summaries(r#"{"k": {"n": 2, "avg": 0, "stdev": 1, "min": -2e15, "max": 1}}"#)
        .unwrap();
    let stats = only(&feedback);
    assert_eq!(
        (stats.n, stats.n_out_of_range, stats.avg),
        (1, 6, Some(1e15))
    );
    // In range, but its millionths pass a u64: no median rather than a wrong one.
    assert_eq!((stats.max, stats.median), (Some(1e15), None));
}

#[test]
fn a_key_given_twice_counts_as_last_given() {
    let stats = only(&of_summaries(&[
        r#"{"k": {"n": 1, "avg": 1}, "k": {"n": 1, "avg": 2}}"#,
    ]));
    assert_eq!((stats.n, stats.avg), (1, Some(2.0)));
}

#[test]
fn keys_and_labels_may_hold_escapes() {
    let feedback = of_summaries(&[r#"{"a\"\u00e9": {"values": {"\n": 1}}}"#]);
    assert_eq!(feedback.stats()["a\"é"].values["\n"], 1);
}

#[test]
fn records_are_read_from_the_api_s_json() {
    let read = |text| Record::from_json(text).unwrap();
    let record = read(
        r#"{"id": "x", "key": "k", "score": true, "value": "good", "comment": null, "extra": {}}"#,
    );
    let expected = Record {
        label: Some("good".to_owned()),
        ..scored(1.0)
    };
    assert_eq!(record, expected);
    assert_eq!(
        read(r#"{"key": "k", "score": false, "value": {"a": "b"}}"#),
        scored(0.0)
    );
    assert_eq!(
        read(r#"{"key": "k", "score": 0.30000000000000004, "value": 3}"#),
        scored(0.1 + 0.2)
    );
    assert!(read(r#"{"key": "k", "score": null, "error": true}"#).is_error);
    for text in [
        "[]",
        "{}",
        r#"{"key": 1}"#,
        r#"{"key": "k", "score": "1"}"#,
        r#"{"key": "k", "error": 1}"#,
    ] {
        assert!(Record::from_json(text).is_err(), "{text}");
    }
}

#[test]
fn records_and_labels_add_up() {
    let mut feedback = of_scores(&[1.0, 0.0, 1.0, 0.0]);
    let label = |text: &str| Record {
        key: "k".to_owned(),
        label: Some(text.to_owned()),
        is_error: true,
        ..Record::default()
    };
    feedback.add_record(&label("yes")).unwrap();
    feedback.add_record(&label("yes")).unwrap();
    let stats = only(&feedback);
    assert_eq!(
        (stats.n, stats.avg, stats.stdev, stats.median),
        (4, Some(0.5), Some(0.5), Some(0.5))
    );
    assert_eq!(
        (stats.stdev_sample, stats.errors),
        (Some((1.0_f64 / 3.0).sqrt()), 2)
    );
    assert_eq!(stats.values, BTreeMap::from([("yes".to_owned(), 2)]));
}

#[test]
fn the_median_reaches_over_both_signs() {
    for (scores, median) in [
        (&[-3.0, -1.0, 2.0][..], -1.0),
        (&[-3.0, 1.0, 2.0], 1.0),
        (&[-3.0, -1.0, 2.0, 4.0], 0.5),
        (&[-3.0, -1.0, -0.5, 4.0], -0.75),
        (&[-3.0, -1.0], -2.0),
        (&[-1.0, 0.0, 0.0], 0.0),
        (&[-0.000_000_5, -0.25], -0.125),
    ] {
        assert_eq!(only(&of_scores(scores)).median, Some(median), "{scores:?}");
    }
}

#[test]
fn the_median_of_many_stays_within_the_sketch_s_bound() {
    for (range, median) in [(-300..=700, 200.0), (-700..=300, -200.0), (1..=1000, 500.5)] {
        let scores: Vec<f64> = range.map(f64::from).collect();
        let found = only(&of_scores(&scores)).median.unwrap();
        assert!(
            (found / median - 1.0).abs() <= 0.001,
            "{found} for {median}"
        );
    }
}

#[test]
fn a_score_is_the_decimal_of_its_shortest_text() {
    for (score, units) in [
        (0.1, 100_000_000_000_000_000),
        (-2.5, -2_500_000_000_000_000_000),
        (1e15, 1_000_000_000_000_000_000_000_000_000_000_000),
        (
            999_999_999_999_999.9,
            999_999_999_999_999_900_000_000_000_000_000,
        ),
        (1e-18, 1),
        (5e-19, 0),
        (1.5e-18, 2),
        (-2.5e-18, -2),
        (2.500_000_000_000_1e-18, 3),
        (5e-324, 0),
        (-0.0, 0),
    ] {
        assert_eq!(units_of(score), Some(units), "{score}");
    }
    assert_eq!(units_of(-1.1e15), None);
    assert_eq!(units_of(f64::INFINITY), None);
}

#[test]
fn heap_size_grows_with_what_is_held() {
    let mut feedback = Feedback::default();
    let mut last = 0;
    for key in ["a", "b", "c"] {
        for label in ["x", "y"] {
            let label = label.repeat(1000);
            let text = format!(r#"{{"{key}": {{"values": {{"{label}": 1}}}}}}"#);
            feedback.add_summaries(&text).unwrap();
            assert!(feedback.heap_size() >= last + 1000);
            last = feedback.heap_size();
        }
    }
    let copied = Feedback::from_bytes(&feedback.to_bytes()).unwrap();
    assert_eq!(copied.heap_size(), feedback.heap_size());
}

#[test]
fn damaged_bytes_are_refused() {
    let bytes = of_scores(&[1.0, -2.0]).to_bytes();
    for end in 0..bytes.len() {
        assert!(Feedback::from_bytes(&bytes[..end]).is_err());
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(Feedback::from_bytes(&longer).is_err());
    let mut newer = bytes;
    newer[0] = 2;
    assert!(matches!(
        Feedback::from_bytes(&newer),
        Err(FeedbackError::Version { found: 2 })
    ));
    // A claim of 2⁶⁴ keys, of a longer number than needed, of a key of 2⁶⁴ bytes.
    let many = [1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1];
    assert!(Feedback::from_bytes(&many).is_err());
    assert!(Feedback::from_bytes(&[1, 128, 0]).is_err());
    assert!(Feedback::from_bytes(&[&[1], &many[..]].concat()).is_err());
}

/// Decimal expansion to 60 digits, read by the standard library.
fn reference(scores: &[f64], is_sample: bool) -> (f64, f64) {
    let units: Vec<BigInt> = scores
        .iter()
        .map(|s| units_of(*s).unwrap().into())
        .collect();
    let n = BigInt::from(units.len());
    let divisor = &n - i32::from(is_sample);
    let scale = BigInt::from(10).pow(60);
    let sum: BigInt = units.iter().sum();
    let scatter: BigInt = units.iter().map(|u| (u * &n - &sum).pow(2)).sum();
    let avg = format!("{}e-78", sum * &scale / &n);
    // Σ(n·x − Σx)² = n² · Σ(x − mean)²
    let stdev = (scatter * &scale * &scale / (&n * &n * divisor)).sqrt();
    (
        avg.parse().unwrap(),
        format!("{stdev}e-78").parse().unwrap(),
    )
}

fn any_score() -> impl Strategy<Value = f64> {
    prop_oneof![
        Just(0.0),
        Just(1.0),
        (-5..=5_i32).prop_map(f64::from),
        -1.0..1.0_f64,
        -1e15..1e15_f64,
        any::<i32>().prop_map(|v| f64::from(v) / 1000.0),
        -1e-12..1e-12_f64,
    ]
}

/// One summary or record as JSON, the former marked by its first byte.
fn any_input() -> impl Strategy<Value = String> {
    let key = prop_oneof!["[ab]", "[a-c]{0,3}"];
    let label = prop_oneof![Just("null".to_owned()), "\"[xy]\""];
    let record = (
        key.clone(),
        proptest::option::of(any_score()),
        label,
        any::<bool>(),
    )
        .prop_map(|(key, score, label, error)| {
            let score = score.map_or("null".to_owned(), |s| format!("{s:?}"));
            format!(r#" {{"key":"{key}","score":{score},"value":{label},"error":{error}}}"#)
        });
    let summary = (key, 0..4_u8, any_score(), 0.0..10.0_f64, 0..8_u8, 0..3_u8).prop_map(
        |(key, n, avg, stdev, shape, labels)| {
            let optional = [
                format!(r#","stdev":{stdev}"#),
                format!(r#","min":{},"max":{}"#, avg - stdev, avg + stdev),
                r#","contains_thread_feedback":true"#.to_owned(),
            ];
            let given = optional.into_iter().enumerate();
            let given = given.filter(|(bit, _)| shape >> bit & 1 == 1);
            let more: String = given.map(|(_, text)| text).collect();
            format!(r#"{{"{key}":{{"n":{n},"avg":{avg:?},"values":{{"x":{labels}}}{more}}}}}"#)
        },
    );
    prop_oneof![4 => record, 4 => summary, 1 => Just("{unreadable".to_owned())]
}

fn add(feedback: &mut Feedback, input: &str) {
    if input.starts_with(' ') {
        feedback
            .add_record(&Record::from_json(input).unwrap())
            .unwrap();
    } else {
        feedback.add_summaries_or_count(input).unwrap();
    }
}

fn of_inputs<'a>(inputs: impl IntoIterator<Item = &'a String>) -> Feedback {
    let mut feedback = Feedback::default();
    inputs
        .into_iter()
        .for_each(|input| add(&mut feedback, input));
    feedback
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn mean_and_deviation_are_correctly_rounded(scores in prop::collection::vec(any_score(), 2..40)) {
        let stats = only(&of_scores(&scores));
        let (avg, stdev) = reference(&scores, false);
        prop_assert_eq!(stats.avg, Some(avg));
        prop_assert_eq!(stats.stdev, Some(stdev));
        prop_assert_eq!(stats.stdev_sample, Some(reference(&scores, true).1));
        prop_assert_eq!(stats.n, scores.len() as u64);
    }

    #[test]
    fn extremes_are_the_scores_themselves(scores in prop::collection::vec(-1e9..1e9_f64, 1..20)) {
        let stats = only(&of_scores(&scores));
        prop_assert_eq!(stats.min, scores.iter().copied().reduce(f64::min));
        prop_assert_eq!(stats.max, scores.iter().copied().reduce(f64::max));
    }

    #[test]
    fn the_median_is_the_sorted_middle(mut scores in prop::collection::vec(-1_000_000_i32..1_000_000, 1..30)) {
        let stats = only(&of_scores(&scores.iter().map(|s| f64::from(*s) / 1e6).collect::<Vec<_>>()));
        scores.sort_unstable();
        let twice = scores[(scores.len() - 1) / 2] + scores[scores.len() / 2];
        prop_assert_eq!(stats.median, Some(f64::from(twice) / 2e6));
    }

    #[test]
    fn any_order_and_any_split_give_the_same_bytes(
        (inputs, shuffled) in prop::collection::vec(any_input(), 0..30)
            .prop_flat_map(|inputs| (Just(inputs.clone()), Just(inputs).prop_shuffle())),
        parts in prop::collection::vec(0..4_usize, 30),
    ) {
        let whole = of_inputs(&inputs);
        let bytes = whole.to_bytes();
        prop_assert_eq!(&of_inputs(&shuffled).to_bytes(), &bytes);

        let mut split = vec![Feedback::default(); 4];
        for (input, part) in shuffled.iter().zip(parts) {
            add(&mut split[part], input);
        }
        let [a, b, c, d] = split.as_slice() else { unreachable!() };
        let mut left = a.clone();
        for part in [b, c, d] {
            left.merge(part).unwrap();
        }
        prop_assert_eq!(&left.to_bytes(), &bytes);
        let mut right = d.clone();
        right.merge_bytes(&c.to_bytes()).unwrap();
        let mut inner = Feedback::default();
        inner.merge_bytes(&b.to_bytes()).unwrap();
        inner.merge(a).unwrap();
        inner.merge(&Feedback::default()).unwrap();
        right.merge(&inner).unwrap();
        prop_assert_eq!(&right, &whole);
        prop_assert_eq!(&right.to_bytes(), &bytes);
        prop_assert_eq!(right.stats(), whole.stats());
    }

    #[test]
    fn all_so_many_times_is_all_added_so_often(
        before in prop::collection::vec(any_input(), 0..4),
        inputs in prop::collection::vec(any_input(), 0..9),
        n in prop_oneof![0..5_u64, 200..300_u64],
    ) {
        let added = of_inputs(&inputs);
        let [mut at_once, mut one_by_one] = [(); 2].map(|()| of_inputs(&before));
        at_once.merge_times(&added, n).unwrap();
        for _ in 0..n {
            one_by_one.merge(&added).unwrap();
        }
        prop_assert_eq!(&at_once, &one_by_one);
        prop_assert_eq!(at_once.to_bytes(), one_by_one.to_bytes());
        prop_assert_eq!(at_once.stats(), one_by_one.stats());
    }

    #[test]
    fn stored_bytes_come_back(inputs in prop::collection::vec(any_input(), 0..20)) {
        let feedback = of_inputs(&inputs);
        let back = Feedback::from_bytes(&feedback.to_bytes()).unwrap();
        prop_assert_eq!(&back, &feedback);
        prop_assert_eq!(back.to_bytes(), feedback.to_bytes());
    }

    #[test]
    fn mutated_bytes_never_panic_and_what_reads_writes_the_same(
        inputs in prop::collection::vec(any_input(), 1..6),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = of_inputs(&inputs).to_bytes();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(mut feedback) = Feedback::from_bytes(&bytes) {
            prop_assert_eq!(&feedback.to_bytes(), &bytes);
            let _ = feedback.stats();
            let _ = feedback.merge(&feedback.clone());
        }
    }

    #[test]
    fn random_bytes_and_texts_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), text in "\\PC*") {
        let _ = Feedback::from_bytes(&bytes);
        let _ = Feedback::from_bytes(&[&[FORMAT_VERSION, 1, 1, b'k'], bytes.as_slice()].concat());
        let _ = Feedback::default().add_summaries(&text);
        let _ = Record::from_json(&text);
    }

    #[test]
    fn signed_numbers_come_back(number: i128) {
        prop_assert_eq!(unzigzag(zigzag(number)), number);
        prop_assert_eq!(zigzag(number) > 1, number.unsigned_abs() > 1 || number == 1);
    }
}
