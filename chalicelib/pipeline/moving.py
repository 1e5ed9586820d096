"""Moving: blocks and histories that version 0.2 stored under one key per kind are moved to keys that share the load.

Every sweep moves some. Nothing waits for it: they are read and changed in both places. ``move_back`` undoes it, for a
rollback to version 0.2, which finds them in the old place only.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from chalicelib.core.state.blocks import Block, History
from chalicelib.core.state.records import Unreadable
from chalicelib.ports import Conflict, Delete, Item, Put, StateStore

MOVED_KINDS = (Block.kind, History.kind)
MOST_MOVED = 1000
"""Most items of a kind that one sweep moves."""

ITEMS_PER_WRITE = 50
"""Most items per transaction, which deletes and puts each."""


def move(store: StateStore) -> int:
    """Moves the next items of each kind to where new ones are stored. Returns their number."""
    return sum(_moved(store, store.unspread(kind, MOST_MOVED), lambda _: "") for kind in MOVED_KINDS)


def move_back(store: StateStore) -> int:
    """Moves all items to where version 0.2 finds them. Returns their number."""
    return sum(
        _moved(store, [item for item in store.query(kind) if item.key != kind], lambda item: item.kind)
        for kind in MOVED_KINDS
    )


def _moved(store: StateStore, items: Sequence[Item], place: Callable[[Item], str]) -> int:
    """Moves ``items`` to the key that ``place`` returns; empty: where the store puts new ones. Returns their number."""
    moved = 0
    for start in range(0, len(items), ITEMS_PER_WRITE):
        chunk = items[start : start + ITEMS_PER_WRITE]
        try:
            _write(store, chunk, place)
            moved += len(chunk)
        except Conflict:
            for item in chunk:
                with suppress(Conflict):  # it was changed in the meantime: the next sweep moves it
                    _move_alone(store, item, place)
                    moved += 1
    return moved


def _write(store: StateStore, items: Sequence[Item], place: Callable[[Item], str]) -> None:
    puts = [Put(replace(item, key=place(item), version=0)) for item in items]
    store.write([*map(Delete, items), *puts])


def _move_alone(store: StateStore, item: Item, place: Callable[[Item], str]) -> None:
    """Moves one item. If there is another in its new place, the one that lasts longer stays.

    After a rollback, the one that the running version wrote stays.
    """
    try:
        _write(store, [item], place)
    except Conflict:
        there = store.get(item.kind, item.id)
        if there is not None and there.key != item.key and _lasts(item) > _lasts(there):
            store.write([Delete(item), Put(replace(item, key=there.key, version=there.version))])
        else:
            store.write([Delete(item)])  # not if it is the one that was changed in the meantime


def _lasts(item: Item) -> int:
    """Returns the time until which an item matters; 0 if it cannot be read."""
    if item.kind == Block.kind:
        block = Block.read(item.id, item.body)
        return 0 if isinstance(block, Unreadable) else block.ends_at
    return item.expires_at or 0
