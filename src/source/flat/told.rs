//! What is told of texts as they are read: a page at a time, while it lies near the processor, and in memory
//! that then serves for the next one.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::buffer::Buffer;
use datafusion::arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::{ProjectionExpr, ProjectionExprs};
use datafusion::physical_expr::utils::collect_columns;

use crate::runs::functions::takes_bytes;

/// What is told of texts is copied where these are so many times as long.
const APART: usize = 4;

/// What is given of a column of texts in its stead.
#[derive(Debug)]
pub(super) struct Told {
    /// Of that column alone.
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    schema: SchemaRef,
}

impl Told {
    /// How the column's texts are read.
    pub(super) fn kind(&self) -> &DataType {
        self.schema.field(0).data_type()
    }

    /// So many columns are given.
    pub(super) fn n_columns(&self) -> usize {
        self.exprs.len()
    }

    /// Adds what is told of some texts to the parts of each column; the bytes that it takes.
    pub(super) fn tell(&self, texts: ArrayRef, parts: &mut [Vec<ArrayRef>]) -> Result<usize> {
        let texts = RecordBatch::try_new(Arc::clone(&self.schema), vec![texts])?;
        let mut n_bytes = 0;
        for (expr, parts) in self.exprs.iter().zip(parts) {
            let found = expr.evaluate(&texts)?;
            let found = apart(found.into_array(texts.num_rows())?);
            n_bytes += found.get_array_memory_size();
            parts.push(found);
        }
        Ok(n_bytes)
    }
}

/// Short texts out of long ones, which need not be kept for them.
fn apart(found: ArrayRef) -> ArrayRef {
    let Some(texts) = found.as_string_view_opt() else {
        return found;
    };
    let n_bytes: usize = texts.data_buffers().iter().map(Buffer::len).sum();
    if APART * texts.total_buffer_bytes_used() > n_bytes {
        return found;
    }
    Arc::new(texts.gc())
}

/// What is given of the columns that are read, and what becomes of it.
pub(super) struct Given {
    pub(super) schema: SchemaRef,
    pub(super) projection: ProjectionExprs,
    /// What is given instead of a column of the table.
    pub(super) told: BTreeMap<usize, Told>,
}

impl Given {
    /// Of what is to become of a table's columns. Of texts that nothing else needs is told what is asked;
    /// not of those that a condition looks at, which come before it.
    pub(super) fn new(
        projection: &ProjectionExprs,
        tested: &[usize],
        table: &Schema,
    ) -> Result<Self> {
        // The numbers of what is told of a column alone.
        let mut alone: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let mut others: Vec<usize> = tested.to_vec();
        for (number, projected) in projection.iter().enumerate() {
            let columns = collect_columns(&projected.expr);
            let mut columns = columns.iter().map(Column::index);
            match (columns.next(), columns.next()) {
                (Some(column), None) if !projected.expr.is::<Column>() => {
                    alone.entry(column).or_default().push(number);
                }
                (first, second) => others.extend(first.into_iter().chain(second).chain(columns)),
            }
        }
        alone.retain(|column, _| {
            let kind = table.field(*column).data_type();
            matches!(kind, DataType::Utf8View | DataType::BinaryView) && !others.contains(column)
        });
        let mut fields: Vec<FieldRef> = Vec::new();
        let mut told = BTreeMap::new();
        // Where the columns of the table are given, and what is told of others, by its number.
        let (mut places, mut told_places) = (BTreeMap::new(), BTreeMap::new());
        for column in projection.column_indices() {
            let Some(numbers) = alone.get(&column) else {
                places.insert(column, fields.len());
                fields.push(Arc::new(table.field(column).clone()));
                continue;
            };
            let asked = numbers
                .iter()
                .map(|number| (*number, &projection.as_ref()[*number].expr));
            let mut only = table.field(column).clone();
            if asked.clone().all(|(_, expr)| takes_bytes(expr)) {
                only.set_data_type(DataType::BinaryView);
            }
            let mut exprs = Vec::new();
            for (number, expr) in asked {
                told_places.insert(number, fields.len());
                fields.push(expr.return_field(table)?);
                exprs.push(moved(Arc::clone(expr), &BTreeMap::from([(column, 0)]))?);
            }
            let schema = Arc::new(Schema::new(vec![only]));
            told.insert(column, Told { exprs, schema });
        }
        let exprs = projection.iter().enumerate().map(|(number, projected)| {
            let expr = match told_places.get(&number) {
                Some(place) => Arc::new(Column::new(&projected.alias, *place)),
                None => moved(Arc::clone(&projected.expr), &places)?,
            };
            Ok(ProjectionExpr::new(expr, &projected.alias))
        });
        Ok(Self {
            projection: ProjectionExprs::new(exprs.collect::<Result<Vec<_>>>()?),
            schema: Arc::new(Schema::new_with_metadata(fields, table.metadata().clone())),
            told,
        })
    }
}

