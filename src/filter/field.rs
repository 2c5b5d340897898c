//! Fields, operators, and which values they take.

use std::fmt;

use super::Value;

macro_rules! words {
    ($(#[$meta:meta])* $type:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $type { $($(#[$doc])* $variant,)+ }

        impl $type {
            /// All that there are.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word of the language.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// The one with this name.
            #[must_use]
            pub fn named(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.name() == word)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

words! {
    /// What a run is asked for.
    Field {
        /// The run's id.
        Id = "id",
        /// The run's name.
        Name = "name",
        /// `llm`, `chain`, `tool`, …
        RunType = "run_type",
        /// `success`, `error`, `pending`.
        Status = "status",
        /// The id of its trace.
        TraceId = "trace_id",
        /// The id of the run that called it.
        ParentRunId = "parent_run_id",
        /// The id of its project.
        SessionId = "session_id",
        /// The id of the example that it was run on.
        ReferenceExampleId = "reference_example_id",
        /// The conversation: metadata `session_id`, `thread_id` or `conversation_id`, the first present.
        ThreadId = "thread_id",
        /// When it began.
        StartTime = "start_time",
        /// When it ended.
        EndTime = "end_time",
        /// From its start to its end.
        Latency = "latency",
        /// From its start to its first token.
        FirstToken = "first_token",
        /// Tokens, input and output.
        TotalTokens = "total_tokens",
        /// Input tokens.
        PromptTokens = "prompt_tokens",
        /// Output tokens.
        CompletionTokens = "completion_tokens",
        /// Cost of input and output.
        TotalCost = "total_cost",
        /// Cost of the input.
        PromptCost = "prompt_cost",
        /// Cost of the output.
        CompletionCost = "completion_cost",
        /// With `true`, `false` and `null`: whether it failed. Else the text of its error.
        Error = "error",
        /// Whether it stands for its trace.
        IsRoot = "is_root",
        /// 1 where it stands for its trace. Nothing else is known of it, so nothing else can be asked.
        ExecutionOrder = "execution_order",
        /// Its tags; missing where it has none.
        Tags = "tags",
        /// Its metadata, an object; missing where it has no entry.
        Metadata = "metadata",
        /// The key of an entry of its metadata, of the top level.
        MetadataKey = "metadata_key",
        /// The value of an entry of its metadata.
        MetadataValue = "metadata_value",
        /// The key of a feedback.
        FeedbackKey = "feedback_key",
        /// The score of a feedback.
        FeedbackScore = "feedback_score",
        /// The label of a feedback.
        FeedbackValue = "feedback_value",
        /// A path into the inputs, its steps (keys, places in lists) joined by dots.
        InputKey = "input_key",
        /// What is at a path of the inputs.
        InputValue = "input_value",
        /// A path into the outputs, likewise.
        OutputKey = "output_key",
        /// What is at a path of the outputs.
        OutputValue = "output_value",
    }
}

words! {
    /// How a field and a value are compared.
    Operator {
        /// Equal.
        Eq = "eq",
        /// Not equal; true where the field is missing.
        Neq = "neq",
        /// Greater.
        Gt = "gt",
        /// Greater or equal.
        Gte = "gte",
        /// Less.
        Lt = "lt",
        /// Less or equal.
        Lte = "lte",
        /// A tag among the tags; all entries of an object among the metadata.
        Has = "has",
        /// A text within a text, without minding case.
        Search = "search",
        /// A pattern: `%` stands for any text, `_` for any one character; it minds case and knows no
        /// escapes.
        Like = "like",
        /// Equal to any of a list.
        In = "in",
    }
}

/// A field of the run itself, or of its trace's root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    /// The field.
    pub field: Field,
    /// Whether it is the root's.
    pub of_root: bool,
}

impl From<Field> for Subject {
    fn from(field: Field) -> Self {
        Self {
            field,
            of_root: false,
        }
    }
}

/// Things of which a run has several, each with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Entries of its metadata.
    Metadata,
    /// Its feedback.
    Feedback,
    /// Paths of its inputs.
    Input,
    /// Paths of its outputs.
    Output,
}

/// A part of one of these things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// What it is called.
    Key,
    /// What it is.
    Value,
    /// What it is as a number, of feedback alone.
    Score,
}

/// What values a field has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Id,
    Text,
    Time,
    Duration,
    Number,
    Cost,
    Error,
    Flag,
    One,
    Tags,
    Object,
    /// A text, number or boolean of a JSON.
    Scalar,
}

