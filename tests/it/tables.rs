use std::collections::BTreeMap;

use chrono::{Days, NaiveDate};
use chrono_tz::Tz;
use proptest::prelude::*;
use runtally::output::{self, Format, Lines, Style};
use runtally::{
    Cost, CostFormat, Distribution, FeedbackStats, Nanoseconds, Overview, RunFacet, Timestamp,
    TracerSession,
};
use unicode_width::UnicodeWidthStr;
use uuid::Uuid;

/// A name that tries a terminal, a spreadsheet and Markdown at once.
pub(crate) const HOSTILE: &str =
    "=HYPERLINK(\"http://x.y\")\u{1b}[2J\u{202e}|`*[a](b)<img>\n@octocat";

/// One project's figures, of which documents and lines of a table are made.
#[derive(Clone, Debug)]
struct Figures {
    name: String,
    n_traces: u64,
    n_errors: Option<u64>,
    p50_ms: Option<u128>,
    tokens: Option<i128>,
    pico: Option<i128>,
    days: Vec<u64>,
}

impl Figures {
    fn new(name: &str, n_traces: u64, n_errors: u64, p50_ms: u128) -> Self {
        Self {
            name: name.to_owned(),
            n_traces,
            n_errors: Some(n_errors),
            p50_ms: Some(p50_ms),
            tokens: Some(i128::from(n_traces) * 19_637),
            pico: Some(i128::from(n_traces) * 83_600_712_340),
            days: (0..14).map(|day| n_traces * (day % 7 + 1) / 64).collect(),
        }
    }

    /// Nothing is known but that there are traces.
    fn unknown(name: &str, n_traces: u64) -> Self {
        Self {
            n_errors: None,
            p50_ms: None,
            tokens: None,
            pico: None,
            days: vec![n_traces],
            ..Self::new(name, n_traces, 0, 0)
        }
    }

    fn distribution(&self, parts: u128) -> Distribution {
        let percentile = |factor| {
            self.p50_ms
                .map(|ms| Nanoseconds(ms * 1_000_000 / parts * factor))
        };
        Distribution {
            n: self.n_traces,
            p50: percentile(1),
            p95: percentile(4),
            p99: percentile(9),
        }
    }

    fn cost(&self, parts: i128) -> Option<Cost> {
        self.pico.map(|pico| Cost {
            pico: pico / parts,
            format: CostFormat::default(),
        })
    }

    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    fn error_rate(&self) -> Option<f64> {
        let n_errors = self.n_errors.filter(|_| self.n_traces > 0)?;
        Some(n_errors as f64 / self.n_traces as f64)
    }

    fn overview(&self, id: Option<Uuid>) -> Overview {
        let first = NaiveDate::from_ymd_opt(2026, 11, 1).unwrap();
        let days = self.days.iter().zip(0..);
        Overview {
            id,
            name: self.name.clone(),
            n_traces: self.n_traces,
            n_errors: self.n_errors,
            error_rate: self.error_rate(),
            latency: self.distribution(1),
            first_token: self.distribution(3),
            tokens: self.tokens,
            cost: self.cost(1),
            days: days.map(|(n, day)| (first + Days::new(day), *n)).collect(),
            ..Overview::default()
        }
    }

    fn document(&self, id: Uuid) -> TracerSession {
        let (latency, first_token) = (self.distribution(1), self.distribution(3));
        TracerSession {
            id,
            tenant_id: Uuid::from_u128(0xfc1c_89d9),
            start_time: Timestamp(1_793_404_800_000_000),
            end_time: None,
            extra: None,
            name: self.name.clone(),
            description: Some(format!("What {} does, in a sentence or two", self.name)),
            default_dataset_id: None,
            reference_dataset_id: Some(Uuid::from_u128(7)),
            trace_tier: Some("longlived"),
            run_count: Some(self.n_traces),
            latency_p50: latency.p50,
            latency_p99: latency.p99,
            first_token_p50: first_token.p50,
            first_token_p99: first_token.p99,
            total_tokens: self.tokens,
            prompt_tokens: self.tokens.map(|n| n - n / 7),
            completion_tokens: self.tokens.map(|n| n / 7),
            total_cost: self.cost(1),
            prompt_cost: self.cost(2),
            completion_cost: self.cost(2),
            last_run_start_time: Some(Timestamp(1_793_999_999_123_456)),
            last_run_start_time_live: None,
            feedback_stats: Some(feedback(&self.name)),
            session_feedback_stats: Some(BTreeMap::new()),
            run_facets: Some(vec![RunFacet {
                key: "name".to_owned(),
                value: self.name.clone(),
                query: String::new(),
                n: 12_345,
            }]),
            error_rate: self.error_rate(),
            streaming_rate: None,
            test_run_number: Some(3),
        }
    }
}

