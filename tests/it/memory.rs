use std::sync::Arc;

use datafusion::arrow::array::{Int32Array, Int64Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::logical_expr::ident;
use datafusion::prelude::{SessionConfig, SessionContext};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// The most memory that the process ever had, in bytes.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// 50 000 groups of 300 values. Takes a process of its own and an optimized build:
/// `cargo test --release --test it -- --ignored --exact memory::many_sketches_stay_small --nocapture`
#[test]
#[ignore = "measures the whole process"]
#[allow(clippy::print_stderr)]
fn many_sketches_stay_small() {
    const GROUPS: usize = 50_000;
    let mut rng = StdRng::seed_from_u64(7);
    let schema = Arc::new(Schema::new(vec![
        Field::new("group", DataType::Int32, false),
        Field::new("latency_us", DataType::Int64, false),
    ]));
    let batches: Vec<RecordBatch> = (0..300 * GROUPS / 10_000)
        .map(|_| {
            let groups: Int32Array = (0..10_000)
                .map(|_| rng.random_range(0..i32::try_from(GROUPS).unwrap()))
                .collect();
            let values: Int64Array = (0..10_000)
                .map(|_| rng.random_range(10_000..100_000_000_i64))
                .collect();
            let columns = vec![Arc::new(groups) as _, Arc::new(values) as _];
            RecordBatch::try_new(Arc::clone(&schema), columns).unwrap()
        })
        .collect();
    let Some(before) = peak_bytes() else {
        eprintln!("left out: this system does not tell a process's peak memory");
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let n_rows: usize = runtime.block_on(async {
        let config = SessionConfig::new().with_target_partitions(2);
        let ctx = SessionContext::new_with_config(config);
        let sketch = runtally::tally::hdr_sketch().call(vec![ident("latency_us")]);
        let rows = ctx.read_batches(batches).unwrap();
        let groups = rows.aggregate(vec![ident("group")], vec![sketch]).unwrap();
        let groups = groups.collect().await.unwrap();
        groups.iter().map(RecordBatch::num_rows).sum()
    });
    assert_eq!(n_rows, GROUPS);
    let grown = peak_bytes().unwrap() - before;
    eprintln!(
        "{GROUPS} groups of 300 values: {} MB beside the input",
        grown / 1_000_000
    );
    assert!(grown < 500_000_000, "{grown} bytes");
}
