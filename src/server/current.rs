//! The source as it is now, and what all requests share.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use super::ServerOptions;
use super::access::Scope;
use super::failure::Failure;
use super::kept::{Answers, Kept, answer};
use super::metrics::Metrics;
use crate::{Engine, Error, Request, Result, Source, TracerSession};

/// A state of the files, and the answers from it.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) source: Arc<Source>,
    pub(super) answers: Answers,
    /// How many states there were before.
    pub(super) number: u64,
}

/// What all requests share.
pub(super) struct Shared {
    pub(super) options: ServerOptions,
    pub(super) metrics: Metrics,
    /// How many questions may be computed now.
    pub(super) turns: Semaphore,
    /// How many requests may be answered now.
    pub(super) requests: Semaphore,
    pub(super) threads: Threads,
    engine: Engine,
    n_waiting: AtomicUsize,
    state: Mutex<State>,
    /// Held while the files are listed.
    listing: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    current: Arc<Current>,
    listed: Instant,
    /// Whether the files could be listed the last time.
    is_good: bool,
}

/// Threads for questions, so that others go on serving.
pub(super) struct Threads(Option<Runtime>);

impl Threads {
    /// Runs what `work` makes to its end on one of them, with the help of the others; the work itself need
    /// not be of a kind that goes from thread to thread.
    pub(super) fn run<T: Send + 'static, F: Future<Output = T>>(
        &self,
        work: impl FnOnce() -> F + Send + 'static,
    ) -> Option<tokio::task::JoinHandle<T>> {
        let threads = self.0.as_ref()?.handle().clone();
        let within = threads.clone();
        Some(threads.spawn_blocking(move || within.block_on(work())))
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(threads) = self.0.take() {
            threads.shutdown_background();
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// Somebody who waits for a turn.
pub(super) struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    pub(super) fn new(engine: Engine, source: Source, options: ServerOptions) -> Result<Self> {
        let n_threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let threads = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(n_threads)
            .thread_name("questions")
            .enable_all()
            .build();
        let current = Current {
            source: Arc::new(source),
            answers: Answers::new(options.kept_bytes),
            number: 0,
        };
        Ok(Self {
            metrics: Metrics::new().map_err(|error| Error::Engine(Box::new(error)))?,
            turns: Semaphore::new(options.n_questions.max(1)),
            requests: Semaphore::new(options.n_requests.max(1)),
            threads: Threads(Some(
                threads.map_err(|error| Error::Engine(Box::new(error)))?,
            )),
            engine,
            n_waiting: AtomicUsize::new(0),
            state: Mutex::new(State {
                current: Arc::new(current),
                listed: Instant::now(),
                is_good: true,
            }),
            listing: tokio::sync::Mutex::new(()),
            options,
        })
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(super) fn source(&self) -> Arc<Source> {
        Arc::clone(&self.state().current.source)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place among those who wait for their turn; none where too many do.
    pub(super) fn wait(&self) -> Option<Waiting<'_>> {
        let n_waiting = self.n_waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting(&self.n_waiting);
        (n_waiting < self.options.n_waiting + self.options.n_questions).then_some(waiting)
    }

    /// Whether the files could be listed the last time, and that is not long ago.
    pub(super) fn is_ready(&self) -> bool {
        let state = self.state();
        state.is_good && state.listed.elapsed() <= 3 * self.options.refresh.max(MOMENT)
    }

    /// The state of the files, no older than it may be.
    pub(super) async fn current(self: &Arc<Self>) -> Result<Arc<Current>, Failure> {
        let is_old = self.state().listed.elapsed() > self.options.refresh;
        if is_old {
            self.list(self.options.refresh).await;
        }
        let state = self.state();
        if state.is_good {
            Ok(Arc::clone(&state.current))
        } else {
            Err(Failure::Broken)
        }
    }

    /// The same as it is at this moment where a file was found to be another than was listed.
    async fn changed_since(self: &Arc<Self>, before: &Arc<Current>) -> Option<Arc<Current>> {
        self.list(MOMENT).await;
        let state = self.state();
        let is_other = state.is_good && state.current.number != before.number;
        is_other.then(|| Arc::clone(&state.current))
    }

    /// Lists the files, unless that was done shorter ago than this.
    async fn list(self: &Arc<Self>, age: std::time::Duration) {
        let _listing = self.listing.lock().await;
        let (current, listed) = {
            let state = self.state();
            (Arc::clone(&state.current), state.listed)
        };
        if listed.elapsed() <= age {
            return;
        }
        let began = Instant::now();
        let source = Arc::clone(&current.source);
        let reopened = tokio::task::spawn_blocking(move || source.reopened()).await;
        let mut state = self.state();
        state.listed = began;
        match reopened {
            Ok(Ok(None)) => state.is_good = true,
            Ok(Ok(Some(source))) => {
                let current = Current {
                    source: Arc::new(source),
                    answers: Answers::new(self.options.kept_bytes),
                    number: current.number + 1,
                };
                tracing::info!(files = current.source.n_files(), "the files have changed");
                state.current = Arc::new(current);
                state.is_good = true;
            }
            Ok(Err(error)) => {
                tracing::error!(error = error.to_string(), "the files cannot be listed");
                state.is_good = false;
            }
            Err(error) => {
                tracing::error!(error = error.to_string(), "the files cannot be listed");
                state.is_good = false;
            }
        }
    }

    /// Gives an answer from the files as they are: see [`answer`]. Where a file cannot be read because it
    /// has just changed, it is made again.
    pub(super) async fn answer<F>(
        self: &Arc<Self>,
        key: String,
        make: impl FnOnce(Arc<Current>) -> F + Clone + Send + 'static,
    ) -> Result<Kept, Failure>
    where
        F: Future<Output = Result<Kept, Failure>> + 'static,
    {
        let current = self.current().await?;
        match answer(self, &current, key.clone(), make.clone()).await {
            Err(Failure::Broken) => match self.changed_since(&current).await {
                Some(current) => answer(self, &current, key, make).await,
                None => Err(Failure::Broken),
            },
            outcome => outcome,
        }
    }

    /// The projects that a request may see, with their own fields only, or with all that is asked.
    pub(super) async fn projects(
        self: &Arc<Self>,
        question: Request,
    ) -> Result<Arc<Vec<TracerSession>>, Failure> {
        let shared = Arc::clone(self);
        let key = format!("projects {question:?}");
        let kept = self.answer(key, move |current| {
            let (shared, question) = (Arc::clone(&shared), question.clone());
            async move {
                let answer = crate::sessions(&shared.engine, &current.source, &question).await;
                let answer = answer.map_err(|error| Failure::of(&error, "query"))?;
                Ok(Kept::Projects(Arc::new(answer.sessions)))
            }
        });
        match kept.await? {
            Kept::Projects(projects) => Ok(projects),
            _ => Err(Failure::Broken),
        }
    }

    /// The projects that a request may see, with their own fields only.
    pub(super) async fn catalogue(
        self: &Arc<Self>,
        scope: Scope,
    ) -> Result<Arc<Vec<TracerSession>>, Failure> {
        let question = Request {
            stats: false,
            ..scope.question()
        };
        self.projects(question).await
    }

    /// How many answers are kept, and their bytes; the number of the state of the files, how many there
    /// are, and their bytes.
    pub(super) fn sizes(&self) -> [u64; 5] {
        let current = Arc::clone(&self.state().current);
        let (n_answers, n_bytes) = current.answers.size();
        [
            n_answers as u64,
            n_bytes as u64,
            current.number,
            current.source.n_files() as u64,
            current.source.n_bytes(),
        ]
    }
}

/// What was listed so short ago is as it is.
const MOMENT: std::time::Duration = std::time::Duration::from_secs(1);

/// Lists the files again and again.
pub(super) async fn refresh(shared: Arc<Shared>) {
    let every = shared.options.refresh.max(MOMENT);
    loop {
        tokio::time::sleep(every).await;
        shared.list(every / 2).await;
    }
}
