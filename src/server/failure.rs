//! Failures, as the API says them: a status and `{"detail": …}`.
//!
//! Clients send a request again that failed with 5xx, so no mistake of theirs is one. What is wrong with
//! the server's own files is in its log and nowhere else.

use std::any::Any;
use std::fmt;

use axum::Json;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};

use crate::Error;

/// Why there is no answer.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    NoKey,
    WrongKey,
    WrongHost,
    NotFound,
    NoMethod,
    TooLarge,
    /// Parameters that are none, or that nothing can be answered to.
    Invalid(Vec<Problem>),
    /// There is too much to do.
    Busy(&'static str),
    /// The server's own files, or itself.
    Broken,
}

/// What is wrong with a parameter.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Problem {
    /// Where it stands: `query` or `body`, then its name.
    pub(super) loc: Vec<String>,
    /// What is wrong with it.
    pub(super) msg: String,
    /// The kind of problem.
    pub(super) r#type: String,
}

/// Why there is no answer.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Detail {
    /// In words.
    pub(super) detail: String,
}

/// What is wrong with the parameters.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Problems {
    /// Each of them.
    pub(super) detail: Vec<Problem>,
}

impl Failure {
    /// A wrong parameter of the query.
    pub(super) fn of_query(name: &str, problem: impl fmt::Display) -> Self {
        Self::at(&["query", name], problem)
    }

    /// A wrong member of the body.
    pub(super) fn of_body(name: &str, problem: impl fmt::Display) -> Self {
        Self::at(&["body", name], problem)
    }

    pub(super) fn at(place: &[&str], problem: impl fmt::Display) -> Self {
        let place = place.iter().filter(|part| !part.is_empty());
        Self::Invalid(vec![Problem {
            loc: place.map(|part| (*part).to_owned()).collect(),
            msg: problem.to_string(),
            r#type: "value_error".to_owned(),
        }])
    }

    /// What an error of the library means to who asked. What they may not know goes to the log.
    pub(super) fn of(error: &Error, place: &'static str) -> Self {
        match error {
            Error::Usage { .. } | Error::Filter(_) => Self::at(&[place], said(error)),
            Error::Tallies { .. } => Self::at(
                &[place],
                "the runs are kept as tallies only, from which this cannot be told",
            ),
            Error::NoSuchProject { .. } | Error::AmbiguousProject { .. } => Self::NotFound,
            Error::Memory { .. } => Self::Busy("the server's memory does not suffice now"),
            _ => {
                tracing::error!(error = chain(error), "a question failed");
                Self::Broken
            }
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::NoKey | Self::WrongKey => StatusCode::UNAUTHORIZED,
            Self::WrongHost => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::NoMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Broken => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn detail(&self) -> Value {
        match self {
            Self::NoKey => json!("no API key: send it as X-API-Key"),
            Self::WrongKey => json!("the API key is not valid"),
            Self::WrongHost => json!("the Host header names no name of this server"),
            Self::NotFound => json!("not found"),
            Self::NoMethod => json!("method not allowed"),
            Self::TooLarge => json!("the body is too large"),
            Self::Invalid(problems) => json!(problems),
            Self::Busy(problem) => json!(problem),
            Self::Broken => json!("the server cannot read its own data; its log says why"),
        }
    }
}

/// An error and what to write instead, for who asked: their own words are in it.
pub(super) fn said(error: &Error) -> String {
    match error.hint() {
        Some(hint) => format!("{error} ({hint})"),
        None => error.to_string(),
    }
}

/// An error with its causes.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = Json(json!({"detail": self.detail()}));
        let mut response = (self.status(), body).into_response();
        let headers = response.headers_mut();
        match self {
            Self::Busy(_) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            Self::NoKey | Self::WrongKey => {
                let scheme = HeaderValue::from_static("Bearer");
                headers.insert(header::WWW_AUTHENTICATE, scheme);
            }
            _ => {}
        }
        response
    }
}

impl From<BytesRejection> for Failure {
    fn from(rejection: BytesRejection) -> Self {
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Self::TooLarge,
            _ => Self::at(&["body"], "the body cannot be read"),
        }
    }
}

/// A fault of ours.
#[expect(clippy::needless_pass_by_value, reason = "as it is called")]
pub(super) fn of_panic(panic: Box<dyn Any + Send + 'static>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    tracing::error!(error = text.unwrap_or("a panic"), "a request failed");
    Failure::Broken.into_response()
}
