//! Statistics of groups as tables, Markdown, JSON and CSV: made up by hand, ordinary and hostile.

use std::collections::BTreeMap;

use chrono::Weekday;
use chrono_tz::Tz;
use proptest::prelude::*;
use runtally::output::{self, Format, Groups, Style};
use runtally::request::{Amount, Count, Quantity, Rate, Statistic};
use runtally::{
    Attainment, Breakdown, Bucket, Cost, CostFormat, Every, Figure, Group, Label, Measure,
    Nanoseconds, Population, RunFacet, Sort, Thousandths, Timestamp,
};
use serde_json::{Map, Value, json};
use unicode_width::UnicodeWidthStr;

use crate::tables::{HOSTILE, feedback};

const DAY_US: i64 = 86_400_000_000;

/// Midnight of 2026-10-01, UTC.
const FIRST_US: i64 = 1_790_812_800_000_000;

/// What was asked, and made-up answers to it.
#[derive(Clone, Debug)]
struct Answer {
    breakdown: Breakdown,
    n_shown: usize,
    groups: Vec<Group>,
    total: Group,
    shows_total: bool,
}

impl Answer {
    /// All traces together.
    fn new(measures: &str, n_traces: u64) -> Self {
        let mut measures = match measures {
            "" => Measure::overview(),
            "all" => Measure::all(),
            names => names.split(',').map(measure).collect(),
        };
        let n_shown = measures.len();
        let runs = Measure::Count(Count::Runs);
        if !measures.contains(&runs) {
            measures.push(runs);
        }
        let breakdown = Breakdown {
            runs: Population::Traces,
            by: Vec::new(),
            every: None,
            measures,
            sort: Sort::by_runs(),
            limit: None,
        };
        let total = group(&breakdown, Vec::new(), n_traces);
        Self {
            breakdown,
            n_shown,
            groups: Vec::new(),
            total,
            shows_total: true,
        }
    }

    /// Split by keys, with the labels and the number of traces of each group.
    fn by(mut self, keys: &[&str], groups: &[(&[Label], u64)]) -> Self {
        self.breakdown.by = keys.iter().map(|key| key.parse().unwrap()).collect();
        let groups = groups.iter();
        let groups = groups.map(|(labels, n)| group(&self.breakdown, labels.to_vec(), *n));
        self.groups = groups.collect();
        self
    }

    /// Split by time as well, into so many spans.
    fn every(mut self, length: &str, n_spans: i64) -> Self {
        let every = Every::parse(length, Tz::UTC, Weekday::Mon).unwrap();
        self.breakdown.every = Some(every);
        let measures = &self.breakdown.measures;
        for (place, group) in (0..).zip(self.groups.iter_mut().chain([&mut self.total])) {
            let mut at = FIRST_US;
            for nth in 0..n_spans {
                let (start, end) = every.bucket(at).unwrap();
                let n = u64::try_from((nth * 7 + place * 3) % 11).unwrap() * 31;
                group.series.push(Bucket {
                    start: Timestamp(start),
                    end: Timestamp(end),
                    figures: figures(measures, n),
                });
                at = end;
            }
        }
        self
    }

    fn write(&self, format: Format, style: &Style) -> (String, Vec<String>) {
        let groups = Groups {
            breakdown: &self.breakdown,
            n_shown: self.n_shown,
            groups: &self.groups,
            total: &self.total,
            shows_total: self.shows_total,
        };
        let mut bytes = Vec::new();
        let left_out = output::write_stats(&mut bytes, &groups, format, style).unwrap();
        (String::from_utf8(bytes).unwrap(), left_out)
    }

    /// A table within a width, and what was left out of it.
    fn seen(&self, width: usize) -> String {
        let (text, left_out) = self.write(Format::Table, &within(width));
        format!("{text}(left out: {left_out:?})")
    }

    fn text(&self, format: Format) -> String {
        self.write(format, &Style::default()).0
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.text(Format::Json)).unwrap()
    }
}

