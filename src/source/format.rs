//! Formats: how what a file has becomes canonical columns.
//!
//! A format is a table of mappings, one file a system (`source/format/`). For each canonical column it
//! lists rules in order of preference; the first whose columns the file has is taken. Names of foreign
//! columns exist in these tables and nowhere else.

mod langsmith;

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, FieldRef, TimeUnit};
use datafusion::common::{Result, ScalarValue};
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::logical_expr::{Expr, Operator, binary_expr, ident, lit};
use serde::Serialize;

use super::footer::Footer;
use crate::request::Window;
use crate::runs::{Column, functions};

/// The name of the constant that holds the project that a file's path or footer gives.
pub(crate) const PROJECT: &str = "@project";
/// The name of the constant that holds the tenant that a file's path or footer gives.
pub(crate) const TENANT: &str = "@tenant";
/// The name of the constant that holds a file's path.
pub(crate) const PATH: &str = "@path";
/// The name of the constant that holds the midnight (UTC) of the day that a file's path names.
pub(crate) const DAY: &str = "@day";
/// The name of the constant that holds the place of a file's first row among the records of all, by its
/// export's rank, then by its path.
pub(crate) const FILE: &str = "@file";
/// The name of the constant that holds the place of a file's first row among those of all, by its path.
pub(crate) const FIRST_ROW: &str = "@first_row";
/// The name of the column that holds the number of a row in its file.
pub(crate) const ROW: &str = "@row";
/// The name of the constant that holds when a file's export was last written, seconds since 1970.
pub(crate) const MODIFIED: &str = "@modified";

/// What columns begin with that hold what this crate itself resolved, in the canonical type.
const RESOLVED: &str = "runtally_";

/// The columns that are written resolved: those for which one file's rules may look elsewhere than
/// another's, and those that lie in JSON.
pub(crate) const RESOLVABLE: [Column; 12] = [
    Column::IsError,
    Column::Model,
    Column::Provider,
    Column::User,
    Column::Thread,
    Column::Environment,
    Column::Version,
    Column::Prompt,
    Column::CachedTokens,
    Column::ReasoningTokens,
    Column::CachedCost,
    Column::ReasoningCost,
];

/// What a column is called where it is written resolved.
pub(crate) fn resolved(column: Column) -> String {
    format!("{RESOLVED}{}", column.name())
}

/// The column that is written under a name.
fn resolvable(name: &str) -> Option<Column> {
    let name = name.strip_prefix(RESOLVED)?;
    RESOLVABLE.into_iter().find(|column| column.name() == name)
}

/// A system's way of writing runs.
#[derive(Debug)]
pub(crate) struct Format {
    /// What it is called.
    pub(crate) name: &'static str,
    /// What it is of, and in which files.
    about: &'static str,
    mappings: &'static [Mapping],
}

/// The rules for one canonical column, the preferred first.
#[derive(Debug)]
struct Mapping {
    to: Column,
    rules: &'static [Rule],
}

