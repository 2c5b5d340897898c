//! The newest records of runs, as the places where they stand: a bit for each row of the files that may
//! repeat each other's runs.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, BooleanArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// How many places each file has: more than it has rows.
pub(in crate::source) const PLACES_A_FILE: i64 = 1 << 40;
/// What is added to the place of a record that has ended: it wins over all that have not.
pub(super) const ENDED: i64 = 1 << 62;

/// The places of the records that count.
#[derive(Debug, Default)]
pub(crate) struct Newest {
    /// The rows of each file, by the place of its first.
    files: BTreeMap<i64, Vec<u64>>,
}

impl Newest {
    /// Adds the rows of [`Files::newest`](crate::source::Files::newest).
    pub(crate) fn add(&mut self, batch: &RecordBatch) {
        for place in batch.column(0).as_primitive::<Int64Type>().iter().flatten() {
            self.insert(place & !ENDED);
        }
    }

    fn insert(&mut self, place: i64) {
        let row = place.rem_euclid(PLACES_A_FILE);
        let rows = self.files.entry(place - row).or_default();
        let (word, bit) = (usize::try_from(row >> 6).unwrap_or(usize::MAX), row & 63);
        if word >= rows.len() {
            rows.resize(word + 1, 0);
        }
        rows[word] |= 1 << bit;
    }

    /// Whether any record of the file that has this place counts.
    pub(in crate::source) fn has_any_of(&self, file: i64) -> bool {
        self.files.contains_key(&file)
    }

    /// Which of these places are those of records that count.
    fn contains(&self, places: &[i64]) -> BooleanArray {
        let mut held: (i64, &[u64]) = (-1, &[]);
        let is_newest = places.iter().map(|place| {
            let row = place.rem_euclid(PLACES_A_FILE);
            let file = place - row;
            if held.0 != file {
                held = (file, self.files.get(&file).map_or(&[], Vec::as_slice));
            }
            let word = usize::try_from(row >> 6)
                .ok()
                .and_then(|word| held.1.get(word));
            word.is_some_and(|word| word >> (row & 63) & 1 == 1)
        });
        BooleanArray::from(is_newest.collect::<Vec<_>>())
    }
}

/// Whether the record at a place counts.
pub(super) fn is_newest(newest: &Arc<Newest>, place: Expr) -> Expr {
    let function = IsNewest {
        newest: Arc::clone(newest),
        signature: Signature::exact(vec![DataType::Int64], Volatility::Immutable),
    };
    Arc::new(ScalarUDF::new_from_impl(function)).call(vec![place])
}

#[derive(Debug)]
struct IsNewest {
    newest: Arc<Newest>,
    signature: Signature,
}

impl PartialEq for IsNewest {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.newest, &other.newest)
    }
}

impl Eq for IsNewest {}

impl Hash for IsNewest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.newest).hash(state);
    }
}

impl ScalarUDFImpl for IsNewest {
    fn name(&self) -> &'static str {
        "is_newest"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType, DataFusionError> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [place] = args.args.as_slice() else {
            return internal_err!("is_newest takes a place");
        };
        let places = place.to_array(args.number_rows)?;
        let is_newest = self
            .newest
            .contains(places.as_primitive::<Int64Type>().values());
        Ok(ColumnarValue::Array(Arc::new(is_newest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_was_added() {
        let mut newest = Newest::default();
        let file = 3 * PLACES_A_FILE;
        for row in [0, 63, 64, 1_000_000] {
            newest.insert(file + row);
        }
        let places = [
            0,
            file,
            file + 1,
            file + 63,
            file + 64,
            file + 65,
            file + 1_000_000,
            file + 9_000_000,
        ];
        let expected = [false, true, false, true, true, false, true, false];
        assert_eq!(
            newest.contains(&places),
            BooleanArray::from(expected.to_vec())
        );
        assert!(newest.has_any_of(file) && !newest.has_any_of(0));
    }
}
