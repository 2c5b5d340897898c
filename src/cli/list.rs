//! `runtally list`: the documents of all projects.

use clap::Args;
use runtally::{Error, Projects, output};

use super::{Exit, QuestionArgs};

#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    question: QuestionArgs,
}

impl List {
    pub(super) fn run(&self) -> Result<Exit, Error> {
        let Some(answer) = self.question.ask(Projects::All)? else {
            return Ok(Exit::Interrupted);
        };
        let documents = &answer.sessions;
        self.question
            .write(|out, format| output::write_list(out, documents, format))
    }
}
