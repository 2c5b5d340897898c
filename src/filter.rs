//! The filter language: which runs count.
//!
//! In comes text such as `and(eq(run_type, "llm"), gt(latency, "5s"))`, out goes a [`Filter`], a tree
//! whose every comparison has a value that its field takes, or a [`FilterError`] that points at the
//! place. [`Filter::resolved`] turns the tree into what it means. Knows no columns and no files.
//!
//! Logic has two values. A comparison with a missing value is false, `eq(x, null)` is true where `x` is
//! missing, `neq(x, v)` is `not(eq(x, v))`.
//!
//! Texts stand in single or double quotes. A backslash begins an escape, in both: `\"`, `\'`, `\\`,
//! `\/`, `\b`, `\f`, `\n`, `\r`, `\t` and `\u0041`, as in JSON; any other is an error. Space is free
//! between words, and all words mind case.

mod build;
mod check;
mod error;
mod field;
mod parse;
mod print;
mod resolved;
#[cfg(test)]
mod tests;
mod value;

pub use error::FilterError;
pub use field::{Family, Field, Operator, Part, Subject};
pub use resolved::{Condition, Entry, Order, Test};
pub use value::{Number, Value, parse_duration};

use std::str::FromStr;

/// Which runs count: a tree of comparisons. What is printed can be parsed again, if it is at most 100
/// levels deep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    node: Node,
    span: Span,
}

/// What a filter asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// All of at least one.
    And(Vec<Filter>),
    /// Any of at least one.
    Or(Vec<Filter>),
    /// What the filter below does not keep.
    Not(Box<Filter>),
    /// A field and a value.
    Comparison(Comparison),
    /// A text, without minding case, in the name, the error, the inputs or the outputs.
    Search(String),
}

/// A field, an operator that it takes and a value that both take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    subject: Subject,
    operator: Operator,
    value: Value,
}

/// Where a filter stands in the text that it was parsed from, in bytes; empty where there was none. All
/// are equal, so that filters are equal wherever they come from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The first byte after it.
    pub end: usize,
}

impl PartialEq for Span {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Span {}

/// A comparison of a field with an operator or a value that it does not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} takes {expected}", subject.field.name())]
pub struct Mismatch {
    /// What was to be compared.
    pub subject: Subject,
    /// What it takes instead.
    pub expected: String,
}

impl Filter {
    /// Reads a filter.
    ///
    /// # Errors
    ///
    /// Where the text is no filter, an operator is none that its field takes, or a value is of the wrong
    /// type.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        parse::parse(text)
            .and_then(|term| check::filter(&term))
            .map_err(|problem| FilterError::new(problem, text))
    }

    /// What is asked for.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Where it stands in the text that it was parsed from.
    #[must_use]
    pub fn span(&self) -> Span {
        self.span
    }

    /// What the filter means, ready to be put into other words.
    #[must_use]
    pub fn resolved(&self) -> Condition {
        resolved::condition(self)
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        Self::parse(text)
    }
}

impl Comparison {
    /// A comparison that can be made. Ids that are UUIDs get their usual form.
    ///
    /// # Errors
    ///
    /// Where the field does not take the operator, or both do not take the value.
    pub fn new(
        subject: impl Into<Subject>,
        operator: Operator,
        value: Value,
    ) -> Result<Self, Mismatch> {
        let subject = subject.into();
        let value = value.normalized(subject.field);
        if !operator.takes(subject.field, &value) {
            let expected = operator.expected(subject.field);
            return Err(Mismatch { subject, expected });
        }
        Ok(Self {
            subject,
            operator,
            value,
        })
    }

    /// What is compared.
    #[must_use]
    pub fn subject(&self) -> Subject {
        self.subject
    }

    /// How it is compared.
    #[must_use]
    pub fn operator(&self) -> Operator {
        self.operator
    }

    /// What it is compared with.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.value
    }
}