/// One way to get a canonical column from a file's columns.
#[derive(Debug, Clone, Copy)]
enum Rule {
    /// The column's values, read as the canonical column's kind of value.
    Values(&'static str),
    /// The column's booleans; a column without any says nothing.
    Flag(&'static str),
    /// True where the text is this one.
    TextIs(&'static str, &'static str),
    /// True where there is a value.
    HasValue(&'static str),
    /// True where there is no value, or an empty text.
    NoValue(&'static str),
    /// True where a dotted path has a single segment.
    OneSegment(&'static str),
    /// The member of a JSON object.
    Member(&'static str, &'static str),
    /// The text of the first scalar among some members of such a member.
    FirstOf(&'static str, &'static str, &'static [&'static str]),
    /// The sum of some members' numbers.
    Entries(Entries),
    /// The id that a dotted path's first segment ends with.
    FirstSegment(&'static str),
    /// True where two columns hold the same id.
    Same(&'static str, &'static str),
}

/// The numbers in a JSON object below a column's.
#[derive(Debug, Clone, Copy)]
struct Entries {
    column: &'static str,
    /// The names of the members that lead to the object; the first of these that is there.
    below: &'static [&'static [&'static str]],
    /// The names of the numbers; one that ends in `*` is of all that begin so.
    names: &'static [&'static str],
}

/// A format that is known, for people to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FormatInfo {
    /// What it is called.
    pub name: &'static str,
    /// What it is of, and in which files.
    pub about: &'static str,
    /// Each column of a run, and where it comes from, the preferred first.
    pub columns: Vec<ColumnInfo>,
}

/// Where a column of a run comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ColumnInfo {
    /// What filters, groups and figures call it.
    pub name: &'static str,
    /// The columns and members of files; the first that a file has is taken.
    pub from: Vec<String>,
}

/// The formats that are known.
#[must_use]
pub fn formats() -> Vec<FormatInfo> {
    let column = |mapping: &Mapping| ColumnInfo {
        name: mapping.to.name(),
        from: mapping.rules.iter().flat_map(|rule| rule.said()).collect(),
    };
    let formats = FORMATS.iter().map(|format| FormatInfo {
        name: format.name,
        about: format.about,
        columns: format.mappings.iter().map(column).collect(),
    });
    formats.collect()
}

/// The formats that are known. A file has the first one that recognizes it.
const FORMATS: [&Format; 1] = [&langsmith::FORMAT];

/// The format of runs in JSON.
pub(super) fn of_json() -> &'static Format {
    &langsmith::FORMAT
}

impl Format {
    /// The format that is called so.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        FORMATS.into_iter().find(|format| format.name == name)
    }

    /// The format of a file, if it is a known one, or the one that was asked for; else why it is none.
    pub(crate) fn of(
        footer: &Footer,
        asked: Option<&'static Self>,
    ) -> Result<&'static Self, String> {
        let mut candidates = FORMATS.into_iter();
        let recognized = candidates.find(|format| {
            let is_asked = asked.is_none_or(|asked| std::ptr::eq(asked, *format));
            let start = format.column_of(Column::StartTime);
            is_asked && start.is_some_and(|start| footer.has(start))
        });
        recognized.ok_or_else(|| {
            let columns: Vec<_> = footer
                .schema
                .fields()
                .iter()
                .map(|f| f.name().as_str())
                .collect();
            format!(
                "expected a file of runs with a column start_time, found {}",
                if columns.is_empty() {
                    "no columns".to_owned()
                } else {
                    columns.join(", ")
                }
            )
        })
    }

