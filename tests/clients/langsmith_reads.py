"""Checks that LangSmith's Python client reads the documents of `runtally list` as what they are."""

import json
import sys
from decimal import Decimal

from langsmith.schemas import TracerSessionResult

with open(sys.argv[1]) as file:
    documents = json.load(file, parse_float=str)

for document in documents:
    # As the client does: from parsed JSON, floats as floats.
    parsed = json.loads(json.dumps(document))
    for key in ("latency_p50", "latency_p99", "first_token_p50", "first_token_p99"):
        parsed[key] = None if document[key] is None else float(document[key])
    for key in ("error_rate", "streaming_rate"):
        parsed[key] = None if document[key] is None else float(document[key])
    result = TracerSessionResult(**parsed)
    for key in ("latency_p50", "latency_p99", "first_token_p50", "first_token_p99"):
        value = getattr(result, key)
        assert (value is None) == (document[key] is None), key
        if value is not None:
            assert abs(value.total_seconds() - float(document[key])) < 1e-6, (key, value)
    for key in ("total_cost", "prompt_cost", "completion_cost"):
        value = getattr(result, key)
        assert value == (None if document[key] is None else Decimal(document[key])), (key, value)
    for key in ("run_count", "total_tokens", "prompt_tokens", "completion_tokens", "name"):
        assert getattr(result, key) == document[key], key
    assert str(result.id) == document["id"] and str(result.tenant_id) == document["tenant_id"]

assert documents, "no documents"
print(f"the Python client read {len(documents)} documents")
