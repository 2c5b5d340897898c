use runtally::{CostFormat, Limits, Request, SourceOptions};
use serde_json::Value;

use crate::documents::ask;
use crate::support::llmperf;
use crate::support::write::{Shape, write};

#[test]
#[allow(clippy::print_stderr)]
fn published_percentiles_are_met() {
    let Some(models) = llmperf::models() else {
        eprintln!("left out: the measurements are not on this machine");
        return;
    };
    assert!(!models.is_empty());
    for model in &models {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &model.runs, &Shape::default());
        let options = SourceOptions::default();
        let request = Request::default();
        let text = ask(
            dir.path(),
            &Limits::default(),
            &[],
            &options,
            &request,
            CostFormat::String,
        );
        let documents: Vec<Value> = serde_json::from_str(&text.unwrap()).unwrap();
        llmperf::assert_published(&documents[0], model);
    }
}
