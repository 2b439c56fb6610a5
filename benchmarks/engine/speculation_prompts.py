"""The prompts of the speculation benchmark: edits of code, summaries that quote, and free chat."""

_CODE = (
    """class Account:
    def __init__(self, owner, balance=0):
        self.owner = owner
        self.balance = balance

    def deposit(self, amount):
        if amount <= 0:
            raise ValueError("amount must be positive")
        self.balance += amount
        return self.balance

    def withdraw(self, amount):
        if amount > self.balance:
            raise ValueError("not enough money")
        self.balance -= amount
        return self.balance
""",
    """import csv


def read_rows(path):
    with open(path, newline="") as file:
        reader = csv.DictReader(file)
        return list(reader)


def total(rows, column):
    result = 0
    for row in rows:
        result += float(row[column])
    return result


def average(rows, column):
    return total(rows, column) / len(rows)
""",
    """def binary_search(items, wanted):
    low = 0
    high = len(items) - 1
    while low <= high:
        middle = (low + high) // 2
        if items[middle] == wanted:
            return middle
        if items[middle] < wanted:
            low = middle + 1
        else:
            high = middle - 1
    return -1
""",
    """class Stack:
    def __init__(self):
        self.items = []

    def push(self, item):
        self.items.append(item)

    def pop(self):
        if not self.items:
            raise IndexError("the stack is empty")
        return self.items.pop()

    def peek(self):
        if not self.items:
            raise IndexError("the stack is empty")
        return self.items[-1]

    def __len__(self):
        return len(self.items)
""",
)
_EDITS = (
    "Add a docstring to the first function or method",
    "Rename one variable so that its name is clearer",
    "Add a comment before the last function or method",
    "Fix the names that do not follow PEP 8",
)
_ARTICLES = (
    "The harbour of Port Ellen was closed on Monday after a storm tore two fishing boats from their moorings. The "
    'harbour master, Iain Campbell, said: "I have never seen waves like this in thirty years at the harbour." Nobody '
    "was hurt, but the ferry to the mainland will not run before Thursday. The council has set up a kitchen in the "
    'village hall. "We have soup, blankets and dry socks for everybody who needs them," said the mayor, Morag '
    "MacLean. Insurance companies expect claims of about two million pounds.",
    "The city library of Hamilton opened its new reading room on Saturday after four years of work. The architect, "
    'Jane Okafor, explained: "We wanted a room in which children may be loud and readers may be quiet at the same '
    'time." The room holds forty thousand books and has two hundred seats. Entry is free. "My grandmother taught me '
    'to read in this library, and now I bring my own daughter here," said a visitor, Tom Reyes. The library is open '
    "from nine in the morning until eight in the evening, except on Sundays.",
    "Researchers of the University of Tartu have counted the bats of Estonia for the tenth year in a row. Their number "
    'has grown by a fifth since the first count. "Old barns are the most important homes for bats, and we lose them '
    'every year," said the head of the study, Kadri Tamm. The team used microphones at ninety places and listened for '
    'six nights each. "A single bat eats three thousand insects in one night," added Tamm. The results were published '
    "in the journal of the Estonian Naturalists' Society.",
    "The football club of Altona won its first match of the season on Sunday with two goals in the last five minutes. "
    'The coach, Peter Lang, said: "We trained for exactly this moment all summer long." More than six thousand people '
    'came to the stadium. The second goal was shot by Mehmet Kaya, who is only seventeen years old. "I closed my '
    'eyes and kicked as hard as I could," said Kaya after the match. The next match will be in Kiel on Friday evening.',
)
_TASKS = (
    "Summarise the article in three sentences and quote the speakers word for word.",
    "Repeat the article's most important sentences word for word, with all quotes.",
    "List everything that people say in the article, each with the speaker's name.",
    "Make the article shorter, but keep all quotes as they are.",
)
_QUESTIONS = (
    "What should I see in Lisbon in two days?",
    "Explain to a child why the sky is blue.",
    "Write a short story about a lighthouse keeper who is afraid of the dark.",
    "How do I learn to play the guitar without a teacher?",
    "What is the difference between a virus and a bacterium?",
    "Give me an idea for a birthday present for my grandfather, who likes birds.",
    "Why did the Roman Empire fall?",
    "Describe a day in the life of a baker.",
    "What can I cook with potatoes, eggs and spinach?",
    "How does a bicycle stay upright?",
    "Tell me about the history of chess.",
    "I cannot sleep well. What can I do?",
    "Which planets could one day be homes for people?",
    "Write a letter to a friend who has moved abroad.",
    "What makes a good teacher?",
    "How is cheese made?",
)

SETS: dict[str, tuple[str, ...]] = {
    "code edit": tuple(
        f"{edit} in this code, and give back the whole code:\n\n```python\n{code}```"
        for edit in _EDITS
        for code in _CODE
    ),
    "quotes": tuple(f"{task}\n\n{article}" for task in _TASKS for article in _ARTICLES),
    "free chat": _QUESTIONS,
}
"""Sixteen questions of each kind."""
BEGINNINGS = {"code edit": "Here is the whole code with the change:\n\n```python\n"}
"""How the answers begin, as with clients that apply edits: a model of this size would talk about the code instead."""
STOPS = {"code edit": ("```",)}
