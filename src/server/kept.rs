//! Answers that are kept: each is made once for all who ask for it at the same time, kept until a file
//! changes, and given up when nobody waits for it any more. They take a bounded number of bytes, of which
//! the least recently used are let go first.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared as SharedFuture, WeakShared};
use tokio::sync::oneshot;

use super::current::{Current, Shared};
use super::failure::Failure;
use crate::{Session, TracerSession};

/// What is kept of an answer beside its bytes, about.
const OVERHEAD_BYTES: usize = 512;
/// What a project's own fields take, about.
const PROJECT_BYTES: usize = 1024;

/// An answer as it is sent.
#[derive(Clone, Debug)]
pub(super) struct Body {
    pub(super) bytes: Bytes,
    pub(super) kind: &'static str,
    pub(super) header: Option<(&'static str, u64)>,
}

impl Body {
    pub(super) fn text(bytes: Vec<u8>, kind: &'static str) -> Self {
        Self {
            bytes: bytes.into(),
            kind,
            header: None,
        }
    }

    /// JSON, without the line break at its end.
    pub(super) fn json(mut bytes: Vec<u8>) -> Self {
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
        }
        Self {
            bytes: bytes.into(),
            kind: "application/json",
            header: None,
        }
    }
}

impl IntoResponse for Body {
    fn into_response(self) -> Response {
        let kind = [(header::CONTENT_TYPE, HeaderValue::from_static(self.kind))];
        let mut response = (kind, self.bytes).into_response();
        if let Some((name, value)) = self.header {
            let name = HeaderName::from_static(name);
            response.headers_mut().insert(name, value.into());
        }
        response
    }
}

/// What is kept.
#[derive(Clone, Debug)]
pub(super) enum Kept {
    Body(Body),
    /// Projects, as other answers need them.
    Projects(Arc<Vec<TracerSession>>),
    /// The same as v2 has them.
    Sessions(Arc<Vec<Session>>),
    /// The server's own files cannot be read, and will not before they change.
    Broken,
}

impl Kept {
    fn n_bytes(&self, key: &str) -> usize {
        let own = match self {
            Self::Body(body) => body.bytes.len(),
            Self::Projects(projects) => projects.len() * PROJECT_BYTES,
            Self::Sessions(sessions) => sessions.len() * PROJECT_BYTES,
            Self::Broken => 0,
        };
        own + 2 * key.len() + OVERHEAD_BYTES
    }
}

type Made = Result<Kept, Failure>;
type Making = SharedFuture<BoxFuture<'static, Made>>;

/// Answers from one state of the files.
#[derive(Debug)]
pub(super) struct Answers {
    inner: Mutex<Inner>,
    n_bytes_max: usize,
}

#[derive(Debug, Default)]
struct Inner {
    kept: HashMap<String, (u64, Kept)>,
    /// The keys by when they were last asked for.
    by_use: BTreeMap<u64, String>,
    n_uses: u64,
    n_bytes: usize,
    /// What is being made, as long as somebody waits for it.
    making: HashMap<String, WeakShared<BoxFuture<'static, Made>>>,
}

impl Inner {
    fn get(&mut self, key: &str) -> Option<Kept> {
        self.n_uses += 1;
        let (used, kept) = self.kept.get_mut(key)?;
        let key = self.by_use.remove(used)?;
        *used = self.n_uses;
        self.by_use.insert(self.n_uses, key);
        Some(kept.clone())
    }

    fn keep(&mut self, key: String, kept: Kept, n_bytes_max: usize) {
        let n_bytes = kept.n_bytes(&key);
        if n_bytes > n_bytes_max / 4 || self.kept.contains_key(&key) {
            return;
        }
        while self.n_bytes + n_bytes > n_bytes_max {
            let Some((_, oldest)) = self.by_use.pop_first() else {
                break;
            };
            if let Some((_, gone)) = self.kept.remove(&oldest) {
                self.n_bytes -= gone.n_bytes(&oldest);
            }
        }
        self.n_uses += 1;
        self.n_bytes += n_bytes;
        self.by_use.insert(self.n_uses, key.clone());
        self.kept.insert(key, (self.n_uses, kept));
    }
}