impl Field {
    /// The things that it is a part of, and the part.
    #[must_use]
    pub const fn family(self) -> Option<(Family, Part)> {
        Some(match self {
            Self::MetadataKey => (Family::Metadata, Part::Key),
            Self::MetadataValue => (Family::Metadata, Part::Value),
            Self::FeedbackKey => (Family::Feedback, Part::Key),
            Self::FeedbackScore => (Family::Feedback, Part::Score),
            Self::FeedbackValue => (Family::Feedback, Part::Value),
            Self::InputKey => (Family::Input, Part::Key),
            Self::InputValue => (Family::Input, Part::Value),
            Self::OutputKey => (Family::Output, Part::Key),
            Self::OutputValue => (Family::Output, Part::Value),
            _ => return None,
        })
    }

    /// What values it has.
    pub(super) const fn kind(self) -> Kind {
        match self {
            Self::Id
            | Self::TraceId
            | Self::ParentRunId
            | Self::SessionId
            | Self::ReferenceExampleId => Kind::Id,
            Self::Name
            | Self::RunType
            | Self::Status
            | Self::ThreadId
            | Self::MetadataKey
            | Self::FeedbackKey
            | Self::InputKey
            | Self::OutputKey => Kind::Text,
            Self::StartTime | Self::EndTime => Kind::Time,
            Self::Latency | Self::FirstToken => Kind::Duration,
            Self::TotalTokens
            | Self::PromptTokens
            | Self::CompletionTokens
            | Self::FeedbackScore => Kind::Number,
            Self::TotalCost | Self::PromptCost | Self::CompletionCost => Kind::Cost,
            Self::Error => Kind::Error,
            Self::IsRoot => Kind::Flag,
            Self::ExecutionOrder => Kind::One,
            Self::Tags => Kind::Tags,
            Self::Metadata => Kind::Object,
            Self::MetadataValue | Self::FeedbackValue | Self::InputValue | Self::OutputValue => {
                Kind::Scalar
            }
        }
    }

    /// The operators that it takes.
    #[must_use]
    pub const fn operators(self) -> &'static [Operator] {
        use Operator::{Eq, Gt, Gte, Has, In, Like, Lt, Lte, Neq, Search};
        match self.kind() {
            Kind::Id => &[Eq, Neq, In],
            Kind::Text => &[Eq, Neq, In, Like, Search],
            Kind::Time | Kind::Duration | Kind::Number | Kind::Cost => {
                &[Eq, Neq, Gt, Gte, Lt, Lte, In]
            }
            Kind::Error => &[Eq, Neq, Like, Search],
            Kind::Flag | Kind::One => &[Eq, Neq],
            Kind::Tags => &[Has, In, Eq, Neq],
            Kind::Object => &[Has, Eq, Neq],
            Kind::Scalar => &[Eq, Neq, Gt, Gte, Lt, Lte, In, Like, Search],
        }
    }
}