/// The same of columns that are at other places.
fn moved(
    expr: Arc<dyn PhysicalExpr>,
    places: &BTreeMap<usize, usize>,
) -> Result<Arc<dyn PhysicalExpr>> {
    let moved = expr.transform(|expr| {
        let column = expr.downcast_ref::<Column>();
        let place = column.and_then(|column| Some((column.name(), places.get(&column.index())?)));
        Ok(match place {
            Some((name, place)) => {
                Transformed::yes(Arc::new(Column::new(name, *place)) as Arc<dyn PhysicalExpr>)
            }
            None => Transformed::no(expr),
        })
    });
    moved.map(|moved| moved.data)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use datafusion::arrow::array::{Array, BinaryViewArray, Int64Array, StringViewArray};
    use datafusion::arrow::compute::concat;
    use datafusion::arrow::datatypes::Field;
    use datafusion::common::{DFSchema, ScalarValue};
    use datafusion::logical_expr::{Expr, ident, lit};
    use datafusion::prelude::SessionContext;
    use proptest::prelude::*;

    use super::*;
    use crate::runs::functions::{first_path_text, run_bits};

    type Row = (Option<String>, Option<String>, Option<i64>);

    fn table(rows: &[Row]) -> RecordBatch {
        let ids: StringViewArray = rows.iter().map(|row| row.0.as_deref()).collect();
        let extras = rows.iter().map(|row| row.1.as_deref().map(str::as_bytes));
        let extras: BinaryViewArray = extras.collect();
        let numbers: Int64Array = rows.iter().map(|row| row.2).collect();
        let schema = Schema::new(vec![
            Field::new("id", DataType::Utf8View, true),
            Field::new("extra", DataType::BinaryView, true),
            Field::new("number", DataType::Int64, true),
        ]);
        let columns: [ArrayRef; 3] = [Arc::new(ids), Arc::new(extras), Arc::new(numbers)];
        RecordBatch::try_new(Arc::new(schema), columns.into()).unwrap()
    }

    fn projection(exprs: &[Expr], schema: &Schema) -> ProjectionExprs {
        let named = DFSchema::try_from(schema.clone()).unwrap();
        let exprs = exprs.iter().enumerate().map(|(number, expr)| {
            let expr = SessionContext::new().create_physical_expr(expr.clone(), &named);
            ProjectionExpr::new(expr.unwrap(), format!("column {number}"))
        });
        ProjectionExprs::new(exprs)
    }

    fn bits() -> Expr {
        run_bits(
            lit(ScalarValue::Utf8View(Some("project".to_owned()))),
            ident("id"),
        )
    }

    fn member(name: &str) -> Expr {
        first_path_text(ident("extra"), &[name])
    }

    /// The columns that something is told of, with how they are read.
    fn told(exprs: &[Expr], tested: &[usize]) -> Vec<(usize, DataType, usize)> {
        let schema = table(&[]).schema();
        let given = Given::new(&projection(exprs, &schema), tested, &schema).unwrap();
        let told = given.told.iter();
        told.map(|(column, told)| (*column, told.kind().clone(), told.n_columns()))
            .collect()
    }

    #[test]
    fn of_texts_that_nothing_else_needs_is_told_what_is_asked() {
        use DataType::{BinaryView, Utf8View};
        assert_eq!(
            told(&[bits(), member("a")], &[]),
            [(0, BinaryView, 1), (1, BinaryView, 1)]
        );
        assert_eq!(told(&[member("a"), member("b")], &[]), [(1, BinaryView, 2)]);
        // A condition looks at it, it is given itself, it is compared with another.
        assert_eq!(told(&[bits(), member("a")], &[1]), [(0, BinaryView, 1)]);
        assert_eq!(told(&[bits(), ident("id")], &[]), []);
        assert_eq!(told(&[bits(), ident("id").eq(member("a"))], &[]), []);
        // What takes no bytes is given texts.
        assert_eq!(
            told(&[bits(), ident("id").is_null()], &[]),
            [(0, Utf8View, 2)]
        );
        assert_eq!(told(&[ident("number").is_null()], &[]), []);
    }

    #[test]
    fn long_texts_are_kept_for_long_ones_alone() {
        let long = "x".repeat(10_000);
        let extra = format!(r#"{{"short": "more than a view", "long": "{long}"}}"#);
        let table = table(&vec![(None, Some(extra), None); 9]);
        let n_bytes = |name: &str| {
            let projection = projection(&[member(name)], &table.schema());
            let given = Given::new(&projection, &[], &table.schema()).unwrap();
            let mut parts = [Vec::new()];
            let texts = Arc::clone(table.column(1));
            let n_bytes = given.told.get(&1).unwrap().tell(texts, &mut parts).unwrap();
            assert_eq!(n_bytes, parts[0][0].get_array_memory_size());
            n_bytes
        };
        assert!(n_bytes("long") > 9 * long.len());
        assert!(n_bytes("short") < long.len());
    }

    proptest! {
        #[test]
        fn what_is_told_by_parts_is_what_would_be_of_all(
            rows in proptest::collection::vec(
                (
                    proptest::option::of(prop_oneof![
                        any::<u128>().prop_map(|bits| uuid::Uuid::from_u128(bits).to_string()),
                        "|run é|run [0-9]",
                    ]),
                    proptest::option::of(prop_oneof![
                        "[a-z]{0,30}".prop_map(|text| format!(r#"{{"a": "{text}", "c": "{}"}}"#, "-".repeat(200))),
                        Just(r#"{"a": 1, "b": "a text that a view does not hold"}"#.to_owned()),
                        Just("no JSON".to_owned()),
                    ]),
                    any::<Option<i64>>(),
                ),
                1..60,
            ),
            n in 1..30_usize,
        ) {
            let exprs = [ident("number"), member("a"), bits(), member("b"), ident("number").is_null()];
            let table = table(&rows);
            let projection = projection(&exprs, &table.schema());
            let expected = projection.make_projector(&table.schema()).unwrap();
            let expected = expected.project_batch(&table).unwrap();

            let given = Given::new(&projection, &[], &table.schema()).unwrap();
            let columns = projection.column_indices().into_iter().flat_map(|column| {
                let whole = table.column(column);
                let Some(told) = given.told.get(&column) else {
                    return vec![Arc::clone(whole)];
                };
                let whole = datafusion::arrow::compute::cast(whole, told.kind()).unwrap();
                let mut parts = vec![Vec::new(); told.n_columns()];
                for first in (0..whole.len()).step_by(n) {
                    told.tell(whole.slice(first, n.min(whole.len() - first)), &mut parts).unwrap();
                }
                let joined = parts.iter().map(|parts| {
                    let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
                    concat(&parts).unwrap()
                });
                joined.collect()
            });
            let rows = RecordBatch::try_new(Arc::clone(&given.schema), columns.collect()).unwrap();
            let projector = given.projection.make_projector(&given.schema).unwrap();
            prop_assert_eq!(projector.project_batch(&rows).unwrap(), expected);
        }
    }
}
