//! Many lines, written by several threads: each has a part of them, and the parts follow each other.

use std::io::{self, Write};

use crate::threads::at_once;

/// A thread writes so many items before they are handed on.
const N_ITEMS: usize = 4_096;

/// Writes items in their order.
pub(super) fn write_parts<T: Sync>(
    out: &mut dyn Write,
    items: &[T],
    n_threads: usize,
    write: impl Fn(&mut Vec<u8>, &[T]) -> io::Result<()> + Sync,
) -> io::Result<()> {
    let mut parts = vec![Vec::new(); n_threads.max(1)];
    for items in items.chunks(N_ITEMS * parts.len()) {
        let shares = parts.iter_mut().zip(items.chunks(N_ITEMS));
        at_once(shares, |(part, items)| write(part, items))?;
        for part in &mut parts {
            out.write_all(part)?;
            part.clear();
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_in_their_order_whoever_writes_them() {
        for n_items in [0, 1, N_ITEMS, N_ITEMS + 1, 5 * N_ITEMS + 7] {
            let items: Vec<usize> = (0..n_items).collect();
            let lines = |items: &[usize]| {
                let lines: Vec<String> = items.iter().map(usize::to_string).collect();
                lines.join("\n") + "\n"
            };
            for n_threads in 0..4 {
                let mut out = Vec::new();
                let write = |part: &mut Vec<u8>, items: &[usize]| {
                    assert!(items.len() <= N_ITEMS);
                    part.write_all(lines(items).as_bytes())
                };
                write_parts(&mut out, &items, n_threads, write).unwrap();
                let expected = if items.is_empty() {
                    String::new()
                } else {
                    lines(&items)
                };
                assert_eq!(String::from_utf8(out).unwrap(), expected);
            }
        }
    }

    #[test]
    fn what_one_of_them_cannot_write_is_an_error() {
        let items: Vec<usize> = (0..3 * N_ITEMS).collect();
        for bad in [0, N_ITEMS, 3 * N_ITEMS - 1] {
            let write = |_: &mut Vec<u8>, items: &[usize]| {
                let is_bad = items.contains(&bad);
                if is_bad {
                    Err(io::Error::other("no"))
                } else {
                    Ok(())
                }
            };
            assert!(write_parts(&mut Vec::new(), &items, 2, write).is_err());
        }
    }
}
