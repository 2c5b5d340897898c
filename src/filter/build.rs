//! Filters from plain flags and facts instead of text.

use super::{Comparison, Field, Filter, Mismatch, Node, Operator, Span, Subject, Value};

/// The metadata that names a run's model.
const MODEL_KEY: &str = "ls_model_name";
/// The metadata that names a run's user.
const USER_KEYS: [&str; 2] = ["user_id", "user"];

impl From<Comparison> for Filter {
    fn from(comparison: Comparison) -> Self {
        Self::of(Node::Comparison(comparison))
    }
}

impl Filter {
    /// All of these; `None` where there are none. As in text, a key binds the next value after it, in
    /// whichever filter that is.
    #[must_use]
    pub fn all(mut filters: Vec<Self>) -> Option<Self> {
        match filters.len() {
            0 | 1 => filters.pop(),
            _ => Some(Self::of(Node::And(filters))),
        }
    }

    /// Any of these; `None` where there are none.
    #[must_use]
    pub fn any(mut filters: Vec<Self>) -> Option<Self> {
        match filters.len() {
            0 | 1 => filters.pop(),
            _ => Some(Self::of(Node::Or(filters))),
        }
    }

    /// What this filter does not keep.
    #[must_use]
    pub fn negated(self) -> Self {
        Self::of(Node::Not(Box::new(self)))
    }

    /// A text, without minding case, in the name, the error, the inputs or the outputs.
    #[must_use]
    pub fn search(text: impl Into<String>) -> Self {
        Self::of(Node::Search(text.into()))
    }

    /// A field and a value.
    ///
    /// # Errors
    ///
    /// Where the field does not take the operator, or both do not take the value.
    pub fn compare(
        subject: impl Into<Subject>,
        operator: Operator,
        value: Value,
    ) -> Result<Self, Mismatch> {
        Comparison::new(subject, operator, value).map(Self::from)
    }

    /// Runs of a type: `llm`, `chain`, `tool`, …
    #[must_use]
    pub fn run_type(run_type: &str) -> Self {
        Self::equal(Field::RunType, Value::text(run_type))
    }

    /// Runs of a status: `success`, `error`, `pending`.
    #[must_use]
    pub fn status(status: &str) -> Self {
        Self::equal(Field::Status, Value::text(status))
    }

    /// Runs of a name.
    #[must_use]
    pub fn run_name(name: &str) -> Self {
        Self::equal(Field::Name, Value::text(name))
    }

    /// Runs that failed, or that did not.
    #[must_use]
    pub fn errored(errored: bool) -> Self {
        Self::equal(Field::Error, Value::Boolean(errored))
    }

    /// Runs with a tag.
    #[must_use]
    pub fn tag(tag: &str) -> Self {
        Self::known(Field::Tags, Operator::Has, Value::text(tag))
    }

    /// Runs with a value of their metadata.
    #[must_use]
    pub fn metadata(key: &str, value: &str) -> Self {
        Self::entry(Self::equal(Field::MetadataKey, Value::text(key)), value)
    }

    /// Runs of a model, by what their metadata says.
    #[must_use]
    pub fn model(model: &str) -> Self {
        Self::metadata(MODEL_KEY, model)
    }

    /// Runs of a user, by what their metadata says.
    #[must_use]
    pub fn user(user: &str) -> Self {
        let keys = USER_KEYS.into_iter().map(Value::text).collect();
        let key = Self::known(Field::MetadataKey, Operator::In, Value::List(keys));
        Self::entry(key, user)
    }

    /// Runs that took so many microseconds or more.
    #[must_use]
    pub fn min_latency(us: i64) -> Self {
        Self::known(Field::Latency, Operator::Gte, Value::Duration(us))
    }

    /// Runs that took so many microseconds or less.
    #[must_use]
    pub fn max_latency(us: i64) -> Self {
        Self::known(Field::Latency, Operator::Lte, Value::Duration(us))
    }

    fn entry(key: Self, value: &str) -> Self {
        let value = Self::equal(Field::MetadataValue, Value::text(value));
        Self::of(Node::And(vec![key, value]))
    }

    fn equal(field: Field, value: Value) -> Self {
        Self::known(field, Operator::Eq, value)
    }

    /// A comparison that is known to be one.
    fn known(field: Field, operator: Operator, value: Value) -> Self {
        debug_assert!(operator.takes(field, &value));
        Self::from(Comparison {
            subject: field.into(),
            operator,
            value,
        })
    }

    fn of(node: Node) -> Self {
        let span = Span::default();
        Self { node, span }
    }
}