pub(crate) fn feedback(name: &str) -> BTreeMap<String, FeedbackStats> {
    let scores = FeedbackStats {
        n: 1_204,
        avg: Some(0.8214),
        stdev: Some(0.31),
        errors: 2,
        show_feedback_arrow: false,
        comments: Vec::new(),
        sources: Vec::new(),
        session_min_score: Some(0.0),
        session_max_score: Some(1.0),
        values: BTreeMap::new(),
        contains_thread_feedback: false,
    };
    let labels = FeedbackStats {
        avg: None,
        values: (0..20).map(|n| (format!("{name} {n}"), 40 - n)).collect(),
        ..scores.clone()
    };
    BTreeMap::from([
        ("correctness".to_owned(), scores),
        (name.to_owned(), labels),
    ])
}

/// A team's projects, harmless and hostile.
fn projects() -> Vec<Figures> {
    vec![
        Figures::new("support-bot", 148_210, 3_705, 2_130),
        Figures::new(
            "checkout-assistant-experiment-2026-11-14-3f8a91c2",
            9_412,
            2_353,
            63_400,
        ),
        Figures::new("顧客対応アシスタント・本番環境", 1_204_331, 0, 640),
        Figures::new(
            "family 👩\u{200d}👩\u{200d}👧 planner ❤\u{fe0f}",
            64,
            4,
            7_500_000,
        ),
        Figures::new(HOSTILE, 998, 12, 980),
        Figures::unknown("3c90c3cc-0d44-4b50-8888-8dd25736052a", 12),
    ]
}

fn total() -> Figures {
    Figures::new("total", 1_363_027, 6_074, 702)
}

struct Answer {
    documents: Vec<TracerSession>,
    overviews: Vec<Overview>,
    total: Overview,
}

impl Answer {
    fn new(projects: &[Figures], total: &Figures) -> Self {
        let id = |at: usize| Uuid::from_u128(at as u128 + 1);
        let of = projects.iter().enumerate();
        Self {
            documents: of
                .clone()
                .map(|(at, project)| project.document(id(at)))
                .collect(),
            overviews: of
                .map(|(at, project)| project.overview(Some(id(at))))
                .collect(),
            total: total.overview(None),
        }
    }

    fn list(&self, format: Format, style: &Style) -> (String, Vec<String>) {
        let lines = Lines {
            documents: &self.documents,
            overviews: &self.overviews,
            total: Some(&self.total),
        };
        text(|out| output::write_list(out, &lines, format, style))
    }

    fn show(&self, at: usize, format: Format, style: &Style) -> (String, Vec<String>) {
        let (document, overview) = (&self.documents[at], self.overviews.get(at));
        text(|out| output::write_one(out, document, overview, format, style))
    }
}

fn text(
    write: impl FnOnce(&mut dyn std::io::Write) -> std::io::Result<Vec<String>>,
) -> (String, Vec<String>) {
    let mut bytes = Vec::new();
    let dropped = write(&mut bytes).unwrap();
    (String::from_utf8(bytes).unwrap(), dropped)
}

fn within(width: usize) -> Style {
    Style {
        width: Some(width),
        zone: Tz::Europe__Berlin,
        ..Style::default()
    }
}

/// A picture of what was written, and what was left out of it.
fn seen((text, dropped): (String, Vec<String>)) -> String {
    format!("{text}(left out: {dropped:?})")
}

#[test]
fn lists() {
    let answer = Answer::new(&projects(), &total());
    for width in [40, 60, 80, 120] {
        let list = answer.list(Format::Table, &within(width));
        insta::assert_snapshot!(format!("list_{width}"), seen(list));
    }
    let unlimited = answer.list(Format::Table, &Style::default());
    assert_eq!(unlimited.1, [""; 0]);
    insta::assert_snapshot!("list_unlimited", unlimited.0);
}

/// A narrow column is shown where a wider, more important one has no room.
#[test]
fn room_that_is_left_is_used() {
    let projects = [Figures::new("support-bot", 8_210, 95, 2_130)];
    let answer = Answer::new(&projects, &total());
    let (text, dropped) = answer.list(Format::Table, &within(78));
    assert_eq!(dropped, ["first token"], "{text}");
    assert!(text.contains("trend"), "{text}");
}

#[test]
fn lists_without_statistics() {
    let mut answer = Answer::new(&projects(), &total());
    answer.overviews.clear();
    insta::assert_snapshot!(
        "bare_list_80",
        seen(answer.list(Format::Table, &within(80)))
    );
}

#[test]
fn one_project() {
    let answer = Answer::new(&projects(), &total());
    for (name, at, width) in [
        ("show_80", 0, 80),
        ("show_hostile_80", 4, 80),
        ("show_hostile_40", 4, 40),
        ("show_few_60", 3, 60),
        ("show_unknown_60", 5, 60),
    ] {
        insta::assert_snapshot!(name, seen(answer.show(at, Format::Table, &within(width))));
    }
}

#[test]
fn markdown() {
    let answer = Answer::new(&projects(), &total());
    let style = Style::default();
    insta::assert_snapshot!("markdown_list", answer.list(Format::Markdown, &style).0);
    insta::assert_snapshot!("markdown_show", answer.show(4, Format::Markdown, &style).0);
}

