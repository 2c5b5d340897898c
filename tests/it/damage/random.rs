//! Random corruptions of well-formed files: seeded, in every codec and page version, with small row
//! groups and pages, over the whole file and focussed on what directs the reader.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::properties::{WriterProperties, WriterVersion};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use runtally::{Request, Window};

use super::regions::{self, Region, regions};
use super::{MEMORY_BYTES, Reader, assert_plain, footer_length, whole_file};
use crate::PEAK;
use crate::support::run::FIRST_MIDNIGHT_US;

/// How many corruptions are tried in every run of the tests, and how many by hand.
const N_ALWAYS: u64 = 300;
const N_BY_HAND: u64 = 10_000;
/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A well-formed file, and where in it what lies.
struct Flavour {
    name: String,
    codec: Compression,
    bytes: Vec<u8>,
    metadata: ParquetMetaData,
    regions: Vec<Region>,
}

/// The same runs in each codec and page version, with dictionaries and without.
fn flavours() -> Vec<Flavour> {
    let codecs = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::ZSTD(ZstdLevel::default()),
        Compression::GZIP(GzipLevel::default()),
    ];
    let versions = [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0];
    let mut flavours = Vec::new();
    for codec in codecs {
        for version in versions {
            for dictionaries in [true, false] {
                let bytes = rewritten(codec, version, dictionaries);
                let metadata = ParquetMetaDataReader::new()
                    .with_page_index_policy(PageIndexPolicy::Required)
                    .parse_and_finish(&Bytes::copy_from_slice(&bytes))
                    .unwrap();
                flavours.push(Flavour {
                    codec,
                    regions: regions(&bytes, &metadata),
                    name: format!("{codec:?}, {version:?}, dictionaries: {dictionaries}"),
                    bytes,
                    metadata,
                });
            }
        }
    }
    flavours
}

fn rewritten(codec: Compression, version: WriterVersion, dictionaries: bool) -> Vec<u8> {
    let rows = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(whole_file())).unwrap();
    let batches: Vec<RecordBatch> = rows.build().unwrap().map(Result::unwrap).collect();
    let properties = WriterProperties::builder()
        .set_compression(codec)
        .set_writer_version(version)
        .set_dictionary_enabled(dictionaries)
        .set_max_row_group_row_count(Some(40))
        .set_data_page_row_count_limit(10)
        .set_write_batch_size(5)
        .build();
    let schema = batches[0].schema();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties)).unwrap();
    for batch in &batches {
        writer.write(batch).unwrap();
    }
    writer.into_inner().unwrap()
}

impl Flavour {
    /// Where a corruption begins: anywhere, in the footer, in the page indexes, at the beginning of a
    /// page (its header), or in a dictionary.
    fn place(&self, rng: &mut StdRng) -> usize {
        let len = self.bytes.len();
        let footer = len - 8 - footer_length(&self.bytes);
        let group = rng.random_range(0..self.metadata.num_row_groups());
        let columns = self.metadata.row_group(group).columns();
        let column = rng.random_range(0..columns.len());
        let start = usize::try_from(columns[column].byte_range().0).unwrap();
        let near = |at: usize, length: usize| at..(at + length).min(len);
        let within: Range<usize> = match rng.random_range(0..8) {
            0 | 1 => 0..len,
            2 | 3 => footer..len,
            4 => {
                let indexes = columns[0].column_index_offset();
                let first = indexes.and_then(|at| usize::try_from(at).ok());
                first.filter(|first| *first < footer).unwrap_or(0)..footer
            }
            5 | 6 => {
                let pages = self.metadata.offset_index().unwrap()[group][column].page_locations();
                let page = &pages[rng.random_range(0..pages.len())];
                near(usize::try_from(page.offset).unwrap(), 40)
            }
            _ => near(start, 80),
        };
        rng.random_range(within)
    }

    /// The file with one corruption.
    fn corrupted(&self, rng: &mut StdRng) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        let at = self.place(rng);
        let run =
            |rng: &mut StdRng, most: usize| at..(at + rng.random_range(1..most)).min(bytes.len());
        match rng.random_range(0..10) {
            0 | 1 => bytes[at] ^= 1 << rng.random_range(0..8),
            2 | 3 => bytes[at] = rng.random(),
            4 => {
                let range = run(rng, 64);
                rng.fill(&mut bytes[range]);
            }
            5 => {
                let range = run(rng, 200);
                bytes[range].fill(0);
            }
            6 => {
                // A number of variable length that is as large as it can be.
                let range = run(rng, 10);
                let end = range.end - 1;
                bytes[range].fill(0xff);
                bytes[end] = 0x0f;
            }
            7 => bytes.truncate(at),
            8 => {
                let inserted: Vec<u8> =
                    (0..rng.random_range(1..40)).map(|_| rng.random()).collect();
                bytes.splice(at..at, inserted);
            }
            _ => {
                let range = run(rng, 60);
                let other = self.place(rng).min(bytes.len() - range.len());
                let there = bytes[other..other + range.len()].to_vec();
                let here = bytes[range.clone()].to_vec();
                bytes[other..other + here.len()].copy_from_slice(&here);
                bytes[range].copy_from_slice(&there);
            }
        }
        bytes
    }
}

