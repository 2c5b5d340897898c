//! A pool of prepared texts for the columns `inputs` and `outputs`.
//!
//! These columns are most of a real export's bytes, and statistics never read
//! them. Runs draw from a pool that is made once: rows have sizes like real
//! ones, a few hundred bytes to several kilobytes, without making (and
//! compressing) gigabytes of words. The pool is larger than what compresses
//! to nothing: a row group still has megabytes of it.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringBuilder};

use super::catalog::WORDS;
use super::random::{Stream, scale, to_index};
use super::trace::RunType;

/// First part of the place of the pool's stream.
const TEXTS: u64 = 5;

/// Largest number of texts in the pool, and rows a text below that.
const MAX_TEXTS: u64 = 6_000;
const ROWS_A_TEXT: u64 = 8;

/// The texts of one run type in one of the two columns.
#[derive(Debug)]
struct Kind {
    run_type: RunType,
    is_output: bool,
    /// Per cent of the pool.
    share: u64,
    /// What stands before and after the words.
    frame: (&'static str, &'static str),
    /// Median length of the words, bytes.
    length: u64,
}

const fn kind(
    run_type: RunType,
    is_output: bool,
    share: u64,
    frame: (&'static str, &'static str),
    length: u64,
) -> Kind {
    Kind {
        run_type,
        is_output,
        share,
        frame,
        length,
    }
}

/// One of each run type and column.
const KINDS: [Kind; 14] = [
    kind(RunType::Chain, false, 10, (r#"{"input": ""#, r#""}"#), 260),
    kind(RunType::Chain, true, 10, (r#"{"output": ""#, r#""}"#), 700),
    kind(
        RunType::Llm,
        false,
        16,
        (
            r#"{"messages": [{"role": "system", "content": "You are a careful assistant."}, {"role": "user", "content": ""#,
            r#""}]}"#,
        ),
        1_100,
    ),
    kind(
        RunType::Llm,
        true,
        16,
        (
            r#"{"generations": [[{"type": "ChatGeneration", "text": ""#,
            r#""}]], "llm_output": null}"#,
        ),
        700,
    ),
    kind(
        RunType::Tool,
        false,
        6,
        (r#"{"input": {"query": ""#, r#""}}"#),
        70,
    ),
    kind(RunType::Tool, true, 8, (r#"{"output": ""#, r#""}"#), 420),
    kind(
        RunType::Retriever,
        false,
        4,
        (r#"{"query": ""#, r#""}"#),
        80,
    ),
    kind(
        RunType::Retriever,
        true,
        6,
        (
            r#"{"documents": [{"page_content": ""#,
            r#"", "metadata": {}}]}"#,
        ),
        2_200,
    ),
    kind(RunType::Embedding, false, 4, (r#"{"text": ""#, r#""}"#), 80),
    kind(
        RunType::Embedding,
        true,
        4,
        (r#"{"dimensions": 1536, "digest": ""#, r#""}"#),
        30,
    ),
    kind(
        RunType::Prompt,
        false,
        4,
        (r#"{"question": ""#, r#""}"#),
        150,
    ),
    kind(RunType::Prompt, true, 4, (r#"{"prompt": ""#, r#""}"#), 900),
    kind(RunType::Parser, false, 4, (r#"{"text": ""#, r#""}"#), 400),
    kind(RunType::Parser, true, 4, (r#"{"answer": ""#, r#""}"#), 400),
];

/// The pool.
#[derive(Debug)]
pub(super) struct Texts {
    /// All texts, those of a kind side by side.
    values: ArrayRef,
    /// For each kind, its first text and its number of texts.
    ranges: [(u64, u64); KINDS.len()],
}

impl Texts {
    /// Makes the pool for an export of so many rows.
    pub(super) fn new(seed: u64, rows: u64) -> Self {
        let mut stream = Stream::new(seed, &[TEXTS]);
        let all = (rows / ROWS_A_TEXT).clamp(100, MAX_TEXTS);
        let words: Vec<&str> = WORDS.split(' ').collect();
        let mut values = StringBuilder::new();
        let mut ranges = [(0, 0); KINDS.len()];
        let mut first = 0;
        let mut text = String::new();
        for (range, kind) in ranges.iter_mut().zip(&KINDS) {
            let number = all * kind.share / 100;
            *range = (first, number);
            first += number;
            for _ in 0..number {
                write_text(&mut text, &mut stream, kind, &words);
                values.append_value(&text);
            }
        }
        Self {
            values: Arc::new(values.finish()),
            ranges,
        }
    }

    /// All texts, which [`input`](Self::input) and [`output`](Self::output)
    /// are indices of.
    pub(super) fn values(&self) -> ArrayRef {
        Arc::clone(&self.values)
    }

    /// The index of the input of a run that drew these bits.
    pub(super) fn input(&self, run_type: RunType, bits: u64) -> i32 {
        self.index(run_type, false, bits)
    }

    /// The index of its output.
    pub(super) fn output(&self, run_type: RunType, bits: u64) -> i32 {
        self.index(run_type, true, bits.rotate_left(32))
    }

    fn index(&self, run_type: RunType, is_output: bool, bits: u64) -> i32 {
        let (first, number) = KINDS
            .iter()
            .zip(self.ranges)
            .find(|(kind, _)| kind.run_type == run_type && kind.is_output == is_output)
            .map_or((0, 0), |(_, range)| range);
        i32::try_from(first + scale(bits, number)).unwrap_or(0)
    }
}

/// Replaces the text by a new one of the kind.
fn write_text(text: &mut String, stream: &mut Stream, kind: &Kind, words: &[&'static str]) {
    text.clear();
    text.push_str(kind.frame.0);
    let length = to_index(stream.log_normal(kind.length, 70).min(12_000));
    let end = text.len() + length;
    while text.len() < end {
        text.push_str(stream.pick(words));
        match stream.below(64) {
            0..8 => text.push_str(", "),
            8..12 => text.push_str(". "),
            _ => text.push(' '),
        }
    }
    text.push_str(kind.frame.1);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use arrow::array::AsArray;

    use super::*;

    #[test]
    fn runs_get_texts_of_their_kind() {
        let texts = Texts::new(1, 0);
        let values = texts.values();
        let values = values.as_string::<i32>();
        for kind in KINDS {
            for bits in [0, 1, u64::MAX / 3, u64::MAX] {
                let index = texts.index(kind.run_type, kind.is_output, bits);
                let text = values.value(usize::try_from(index).unwrap());
                assert!(text.starts_with(kind.frame.0));
            }
        }
    }

    #[test]
    fn kinds_share_the_pool() {
        assert_eq!(KINDS.iter().map(|kind| kind.share).sum::<u64>(), 100);
        for (index, kind) in KINDS.iter().enumerate() {
            let is_same =
                |other: &Kind| other.run_type == kind.run_type && other.is_output == kind.is_output;
            assert_eq!(KINDS.iter().position(is_same), Some(index));
        }
    }
}
