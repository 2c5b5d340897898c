//! Facets of runs: what each is found by, and how many are found by it.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, ListBuilder, StringViewArray, StringViewBuilder,
};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, internal_err};
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::{
    ColumnarValue, LogicalPlan, LogicalPlanBuilder, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility, ident, lit,
};

use crate::runs::{self, Column, functions};
use crate::tally::facets::METADATA;

/// The columns of runs that [`facets()`] reads.
pub(crate) const FACETED: &[Column] = &[
    Column::SessionId,
    Column::Name,
    Column::RunType,
    Column::Status,
    Column::Tags,
    Column::Metadata,
];

/// The columns of facets.
pub(crate) const FACET_KEY: &str = "@key";
pub(crate) const FACET_VALUE: &str = "@value";
pub(crate) const N_FACETS: &str = "@n";

/// The keys of the first of these, in that order.
const KEYS: [&str; 3] = ["name", "run_type", "status"];
const TAG: &str = "tag";

/// Runs → how many of each group have each facet: rows of the group, key, value and number, by group and
/// key, the most frequent first. Groups have the same values in some columns.
pub(crate) fn facets(runs: LogicalPlan, by: &[&str]) -> Result<LogicalPlan> {
    const ENTRY: &str = "@facet";
    let group = || by.iter().map(|column| ident(*column));
    let columns = FACETED.get(1..).unwrap_or_default();
    let columns = columns.iter().map(|column| ident(column.name()));
    let entries = Kind::Of.udf().call(columns.collect()).alias(ENTRY);
    let part = |kind: Kind| kind.udf().call(vec![ident(ENTRY)]);
    let found = [
        part(Kind::Key).alias(FACET_KEY),
        part(Kind::Value).alias(FACET_VALUE),
        ident(N_FACETS),
    ];
    let order = [
        ident(FACET_KEY).sort(true, false),
        ident(N_FACETS).sort(false, false),
        ident(FACET_VALUE).sort(true, false),
    ];
    LogicalPlanBuilder::new(runs)
        .project(group().chain([entries]))?
        .unnest_column(ENTRY)?
        .aggregate(
            group().chain([ident(ENTRY)]),
            [count(lit(1)).alias(N_FACETS)],
        )?
        .project(group().chain(found))?
        .sort(group().map(|column| column.sort(true, false)).chain(order))?
        .build()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    /// All facets of a run, each a JSON list of its key and its value.
    Of,
    /// The key of such a list.
    Key,
    /// Its value.
    Value,
}

impl Kind {
    fn udf(self) -> Arc<ScalarUDF> {
        Arc::new(ScalarUDF::new_from_impl(FacetFunction {
            kind: self,
            signature: Signature::variadic_any(Volatility::Immutable),
        }))
    }
}

/// The functions, for registration.
pub(crate) fn functions() -> [Arc<ScalarUDF>; 3] {
    [Kind::Of, Kind::Key, Kind::Value].map(Kind::udf)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct FacetFunction {
    kind: Kind,
    signature: Signature,
}

impl ScalarUDFImpl for FacetFunction {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Of => "facets_of",
            Kind::Key => "facet_key",
            Kind::Value => "facet_value",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.kind {
            Kind::Of => runs::texts(),
            Kind::Key | Kind::Value => DataType::Utf8View,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = args
            .args
            .iter()
            .map(|value| value.to_array(args.number_rows));
        let arrays = arrays.collect::<Result<Vec<_>>>()?;
        let result: ArrayRef = match (self.kind, arrays.as_slice()) {
            (Kind::Of, [name, run_type, status, tags, metadata]) => {
                facets_of([name, run_type, status], tags, metadata)
            }
            (Kind::Key, [entries]) => part_of(entries, 0),
            (Kind::Value, [entries]) => part_of(entries, 1),
            _ => return internal_err!("{} takes other arguments", self.name()),
        };
        Ok(ColumnarValue::Array(result))
    }
}

fn part_of(entries: &ArrayRef, part: usize) -> ArrayRef {
    let read = |entry: &str| {
        let parts: [String; 2] = serde_json::from_str(entry).ok()?;
        parts.into_iter().nth(part)
    };
    let entries = entries.as_string_view().iter();
    let parts: StringViewArray = entries.map(|entry| entry.and_then(read)).collect();
    Arc::new(parts)
}

fn facets_of(texts: [&ArrayRef; 3], tags: &ArrayRef, metadata: &ArrayRef) -> ArrayRef {
    let texts = texts.map(AsArray::as_string_view);
    let (tags, metadata) = (tags.as_list::<i32>(), metadata.as_string_view());
    let mut lists = ListBuilder::new(StringViewBuilder::new());
    for row in 0..metadata.len() {
        let mut add = |key: &str, value: &str| {
            let entry = serde_json::json!([key, value]).to_string();
            lists.values().append_value(entry);
        };
        for (key, column) in KEYS.iter().zip(texts) {
            if column.is_valid(row) {
                add(key, column.value(row));
            }
        }
        if tags.is_valid(row) {
            let tags = tags.value(row);
            // A run has a tag or has it not.
            let tags: BTreeSet<&str> = tags.as_string_view().iter().flatten().collect();
            for tag in tags {
                add(TAG, tag);
            }
        }
        if metadata.is_valid(row) {
            for (key, value) in functions::object(metadata.value(row)) {
                if let Some(value) = functions::scalar_text(value) {
                    add(&format!("{METADATA}{key}"), &value);
                }
            }
        }
        lists.append(true);
    }
    Arc::new(lists.finish())
}
