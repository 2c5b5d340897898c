//! Values that groups are made of, as functions of the engine: the span of time that a moment is in, the
//! class of an error, the labels that a run has several of.

use std::collections::BTreeSet;
use std::iter::repeat_n;
use std::sync::Arc;

use chrono::Weekday;
use chrono_tz::Tz;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListBuilder, StringViewArray,
    StringViewBuilder, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{DataType, Int64Type, TimestampMicrosecondType};
use datafusion::common::{DataFusionError, Result, ScalarValue, internal_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};

use super::matching;
use crate::request::Every;
use crate::runs::{self, functions};
use crate::tally::feedback::Feedback;

/// The first moment of the span of time that a canonical time is in.
pub(super) fn bucket(time: Expr, every: &Every) -> Expr {
    let (zone, week_start) = (every.zone().name(), every.week_start().to_string());
    let arguments = [lit(every.to_string()), lit(zone), lit(week_start)];
    let arguments = std::iter::once(time).chain(arguments);
    Kind::Bucket.udf().call(arguments.collect())
}

/// The text of an error before its first `:` or `(`.
pub(super) fn error_class(error: Expr) -> Expr {
    Kind::ErrorClass.udf().call(vec![error])
}

/// The different texts of a list, or one that is null where there is none.
pub(super) fn labels(texts: Expr) -> Expr {
    Kind::Labels.udf().call(vec![texts])
}

/// The labels that a run's feedback gives under a key; where it gives none, its mean score.
pub(super) fn feedback_labels(feedback: Expr, key: &str) -> Expr {
    Kind::FeedbackLabels.udf().call(vec![feedback, lit(key)])
}

/// The JSON text of a list of texts, from which it can be read again.
pub(super) fn list_text(texts: Expr) -> Expr {
    Kind::ListText.udf().call(vec![texts])
}

/// `scale` times a number over another, rounded half to even; null where that is not above zero.
pub(super) fn quotient(number: Expr, over: Expr, scale: i64) -> Expr {
    Kind::Quotient.udf().call(vec![number, over, lit(scale)])
}

/// Whether a text is there, is not blank, and is no JSON object.
pub(super) fn is_no_object(json: Expr) -> Expr {
    Kind::IsNoObject.udf().call(vec![json])
}

/// Whether a text is there and is no summaries of feedback.
pub(super) fn is_no_feedback(json: Expr) -> Expr {
    Kind::IsNoFeedback.udf().call(vec![json])
}

/// The functions, for registration.
pub(super) fn functions() -> [Arc<ScalarUDF>; 8] {
    [
        Kind::Bucket,
        Kind::ErrorClass,
        Kind::Labels,
        Kind::FeedbackLabels,
        Kind::ListText,
        Kind::Quotient,
        Kind::IsNoObject,
        Kind::IsNoFeedback,
    ]
    .map(Kind::udf)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Bucket,
    ErrorClass,
    Labels,
    FeedbackLabels,
    ListText,
    Quotient,
    IsNoObject,
    IsNoFeedback,
}

