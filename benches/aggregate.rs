//! The sketch as an aggregate function inside the engine: one group, ten, fifty thousand.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use datafusion::arrow::array::{Int64Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::logical_expr::ident;
use datafusion::prelude::{SessionConfig, SessionContext};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const N_ROWS: usize = 4_000_000;
const BATCH_ROWS: usize = 8_192;

/// Rows in the shuffled order in which an export holds them.
fn batches(n_groups: i64) -> Vec<RecordBatch> {
    let mut rng = StdRng::seed_from_u64(7);
    let schema = Arc::new(Schema::new(vec![
        Field::new("group", DataType::Int64, false),
        Field::new("latency_us", DataType::Int64, false),
    ]));
    (0..N_ROWS / BATCH_ROWS)
        .map(|_| {
            let groups: Int64Array = (0..BATCH_ROWS)
                .map(|_| rng.random_range(0..n_groups))
                .collect();
            let latencies: Int64Array = (0..BATCH_ROWS)
                .map(|_| (1e4 * 1e4_f64.powf(rng.random())) as i64)
                .collect();
            RecordBatch::try_new(
                Arc::clone(&schema),
                vec![Arc::new(groups), Arc::new(latencies)],
            )
            .unwrap()
        })
        .collect()
}

fn aggregate(c: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut bench = c.benchmark_group("aggregate");
    bench
        .sample_size(10)
        .throughput(Throughput::Elements(N_ROWS as u64));
    for (name, n_groups) in [
        ("ungrouped", 1),
        ("10 groups", 10),
        ("50000 groups", 50_000),
    ] {
        let batches = batches(n_groups);
        bench.bench_function(name, |b| {
            b.to_async(&runtime).iter(|| async {
                let config = SessionConfig::new().with_target_partitions(2);
                let ctx = SessionContext::new_with_config(config);
                let sketch = runtally::tally::hdr_sketch().call(vec![ident("latency_us")]);
                let by = if n_groups == 1 {
                    vec![]
                } else {
                    vec![ident("group")]
                };
                let rows = ctx.read_batches(batches.clone()).unwrap();
                rows.aggregate(by, vec![sketch])
                    .unwrap()
                    .collect()
                    .await
                    .unwrap()
            });
        });
    }
    bench.finish();
}

criterion_group!(benches, aggregate);
criterion_main!(benches);
