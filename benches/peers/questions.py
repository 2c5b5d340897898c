"""The questions that runtally and its peers are asked, and how runtally is asked them."""

from dataclasses import dataclass
from pathlib import Path

# The generator's last day begins here.
LAST_DAY = "2026-10-31"

DOCUMENT = (
    "start_time end_time first_token_time is_root status total_tokens prompt_tokens completion_tokens "
    "total_cost prompt_cost completion_cost"
).split()
GROUPED = "start_time end_time status total_tokens total_cost".split()


@dataclass(frozen=True)
class Question:
    """One question; the same for everybody."""

    label: str
    kind: str  # "document": all of a project's figures; "groups": n, errors, p50, p99, perhaps usage
    by: str | None = None  # what the rows are split by: project, model, user, hour
    runs: str = "root"  # root, llm or all
    one_project: bool = False  # the largest project alone
    last_day: bool = False
    is_small: bool = False  # over the many small files
    has_usage: bool = True  # tokens and cost are asked for
    is_own: bool = False  # runtally's usage is each run's own, the rivals' is what the rows carry

    def columns(self) -> list[str]:
        """What has to be read for it, by anybody; runtally also reads feedback and tier of a document."""
        if self.kind == "document":
            return DOCUMENT
        columns = [c for c in GROUPED if self.has_usage or not c.startswith("total_")]
        columns += {"all": [], "root": ["is_root"], "llm": ["run_type"]}[self.runs]
        return columns + (["extra"] if self.by in ("model", "user") else [])

    def command(self, runtally: Path, data: Path, project: str, out: Path, threads: int) -> list[str]:
        """The runtally process that answers it."""
        command = [str(runtally)]
        if self.kind == "document":
            command += ["show" if self.one_project else "list", str(data), "--format", "json"]
        else:
            usage = "tokens,cost," if self.has_usage else ""
            command += ["stats", str(data), "--runs", self.runs, "--format", "csv", "--no-total"]
            command += ["--select", f"runs,errors,{usage}p50,p99"]
            command += ["--every", "1h"] if self.by == "hour" else ["--group-by", str(self.by)]
        command += ["--project", project] if self.one_project else []
        command += ["--since", LAST_DAY] if self.last_day else []
        return command + ["--threads", str(threads), "--quiet", "--output", str(out)]


QUESTIONS: dict[str, Question] = {
    "a": Question("one project's document", "document", one_project=True),
    "b": Question("all projects' documents", "document", by="project"),
    "c": Question("one project, its last day", "document", one_project=True, last_day=True),
    "d": Question("by model, all runs (we: own usage)", "groups", by="model", runs="all", is_own=True),
    "d-llm": Question("by model, LLM runs", "groups", by="model", runs="llm"),
    "d-bare": Question("by model, all runs, no usage", "groups", by="model", runs="all", has_usage=False),
    "e": Question("by user, all runs (we: own usage)", "groups", by="user", runs="all", is_own=True),
    "e-llm": Question("by user, LLM runs", "groups", by="user", runs="llm"),
    "e-bare": Question("by user, all runs, no usage", "groups", by="user", runs="all", has_usage=False),
    "f": Question("traces by hour, 30 days", "groups", by="hour"),
    "g": Question("2 000 small files: all projects", "document", by="project", is_small=True),
    "g-one": Question("2 000 small files: one project", "document", one_project=True, is_small=True),
}

# Asked once of one rival, because own usage adds up to what the roots carry.
CHECKS: dict[str, Question] = {
    "d-roots": Question("by model, roots", "groups", by="model"),
    "e-roots": Question("by user, roots", "groups", by="user"),
}
