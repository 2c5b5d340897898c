//! How the process talks to people: lines on standard error, with colours where these are welcome.

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;

use clap::ValueEnum;
use clap::builder::styling::{AnsiColor, Style, Styles};
use runtally::output::plain_text;

/// The colours of the help; readable on light and dark.
pub(super) const STYLES: Styles = Styles::styled()
    .header(Style::new().bold())
    .usage(Style::new().bold())
    .literal(AnsiColor::Cyan.on_default());

/// Where colours are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Everywhere.
    Always,
    /// Nowhere.
    Never,
}

impl Color {
    /// Whether a stream that is a terminal or none gets colours.
    pub(super) fn allows(self, is_terminal: bool) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => {
                let no_color = std::env::var_os("NO_COLOR").is_some_and(|text| !text.is_empty());
                let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
                is_terminal && !no_color && !is_dumb
            }
        }
    }
}

/// What a line on standard error is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Remark {
    /// Why there is no answer.
    Error,
    /// What should be known of the answer.
    Warning,
    /// What to do next.
    Hint,
}

static COLOR: OnceLock<Color> = OnceLock::new();

/// Chooses where colours are used, once.
pub(super) fn set_color(color: Color) {
    let _ = COLOR.set(color);
}

/// Whether standard error is read by a person.
pub(super) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// The columns of the terminal that standard error goes to, if it goes to one.
pub(super) fn width() -> Option<usize> {
    let size = terminal_size::terminal_size_of(io::stderr())?;
    Some(usize::from(size.0.0))
}

/// Writes a marked line to standard error; line breaks in it are of a path or of data, and shown as such.
pub(super) fn remark(remark: Remark, text: &str) {
    let (word, color) = match remark {
        Remark::Error => ("error", AnsiColor::Red),
        Remark::Warning => ("warning", AnsiColor::Yellow),
        Remark::Hint => ("hint", AnsiColor::Cyan),
    };
    let style = if has_color() {
        color.on_default().bold()
    } else {
        Style::new()
    };
    write_line(&format!("{style}{word}:{style:#} {}", plain_text(text)));
}

/// Writes a line that is there for completeness.
pub(super) fn aside(text: &str) {
    let style = if has_color() {
        Style::new().dimmed()
    } else {
        Style::new()
    };
    write_line(&format!("{style}{}{style:#}", plain(text)));
}

/// Writes lines as they are, but for what would move a terminal's cursor.
pub(super) fn say(text: &str) {
    write_line(&plain(text));
}

fn has_color() -> bool {
    let color = COLOR.get().copied().unwrap_or_default();
    color.allows(is_watched())
}

/// Text from logs is data: only line breaks keep their meaning.
fn plain(text: &str) -> String {
    let lines: Vec<_> = text.split('\n').map(plain_text).collect();
    lines.join("\n")
}

/// Does not mind where nobody listens.
fn write_line(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
