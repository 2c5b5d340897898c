//! Random corruptions of dumps in JSON: seeded, in every shape and packing.
//!
//! Where other figures are answered than those of the whole dump, without a word, what is left must be JSON of
//! the same shape for a parser of another make as well: then a value has changed within itself.

use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use super::{Reader, assert_plain};
use crate::support::dump::{Dump, Lay, Pack, packed, text, unpacked};
use crate::support::run::{FIRST_MIDNIGHT_US, Run};

/// How many corruptions are tried in every run of the tests, and how many by hand.
const N_ALWAYS: u64 = 300;
const N_BY_HAND: u64 = 10_000;
/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(30);

fn runs() -> Vec<Run> {
    let runs = (0..40_u64).map(|n| {
        let number = i64::try_from(n).unwrap();
        let start = FIRST_MIDNIGHT_US + number * 61_000_003;
        let mut run = Run::completed_root(n, start, start + number * number * 1_009);
        run.total_tokens = Some(number * 17);
        run.error = (n % 7 == 0).then(|| "ValueError: \"x\" \u{e9}".to_owned());
        run.inputs = Some(r#"{"question": ["what", {"is": "it?"}], "n": 1e3}"#.to_owned());
        run.feedback_stats = Some(format!(r#"{{"helpful": {{"n": 1, "avg": 0.{n}}}}}"#));
        run
    });
    let mut runs: Vec<Run> = runs.collect();
    for n in (1..40).step_by(2) {
        runs[n].parent_run_id = Some(runs[n - 1].id);
        runs[n].trace_id = runs[n - 1].trace_id;
        runs[n].is_root = Some(false);
    }
    runs
}

fn flavours() -> Vec<(Dump, Vec<u8>)> {
    let runs = runs();
    let lays = [
        Lay::Lines,
        Lay::Lines,
        Lay::Array { pretty: false },
        Lay::Array { pretty: true },
        Lay::Pages {
            name: "runs",
            pretty: false,
        },
        Lay::Nested { lines: true },
    ];
    let packs = [Pack::None, Pack::None, Pack::Gzip, Pack::Zstd];
    let mut flavours = Vec::new();
    for lay in lays {
        for pack in packs {
            let dump = Dump {
                lay,
                pack,
                ..Dump::default()
            };
            flavours.push((dump, packed(text(&runs, &dump).as_bytes(), pack)));
        }
    }
    flavours
}

fn corrupted(whole: &[u8], rng: &mut StdRng) -> Vec<u8> {
    const SIGNS: &[u8] = b"{}[]\",:\\\n 0-e";
    let mut bytes = whole.to_vec();
    let at = rng.random_range(0..bytes.len());
    let run = |rng: &mut StdRng, most: usize| at..(at + rng.random_range(1..most)).min(whole.len());
    match rng.random_range(0..10) {
        0 | 1 => bytes[at] ^= 1 << rng.random_range(0..8),
        2 => bytes[at] = rng.random(),
        3 | 4 => bytes[at] = SIGNS[rng.random_range(0..SIGNS.len())],
        5 => bytes.insert(at, SIGNS[rng.random_range(0..SIGNS.len())]),
        6 => {
            let range = run(rng, 40);
            bytes.drain(range);
        }
        7 => bytes.truncate(at),
        8 => {
            let range = run(rng, 200);
            let again = bytes[range].to_vec();
            let to = rng.random_range(0..bytes.len());
            bytes.splice(to..to, again);
        }
        _ => {
            let range = run(rng, 64);
            rng.fill(&mut bytes[range]);
        }
    }
    bytes
}

/// Whether bytes are a dump of such a shape for a parser that builds trees.
fn is_well_formed(bytes: &[u8], dump: &Dump) -> bool {
    let Some(bytes) = unpacked(bytes, dump.pack) else {
        return false;
    };
    let Ok(text) = String::from_utf8(bytes) else {
        return false;
    };
    let values: Result<Vec<Value>, _> = match dump.lay {
        Lay::Lines | Lay::Nested { lines: true } => {
            let lines = text.lines().filter(|line| !line.trim().is_empty());
            lines.map(serde_json::from_str).collect()
        }
        _ => serde_json::Deserializer::from_str(&text)
            .into_iter()
            .collect(),
    };
    values.is_ok()
}

fn try_corruptions(seeds: impl IntoIterator<Item = u64>) -> [u32; 3] {
    let (asked, questions) = mpsc::channel::<PathBuf>();
    let (answered, answers) = mpsc::channel();
    let reader = Reader::new();
    let dir = reader.dir.path().to_owned();
    std::thread::spawn(move || {
        for path in questions {
            if answered.send(reader.answer(&path)).is_err() {
                break;
            }
        }
    });
    let ask = |name: &str, bytes: &[u8]| {
        let path = dir.join(name);
        std::fs::write(&path, bytes).unwrap();
        asked.send(path.clone()).unwrap();
        let answer = answers
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        std::fs::remove_file(&path).unwrap();
        let answer = answer.map(|answer| {
            let documents = serde_json::to_string(&answer.sessions).unwrap();
            (documents, answer.about.warnings)
        });
        (path, answer)
    };
    let flavours = flavours();
    let mut whole = Vec::new();
    for (index, (dump, bytes)) in flavours.iter().enumerate() {
        let (_, answer) = ask(&format!("whole-{index}.json"), bytes);
        whole.push(answer.unwrap_or_else(|error| panic!("{dump:?}: {error}")));
    }
    let [mut n_same, mut n_errors, mut n_differing] = [0; 3];
    for seed in seeds {
        let mut rng = StdRng::seed_from_u64(seed);
        let index = rng.random_range(0..flavours.len());
        let (dump, bytes) = &flavours[index];
        let bytes = corrupted(bytes, &mut rng);
        match ask(&format!("corrupt-{seed}.json"), &bytes) {
            (_, Ok(answer)) if answer == whole[index] => n_same += 1,
            (_, Ok((_, warnings))) => {
                n_differing += 1;
                assert!(
                    warnings != whole[index].1 || is_well_formed(&bytes, dump),
                    "seed {seed}: {dump:?}"
                );
            }
            (path, Err(error)) => {
                n_errors += 1;
                assert_plain(&error, &path);
            }
        }
    }
    [n_same, n_errors, n_differing]
}

#[test]
fn random_corruptions_are_told_or_within_a_value() {
    let [n_same, n_errors, n_differing] = try_corruptions(0..N_ALWAYS);
    assert!(n_errors > 100, "{n_same} {n_errors} {n_differing}");
    assert!(n_differing > 0);
}

/// By hand: `cargo test --test it -- --ignored --exact damage::json::ten_thousand_corruptions --nocapture`
#[test]
#[ignore = "takes minutes"]
#[allow(clippy::print_stderr)]
fn ten_thousand_corruptions() {
    let [n_same, n_errors, n_differing] = try_corruptions(0..N_BY_HAND);
    eprintln!("{n_errors} errors, {n_same} same, {n_differing} differing");
}
