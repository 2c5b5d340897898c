//! Runs in JSON: dumps of the API's answers, made into temporary Parquet files before a question looks at
//! them.
//!
//! A file is read once, from its beginning to its end, in bounded memory: a stream of bytes (packed or not)
//! → `blocks` of whole values → `run`s → row groups of a `table` with the columns of a bulk export, which
//! everything else reads as it reads those. Blocks are read by one thread, taken apart by several and put
//! together in their order, so that the table does not depend on how many there are.

mod aligned;
mod blocks;
mod lines;
mod order;
mod part;
mod run;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::SystemTime;

use super::format;
use super::listing::{self, Form, Listed};
use crate::error::{Error, Result, SkippedFile};
use crate::runs::Column;
use aligned::Aligned;
use blocks::{BLOCK_BYTES, Block, Blocks, Broken, Cut, Fault};
use lines::{Lines, Window};
use order::in_order;
use part::{Encoded, Part, Stop, Sum};
use run::{COLUMNS, N_SMALL_COLUMNS};

/// Files of fewer bytes are read by one thread each, several at a time.
const SMALL_BYTES: u64 = 2 * BLOCK_BYTES as u64;

/// Streams are read by so many bytes.
const READ_BYTES: usize = 256 << 10;

/// What Parquet begins with.
const PARQUET: &[u8] = b"PAR1";

/// The JSON files of a source as tables, for as long as the source lives, or what it is opened again as.
#[derive(Debug, Default)]
pub(super) struct Spools {
    kept: Mutex<Kept>,
    /// Whoever makes tables has this, so that each is made once.
    making: futures::lock::Mutex<()>,
}

#[derive(Debug, Default)]
struct Kept {
    dir: Option<tempfile::TempDir>,
    n_tables: usize,
    /// By the path of the JSON file.
    tables: BTreeMap<PathBuf, (Stamp, Result<Found, String>)>,
}

/// When a file was written, and how large it was, when its table was made.
type Stamp = (SystemTime, u64);

fn stamp(file: &Listed) -> Stamp {
    (file.modified, file.size)
}

impl Kept {
    /// What is known of a file as it is now.
    fn of(&self, file: &Listed) -> Option<&Result<Found, String>> {
        let (made_of, made) = self.tables.get(&file.canonical)?;
        // Standard input is what it was.
        (file.form == Form::Stream || *made_of == stamp(file)).then_some(made)
    }
}

/// What a file holds.
#[derive(Clone, Debug)]
pub(super) enum Found {
    Parquet,
    /// JSON, of which a table was made.
    Table(Arc<Spooled>),
    /// What was computed of runs, and was written to where they are.
    Figures,
}

/// What became of a file: its table, or what is wrong with it.
type Made = (PathBuf, (Stamp, Result<Found, String>));

/// A JSON file as a table.
#[derive(Debug)]
pub(super) struct Spooled {
    pub(super) table: PathBuf,
    /// The file itself: its bytes, when it was written (seconds since 1970), its whole path.
    pub(super) size: u64,
    pub(super) modified_s: i64,
    pub(super) canonical: PathBuf,
    /// The columns that no run of the file has.
    pub(super) absent: Vec<&'static str>,
    /// Those that runs have, but that were not read.
    pub(super) unread: Vec<&'static str>,
    /// What of the file was left out.
    pub(super) left_out: Option<String>,
    /// The names of members of runs that have no column.
    pub(super) passed_over: BTreeSet<String>,
    n_rows: usize,
    n_columns: usize,
}

impl Drop for Spooled {
    /// The file of the table goes with whoever reads it last.
    fn drop(&mut self) {
        // It goes with its folder at the latest.
        let _ = fs::remove_file(&self.table);
    }
}

/// How files are read.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    /// The columns that are wanted, as [`n_columns`] counts them.
    pub(super) n_columns: usize,
    /// What is no run is left out.
    pub(super) skips: bool,
    pub(super) n_threads: usize,
    /// Counts the bytes that were read.
    pub(super) n_bytes: Arc<AtomicU64>,
}

/// How many of the columns are read so that these are among them, beside those of every question.
pub(super) fn n_columns(looked_at: &BTreeSet<Column>) -> usize {
    let columns = looked_at.iter().flat_map(|column| match column {
        // Mostly not kept for the sake of others.
        Column::DottedOrder => format::of_json().columns_of(Column::Extra),
        column => format::of_json().columns_of(*column),
    });
    run::n_columns(columns)
}

