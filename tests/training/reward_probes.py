"""Reward functions of a user's; nothing is imported, for each run imports them in a process of its own."""


def by_text(completions, **columns):
    return [float(len(text) % 7) for text in completions]


def failing(completions, **columns):
    return [None if number % 2 else float("nan") for number, _ in enumerate(completions)]


def broken(completions, **columns):
    return [1 / 0 for _ in completions]