impl Kind {
    fn udf(self) -> Arc<ScalarUDF> {
        Arc::new(ScalarUDF::new_from_impl(GroupFunction {
            kind: self,
            signature: Signature::variadic_any(Volatility::Immutable),
        }))
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct GroupFunction {
    kind: Kind,
    signature: Signature,
}

impl ScalarUDFImpl for GroupFunction {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Bucket => "bucket",
            Kind::ErrorClass => "error_class",
            Kind::Labels => "labels",
            Kind::FeedbackLabels => "feedback_labels",
            Kind::ListText => "list_text",
            Kind::Quotient => "quotient",
            Kind::IsNoObject => "is_no_object",
            Kind::IsNoFeedback => "is_no_feedback",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.kind {
            Kind::Bucket => runs::TIME,
            Kind::ErrorClass | Kind::ListText => DataType::Utf8View,
            Kind::Labels | Kind::FeedbackLabels => runs::texts(),
            Kind::Quotient => DataType::Int64,
            Kind::IsNoObject | Kind::IsNoFeedback => DataType::Boolean,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some((values, parameters)) = args.args.split_first() else {
            return internal_err!("{} takes values", self.name());
        };
        let values = values.to_array(args.number_rows)?;
        let array = match (self.kind, parameters) {
            (Kind::Bucket, [unit, zone, week_start]) => {
                let every = every(literal(unit), literal(zone), literal(week_start))?;
                buckets(&values, &every)?
            }
            (Kind::ErrorClass, []) => error_classes(&values),
            (Kind::Labels, []) => distinct(&values),
            (Kind::FeedbackLabels, [key]) => labels_under(&values, literal(key)),
            (Kind::ListText, []) => texts_of_lists(&values),
            (Kind::Quotient, [over, scale]) => {
                let over = over.to_array(args.number_rows)?;
                quotients(&values, &over, scale)
            }
            (Kind::IsNoObject, []) => are(&values, |json| {
                let json = json.trim();
                !json.is_empty() && json != "null" && !functions::is_object(json)
            }),
            (Kind::IsNoFeedback, []) => are(&values, |json| {
                Feedback::default().add_summaries(json).is_err()
            }),
            _ => return internal_err!("{} takes other arguments", self.name()),
        };
        Ok(ColumnarValue::Array(array))
    }
}

/// Of which texts something holds.
fn are(texts: &ArrayRef, holds: impl Fn(&str) -> bool) -> ArrayRef {
    let texts = texts.as_string_view().iter();
    let holds = texts.map(|text| text.map(&holds));
    Arc::new(holds.collect::<BooleanArray>())
}

fn literal(parameter: &ColumnarValue) -> &str {
    match parameter {
        ColumnarValue::Scalar(
            ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)),
        ) => text,
        _ => "",
    }
}

fn every(unit: &str, zone: &str, week_start: &str) -> Result<Every> {
    let parsed = zone
        .parse::<Tz>()
        .ok()
        .zip(week_start.parse::<Weekday>().ok());
    let every = parsed.and_then(|(zone, week_start)| Every::parse(unit, zone, week_start).ok());
    every.map_or_else(|| internal_err!("{unit} in {zone} is no length"), Ok)
}

/// Moments mostly are of the span that the one before is of, else of one that was met before; these are
/// kept, in order.
fn buckets(times: &ArrayRef, every: &Every) -> Result<ArrayRef> {
    let mut met: Vec<(i64, i64)> = Vec::new();
    let (mut start, mut end) = (0, 0);
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let mut starts = Vec::with_capacity(times.len());
    while let Some(rest) = times.values().get(starts.len()..) {
        let n_same = rest.iter().position(|us| *us < start || *us >= end);
        starts.extend(repeat_n(start, n_same.unwrap_or(rest.len())));
        let Some(us) = n_same.and_then(|first_other| rest.get(first_other)) else {
            break;
        };
        if times.is_valid(starts.len()) {
            let after = met.partition_point(|(start, _)| start <= us);
            let before = after.checked_sub(1).and_then(|last| met.get(last));
            (start, end) = match before {
                Some((start, end)) if us < end => (*start, *end),
                _ => {
                    let span = every.bucket(*us).ok_or_else(|| unknown_time(*us))?;
                    met.insert(after, span);
                    span
                }
            };
        }
        starts.push(start);
    }
    let nulls = times.nulls().cloned();
    Ok(Arc::new(TimestampMicrosecondArray::new(
        starts.into(),
        nulls,
    )))
}

fn unknown_time(us: i64) -> DataFusionError {
    DataFusionError::Execution(format!(
        "column start_time: expected a time that a calendar knows, found {us} µs since 1970"
    ))
}

fn error_classes(errors: &ArrayRef) -> ArrayRef {
    let class = |error: &str| {
        let before = error.split([':', '(']).next().unwrap_or_default().trim();
        (!before.is_empty()).then(|| before.to_owned())
    };
    let errors = errors.as_string_view().iter();
    Arc::new(
        errors
            .map(|error| error.and_then(class))
            .collect::<StringViewArray>(),
    )
}