impl Spools {
    /// Makes tables of files, each once.
    pub(super) async fn of(
        &self,
        files: &[Listed],
        reading: &Reading,
    ) -> Result<Vec<Result<Found, SkippedFile>>> {
        let turn = self.making.lock().await;
        let jobs = self.jobs(files, reading)?;
        let (large, small): (Vec<Job>, Vec<Job>) =
            jobs.into_iter().partition(|job| job.size >= SMALL_BYTES);
        for jobs in [small, large] {
            if jobs.is_empty() {
                continue;
            }
            let made = self.make(jobs, reading).await?;
            let is_bad = made.iter().any(|(_, (_, made))| made.is_err());
            self.kept().tables.extend(made);
            if is_bad && !reading.skips {
                break;
            }
        }
        drop(turn);
        let kept = self.kept();
        let spooled = files.iter().map(|file| {
            let bad = |problem: &String| SkippedFile {
                path: file.path.clone(),
                problem: problem.clone(),
            };
            match kept.of(file) {
                None => Ok(Found::Parquet),
                Some(Err(problem)) => Err(bad(problem)),
                Some(Ok(Found::Table(table))) if table.n_rows == 0 => match &table.left_out {
                    Some(problem) => Err(bad(problem)),
                    None => Ok(Found::Table(Arc::clone(table))),
                },
                Some(Ok(found)) => Ok(found.clone()),
            }
        });
        Ok(spooled.collect())
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The files of which there is no table yet, or none that suffices.
    fn jobs(&self, files: &[Listed], reading: &Reading) -> Result<Vec<Job>> {
        let mut kept = self.kept();
        let mut jobs = Vec::new();
        for file in files {
            match kept.of(file) {
                Some(Ok(Found::Table(spooled))) if spooled.n_columns >= reading.n_columns => {
                    continue;
                }
                Some(Ok(Found::Figures)) => continue,
                Some(_) if file.form == Form::Stream => {
                    let problem = "it was read before, and can be read only once".to_owned();
                    return Err(Error::BadInput {
                        path: file.path.clone(),
                        problem,
                    });
                }
                _ if !is_json(file) => continue,
                _ => {}
            }
            if kept.dir.is_none() {
                let dir = tempfile::Builder::new().prefix("runtally-").tempdir();
                kept.dir = Some(dir.map_err(|source| Error::Io {
                    path: std::env::temp_dir(),
                    action: "cannot make a temporary folder",
                    source,
                })?);
            }
            let Some(dir) = kept.dir.as_ref().map(|dir| dir.path().to_owned()) else {
                continue;
            };
            kept.n_tables += 1;
            jobs.push(Job {
                path: file.path.clone(),
                canonical: file.canonical.clone(),
                form: file.form,
                size: file.size,
                modified_s: file.modified_s,
                stamp: stamp(file),
                table: dir.join(format!("{}.parquet", kept.n_tables)),
                n_columns: match file.form {
                    // It can be read only once.
                    Form::Stream => reading.n_columns.max(N_SMALL_COLUMNS),
                    _ => reading.n_columns,
                },
            });
        }
        Ok(jobs)
    }

    /// Makes tables on threads of their own, which end soon after nobody waits for them.
    async fn make(&self, jobs: Vec<Job>, reading: &Reading) -> Result<Vec<Made>> {
        let (done, made) = futures::channel::oneshot::channel();
        let awaited = Awaited(Arc::new(AtomicBool::new(true)));
        let is_awaited = Arc::clone(&awaited.0);
        let reading = reading.clone();
        thread::spawn(move || {
            // Nobody may wait any more.
            let _ = done.send(run_all(&jobs, &reading, &is_awaited));
        });
        let made = made
            .await
            .map_err(|_| Error::Engine("a reader of JSON ended early".into()))?;
        drop(awaited);
        made
    }
}

/// Says that somebody waits, until it is dropped.
struct Awaited(Arc<AtomicBool>);

impl Drop for Awaited {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// A table to be made.
#[derive(Debug)]
struct Job {
    path: PathBuf,
    canonical: PathBuf,
    form: Form,
    size: u64,
    modified_s: i64,
    stamp: Stamp,
    table: PathBuf,
    n_columns: usize,
}

/// Whether a file holds JSON: where it is named itself, by how it begins, else by its name.
fn is_json(file: &Listed) -> bool {
    match file.form {
        Form::Parquet => return false,
        Form::Json | Form::Stream => return true,
        Form::Unknown => {}
    }
    let mut first = Vec::new();
    let opened = File::open(&file.canonical);
    // What cannot be read is an error wherever it is tried again.
    let _ = opened.and_then(|opened| opened.take(64).read_to_end(&mut first));
    let text = first.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&first);
    match text.trim_ascii_start() {
        [b'{' | b'[', ..] => true,
        _ if first.starts_with(PARQUET) => false,
        _ => Packing::of(&first) != Packing::None || listing::is_json(&file.path),
    }
}

/// Makes several tables, large ones one after the other.
fn run_all(jobs: &[Job], reading: &Reading, is_awaited: &AtomicBool) -> Result<Vec<Made>> {
    let made = |job: &Job, n_threads: usize| -> Result<Made> {
        let spooled = match job.run(reading, n_threads, is_awaited) {
            Ok(Some(spooled)) => Ok(Found::Table(Arc::new(spooled))),
            Ok(None) => Ok(Found::Figures),
            Err(Error::BadInput { problem, .. }) => Err(problem),
            Err(error) => return Err(error),
        };
        Ok((job.canonical.clone(), (job.stamp, spooled)))
    };
    let are_small = jobs
        .iter()
        .all(|job| job.size < SMALL_BYTES && job.form != Form::Stream);
    if !are_small || jobs.len() == 1 {
        let mut all = Vec::with_capacity(jobs.len());
        for job in jobs {
            let one = made(job, reading.n_threads)?;
            let is_bad = one.1.1.is_err();
            all.push(one);
            if is_bad && !reading.skips {
                break;
            }
        }
        return Ok(all);
    }
    let n_each = jobs.len().div_ceil(reading.n_threads.max(1));
    thread::scope(|scope| {
        let parts: Vec<_> = jobs
            .chunks(n_each)
            .map(|jobs| {
                scope.spawn(|| {
                    jobs.iter()
                        .map(|job| made(job, 1))
                        .collect::<Result<Vec<_>>>()
                })
            })
            .collect();
        let mut all = Vec::with_capacity(jobs.len());
        for part in parts {
            all.extend(part.join().map_err(|_| failed())??);
        }
        Ok(all)
    })
}

fn failed() -> Error {
    Error::Engine("a reader of JSON failed".into())
}

/// How a stream is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    None,
    Gzip,
    Zstd,
}