impl Operator {
    /// Whether it compares a field with a value.
    pub(super) fn takes(self, field: Field, value: &Value) -> bool {
        field.operators().contains(&self)
            && match self {
                Self::Eq | Self::Neq => equals(field.kind(), value),
                Self::Gt | Self::Gte | Self::Lt | Self::Lte => match field.kind() {
                    Kind::Scalar => matches!(value, Value::Number(_)),
                    kind => is_one(kind, value),
                },
                Self::Has => match value {
                    Value::Text(_) => field.kind() == Kind::Tags,
                    Value::Object(object) => field.kind() == Kind::Object && !object.is_empty(),
                    _ => false,
                },
                Self::Search | Self::Like => matches!(value, Value::Text(_)),
                Self::In => match value {
                    Value::List(list) => list.iter().all(|value| is_one(field.kind(), value)),
                    _ => false,
                },
            }
    }

    /// The values with which it compares a field, in words.
    pub(super) fn expected(self, field: Field) -> String {
        if !field.operators().contains(&self) {
            return operators_in_words(field);
        }
        let kind = field.kind();
        match (self, kind) {
            (Self::Has, Kind::Object) => {
                r#"a JSON object in quotes such as '{"user": "u1"}'"#.to_owned()
            }
            (Self::Search | Self::Like | Self::Has, _) => "a text in quotes".to_owned(),
            (Self::In, _) => format!("a list such as {}", example_list(kind)),
            (Self::Eq | Self::Neq, Kind::Tags | Kind::Object) => "null".to_owned(),
            (Self::Eq | Self::Neq, Kind::Error) => "true, false, null or a text".to_owned(),
            (Self::Eq | Self::Neq, Kind::Flag | Kind::One) => one(kind).to_owned(),
            (Self::Eq | Self::Neq, _) => format!("{} or null", one(kind)),
            (_, Kind::Scalar) => "a number".to_owned(),
            _ => one(kind).to_owned(),
        }
    }
}

/// The operators of a field, as a list.
pub(super) fn operators_in_words(field: Field) -> String {
    let words: Vec<&str> = field.operators().iter().map(|one| one.name()).collect();
    match words.split_last() {
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => String::new(),
    }
}

fn equals(kind: Kind, value: &Value) -> bool {
    match kind {
        Kind::Flag | Kind::One => is_one(kind, value),
        Kind::Tags | Kind::Object => *value == Value::Null,
        _ => *value == Value::Null || is_one(kind, value),
    }
}

/// Whether a value, other than null and lists, is one that a field can have.
fn is_one(kind: Kind, value: &Value) -> bool {
    match value {
        Value::Text(_) => matches!(
            kind,
            Kind::Id | Kind::Text | Kind::Error | Kind::Tags | Kind::Scalar
        ),
        Value::Boolean(_) => matches!(kind, Kind::Error | Kind::Flag | Kind::Scalar),
        Value::Number(number) => match kind {
            Kind::One => *number == 1.into(),
            _ => matches!(kind, Kind::Number | Kind::Scalar),
        },
        Value::Cost(_) => kind == Kind::Cost,
        Value::Time(us) => kind == Kind::Time && super::value::is_printable(*us),
        Value::Duration(_) => kind == Kind::Duration,
        Value::Null | Value::List(_) | Value::Object(_) => false,
    }
}

fn one(kind: Kind) -> &'static str {
    match kind {
        Kind::Id | Kind::Text | Kind::Error | Kind::Tags | Kind::Object => "a text in quotes",
        Kind::Time => r#"a time such as "2026-10-01T12:00:00Z""#,
        Kind::Duration => r#"a number of seconds or a text such as "300ms""#,
        Kind::Number => "a number",
        Kind::Cost => "a number of dollars",
        Kind::Flag => "true or false",
        Kind::One => "1, which the root has, and nothing else",
        Kind::Scalar => "a text in quotes, a number, true, false",
    }
}

fn example_list(kind: Kind) -> &'static str {
    match kind {
        Kind::Time => r#"["2026-10-01T12:00:00Z"]"#,
        Kind::Duration => r#"["300ms", 5]"#,
        Kind::Number | Kind::Cost => "[1, 2.5]",
        _ => r#"["a", "b"]"#,
    }
}
