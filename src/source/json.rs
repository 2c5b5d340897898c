//! Runs in JSON: dumps of the API's answers, made into temporary Parquet files before a question looks at
//! them.
//!
//! A file is read once, from its beginning to its end, in bounded memory: a stream of bytes (packed or not)
//! → `blocks` of whole values → `run`s → row groups of a `table` with the columns of a bulk export, which
//! everything else reads as it reads those. Blocks are read by one thread, taken apart by several and put
//! together in their order, so that the table does not depend on how many there are.

mod blocks;
mod run;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufReader, Cursor, Read};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::SystemTime;

use datafusion::parquet::arrow::arrow_writer::ArrowColumnChunk;
use datafusion::parquet::errors::ParquetError;

use super::format;
use super::listing::{self, Form, Listed};
use crate::error::{Error, Result, SkippedFile};
use crate::runs::Column;
use blocks::{BLOCK_BYTES, Block, Blocks, Broken, Cut, Fault};
use run::{COLUMNS, N_SMALL_COLUMNS, Reader};
use table::{Encoder, Rows, Table};

/// Files of fewer bytes are read by one thread each, several at a time.
const SMALL_BYTES: u64 = 2 * BLOCK_BYTES as u64;

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

/// What became of a block.
struct Encoded {
    n_lines: u64,
    columns: Option<Vec<ArrowColumnChunk>>,
    n_rows: usize,
    present: u64,
    n_left_out: u64,
    first_left_out: Option<Fault>,
    passed_over: BTreeSet<String>,
}

/// What is said of a file that is named itself.
const FIGURES: &str = "expected runs, found figures that were computed of runs";

/// Why a table was not made.
enum Stop {
    /// The first value is one of figures.
    Figures,
    Broken(Broken),
    Table(ParquetError),
}

impl From<ParquetError> for Stop {
    fn from(error: ParquetError) -> Self {
        Self::Table(error)
    }
}

impl Job {
    fn run(
        &self,
        reading: &Reading,
        n_threads: usize,
        is_awaited: &AtomicBool,
    ) -> Result<Option<Spooled>> {
        let unreadable = |error: io::Error| self.bad(format!("it cannot be read: {error}"));
        let input: Box<dyn Read + Send> = match self.form {
            Form::Stream => Box::new(io::stdin()),
            _ => Box::new(File::open(&self.canonical).map_err(unreadable)?),
        };
        let mut input = input;
        let mut first = Vec::new();
        let n_first = PARQUET.len() as u64;
        let begin = input.by_ref().take(n_first).read_to_end(&mut first);
        begin.map_err(unreadable)?;
        let packing = Packing::of(&first);
        if first.starts_with(PARQUET) {
            return Err(self.bad("Parquet is read from files only, JSON was expected".to_owned()));
        }
        let input = Cursor::new(first).chain(input);
        let counting = |input| {
            let counting = Counting {
                input,
                n_bytes: &reading.n_bytes,
                is_awaited,
            };
            BufReader::with_capacity(1 << 18, counting)
        };
        let input: Box<dyn Read + Send + '_> = match packing {
            // Counted by blocks, so that they are read without a detour.
            Packing::None => Box::new(input),
            Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(counting(input))),
            Packing::Zstd => {
                Box::new(zstd::Decoder::with_buffer(counting(input)).map_err(unreadable)?)
            }
        };
        let has_read = |n_bytes: usize| {
            if packing == Packing::None {
                reading.n_bytes.fetch_add(n_bytes as u64, Ordering::Relaxed);
            }
            is_awaited.load(Ordering::Relaxed)
        };
        let mut sum = Sum::default();
        let blocks = Blocks::new(input, BLOCK_BYTES, has_read);
        let made = self.make(blocks, reading, n_threads, &mut sum);
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

    /// Makes the table of a stream.
    fn make(
        &self,
        mut blocks: Blocks<impl Read + Send, impl Fn(usize) -> bool + Send>,
        reading: &Reading,
        n_threads: usize,
        sum: &mut Sum,
    ) -> std::result::Result<(), Stop> {
        let (mut table, encoder) = table::create(&self.table, self.n_columns)?;
        let encode = |block: &Block| encoded(block, self.n_columns, reading.skips, &encoder);
        if n_threads < 2 {
            while let Some(block) = blocks.next().map_err(Stop::Broken)? {
                sum.add(&block, encode(&block)?, &mut table)?;
            }
        } else {
            in_parallel(blocks, n_threads, &encode, &mut |block, done| {
                sum.add(&block, done, &mut table)
            })?;
        }
        table.close()?;
        Ok(())
    }
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

/// What was put into a table.
#[derive(Default)]
struct Sum {
    n_lines: u64,
    n_rows: usize,
    n_bytes: u64,
    present: u64,
    n_left_out: u64,
    first_left_out: Option<Fault>,
    passed_over: BTreeSet<String>,
}

impl Sum {
    /// A fault of the next block, with the number of its line in the stream.
    fn placed(&self, fault: Fault) -> Fault {
        Fault {
            line: self.n_lines + fault.line,
            ..fault
        }
    }