impl Packing {
    fn of(first: &[u8]) -> Self {
        match first {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
}

/// Counts the bytes of a stream, until nobody waits for them.
struct Counting<'a, R> {
    input: R,
    n_bytes: &'a AtomicU64,
    is_awaited: &'a AtomicBool,
}

impl<R: Read> Read for Counting<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.is_awaited.load(Ordering::Relaxed) {
            return Err(blocks::interrupted());
        }
        let n_read = self.input.read(buffer)?;
        self.n_bytes.fetch_add(n_read as u64, Ordering::Relaxed);
        Ok(n_read)
    }
}

/// What is said of a file that is named itself.
const FIGURES: &str = "expected runs, found figures that were computed of runs";

impl Job {
    fn run(
        &self,
        reading: &Reading,
        n_threads: usize,
        is_awaited: &AtomicBool,
    ) -> Result<Option<Spooled>> {
        let unreadable = |error: io::Error| self.bad(format!("it cannot be read: {error}"));
        let file = match self.form {
            Form::Stream => None,
            _ => Some(File::open(&self.canonical).map_err(unreadable)?),
        };
        let mut input: Box<dyn Read + Send + '_> = match &file {
            Some(file) => Box::new(file),
            None => Box::new(io::stdin()),
        };
        let mut first = Vec::new();
        let n_first = PARQUET.len() as u64;
        let begin = input.by_ref().take(n_first).read_to_end(&mut first);
        begin.map_err(unreadable)?;
        let packing = Packing::of(&first);
        if first.starts_with(PARQUET) {
            return Err(self.bad("Parquet is read from files only, JSON was expected".to_owned()));
        }
        let counting = Counting {
            input: Cursor::new(first).chain(input),
            n_bytes: &reading.n_bytes,
            is_awaited,
        };
        let input = Aligned::new(counting, READ_BYTES);
        let input: Box<dyn Read + Send + '_> = match packing {
            Packing::None => Box::new(input),
            Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
            Packing::Zstd => Box::new(zstd::Decoder::with_buffer(input).map_err(unreadable)?),
        };
        let mut sum = Sum::default();
        let made = match &file {
            Some(file) if packing == Packing::None => lines_of(file, reading, is_awaited),
            _ => Ok(None),
        };
        let made = made.map_err(Stop::Broken).and_then(|lines| {
            let input = lines.map_or_else(
                || Input::Stream(Blocks::new(input, BLOCK_BYTES)),
                Input::Lines,
            );
            self.make(input, reading, n_threads, &mut sum)
        });
        if let Err(Stop::Figures) = made
            && self.form == Form::Json
        {
            return Ok(None);
        }
        made.map_err(|stop| match stop {
            Stop::Figures => self.bad(FIGURES.to_owned()),
            Stop::Broken(Broken::Fault(fault)) => self.bad(told(&sum.placed(fault), packing)),
            Stop::Broken(Broken::Io(error)) if packing == Packing::None => unreadable(error),
            Stop::Broken(Broken::Io(error)) => self.bad(format!("it cannot be unpacked: {error}")),
            Stop::Table(error) => Error::Io {
                path: self.table.clone(),
                action: "cannot write",
                source: io::Error::other(error),
            },
        })?;
        if sum.n_bytes == 0 && !self.is_lines() {
            return Err(self.bad("expected runs, found nothing".to_owned()));
        }
        let names = |is_meant: &dyn Fn(usize, bool) -> bool| {
            let columns = COLUMNS.iter().enumerate();
            let meant = columns.filter(|(at, _)| is_meant(*at, sum.present & (1 << at) > 0));
            meant.map(|(_, (name, _))| *name).collect()
        };
        Ok(Some(Spooled {
            table: self.table.clone(),
            absent: names(&|_, is_present| !is_present),
            unread: names(&|at, is_present| is_present && at >= self.n_columns),
            passed_over: sum.passed_over,
            left_out: sum.first_left_out.map(|fault| {
                let first = told(&fault, packing);
                match sum.n_left_out {
                    1 => format!("1 value, {first}"),
                    n => format!("{n} values, the first {first}"),
                }
            }),
            size: if self.form == Form::Stream {
                sum.n_bytes
            } else {
                self.size
            },
            modified_s: self.modified_s,
            canonical: self.canonical.clone(),
            n_rows: sum.n_rows,
            n_columns: self.n_columns,
        }))
    }

    /// Whether its name says that it has a run a line: there need be none.
    fn is_lines(&self) -> bool {
        let name = self.path.file_name().and_then(|name| name.to_str());
        let name = name.unwrap_or_default().to_ascii_lowercase();
        [".jsonl", ".ndjson"].iter().any(|part| name.contains(part))
    }

    fn bad(&self, problem: String) -> Error {
        Error::BadInput {
            path: self.path.clone(),
            problem,
        }
    }

    /// Makes the table of what is read.
    fn make(
        &self,
        input: Input<impl Read + Send, impl Fn(u64) -> bool + Sync>,
        reading: &Reading,
        n_threads: usize,
        sum: &mut Sum,
    ) -> std::result::Result<(), Stop> {
        let (mut table, encoder) = table::create(&self.table, self.n_columns)?;
        let part = || Part::new(self.n_columns, reading.skips);
        let mut add = |done: Encoded| {
            if let Some(columns) = done.columns {
                table.append(columns)?;
            }
            sum.add(done.sum);
            Ok(())
        };
        match input {
            Input::Stream(mut blocks) => {
                let next = || Ok(blocks.next()?);
                let read = |(): &mut (), block: Block| {
                    let mut part = part();
                    part.read(&block.bytes, block.offset, &block.cut)?;
                    part.encode(&encoder)
                };
                in_order(n_threads, next, &read, &mut add)?;
            }
            Input::Lines(lines) => {
                let mut stretches = lines.stretches();
                let read = |window: &mut Window, stretch| {
                    let mut part = part();
                    lines.read(stretch, window, |at, bytes| {
                        part.read(bytes, at, &Cut::Lines)
                    })?;
                    part.encode(&encoder)
                };
                in_order(n_threads, || Ok(stretches.next()), &read, &mut add)?;
            }
        }
        table.close()?;
        Ok(())
    }
}