    /// The foreign name of a canonical column that is taken as it is.
    pub(crate) fn column_of(&self, column: Column) -> Option<&'static str> {
        self.rules(column).iter().find_map(|rule| match rule {
            Rule::Values(name) => Some(*name),
            _ => None,
        })
    }

    /// All foreign columns that a canonical column may come from, the preferred first.
    pub(crate) fn columns_of(&self, column: Column) -> Vec<&'static str> {
        let rules = self.rules(column).iter();
        rules.filter_map(|rule| rule.columns()[0]).collect()
    }

    /// Whether the file says anything of a canonical column.
    pub(crate) fn has(&self, column: Column, footer: &Footer) -> bool {
        is_resolved(column, footer) || self.rule(column, footer).is_some()
    }

    /// Which rule holds for the file, of each column that has several: what makes files of one shape.
    pub(crate) fn choices(&self, footer: &Footer) -> Vec<Option<usize>> {
        let several = self
            .mappings
            .iter()
            .filter(|mapping| mapping.rules.len() > 1);
        several
            .map(|mapping| chosen(mapping.rules, footer))
            .collect()
    }

    /// How the reader should give a file's column; `None` where no rule reads it.
    pub(crate) fn read_as(&self, field: &FieldRef) -> Option<DataType> {
        if let Some(column) = resolvable(field.name()) {
            return Some(column.data_type());
        }
        let is_read = self
            .mappings
            .iter()
            .flat_map(|mapping| mapping.rules)
            .any(|rule| rule.columns().contains(&Some(field.name().as_str())));
        let name = field.name();
        is_read.then(|| {
            let is_bytes = match field.data_type() {
                DataType::Utf8 | DataType::LargeUtf8 => self.is_json(name),
                // Perhaps text, without the annotation that says so.
                DataType::Binary | DataType::LargeBinary => self.is_id(name) || self.is_json(name),
                kind => return kind.clone(),
            };
            if is_bytes {
                DataType::BinaryView
            } else {
                DataType::Utf8View
            }
        })
    }

    /// Whether columns are found in the texts of a file's: these come as bytes, and are checked where
    /// somebody looks at them.
    fn is_json(&self, name: &str) -> bool {
        let mut rules = self.mappings.iter().flat_map(|mapping| mapping.rules);
        rules.any(|rule| rule.is_member_of(name))
    }

    /// Whether a file's column holds ids, which may be text or bytes.
    fn is_id(&self, name: &str) -> bool {
        self.mappings
            .iter()
            .filter(|mapping| mapping.to.is_id())
            .any(|mapping| mapping.rules.iter().any(|rule| rule.is_values_of(name)))
    }

    /// The canonical column as an expression over the file's columns and its constants.
    ///
    /// `proven` says whether the constants hold for every row, so that no column need be read.
    pub(crate) fn expr(&self, column: Column, footer: &Footer, proven: bool) -> Expr {
        let constant = match column {
            Column::SessionId => Some(ident(PROJECT)),
            Column::TenantId => Some(ident(TENANT)),
            Column::File => Some(ident(PATH)),
            Column::FileDay => Some(ident(DAY)),
            _ => None,
        };
        let value = if is_resolved(column, footer) {
            Some(ident(resolved(column)))
        } else {
            let rule = self.rule(column, footer);
            rule.map(|rule| match rule {
                Rule::Values(name) if self.is_json(name) => functions::text_of(ident(name), name),
                rule => rule.expr(column, footer),
            })
        };
        let expr = match (constant, value) {
            (Some(constant), Some(value)) if !proven => coalesce(vec![value, constant]),
            (Some(constant), _) => constant,
            (None, Some(value)) => value,
            (None, None) => missing(column),
        };
        expr.alias(column.name())
    }

    /// The window as a condition on the file's own times, so that its statistics can be used.
    pub(crate) fn within(&self, window: &Window, footer: &Footer) -> Option<Expr> {
        let name = self.column_of(Column::StartTime)?;
        let kind = footer.schema.field_with_name(name).ok()?.data_type();
        let (start, unit, zone) = match kind {
            DataType::Timestamp(unit, zone) => (ident(name), *unit, zone.clone()),
            _ => (
                read(Column::StartTime, name, footer),
                TimeUnit::Microsecond,
                None,
            ),
        };
        let bound = |us: Option<i64>| us.map(|us| moment(us, unit, zone.clone()));
        let since = bound(window.since_us()).map(|since| start.clone().gt_eq(since));
        let until = bound(window.until_us()).map(|until| start.lt(until));
        since.into_iter().chain(until).reduce(Expr::and)
    }

    fn rules(&self, column: Column) -> &'static [Rule] {
        self.mappings
            .iter()
            .find(|mapping| mapping.to == column)
            .map_or(&[], |mapping| mapping.rules)
    }

    fn rule(&self, column: Column, footer: &Footer) -> Option<Rule> {
        let rules = self.rules(column);
        rules.get(chosen(rules, footer)?).copied()
    }
}

/// Whether a file has a column as it was resolved before.
fn is_resolved(column: Column, footer: &Footer) -> bool {
    RESOLVABLE.contains(&column) && footer.has(&resolved(column))
}

/// The first rule that holds for the file.
fn chosen(rules: &[Rule], footer: &Footer) -> Option<usize> {
    rules.iter().position(|rule| rule.holds(footer))
}

impl Rule {
    fn columns(self) -> [Option<&'static str>; 2] {
        match self {
            Self::Values(name)
            | Self::Flag(name)
            | Self::TextIs(name, _)
            | Self::HasValue(name)
            | Self::NoValue(name)
            | Self::OneSegment(name)
            | Self::Member(name, _)
            | Self::FirstOf(name, ..)
            | Self::Entries(Entries { column: name, .. })
            | Self::FirstSegment(name) => [Some(name), None],
            Self::Same(one, other) => [Some(one), Some(other)],
        }
    }

