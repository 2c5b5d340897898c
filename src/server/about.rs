//! What the server is, and whether it is well: routes that anybody may ask.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;

use super::current::Shared;
use super::failure::Failure;

/// From this version of the service on, clients ask as they do today.
const COMPATIBLE: &str = "0.18.0";

/// What clients ask first.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Info {
    /// The version of the service whose routes these are.
    version: &'static str,
    /// The version of this server.
    runtally_version: &'static str,
    /// What clients may use.
    instance_flags: Flags,
    /// What could be taken in at once: nothing is, as the logs are files.
    batch_ingest_config: Ingest,
}

#[derive(Serialize, utoipa::ToSchema)]
struct Flags {
    ch_query_enabled: bool,
    sdb_query_enabled: bool,
}

#[derive(Serialize, utoipa::ToSchema)]
struct Ingest {
    use_multipart_endpoint: bool,
    scale_up_qsize_trigger: u32,
    scale_up_nthreads_limit: u32,
    scale_down_nempty_trigger: u32,
    size_limit: u32,
    size_limit_bytes: u32,
}

/// Whether the server is well.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Health {
    /// `ok`, or what is missing.
    status: &'static str,
}

#[utoipa::path(
    get,
    path = "/info",
    tag = "server",
    summary = "What the server can do; no key is needed",
    responses((status = 200, description = "What clients may use", body = Info), super::openapi::Turned),
)]
pub(super) async fn info() -> Json<Info> {
    Json(Info {
        version: COMPATIBLE,
        runtally_version: env!("CARGO_PKG_VERSION"),
        instance_flags: Flags {
            ch_query_enabled: true,
            sdb_query_enabled: false,
        },
        batch_ingest_config: Ingest {
            use_multipart_endpoint: false,
            scale_up_qsize_trigger: 1000,
            scale_up_nthreads_limit: 16,
            scale_down_nempty_trigger: 4,
            size_limit: 100,
            size_limit_bytes: 20_971_520,
        },
    })
}

#[utoipa::path(
    get,
    path = "/healthz",
    tag = "server",
    summary = "Whether the server runs",
    responses((status = 200, description = "It does", body = Health), super::openapi::Turned),
)]
pub(super) async fn healthz() -> Json<Health> {
    Json(Health { status: "ok" })
}

#[utoipa::path(
    get,
    path = "/readyz",
    tag = "server",
    summary = "Whether the server's files could be listed",
    responses(
        (status = 200, description = "They could", body = Health),
        (status = 503, description = "They could not", body = Health),
        super::openapi::WrongHost,
    ),
)]
pub(super) async fn readyz(State(shared): State<Arc<Shared>>) -> (StatusCode, Json<Health>) {
    if shared.is_ready() {
        (StatusCode::OK, Json(Health { status: "ok" }))
    } else {
        let status = "the files cannot be listed";
        (StatusCode::SERVICE_UNAVAILABLE, Json(Health { status }))
    }
}

pub(super) async fn nothing() -> Failure {
    Failure::NotFound
}

pub(super) async fn no_method() -> Failure {
    Failure::NoMethod
}
