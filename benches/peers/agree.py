"""Whether answers agree: counts, tokens, costs and rates with each other, percentiles with the exact ones."""

import csv
import json
from datetime import datetime, timezone
from pathlib import Path

from questions import Question

# Of a rival's cost, which is a sum of doubles.
COST_TOLERANCE = 1e-9
# What runtally promises of a percentile, and what exact ones may differ from each other by.
BOUND, FLOAT_NOISE = 1e-3, 1e-9

# A row's key → its figures by name: counts, sums, rates, percentiles in microseconds.
Answer = dict[str, dict[str, float]]


def number(text: str) -> float:
    """Each has its own word for no value."""
    return 0.0 if text in ("", r"\N", "nan") else float(text)


def of_rival(path: Path) -> Answer:
    answer: Answer = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            key = row.pop("key")
            figures = {name: number(text) for name, text in row.items()}
            if "completed" in figures:
                figures["error_rate"] = figures.pop("errors") / figures["n"]
                figures["streaming_rate"] = figures.pop("streamed") / figures.pop("completed")
            answer["" if key == r"\N" else key] = figures
    return answer


def of_runtally(path: Path, question: Question) -> Answer:
    if question.kind == "document":
        documents = json.loads(path.read_text())
        documents = [documents] if question.one_project else documents
        return {"" if question.one_project else d["id"]: document(d) for d in documents}
    answer: Answer = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            figures = {"n": number(row["run_count"]), "errors": number(row["error_count"])}
            if question.has_usage:
                figures |= {"tokens": number(row["total_tokens"]), "cost": number(row["total_cost"])}
            for p in ("latency_p50", "latency_p99"):
                figures[p] = number(row[p]) * 1e6
            if question.by == "hour":
                key = str(us(row["start"]) // 3_600_000_000)
            else:
                key = next(iter(row.values())).replace("(none)", "")
            if figures["n"]:  # an hour without a trace is a row of ours only
                answer[key] = figures
    return answer


def document(d: dict) -> dict[str, float]:
    figures = {"n": d["run_count"], "last_us": us(d["last_run_start_time"])}
    figures |= {name: d[name] for name in ("error_rate", "streaming_rate")}
    figures |= {"tokens": d["total_tokens"], "cost": float(d["total_cost"])}
    for part in ("prompt", "completion"):
        figures[f"{part}_tokens"] = d[f"{part}_tokens"]
        figures[f"{part}_cost"] = float(d[f"{part}_cost"])
    for p in ("latency_p50", "latency_p99", "first_token_p50", "first_token_p99"):
        figures[p] = (d[p] or 0) * 1e6
    return figures


def us(time: str) -> int:
    since = datetime.fromisoformat(time) - datetime(1970, 1, 1, tzinfo=timezone.utc)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def differences(answer: Answer, exact: Answer, is_own: bool = False) -> list[str]:
    """Where counts, sums and rates are not those of the exact answer. Own usage is not compared, but of the
    groups whose runs have no children: those with a model."""
    found = [f"group {key!r} is only in one" for key in sorted(answer.keys() ^ exact.keys())]
    for key in answer.keys() & exact.keys():
        for name, ours in answer[key].items():
            theirs = exact[key][name]
            if "_p" in name or (is_own and name in ("tokens", "cost")):
                continue
            tolerance = COST_TOLERANCE * abs(theirs) if "cost" in name else 0
            if abs(ours - theirs) > tolerance:
                found.append(f"group {key!r}: {name} is {ours}, not {theirs}")
    return found


def own_differences(answer: Answer, rows: Answer, roots: Answer, question: Question) -> list[str]:
    """Own usage against what roots carry: as a whole; of each user, whose traces are theirs as a whole; of
    each model, whose runs have no children, against the rows."""
    found = []
    for name in ("tokens", "cost"):
        sums = [sum(group[name] for group in groups.values()) for groups in (answer, roots)]
        if abs(sums[0] - sums[1]) > COST_TOLERANCE * abs(sums[1]):
            found.append(f"own {name} add up to {sums[0]}, those of roots to {sums[1]}")
        other = roots if question.by == "user" else rows
        for key in (answer.keys() & other.keys()) - {""}:
            ours, theirs = answer[key][name], other[key][name]
            if abs(ours - theirs) > COST_TOLERANCE * abs(theirs):
                found.append(f"group {key!r}: own {name} is {ours}, not {theirs}")
    return found


def worst_error(answer: Answer, exact: Answer) -> float:
    """The greatest relative error of any percentile of any group."""
    worst = 0.0
    for key in answer.keys() & exact.keys():
        for name, value in answer[key].items():
            if "_p" in name and value != exact[key][name]:
                true = exact[key][name]
                worst = max(worst, abs(value - true) / true if true else float("inf"))
    return worst