/// What values are read from.
enum Input<'a, R, H> {
    Stream(Blocks<R>),
    Lines(Lines<'a, H>),
}

/// A file as lines, where it is one and has a value a line.
fn lines_of<'a>(
    file: &'a File,
    reading: &'a Reading,
    is_awaited: &'a AtomicBool,
) -> std::result::Result<Option<Lines<'a, impl Fn(u64) -> bool + Sync + 'a>>, Broken> {
    let known = file.metadata().map_err(Broken::Io)?;
    if !known.is_file() {
        return Ok(None);
    }
    let mut again = file;
    again.rewind().map_err(Broken::Io)?;
    let first = Blocks::new(file, BLOCK_BYTES).first_line()?;
    again
        .seek(SeekFrom::Start(PARQUET.len() as u64))
        .map_err(Broken::Io)?;
    let has_read = |n_bytes: u64| {
        reading.n_bytes.fetch_add(n_bytes, Ordering::Relaxed);
        is_awaited.load(Ordering::Relaxed)
    };
    Ok(first.map(|begin| Lines::new(file, begin..known.len(), has_read)))
}

/// The path that a place of an unpacked stream has in words.
fn told(fault: &Fault, packing: Packing) -> String {
    let Fault {
        offset,
        line,
        problem,
    } = fault;
    let unpacked = match packing {
        Packing::None => "",
        _ => " of what is packed in it",
    };
    format!("line {line}, byte {offset}{unpacked}: {problem}")
}