fn within(width: usize) -> Style {
    Style {
        width: Some(width),
        ..Style::default()
    }
}

fn measure(name: &str) -> Measure {
    match name.parse() {
        Ok(measure) => measure,
        Err(_) => Measure::Objective(name.parse().unwrap()),
    }
}

fn value(text: &str) -> Label {
    Label::Value(text.to_owned())
}

fn group(breakdown: &Breakdown, labels: Vec<Label>, n: u64) -> Group {
    Group {
        labels,
        figures: figures(&breakdown.measures, n),
        series: Vec::new(),
    }
}

fn figures(measures: &[Measure], n: u64) -> Vec<Figure> {
    measures.iter().map(|measure| figure(measure, n)).collect()
}

/// A figure of so many traces; of none, as of a span of time without any.
fn figure(measure: &Measure, n: u64) -> Figure {
    let many = i128::from(n);
    let is_empty = n == 0;
    match measure {
        Measure::Count(Count::Errors) => Figure::Count(n / 37),
        Measure::Count(_) => Figure::Count(n),
        Measure::Sum(Amount::TotalCost | Amount::PromptCost) if is_empty => Figure::Unknown,
        Measure::Sum(amount) => match amount {
            Amount::TotalCost
            | Amount::PromptCost
            | Amount::CompletionCost
            | Amount::CachedCost
            | Amount::ReasoningCost => cost(many * 83_600_712_340),
            _ => Figure::Whole(many * 19_637),
        },
        _ if is_empty => Figure::Unknown,
        Measure::Rate(Rate::Error) => Figure::Share(ratio(n % 29, 100)),
        Measure::Rate(_) | Measure::Share(_) | Measure::Under(..) => {
            Figure::Share(ratio(n % 97, 101))
        }
        Measure::Of(quantity, statistic) => distributed(*quantity, *statistic, n),
        Measure::RunAt(..) => Figure::Run("53f9de9e-2d5e-4870-a446-90241da57a6a".to_owned()),
        Measure::PerRun(Amount::TotalCost) => cost(83_600_712_340),
        Measure::PerRun(_) => Figure::Thousandths(Thousandths(19_637_250)),
        Measure::Distinct(_) => Figure::Distinct {
            n: n / 3,
            is_exact: n < 1_000,
        },
        Measure::FirstStart => Figure::Time(Timestamp(FIRST_US + 123_456)),
        Measure::LastStart => Figure::Time(Timestamp(FIRST_US + 30 * DAY_US)),
        Measure::FeedbackCount(_) => Figure::Count(n / 5),
        Measure::FeedbackMean(_) => Figure::Number(0.821_434_5),
        Measure::FeedbackStats => Figure::Feedback(feedback(HOSTILE)),
        Measure::RunFacets => Figure::Facets(vec![RunFacet {
            key: "name".to_owned(),
            value: HOSTILE.to_owned(),
            query: "eq(name, \"x\")".to_owned(),
            n,
        }]),
        Measure::Objective(_) => Figure::Attainment(Box::new(Attainment {
            target: 0.99,
            good: n - n / 50,
            total: n,
            attained: Some(ratio(n - n / 50, n)),
            budget_left: Some(1.0 - ratio(n / 50, n) / 0.01),
            worst: Some(Timestamp(FIRST_US + DAY_US)),
        })),
    }
}