    /// Where it looks, in words.
    fn said(self) -> Vec<String> {
        match self {
            Self::Values(name) | Self::Flag(name) => vec![name.to_owned()],
            Self::TextIs(name, text) => vec![format!("{name} = {text}")],
            Self::HasValue(name) => vec![format!("{name}, where there is one")],
            Self::NoValue(name) => vec![format!("no {name}")],
            Self::OneSegment(name) => vec![format!("{name} of one segment")],
            Self::Member(name, key) => vec![format!("{name}.{key}")],
            Self::FirstOf(name, key, keys) => keys
                .iter()
                .map(|one| format!("{name}.{key}.{one}"))
                .collect(),
            Self::Entries(Entries {
                column,
                below: paths,
                names,
            }) => {
                let sum = format!("{{{}}}", names.join(", "));
                let paths = paths.iter();
                paths
                    .map(|path| [&[column], *path, &[&sum]].concat().join("."))
                    .collect()
            }
            Self::FirstSegment(name) => vec![format!("first segment of {name}")],
            Self::Same(one, other) => vec![format!("{one} = {other}")],
        }
    }

    fn is_values_of(self, column: &str) -> bool {
        matches!(self, Self::Values(name) if name == column)
    }

    fn is_member_of(self, column: &str) -> bool {
        matches!(self, Self::Member(name, _) | Self::FirstOf(name, ..) if name == column)
    }

    /// Whether the file has what the rule needs. A column that should say whether something is so, but
    /// holds nothing anywhere, is as good as absent; so are details that are no text.
    fn holds(self, footer: &Footer) -> bool {
        let is_there = |name: &str| match self {
            Self::Flag(_) | Self::TextIs(..) => !footer.all_null(name),
            Self::Entries(_) => !footer.all_null(name) && is_text(name, footer),
            _ => true,
        };
        let mut columns = self.columns().into_iter().flatten();
        columns.all(|name| footer.is_unread(name) || (footer.has(name) && is_there(name)))
    }

    fn expr(self, column: Column, footer: &Footer) -> Expr {
        let mut unread = self.columns().into_iter().flatten();
        if let Some(name) = unread.find(|name| footer.is_unread(name)) {
            return functions::unread(missing(column), name);
        }
        match self {
            Self::Values(name) => read(column, name, footer),
            Self::Flag(name) => ident(name),
            Self::TextIs(name, text) => {
                binary_expr(ident(name), Operator::IsNotDistinctFrom, lit(text))
            }
            Self::HasValue(name) => ident(name).is_not_null(),
            Self::NoValue(name) if is_text(name, footer) => {
                ident(name).is_null().or(ident(name).eq(lit("")))
            }
            Self::NoValue(name) => ident(name).is_null(),
            Self::OneSegment(name) => ident(name).not_like(lit("%.%")),
            Self::FirstSegment(name) => functions::trace_of(ident(name), name),
            Self::Member(name, key) => functions::member(ident(name), key),
            Self::FirstOf(name, key, keys) => {
                functions::first_path_text(functions::member(ident(name), key), keys)
            }
            Self::Entries(entries) => entries.expr(column),
            Self::Same(one, other) => {
                functions::id_text(ident(one), one).eq(functions::id_text(ident(other), other))
            }
        }
    }
}

impl Entries {
    fn expr(self, column: Column) -> Expr {
        let member = |json: Expr, name: &&str| functions::member(json, name);
        let objects = self.below.iter();
        let objects = objects.map(|path| path.iter().fold(ident(self.column), member));
        let object = coalesce(objects.collect());
        match column {
            Column::CachedCost | Column::ReasoningCost => {
                functions::pico_entries(object, self.column, self.names)
            }
            _ => functions::whole_entries(object, self.column, self.names),
        }
    }
}

pub(super) fn is_text(name: &str, footer: &Footer) -> bool {
    let field = footer.schema.field_with_name(name);
    field.is_ok_and(|field| {
        matches!(
            field.data_type(),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Binary | DataType::LargeBinary
        )
    })
}

/// A file's column as the canonical column's kind of value.
fn read(column: Column, name: &'static str, footer: &Footer) -> Expr {
    let kind = footer
        .schema
        .field_with_name(name)
        .map_or(DataType::Null, |field| field.data_type().clone());
    if kind == DataType::Null {
        return missing(column);
    }
    let value = ident(name);
    match column {
        Column::StartTime => functions::start_us(value, name),
        Column::EndTime | Column::FirstTokenTime => functions::utc_us(value, name),
        Column::TotalCost | Column::PromptCost | Column::CompletionCost => {
            functions::pico_usd(value, name)
        }
        Column::TotalTokens | Column::PromptTokens | Column::CompletionTokens
            if kind != DataType::Int64 =>
        {
            functions::whole(value, name)
        }
        Column::Tags => functions::texts(value, name),
        column if column.is_id() => functions::id_text(value, name),
        column if column.data_type() == DataType::Utf8View && !is_text(name, footer) => {
            functions::text_of(value, name)
        }
        _ => value,
    }
}

