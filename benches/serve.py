"""Asks a server much at once: the same twenty questions over and over, then a thousand different ones.

Arguments: the server's URL, its process id. Prints how long answers took, what they were, and its memory.
"""

import asyncio
import json
import random
import sys
import time
import urllib.parse
import urllib.request

url, process = sys.argv[1:3]
host, port = urllib.parse.urlsplit(url).netloc.split(":")
N_CONNECTIONS = 64


def memory_mib():
    with open(f"/proc/{process}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) // 1024


async def get(reader, writer, path):
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:] if ": " in line)
    body = await reader.readexactly(int(headers["content-length"]))
    return int(head.split()[1]), headers, body


async def ask_all(paths, n_connections=N_CONNECTIONS):
    answers, open_paths = [], iter(paths)

    async def connection():
        reader, writer = await asyncio.open_connection(host, port)
        for path in open_paths:
            began = time.perf_counter()
            status, headers, body = await get(reader, writer, path)
            answers.append((path, status, headers, body, time.perf_counter() - began))
        writer.close()

    await asyncio.gather(*(connection() for _ in range(n_connections)))
    return answers


def say(what, answers, began):
    took = sorted(answer[-1] for answer in answers)
    statuses = {}
    for answer in answers:
        statuses[answer[1]] = statuses.get(answer[1], 0) + 1
    p50, p99 = (took[int(len(took) * share)] * 1000 for share in (0.5, 0.99))
    rate = len(answers) / (time.perf_counter() - began)
    print(f"{what}: {statuses}, {rate:.0f}/s, p50 {p50:.1f} ms, p99 {p99:.1f} ms, {memory_mib()} MiB", flush=True)


with urllib.request.urlopen(f"{url}/sessions") as answer:
    ids = [one["id"] for one in json.load(answer)]
twenty = [f"/sessions/{ids[n % len(ids)]}?include_stats=true" for n in range(10)]
twenty += [f"/stats?project={ids[n % len(ids)]}&group_by=name" for n in range(5)]
twenty += ["/sessions?include_stats=true", "/sessions?limit=5", "/stats", "/stats?every=1d", "/stats?runs=llm"]
began = time.perf_counter()
first = asyncio.run(ask_all(twenty, 4))
say("twenty questions, the first time", first, began)
expected = {path: body for path, _, _, body, _ in first}
began = time.perf_counter()
again = asyncio.run(ask_all(twenty * 500))
say("the same again and again", again, began)
assert all(status == 200 and body == expected[path] for path, status, _, body, _ in again)

random.seed(7)
windows = []
for n in range(1000):
    start = f"2026-10-{random.randint(3, 31):02}T{random.randint(0, 23):02}:{random.randint(0, 59):02}:{n % 60:02}Z"
    windows.append(f"/sessions/{random.choice(ids)}?include_stats=true&stats_start_time={start}")
began = time.perf_counter()
different = asyncio.run(ask_all(windows, 128))
say("a thousand windows", different, began)
assert {answer[1] for answer in different} <= {200, 503}
assert all(headers["retry-after"] == "1" for _, status, headers, _, _ in different if status == 503)
right = [(path, body) for path, status, _, body, _ in different if status == 200]
checked = random.sample(right, min(50, len(right)))
again = dict((path, body) for path, status, _, body, _ in asyncio.run(ask_all([path for path, _ in checked], 2)))
assert all(again[path] == body for path, body in checked), "answers differ"
print(f"{len(right)} answers, {len(checked)} asked again: the same; {memory_mib()} MiB")