fn distributed(quantity: Quantity, statistic: Statistic, n: u64) -> Figure {
    let size = match statistic {
        Statistic::Quantile(quantile) => u128::from(quantile.millionths()) / 1_000,
        Statistic::Min => 1,
        _ => 600,
    };
    let size = size * u128::from(n % 7 + 1);
    match quantity {
        Quantity::TotalCost => cost(i128::try_from(size).unwrap() * 31_234_567),
        Quantity::TokensPerSecond => Figure::Number(41.25),
        _ if quantity.is_duration() => Figure::Seconds(Nanoseconds(size * 4_400_123)),
        _ => Figure::Thousandths(Thousandths(i128::try_from(size).unwrap() * 4_500)),
    }
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn ratio(part: u64, of: u64) -> f64 {
    part as f64 / of as f64
}

fn cost(pico: i128) -> Figure {
    Figure::Cost(Cost {
        pico,
        format: CostFormat::default(),
    })
}

/// Models, harmless and hostile.
fn models(measures: &str) -> Answer {
    Answer::new(measures, 1_363_027).by(
        &["model"],
        &[
            (&[value("顧客対応アシスタント・本番環境")], 1_204_331),
            (&[value("gpt-4o-mini")], 148_210),
            (
                &[value("ft:gpt-4o-2024-08-06:acme:checkout-assistant:9fXk21")],
                9_412,
            ),
            (&[value(HOSTILE)], 998),
            (&[value("(none)")], 64),
            (&[Label::None], 12),
            (&[Label::Other], 40_312),
        ],
    )
}

const ISSUE: &str = "traces,error_rate,p95,under:15s,cost";

#[test]
fn groups_in_a_table() {
    for width in [40, 80, 120] {
        insta::assert_snapshot!(format!("groups_{width}"), models("").seen(width));
    }
    insta::assert_snapshot!("groups_chosen_80", models(ISSUE).seen(80));
    let wide = "traces,traces_share,errors,cost,cost_share,first_token_p50,first_token_p99.9,\
                latency<15s:99%,users,feedback:correctness,feedback_avg:correctness,feedback";
    insta::assert_snapshot!("groups_wide_80", models(wide).seen(80));
    insta::assert_snapshot!("groups_wide_200", models(wide).seen(200));
}

#[test]
fn several_keys_in_a_table() {
    let answer = Answer::new("", 3_000).by(
        &["root.metadata.team", "model", "status"],
        &[
            (
                &[value("search"), value("gpt-4o-mini"), value("success")],
                1_200,
            ),
            (&[value("search"), Label::None, value("error")], 900),
            (
                &[
                    value("platform-engineering-and-infrastructure"),
                    value("ft:gpt-4o-2024-08-06:acme:checkout-assistant:9fXk21"),
                    value(""),
                ],
                700,
            ),
            (&[Label::Other, Label::Other, Label::Other], 200),
        ],
    );
    for width in [40, 80, 120] {
        insta::assert_snapshot!(format!("keys_{width}"), answer.seen(width));
    }
}

fn teams(n_spans: i64) -> Answer {
    let teams = Answer::new(ISSUE, 1_363).by(
        &["metadata.team"],
        &[
            (&[value("search")], 1_204),
            (&[value("checkout")], 148),
            (&[Label::None], 11),
        ],
    );
    teams.every("month", n_spans)
}

#[test]
fn series_in_a_table() {
    for width in [40, 80, 120] {
        insta::assert_snapshot!(
            format!("series_{width}"),
            Answer::new("", 4_321).every("week", 6).seen(width)
        );
        insta::assert_snapshot!(format!("teams_{width}"), teams(3).seen(width));
    }
    let many = models("").every("1d", 31);
    insta::assert_snapshot!("many_spans_80", many.seen(80));
    // Where there is no width nothing is left out.
    let (text, left_out) = many.write(Format::Table, &Style::default());
    assert_eq!(left_out, [""; 0]);
    assert_eq!(text.lines().count(), 3 + 8 * 32 + 2, "{text}");
    let hours = Answer::new("traces,latency<15s:99%", 99).every("6h", 3);
    insta::assert_snapshot!("hours_80", hours.seen(80));
}

#[test]
fn all_together_in_a_table() {
    let answer = Answer::new("", 4_321);
    insta::assert_snapshot!("together_80", answer.seen(80));
    insta::assert_snapshot!("together_40", answer.seen(40));
    insta::assert_snapshot!("together_all_80", Answer::new("all", 64).seen(80));
}

#[test]
fn groups_in_markdown() {
    insta::assert_snapshot!("groups_markdown", models("").text(Format::Markdown));
    insta::assert_snapshot!("teams_markdown", teams(3).text(Format::Markdown));
}

/// The shape of the API's answers; `(none)`, `(other)` and what only looks like them stay apart.
#[test]
fn json_is_of_the_apis_shape() {
    let all = Answer::new("traces,p99,cost,latency<15s:99%,users", 1_000).json();
    let names: Vec<&String> = all.as_object().unwrap().keys().collect();
    let expected = [
        "run_count",
        "latency_p99",
        "total_cost",
        "distinct_users",
        "distinct_users_is_approximate",
        "slo",
    ];
    assert_eq!(names, expected);
    let objective = json!([{
        "objective": "latency<15s:99%",
        "target": 0.99,
        "good": 980,
        "total": 1_000,
        "attained": 0.98,
        "budget_left": 1.0 - 0.02 / 0.01,
        "worst": "2026-10-02T00:00:00Z",
    }]);
    assert_eq!(all["slo"], objective);

    let by_model = models("traces").json();
    let names: Vec<&str> = by_model
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(names[3..], [HOSTILE, "\"(none)\"", "(none)", "(other)"]);
    assert_eq!(by_model["(none)"], json!({ "run_count": 12 }));

    let nested = Answer::new("traces", 30).by(
        &["model", "status"],
        &[
            (&[value("b"), value("error")], 14),
            (&[value("a"), Label::None], 10),
            (&[value("b"), value("success")], 4),
            (&[Label::Other, Label::Other], 2),
        ],
    );
    let text = "{\"b\":{\"error\":{\"run_count\":14},\"success\":{\"run_count\":4}},\
        \"a\":{\"(none)\":{\"run_count\":10}},\"(other)\":{\"(other)\":{\"run_count\":2}}}";
    assert_eq!(nested.json().to_string(), text);

    let series = Answer::new("traces,p50", 99).every("month", 2).json();
    let expected = json!([
        {"start": "2026-10-01T00:00:00Z", "end": "2026-11-01T00:00:00Z", "run_count": 0, "latency_p50": null},
        {"start": "2026-11-01T00:00:00Z", "end": "2026-12-01T00:00:00Z", "run_count": 217, "latency_p50": 2.200_061_5},
    ]);
    assert_eq!(series, expected);
    assert_eq!(teams(2).json()["search"].as_array().unwrap().len(), 2);
}

#[test]
fn json_lines_have_a_line_a_group_or_span() {
    let text = "{\"model\":\"(none)\",\"run_count\":64}\n\
        {\"model\":null,\"run_count\":12}\n\
        {\"group\":\"other\",\"model\":null,\"run_count\":40312}\n";
    assert!(models("traces").text(Format::Jsonl).ends_with(text));
    let all = Answer::new("traces", 7).text(Format::Jsonl);
    assert_eq!(all, "{\"run_count\":7}\n");
    let lines = teams(2).text(Format::Jsonl);
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3 * 2);
    assert_eq!(lines[1]["metadata.team"], "search");
    assert_eq!(lines[1]["start"], "2026-11-01T00:00:00Z");
}