/// No project, and one, of which a total would only say the same again.
#[test]
fn the_smallest_lists() {
    let none = Answer::new(&[], &total());
    assert_eq!(none.list(Format::Table, &within(80)).0, "no projects\n");
    let csv = none.list(Format::Csv, &within(80)).0;
    assert_eq!(csv.lines().count(), 1, "a header alone");
    let one = Answer::new(&projects()[..1], &total());
    assert!(!one.list(Format::Table, &within(80)).0.contains("total"));
}

/// Colours are around texts and change none of them; without leave there are none.
#[test]
fn colours_say_nothing_that_the_text_does_not() {
    let answer = Answer::new(&projects(), &total());
    let colored = Style {
        color: true,
        ..within(80)
    };
    let (plain, _) = answer.list(Format::Table, &within(80));
    let (painted, _) = answer.list(Format::Table, &colored);
    assert!(!plain.contains('\u{1b}') && painted.contains("\u{1b}[31m25.0 %"));
    let unpainted = ["0", "1", "2", "31", "33"]
        .iter()
        .fold(painted, |text, code| {
            text.replace(&format!("\u{1b}[{code}m"), "")
        });
    assert_eq!(unpainted, plain);
}

/// A machine reads back every digit; a spreadsheet sees no formula.
#[test]
fn csv_is_exact() {
    let answer = Answer::new(&projects(), &total());
    let (text, _) = answer.list(Format::Csv, &within(40));
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let rows: Vec<BTreeMap<String, String>> =
        reader.deserialize().collect::<Result<_, _>>().unwrap();
    assert_eq!(rows.len(), answer.documents.len());
    for (row, document) in rows.iter().zip(&answer.documents) {
        let json = serde_json::to_value(document).unwrap();
        for (field, value) in json.as_object().unwrap() {
            let Some(cell) = row.get(field) else { continue };
            let said = match value {
                serde_json::Value::Null => String::new(),
                serde_json::Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let said = said.strip_suffix(".0").unwrap_or(&said).to_owned();
            let marked = format!("'{said}");
            let is_formula = said.starts_with('=');
            assert_eq!(cell, if is_formula { &marked } else { &said }, "{field}");
        }
    }
    assert_eq!(rows[0]["latency_p95"], "8.52");
    assert_eq!(rows[0]["error_count"], "3705");
    assert_eq!(rows[5]["error_count"], "");
    let (one, _) = answer.show(0, Format::Csv, &within(40));
    assert_eq!(one.lines().nth(1), text.lines().nth(1));
}

fn any_project() -> impl Strategy<Value = Figures> {
    let name = prop_oneof![
        any::<String>(),
        "[a-z-]{1,60}",
        "[\u{4e00}-\u{4e40}]{1,40}",
        "[a👩❤🇩🇪\u{200d}\u{fe0f}\u{301}\u{1b}\u{202e}\n لا]{1,60}",
    ];
    let percentile = proptest::option::of(0u128..400_000_000_000);
    let amount = proptest::option::of(any::<i64>().prop_map(i128::from));
    let days = proptest::collection::vec(any::<u32>().prop_map(u64::from), 0..80);
    (name, any::<u32>(), percentile, amount.clone(), amount, days).prop_map(
        |(name, n_traces, p50_ms, tokens, pico, days)| Figures {
            n_errors: p50_ms.map(|_| u64::from(n_traces / 3)),
            p50_ms,
            tokens,
            pico,
            days,
            ..Figures::new(&name, u64::from(n_traces), 0, 0)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_line_is_wider_than_the_terminal(
        projects in proptest::collection::vec(any_project(), 1..5),
        width in 24usize..200,
        has_overviews in any::<bool>(),
    ) {
        let mut answer = Answer::new(&projects, &projects[0]);
        if !has_overviews {
            answer.overviews.clear();
        }
        let list = answer.list(Format::Table, &within(width)).0;
        let show = answer.show(0, Format::Table, &within(width)).0;
        for line in list.lines().chain(show.lines()) {
            prop_assert!(line.width() <= width, "{width}: {} {line:?}", line.width());
            prop_assert!(!line.chars().any(char::is_control), "{line:?}");
        }
    }

    #[test]
    fn no_name_breaks_a_markdown_table(projects in proptest::collection::vec(any_project(), 1..5)) {
        let answer = Answer::new(&projects, &projects[0]);
        let (text, _) = answer.list(Format::Markdown, &Style::default());
        let rows = text.lines().filter(|line| line.starts_with("| "));
        let n_cells = |line: &str| line.replace("\\\\", "").replace("\\|", "").matches('|').count();
        let n_expected = n_cells(text.lines().next().unwrap());
        prop_assert_eq!(rows.clone().count(), 2 + projects.len() + usize::from(projects.len() > 1));
        for row in rows {
            prop_assert_eq!(n_cells(row), n_expected, "{}", row);
        }
    }
}
