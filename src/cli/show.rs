//! `runtally show`: one project's document.

use clap::Args;
use runtally::{Error, Projects, output};

use super::{Exit, QuestionArgs};

#[derive(Debug, Args)]
pub(super) struct Show {
    /// The project: its UUID, its name, or a unique prefix of either. Not needed where the source
    /// holds only one.
    #[arg(short, long, visible_aliases = ["id", "name"], value_name = "PROJECT")]
    project: Option<String>,

    #[command(flatten)]
    question: QuestionArgs,
}

impl Show {
    pub(super) fn run(&self) -> Result<Exit, Error> {
        let projects = self.project.clone().map_or(Projects::Only, Projects::One);
        let Some(answer) = self.question.ask(projects)? else {
            return Ok(Exit::Interrupted);
        };
        self.question.write(|out, format| {
            answer
                .sessions
                .iter()
                .try_for_each(|document| output::write_one(out, document, format))
        })
    }
}
