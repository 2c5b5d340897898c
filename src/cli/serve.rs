//! `runtally serve`: the HTTP API over exports, for LangSmith's own clients and whatever speaks HTTP.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::{ArgMatches, Args, ValueEnum};
use runtally::server::{Keys, LogFormat, Server, ServerOptions, log_to_stderr};
use runtally::{Clock, Engine, Error, Limits, Source};
use tokio::net::TcpListener;

use super::Exit;
use super::config::Config;
use super::face::{aside, say};
use super::question::{LIMITS, runtime};
use super::sources::SourceArgs;

const ACCESS: &str = "Access";
const SERVING: &str = "Serving";
/// Where keys come from beside a file: never from a flag, which everybody on the machine can see.
const KEYS: &str = "RUNTALLY_SERVE_KEYS";
/// How many projects the first line names.
const SHOWN: usize = 5;

/// Answers the routes of LangSmith's API that projects and runs are read by, from local logs.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  runtally serve exports/
  runtally serve exports/ --port 9000 --refresh 5
  RUNTALLY_SERVE_KEYS=a-long-random-key runtally serve exports/ --bind 0.0.0.0
  runtally serve exports/ --bind 0.0.0.0 --key-file keys.txt
  curl 'http://127.0.0.1:1984/sessions?include_stats=true'
  curl 'http://127.0.0.1:1984/stats?group_by=model&every=1d&format=csv'
  LANGSMITH_ENDPOINT=http://127.0.0.1:1984 LANGSMITH_API_KEY=any python report.py

A key file has a key a line, with a tenant's UUID after it where the key shows that tenant only; so has
RUNTALLY_SERVE_KEYS, with commas between entries. Clients send a key as X-API-Key. Without any key only
this machine can be served.

/openapi.json describes all routes. Ctrl-C or SIGTERM ends it when what is under way is answered.")]
pub(super) struct Serve {
    #[command(flatten)]
    sources: SourceArgs,

    /// The address to listen at.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1", help_heading = ACCESS)]
    bind: IpAddr,

    /// The port; 0 for any that is free.
    #[arg(long, value_name = "PORT", default_value = "1984", help_heading = ACCESS)]
    port: u16,

    /// A file of keys: one a line, with the UUID of its tenant after it where it is tied to one.
    #[arg(long, value_name = "FILE", help_heading = ACCESS)]
    key_file: Option<PathBuf>,

    /// Serves other machines without a key.
    #[arg(long, help_heading = ACCESS, hide_short_help = true)]
    insecure: bool,

    /// A name by which the server may be called beside those of this machine.
    #[arg(long, value_name = "NAME", help_heading = ACCESS, hide_short_help = true)]
    allow_host: Vec<String>,

    /// An origin, scheme and host, whose pages may read the answers in a browser; * for all.
    #[arg(long, value_name = "ORIGIN", help_heading = ACCESS, hide_short_help = true)]
    cors: Vec<String>,

    /// No answer is of files as they were more seconds ago.
    #[arg(long, value_name = "SECONDS", default_value = "30", help_heading = SERVING)]
    refresh: u32,

    /// How long a request may take: 30s, 5m.
    #[arg(long, value_name = "TIME", default_value = "60s", help_heading = SERVING)]
    timeout: String,

    /// How many questions are computed at the same time.
    #[arg(long, value_name = "N", default_value = "4", help_heading = SERVING, hide_short_help = true)]
    questions: NonZeroUsize,

    /// How many more may wait; those beyond are answered 503.
    #[arg(long, value_name = "N", default_value = "64", help_heading = SERVING, hide_short_help = true)]
    queue: usize,

    /// How many requests are answered at the same time; those beyond are answered 503.
    #[arg(long, value_name = "N", default_value = "512", help_heading = SERVING, hide_short_help = true)]
    requests: NonZeroUsize,

    /// The largest body of a request.
    #[arg(long, value_name = "SIZE", default_value = "1MiB", help_heading = SERVING, hide_short_help = true)]
    body_limit: ByteSize,

    /// Memory for answers that are kept until a file changes.
    #[arg(long, value_name = "SIZE", default_value = "64MiB", help_heading = SERVING)]
    cache: ByteSize,

    /// How the log is written: as text on a terminal and as JSON otherwise, or always as one of them.
    #[arg(long, value_enum, default_value = "auto", value_name = "HOW", help_heading = SERVING)]
    log: LogArg,

    /// Threads to use; all cores by default.
    #[arg(long, value_name = "N", help_heading = LIMITS, hide_short_help = true)]
    threads: Option<NonZeroUsize>,

