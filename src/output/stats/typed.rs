//! Groups as Parquet: typed columns, a row a group, or a group and a span of time. Every digit of every
//! figure; what is unknown is null.
//!
//! Texts: the keys (null where a group has none of its own), run ids, and feedback and facets as JSON.
//! 64-bit integers: counts and sums of tokens. Decimals of twelve digits: dollars. Doubles: durations in
//! seconds, shares, means and percentiles of tokens. Times are microseconds, UTC. Where there is a limit,
//! a column says which row is that of all groups beyond it. There is no total among the groups.

use std::io::{self, Write};
use std::mem;
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayBuilder, ArrayRef, BooleanBuilder, Decimal128Builder, Float64Builder, Int64Builder,
    RecordBatch, StringBuilder, TimestampMicrosecondBuilder,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::file::properties::WriterProperties;

use super::super::json;
use super::{Groups, called, names};
use crate::document::{Attainment, Bucket, Figure, Group, Label};
use crate::request::{Amount, Measure, Quantity};

/// How many rows are turned into columns at a time.
const BATCH_ROWS: usize = 8_192;

/// The column that says which row is that of the groups beyond the limit.
const IS_OTHER: &str = "is_other";

/// What a column holds.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Text,
    Flag,
    Whole,
    Number,
    Money,
    Time,
}

/// A value of one of these kinds, or none.
enum Value {
    None,
    Text(String),
    Flag(bool),
    Whole(i128),
    Number(f64),
    /// Pico-dollars.
    Money(i128),
    /// Microseconds since 1970.
    Time(i64),
}

