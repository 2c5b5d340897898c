//! Columns read here beside the crate's reader of the same bytes.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, FixedSizeBinaryArray, Float32Array, Float64Array,
    Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array,
    UInt64Array,
};
use datafusion::arrow::compute::{concat, take};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::arrow::arrow_reader::{
    ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use datafusion::parquet::basic::{Compression, Encoding, ZstdLevel};
use datafusion::parquet::file::properties::{WriterProperties, WriterVersion};
use datafusion::parquet::schema::types::ColumnPath;
use proptest::prelude::*;
use proptest::sample::select;

use super::codec::Decompressor;
use super::column::{FlatColumn, Found, Wanted, is_readable};

/// Numbers of a few or of many kinds, in runs or not, some of them missing.
fn any_numbers() -> impl Strategy<Value = Vec<Option<u64>>> {
    let part = (
        1..400_usize,
        select(vec![1_u64, 2, 5, 300, u64::MAX]),
        select(vec![0.001, 0.02, 0.5, 0.99]),
        any::<bool>(),
    )
        .prop_flat_map(|(n, most, missing, is_run)| {
            let number = prop_oneof![Just(0..most), Just(most / 2..most)].prop_flat_map(|few| few);
            if is_run {
                proptest::option::weighted(1.0 - missing, number)
                    .prop_map(move |one| vec![one; n])
                    .boxed()
            } else {
                let number = proptest::option::weighted(1.0 - missing, number);
                proptest::collection::vec(number, n).boxed()
            }
        });
    proptest::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    reason = "any values will do"
)]
fn columns(numbers: &[Option<u64>]) -> Vec<(ArrayRef, DataType)> {
    let texts = numbers
        .iter()
        .map(|number| number.map(|number| format!("é{number}")));
    let texts: Vec<Option<String>> = texts.collect();
    let ids = numbers
        .iter()
        .map(|number| number.map(|number| u128::from(number).to_le_bytes()));
    let each = || numbers.iter();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(
            each()
                .map(|n| n.map(|n| n % 2 == 1))
                .collect::<BooleanArray>(),
        ),
        Arc::new(each().map(|n| n.map(|n| n as i32)).collect::<Int32Array>()),
        Arc::new(each().map(|n| n.map(|n| n as u32)).collect::<UInt32Array>()),
        Arc::new(each().map(|n| n.map(|n| n as i64)).collect::<Int64Array>()),
        Arc::new(each().copied().collect::<UInt64Array>()),
        Arc::new(
            each()
                .map(|n| n.map(|n| n as i64))
                .collect::<TimestampMicrosecondArray>(),
        ),
        Arc::new(
            each()
                .map(|n| n.map(|n| n as f32))
                .collect::<Float32Array>(),
        ),
        Arc::new(
            each()
                .map(|n| n.map(|n| n as f64))
                .collect::<Float64Array>(),
        ),
        Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(ids, 16).unwrap()),
        Arc::new(texts.iter().map(Option::as_deref).collect::<StringArray>()),
        Arc::new(
            texts
                .iter()
                .map(|text| text.as_ref().map(String::as_bytes))
                .collect::<BinaryArray>(),
        ),
    ];
    let kinds = columns.iter().map(|column| match column.data_type() {
        DataType::Utf8 => DataType::Utf8View,
        DataType::Binary => DataType::BinaryView,
        kind => kind.clone(),
    });
    let kinds: Vec<DataType> = kinds.collect();
    columns.into_iter().zip(kinds).collect()
}

fn any_properties() -> impl Strategy<Value = WriterProperties> {
    let zstd = Compression::ZSTD(ZstdLevel::default());
    (
        select(vec![WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0]),
        select(vec![Compression::UNCOMPRESSED, Compression::SNAPPY, zstd]),
        (any::<bool>(), any::<bool>()),
        (
            select(vec![10_usize, 100, 1 << 20]),
            select(vec![7_usize, 64, 10_000]),
        ),
        select(vec![50_usize, 1_000, 100_000]),
    )
        .prop_map(
            |(version, compression, (dictionary, differences), (of_dictionary, page), group)| {
                let mut properties = WriterProperties::builder()
                    .set_writer_version(version)
                    .set_compression(compression)
                    .set_dictionary_enabled(dictionary)
                    .set_dictionary_page_size_limit(of_dictionary)
                    .set_data_page_row_count_limit(page)
                    .set_write_batch_size(page.min(32))
                    .set_max_row_group_row_count(Some(group));
                if differences {
                    for name in ["1", "2", "3", "4", "5"] {
                        let path = ColumnPath::from(name);
                        properties = properties
                            .set_column_dictionary_enabled(path.clone(), false)
                            .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
                    }
                }
                properties.build()
            },
        )
}

