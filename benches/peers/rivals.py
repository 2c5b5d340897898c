"""One question to one rival, as a process of its own: `rivals.py ENGINE QUESTION DATA PROJECT OUT THREADS`.

Writes the answer as CSV to OUT, and prints what the query alone took after the import: `{"wall", "cpu"}` in
seconds. Each is asked as a good user of it would: only the needed columns, the project by its folder, the
fastest function for a path in JSON. Percentiles are the rival's usual quick ones, but where ENGINE says which.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

from questions import CHECKS, LAST_DAY, QUESTIONS, Question

# Name in the answer → column of the export.
SUMS = {
    "tokens": "total_tokens",
    "prompt_tokens": "prompt_tokens",
    "completion_tokens": "completion_tokens",
    "cost": "total_cost",
    "prompt_cost": "prompt_cost",
    "completion_cost": "completion_cost",
}
METADATA = {"model": "ls_model_name", "user": "user_id"}
HOUR_US = 3_600_000_000


def sums_of(question: Question) -> dict[str, str]:
    if question.kind == "document":
        return SUMS
    return {name: SUMS[name] for name in ("tokens", "cost") if question.has_usage}


def files(question: Question, data: Path, project: str) -> str:
    return f"{data}/*/*/{f'session_id={project}' if question.one_project else '*'}/**/*.parquet"


def duckdb_sql(question: Question, glob: str, quantile: str) -> str:
    key = {
        None: "''",
        "project": "session_id",
        "hour": f"epoch_us(start_time) // {HOUR_US}",
    }.get(question.by) or f"json_extract_string(extra, '$.metadata.{METADATA[question.by]}')"
    where = {"root": "is_root", "llm": "run_type = 'llm'", "all": "true"}[question.runs]
    if question.last_day:
        where += f" AND start_time >= TIMESTAMPTZ '{LAST_DAY} 00:00:00+00'"
    is_document = question.kind == "document"
    figures = ["count(*) AS n", "count(*) FILTER (status = 'error') AS errors"]
    if is_document:
        figures += [
            "count(end_time) AS completed",
            "count(first_token_time) FILTER (end_time IS NOT NULL) AS streamed",
            "epoch_us(max(start_time)) AS last_us",
        ]
    figures += [f"sum({column}) AS {name}" for name, column in sums_of(question).items()]
    times = {"latency": "end_time"} | ({"first_token": "first_token_time"} if is_document else {})
    for name, until in times.items():
        us = f"epoch_us({until}) - epoch_us(start_time)"
        figures.append(f"{quantile}({us}, [0.5, 0.99]) FILTER ({us} >= 0) AS {name}")
    named = [f"{name}[{i}] AS {name}_p{p}" for name in times for i, p in ((1, 50), (2, 99))]
    return f"""SELECT * EXCLUDE ({", ".join(times)}), {", ".join(named)} FROM (
        SELECT {key} AS key, {", ".join(figures)}
        FROM read_parquet('{glob}', hive_partitioning = true) WHERE {where} GROUP BY 1)"""


def duckdb(quantile: str) -> Callable[[Question, str, Path, int], Callable[[], None]]:
    def prepare(question: Question, glob: str, out: Path, threads: int) -> Callable[[], None]:
        import duckdb

        def ask() -> None:
            connection = duckdb.connect(config={"threads": threads})
            sql = duckdb_sql(question, glob, quantile)
            connection.execute(f"COPY ({sql}) TO '{out}' (FORMAT csv, HEADER)")

        return ask

    return prepare


def chdb_sql(question: Question, glob: str, quantiles: str, threads: int) -> str:
    key = {
        None: "''",
        "project": "session_id",
        "hour": f"intDiv(toUnixTimestamp64Micro(start_time), {HOUR_US})",
    }.get(question.by) or f"JSONExtractString(extra, 'metadata', '{METADATA[question.by]}')"
    where = {"root": "is_root", "llm": "run_type = 'llm'", "all": "true"}[question.runs]
    if question.last_day:
        where += f" AND start_time >= toDateTime64('{LAST_DAY} 00:00:00', 6, 'UTC')"
    is_document = question.kind == "document"
    figures = ["count() AS n", "countIf(status = 'error') AS errors"]
    if is_document:
        figures += [
            "count(end_time) AS completed",
            "countIf(end_time IS NOT NULL AND first_token_time IS NOT NULL) AS streamed",
            "toUnixTimestamp64Micro(max(start_time)) AS last_us",
        ]
    figures += [f"sum({column}) AS {name}" for name, column in sums_of(question).items()]
    times = {"latency": "end_time"} | ({"first_token": "first_token_time"} if is_document else {})
    for name, until in times.items():
        us = f"toUnixTimestamp64Micro({until}) - toUnixTimestamp64Micro(start_time)"
        figures.append(f"{quantiles}If(0.5, 0.99)({us}, {us} >= 0) AS {name}")
    named = [f"{name}[{i}] AS {name}_p{p}" for name in times for i, p in ((1, 50), (2, 99))]
    return f"""SELECT * EXCEPT ({", ".join(times)}), {", ".join(named)} FROM (
        SELECT {key} AS key, {", ".join(figures)}
        FROM file('{glob}', Parquet) WHERE {where} GROUP BY key) SETTINGS max_threads = {threads}"""


def chdb(quantiles: str) -> Callable[[Question, str, Path, int], Callable[[], None]]:
    def prepare(question: Question, glob: str, out: Path, threads: int) -> Callable[[], None]:
        import chdb

        def ask() -> None:
            sql = chdb_sql(question, glob, quantiles, threads)
            out.write_bytes(chdb.query(sql, "CSVWithNames").bytes())

        return ask

    return prepare


def polars(question: Question, glob: str, out: Path, threads: int) -> Callable[[], None]:
    os.environ["POLARS_MAX_THREADS"] = str(threads)
    import polars as pl

    def ask() -> None:
        c = pl.col
        rows = pl.scan_parquet(glob, hive_partitioning=question.by == "project")
        if question.runs == "root":
            rows = rows.filter(c("is_root"))
        elif question.runs == "llm":
            rows = rows.filter(c("run_type") == "llm")
        if question.last_day:
            since = datetime.fromisoformat(LAST_DAY).replace(tzinfo=timezone.utc)
            rows = rows.filter(c("start_time") >= since)
        is_document = question.kind == "document"
        figures = [pl.len().alias("n"), (c("status") == "error").sum().alias("errors")]
        if is_document:
            both = c("end_time").is_not_null() & c("first_token_time").is_not_null()
            figures += [
                c("end_time").count().alias("completed"),
                both.sum().alias("streamed"),
                c("start_time").max().dt.epoch("us").alias("last_us"),
            ]
        figures += [c(column).sum().alias(name) for name, column in sums_of(question).items()]
        times = {"latency": "end_time"} | ({"first_token": "first_token_time"} if is_document else {})
        for name, until in times.items():
            us = (c(until) - c("start_time")).dt.total_microseconds()
            us = us.filter(us >= 0)
            for p in (50, 99):
                figures.append(us.quantile(p / 100, "linear").alias(f"{name}_p{p}"))
        key = {
            None: None,
            "project": c("session_id"),
            "hour": c("start_time").dt.epoch("us") // HOUR_US,
        }.get(question.by)
        if question.by in METADATA:
            key = c("extra").str.json_path_match(f"$.metadata.{METADATA[question.by]}")
        if key is None:
            answer = rows.select(pl.lit("").alias("key"), *figures)
        else:
            answer = rows.group_by(key.alias("key")).agg(figures)
        answer.collect(engine="streaming").write_csv(out)

    return ask


ENGINES = {
    "duckdb": duckdb("approx_quantile"),
    "duckdb-exact": duckdb("quantile_cont"),
    "duckdb-reservoir": duckdb("reservoir_quantile"),
    "polars": polars,
    "chdb": chdb("quantiles"),
    "chdb-exact": chdb("quantilesExactInclusive"),
}


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    engine, name, data, project, out, threads = sys.argv[1:]
    question = (QUESTIONS | CHECKS)[name]
    ask = ENGINES[engine](question, files(question, Path(data), project), Path(out), int(threads))
    wall, cpu = time.perf_counter(), cpu_s()
    ask()
    print(json.dumps({"wall": time.perf_counter() - wall, "cpu": cpu_s() - cpu}))


if __name__ == "__main__":
    main()
