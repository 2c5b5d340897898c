//! The log: a line a request, with what was asked for by its path alone, as queries may hold what nobody
//! should read; and what the server has to say of itself.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::HeaderValue;
use axum::middleware::Next;
use axum::response::Response;
use uuid::Uuid;

use super::current::Shared;

/// The header with a request's id.
pub(super) const ID: &str = "x-request-id";
/// The longest id that is taken from a request.
const ID_BYTES: usize = 128;

/// How lines of the log are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// As text on a terminal, as JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Text,
    /// An object a line.
    Json,
}

/// Writes the log of all servers of this process to standard error.
pub fn log_to_stderr(format: LogFormat) {
    let is_terminal = std::io::stderr().is_terminal();
    let as_json = match format {
        LogFormat::Auto => !is_terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let lines = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(is_terminal)
        .with_target(false)
        .with_max_level(tracing::Level::INFO);
    // Where there is a log already, that one goes on.
    let _ = if as_json {
        let lines = lines.json().flatten_event(true).with_current_span(false);
        tracing::subscriber::set_global_default(lines.with_span_list(false).finish())
    } else {
        tracing::subscriber::set_global_default(lines.finish())
    };
}

/// Writes a line of a request and gives it an id; counts it.
pub(super) async fn request(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let id = request.headers().get(ID).filter(|id| is_plain(id)).cloned();
    let id = id.or_else(|| HeaderValue::from_str(&random_id()).ok());
    let method = request.method().clone();
    let path: String = request.uri().path().chars().take(256).collect();
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or_else(|| "other".to_owned(), |route| route.as_str().to_owned());
    let underway = shared.metrics.underway();
    let mut response = next.run(request).await;
    drop(underway);
    let (status, took) = (response.status().as_u16(), began.elapsed());
    shared.metrics.count(&route, status, took);
    let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let shown = id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or("");
    tracing::info!(
        method = method.as_str(),
        path = path.escape_debug().to_string(),
        status,
        ms,
        request_id = shown,
        "request"
    );
    if let Some(id) = id {
        response.headers_mut().insert(ID, id);
    }
    response
}

fn is_plain(id: &HeaderValue) -> bool {
    let bytes = id.as_bytes();
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    !bytes.is_empty() && bytes.len() <= ID_BYTES && bytes.iter().all(is_plain)
}

/// An id that is unlike any other's: of this process, the moment and a number.
fn random_id() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let now = chrono::Utc::now().timestamp_nanos_opt().unwrap_or_default();
    let name = format!("{}:{now}:{number}", std::process::id());
    Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()).to_string()
}
