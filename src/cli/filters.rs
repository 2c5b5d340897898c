//! The flags that choose traces by what they are: the filter language, and plain flags for the usual.

use clap::Args;
use runtally::filter::parse_duration;
use runtally::request::FilterWords;
use runtally::{Error, Filter};

const FILTERS: &str = "Filters";

/// The flags of filters; all of them must hold.
#[derive(Debug, Args)]
pub(super) struct FilterArgs {
    /// Only traces whose root matches, such as 'and(eq(status, "error"), gt(latency, "5s"))'; with
    /// --runs, only runs that match.
    #[arg(long, value_name = "FILTER", help_heading = FILTERS)]
    filter: Option<String>,

    /// Only traces whose root matches.
    #[arg(long, value_name = "FILTER", help_heading = FILTERS, hide_short_help = true)]
    trace_filter: Option<String>,

    /// Only traces of which any run matches, whenever that run started.
    #[arg(long, value_name = "FILTER", help_heading = FILTERS)]
    tree_filter: Option<String>,

    /// Only those of a type: llm, chain, tool, …
    #[arg(long, value_name = "TYPE", help_heading = FILTERS, hide_short_help = true)]
    run_type: Option<String>,

    /// Only those of a name.
    #[arg(long, value_name = "NAME", help_heading = FILTERS, hide_short_help = true)]
    run_name: Option<String>,

    /// Only those that failed.
    #[arg(long, conflicts_with = "no_error", help_heading = FILTERS, hide_short_help = true)]
    error: bool,

    /// Only those that did not fail.
    #[arg(long, help_heading = FILTERS, hide_short_help = true)]
    no_error: bool,

    /// Only those with a tag; several: with all of them.
    #[arg(long, value_name = "TAG", help_heading = FILTERS)]
    tag: Vec<String>,

    /// Only those of a model, as their metadata names it.
    #[arg(long, value_name = "MODEL", help_heading = FILTERS, hide_short_help = true)]
    model: Option<String>,

    /// Only those of a user, as their metadata names it.
    #[arg(long, value_name = "USER", help_heading = FILTERS, hide_short_help = true)]
    user: Option<String>,

    /// Only those with an entry in their metadata; several: with all of them.
    #[arg(long, value_name = "KEY=VALUE", value_parser = entry, help_heading = FILTERS)]
    meta: Vec<(String, String)>,

    /// Only those that took this long or longer: 5s, 300ms, 2m.
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = FILTERS, hide_short_help = true)]
    min_latency: Option<i64>,

    /// Only those that took this long or shorter.
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = FILTERS, hide_short_help = true)]
    max_latency: Option<i64>,
}

impl FilterArgs {
    /// What the roots must be.
    pub(super) fn of_root(&self) -> Result<Option<Filter>, Error> {
        let words = FilterWords {
            filter: self.filter.clone(),
            run_type: self.run_type.clone(),
            run_name: self.run_name.clone(),
            error: match (self.error, self.no_error) {
                (true, _) => Some(true),
                (false, true) => Some(false),
                (false, false) => None,
            },
            tag: self.tag.clone(),
            model: self.model.clone(),
            user: self.user.clone(),
            meta: self.meta.clone(),
            min_latency_us: self.min_latency,
            max_latency_us: self.max_latency,
        };
        words.filter()
    }

    /// What they must be as well.
    pub(super) fn of_trace(&self) -> Result<Option<Filter>, Error> {
        parsed(self.trace_filter.as_ref())
    }

    /// What any run of a trace must be.
    pub(super) fn of_any(&self) -> Result<Option<Filter>, Error> {
        parsed(self.tree_filter.as_ref())
    }
}

fn parsed(text: Option<&String>) -> Result<Option<Filter>, Error> {
    Ok(text.map(|text| Filter::parse(text)).transpose()?)
}

fn entry(text: &str) -> Result<(String, String), String> {
    let entry = text.split_once('=').filter(|(key, _)| !key.is_empty());
    let (key, value) = entry.ok_or_else(|| "write KEY=VALUE, such as team=search".to_owned())?;
    Ok((key.to_owned(), value.to_owned()))
}

fn duration(text: &str) -> Result<i64, String> {
    let us = parse_duration(text).filter(|us| *us >= 0);
    us.ok_or_else(|| "write a time such as 5s, 300ms or 2m".to_owned())
}