    /// Memory for groups and sorts of all questions together, which spill to disk beyond it, and for joins,
    /// which fail.
    #[arg(long, value_name = "SIZE", default_value = "2GiB", help_heading = LIMITS)]
    memory_limit: ByteSize,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogArg {
    Auto,
    Text,
    Json,
}

impl Serve {
    pub(super) fn run(&self, given: &ArgMatches) -> Result<Exit, Error> {
        let options = self.options()?;
        if options.keys.is_empty() && !self.bind.is_loopback() && !self.insecure {
            return Err(Error::Usage {
                problem: format!(
                    "{} can be reached from other machines, and there is no key",
                    self.bind
                ),
                hint: Some(format!(
                    "give --key-file or {KEYS}, or bind to 127.0.0.1; --insecure serves everybody"
                )),
            });
        }
        let config = Config::read()?;
        let sources = self.sources.sources(&config)?;
        if sources.iter().any(|path| path.as_os_str() == "-") {
            return Err(Error::Usage {
                problem: "standard input cannot be served: it can be read only once".to_owned(),
                hint: Some("write it to a file".to_owned()),
            });
        }
        log_to_stderr(match self.log {
            LogArg::Auto => LogFormat::Auto,
            LogArg::Text => LogFormat::Text,
            LogArg::Json => LogFormat::Json,
        });
        let limits = Limits {
            threads: self.threads,
            memory_bytes: usize::try_from(self.memory_limit.as_u64()).ok(),
        };
        let runtime = runtime(self.threads)?;
        runtime.block_on(async {
            let source = Source::open(&sources, &self.sources.options(given, &config))?;
            let server = Server::new(Engine::new(&limits)?, source, options)?;
            self.serve(server).await
        })?;
        // What is still under way was given its time.
        runtime.shutdown_background();
        Ok(Exit::Done)
    }

    async fn serve(&self, server: Server) -> Result<(), Error> {
        let address = SocketAddr::new(self.bind, self.port);
        let failed = |action: &'static str| {
            move |source| Error::Io {
                path: address.to_string().into(),
                action,
                source,
            }
        };
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(failed("cannot listen"))?;
        let address = listener.local_addr().map_err(failed("cannot listen"))?;
        let named = tokio::select! {
            projects = server.projects() => named(&projects?),
            () = told_to_stop() => return Ok(()),
        };
        say(&format!("serving {named} at http://{address}"));
        aside(&format!(
            "try: curl 'http://{address}/sessions?include_stats=true&limit=1'"
        ));
        server
            .run(listener, told_to_stop())
            .await
            .map_err(failed("cannot serve"))
    }

    fn options(&self) -> Result<ServerOptions, Error> {
        let usage = |problem: String, hint: &str| Error::Usage {
            problem,
            hint: Some(hint.to_owned()),
        };
        let hint = "write a key, and the UUID of its tenant after it where it is tied to one";
        let given = std::env::var(KEYS).unwrap_or_default();
        let mut keys =
            Keys::parse(&given).map_err(|error| usage(format!("{KEYS}: {error}"), hint))?;
        if let Some(path) = &self.key_file {
            let text = fs::read_to_string(path).map_err(|source| Error::Io {
                path: path.clone(),
                action: "cannot read",
                source,
            })?;
            let wrong = |problem: &str| usage(format!("{}: {problem}", path.display()), hint);
            let of_file = Keys::parse(&text).map_err(|error| wrong(&error.to_string()))?;
            if of_file.is_empty() {
                return Err(wrong("no key in it"));
            }
            let added = keys.extend(of_file);
            added.map_err(|error| wrong(&error.to_string()))?;
        }
        let timeout = Clock::age(&self.timeout).and_then(|age| age.to_std().ok());
        let timeout = timeout.filter(|timeout| !timeout.is_zero());
        let timeout = timeout.ok_or_else(|| {
            usage(
                format!("--timeout: {:?} is no time", self.timeout),
                "write 30s or 5m",
            )
        })?;
        let n_bytes = |size: ByteSize| usize::try_from(size.as_u64()).unwrap_or(usize::MAX);
        Ok(ServerOptions {
            keys,
            refresh: Duration::from_secs(self.refresh.into()),
            timeout,
            body_bytes: n_bytes(self.body_limit),
            n_questions: self.questions.get(),
            n_waiting: self.queue,
            n_requests: self.requests.get(),
            kept_bytes: n_bytes(self.cache),
            origins: self.cors.clone(),
            hosts: self.allow_host.clone(),
            ..ServerOptions::default()
        })
    }
}

/// Some projects by their names, and how many more there are.
fn named(projects: &[String]) -> String {
    let shown = projects.iter().take(SHOWN);
    let shown: Vec<String> = shown
        .map(|name| runtally::output::plain_text(name).into_owned())
        .collect();
    let more = projects.len().saturating_sub(SHOWN);
    match more {
        0 if projects.is_empty() => "no project".to_owned(),
        0 => shown.join(", "),
        more => format!("{} and {more} more projects", shown.join(", ")),
    }
}

/// Waits for Ctrl-C or SIGTERM.
async fn told_to_stop() {
    let interrupted = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending::<()>().await,
        }
    };
    #[cfg(not(unix))]
    let terminated = std::future::pending::<()>();
    tokio::select! {
        () = interrupted => {}
        () = terminated => {}
    }
}
