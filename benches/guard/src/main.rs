//! One piece of work a process, for `benches/guard/run`: `runtally-guard NAME` does it once, in a function
//! whose name begins with `measured`; without a name, the names.
//!
//! The sources are those of the package itself.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

use std::hint::black_box;

#[path = "../../../src/cpu.rs"]
mod cpu;
#[path = "../../../src/tally"]
#[allow(dead_code, unused_imports, reason = "only some of it is measured")]
mod tally {
    pub mod bytes;
    pub mod money;
    pub mod sketch;
    pub mod varint;
}

use tally::money::{pico_from_f64, pico_from_text, pico_to_text};
use tally::sketch::{Quantile, Sketch};

/// What is measured, by name.
const WORK: [(&str, fn()); 9] = [
    ("sketch: record 200 values", || {
        measured_record(&latencies(200));
    }),
    ("sketch: record 100 000 values", || {
        measured_record(&latencies(100_000));
    }),
    ("sketch: record 100 000 values more", || {
        let values = latencies(100_000);
        measured_record_more(&mut sketch_of(&values), &values);
    }),
    ("sketch: merge 1 000 of 300 values", || {
        measured_merge(&parts(1_000, 300));
    }),
    ("sketch: serialize 100 000 values", || {
        measured_serialize(&sketch_of(&latencies(100_000)));
    }),
    ("sketch: 100 quantiles of 100 000 values", || {
        measured_quantiles(&sketch_of(&latencies(100_000)));
    }),
    ("money: 10 000 doubles", || {
        let doubles = latencies(10_000).into_iter();
        measured_doubles(&doubles.map(|v| v as f64 / 1e9).collect::<Vec<_>>());
    }),
    ("money: 10 000 texts", || {
        let texts = latencies(10_000).into_iter();
        measured_texts(&texts.map(|v| format!("0.{v:012}")).collect::<Vec<_>>());
    }),
    ("money: to 10 000 texts", || {
        measured_to_texts(&latencies(10_000));
    }),
];

fn main() {
    let Some(asked) = std::env::args().nth(1) else {
        WORK.iter().for_each(|(name, _)| println!("{name}"));
        return;
    };
    let (_, work) = WORK.iter().find(|(name, _)| *name == asked).unwrap();
    work();
}

#[inline(never)]
fn measured_record(values: &[u64]) {
    let mut sketch = Sketch::new();
    values.iter().for_each(|v| sketch.record(*v));
    black_box(sketch);
}

/// What a value costs where most buckets are there already.
#[inline(never)]
fn measured_record_more(sketch: &mut Sketch, values: &[u64]) {
    values.iter().for_each(|v| sketch.record(*v));
    black_box(sketch);
}

#[inline(never)]
fn measured_merge(parts: &[Vec<u8>]) {
    let mut sketch = Sketch::new();
    parts
        .iter()
        .for_each(|part| sketch.merge_bytes(part).unwrap());
    black_box(sketch);
}

#[inline(never)]
fn measured_serialize(sketch: &Sketch) {
    black_box(sketch.to_bytes());
}

#[inline(never)]
fn measured_quantiles(sketch: &Sketch) {
    for percent in 0..100_u32 {
        let q: Quantile = percent.to_string().parse().unwrap();
        black_box(sketch.quantile_thousandths(q));
    }
}

#[inline(never)]
fn measured_doubles(costs: &[f64]) {
    costs.iter().for_each(|v| {
        black_box(pico_from_f64(*v).unwrap());
    });
}

#[inline(never)]
fn measured_texts(costs: &[String]) {
    costs.iter().for_each(|v| {
        black_box(pico_from_text(v).unwrap());
    });
}

#[inline(never)]
fn measured_to_texts(costs: &[u64]) {
    costs.iter().for_each(|v| {
        black_box(pico_to_text(i128::from(*v)));
    });
}

/// A sketch whose making does not count.
fn sketch_of(values: &[u64]) -> Sketch {
    let mut sketch = Sketch::new();
    values.iter().for_each(|v| sketch.record(*v));
    sketch
}

/// The bytes of sketches of so many values each.
fn parts(n: usize, n_values: usize) -> Vec<Vec<u8>> {
    let values = latencies(n * n_values);
    values
        .chunks(n_values)
        .map(|part| sketch_of(part).to_bytes())
        .collect()
}

/// Durations from 8 ms to about a minute, microseconds; the same ones every time.
fn latencies(n: usize) -> Vec<u64> {
    let mut state = 7_u64;
    let mut next = || {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    };
    (0..n)
        .map(|_| {
            let low = 8_000_u64 << (next() % 13);
            low + next() % low
        })
        .collect()
}