impl Answers {
    pub(super) fn new(n_bytes_max: usize) -> Self {
        Self {
            inner: Mutex::default(),
            n_bytes_max,
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many answers are kept, and their bytes.
    pub(super) fn size(&self) -> (usize, usize) {
        let inner = self.inner();
        (inner.kept.len(), inner.n_bytes)
    }
}

/// Gives the answer of a key: the one that is kept, else the one that is being made, else `make` makes it.
pub(super) async fn answer<F>(
    shared: &Arc<Shared>,
    current: &Arc<Current>,
    key: String,
    make: impl FnOnce(Arc<Current>) -> F + Send + 'static,
) -> Made
where
    F: Future<Output = Made> + 'static,
{
    let making = {
        let mut inner = current.answers.inner();
        if let Some(kept) = inner.get(&key) {
            shared.metrics.n_kept.inc();
            return match kept {
                Kept::Broken => Err(Failure::Broken),
                kept => Ok(kept),
            };
        }
        let underway = inner.making.get(&key).and_then(WeakShared::upgrade);
        underway.unwrap_or_else(|| {
            let current = Arc::clone(current);
            let work = computed(Arc::clone(shared), move || make(current));
            let work = work.boxed().shared();
            if let Some(weak) = work.downgrade() {
                inner.making.insert(key.clone(), weak);
            }
            work
        })
    };
    let gone = Forgetting {
        current,
        key: &key,
        making: Some(making.clone()),
    };
    let outcome = making.await;
    drop(gone);
    let kept = match &outcome {
        Ok(kept) => Some(kept.clone()),
        Err(Failure::Broken) => Some(Kept::Broken),
        Err(_) => None,
    };
    if let Some(kept) = kept {
        let mut inner = current.answers.inner();
        inner.keep(key, kept, current.answers.n_bytes_max);
    }
    outcome
}

/// Forgets what nobody waits for any more.
struct Forgetting<'a> {
    current: &'a Current,
    key: &'a str,
    making: Option<Making>,
}

impl Drop for Forgetting<'_> {
    fn drop(&mut self) {
        let mut inner = self.current.answers.inner();
        // The last one who waited drops the making itself with this.
        let is_done = self
            .making
            .as_ref()
            .is_some_and(|making| making.peek().is_some());
        self.making = None;
        let is_awaited = inner
            .making
            .get(self.key)
            .is_some_and(|weak| weak.upgrade().is_some());
        if is_done || !is_awaited {
            inner.making.remove(self.key);
        }
    }
}

/// Makes an answer on the threads of the engine, when it is its turn.
async fn computed<F: Future<Output = Made>>(
    shared: Arc<Shared>,
    make: impl FnOnce() -> F + Send + 'static,
) -> Made {
    let waiting = shared
        .wait()
        .ok_or(Failure::Busy("too many questions are waiting"))?;
    let turn = shared.turns.acquire().await;
    let _turn = turn.map_err(|_| Failure::Busy("the server stops"))?;
    drop(waiting);
    let _computing = shared.metrics.computing();
    // Where nobody waits any more this end is dropped, which ends the work at the other.
    let (_awaited, forsaken) = oneshot::channel::<()>();
    let work = move || async move {
        tokio::select! {
            outcome = make() => outcome,
            _ = forsaken => Err(Failure::Busy("nobody waits for the answer")),
        }
    };
    let outcome = match shared.threads.run(work) {
        Some(task) => task.await,
        None => return Err(Failure::Busy("the server stops")),
    };
    outcome.unwrap_or_else(|error| {
        tracing::error!(error = error.to_string(), "a question failed");
        Err(Failure::Broken)
    })
}

/// Turns requests away where too many are under way, and ends those that take too long.
pub(super) async fn limit(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let is_probe = matches!(request.uri().path(), "/healthz" | "/readyz");
    let Ok(_permit) = shared.requests.try_acquire() else {
        if is_probe {
            return next.run(request).await;
        }
        return Failure::Busy("too many requests are under way").into_response();
    };
    let answered = tokio::time::timeout(shared.options.timeout, next.run(request)).await;
    answered.unwrap_or_else(|_| Failure::Busy("the answer took too long").into_response())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_go_first() {
        let body = |n: usize| Kept::Body(Body::json(vec![b'x'; n]));
        let one = body(1000).n_bytes("a");
        let mut inner = Inner::default();
        for key in ["a", "b", "c", "d", "e"] {
            inner.keep(key.to_owned(), body(1000), 5 * one);
        }
        assert!(inner.get("a").is_some());
        inner.keep("f".to_owned(), body(1000), 5 * one);
        assert!(inner.get("b").is_none() && inner.get("a").is_some() && inner.get("f").is_some());
        assert_eq!(
            (inner.kept.len(), inner.by_use.len(), inner.n_bytes),
            (5, 5, 5 * one)
        );
        inner.keep("large".to_owned(), body(3 * one), 5 * one);
        assert!(inner.get("large").is_none());
    }
}
