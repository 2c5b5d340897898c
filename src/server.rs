//! Server: the HTTP API over a source, as LangSmith's own clients read it.
//!
//! A request's parameters become the same [`Request`](crate::Request) that flags become, within the tenant
//! of its key; the answer has the bytes of the command line's. Answers are kept until a file comes, goes or
//! changes. Knows the crate from outside only, as the command line does.
//!
//! | module | what it is |
//! |---|---|
//! | `access` | who asks, and what they may see |
//! | `kept` | answers that are kept, each made once |
//! | `current` | the source as it is now |
//! | `failure` | what goes wrong, as the API says it |
//! | `given` | parameters of a query |
//! | `projects` | which projects are asked for, in which order |
//! | `sessions`, `sessions_v2`, `runs`, `stats`, `about` | the routes |
//! | `metrics`, `log`, `openapi` | what the server says of itself |

mod about;
mod access;
mod current;
mod failure;
mod given;
mod kept;
mod log;
mod metrics;
mod openapi;
mod projects;
mod runs;
mod sessions;
mod sessions_v2;
mod stats;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::routing::{get, post};
use axum::{Router, middleware};
use tokio::net::TcpListener;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::{Engine, Result, Source};
use current::Shared;

pub use access::{KeyError, Keys};
pub use log::{LogFormat, log_to_stderr};

/// How a server serves.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Who may ask; without any key everybody may.
    pub keys: Keys,
    /// No answer is of files as they were longer ago.
    pub refresh: Duration,
    /// How long a request may take.
    pub timeout: Duration,
    /// How long requests may take that are under way when the server is told to stop.
    pub grace: Duration,
    /// How many bytes the body of a request may have.
    pub body_bytes: usize,
    /// How many questions are computed at the same time.
    pub n_questions: usize,
    /// How many more wait for their turn.
    pub n_waiting: usize,
    /// How many requests are answered at the same time.
    pub n_requests: usize,
    /// How many bytes of answers are kept.
    pub kept_bytes: usize,
    /// Whose pages a browser may let read the answers; nobody's where there is none.
    pub origins: Vec<String>,
    /// The names by which it may be called, beside those of this machine; any where there are none and it
    /// can be reached from others.
    pub hosts: Vec<String>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            keys: Keys::default(),
            refresh: Duration::from_secs(30),
            timeout: Duration::from_mins(1),
            grace: Duration::from_secs(10),
            body_bytes: 1 << 20,
            n_questions: 4,
            n_waiting: 64,
            n_requests: 512,
            kept_bytes: 64 << 20,
            origins: Vec::new(),
            hosts: Vec::new(),
        }
    }
}

/// A server over a source.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
}

impl Server {
    /// A server that executes questions over a source with an engine, whose memory all of them share.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`](crate::Error::Engine) where the system gives no threads.
    pub fn new(engine: Engine, source: Source, options: ServerOptions) -> Result<Self> {
        let shared = Arc::new(Shared::new(engine, source, options)?);
        Ok(Self { shared })
    }

    /// The projects that there are, by their names.
    ///
    /// # Errors
    ///
    /// Those of [`sessions`](crate::sessions), where a file cannot be read.
    pub async fn projects(&self) -> Result<Vec<String>> {
        let request = crate::Request {
            stats: false,
            ..crate::Request::default()
        };
        let source = self.shared.source();
        let answer = crate::sessions(self.shared.engine(), &source, &request).await?;
        Ok(answer.sessions.into_iter().map(|one| one.name).collect())
    }

    /// Answers requests until it is told to stop; those that are under way then are answered.
    ///
    /// # Errors
    ///
    /// Where the socket fails.
    pub async fn run(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let bound = listener.local_addr()?;
        let router = router(&self.shared, bound);
        let refreshing = tokio::spawn(current::refresh(Arc::clone(&self.shared)));
        let (stopping, stopped) = tokio::sync::oneshot::channel();
        let stop = async move {
            stop.await;
            let _ = stopping.send(());
        };
        let grace = self.shared.options.grace;
        let serving = axum::serve(listener, router).with_graceful_shutdown(stop);
        let outcome = tokio::select! {
            outcome = async { serving.await } => outcome,
            () = async {
                // Where it is not told to stop, it never comes to an end here.
                if stopped.await.is_err() {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(grace).await;
            } => Ok(()),
        };
        refreshing.abort();
        outcome
    }
}

/// The routes, and what every request goes through, the outermost last.
fn router(shared: &Arc<Shared>, bound: SocketAddr) -> Router {
    let options = &shared.options;
    let v1 = Router::new()
        .route("/sessions", get(sessions::list))
        .route("/sessions/{session_id}", get(sessions::one))
        .route("/runs/stats", post(runs::stats))
        .route("/runs/query", post(runs::query))
        .route("/info", get(about::info));
    let v2 = Router::new()
        .route("/sessions", get(sessions_v2::list))
        .route("/sessions/{session_id}", get(sessions_v2::one));
    let own = Router::new()
        .route("/stats", get(stats::stats))
        .route("/metrics", get(metrics::metrics))
        .route("/openapi.json", get(openapi::document))
        .route("/healthz", get(about::healthz))
        .route("/readyz", get(about::readyz));
    // The page for people has its place at `/`.
    let routes = v1
        .clone()
        .merge(own)
        .nest("/api/v1", v1)
        .nest("/api/v2", v2)
        .fallback(about::nothing)
        .method_not_allowed_fallback(about::no_method)
        .layer(DefaultBodyLimit::max(options.body_bytes));
    let hosts = access::Hosts::of(options, bound);
    let routes = routes
        .layer(middleware::from_fn_with_state(
            Arc::clone(shared),
            access::check,
        ))
        .layer(middleware::from_fn_with_state(
            Arc::clone(shared),
            kept::limit,
        ));
    let routes = match cors(options) {
        Some(cors) => routes.layer(cors),
        None => routes,
    };
    routes
        .layer(middleware::from_fn_with_state(
            Arc::new(hosts),
            access::check_host,
        ))
        .layer(CatchPanicLayer::custom(failure::of_panic))
        .layer(CompressionLayer::new())
        .layer(middleware::from_fn_with_state(
            Arc::clone(shared),
            log::request,
        ))
        .with_state(Arc::clone(shared))
}

/// What browsers are told of pages of other origins: nothing, unless some are named.
fn cors(options: &ServerOptions) -> Option<CorsLayer> {
    if options.origins.is_empty() {
        return None;
    }
    let origins = options.origins.iter();
    let origin = if options.origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.filter_map(|origin| HeaderValue::from_str(origin).ok()))
    };
    let layer = CorsLayer::new()
        .allow_origin(origin)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([
            header::CONTENT_TYPE,
            header::AUTHORIZATION,
            HeaderName::from_static(access::KEY),
            HeaderName::from_static(access::TENANT),
        ])
        .expose_headers([
            HeaderName::from_static(projects::TOTAL),
            HeaderName::from_static(log::ID),
        ]);
    Some(layer)
}