fn distinct(lists: &ArrayRef) -> ArrayRef {
    let mut labels = ListBuilder::new(StringViewBuilder::new());
    for texts in lists.as_list::<i32>().iter() {
        let texts = texts.as_ref().map(AsArray::as_string_view);
        append(
            &mut labels,
            texts.into_iter().flat_map(|texts| texts.iter().flatten()),
        );
    }
    Arc::new(labels.finish())
}

fn labels_under(feedback: &ArrayRef, key: &str) -> ArrayRef {
    let mut labels = ListBuilder::new(StringViewBuilder::new());
    for summaries in feedback.as_string_view() {
        let given = summaries.map(|json| matching::given_under(json, key));
        let given = given.unwrap_or_default();
        append(&mut labels, given.iter().map(String::as_str));
    }
    Arc::new(labels.finish())
}

/// Each text once; one that is null where there is none.
fn append<'a>(lists: &mut ListBuilder<StringViewBuilder>, texts: impl Iterator<Item = &'a str>) {
    let texts: BTreeSet<&str> = texts.collect();
    if texts.is_empty() {
        lists.values().append_null();
    }
    for text in texts {
        lists.values().append_value(text);
    }
    lists.append(true);
}

fn texts_of_lists(lists: &ArrayRef) -> ArrayRef {
    let text = |list: ArrayRef| {
        let texts: Vec<Option<&str>> = list.as_string_view().iter().collect();
        serde_json::to_string(&texts).ok()
    };
    let lists = lists.as_list::<i32>().iter();
    Arc::new(
        lists
            .map(|list| list.and_then(text))
            .collect::<StringViewArray>(),
    )
}

fn quotients(numbers: &ArrayRef, over: &ArrayRef, scale: &ColumnarValue) -> ArrayRef {
    let ColumnarValue::Scalar(ScalarValue::Int64(Some(scale))) = scale else {
        return Arc::new(Int64Array::new_null(numbers.len()));
    };
    let (numbers, over) = (
        numbers.as_primitive::<Int64Type>(),
        over.as_primitive::<Int64Type>(),
    );
    let quotient = |number: i64, over: i64| {
        let (number, over) = (i128::from(number) * i128::from(*scale), i128::from(over));
        if number < 0 || over <= 0 {
            return None;
        }
        let (whole, twice_rest) = (number / over, number % over * 2);
        let is_above = twice_rest > over || (twice_rest == over && whole % 2 == 1);
        i64::try_from(whole + i128::from(is_above)).ok()
    };
    let pairs = numbers.iter().zip(over);
    let quotients = pairs.map(|(number, over)| quotient(number?, over?));
    Arc::new(quotients.collect::<Int64Array>())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_moment_is_in_its_own_span(
            // Of runs that follow each other, of any, and of no time.
            starts in proptest::collection::vec((-1_000_000_000_000_i64..2_000_000_000_000, 0..90_i64), 1..30),
            nulls in proptest::collection::vec(proptest::bool::weighted(0.1), 1..50),
            unit in proptest::sample::select(vec!["1m", "1h", "1d", "1w", "1mo"]),
            zone in proptest::sample::select(vec![Tz::UTC, Tz::Europe__Berlin]),
        ) {
            let every = Every::parse(unit, zone, Weekday::Mon).unwrap();
            let times = starts.iter().flat_map(|(start, n)| (0..=*n).map(move |n| start + n * 7_000_000));
            let times = times.zip(nulls.iter().cycle()).map(|(us, is_null)| (!is_null).then_some(us));
            let times: TimestampMicrosecondArray = times.collect();
            let expected = times.iter().map(|us| us.map(|us| every.bucket(us).unwrap().0));
            let expected: TimestampMicrosecondArray = expected.collect();
            let found = buckets(&(Arc::new(times) as ArrayRef), &every).unwrap();
            prop_assert_eq!(found.as_primitive::<TimestampMicrosecondType>(), &expected);
        }
    }
}
