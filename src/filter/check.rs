//! Terms → the tree: names of functions and fields, and values that these take.

use serde_json::Map;

use super::error::{Problem, meant};
use super::field::{Kind, operators_in_words};
use super::parse::{Term, TermKind, cut};
use super::value::{parse_duration, parse_time};
use super::{Comparison, Field, Filter, Node, Number, Operator, Subject, Value};
use crate::tally::money::pico_from_text;

/// The functions that are no comparisons.
const CONNECTIVES: [&str; 3] = ["and", "or", "not"];
/// What a field of the trace's root begins with.
const ROOT: &str = "root.";

/// The tree that a term stands for.
pub(super) fn filter(term: &Term) -> Result<Filter, Problem> {
    let TermKind::Call(name, args) = &term.kind else {
        let problem = expected(term, r#"a condition such as eq(name, "x")"#);
        return Err(problem.with_hint(condition_hint(term)));
    };
    let node = match *name {
        "and" => Node::And(filters(term, args)?),
        "or" => Node::Or(filters(term, args)?),
        "not" => {
            let [inner] = exactly(term, args, "not", "one condition")?;
            Node::Not(Box::new(filter(inner)?))
        }
        "search" if args.len() == 1 => {
            let [arg] = exactly(term, args, "search", "a text")?;
            match &arg.kind {
                TermKind::Text(text) => Node::Search(text.clone()),
                _ => return Err(expected(arg, "a text in quotes").with_hint(quotes_hint(arg))),
            }
        }
        _ => Node::Comparison(comparison(term, name, args)?),
    };
    let span = term.span;
    Ok(Filter { node, span })
}

fn filters(term: &Term, args: &[Term]) -> Result<Vec<Filter>, Problem> {
    if args.is_empty() {
        return Err(Problem::new(end(term), "expected at least one condition"));
    }
    args.iter().map(filter).collect()
}

fn comparison(term: &Term, name: &str, args: &[Term]) -> Result<Comparison, Problem> {
    let Some(operator) = Operator::named(name) else {
        let words = Operator::ALL.iter().map(|operator| operator.name());
        let message = format!("`{}` is no function", cut(name));
        let hint = meant(name, CONNECTIVES.into_iter().chain(words));
        return Err(Problem::new(term.span.start, message).with_hint(hint));
    };
    let [field_term, value_term] = exactly(term, args, name, "a field and a value")?;
    let subject = subject(field_term)?;
    let field = subject.field;
    if !field.operators().contains(&operator) {
        let message = format!("{field} does not take {operator}");
        let hint = format!("{field} takes {}", operators_in_words(field));
        return Err(Problem::new(term.span.start, message).with_hint(Some(hint)));
    }
    let value = match (operator, &value_term.kind) {
        (Operator::In, TermKind::List(members)) => {
            let members = members.iter().map(|member| {
                let value = value(member, subject, operator)?;
                let list = Value::List(vec![value.clone()]);
                if operator.takes(field, &list) {
                    return Ok(value);
                }
                Err(mismatch(member, subject, operator))
            });
            Value::List(members.collect::<Result<_, _>>()?)
        }
        _ => value(value_term, subject, operator)?,
    };
    Comparison::new(subject, operator, value).map_err(|_| mismatch(value_term, subject, operator))
}

/// A call's arguments, where there are as many as it takes.
fn exactly<'t, 'i, const N: usize>(
    term: &Term,
    args: &'t [Term<'i>],
    name: &str,
    takes: &str,
) -> Result<&'t [Term<'i>; N], Problem> {
    args.try_into().map_err(|_| {
        let at = args.get(N).map_or(end(term), |surplus| surplus.span.start);
        Problem::new(at, format!("{name} takes {takes}"))
    })
}

/// The place of a call's closing parenthesis.
fn end(term: &Term) -> usize {
    term.span.end.saturating_sub(1)
}