/// What a column is where the file has nothing of it.
fn missing(column: Column) -> Expr {
    let nothing = ScalarValue::try_from(&column.data_type()).unwrap_or(ScalarValue::Null);
    match column {
        // With nothing that tells them apart, every run stands for itself.
        Column::IsRoot => lit(true),
        Column::IsError => lit(false),
        _ => Expr::Literal(nothing, None),
    }
}

/// A moment as a literal of a file's own time type: the first of its ticks that is not before it.
fn moment(us: i64, unit: TimeUnit, zone: Option<Arc<str>>) -> Expr {
    let scalar = match unit {
        TimeUnit::Second => ScalarValue::TimestampSecond(Some(ceil_div(us, 1_000_000)), zone),
        TimeUnit::Millisecond => ScalarValue::TimestampMillisecond(Some(ceil_div(us, 1_000)), zone),
        TimeUnit::Microsecond => ScalarValue::TimestampMicrosecond(Some(us), zone),
        TimeUnit::Nanosecond => {
            ScalarValue::TimestampNanosecond(Some(us.saturating_mul(1_000)), zone)
        }
    };
    Expr::Literal(scalar, None)
}

fn ceil_div(value: i64, by: i64) -> i64 {
    value.div_euclid(by) + i64::from(value.rem_euclid(by) != 0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use datafusion::arrow::array::{AsArray, RecordBatch, StringViewArray};
    use datafusion::arrow::datatypes::Int64Type;
    use datafusion::prelude::SessionContext;

    use super::*;

    /// Pico-dollars in a dollar.
    const PICO: i64 = 1_000_000_000_000;

    /// What a rule of LangSmith's gives for one text of its column.
    async fn read(column: Column, json: &str) -> Option<i64> {
        let rules = langsmith::FORMAT.rules(column).iter();
        let entries = rules.filter_map(|rule| match rule {
            Rule::Entries(entries) => Some(*entries),
            _ => None,
        });
        let mut found = Vec::new();
        for entries in entries {
            let texts = Arc::new(StringViewArray::from(vec![json])) as _;
            let batch = RecordBatch::try_from_iter([(entries.column, texts)]).unwrap();
            let runs = SessionContext::new().read_batch(batch).unwrap();
            let sums = runs.select([entries.expr(column)]).unwrap();
            let sums = sums.collect().await.unwrap();
            found.extend(sums[0].column(0).as_primitive::<Int64Type>().iter());
        }
        // Either shape is known by one of the rules alone.
        let found: Vec<i64> = found.into_iter().flatten().collect();
        assert!(found.len() < 2, "{found:?}");
        found.first().copied()
    }

    #[tokio::test]
    async fn details_are_read_wherever_they_lie() {
        let details = r#"{"cache_read": 3, "cache_creation": 7, "reasoning": 5, "audio": 1}"#;
        let raw = format!(r#"{{"raw": {details}}}"#);
        let usage = |kind: &str| {
            let usage = format!(r#"{{"usage_metadata": {{"{kind}_details": {details}}}}}"#);
            format!(r#"{{"metadata": {usage}, "runtime": {{}}}}"#)
        };
        for (column, in_extra, sum) in [
            (Column::CachedTokens, "input_token", 3),
            (Column::ReasoningTokens, "output_token", 5),
            (Column::CachedCost, "input_cost", 3 * PICO),
            (Column::ReasoningCost, "output_cost", 5 * PICO),
        ] {
            assert_eq!(read(column, details).await, Some(sum));
            assert_eq!(read(column, &raw).await, Some(sum));
            assert_eq!(read(column, &usage(in_extra)).await, Some(sum));
            assert_eq!(read(column, &usage("other")).await, None);
        }
        let exact = r#"{"cache_read": "0.000000000001", "cache_read_long": 1e-12}"#;
        assert_eq!(read(Column::CachedCost, exact).await, Some(2));
    }
}
