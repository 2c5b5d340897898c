//! The sketch alone: recording, merging, writing, reading quantiles.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use runtally::tally::sketch::{Quantile, Sketch};

/// Latencies as they are: log-normal around three seconds, in microseconds.
fn latencies(n: usize) -> Vec<u64> {
    let mut rng = StdRng::seed_from_u64(7);
    let mut normal = || (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
    (0..n).map(|_| (normal().exp() * 3e6) as u64).collect()
}

fn sketch_of(values: &[u64]) -> Sketch {
    let mut sketch = Sketch::new();
    for value in values {
        sketch.record(*value);
    }
    sketch
}

fn record(c: &mut Criterion) {
    let mut group = c.benchmark_group("sketch/record");
    for n in [200, 1_000, 1_000_000] {
        let values = latencies(n);
        group.throughput(Throughput::Elements(n as u64));
        group.bench_function(n.to_string(), |b| b.iter(|| sketch_of(black_box(&values))));
    }
    let values = latencies(1_000_000);
    group.throughput(Throughput::Elements(values.len() as u64));
    group.bench_function("hdrhistogram, 1000000", |b| {
        b.iter(|| {
            let mut histogram = hdrhistogram::Histogram::<u64>::new(3).unwrap();
            for value in &values {
                histogram.record(*value).unwrap();
            }
            histogram
        });
    });
    group.finish();
}

fn merge(c: &mut Criterion) {
    let mut group = c.benchmark_group("sketch/merge");
    for n in [200, 10_000, 1_000_000] {
        let values = latencies(n);
        let (left, right) = values.split_at(n / 2);
        let (left, right) = (sketch_of(left), sketch_of(right).to_bytes());
        group.bench_function(n.to_string(), |b| {
            b.iter_batched_ref(
                || left.clone(),
                |sketch| sketch.merge_bytes(black_box(&right)),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn read(c: &mut Criterion) {
    for n in [200, 10_000, 1_000_000] {
        let sketch = sketch_of(&latencies(n));
        c.bench_function(&format!("sketch/serialize/{n}"), |b| {
            b.iter(|| sketch.to_bytes());
        });
        let bytes = sketch.to_bytes();
        c.bench_function(&format!("sketch/deserialize/{n}"), |b| {
            b.iter(|| Sketch::from_bytes(black_box(&bytes)).unwrap());
        });
        c.bench_function(&format!("sketch/quantile/{n}"), |b| {
            b.iter(|| sketch.quantile_thousandths(black_box(Quantile::P99)));
        });
    }
}

criterion_group!(benches, record, merge, read);
criterion_main!(benches);
