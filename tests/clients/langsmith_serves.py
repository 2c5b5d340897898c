"""Checks that LangSmith's Python client reads a server's projects and runs, unchanged but for URL and key.

Arguments: the server's URL, a key that sees everything, a key of a tenant, that tenant's id.
"""

import asyncio
import datetime
import json
import sys
import urllib.request
import uuid

from langsmith import Client
from langsmith import utils

url, key, tenant_key, tenant = sys.argv[1:5]

# Requests that are sent, to see that none is sent again after a mistake.
sent = []


def client(api_key, base=url):
    made = Client(api_url=base, api_key=api_key, auto_batch_tracing=False)
    request = made.session.request

    def counted(method, address, **more):
        sent.append((method, address))
        return request(method, address, **more)

    made.session.request = counted
    return made


def document(path, api_key=key):
    request = urllib.request.Request(url + path, headers={"X-API-Key": api_key})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


async def sessions(c, first):
    """The resources that the client's newer half has, of v1 and of v2."""
    since = datetime.datetime(2026, 10, 30, tzinfo=datetime.timezone.utc)
    newer = await c.sessions.retrieve(first["id"], include_stats=True, stats_start_time=since)
    same = document(f"/sessions/{first['id']}?include_stats=true&stats_start_time=2026-10-30")
    assert newer.run_count == same["run_count"] < first["run_count"]
    assert abs(newer.latency_p50 - same["latency_p50"]) < 1e-9
    second = await c.sessions.retrieve_v2(first["id"], include_stats=True)
    assert second.run_count == first["run_count"] and second.type == "PROJECT"
    assert second.trace_tier in ("LONG_LIVED", "SHORT_LIVED")
    assert abs(second.total_cost - float(first["total_cost"])) < 1e-9
    assert all(stat.type == "PRIMARY" for stat in second.feedback_stats.values())
    pages = [one.id async for one in c.sessions.list_v2(include_stats=True, page_size=1)]
    assert sorted(pages) == sorted(one["id"] for one in documents)


async def mistakes(c, wrong, nobody):
    """Mistakes are errors of the kinds that the client's newer half has."""

    async def listed():
        return [one async for one in c.sessions.list_v2(page_size=1000)]

    for kind, ask in (
        ("NotFoundError", lambda: c.sessions.retrieve(nobody)),
        ("NotFoundError", lambda: c.sessions.retrieve_v2(nobody)),
        ("AuthenticationError", lambda: wrong.sessions.retrieve(documents[0]["id"])),
        ("UnprocessableEntityError", listed),
    ):
        try:
            await ask()
        except Exception as error:
            assert type(error).__name__ == kind, (kind, error)
        else:
            raise AssertionError(f"no {kind}")


documents = document("/sessions?include_stats=true")
assert documents, "no projects"
for base in (url, url + "/api/v1"):
    c = client(key, base)
    for expected in documents:
        for found in (
            c.read_project(project_id=expected["id"], include_stats=True),
            c.read_project(project_name=expected["name"], include_stats=True),
        ):
            assert str(found.id) == expected["id"] and found.name == expected["name"]
            assert found.run_count == expected["run_count"]
            assert abs(found.latency_p99.total_seconds() - expected["latency_p99"]) < 1e-6
            assert str(found.total_cost) == expected["total_cost"]
            assert found.error_rate == expected["error_rate"]
            assert set(found.feedback_stats) == set(expected["feedback_stats"])

    listed = list(c.list_projects(include_stats=True))
    assert [str(one.id) for one in listed] == [one["id"] for one in documents]
    assert len(list(c.list_projects(limit=2))) == 2
    part = documents[0]["name"][1:5]
    assert documents[0]["name"] in [one.name for one in c.list_projects(name_contains=part)]
    assert len(list(c.list_projects(reference_free=True))) == len(documents)
    metadata = documents[0]["extra"]["metadata"]
    assert [str(one.id) for one in c.list_projects(metadata=metadata)] == [documents[0]["id"]]

    first = documents[0]
    stats = c.get_run_stats(project_ids=[first["id"]], is_root=True)
    assert stats["run_count"] == first["run_count"] and stats["total_cost"] == first["total_cost"]
    stats = c.get_run_stats(project_names=[first["name"]], filter='eq(run_type, "llm")')
    models = c.get_run_stats(project_ids=[first["id"]], run_type="llm")
    assert stats == models and stats["run_count"] > 0

    runs = list(c.list_runs(project_id=first["id"], is_root=True))
    assert len(runs) == first["run_count"] and len({run.id for run in runs}) == len(runs)
    assert all(a.start_time >= b.start_time for a, b in zip(runs, runs[1:]))
    assert all(run.trace_id == run.id and run.parent_run_id is None for run in runs)
    assert sum(run.total_tokens or 0 for run in runs) == first["total_tokens"]
    assert sum(run.total_cost or 0 for run in runs) == listed[0].total_cost
    assert runs[0].inputs and runs[0].dotted_order and str(runs[0].session_id) == first["id"]
    failed = list(c.list_runs(project_name=first["name"], error=True, is_root=True))
    assert failed and all(run.status == "error" and run.error for run in failed)
    few = list(c.list_runs(project_id=first["id"], run_type="llm", limit=3, select=["name", "id"]))
    assert len(few) == 3
    trace = list(c.list_runs(trace_id=runs[0].id))
    assert runs[0].id in [run.id for run in trace]
    assert c.has_project(first["name"]) and not c.has_project("nobody")

    asyncio.run(sessions(c, first))

# Mistakes are the client's own kinds of error, and nothing is tried again.
c = client(key)
nobody = str(uuid.UUID(int=10))


def fails(kind, ask):
    before = len(sent)
    try:
        ask()
    except kind as error:
        assert len(sent) == before + 1, sent[before:]
        return error
    raise AssertionError(f"no {kind.__name__}")


fails(utils.LangSmithNotFoundError, lambda: c.read_project(project_id=nobody))
fails(utils.LangSmithNotFoundError, lambda: c.read_project(project_name="nobody"))
fails(utils.LangSmithNotFoundError, lambda: list(c.list_runs(project_id=nobody)))
fails(utils.LangSmithNotFoundError, lambda: c.get_run_stats(project_ids=[nobody]))
wrong = client("no-such-key")
fails(utils.LangSmithAuthError, lambda: wrong.read_project(project_id=documents[0]["id"]))
fails(utils.LangSmithAuthError, lambda: list(wrong.list_projects()))
error = fails(utils.LangSmithError, lambda: list(c.list_runs(project_id=documents[0]["id"], filter="eq(")))
assert "422" in str(error), error
asyncio.run(mistakes(client(key), client("no-such-key"), nobody))

# A tenant's key sees that tenant only.
own = list(client(tenant_key).list_projects())
assert all(str(one.tenant_id) == tenant for one in own)
others = [one["id"] for one in documents if one["tenant_id"] != tenant]
for other in others:
    fails(utils.LangSmithNotFoundError, lambda: client(tenant_key).read_project(project_id=other))

print(f"the Python client read {len(documents)} projects of a server, in {len(sent)} requests")
