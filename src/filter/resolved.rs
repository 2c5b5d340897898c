//! The tree → what it means: nested `and`s are one, keys are bound to values, `neq` is a negated `eq`,
//! and words that say the same are the same.

use serde_json::Map;

use super::{Comparison, Family, Field, Filter, Node, Operator, Part, Subject, Value};

/// What a filter means. Two-valued: a test of a missing value is false, whatever stands around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// All of these.
    All(Vec<Condition>),
    /// Any of these.
    Any(Vec<Condition>),
    /// Not this.
    Not(Box<Condition>),
    /// The value of a field; never one of a [`Family`], and never `execution_order`. The `error` equals
    /// true or false, which say whether the run failed, or is a text. Of the `tags` any one.
    Field(Subject, Test),
    /// There is one entry that satisfies this.
    Entry(Entry),
    /// A text, without minding case, in the name, the error, the inputs or the outputs.
    Search(String),
}

impl Condition {
    /// Whether it speaks of the trace's root.
    #[must_use]
    pub fn speaks_of_root(&self) -> bool {
        match self {
            Self::All(members) | Self::Any(members) => members.iter().any(Self::speaks_of_root),
            Self::Not(inner) => inner.speaks_of_root(),
            Self::Field(subject, _) => subject.of_root,
            Self::Entry(entry) => entry.of_root,
            Self::Search(_) => false,
        }
    }
}

/// What one entry must be: one of the metadata, a feedback, a path of the inputs or outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Entries of what.
    pub family: Family,
    /// Whether the root's are meant.
    pub of_root: bool,
    /// What its key must be.
    pub key: Option<Test>,
    /// What its value or its score must be.
    pub value: Option<(Part, Test)>,
}

/// What a value must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// It is there.
    Present,
    /// It equals this, which is no null.
    Equals(Value),
    /// It is before or after this.
    Compared(Order, Value),
    /// It equals any of these.
    OneOf(Vec<Value>),
    /// Each of these entries is in it, with an equal value: objects need to hold the given entries, and
    /// so on, all else must be equal, numbers by their value.
    Contains(Map<String, serde_json::Value>),
    /// It matches this pattern, see [`Operator::Like`].
    Like(String),
    /// It has this text somewhere, without minding case (both in lower case, as Unicode has it).
    Search(String),
    /// It is not so, or missing. Within an [`Entry`] only: elsewhere the condition is negated.
    Not(Box<Test>),
}

/// How a value stands to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Above it.
    Greater,
    /// Above it or equal.
    GreaterOrEqual,
    /// Below it.
    Less,
    /// Below it or equal.
    LessOrEqual,
}

/// What a filter means.
pub(super) fn condition(filter: &Filter) -> Condition {
    match &filter.node {
        Node::Or(members) => Condition::Any(members.iter().map(condition).collect()),
        Node::Not(inner) => Condition::Not(Box::new(condition(inner))),
        Node::Search(text) => Condition::Search(text.clone()),
        Node::And(_) | Node::Comparison(_) => {
            let mut members = Vec::new();
            flatten(filter, &mut members);
            let mut conditions = bound(&members);
            match conditions.pop() {
                Some(only) if conditions.is_empty() => only,
                last => Condition::All(conditions.into_iter().chain(last).collect()),
            }
        }
    }
}

fn flatten<'f>(filter: &'f Filter, members: &mut Vec<&'f Filter>) {
    match &filter.node {
        Node::And(inner) => {
            for member in inner {
                flatten(member, members);
            }
        }
        _ => members.push(filter),
    }
}

