//! Texts that come again and again, such as a project's id, and a number for each: rows are grouped by
//! numbers faster than by texts.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringViewArray, UInt32Array};
use datafusion::arrow::datatypes::{DataType, UInt32Type};
use datafusion::common::{HashMap, Result, internal_err, resources_datafusion_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// The numbers of texts, in the order in which these came first.
#[derive(Clone, Debug, Default)]
pub(super) struct Numbered(Arc<Mutex<Texts>>);

#[derive(Debug, Default)]
struct Texts {
    numbers: HashMap<String, u32>,
    texts: Vec<String>,
}

impl Numbered {
    /// The number of a text; null of none.
    pub(super) fn number(&self, text: Expr) -> Expr {
        self.function(Kind::Number).call(vec![text])
    }

    /// The text of a number.
    pub(super) fn text(&self, number: Expr) -> Expr {
        self.function(Kind::Text).call(vec![number])
    }

    fn function(&self, kind: Kind) -> ScalarUDF {
        let takes = match kind {
            Kind::Number => DataType::Utf8View,
            Kind::Text => DataType::UInt32,
        };
        ScalarUDF::new_from_impl(NumberedText {
            all: self.clone(),
            kind,
            signature: Signature::exact(vec![takes], Volatility::Immutable),
        })
    }

    fn numbers_of(&self, texts: &StringViewArray) -> Result<UInt32Array> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut numbers = Vec::with_capacity(texts.len());
        // Rows that follow each other mostly share a view.
        for views in texts.views().chunk_by(|one, next| one == next) {
            let n = views.len();
            let mut rows = numbers.len()..numbers.len() + n;
            let number = match rows.find(|row| texts.is_valid(*row)) {
                Some(row) => all.number_of(texts.value(row))?,
                None => 0,
            };
            numbers.extend(std::iter::repeat_n(number, n));
        }
        Ok(UInt32Array::new(numbers.into(), texts.nulls().cloned()))
    }

    fn texts_of(&self, numbers: &UInt32Array) -> StringViewArray {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = |number: u32| all.texts.get(number as usize).map(String::as_str);
        numbers.iter().map(|number| text(number?)).collect()
    }
}

impl Texts {
    fn number_of(&mut self, text: &str) -> Result<u32> {
        if let Some(number) = self.numbers.get(text) {
            return Ok(*number);
        }
        let number = u32::try_from(self.texts.len());
        let number = number.map_err(|_| resources_datafusion_err!("texts beyond 32 bits"))?;
        self.numbers.insert(text.to_owned(), number);
        self.texts.push(text.to_owned());
        Ok(number)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Number,
    Text,
}

#[derive(Debug)]
struct NumberedText {
    all: Numbered,
    kind: Kind,
    signature: Signature,
}

impl PartialEq for NumberedText {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.all.0, &other.all.0) && self.kind == other.kind
    }
}

impl Eq for NumberedText {}

impl Hash for NumberedText {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.all.0).hash(state);
        self.kind.hash(state);
    }
}

impl ScalarUDFImpl for NumberedText {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Number => "number_of",
            Kind::Text => "text_of_number",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.kind {
            Kind::Number => DataType::UInt32,
            Kind::Text => DataType::Utf8View,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [values] = args.args.as_slice() else {
            return internal_err!("{} takes one column", self.name());
        };
        let values = values.to_array(args.number_rows)?;
        let found: ArrayRef = match self.kind {
            Kind::Number => Arc::new(self.all.numbers_of(values.as_string_view())?),
            Kind::Text => Arc::new(self.all.texts_of(values.as_primitive::<UInt32Type>())),
        };
        Ok(ColumnarValue::Array(found))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn texts_have_one_number_each(
            batches in proptest::collection::vec(
                proptest::collection::vec(prop::option::of("a{0,3}|b{11,14}"), 0..40), 0..5,
            ),
        ) {
            let all = Numbered::default();
            let mut known = std::collections::BTreeMap::new();
            for texts in batches {
                let array: StringViewArray = texts.iter().map(Option::as_deref).collect();
                let numbers = all.numbers_of(&array).unwrap();
                prop_assert_eq!(all.texts_of(&numbers), array);
                for (text, number) in texts.iter().zip(&numbers) {
                    if let Some(text) = text {
                        let before = *known.entry(text.clone()).or_insert(number);
                        prop_assert_eq!(number, before);
                    } else {
                        prop_assert_eq!(number, None);
                    }
                }
            }
            let numbers: std::collections::BTreeSet<_> = known.values().collect();
            prop_assert_eq!(numbers.len(), known.len());
        }
    }
}
