//! What every question has: its flags, how they become a request, and the way from there to an answer.

use std::io::{self, IsTerminal, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Instant;

use bytesize::ByteSize;
use chrono::{DateTime, Duration, Utc};
use chrono_tz::Tz;
use clap::{ArgMatches, Args, ValueEnum};
use runtally::output::{Format, Style};
use runtally::{
    Clock, CostFormat, Engine, Error, Limits, Projects, Request, Source, SourceOptions, Usage,
    Window,
};

use super::config::{self, Config};
use super::face::{self, Color, Remark, aside, remark, say, set_color};
use super::filters::FilterArgs;
use super::progress::Progress;
use super::sources::SourceArgs;
use super::summary::Answer;
use super::{Exit, report, summary, write};

pub(super) const WHICH: &str = "Which traces";
pub(super) const OUTPUT: &str = "Output";
pub(super) const LIMITS: &str = "Limits";

/// The flags of a question.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub(super) struct QuestionArgs {
    /// Only this project: its UUID, its name, or a unique prefix of either.
    #[arg(short, long, aliases = ["id", "name"], value_name = "PROJECT", help_heading = WHICH)]
    project: Option<String>,

    /// Only traces that start at or after this: 2026-10-01, 2026-10-01T12:00:00Z, 7d, 36h, yesterday.
    #[arg(
        long,
        alias = "stats-start-time",
        value_name = "TIME",
        allow_hyphen_values = true,
        help_heading = WHICH
    )]
    since: Option<String>,

    /// Only traces that start before this.
    #[arg(
        long,
        alias = "stats-end-time",
        value_name = "TIME",
        allow_hyphen_values = true,
        help_heading = WHICH
    )]
    until: Option<String>,

    /// Only traces of this period: 2026-10, 2026-Q3, 2026-W45, yesterday, last-month.
    #[arg(long, value_name = "PERIOD", conflicts_with_all = ["since", "until"], help_heading = WHICH)]
    period: Option<String>,

    /// The zone in which a day begins, such as Europe/Berlin.
    #[arg(
        short = 'z',
        long,
        visible_alias = "zone",
        value_name = "ZONE",
        default_value = "UTC",
        help_heading = WHICH
    )]
    timezone: Tz,

    /// What ages and words count from, instead of the clock.
    #[arg(long, value_name = "TIME", help_heading = WHICH, hide_short_help = true)]
    now: Option<String>,

    /// Whose tokens and costs count: those of root runs, which contain their descendants', or each run's
    /// own, added up; auto finds out, a project at a time.
    #[arg(
        long,
        value_enum,
        default_value = "auto",
        value_name = "WHOSE",
        help_heading = WHICH,
        hide_short_help = true
    )]
    usage_from: UsageArg,

    /// How long before and after the window runs are looked at that may belong to a trace in it; matters
    /// where each run's own usage is added up.
    #[arg(
        long,
        value_name = "AGE",
        default_value = "24h",
        help_heading = WHICH,
        hide_short_help = true
    )]
    trace_span: String,

    /// The most frequent names, types, statuses, tags and metadata too, each with the filter for it.
    #[arg(long, help_heading = WHICH)]
    facets: bool,

    #[command(flatten)]
    filters: FilterArgs,

    #[command(flatten)]
    sources: SourceArgs,

    /// How the answer is written: auto is a table on a terminal, what the output file's name says, JSON
    /// otherwise.
    #[arg(short, long, value_enum, default_value = "auto", help_heading = OUTPUT)]
    format: FormatArg,

    /// The same as --format json.
    #[arg(long, conflicts_with = "format", help_heading = OUTPUT)]
    json: bool,

    /// Writes to a file, which appears whole or not at all.
    #[arg(short, long, value_name = "FILE", help_heading = OUTPUT)]
    output: Option<PathBuf>,

    /// How costs are written in JSON; the digits are the same.
    #[arg(
        long,
        value_enum,
        default_value = "string",
        value_name = "HOW",
        help_heading = OUTPUT,
        hide_short_help = true
    )]
    cost_format: CostArg,

    /// A warning is a failure: nothing is written, exit code 1.
    #[arg(long, help_heading = OUTPUT)]
    strict: bool,

    /// Where colours are used.
    #[arg(
        long,
        value_enum,
        default_value = "auto",
        value_name = "WHEN",
        help_heading = OUTPUT,
        hide_short_help = true
    )]
    color: Color,

    /// No progress bar.
    #[arg(long, help_heading = OUTPUT, hide_short_help = true)]
    no_progress: bool,

    /// Says which settings came from where, and sums up every answer.
    #[arg(short, long, help_heading = OUTPUT)]
    verbose: bool,

    /// No warnings, hints, summary or progress.
    #[arg(short, long, conflicts_with = "verbose", help_heading = OUTPUT)]
    quiet: bool,

    /// Threads to use; all cores by default.
    #[arg(long, value_name = "N", help_heading = LIMITS, hide_short_help = true)]
    threads: Option<NonZeroUsize>,

    /// Memory for groups and sorts, which spill to disk beyond it, and for joins, which fail.
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "2GiB",
        help_heading = LIMITS,
        hide_short_help = true
    )]
    memory_limit: ByteSize,

    /// Shows the executed plan with its metrics on standard error.
    #[arg(long, help_heading = LIMITS, hide_short_help = true)]
    explain: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FormatArg {
    Auto,
    Table,
    /// Indented: a document as an object, several as an array.
    Json,
    /// One document a line.
    Jsonl,
    Csv,
    #[value(alias = "markdown")]
    Md,
    /// Typed columns; for statistics only.
    Parquet,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum UsageArg {
    Auto,
    Roots,
    Own,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CostArg {
    String,
    Number,
}

/// What is asked, after the flags, the environment and the settings were read.
pub(super) struct Question {
    pub(super) request: Request,
    pub(super) format: Format,
    pub(super) zone: Tz,
    /// Files that a command reads itself, which are no runs.
    pub(super) other_files: Vec<PathBuf>,
    config: Config,
    began: Instant,
}

impl Question {
    /// Refuses Parquet where the answer is no table of figures.
    pub(super) fn refuse_parquet(&self) -> Result<(), Error> {
        if self.format != Format::Parquet {
            return Ok(());
        }
        Err(Error::Usage {
            problem: "only statistics are written as Parquet".to_owned(),
            hint: Some(
                "`runtally stats -g project -o FILE.parquet` has those of projects".to_owned(),
            ),
        })
    }
}

impl QuestionArgs {
    /// Reads the flags, and says with `-v` what came from where.
    pub(super) fn read(&self, given: &ArgMatches) -> Result<Question, Error> {
        let began = Instant::now();
        set_color(self.color);
        let format = self.format();
        if format == Format::Parquet && self.output.is_none() && io::stdout().is_terminal() {
            return Err(Error::Usage {
                problem: "a terminal cannot show Parquet".to_owned(),
                hint: Some("give -o FILE.parquet".to_owned()),
            });
        }
        let config = Config::read()?;
        let zone = self.zone(given, &config)?;
        let request = Request {
            projects: self.project.clone().map_or(Projects::All, Projects::One),
            tenant: None,
            window: self.window(zone)?,
            stats: true,
            usage: self.usage_from.into(),
            trace_span_us: self.trace_span_us()?,
            filter: self.filters.of_root()?,
            trace_filter: self.filters.of_trace()?,
            tree_filter: self.filters.of_any()?,
            facets: self.facets,
            daily: None,
        };
        if self.verbose {
            self.say_origins(given, &config);
            for (name, filter) in [
                ("filter", &request.filter),
                ("trace filter", &request.trace_filter),
                ("tree filter", &request.tree_filter),
            ] {
                if let Some(filter) = filter {
                    aside(&format!("{name}: {filter}"));
                }
            }
        }
        Ok(Question {
            request,
            format,
            zone,
            other_files: Vec::new(),
            config,
            began,
        })
    }

    /// Answers the question and writes the answer; `write` returns the columns that it left out.
    pub(super) fn answer<A: Answer>(
        &self,
        given: &ArgMatches,
        question: &Question,
        ask: impl AsyncFnOnce(&Engine, &Source, &Request) -> Result<A, Error>,
        write: impl FnOnce(&A, &mut dyn Write, Format, &Style) -> io::Result<Vec<String>>,
    ) -> Result<Exit, Error> {
        let sources = self.sources.sources(&question.config)?;
        let options = SourceOptions {
            other_files: question.other_files.clone(),
            ..self.sources.options(given, &question.config)
        };
        let Some(answer) = self.ask(&sources, &options, &question.request, ask)? else {
            return Ok(Exit::Interrupted);
        };
        let answer = answer.with_costs_as(self.cost_format.into());
        if self.explain {
            say(&answer.about().explain());
        }
        let warnings = warnings(&answer);
        if self.strict && !warnings.is_empty() {
            report::strict(&warnings, self.errors_are_json());
            return Ok(Exit::Failed);
        }
        let format = question.format;
        let style = self.style(question.zone);
        let left_out = match &self.output {
            Some(path) => write::to_file(path, |out| write(&answer, out, format, &style)),
            None => write::to_stdout(|out| write(&answer, out, format, &style)),
        }?;
        if self.verbose {
            for (format, n_files) in &answer.about().read.formats {
                let told_by = self.sources.told_by(format);
                aside(&format!("format: {format}, {told_by}; files: {n_files}"));
            }
        }
        if !self.quiet {
            for warning in &warnings {
                remark(Remark::Warning, warning);
            }
            let is_for_people = matches!(format, Format::Table | Format::Markdown);
            if is_for_people || self.verbose || face::is_watched() {
                sum_up(&answer, &left_out, question);
            }
        }
        let exit = if answer.about().skipped.is_empty() {
            Exit::Done
        } else {
            Exit::Skipped
        };
        // It holds the footers of all files: given back one by one as the process ends, they would take
        // as long as some of the reading.
        std::mem::forget(answer);
        Ok(exit)
    }

    /// What `--now` says.
    pub(super) fn now_us(&self, zone: Tz) -> Result<Option<i64>, Error> {
        let now = Utc::now();
        let clock = Clock { now, zone };
        let now = self.now.as_ref();
        now.map(|text| clock.moment(text)).transpose()
    }

    /// Whether everything is said that may be of interest.
    pub(super) fn is_verbose(&self) -> bool {
        self.verbose
    }

    /// Whether failures are told to a program.
    pub(super) fn errors_are_json(&self) -> bool {
        self.json || matches!(self.format, FormatArg::Json | FormatArg::Jsonl)
    }

    /// Executes the question; `None` where the user interrupted it.
    fn ask<A>(
        &self,
        sources: &[PathBuf],
        options: &SourceOptions,
        request: &Request,
        ask: impl AsyncFnOnce(&Engine, &Source, &Request) -> Result<A, Error>,
    ) -> Result<Option<A>, Error> {
        let limits = Limits {
            threads: self.threads,
            memory_bytes: usize::try_from(self.memory_limit.as_u64()).ok(),
        };
        let shows_progress = face::is_watched() && !self.no_progress && !self.quiet;
        runtime(self.threads)?.block_on(async {
            let work = async {
                let engine = tokio::task::spawn_blocking(move || Engine::new(&limits));
                let source = Source::open(sources, options)?;
                let engine = engine
                    .await
                    .map_err(|error| Error::Engine(error.into()))??;
                let _progress =
                    shows_progress.then(|| Progress::watch(engine.clone(), source.n_bytes()));
                ask(&engine, &source, request).await
            };
            tokio::select! {
                answer = work => answer.map(Some),
                _ = tokio::signal::ctrl_c() => Ok(None),
            }
        })
    }

    fn zone(&self, given: &ArgMatches, config: &Config) -> Result<Tz, Error> {
        let named = config.timezone.as_ref();
        let Some(name) = named.filter(|_| config::is_open(given, "timezone")) else {
            return Ok(self.timezone);
        };
        name.parse().map_err(|_| Error::BadInput {
            path: config::FILE.into(),
            problem: format!("timezone: expected a zone such as Europe/Berlin, found {name:?}"),
        })
    }

    fn window(&self, zone: Tz) -> Result<Window, Error> {
        let mut clock = Clock {
            now: Utc::now(),
            zone,
        };
        if let Some(us) = self.now_us(zone)? {
            clock.now = DateTime::from_timestamp_micros(us).unwrap_or(clock.now);
        }
        if let Some(period) = &self.period {
            return clock.period(period);
        }
        let moment =
            |text: &Option<String>| text.as_ref().map(|text| clock.moment(text)).transpose();
        Window::new(moment(&self.since)?, moment(&self.until)?)
    }

    fn trace_span_us(&self) -> Result<i64, Error> {
        let age = Clock::age(&self.trace_span)
            .as_ref()
            .and_then(Duration::num_microseconds);
        age.ok_or_else(|| Error::Usage {
            problem: format!("--trace-span: {:?} is no age", self.trace_span),
            hint: Some("write 90m, 24h or 7d".to_owned()),
        })
    }

    fn format(&self) -> Format {
        match self.format {
            _ if self.json => Format::Json,
            FormatArg::Json => Format::Json,
            FormatArg::Jsonl => Format::Jsonl,
            FormatArg::Table => Format::Table,
            FormatArg::Csv => Format::Csv,
            FormatArg::Md => Format::Markdown,
            FormatArg::Parquet => Format::Parquet,
            FormatArg::Auto => match &self.output {
                None if io::stdout().is_terminal() => Format::Table,
                None => Format::Json,
                Some(path) => match path.extension().and_then(|extension| extension.to_str()) {
                    Some("csv") => Format::Csv,
                    Some("md" | "markdown") => Format::Markdown,
                    Some("jsonl" | "ndjson") => Format::Jsonl,
                    Some("txt") => Format::Table,
                    Some("parquet") => Format::Parquet,
                    _ => Format::Json,
                },
            },
        }
    }

    fn style(&self, zone: Tz) -> Style {
        let terminal = self.output.is_none() && io::stdout().is_terminal();
        let size = terminal_size::terminal_size_of(io::stdout()).filter(|_| terminal);
        Style {
            width: size.map(|(width, _)| usize::from(width.0)),
            color: self.output.is_none() && self.color.allows(terminal),
            terminal,
            zone,
            threads: self
                .threads
                .or_else(|| std::thread::available_parallelism().ok())
                .map_or(1, NonZeroUsize::get),
        }
    }

    fn say_origins(&self, given: &ArgMatches, config: &Config) {
        let of_file = [
            (self.sources.are_open() && !config.sources().is_empty()).then_some("the sources"),
            (config.timezone.is_some() && config::is_open(given, "timezone"))
                .then_some("--timezone"),
            (config.projects.is_some() && config::is_open(given, "projects"))
                .then_some("--projects"),
        ];
        let of_file = of_file.into_iter().flatten();
        let of_file = of_file.map(|what| format!("{what} from {}", config::FILE));
        for origin in config::from_environment(given).into_iter().chain(of_file) {
            aside(&origin);
        }
    }
}

/// What stands beside an answer, on standard error; the summary last.
fn sum_up(answer: &impl Answer, left_out: &[String], question: &Question) {
    let (about, summary) = (answer.about(), answer.summary());
    if !left_out.is_empty() {
        let left_out = left_out.join(", ");
        aside(&format!("not shown for want of room: {left_out}"));
    }
    for text in &summary.asides {
        aside(text);
    }
    let zone = question.zone;
    for hint in summary.hints(about, zone) {
        remark(Remark::Hint, &hint);
    }
    let line = summary.line(about, zone, question.began.elapsed());
    aside(&summary::wrapped(&line, face::width()));
}

/// The warnings of an answer, with one for each file that was left out.
fn warnings(answer: &impl Answer) -> Vec<String> {
    let about = answer.about();
    let skipped = about.skipped.iter();
    let skipped =
        skipped.map(|file| format!("{}: left out: {}", file.path.display(), file.problem));
    skipped.chain(about.warnings.iter().cloned()).collect()
}

pub(super) fn runtime(threads: Option<NonZeroUsize>) -> Result<tokio::runtime::Runtime, Error> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = threads {
        builder.worker_threads(threads.get());
    }
    let runtime = builder.enable_all().build();
    runtime.map_err(|error| Error::Engine(Box::new(error)))
}

impl From<UsageArg> for Usage {
    fn from(usage: UsageArg) -> Self {
        match usage {
            UsageArg::Auto => Self::Auto,
            UsageArg::Roots => Self::Roots,
            UsageArg::Own => Self::Own,
        }
    }
}

impl From<CostArg> for CostFormat {
    fn from(style: CostArg) -> Self {
        match style {
            CostArg::String => Self::String,
            CostArg::Number => Self::Number,
        }
    }
}