fn subject(term: &Term) -> Result<Subject, Problem> {
    let TermKind::Word(word) = &term.kind else {
        let hint = match &term.kind {
            TermKind::Text(text) if Field::named(text).is_some() => {
                Some(format!("fields are written without quotes: {text}"))
            }
            _ => None,
        };
        return Err(expected(term, "a field").with_hint(hint));
    };
    let (of_root, name) = match word.strip_prefix(ROOT) {
        Some(name) => (true, name),
        None => (false, *word),
    };
    let field = Field::named(name).ok_or_else(|| {
        let names = Field::ALL.iter().map(|field| field.name());
        let message = format!("there is no field `{}`", cut(word));
        Problem::new(term.span.start, message).with_hint(meant(name, names))
    })?;
    Ok(Subject { field, of_root })
}

/// The value that a term is to a field; whether the field takes it is not asked yet.
fn value(term: &Term, subject: Subject, operator: Operator) -> Result<Value, Problem> {
    let kind = subject.field.kind();
    let read = match &term.kind {
        TermKind::Word("null") => Some(Value::Null),
        TermKind::Word("true") => Some(Value::Boolean(true)),
        TermKind::Word("false") => Some(Value::Boolean(false)),
        TermKind::Word(_) | TermKind::Call(..) | TermKind::List(_) => None,
        TermKind::Text(text) => match kind {
            Kind::Time => parse_time(text).map(Value::Time),
            Kind::Duration => parse_duration(text)
                .filter(|_| text.ends_with(char::is_alphabetic))
                .map(Value::Duration),
            Kind::Object => serde_json::from_str::<Map<_, _>>(text)
                .ok()
                .map(Value::Object),
            _ => Some(Value::Text(text.clone())),
        },
        TermKind::Number(number) => match kind {
            Kind::Duration => parse_duration(number)
                .filter(|_| !number.ends_with(char::is_alphabetic))
                .map(Value::Duration),
            Kind::Cost => pico_from_text(number).ok().flatten().map(Value::Cost),
            _ => Number::parse(number).map(Value::Number),
        },
    };
    read.ok_or_else(|| mismatch(term, subject, operator))
}

fn mismatch(term: &Term, subject: Subject, operator: Operator) -> Problem {
    let message = format!(
        "{} takes {}, not {}",
        subject.field,
        operator.expected(subject.field),
        found(term)
    );
    Problem::new(term.span.start, message).with_hint(quotes_hint(term))
}

fn expected(term: &Term, what: &str) -> Problem {
    Problem::new(
        term.span.start,
        format!("expected {what}, found {}", found(term)),
    )
}

/// What a term is, in words.
fn found(term: &Term) -> String {
    match &term.kind {
        TermKind::Word(word) => format!("`{}`", cut(word)),
        TermKind::Call(name, _) => format!("`{}(…)`", cut(name)),
        TermKind::Text(text) => format!("the text {:?}", cut(text)),
        TermKind::Number(number) => format!("`{}`", cut(number)),
        TermKind::List(_) => "a list".to_owned(),
    }
}

/// Says of a word where a value should be what was probably meant.
fn quotes_hint(term: &Term) -> Option<String> {
    let TermKind::Word(word) = term.kind else {
        return None;
    };
    let constants = ["true", "false", "null"];
    match word {
        "None" | "nil" | "NULL" => Some("did you mean `null`?".to_owned()),
        _ if constants.contains(&word) => None,
        _ if constants.contains(&word.to_lowercase().as_str()) => {
            Some(format!("did you mean `{}`?", word.to_lowercase()))
        }
        _ => Some(format!("texts stand in quotes: \"{}\"", cut(word))),
    }
}

/// Says of something where a condition should be what was probably meant.
fn condition_hint(term: &Term) -> Option<String> {
    match term.kind {
        TermKind::Word(word) if Field::named(word).is_some() => {
            Some(format!("write a comparison such as neq({word}, null)"))
        }
        TermKind::Text(_) => Some("to search for a text, write search(\"text\")".to_owned()),
        _ => None,
    }
}