/// Writes the rows of the groups; of all runs together where no key was asked for.
pub(super) fn write(out: &mut dyn Write, answer: &Groups) -> io::Result<()> {
    let columns = columns(answer);
    let fields = columns
        .iter()
        .map(|(name, kind)| Field::new(name, kind.data_type(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .build();
    let mut file = ArrowWriter::try_new(Vec::new(), Arc::clone(&schema), Some(properties))?;
    let groups = answer.groups.iter();
    let groups = groups.chain(answer.is_whole().then_some(answer.total));
    let mut rows = groups.flat_map(|group| answer.rows(group).map(move |row| (group, row)));
    loop {
        let mut builders: Vec<Builder> = columns
            .iter()
            .map(|(_, kind)| Builder::new(*kind))
            .collect();
        for (group, (bucket, figures)) in rows.by_ref().take(BATCH_ROWS) {
            let row = row(answer, group, bucket, figures)?;
            for ((value, builder), (name, _)) in row.into_iter().zip(&mut builders).zip(&columns) {
                builder.append(value, name)?;
            }
        }
        let arrays: Vec<ArrayRef> = builders.iter_mut().map(Builder::finish).collect();
        let batch = RecordBatch::try_new(Arc::clone(&schema), arrays).map_err(io::Error::other)?;
        if batch.num_rows() == 0 {
            break;
        }
        file.write(&batch)?;
        out.write_all(&mem::take(file.inner_mut()))?;
    }
    file.finish()?;
    out.write_all(file.inner())
}

/// The columns: keys, span of time, figures.
fn columns(answer: &Groups) -> Vec<(String, Kind)> {
    let keys = answer.breakdown.by.iter();
    let keys = keys.map(|key| (key.to_string(), Kind::Text));
    let other = has_other(answer).then(|| (IS_OTHER.to_owned(), Kind::Flag));
    let span = answer.breakdown.every.map(|_| ["start", "end"]);
    let span = span.into_iter().flatten();
    let span = span.map(|name| (name.to_owned(), Kind::Time));
    let figures = answer
        .measures()
        .iter()
        .flat_map(|measure| names(measure).into_iter().zip(kinds(measure)));
    keys.chain(other).chain(span).chain(figures).collect()
}

fn has_other(answer: &Groups) -> bool {
    answer.breakdown.limit.is_some() && !answer.is_whole()
}

/// The values of a row, one a column.
fn row(
    answer: &Groups,
    group: &Group,
    bucket: Option<&Bucket>,
    figures: &[Figure],
) -> io::Result<Vec<Value>> {
    let label = |label: &Label| match label {
        Label::Value(text) => Value::Text(text.clone()),
        Label::Other => Value::Text(called(label).into_owned()),
        Label::None => Value::None,
    };
    let mut row: Vec<Value> = group.labels.iter().map(label).collect();
    let is_other = group.labels.first() == Some(&Label::Other);
    row.extend(has_other(answer).then_some(Value::Flag(is_other)));
    let span = bucket.map(|bucket| [bucket.start, bucket.end]);
    row.extend(span.into_iter().flatten().map(|time| Value::Time(time.0)));
    let unknown = Figure::Unknown;
    for (at, measure) in answer.measures().iter().enumerate() {
        row.extend(values(measure, figures.get(at).unwrap_or(&unknown))?);
    }
    Ok(row)
}

/// What the columns of a measure hold.
fn kinds(measure: &Measure) -> Vec<Kind> {
    let kind = match measure {
        Measure::Objective(_) => {
            return vec![
                Kind::Number,
                Kind::Whole,
                Kind::Whole,
                Kind::Number,
                Kind::Number,
                Kind::Time,
            ];
        }
        Measure::Distinct(_) => return vec![Kind::Whole, Kind::Flag],
        Measure::Sum(amount) | Measure::PerRun(amount) if is_money(*amount) => Kind::Money,
        Measure::Of(Quantity::TotalCost, _) => Kind::Money,
        Measure::Count(_) | Measure::FeedbackCount(_) | Measure::Sum(_) => Kind::Whole,
        Measure::Rate(_)
        | Measure::Share(_)
        | Measure::Of(..)
        | Measure::Under(..)
        | Measure::PerRun(_)
        | Measure::FeedbackMean(_) => Kind::Number,
        Measure::FirstStart | Measure::LastStart => Kind::Time,
        Measure::RunAt(..) | Measure::FeedbackStats | Measure::RunFacets => Kind::Text,
    };
    vec![kind]
}

fn is_money(amount: Amount) -> bool {
    match amount {
        Amount::TotalTokens
        | Amount::PromptTokens
        | Amount::CompletionTokens
        | Amount::CachedTokens
        | Amount::ReasoningTokens => false,
        Amount::TotalCost
        | Amount::PromptCost
        | Amount::CompletionCost
        | Amount::CachedCost
        | Amount::ReasoningCost => true,
    }
}

/// The values of a figure, as many as its measure has columns.
fn values(measure: &Measure, figure: &Figure) -> io::Result<Vec<Value>> {
    Ok(vec![match figure {
        Figure::Unknown => return Ok(kinds(measure).iter().map(|_| Value::None).collect()),
        Figure::Attainment(attainment) => return Ok(attained(attainment)),
        Figure::Distinct { n, is_exact } => {
            return Ok(vec![Value::Whole((*n).into()), Value::Flag(!is_exact)]);
        }
        Figure::Count(n) => Value::Whole((*n).into()),
        Figure::Whole(sum) => Value::Whole(*sum),
        Figure::Thousandths(value) => Value::Number(value.as_f64()),
        Figure::Seconds(time) => Value::Number(time.as_f64()),
        Figure::Share(number) | Figure::Number(number) => Value::Number(*number),
        Figure::Cost(cost) => Value::Money(cost.pico),
        Figure::Time(time) => Value::Time(time.0),
        Figure::Feedback(keys) => Value::Text(json::text(keys)?),
        Figure::Facets(facets) => Value::Text(json::text(facets)?),
        Figure::Run(id) => Value::Text(id.clone()),
    }])
}

fn attained(of: &Attainment) -> Vec<Value> {
    let number = |share: Option<f64>| share.map_or(Value::None, Value::Number);
    vec![
        Value::Number(of.target),
        Value::Whole(of.good.into()),
        Value::Whole(of.total.into()),
        number(of.attained),
        number(of.budget_left),
        of.worst.map_or(Value::None, |start| Value::Time(start.0)),
    ]
}

impl Kind {
    fn data_type(self) -> DataType {
        match self {
            Self::Text => DataType::Utf8,
            Self::Flag => DataType::Boolean,
            Self::Whole => DataType::Int64,
            Self::Number => DataType::Float64,
            Self::Money => DataType::Decimal128(38, 12),
            Self::Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        }
    }
}

/// A column on its way.
enum Builder {
    Text(StringBuilder),
    Flag(BooleanBuilder),
    Whole(Int64Builder),
    Number(Float64Builder),
    Money(Decimal128Builder),
    Time(TimestampMicrosecondBuilder),
}

impl Builder {
    fn new(kind: Kind) -> Self {
        let data_type = kind.data_type();
        match kind {
            Kind::Text => Self::Text(StringBuilder::new()),
            Kind::Flag => Self::Flag(BooleanBuilder::new()),
            Kind::Whole => Self::Whole(Int64Builder::new()),
            Kind::Number => Self::Number(Float64Builder::new()),
            Kind::Money => Self::Money(Decimal128Builder::new().with_data_type(data_type)),
            Kind::Time => Self::Time(TimestampMicrosecondBuilder::new().with_data_type(data_type)),
        }
    }

    fn append(&mut self, value: Value, name: &str) -> io::Result<()> {
        const PICO_END: u128 = 10_u128.pow(38);
        let too_large = |number: i128| io::Error::other(format!("{name}: {number} is too large"));
        match (self, value) {
            (Self::Text(texts), Value::Text(text)) => texts.append_value(text),
            (Self::Flag(flags), Value::Flag(flag)) => flags.append_value(flag),
            (Self::Whole(numbers), Value::Whole(number)) => {
                numbers.append_value(i64::try_from(number).map_err(|_| too_large(number))?);
            }
            (Self::Number(numbers), Value::Number(number)) => numbers.append_value(number),
            (Self::Money(_), Value::Money(pico)) if pico.unsigned_abs() >= PICO_END => {
                return Err(too_large(pico));
            }
            (Self::Money(amounts), Value::Money(pico)) => amounts.append_value(pico),
            (Self::Time(times), Value::Time(us)) => times.append_value(us),
            (Self::Text(texts), _) => texts.append_null(),
            (Self::Flag(flags), _) => flags.append_null(),
            (Self::Whole(numbers), _) => numbers.append_null(),
            (Self::Number(numbers), _) => numbers.append_null(),
            (Self::Money(amounts), _) => amounts.append_null(),
            (Self::Time(times), _) => times.append_null(),
        }
        Ok(())
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Text(texts) => ArrayBuilder::finish(texts),
            Self::Flag(flags) => ArrayBuilder::finish(flags),
            Self::Whole(numbers) => ArrayBuilder::finish(numbers),
            Self::Number(numbers) => ArrayBuilder::finish(numbers),
            Self::Money(amounts) => ArrayBuilder::finish(amounts),
            Self::Time(times) => ArrayBuilder::finish(times),
        }
    }
}