#[test]
fn sheets_of_groups() {
    let measures = "traces,error_rate,p99,tokens,tokens_p50,cost,users,last_start,\
                    latency<15s:99%,feedback";
    let groups = [
        (&[value(HOSTILE)] as &[Label], 998),
        (&[value("(none)")], 64),
        (&[Label::None], 12),
        (&[Label::Other], 40_312),
    ];
    let answer = Answer::new(measures, 41_386).by(&["metadata.model"], &groups);
    insta::assert_snapshot!("groups_csv", answer.text(Format::Csv));
    let mut teams = teams(2);
    insta::assert_snapshot!("teams_csv", teams.text(Format::Csv));
    teams.shows_total = false;
    let n_lines = |answer: &Answer| answer.text(Format::Csv).lines().count();
    assert_eq!(n_lines(&teams), 1 + 3 * 2);
    // Without keys the total is all that there is.
    let mut all = Answer::new("", 7);
    all.shows_total = false;
    assert_eq!(n_lines(&all), 2);
    assert_eq!(n_lines(&all.every("1d", 5)), 6);
}

/// Colours are around texts and change none of them; what stands out says so in its text as well.
#[test]
fn colours_of_groups() {
    let answer = models("traces,error_rate,latency<15s:99%");
    let color = Style {
        color: true,
        ..within(80)
    };
    let (plain, _) = answer.write(Format::Table, &within(80));
    let (painted, _) = answer.write(Format::Table, &color);
    assert!(painted.contains("\u{1b}[31m-99.7 %"), "{painted}");
    let codes = ["0", "1", "2", "31", "33"];
    let unpainted = codes.iter().fold(painted, |text, code| {
        text.replace(&format!("\u{1b}[{code}m"), "")
    });
    assert_eq!(unpainted, plain);
}

