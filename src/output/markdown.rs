//! GitHub tables. Nothing in a text from logs becomes markup, a link or a mention.

use std::io::{self, Write};

use super::grid::{Grid, Row};
use super::list::{Layout, P99_NOTE, Table, is_marked, of_documents};
use super::text::plain_text;
use super::units::{self, or_unknown};
use super::{Lines, Style, show};
use crate::document::{Cost, FeedbackStats, Overview, TracerSession};

/// Shows nothing and keeps its neighbours from being taken for an address or a mention.
const BREAK: &str = "&#8288;";

/// Writes the list with all its columns.
pub(super) fn write_list(out: &mut dyn Write, lines: &Lines, style: &Style) -> io::Result<()> {
    if lines.overviews.is_empty() {
        let grid = of_documents(lines.documents, style);
        return table(out, &grid);
    }
    let list = Table::new(lines, Layout::FULL);
    table(out, &list.grid)?;
    if list.has_mark {
        note(out, P99_NOTE)?;
    }
    Ok(())
}

/// Writes all of a grid but its notes; what is below a rule is a total.
pub(super) fn table(out: &mut dyn Write, grid: &Grid) -> io::Result<()> {
    line(out, grid.full_titles().map(|title| escaped(&title)))?;
    let columns = grid.columns.iter().enumerate();
    let ruler = columns.map(|(at, column)| {
        let is_left = at == 0 || column.left;
        if is_left { "---" } else { "---:" }.to_owned()
    });
    line(out, ruler)?;
    let mut is_total = false;
    for row in &grid.rows {
        match row {
            Row::Cells(cells) => {
                let texts = cells.iter().map(|cell| {
                    let text = escaped(cell.text.trim_end());
                    match &cell.link {
                        Some(link) => format!("[{text}](<{}>)", link.replace('&', "&amp;")),
                        None => text,
                    }
                });
                line(
                    out,
                    texts.map(|text| if is_total { bold(&text) } else { text }),
                )?;
            }
            Row::Rule => is_total = true,
            Row::Note(_) => {}
        }
    }
    Ok(())
}

/// Writes a line below a table.
pub(super) fn note(out: &mut dyn Write, text: &str) -> io::Result<()> {
    writeln!(out, "\n{}", escaped(text))
}

fn bold(text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!("**{text}**")
    }
}

fn line(out: &mut dyn Write, cells: impl Iterator<Item = String>) -> io::Result<()> {
    write!(out, "|")?;
    for cell in cells {
        write!(out, " {cell} |")?;
    }
    writeln!(out)
}

/// Writes one document as fields and values.
pub(super) fn write_one(
    out: &mut dyn Write,
    document: &TracerSession,
    overview: Option<&Overview>,
    style: &Style,
) -> io::Result<()> {
    let mut facts = vec![(
        "project".to_owned(),
        plain_text(&document.name).into_owned(),
    )];
    let named = |(label, cell): show::Fact| (label.to_owned(), cell.text);
    facts.extend(show::project(document, style).into_iter().map(named));
    let mut has_mark = false;
    if document.run_count.is_some() {
        facts.extend(
            show::traces(document, overview, style)
                .into_iter()
                .map(named),
        );
        for (label, values, n) in show::distributions(document, overview) {
            let percentiles = [
                ("p50", values.p50),
                ("p95", values.p95),
                ("p99", values.p99),
            ];
            facts.extend(percentiles.map(|(name, value)| {
                let mark = if name == "p99" && is_marked(&values) {
                    "*"
                } else {
                    ""
                };
                let value = or_unknown(value, units::duration) + mark;
                (format!("{label} {name}"), value)
            }));
            facts.push((format!("{label} n"), or_unknown(n, units::count)));
            has_mark |= is_marked(&values);
        }
        facts.extend(sums(document));
        for (group, stats) in [
            ("feedback", &document.feedback_stats),
            ("project feedback", &document.session_feedback_stats),
        ] {
            let keys = stats.iter().flatten();
            facts.extend(
                keys.map(|(key, stats)| (format!("{group} {}", plain_text(key)), feedback(stats))),
            );
        }
        let by_key = show::faceted(document).into_iter();
        facts.extend(by_key.map(|(key, values)| {
            (
                format!("facet {}", plain_text(key)),
                show::counted(&values, None),
            )
        }));
    }
    line(out, ["field", "value"].map(str::to_owned).into_iter())?;
    line(out, ["---", "---"].map(str::to_owned).into_iter())?;
    for (label, value) in facts {
        line(out, [label, value].map(|text| escaped(&text)).into_iter())?;
    }
    if has_mark {
        note(out, P99_NOTE)?;
    }
    Ok(())
}

fn sums(document: &TracerSession) -> impl Iterator<Item = (String, String)> {
    let tokens = [
        ("total tokens", document.total_tokens),
        ("prompt tokens", document.prompt_tokens),
        ("completion tokens", document.completion_tokens),
    ];
    let costs = [
        ("total cost", document.total_cost),
        ("prompt cost", document.prompt_cost),
        ("completion cost", document.completion_cost),
    ];
    let cost = |cost: Option<Cost>| or_unknown(cost, |cost| units::cost(&cost));
    let tokens = tokens.map(|(label, n)| (label.to_owned(), or_unknown(n, units::count)));
    let costs = costs.map(|(label, n)| (label.to_owned(), cost(n)));
    tokens.into_iter().chain(costs)
}

fn feedback(stats: &FeedbackStats) -> String {
    let names = ["n", "avg", "stdev", "min", "max", "errors"];
    let figures = names.iter().zip(show::feedback_figures(stats));
    let mut texts: Vec<String> = figures
        .map(|(name, cell)| format!("{name} {}", cell.text))
        .collect();
    if !stats.values.is_empty() {
        texts.push(show::labels(stats, None));
    }
    texts.join(", ")
}

/// A plain text with everything escaped that Markdown, or GitHub in it, would take for more than text.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(char) = rest.chars().next() {
        let after = &rest[char.len_utf8()..];
        if matches!(
            char,
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '&' | '#' | '!' | '~' | '|' | '$'
        ) {
            escaped.push('\\');
        }
        escaped.push(char);
        if char == '@' || (char == ':' && after.starts_with("//")) || is_www(rest) {
            escaped.push_str(BREAK);
        }
        rest = after;
    }
    escaped
}

/// Whether a text begins with the last letter of `www.`.
fn is_www(text: &str) -> bool {
    text.starts_with("w.") || text.starts_with("W.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_text() {
        for (text, markdown) in [
            ("support-bot", "support-bot"),
            ("a|b", "a\\|b"),
            (
                "`x` *y* __z__ ~~w~~",
                "\\`x\\` \\*y\\* \\_\\_z\\_\\_ \\~\\~w\\~\\~",
            ),
            ("[a](b) ![c](d)", "\\[a\\](b) \\!\\[c\\](d)"),
            (
                "<img src=x> &lt; # $1$ \\",
                "\\<img src=x\\> \\&lt; \\# \\$1\\$ \\\\",
            ),
            ("http://a.b", "http:&#8288;//a.b"),
            ("WWW.a.b", "WWW&#8288;.a.b"),
            ("@octocat a@b.c", "@&#8288;octocat a@&#8288;b.c"),
        ] {
            assert_eq!(escaped(text), markdown);
        }
    }
}