/// The members of one `and`. A key is bound to the next value or score of its family after it, unless
/// another key comes before that: then it stands alone. The pair stands where the key stood.
fn bound(members: &[&Filter]) -> Vec<Condition> {
    let mut is_taken = vec![false; members.len()];
    let mut conditions = Vec::with_capacity(members.len());
    for (at, member) in members.iter().enumerate() {
        if is_taken.get(at) == Some(&true) {
            continue;
        }
        let Node::Comparison(comparison) = &member.node else {
            conditions.push(condition(member));
            continue;
        };
        let Some(part) = part(comparison) else {
            conditions.push(field(comparison));
            continue;
        };
        let next = members
            .iter()
            .enumerate()
            .skip(at + 1)
            .find_map(|(at, member)| match &member.node {
                Node::Comparison(other) if other.subject.of_root == comparison.subject.of_root => {
                    let other_part = self::part(other).filter(|other| other.0 == part.0)?;
                    Some((at, other, other_part.1))
                }
                _ => None,
            });
        conditions.push(match (part, next) {
            ((family, Part::Key), Some((at, value, what))) if what != Part::Key => {
                if let Some(is_taken) = is_taken.get_mut(at) {
                    *is_taken = true;
                }
                Condition::Entry(Entry {
                    family,
                    of_root: comparison.subject.of_root,
                    key: Some(negatable(comparison)),
                    value: Some((what, negatable(value))),
                })
            }
            ((family, part), _) => alone(comparison, family, part),
        });
    }
    conditions
}

fn part(comparison: &Comparison) -> Option<(Family, Part)> {
    comparison.subject.field.family()
}

/// A comparison of a part that is bound to no other: any entry may satisfy it.
fn alone(comparison: &Comparison, family: Family, part: Part) -> Condition {
    let (is_negated, test) = test(comparison);
    let (key, value) = match part {
        Part::Key => (Some(test), None),
        Part::Value | Part::Score => (None, Some((part, test))),
    };
    let of_root = comparison.subject.of_root;
    let entry = Condition::Entry(Entry {
        family,
        of_root,
        key,
        value,
    });
    negated_if(is_negated, entry)
}

/// A comparison of a field that a run has one of.
fn field(comparison: &Comparison) -> Condition {
    let (is_negated, test) = test(comparison);
    let subject = match comparison.subject {
        Subject {
            field: Field::ExecutionOrder,
            of_root,
        } => Subject {
            field: Field::IsRoot,
            of_root,
        },
        subject => subject,
    };
    negated_if(is_negated, Condition::Field(subject, test))
}

fn negated_if(is_negated: bool, condition: Condition) -> Condition {
    if is_negated {
        Condition::Not(Box::new(condition))
    } else {
        condition
    }
}

fn negatable(comparison: &Comparison) -> Test {
    match test(comparison) {
        (true, test) => Test::Not(Box::new(test)),
        (false, test) => test,
    }
}

/// What a comparison tests, and whether it is met where the test is not.
fn test(comparison: &Comparison) -> (bool, Test) {
    let field = comparison.subject.field;
    let value = comparison.value.clone();
    let is_neq = comparison.operator == Operator::Neq;
    let order = |order| (false, Test::Compared(order, value.clone()));
    match (comparison.operator, &value) {
        // That an error is there is that the run failed.
        (Operator::Eq | Operator::Neq, Value::Null) if field == Field::Error => {
            (!is_neq, Test::Equals(Value::Boolean(true)))
        }
        (Operator::Eq | Operator::Neq, _) if field == Field::ExecutionOrder => {
            (is_neq, Test::Equals(Value::Boolean(true)))
        }
        (Operator::Eq | Operator::Neq, Value::Null) => (!is_neq, Test::Present),
        (Operator::Has, Value::Object(object)) => (false, Test::Contains(object.clone())),
        (Operator::Like, Value::Text(text)) => (false, Test::Like(text.clone())),
        (Operator::Search, Value::Text(text)) => (false, Test::Search(text.clone())),
        (Operator::In, Value::List(list)) => (false, Test::OneOf(list.clone())),
        (Operator::Gt, _) => order(Order::Greater),
        (Operator::Gte, _) => order(Order::GreaterOrEqual),
        (Operator::Lt, _) => order(Order::Less),
        (Operator::Lte, _) => order(Order::LessOrEqual),
        // A tag among the tags is equal to one of them. No other operator is left.
        (
            Operator::Eq
            | Operator::Neq
            | Operator::Has
            | Operator::Like
            | Operator::Search
            | Operator::In,
            _,
        ) => (is_neq, Test::Equals(value.clone())),
    }
}
