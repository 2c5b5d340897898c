//! `GET /metrics`: what the server counts of itself, and gauges of each project that who asks may see, as
//! text for Prometheus. A key that is tied to a tenant gets its own projects only.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use prometheus::{
    Encoder, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts,
    Registry, TextEncoder,
};

use super::access::Scope;
use super::current::Shared;
use super::failure::Failure;
use super::kept::Body;
use crate::TracerSession;

/// Upper ends of buckets of durations, seconds.
const BUCKETS: [f64; 10] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

/// What the server counts.
pub(super) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    durations: Histogram,
    n_underway: IntGauge,
    n_computing: IntGauge,
    n_computed: IntCounter,
    pub(super) n_kept: IntCounter,
}

/// Something that is counted as long as it is there.
pub(super) struct Counted(IntGauge);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        let requests = Opts::new("runtally_requests_total", "Requests that were answered");
        let durations = HistogramOpts::new("runtally_request_seconds", "How long requests took");
        let metrics = Self {
            registry: Registry::new(),
            requests: IntCounterVec::new(requests, &["route", "status"])?,
            durations: Histogram::with_opts(durations.buckets(BUCKETS.to_vec()))?,
            n_underway: IntGauge::new("runtally_requests_underway", "Requests under way")?,
            n_computing: IntGauge::new("runtally_questions_underway", "Questions under way")?,
            n_computed: IntCounter::new("runtally_questions_total", "Questions that were begun")?,
            n_kept: IntCounter::new("runtally_kept_answers_total", "Answers that were kept")?,
        };
        metrics
            .registry
            .register(Box::new(metrics.requests.clone()))?;
        metrics
            .registry
            .register(Box::new(metrics.durations.clone()))?;
        metrics
            .registry
            .register(Box::new(metrics.n_underway.clone()))?;
        metrics
            .registry
            .register(Box::new(metrics.n_computing.clone()))?;
        metrics
            .registry
            .register(Box::new(metrics.n_computed.clone()))?;
        metrics
            .registry
            .register(Box::new(metrics.n_kept.clone()))?;
        Ok(metrics)
    }

    /// Counts a request that was answered.
    pub(super) fn count(&self, route: &str, status: u16, took: Duration) {
        let status = status.to_string();
        self.requests.with_label_values(&[route, &status]).inc();
        self.durations.observe(took.as_secs_f64());
    }

    /// A request under way.
    pub(super) fn underway(&self) -> Counted {
        self.n_underway.inc();
        Counted(self.n_underway.clone())
    }

    /// A question under way.
    pub(super) fn computing(&self) -> Counted {
        self.n_computed.inc();
        self.n_computing.inc();
        Counted(self.n_computing.clone())
    }
}

#[utoipa::path(
    get,
    path = "/metrics",
    tag = "server",
    summary = "What the server counts, and gauges of each project, for Prometheus",
    responses(
        (status = 200, description = "Metrics as text", content_type = "text/plain", body = String),
        super::openapi::Failed,
    ),
    security(("key" = [])),
)]
pub(super) async fn metrics(
    State(shared): State<Arc<Shared>>,
    Extension(scope): Extension<Scope>,
) -> Result<Body, Failure> {
    let projects = shared.projects(scope.question()).await?;
    let written = written(&shared, scope, &projects).map_err(|error| {
        tracing::error!(error = error.to_string(), "metrics cannot be written");
        Failure::Broken
    })?;
    Ok(Body {
        bytes: written.into(),
        kind: "text/plain; version=0.0.4; charset=utf-8",
        header: None,
    })
}

fn written(
    shared: &Shared,
    scope: Scope,
    projects: &[TracerSession],
) -> Result<Vec<u8>, prometheus::Error> {
    let mut families = Vec::new();
    if scope == Scope::All {
        families.extend(shared.metrics.registry.gather());
        families.extend(of_files(shared)?.gather());
    }
    families.extend(of_projects(projects)?.gather());
    let mut text = Vec::new();
    TextEncoder::new().encode(&families, &mut text)?;
    Ok(text)
}

fn of_files(shared: &Shared) -> Result<Registry, prometheus::Error> {
    let registry = Registry::new();
    let told = [
        ("runtally_kept_answers", "Answers that are kept"),
        ("runtally_kept_bytes", "Bytes of answers that are kept"),
        ("runtally_listing_changes", "How often files have changed"),
        ("runtally_files", "Files of runs"),
        ("runtally_files_bytes", "Bytes of files of runs"),
    ];
    for ((name, help), value) in told.into_iter().zip(shared.sizes()) {
        let gauge = IntGauge::new(name, help)?;
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        registry.register(Box::new(gauge))?;
    }
    Ok(registry)
}

/// The gauges of projects: names, what they are, and their values.
#[expect(clippy::cast_precision_loss, reason = "for a chart")]
fn of_projects(projects: &[TracerSession]) -> Result<Registry, prometheus::Error> {
    type Value = fn(&TracerSession) -> Option<f64>;
    let told: [(&str, &str, Value); 8] = [
        ("runtally_project_traces", "Traces", |one| {
            Some(one.run_count? as f64)
        }),
        (
            "runtally_project_error_rate",
            "Failed traces by traces",
            |one| one.error_rate,
        ),
        (
            "runtally_project_streaming_rate",
            "Streamed traces by completed ones",
            |one| one.streaming_rate,
        ),
        ("runtally_project_tokens", "Tokens", |one| {
            Some(one.total_tokens? as f64)
        }),
        ("runtally_project_cost_dollars", "Cost", |one| {
            one.total_cost?.to_string().parse().ok()
        }),
        (
            "runtally_project_latency_p50_seconds",
            "Median latency",
            |one| Some(one.latency_p50?.as_f64()),
        ),
        (
            "runtally_project_latency_p99_seconds",
            "99th percentile of latency",
            |one| Some(one.latency_p99?.as_f64()),
        ),
        (
            "runtally_project_last_start_timestamp_seconds",
            "The latest trace's start",
            |one| Some(one.last_run_start_time?.0 as f64 / 1e6),
        ),
    ];
    let registry = Registry::new();
    for (name, help, value) in told {
        let gauges = GaugeVec::new(Opts::new(name, help), &["project_id", "project"])?;
        for project in projects {
            if let Some(value) = value(project) {
                let id = project.id.to_string();
                gauges
                    .with_label_values(&[id.as_str(), &project.name])
                    .set(value);
            }
        }
        registry.register(Box::new(gauges))?;
    }
    Ok(registry)
}
