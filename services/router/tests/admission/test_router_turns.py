"""The order of one client's items among its members."""

from dataclasses import dataclass

from infermesh_router.admission.turns import Turns


@dataclass(frozen=True)
class Item:
    """Something that waits."""

    name: str
    member: str
    cost_tokens: float = 1.0


def serve(turns: Turns[Item], numbers: dict[Item, int]) -> str:
    item = turns.head()
    turns.charge(item)
    turns.remove(numbers[item], item)
    return item.name


def test_an_item_that_comes_back_has_its_old_place_and_costs_nothing() -> None:
    turns: Turns[Item] = Turns()
    numbers = {Item(f"{member}{number}", member): number for number, member in enumerate("ababab")}
    for item, number in numbers.items():
        turns.add(number, item)
    assert [serve(turns, numbers) for _ in range(2)] == ["a0", "b1"]
    returned = next(item for item in numbers if item.name == "a0")
    turns.add(numbers[returned], returned)
    turns.refund(returned)
    assert [serve(turns, numbers) for _ in range(5)] == ["a0", "a2", "b3", "a4", "b5"]