/// How many corruptions had which outcome.
#[derive(Debug, Default)]
struct Outcomes {
    n_same: u32,
    n_errors: u32,
    /// Those that were answered with other figures, by what was hit.
    differing: BTreeMap<String, Vec<u64>>,
    /// The errors for which only a panic told that something is wrong.
    panicked: Vec<u64>,
    /// The most that one question allocated, and which did.
    peak: (usize, u64),
}

impl Outcomes {
    fn report(&self) -> String {
        let n_differing: usize = self.differing.values().map(Vec::len).sum();
        let by_region = self.differing.iter().map(|(hit, seeds)| {
            let some: Vec<String> = seeds.iter().take(12).map(u64::to_string).collect();
            format!("  {hit}: {} ({})", seeds.len(), some.join(" "))
        });
        let by_region: Vec<String> = by_region.collect();
        format!(
            "{} errors ({} after a panic: {:?}), {} same, {n_differing} differing:\n{}\n\
             at most {} bytes allocated (seed {})",
            self.n_errors,
            self.panicked.len(),
            self.panicked,
            self.n_same,
            by_region.join("\n"),
            self.peak.0,
            self.peak.1,
        )
    }
}

/// Half of the questions are about a window, so that page indexes are used.
fn request(seed: u64) -> Request {
    let day = FIRST_MIDNIGHT_US;
    let window = match seed % 2 {
        0 => Window::default(),
        _ => Window::new(Some(day + 1_500_000_000), Some(day + 5_000_000_000)).unwrap(),
    };
    Request {
        window,
        ..Request::default()
    }
}

fn try_corruptions(seeds: impl IntoIterator<Item = u64>) -> Outcomes {
    let (asked, questions) = mpsc::channel::<(std::path::PathBuf, Request)>();
    let (answered, answers) = mpsc::channel();
    let reader = Reader::new();
    let dir = reader.dir.path().to_owned();
    std::thread::spawn(move || {
        for (path, request) in questions {
            let answer = reader.answer_to(&path, &request);
            if answered.send(answer).is_err() {
                break;
            }
        }
    });
    let ask = |name: &str, bytes: &[u8], seed: u64| {
        let path = dir.join(format!("{name}.parquet"));
        std::fs::write(&path, bytes).unwrap();
        asked.send((path.clone(), request(seed))).unwrap();
        let answer = answers
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        std::fs::remove_file(&path).unwrap();
        let answer = answer.map(|answer| serde_json::to_string(&answer.sessions).unwrap());
        (path, answer)
    };
    let flavours = flavours();
    let whole = [0, 1].map(|seed| ask("whole", &flavours[0].bytes, seed).1.unwrap());
    for flavour in &flavours {
        let (_, answer) = ask(&flavour.name, &flavour.bytes, 0);
        assert_eq!(answer.unwrap(), whole[0], "{}", flavour.name);
    }
    let mut outcomes = Outcomes::default();
    let log = std::env::var_os("DAMAGE_LOG");
    for seed in seeds {
        let mut rng = StdRng::seed_from_u64(seed);
        let flavour = &flavours[rng.random_range(0..flavours.len())];
        let bytes = flavour.corrupted(&mut rng);
        if let Some(log) = &log {
            std::fs::write(log, format!("{seed}, {}", flavour.name)).unwrap();
        }
        let before = PEAK.current_usage();
        PEAK.reset_peak_usage();
        let (path, answer) = ask(&format!("corrupt-{seed}"), &bytes, seed);
        let used = PEAK.peak_usage().saturating_sub(before);
        outcomes.peak = outcomes.peak.max((used, seed));
        match answer {
            Ok(answer) if answer == whole[usize::try_from(seed % 2).unwrap()] => {
                outcomes.n_same += 1;
            }
            Ok(_) => {
                let hit = regions::hit(&flavour.regions, &flavour.bytes, &bytes);
                let codec = flavour.codec;
                let hit = format!("{hit}, {codec}");
                outcomes.differing.entry(hit).or_default().push(seed);
            }
            Err(error) => {
                assert_plain(&error, &path);
                outcomes.n_errors += 1;
                if error.to_string().ends_with(": its data is damaged") {
                    outcomes.panicked.push(seed);
                }
            }
        }
    }
    outcomes
}

#[test]
fn random_corruptions_never_panic() {
    let outcomes = try_corruptions(0..N_ALWAYS);
    assert!(outcomes.n_errors > 50, "{outcomes:?}");
}

/// Corruptions over which the reader panics, in its own task or in one that it waits for.
#[test]
fn a_panic_over_damaged_data_is_told_plainly() {
    let seeds = [
        2622, 3074, 3125, 3467, 3666, 4088, 5164, 5482, 5544, 5578, 6447, 7588, 7934, 8694, 8752,
        9668,
    ];
    let outcomes = try_corruptions(seeds);
    assert!(!outcomes.panicked.is_empty(), "{}", outcomes.report());
}

/// By hand, alone in its process so that what it allocates can be told:
/// `cargo test --test it -- --ignored --exact damage::random::ten_thousand_corruptions --nocapture`
#[test]
#[ignore = "takes minutes, and measures the whole process"]
#[allow(clippy::print_stderr)]
fn ten_thousand_corruptions() {
    let began = Instant::now();
    let outcomes = try_corruptions(0..N_BY_HAND);
    eprintln!("{:.0?}", began.elapsed());
    eprintln!("{}", outcomes.report());
    assert!(outcomes.peak.0 < MEMORY_BYTES, "{outcomes:?}");
}
