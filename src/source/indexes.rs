//! Checks page indexes against the footer.
//!
//! A damaged bound in either would leave out rows without a word: row groups and pages are chosen by
//! them. Both say the same twice, so that one of them tells on the other. Only indexes that lie in the part
//! of the file that was read for its footer are looked at; they cost nothing more to read.

use datafusion::parquet::basic::SortOrder;
use datafusion::parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use datafusion::parquet::file::statistics::Statistics;

use super::thrift::{self, ColumnIndex, PageLocation};

type Checked = std::result::Result<(), &'static str>;

const CONTRADICTS: &str = "its page index and its footer contradict each other";

/// Checks the page indexes that lie in the end of a file, which begins at `end_at`.
pub(super) fn check(metadata: &ParquetMetaData, end_at: u64, end: &[u8]) -> Result<(), String> {
    for group in metadata.row_groups() {
        let Ok(n_rows @ 1..) = u64::try_from(group.num_rows()) else {
            continue;
        };
        for column in group.columns() {
            // What levels say of nested columns is not counted in rows.
            if column.column_descr().max_rep_level() == 0 {
                let name = || column.column_path().string();
                check_column(column, n_rows, end_at, end)
                    .map_err(|problem| format!("column {}: {problem}", name()))?;
            }
        }
    }
    Ok(())
}

fn check_column(column: &ColumnChunkMetaData, n_rows: u64, end_at: u64, end: &[u8]) -> Checked {
    let within = |offset: Option<i64>, length: Option<i32>| {
        let start = u64::try_from(offset?).ok()?.checked_sub(end_at)?;
        let start = usize::try_from(start).ok()?;
        end.get(start..start.checked_add(usize::try_from(length?).ok()?)?)
    };
    let values = within(column.column_index_offset(), column.column_index_length());
    let values = values.map(thrift::column_index).transpose()?;
    let places = within(column.offset_index_offset(), column.offset_index_length());
    let places = places.map(thrift::page_locations).transpose()?;
    if let Some(places) = &places {
        check_places(column, n_rows, places)?;
    }
    let Some(values) = values else { return Ok(()) };
    let n_pages = values.all_null.len();
    let counts = values.null_counts.as_ref();
    let is_whole = values.mins.len() == n_pages
        && values.maxs.len() == n_pages
        && counts.is_none_or(|counts| counts.len() == n_pages)
        && places.is_none_or(|places| places.len() == n_pages);
    if !is_whole {
        return Err("its page index counts pages in different ways");
    }
    column.statistics().map_or(Ok(()), |statistics| {
        check_values(column, statistics, &values)
    })
}

/// The pages lie in the column, in the order of their rows.
fn check_places(column: &ColumnChunkMetaData, n_rows: u64, pages: &[PageLocation]) -> Checked {
    let (start, length) = column.byte_range();
    let end = |page: &PageLocation| page.offset.checked_add(page.length);
    let is_inside = |page: &PageLocation| {
        let ends_inside = end(page).is_some_and(|end| end <= start.saturating_add(length));
        page.offset >= start && ends_inside && page.first_row < n_rows
    };
    let in_order = |pair: &[PageLocation]| match pair {
        [one, next] => end(one) <= Some(next.offset) && one.first_row < next.first_row,
        _ => true,
    };
    let begins = pages.first().is_none_or(|page| page.first_row == 0);
    if begins && pages.iter().all(is_inside) && pages.windows(2).all(in_order) {
        Ok(())
    } else {
        Err("its page index says that pages lie where they cannot")
    }
}

fn check_values(
    column: &ColumnChunkMetaData,
    statistics: &Statistics,
    index: &ColumnIndex<'_>,
) -> Checked {
    if let (Some(counts), Some(n_null)) = (&index.null_counts, statistics.null_count_opt()) {
        let sum = counts.iter().try_fold(0_u64, |sum, count| {
            sum.checked_add(u64::try_from(*count).ok()?)
        });
        if sum != Some(n_null) {
            return Err(CONTRADICTS);
        }
    }
    let Statistics::Int64(whole) = statistics else {
        return Ok(());
    };
    let (Some(min), Some(max)) = (whole.min_opt(), whole.max_opt()) else {
        return Ok(());
    };
    if column.column_descr().sort_order() != SortOrder::SIGNED {
        return Ok(());
    }
    let pages = index
        .all_null
        .iter()
        .zip(index.mins.iter().zip(&index.maxs));
    let bounds = pages.filter(|(all_null, _)| !**all_null);
    let bounds = bounds.map(|(_, (min, max))| Some((number(min)?, number(max)?)));
    let Some(bounds) = bounds.collect::<Option<Vec<(i64, i64)>>>() else {
        return Err("its page index holds values of another type");
    };
    let least = bounds.iter().map(|(min, _)| min).min();
    let greatest = bounds.iter().map(|(_, max)| max).max();
    let is_ordered = match index.order {
        1 => bounds.is_sorted_by(|one, next| one.0 <= next.0 && one.1 <= next.1),
        2 => bounds.is_sorted_by(|one, next| one.0 >= next.0 && one.1 >= next.1),
        _ => true,
    };
    let agrees = least == Some(min) && greatest == Some(max);
    if agrees && is_ordered && bounds.iter().all(|(min, max)| min <= max) {
        Ok(())
    } else {
        Err(CONTRADICTS)
    }
}

fn number(bytes: &[u8]) -> Option<i64> {
    bytes.try_into().ok().map(i64::from_le_bytes)
}