#[test]
fn nothing_is_said_to_be_nothing() {
    assert_eq!(Answer::new("", 0).seen(80), "no traces\n(left out: [])");
    let mut none = Answer::new("", 0).by(&["model"], &[]);
    none.breakdown.runs = Population::Type("llm".to_owned());
    assert_eq!(none.text(Format::Table), "no runs\n");
    assert_eq!(none.text(Format::Json), "{}\n");
    assert_eq!(none.text(Format::Jsonl), "");
    assert_eq!(
        none.text(Format::Csv).lines().count(),
        2,
        "header and total"
    );
}

fn any_label() -> impl Strategy<Value = Label> {
    prop_oneof![
        1 => Just(Label::None),
        1 => Just(Label::Other),
        4 => any::<String>().prop_map(Label::Value),
        2 => "[a-z:-]{0,60}".prop_map(Label::Value),
        1 => "\"{0,2}\\((none|other|total)\\)\"{0,2}".prop_map(Label::Value),
        2 => "[a👩❤🇩🇪\u{200d}\u{fe0f}\u{301}\u{1b}\u{202e}\n لا日]{1,60}".prop_map(Label::Value),
    ]
}

/// Any answer: some measures, up to three keys, perhaps a series; every group once.
fn any_answer() -> impl Strategy<Value = Answer> {
    let all = [
        Measure::all(),
        [
            "p99.9",
            "under:15s",
            "cost_share",
            "latency<1s:95%",
            "feedback:k",
        ]
        .map(measure)
        .to_vec(),
    ]
    .concat();
    let measures = proptest::sample::subsequence(all, 1..12);
    let keys = proptest::sample::subsequence(vec!["model", "metadata.=1+1", "root.tag"], 0..=3);
    let groups = proptest::collection::vec(
        (
            proptest::collection::vec(any_label(), 3),
            0u64..1_000_000_000,
        ),
        0..6,
    );
    let spans = proptest::option::of((
        proptest::sample::select(vec!["1h", "1d", "week", "month"]),
        1i64..20,
    ));
    (measures, keys, groups, spans, any::<u32>(), any::<bool>()).prop_map(
        |(measures, keys, mut groups, spans, n, shows_total)| {
            let names: Vec<String> = measures.iter().map(ToString::to_string).collect();
            for (labels, _) in &mut groups {
                labels.truncate(keys.len());
            }
            groups.sort();
            groups.dedup_by(|one, other| one.0 == other.0);
            let groups: Vec<(&[Label], u64)> = groups
                .iter()
                .map(|(labels, n)| (labels.as_slice(), *n))
                .collect();
            let mut answer = Answer::new(&names.join(","), u64::from(n));
            if !keys.is_empty() {
                answer = answer.by(&keys, &groups);
            }
            if let Some((length, n_spans)) = spans {
                answer = answer.every(length, n_spans);
            }
            answer.shows_total = shows_total;
            answer
        },
    )
}

