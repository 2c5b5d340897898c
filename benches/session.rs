//! From files to the document: generated exports of 100 000 and of a million runs.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use runtally::generate::{self, Options};
use runtally::{Engine, Limits, Projects, Request, Source, SourceOptions};

fn session(c: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut bench = c.benchmark_group("session");
    bench.sample_size(10);
    for rows in [100_000, 1_000_000] {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            rows,
            projects: 1,
            ..Options::default()
        };
        let summary = generate::generate(dir.path(), &options).unwrap();
        let request = Request {
            projects: Projects::Only,
            ..Request::default()
        };
        let answer = || async {
            let engine = Engine::new(&Limits::default()).unwrap();
            let source = Source::open([dir.path()], &SourceOptions::default()).unwrap();
            runtally::sessions(&engine, &source, &request)
                .await
                .unwrap()
        };
        bench.throughput(Throughput::Elements(summary.rows));
        bench.bench_function(format!("{rows} rows"), |b| {
            b.to_async(&runtime).iter(answer)
        });
        bench.throughput(Throughput::Bytes(summary.bytes));
        bench.bench_function(format!("{rows} rows, bytes of the files"), |b| {
            b.to_async(&runtime).iter(answer);
        });
    }
    bench.finish();
}

criterion_group!(benches, session);
criterion_main!(benches);