/// Which of the rows of windows of some lengths are wanted.
fn windows(
    n_rows: usize,
    lengths: &[usize],
    shares: &[u8],
) -> Vec<(Range<usize>, Option<Vec<u32>>)> {
    let mut windows = Vec::new();
    let mut start = 0;
    let mut steps = lengths.iter().cycle().zip(shares.iter().cycle());
    while start < n_rows {
        let (length, share) = steps.next().unwrap();
        let end = n_rows.min(start + length);
        let is_wanted = |row: &u32| match share {
            0 => false,
            1 => *row < 3,
            2 => row.wrapping_mul(2_654_435_761).is_multiple_of(4),
            _ => true,
        };
        let rows = (0..u32::try_from(end - start).unwrap()).filter(is_wanted);
        let rows = (*share != 4).then(|| rows.collect());
        windows.push((start..end, rows));
        start = end;
    }
    windows
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 500, ..ProptestConfig::default() })]

    #[test]
    fn columns_are_those_of_the_crates_reader(
        numbers in any_numbers(),
        is_optional in any::<bool>(),
        properties in any_properties(),
        lengths in proptest::collection::vec(1..700_usize, 1..5),
        shares in proptest::collection::vec(0..5_u8, 1..6),
        n_windows in 1..5_usize,
        by_pages in any::<bool>(),
    ) {
        let numbers: Vec<Option<u64>> = if is_optional {
            numbers
        } else {
            numbers.iter().map(|number| Some(number.unwrap_or(7))).collect()
        };
        let columns = columns(&numbers);
        let fields = |kind: fn(&(ArrayRef, DataType)) -> DataType| {
            let fields = columns.iter().enumerate().map(|(number, column)| {
                Field::new(number.to_string(), kind(column), is_optional)
            });
            Arc::new(Schema::new(fields.collect::<Vec<_>>()))
        };
        let arrays: Vec<ArrayRef> = columns.iter().map(|(array, _)| Arc::clone(array)).collect();
        let written = fields(|(array, _)| array.data_type().clone());
        let batch = RecordBatch::try_new(Arc::clone(&written), arrays).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), written, Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        let bytes = Bytes::from(writer.into_inner().unwrap());

        let read = fields(|(_, kind)| kind.clone());
        let options = ArrowReaderOptions::new().with_schema(read);
        let reader = ParquetRecordBatchReaderBuilder::try_new_with_options(bytes.clone(), options);
        let reader = reader.unwrap();
        let file = Arc::clone(reader.metadata());
        let expected: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
        let mut decompressor = Decompressor::default();
        let mut found = Found::default();
        for (index, (_, kind)) in columns.iter().enumerate() {
            let whole: Vec<_> = expected.iter().map(|batch| batch.column(index).as_ref()).collect();
            let mut first = 0;
            for group in file.row_groups() {
                let whole = concat(&whole).unwrap();
                let n_rows = usize::try_from(group.num_rows()).unwrap();
                let expected = whole.slice(first, n_rows);
                first += n_rows;
                let column = group.column(index);
                // Texts as differences are left to that reader.
                let is_other = column.encodings().any(|encoding| encoding == Encoding::DELTA_BYTE_ARRAY);
                prop_assert_eq!(is_readable(column, kind), !is_other, "{}", kind);
                if is_other {
                    continue;
                }
                let (start, length) = column.byte_range();
                let start = usize::try_from(start).unwrap();
                let chunk = bytes.slice(start..start + usize::try_from(length).unwrap());
                let mut flat = FlatColumn::new(column, kind, chunk).unwrap().unwrap();
                for windows in windows(n_rows, &lengths, &shares).chunks(n_windows) {
                    let (mut rows, mut parts) = (Vec::new(), Vec::new());
                    for (window, wanted) in windows {
                        let start = u32::try_from(window.start).unwrap();
                        let end = u32::try_from(window.end).unwrap();
                        let read = match wanted {
                            None => Wanted::All,
                            Some(rows) => Wanted::Rows(rows),
                        };
                        let mut each = |part| parts.push(part);
                        let each = by_pages.then_some(&mut each as &mut dyn FnMut(ArrayRef));
                        flat.read(window.len(), read, &mut decompressor, &mut found, each)
                            .unwrap();
                        match wanted {
                            None => rows.extend(start..end),
                            Some(wanted) => rows.extend(wanted.iter().map(|row| start + row)),
                        }
                    }
                    let expected = take(&expected, &UInt32Array::from(rows), None).unwrap();
                    parts.push(flat.finish().unwrap());
                    let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
                    prop_assert_eq!(&concat(&parts).unwrap(), &expected, "{} {}", index, kind);
                }
            }
        }
    }
}
