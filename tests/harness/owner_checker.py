"""Checks how many pods of one controller a plan document has away at once; shares no code with the product.

Replays the steps in random orders that their edges allow, with replacements that take random times to land.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

Document = dict[str, Any]


def most_away(dump: Document, plan: Document, seed: int) -> Counter[str]:
    """By UID of a controller, the most of its moving pods that were away at the same time in one random order.

    A pod that loses its place for good is not counted: it makes way for others.
    """
    owners = {
        f"{item['metadata']['namespace']}/{item['metadata']['name']}": item["metadata"]["ownerReferences"][0]["uid"]
        for item in dump["items"]
        if item["kind"] == "Pod" and item["metadata"].get("ownerReferences")
    }
    moved = {move["pod"] for move in plan["moves"]}
    steps = {step["id"]: step for step in plan["steps"]}
    random, done, under_way = Random(seed), set[str](), set[str]()
    most: Counter[str] = Counter()
    while len(done) < len(steps):
        ready = [i for i, s in steps.items() if i not in done | under_way and set(s["after"]) <= done]
        assert ready or under_way, "the steps wait for each other"
        if ready and (not under_way or random.random() < 0.6):
            under_way.add(random.choice(ready))
        else:
            landed = random.choice(sorted(under_way))
            under_way.remove(landed)
            done.add(landed)
        most |= Counter(owners[steps[one]["pod"]] for one in under_way if steps[one]["pod"] in moved)
    return most