    fn add(
        &mut self,
        block: &Block,
        done: Encoded,
        table: &mut Table,
    ) -> std::result::Result<(), Stop> {
        if let Some(columns) = done.columns {
            table.append(columns)?;
        }
        self.n_rows += done.n_rows;
        self.n_bytes += block.bytes.len() as u64;
        self.present |= done.present;
        self.n_left_out += done.n_left_out;
        let first = done.first_left_out.map(|fault| self.placed(fault));
        self.first_left_out = self.first_left_out.take().or(first);
        self.n_lines += done.n_lines;
        self.passed_over.extend(done.passed_over);
        Ok(())
    }
}

/// Reads blocks, encodes several at a time, and hands them over in their order.
fn in_parallel(
    mut blocks: Blocks<impl Read + Send, impl Fn(usize) -> bool + Send>,
    n_threads: usize,
    encode: &(impl Fn(&Block) -> std::result::Result<Encoded, Stop> + Sync),
    add: &mut impl FnMut(Block, Encoded) -> std::result::Result<(), Stop>,
) -> std::result::Result<(), Stop> {
    type Numbered<T> = (usize, T);
    type Done = std::result::Result<(Block, Encoded), Stop>;
    // A block is read only where one was handed over before, so that few are there at a time.
    let n_there = n_threads + 1;
    let (allow, allowed): (SyncSender<()>, Receiver<()>) = sync_channel(2 * n_there);
    let (give, given): (SyncSender<Numbered<Block>>, _) = sync_channel(n_there);
    let (finish, finished): (SyncSender<Numbered<Done>>, _) = sync_channel(2 * n_there);
    for _ in 0..n_there {
        // There is room, and somebody who will take it.
        let _ = allow.send(());
    }
    let given = Arc::new(Mutex::new(given));
    thread::scope(|scope| {
        let finish_reader = finish.clone();
        scope.spawn(move || {
            let mut number = 0;
            while allowed.recv().is_ok() {
                let sent = match blocks.next() {
                    Ok(None) => break,
                    Ok(Some(block)) => give.send((number, block)).is_ok(),
                    Err(broken) => {
                        // Nobody may wait any more.
                        let _ = finish_reader.send((number, Err(Stop::Broken(broken))));
                        false
                    }
                };
                if !sent {
                    break;
                }
                number += 1;
            }
        });
        for _ in 0..n_threads {
            let (given, finish) = (Arc::clone(&given), finish.clone());
            scope.spawn(move || {
                loop {
                    let next = given.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok((number, block)) = next else { break };
                    let done = encode(&block).map(|encoded| (block, encoded));
                    if finish.send((number, done)).is_err() {
                        break;
                    }
                }
            });
        }
        drop((finish, given));
        let mut waiting: BTreeMap<usize, Done> = BTreeMap::new();
        let mut next = 0;
        let mut outcome = Ok(());
        'all: for (number, done) in &finished {
            waiting.insert(number, done);
            while let Some(done) = waiting.remove(&next) {
                next += 1;
                outcome = done.and_then(|(block, encoded)| add(block, encoded));
                if outcome.is_err() {
                    break 'all;
                }
                let _ = allow.send(());
            }
        }
        // Whoever still waits to hand something over ends.
        drop((finished, allow));
        outcome
    })
}

/// Reads the runs of a block.
fn encoded(
    block: &Block,
    n_columns: usize,
    skips: bool,
    encoder: &Encoder,
) -> std::result::Result<Encoded, Stop> {
    // After the mark that a text may begin with.
    let begins = block.offset <= 3;
    let mut rows = Rows::new(n_columns);
    let mut reader = Reader::new(n_columns);
    let (mut n_lines, mut n_left_out) = (0, 0);
    let mut first_left_out: Option<Fault> = None;
    let mut leave_out = |at: usize, problem: String| {
        let is_first = first_left_out.is_none();
        if is_first || !skips {
            let fault = block.fault(at, problem);
            if !skips {
                return Err(Stop::Broken(Broken::Fault(fault)));
            }
            first_left_out = Some(fault);
        }
        n_left_out += 1;
        Ok(())
    };
    let mut read = |begin: usize, end: usize| {
        let text =
            match simdutf8::compat::from_utf8(block.bytes.get(begin..end).unwrap_or_default()) {
                Ok(text) => text,
                Err(error) => {
                    let at = begin + error.valid_up_to();
                    return leave_out(at, "no text: its bytes are no UTF-8".to_owned());
                }
            };
        if text.trim_ascii().is_empty() {
            return Ok(());
        }
        reader.read(text, |run| match run {
            Ok(run) => {
                rows.add(&run);
                Ok(())
            }
            Err(wrong) if wrong.is_figures && begins && rows.n == 0 => Err(Stop::Figures),
            Err(wrong) => leave_out(begin + wrong.at, wrong.problem),
        })
    };
    match &block.cut {
        Cut::Values(ranges) => {
            for range in ranges {
                read(range.start, range.end)?;
            }
            n_lines = blocks::n_lines(&block.bytes);
        }
        Cut::Lines => {
            let mut begin = 0;
            for end in memchr::memchr_iter(b'\n', &block.bytes) {
                read(begin, end)?;
                begin = end + 1;
                n_lines += 1;
            }
            read(begin, block.bytes.len())?;
        }
    }
    let (n_rows, present) = (rows.n, rows.present);
    Ok(Encoded {
        n_lines,
        columns: encoder.encode(rows)?,
        n_rows,
        present,
        n_left_out,
        first_left_out,
        passed_over: reader.passed_over,
    })
}
