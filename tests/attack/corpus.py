"""All hostile inputs for the app, and a seeded choice of them."""

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TypeVar

from attack import addresses, archives, events, images
from attack.target import Attack, Target

GENERATORS = (
    addresses.addresses,
    addresses.bodies,
    addresses.headers,
    addresses.uploads,
    events.junk_for_every_event,
    events.public_events,
    events.settings_of_runs,
    events.names_of_others,
    events.clicks,
    images.images,
    archives.archives,
)
T = TypeVar("T")


def all_attacks(target: Target) -> list[Attack]:
    """Return every hostile input for a running app."""
    return [attack for generator in GENERATORS for attack in generator(target)]


def choose(items: Sequence[T], count: int, seed: int = 0) -> list[T]:
    """Return a seeded choice, in the order of the items."""
    chosen = set(random.Random(seed).sample(range(len(items)), count))
    return [item for i, item in enumerate(items) if i in chosen]


def few_of_each_kind(attacks: Sequence[Attack], count: int) -> list[Attack]:
    """Return a seeded choice of so many of each kind."""
    kinds = defaultdict(list)
    for attack in attacks:
        kinds[attack.kind].append(attack)
    return [attack for group in kinds.values() for attack in choose(group, min(count, len(group)))]


def counted(verdicts: Sequence[str]) -> str:
    """Return how many there are of each verdict, in words."""
    return ", ".join(f"{number} {verdict}" for verdict, number in sorted(Counter(verdicts).items()))
