"""What is known from earlier answers gives way soon when the kind of answers changes."""

from infermesh_engine.speculation.acceptance import AcceptanceRates, SharedRates


def test_rates_of_one_kind_of_answers_do_not_outlive_them_for_long() -> None:
    shared = SharedRates()
    quotes = AcceptanceRates(shared)
    for _ in range(1000):
        quotes.add(2, right=True)
    assert AcceptanceRates(shared).rate(2) > 0.8
    chat = AcceptanceRates(shared)
    for _ in range(64):
        chat.add(2, right=False)
    assert AcceptanceRates(shared).rate(2) < 0.4
