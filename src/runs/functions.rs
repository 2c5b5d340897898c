//! The functions that turn a file's values into canonical ones, a column at a time.
//!
//! They exist because the engine's casts are not what the contract says: they truncate times towards
//! zero, multiply costs in floating point and refuse exponents. Those that may
//! fail take the column's name as a last, literal argument, so that an error can say which column held the
//! bad value. They are plain
//! registered functions: a plan that uses them can travel to another process by name.

mod ids;

use std::ops::Range;
use std::sync::Arc;

use chrono::DateTime;
use chrono_tz::Tz;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, BooleanArray, Decimal128Array, Int8Array,
    Int64Array, ListBuilder, PrimitiveArray, StringViewArray, StringViewBuilder,
    TimestampMicrosecondArray,
};
use datafusion::arrow::buffer::{BooleanBuffer, Buffer, NullBuffer};
use datafusion::arrow::compute;
use datafusion::arrow::datatypes::{
    ArrowPrimitiveType, ArrowTimestampType, DataType, Date32Type, Decimal128Type, Float64Type,
    Int64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use datafusion::arrow::util::bit_chunk_iterator::BitChunks;
use datafusion::common::hash_utils::{RandomState, create_hashes};
use datafusion::common::{DataFusionError, Result, ScalarValue, internal_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};
use datafusion::physical_expr::expressions::{Column as PhysicalColumn, Literal};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use serde_json::value::RawValue;

use crate::cpu::fastest;
use crate::error::quoted;
use crate::tally::{TraceTier, money};
use crate::time;

use super::json;
pub(crate) use super::json::{is_object, object, scalar_text};

/// The type of 128 bits, which are compared as a number.
const BITS: DataType = DataType::Decimal128(38, 0);

/// What a cost has to be.
pub(crate) const A_COST: &str = "a cost within 9 223 372 dollars";
/// What a number of tokens has to be.
pub(crate) const A_WHOLE_NUMBER: &str = "a whole number of 64 bits";

/// A value that a column may not hold.
#[derive(Debug, thiserror::Error)]
#[error("column {column}: expected {expected}, found {found}")]
pub(crate) struct ValueError {
    column: String,
    expected: &'static str,
    found: String,
}

/// The functions, for registration.
pub(crate) fn all() -> Vec<Arc<ScalarUDF>> {
    [
        Kind::UtcMicros,
        Kind::StartMicros,
        Kind::PicoUsd,
        Kind::Whole,
        Kind::IdText,
        Kind::IdBits,
        Kind::RunBits,
        Kind::Digest,
        Kind::RankedUp,
        Kind::RankedDown,
        Kind::AreApart,
        Kind::Needed,
        Kind::TraceOf,
        Kind::Elapsed,
        Kind::Difference,
        Kind::LocalDay,
        Kind::Member,
        Kind::PathText,
        Kind::FirstPathText,
        Kind::WholeEntries,
        Kind::PicoEntries,
        Kind::Texts,
        Kind::TextOf,
        Kind::Unread,
        Kind::JsonList,
        Kind::TierRank,
        Kind::AnyNotZero,
    ]
    .map(Kind::udf)
    .to_vec()
}

/// Any timestamp, or ISO 8601 text, as UTC microseconds, rounded down.
pub(crate) fn utc_us(value: Expr, column: &str) -> Expr {
    Kind::UtcMicros.udf().call(vec![value, lit(column)])
}

/// The same of a run's start, without which there is no run.
pub(crate) fn start_us(value: Expr, column: &str) -> Expr {
    Kind::StartMicros.udf().call(vec![value, lit(column)])
}

/// A cost of any type as whole pico-dollars, rounded half to even.
pub(crate) fn pico_usd(value: Expr, column: &str) -> Expr {
    Kind::PicoUsd.udf().call(vec![value, lit(column)])
}

/// A whole number of any numeric type as a 64-bit integer.
pub(crate) fn whole(value: Expr, column: &str) -> Expr {
    Kind::Whole.udf().call(vec![value, lit(column)])
}

/// An id as text: UUIDs in lower case with hyphens, also from their 16 bytes; everything else as it is.
pub(crate) fn id_text(value: Expr, column: &str) -> Expr {
    Kind::IdText.udf().call(vec![value, lit(column)])
}

/// The 128 bits of an id: those of a UUID, or of the one that its text gives (version 5).
pub(crate) fn id_bits(id: Expr) -> Expr {
    Kind::IdBits.udf().call(vec![id])
}

/// The same of a run within its project, so that the same id in two projects has others; null where the id
/// is empty.
pub(crate) fn run_bits(project: Expr, id: Expr) -> Expr {
    Kind::RunBits.udf().call(vec![project, id])
}

/// A number that differs, but for chance, where any of the values does.
pub(crate) fn digest(values: Vec<Expr>) -> Expr {
    Kind::Digest.udf().call(values)
}

/// A number that is greater where a class is, and within it where a digest is.
pub(crate) fn ranked_up(class: Expr, digest: Expr) -> Expr {
    Kind::RankedUp.udf().call(vec![class, digest])
}

/// A number that is greater where a class is, and within it where a digest is less.
pub(crate) fn ranked_down(class: Expr, digest: Expr) -> Expr {
    Kind::RankedDown.udf().call(vec![class, digest])
}

/// Whether the digests differ of two numbers of [`ranked_up`] and [`ranked_down`].
pub(crate) fn are_apart(up: Expr, down: Expr) -> Expr {
    Kind::AreApart.udf().call(vec![up, down])
}

/// The value itself; an error where there is none.
pub(crate) fn needed(value: Expr, column: &str) -> Expr {
    Kind::Needed.udf().call(vec![value, lit(column)])
}

/// The trace's id, which the first segment of a run's dotted order ends with.
pub(crate) fn trace_of(dotted_order: Expr, column: &str) -> Expr {
    Kind::TraceOf.udf().call(vec![dotted_order, lit(column)])
}

/// The day on which a canonical time falls in a zone.
pub(crate) fn local_day(time: Expr, zone: Tz) -> Expr {
    Kind::LocalDay.udf().call(vec![time, lit(zone.name())])
}

/// The JSON text of a member of a JSON object; null where the text is none, or has no such member.
pub(crate) fn member(json: Expr, key: &str) -> Expr {
    Kind::Member.udf().call(vec![json, lit(key)])
}

/// The text of the scalar at a path below a JSON object: at the member of the whole path's name where there
/// is one, else at the rest of the path below the member of its first segment's name.
#[allow(dead_code, reason = "grouping by a path of the metadata is to use it")]
pub(crate) fn path_text(json: Expr, path: &str) -> Expr {
    Kind::PathText.udf().call(vec![json, itself(), lit(path)])
}

/// The text of the first scalar among a JSON object's members of these names.
pub(crate) fn first_path_text(json: Expr, names: &[&str]) -> Expr {
    let names = names.iter().map(|name| lit(*name));
    let arguments = [json, itself()].into_iter().chain(names);
    Kind::FirstPathText.udf().call(arguments.collect())
}

/// Where texts are looked for in the object itself, and not in a member of it.
fn itself() -> Expr {
    lit(ScalarValue::Utf8(None))
}

/// The sum of a JSON object's whole numbers of these names; one that ends in `*` is of all that begin so.
pub(crate) fn whole_entries(json: Expr, column: &str, names: &[&str]) -> Expr {
    entries(Kind::WholeEntries, json, column, names)
}

/// The same of costs, in pico-dollars.
pub(crate) fn pico_entries(json: Expr, column: &str, names: &[&str]) -> Expr {
    entries(Kind::PicoEntries, json, column, names)
}

fn entries(kind: Kind, json: Expr, column: &str, names: &[&str]) -> Expr {
    let names = names.iter().map(|name| lit(*name));
    let arguments = [json, lit(column)].into_iter().chain(names);
    kind.udf().call(arguments.collect())
}

/// Lists of texts, also from the JSON text of one; what is no text in them is left out.
pub(crate) fn texts(value: Expr, column: &str) -> Expr {
    Kind::Texts.udf().call(vec![value, lit(column)])
}

/// The text of a value that is none, such as a number.
pub(crate) fn text_of(value: Expr, column: &str) -> Expr {
    Kind::TextOf.udf().call(vec![value, lit(column)])
}

/// What stands for a column that was not read, as nobody was to look at it: whoever does is told so. Of
/// the type of `nothing`.
pub(crate) fn unread(nothing: Expr, column: &str) -> Expr {
    Kind::Unread.udf().call(vec![nothing, lit(column)])
}

/// The JSON text of a list of texts.
pub(crate) fn json_list(value: Expr, column: &str) -> Expr {
    Kind::JsonList.udf().call(vec![value, lit(column)])
}

/// Microseconds from one canonical time to another.
pub(crate) fn difference_us(from: Expr, to: Expr) -> Expr {
    Kind::Difference.udf().call(vec![from, to])
}

/// Whether any of some whole numbers is there and not zero.
pub(crate) fn any_is_not_zero(values: Vec<Expr>) -> Expr {
    Kind::AnyNotZero.udf().call(values)
}

/// The rank of a trace's tier; null of whatever is none.
pub(crate) fn tier_rank(tier: Expr) -> Expr {
    Kind::TierRank.udf().call(vec![tier])
}

/// Microseconds from one canonical time to another; null where that is negative.
pub(crate) fn elapsed_us(from: Expr, to: Expr) -> Expr {
    Kind::Elapsed.udf().call(vec![from, to])
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    UtcMicros,
    StartMicros,
    PicoUsd,
    Whole,
    IdText,
    IdBits,
    RunBits,
    Digest,
    RankedUp,
    RankedDown,
    AreApart,
    Needed,
    TraceOf,
    Elapsed,
    Difference,
    LocalDay,
    Member,
    PathText,
    FirstPathText,
    WholeEntries,
    PicoEntries,
    Texts,
    TextOf,
    Unread,
    JsonList,
    TierRank,
    AnyNotZero,
}

impl Kind {
    fn udf(self) -> Arc<ScalarUDF> {
        Arc::new(ScalarUDF::new_from_impl(RunFunction {
            kind: self,
            signature: match self {
                Self::IdBits | Self::TierRank => Signature::any(1, Volatility::Immutable),
                Self::PathText => Signature::any(3, Volatility::Immutable),
                Self::Digest
                | Self::FirstPathText
                | Self::WholeEntries
                | Self::PicoEntries
                | Self::AnyNotZero => Signature::variadic_any(Volatility::Immutable),
                // Of constants, and yet not to be tried before somebody looks at it.
                Self::Unread => Signature::any(2, Volatility::Volatile),
                _ => Signature::any(2, Volatility::Immutable),
            },
        }))
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct RunFunction {
    kind: Kind,
    signature: Signature,
}

impl ScalarUDFImpl for RunFunction {
    fn name(&self) -> &str {
        match self.kind {
            Kind::UtcMicros => "utc_us",
            Kind::StartMicros => "start_us",
            Kind::PicoUsd => "pico_usd",
            Kind::Whole => "whole",
            Kind::IdText => "id_text",
            Kind::IdBits => "id_bits",
            Kind::RunBits => "run_bits",
            Kind::Digest => "digest",
            Kind::RankedUp => "ranked_up",
            Kind::RankedDown => "ranked_down",
            Kind::AreApart => "are_apart",
            Kind::Needed => "needed",
            Kind::TraceOf => "trace_of",
            Kind::Elapsed => "elapsed_us",
            Kind::Difference => "difference_us",
            Kind::LocalDay => "local_day",
            Kind::Member => "member",
            Kind::PathText => "path_text",
            Kind::FirstPathText => "first_path_text",
            Kind::WholeEntries => "whole_entries",
            Kind::PicoEntries => "pico_entries",
            Kind::Texts => "texts",
            Kind::TextOf => "text_of",
            Kind::Unread => "unread",
            Kind::JsonList => "json_list",
            Kind::TierRank => "tier_rank",
            Kind::AnyNotZero => "any_not_zero",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(match self.kind {
            Kind::UtcMicros | Kind::StartMicros => super::TIME,
            Kind::PicoUsd
            | Kind::Whole
            | Kind::Elapsed
            | Kind::Difference
            | Kind::Digest
            | Kind::WholeEntries
            | Kind::PicoEntries => DataType::Int64,
            Kind::IdBits | Kind::RunBits | Kind::RankedUp | Kind::RankedDown => BITS,
            Kind::AreApart | Kind::AnyNotZero => DataType::Boolean,
            Kind::IdText
            | Kind::TraceOf
            | Kind::Member
            | Kind::PathText
            | Kind::FirstPathText
            | Kind::TextOf
            | Kind::JsonList => DataType::Utf8View,
            Kind::Texts => super::texts(),
            Kind::Needed | Kind::Unread => arguments.first().cloned().unwrap_or(DataType::Null),
            Kind::LocalDay => DataType::Date32,
            Kind::TierRank => DataType::Int8,
        })
    }

    /// Texts of a member are found in the object that it is a member of, which is read once then; the bits
    /// of an id are those of the text that it is read from.
    fn simplify(&self, args: Vec<Expr>, context: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let finds_texts = matches!(self.kind, Kind::PathText | Kind::FirstPathText);
        let takes_ids = matches!(self.kind, Kind::IdBits | Kind::RunBits);
        match args.as_slice() {
            [json, below, names @ ..] if finds_texts && *below == itself() => {
                let Some([json, member]) = arguments_of(Kind::Member, json) else {
                    return Ok(ExprSimplifyResult::Original(args));
                };
                let args = [json, member].into_iter().chain(names).cloned();
                let found = self.kind.udf().call(args.collect());
                Ok(ExprSimplifyResult::Simplified(found))
            }
            [project @ .., id] if takes_ids => {
                let Some([text, _]) = arguments_of(Kind::IdText, id) else {
                    return Ok(ExprSimplifyResult::Original(args));
                };
                if context.get_data_type(text)? != DataType::Utf8View {
                    return Ok(ExprSimplifyResult::Original(args));
                }
                let args = project.iter().chain([text]).cloned();
                let bits = self.kind.udf().call(args.collect());
                Ok(ExprSimplifyResult::Simplified(bits))
            }
            _ => Ok(ExprSimplifyResult::Original(args)),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (first, second) = match (self.kind, args.args.as_slice()) {
            (Kind::PathText, [jsons, below, path]) => {
                let jsons = bytes(&jsons.to_array(args.number_rows)?)?;
                let found = json::texts_at(&jsons, literal(below), name(path));
                return in_utf8(found, &args).map(ColumnarValue::Array);
            }
            (Kind::FirstPathText, [jsons, below, names @ ..]) => {
                let jsons = bytes(&jsons.to_array(args.number_rows)?)?;
                let names: Vec<&str> = names.iter().map(name).collect();
                let found = json::first_texts(&jsons, literal(below), &names);
                return in_utf8(found, &args).map(ColumnarValue::Array);
            }
            (Kind::WholeEntries | Kind::PicoEntries, [jsons, column, names @ ..]) => {
                let jsons = bytes(&jsons.to_array(args.number_rows)?)?;
                let (column, names) = (name(column), names.iter().map(name));
                let number = match self.kind {
                    Kind::WholeEntries => whole_of_text,
                    _ => pico_of_text,
                };
                let names: Vec<&str> = names.collect();
                let sums = json::sums(&jsons, &names, |text| number(text, column));
                return in_utf8(sums, &args).map(ColumnarValue::Array);
            }
            (Kind::IdBits, [ids]) => {
                let ids = ids.to_array(args.number_rows)?;
                return Ok(ColumnarValue::Array(Arc::new(ids::bits(&ids)?)));
            }
            (Kind::TierRank, [tiers]) => {
                let tiers = text(&tiers.to_array(args.number_rows)?)?;
                return Ok(ColumnarValue::Array(Arc::new(tier_ranks(&tiers))));
            }
            (Kind::AnyNotZero, values) => {
                let values = values
                    .iter()
                    .map(|values| values.to_array(args.number_rows));
                let any = any_not_zero(&values.collect::<Result<Vec<_>>>()?, args.number_rows)?;
                return Ok(ColumnarValue::Array(Arc::new(any)));
            }
            (Kind::Digest, values) => {
                let values = ColumnarValue::values_to_arrays(values)?;
                return Ok(ColumnarValue::Array(Arc::new(digests(
                    &values,
                    args.number_rows,
                )?)));
            }
            (_, [first, second]) => (first, second),
            _ => return internal_err!("{} takes two arguments", self.name()),
        };
        let values = first.to_array(args.number_rows)?;
        let column = name(second);
        let array = match self.kind {
            Kind::UtcMicros => utc_micros(&values, column)?,
            Kind::StartMicros => {
                let starts = utc_micros(&values, column)?;
                if starts.null_count() > 0 {
                    return Err(bad(column, "a time", "none"));
                }
                starts
            }
            Kind::PicoUsd => pico(&values, column)?,
            Kind::Whole => whole_numbers(&values, column)?,
            Kind::IdText => ids::texts(&values, column)?,
            Kind::Unread => return internal_err!("{column} is looked at, but was not read"),
            Kind::Needed if values.null_count() > 0 => {
                return Err(bad(column, "a value", "none"));
            }
            Kind::Needed
            | Kind::IdBits
            | Kind::Digest
            | Kind::PathText
            | Kind::FirstPathText
            | Kind::WholeEntries
            | Kind::PicoEntries
            | Kind::TierRank
            | Kind::AnyNotZero => values,
            Kind::RunBits => {
                let ids = second.to_array(args.number_rows)?;
                let column = args.arg_fields.get(1).map_or("", |field| field.name());
                Arc::new(ids::bits_of_runs(&values, &bytes(&ids)?, column)?)
            }
            Kind::RankedUp => ranked(&values, &second.to_array(args.number_rows)?, 0),
            Kind::RankedDown => ranked(&values, &second.to_array(args.number_rows)?, u64::MAX),
            Kind::AreApart => apart(&values, &second.to_array(args.number_rows)?),
            Kind::Member => in_utf8(json::members(&bytes(&values)?, column), &args)?,
            Kind::Texts => lists_of_texts(&values, column)?,
            Kind::TextOf => text_of_any(&values, column)?,
            Kind::JsonList => json_lists(&values)?,
            Kind::TraceOf => Arc::new(
                text(&values)?
                    .iter()
                    .map(|order| order.and_then(ids::first_of))
                    .collect::<StringViewArray>(),
            ),
            Kind::LocalDay => local_days(&values, column)?,
            Kind::Elapsed => elapsed(&values, &second.to_array(args.number_rows)?, 0),
            Kind::Difference => elapsed(&values, &second.to_array(args.number_rows)?, i64::MIN),
        };
        Ok(ColumnarValue::Array(array))
    }
}

const WORD_BITS: usize = u64::BITS as usize;

fn any_not_zero(columns: &[ArrayRef], n_rows: usize) -> Result<BooleanArray> {
    let mut any = vec![0; n_rows.div_ceil(WORD_BITS)];
    for column in columns {
        let Some(numbers) = column.as_primitive_opt::<Int64Type>() else {
            return internal_err!("{} where whole numbers are expected", column.data_type());
        };
        let are_there = numbers.nulls().map(|nulls| nulls.inner().bit_chunks());
        let mut are_there = are_there.as_ref().map(BitChunks::iter_padded);
        for (any, numbers) in any.iter_mut().zip(numbers.values().chunks(WORD_BITS)) {
            let are_there = are_there.as_mut().map_or(Some(u64::MAX), Iterator::next);
            let are_so = fastest!(word_of(numbers.iter().map(|number| *number != 0)));
            *any |= are_so & are_there.unwrap_or(0);
        }
    }
    let any = BooleanBuffer::new(Buffer::from_vec(any), 0, n_rows);
    Ok(BooleanArray::new(any, None))
}

/// Up to 64 bits, the first one lowest.
#[inline(always)]
#[expect(clippy::inline_always, reason = "it is in the midst of loops")]
fn word_of(bits: impl Iterator<Item = bool>) -> u64 {
    let bits = bits.enumerate();
    bits.fold(0, |all, (bit, is_set)| all | u64::from(is_set) << bit)
}

fn tier_ranks(tiers: &StringViewArray) -> Int8Array {
    const NO_RANK: i8 = 0;
    let known = [TraceTier::Shortlived, TraceTier::Longlived].map(|tier| {
        let name = StringViewArray::from(vec![tier.as_str()]);
        (
            name.views().first().copied().unwrap_or_default(),
            tier.rank(),
        )
    });
    // A name is so short that its view is all of it.
    let rank = |view: &u128| {
        let ranks = known
            .iter()
            .map(|(known, rank)| if known == view { *rank } else { NO_RANK });
        ranks.fold(NO_RANK, i8::max)
    };
    let ranks: Vec<i8> = tiers.views().iter().map(rank).collect();
    let are_known = ranks
        .chunks(WORD_BITS)
        .map(|ranks| fastest!(word_of(ranks.iter().map(|rank| *rank != NO_RANK))));
    let are_known: Vec<u64> = are_known.collect();
    let is_known = BooleanBuffer::new(Buffer::from_vec(are_known), 0, ranks.len());
    let nulls = NullBuffer::union(tiers.nulls(), Some(&NullBuffer::new(is_known)));
    Int8Array::new(ranks.into(), nulls)
}

/// The arguments of a function of two, where an expression is a call of it.
fn arguments_of(kind: Kind, expr: &Expr) -> Option<&[Expr; 2]> {
    let Expr::ScalarFunction(ScalarFunction { func, args }) = expr else {
        return None;
    };
    let function: &RunFunction = func.inner().downcast_ref()?;
    (function.kind == kind).then(|| args.as_array()).flatten()
}

/// Whether a function takes the texts of a column as their bytes, too, and sees itself whether they are
/// UTF-8.
pub(crate) fn takes_bytes(expr: &Arc<dyn PhysicalExpr>) -> bool {
    let Some(call) = expr.downcast_ref::<ScalarFunctionExpr>() else {
        return false;
    };
    let function: Option<&RunFunction> = call.fun().inner().downcast_ref();
    let is_plain = |arg: &Arc<dyn PhysicalExpr>| arg.is::<PhysicalColumn>() || arg.is::<Literal>();
    function.is_some_and(|function| function.kind == Kind::RunBits)
        && call.args().iter().all(is_plain)
}

/// The text that a literal argument is.
fn literal(argument: &ColumnarValue) -> Option<&str> {
    match argument {
        ColumnarValue::Scalar(ScalarValue::Utf8(text) | ScalarValue::Utf8View(text)) => {
            text.as_deref()
        }
        ColumnarValue::Scalar(_) | ColumnarValue::Array(_) => None,
    }
}

fn name(argument: &ColumnarValue) -> &str {
    literal(argument).unwrap_or_default()
}

fn utc_micros(values: &ArrayRef, column: &str) -> Result<ArrayRef> {
    const EXPECTED: &str = "a time";
    let unit = match values.data_type() {
        DataType::Timestamp(unit, _) => unit,
        DataType::Utf8View | DataType::Utf8 | DataType::LargeUtf8 => {
            let micros = text(values)?
                .iter()
                .map(|text| read_time(text, column))
                .collect::<Result<TimestampMicrosecondArray>>()?;
            return Ok(Arc::new(micros));
        }
        kind => return Err(bad(column, EXPECTED, format!("the type {kind}"))),
    };
    match unit {
        TimeUnit::Second => scaled_up::<TimestampSecondType>(values, 1_000_000, column),
        TimeUnit::Millisecond => scaled_up::<TimestampMillisecondType>(values, 1_000, column),
        TimeUnit::Microsecond => Ok(Arc::new(
            values
                .as_primitive::<TimestampMicrosecondType>()
                .clone()
                .with_timezone_opt(None::<Arc<str>>),
        )),
        TimeUnit::Nanosecond => {
            let nanos = values.as_primitive::<TimestampNanosecondType>();
            let micros: TimestampMicrosecondArray = nanos.unary(|ns| ns.div_euclid(1_000));
            Ok(Arc::new(micros))
        }
    }
}

/// An empty text is no time, as tools write it that know no nulls.
fn read_time(text: Option<&str>, column: &str) -> Result<Option<i64>> {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let time = time::parse_time(text.trim_matches('"'));
    time.map(Some)
        .ok_or_else(|| bad(column, "an ISO 8601 time", quoted(text)))
}

fn scaled_up<T: ArrowTimestampType>(
    values: &ArrayRef,
    factor: i64,
    column: &str,
) -> Result<ArrayRef> {
    let micros: TimestampMicrosecondArray = values.as_primitive::<T>().try_unary(|time| {
        time.checked_mul(factor)
            .ok_or_else(|| bad(column, "a time within 292 000 years of 1970", time))
    })?;
    Ok(Arc::new(micros))
}

fn pico(values: &ArrayRef, column: &str) -> Result<ArrayRef> {
    match values.data_type() {
        DataType::Float64 => from_floats(values.as_primitive::<Float64Type>(), column),
        DataType::Float32 => {
            let floats = compute::cast(values, &DataType::Float64)?;
            from_floats(floats.as_primitive::<Float64Type>(), column)
        }
        DataType::Decimal128(_, scale) => {
            let decimals = values.as_primitive::<Decimal128Type>();
            collect(decimals.iter().map(|value| {
                value
                    .map(|mantissa| {
                        money::pico_from_decimal(mantissa, *scale)
                            .map_err(|_| bad(column, A_COST, format!("{mantissa}e-{scale}")))
                    })
                    .transpose()
            }))
        }
        kind if kind.is_integer() => {
            let whole = compute::cast(values, &DataType::Int64)?;
            collect(whole.as_primitive::<Int64Type>().iter().map(|value| {
                value
                    .map(|dollars| {
                        money::pico_from_decimal(i128::from(dollars), 0)
                            .map_err(|_| bad(column, A_COST, dollars))
                    })
                    .transpose()
            }))
        }
        _ => collect(
            text(values)?
                .iter()
                .map(|value| value.map_or(Ok(None), |text| pico_of_text(text, column))),
        ),
    }
}

fn pico_of_text(text: &str, column: &str) -> Result<Option<i64>> {
    money::pico_from_text(text).map_err(|_| bad(column, A_COST, quoted(text)))
}

fn from_floats(values: &PrimitiveArray<Float64Type>, column: &str) -> Result<ArrayRef> {
    if let Some(pico) = money::picos_from_f64(values.values()) {
        return Ok(Arc::new(Int64Array::new(
            pico.into(),
            values.nulls().cloned(),
        )));
    }
    let mut pico = Vec::with_capacity(values.len());
    let mut no_numbers = Vec::new();
    for (row, dollars) in values.values().iter().enumerate() {
        pico.push(match money::pico_from_f64(*dollars) {
            Ok(Some(pico)) => pico,
            _ if values.is_null(row) => 0,
            Ok(None) => {
                no_numbers.push(row);
                0
            }
            Err(_) => return Err(bad(column, A_COST, dollars)),
        });
    }
    let mut nulls = values.nulls().cloned();
    if !no_numbers.is_empty() {
        let mut is_there = vec![true; pico.len()];
        for row in no_numbers {
            is_there[row] = false;
        }
        nulls = NullBuffer::union(nulls.as_ref(), Some(&NullBuffer::from(is_there)));
    }
    Ok(Arc::new(Int64Array::new(pico.into(), nulls)))
}

fn whole_numbers(values: &ArrayRef, column: &str) -> Result<ArrayRef> {
    match values.data_type() {
        DataType::Int64 => Ok(Arc::clone(values)),
        DataType::UInt64 => {
            let unsigned = values.as_primitive::<datafusion::arrow::datatypes::UInt64Type>();
            collect(unsigned.iter().map(|value| {
                value
                    .map(|number| {
                        i64::try_from(number).map_err(|_| bad(column, A_WHOLE_NUMBER, number))
                    })
                    .transpose()
            }))
        }
        kind if kind.is_integer() => Ok(compute::cast(values, &DataType::Int64)?),
        DataType::Float32 | DataType::Float64 => {
            let floats = compute::cast(values, &DataType::Float64)?;
            collect(floats.as_primitive::<Float64Type>().iter().map(|value| {
                let Some(number) = value.filter(|number| !number.is_nan()) else {
                    return Ok(None);
                };
                whole_float(number)
                    .map(Some)
                    .ok_or_else(|| bad(column, A_WHOLE_NUMBER, number))
            }))
        }
        kind => Err(bad(column, A_WHOLE_NUMBER, format!("the type {kind}"))),
    }
}

pub(super) fn whole_of_text(text: &str, column: &str) -> Result<Option<i64>> {
    whole_number(text)
        .map(Some)
        .ok_or_else(|| bad(column, A_WHOLE_NUMBER, quoted(text)))
}

/// The integer that a number's text stands for, if it stands for one.
pub(crate) fn whole_number(text: &str) -> Option<i64> {
    let of_float = || whole_float(text.parse().ok()?);
    text.parse().ok().or_else(of_float)
}

/// The integer that a double stands for, if it stands for one.
#[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
fn whole_float(number: f64) -> Option<i64> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    (number.fract() == 0.0 && (-LIMIT..LIMIT).contains(&number)).then_some(number as i64)
}

fn text_of_any(values: &ArrayRef, column: &str) -> Result<ArrayRef> {
    match values.data_type() {
        kind if kind.is_nested() || matches!(kind, DataType::FixedSizeBinary(_)) => {
            Err(bad(column, "a text", format!("the type {kind}")))
        }
        DataType::BinaryView => {
            let texts = values.as_binary_view().clone().to_string_view();
            Ok(Arc::new(texts.map_err(|_| not_utf8(column))?))
        }
        _ => Ok(Arc::new(text(values)?)),
    }
}

fn lists_of_texts(values: &ArrayRef, column: &str) -> Result<ArrayRef> {
    match values.data_type() {
        DataType::List(_) | DataType::LargeList(_) | DataType::ListView(_) => {
            Ok(compute::cast(values, &super::texts())?)
        }
        DataType::Utf8View | DataType::Utf8 | DataType::LargeUtf8 => {
            let mut lists = ListBuilder::new(StringViewBuilder::new());
            for json in &text(values)? {
                let list: Option<Vec<&RawValue>> =
                    json.and_then(|json| serde_json::from_str(json).ok());
                let texts = list
                    .iter()
                    .flatten()
                    .filter(|one| one.get().starts_with('"'));
                for one in texts.filter_map(|one| scalar_text(one)) {
                    lists.values().append_value(one);
                }
                lists.append(list.is_some());
            }
            Ok(Arc::new(lists.finish()))
        }
        kind => Err(bad(column, "a list of texts", format!("the type {kind}"))),
    }
}

fn json_lists(values: &ArrayRef) -> Result<ArrayRef> {
    let lists = compute::cast(values, &super::texts())?;
    let lists = lists.as_list::<i32>().iter();
    let texts = lists.map(|list| {
        let texts: Vec<Option<&str>> = list.as_ref()?.as_string_view().iter().collect();
        Some(serde_json::Value::from(texts).to_string())
    });
    Ok(Arc::new(texts.collect::<StringViewArray>()))
}

/// An odd number with bits all over.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

fn digests(values: &[ArrayRef], n_rows: usize) -> Result<Int64Array> {
    let mut digests = vec![0_u64; n_rows];
    // A column at a time: nulls leave no trace in a hash, and must leave one here.
    for column in values {
        let mut hashes = vec![0; n_rows];
        create_hashes([column], &RandomState::with_seed(1), &mut hashes)?;
        for (digest, hash) in digests.iter_mut().zip(hashes) {
            *digest = digest.rotate_left(7).wrapping_mul(MIX) ^ hash;
        }
    }
    let digests = digests.into_iter().map(u64::cast_signed);
    Ok(digests.collect::<Vec<_>>().into())
}

fn ranked(classes: &ArrayRef, digests: &ArrayRef, mask: u64) -> ArrayRef {
    let classes = classes.as_primitive::<Int64Type>().values().iter();
    let digests = digests.as_primitive::<Int64Type>().values().iter();
    let ranked = classes.zip(digests).map(|(class, digest)| {
        (i128::from(*class) << 64) | i128::from(digest.cast_unsigned() ^ mask)
    });
    let ranked: Decimal128Array = ranked.map(Some).collect();
    Arc::new(ranked.with_data_type(BITS))
}

fn apart(ups: &ArrayRef, downs: &ArrayRef) -> ArrayRef {
    const DIGEST: i128 = u64::MAX as i128;
    let ups = ups.as_primitive::<Decimal128Type>().values().iter();
    let downs = downs.as_primitive::<Decimal128Type>().values().iter();
    let apart = ups
        .zip(downs)
        .map(|(up, down)| Some((up ^ down) & DIGEST != DIGEST));
    Arc::new(apart.collect::<BooleanArray>())
}

/// Consecutive times mostly share a day, so the bounds of the last one are kept.
fn local_days(times: &ArrayRef, zone: &str) -> Result<ArrayRef> {
    let Ok(zone) = zone.parse::<Tz>() else {
        return internal_err!("{zone} is no zone");
    };
    let mut last: Option<(Range<i64>, i32)> = None;
    let days = times.as_primitive::<TimestampMicrosecondType>().iter();
    let days = days.map(|us| {
        let us = us?;
        if let Some((range, day)) = &last
            && range.contains(&us)
        {
            return Some(*day);
        }
        let day = DateTime::from_timestamp_micros(us)?
            .with_timezone(&zone)
            .date_naive();
        let bounds = time::midnight(day, zone)?..time::midnight(day.succ_opt()?, zone)?;
        let number = Date32Type::from_naive_date(day);
        last = Some((bounds, number));
        Some(number)
    });
    Ok(Arc::new(days.collect::<PrimitiveArray<Date32Type>>()))
}

fn elapsed(starts: &ArrayRef, ends: &ArrayRef, at_least_us: i64) -> ArrayRef {
    let starts = starts.as_primitive::<TimestampMicrosecondType>();
    let ends = ends.as_primitive::<TimestampMicrosecondType>();
    let (from, to) = (starts.values(), ends.values());
    let mut elapsed = Vec::with_capacity(from.len());
    let mut are_so = Vec::with_capacity(from.len().div_ceil(WORD_BITS));
    for (from, to) in from.chunks(WORD_BITS).zip(to.chunks(WORD_BITS)) {
        are_so.push(fastest!({
            let both = from.iter().zip(to);
            elapsed.extend(both.clone().map(|(from, to)| to.wrapping_sub(*from)));
            word_of(both.map(|(from, to)| {
                let us = to.wrapping_sub(*from);
                // Where it passes 64 bits, its sign is neither that of the one nor right.
                let is_within = (to ^ from) & (to ^ us) >= 0;
                let is_enough = us >= at_least_us;
                is_within & is_enough
            }))
        }));
    }
    let is_so = BooleanBuffer::new(Buffer::from_vec(are_so), 0, elapsed.len());
    let nulls = NullBuffer::union(starts.nulls(), ends.nulls());
    let nulls = NullBuffer::union(nulls.as_ref(), Some(&NullBuffer::new(is_so)));
    Arc::new(Int64Array::new(elapsed.into(), nulls))
}

fn text(values: &ArrayRef) -> Result<StringViewArray> {
    let views = compute::cast(values, &DataType::Utf8View)?;
    Ok(views.as_string_view().clone())
}

/// The bytes of texts.
fn bytes(values: &ArrayRef) -> Result<BinaryViewArray> {
    match values.as_binary_view_opt() {
        Some(bytes) => Ok(bytes.clone()),
        None => Ok(text(values)?.to_binary_view()),
    }
}

/// What was found in the texts of a function's first argument, which may not be UTF-8.
fn in_utf8(found: Result<ArrayRef>, args: &ScalarFunctionArgs) -> Result<ArrayRef> {
    found.map_err(|problem| match problem {
        DataFusionError::External(inner) if inner.is::<json::NotUtf8>() => {
            let column = args.arg_fields.first();
            not_utf8(column.map_or("", |column| column.name()))
        }
        problem => problem,
    })
}

fn not_utf8(column: &str) -> DataFusionError {
    bad(column, "a text in UTF-8", "other bytes")
}

fn collect<T>(values: impl Iterator<Item = Result<Option<T>>>) -> Result<ArrayRef>
where
    T: Into<<Int64Type as ArrowPrimitiveType>::Native>,
{
    let values: Int64Array = values
        .map(|value| value.map(|value| value.map(Into::into)))
        .collect::<Result<_>>()?;
    Ok(Arc::new(values))
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "what is found is made for the error"
)]
fn bad(column: &str, expected: &'static str, found: impl ToString) -> DataFusionError {
    DataFusionError::External(Box::new(ValueError {
        column: column.to_owned(),
        expected,
        found: found.to_string(),
    }))
}