/// Every figure of a record as the library's own plain data says it.
fn said(answer: &Answer, figures: &[Figure]) -> Map<String, Value> {
    let mut map = Map::new();
    for (measure, figure) in answer.breakdown.measures[..answer.n_shown]
        .iter()
        .zip(figures)
    {
        if !matches!(measure, Measure::Objective(_)) {
            map.insert(measure.to_string(), serde_json::to_value(figure).unwrap());
        }
    }
    map
}

/// A record without what stands beside the figures.
fn bare(record: &Value) -> Map<String, Value> {
    let mut map = record.as_object().unwrap().clone();
    let is_beside = |key: &String| {
        [
            "group",
            "start",
            "end",
            "slo",
            "model",
            "metadata.=1+1",
            "root.tag",
        ]
        .contains(&key.as_str())
            || key.ends_with("_is_approximate")
    };
    map.retain(|key, _| !is_beside(key));
    map
}

/// What the rows of a group are of.
fn rows<'a>(answer: &'a Answer, group: &'a Group) -> Vec<&'a [Figure]> {
    match answer.breakdown.every {
        None => vec![&group.figures],
        Some(_) => group
            .series
            .iter()
            .map(|span| span.figures.as_slice())
            .collect(),
    }
}

proptest! {
    #![proptest_config(crate::support::quick(200))]

    #[test]
    fn no_line_of_groups_is_wider_than_the_terminal(answer in any_answer(), width in 24usize..200) {
        let text = answer.write(Format::Table, &within(width)).0;
        for line in text.lines() {
            prop_assert!(line.width() <= width, "{width}: {} {line:?}", line.width());
            prop_assert!(!line.chars().any(char::is_control), "{line:?}");
        }
    }

    #[test]
    fn no_label_breaks_a_markdown_table(answer in any_answer()) {
        let text = answer.text(Format::Markdown);
        let n_cells = |line: &str| line.replace("\\\\", "").replace("\\|", "").matches('|').count();
        let n_expected = n_cells(text.lines().next().unwrap());
        for row in text.lines().filter(|line| line.starts_with('|')) {
            prop_assert_eq!(n_cells(row), n_expected, "{}", row);
        }
    }

    /// What machines read back is what was computed: no digit and no group is lost.
    #[test]
    fn machine_formats_never_round(answer in any_answer()) {
        let groups: Vec<&Group> = if answer.breakdown.by.is_empty() {
            vec![&answer.total]
        } else {
            answer.groups.iter().collect()
        };
        let expected: Vec<_> = groups.iter().flat_map(|group| rows(&answer, group)).collect();

        let lines = answer.text(Format::Jsonl);
        let lines: Vec<Value> =
            lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        prop_assert_eq!(lines.len(), expected.len());
        for (line, figures) in lines.iter().zip(&expected) {
            prop_assert_eq!(bare(line), said(&answer, figures));
        }

        let mut n_records = 0;
        count_records(&answer.json(), answer.breakdown.by.len(), &mut |value| {
            n_records += value.as_array().map_or(1, Vec::len);
        });
        prop_assert_eq!(n_records, expected.len());

        let csv = answer.text(Format::Csv);
        let mut reader = csv::Reader::from_reader(csv.as_bytes());
        let read: Vec<BTreeMap<String, String>> =
            reader.deserialize().collect::<Result<_, _>>().unwrap();
        for (row, figures) in read.iter().zip(&expected) {
            for (name, value) in said(&answer, figures) {
                let cell = &row[&name];
                let said = match &value {
                    Value::Null => String::new(),
                    Value::String(text) => text.clone(),
                    value => value.to_string(),
                };
                let is_same = *cell == said || cell.parse::<f64>().ok() == value.as_f64();
                prop_assert!(is_same, "{}: {} {}", name, cell, said);
            }
        }
    }
}

/// Walks down to what stands for a group.
fn count_records(value: &Value, depth: usize, record: &mut impl FnMut(&Value)) {
    match depth {
        0 => record(value),
        _ => (value.as_object().unwrap().values())
            .for_each(|value| count_records(value, depth - 1, record)),
    }
}
