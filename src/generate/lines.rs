//! Runs as JSON lines, as a client that lists runs dumps them: naive times, costs as text, JSON as it is,
//! and no `is_root`.

use std::io::{self, Write};

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;

use super::json;

/// The columns whose text is JSON.
const JSON: [&str; 7] = [
    "inputs",
    "outputs",
    "extra",
    "events",
    "tags",
    "parent_run_ids",
    "feedback_stats",
];

/// The column that such dumps have not.
const LEFT_OUT: &str = "is_root";

/// Writes a line a row.
pub(super) fn write(out: &mut impl Write, batch: &RecordBatch) -> io::Result<()> {
    let schema = batch.schema();
    let mut line = String::new();
    for row in 0..batch.num_rows() {
        line.clear();
        let mut before = "{";
        for (field, column) in schema.fields().iter().zip(batch.columns()) {
            let name = field.name().as_str();
            if name == LEFT_OUT {
                continue;
            }
            for part in [before, "\"", name, "\": "] {
                line.push_str(part);
            }
            before = ", ";
            push_value(&mut line, name, column.as_ref(), row);
        }
        line.push_str("}\n");
        out.write_all(line.as_bytes())?;
    }
    Ok(())
}

/// Appends a value.
fn push_value(line: &mut String, name: &str, column: &dyn Array, row: usize) {
    if column.is_null(row) {
        line.push_str("null");
        return;
    }
    match column.data_type() {
        DataType::Timestamp(..) => {
            line.push('"');
            let times = column.as_primitive::<TimestampMicrosecondType>();
            json::push_iso_time(line, times.value(row));
            line.push('"');
        }
        DataType::Int64 => {
            line.push_str(&column.as_primitive::<Int64Type>().value(row).to_string());
        }
        DataType::Dictionary(..) => {
            let pooled = column.as_dictionary::<Int32Type>();
            let texts = pooled.values().as_string::<i32>();
            let key = pooled.key(row).unwrap_or_default();
            line.push_str(texts.value(key));
        }
        _ => {
            let text = column.as_string::<i32>().value(row);
            if JSON.contains(&name) {
                line.push_str(text);
            } else {
                line.push_str(&serde_json::Value::from(text).to_string());
            }
        }
    }
}
