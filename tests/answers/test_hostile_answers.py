"""Answers made to fool, stop or own the grader: none is correct, none hangs or crashes it, and nothing in one runs.

Every pair is (gold, prediction), and the prediction is wrong. All are graded together, by workers in which an audit
hook notes whatever would be the work of code in an answer.
"""

# ruff: noqa: RUF001

import random
import time
from pathlib import Path
from typing import NamedTuple

import pytest

import lemma.answers.worker
from lemma.answers import Grader, exact_verdict, extract_answer
from lemma.answers.equivalence import MAX_PREDICTION_LENGTH
from lemma.types import InputError, Verdict

TIMEOUT = 0.4  # seconds of CPU time
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.remove", "subprocess.", "socket.", "shutil.")

TOWERS = [
    ("7", each)
    for each in [
        "9^{9^{9^9}}", "9**9**9**9", "10^{10^{10^{10}}}", "9!!!!!!", "(((9!)!)!)!", r"\binom{10^9}{5\cdot 10^8}",
        "10^{-10^{10}}", r"\sqrt[10^9]{10^{10^9}}", r"\gcd(10^{10^8}, 10^{10^8}+1)", r"\sin(10^{10^{10}})",
        "e^{e^{e^{e^{e^e}}}}", r"\sum_{k=1}^{10^{12}} k^k", r"\prod_{k=1}^{10^9} k", r"\sum_{k=1}^{\infty} 9^{9^k}",
        "(x+1)^{100000}", "(a+b+c+d+f+g+h)^{3000}", "(10^{10^7})^{10^7} \\bmod 9", "1e999999999", "1e-999999999",
        "1.5E+99999999", "x^{x^{x^{x^{x^{x^{x}}}}}}", r"\lim_{x\to\infty} x^{x^x}",
    ]
]  # fmt: skip
NEARLY = [
    (str(10**40 + 1), str(10**40)),
    (str(10**40), "1e40 + 1"),
    ("9007199254740993", "9007199254740992"),
    ("9007199254740993", "9007199254740992.0"),
    (str(10**1000 + 7), str(10**1000 + 8)),
    ("2^{100}", str(2**100 - 1)),
    ("0", r"\frac{1}{10^{50}}"),
    ("0", "10^{-400}"),
    ("0", "1e-400"),
    ("0", "0." + "0" * 300 + "1"),
    ("1", "0." + "9" * 300),
    ("1", "1.0000000000000001"),
    ("1", r"\frac{9007199254740993}{9007199254740992}"),
    (r"\frac{1}{10^{30}}", r"\frac{1}{10^{30}+1}"),
    ("1/3", "0.33"),
    ("1/3", "0.333333333333333333"),
    ("2/3", "0.67"),
    ("0.3", "0.1+0.2+10^{-17}"),
    (r"\pi", r"\frac{355}{113}"),
    (r"\pi", "22/7"),
    (r"\sqrt{2}", r"\frac{99}{70}"),
    ("10^{20}", r"\sqrt{10^{40}+1}"),
    ("262537412640768744", r"e^{\pi\sqrt{163}}"),
    (r"\sqrt{2}+\sqrt{3}", r"\sqrt{10-10^{-20}}"),
    ("5", "4.999999999999999999"),
    ("1e400", r"\infty"),
    ("1e400", "1e401"),
    (r"\infty", r"-\infty"),
    ("x^2", "x^2 + 10^{-30}"),
    ("123456789012345678901234567890", "123456789012345678901234567891"),
]
ANAGRAMS = [
    ("Evelyn", "Lyneve"), ("listen", "silent"), ("odd", "ddo"), ("triangle", "integral"), ("Monday", "Dynamo"),
    (r"\text{even}", r"\text{neve}"), (r"\text{east}", r"\text{seat}"), ("Tuesday", "Thursday"), ("yes", "eyes"),
    ("no solution", "one solution"), ("Amy", "May"), ("circle", "cleric"), ("abc", "bcd"),
    (r"\triangle ABC", r"\triangle DEF"), ("true", "not true"), ("one", "neo"), ("increasing", "decreasing"),
    ("Evelyn", "Evelyn and Bob"), ("Evelyn", "not Evelyn"), ("Evelyn", "Евелин"), ("A", "B"), ("(A)", "(A) or (B)"),
    ("A", "A, B, C, D"), ("B", "8"),
]  # fmt: skip
BASES = [
    ("204_5", "204_6"), ("204_5", "240_5"), ("101_2", "101_3"), ("101_2", "110_2"), ("11_{16}", "11_{8}"),
    ("5", "101_3"),
    ("10_{12}", "10_{11}"), ("FF_{16}", "FE_{16}"), ("204_5", "2045"), ("x_1", "x_2"), ("a_n", "a_{n+1}"),
    ("1000_2", "1000_{10}"),
]  # fmt: skip
UNITS = [
    (r"5\text{ cm}", r"5\text{ kg}"), ("5 m", "5 cm"), ("5 cm", "5 m"), (r"\$5", "€5"), ("$5", "£5"),
    (r"\$5", "5 cents"),
    ("5 hours", "5 minutes"), ("90^\\circ", r"90\text{ radians}"), (r"5\text{ m}^2", r"5\text{ m}"),
    ("3:00 pm", "3:00 am"),
    ("3:00", "3:01"), ("5 km/h", "5 m/s"), (r"12\text{ inches}", r"12\text{ feet}"), ("7 days", "7 weeks"),
    ("5\\%", "5 cm"),
    ("1 hour", "61 minutes"), ("2 kg", "200 g"), (r"50\%", r"0.5\%"), ("May 5", "May 6"), ("2024-01-02", "2024-02-01"),
    ("January 5", "June 5"), (r"3\text{ dozen}", "35"), ("5 million", "5 billion"), (r"45^\circ", r"46^\circ"),
]  # fmt: skip
DENIALS = [
    ("42", each)
    for each in [
        "not 42", "Not 42", r"\text{not } 42", r"\neq 42", r"\ne 42", "≠ 42", r"x \ne 42", "x != 42", r"\lnot 42",
        "anything but 42", "is not 42", "42 is wrong", "no, not 42", "41 = 42", "42 = 41", "41 = 42 = 43", "42 or 43",
        "41, 42", "1, 2, 3, 42", r"\{41, 42\}", "x = 41 or x = 42", r"41 \text{ or } 42", r"41 \lor 42",
        "between 41 and 42",
        "42 and 43", "42; 43", "(41, 42)", "[41, 42]", "> 42", "< 42", r"x \ge 42", r"\le 42", "less than 42",
        "at least 42",
        "-42", r"\pm 42", "42i", "42!", "42x", "4 2", "4,2", "42.1", "42 - 1", "042.5", "42/1.01", r"\sqrt{42}", "42^2",
        "0.42", "4242", "42 + C", "f(42)", r"\overline{42}", "x + 42", "42 (mod 43)", "y = 41",
        "42 apples or 43 apples",
        r"\boxed{41} or \boxed{42}", "forty-three", "twenty-four", "42?43", "42...43", "1:42", "42 to 43",
    ]
]  # fmt: skip
NON_NUMBERS = [
    ("5", each)
    for each in [
        "nan", "NaN", "inf", "-inf", "1/0", "0/0", r"\frac{5}{0}", r"\frac{0}{0}", "5/0", r"\infty", "5e", "e5", "--",
        "+",
        "-", ".", ",", "???", "...", "None", "null", "undefined", "5.5.5", "0^0", "zoo", "oo", r"\log 0",
        "1e400",
        "-1e400", r"\sqrt{-25}", "|", r"\frac{5}{", r"\frac{}{}", r"\sqrt{}", "()", "[]", "{}", r"\{\}", r"\emptyset",
        r"\text{}", "5 5", "5,5", "=", "= =", "5 = ", "x", "5x = 5", r"\begin{pmatrix}5\\5\end{pmatrix}", "a5",
    ]
]  # fmt: skip
UNICODE = [
    ("6", "５"), ("24", "\u202e42"), ("24", "4\u202e2"), ("24", "\u2067\u202e42\u2069"), ("24", "٤٢"), ("6", "٥"),
    ("5", "5\u0338"), ("5", "5\0"), ("5", "\0"), ("5", "\0\0\0"), ("5", "\x1b[31m6"), ("52", "5²"), ("12", "½"),
    ("5", "\ud800"),
    ("5", "\udfff5"), ("21", "2\u00b9"), ("4", "4\u200b2"), ("Evelyn", "Еvelyn"), ("5", "\ufffd"), ("5", "💯"),
    ("1", "Ⅱ"),
    ("15", "1⁵"), ("10", "㉈"), ("5", "\u0665\u0665"), ("x", "х"), ("5", "\ufeff6"), ("5", "六"), ("25", "2\u20de5"),
]  # fmt: skip
EMPTY_GOLDS = [
    (gold, prediction)
    for gold in ("$$", r"\boxed{}", r"\text{}", "{}", "???", r"\,")
    for prediction in ("", " ", "5", "0", "x")
]


def code(canary: Path) -> list[tuple[str, str]]:
    r"""Return answers that are programs; each would leave the canary, or at least be evaluated to the gold."""
    touch, path = f"touch {canary}", str(canary)
    return [
        ("5", each)
        for each in [
            f"__import__('os').system('{touch}')",
            rf"\text{{__import__('os').system('{touch}')}}",
            f"$__import__('pathlib').Path('{path}').touch()$",
            f"exec(\"open('{path}', 'w')\")",
            f"eval(compile(\"open('{path}','w')\",'','exec'))",
            f"[open('{path}','w') for _ in (1,)]",
            f"(lambda: open('{path}','w'))()",
            f"().__class__.__base__.__subclasses__()[104].load_module('os').system('{touch}')",
            f"sympify(\"__import__('os').system('{touch}')\")",
            rf"\operatorname{{exec}}(open('{path}','w'))",
            rf"\frac{{__import__('os').system('{touch}')}}{{1}}",
            rf"\sqrt{{open('{path}','w')}}",
            rf"x_{{open('{path}','w')}}",
            rf"f(open('{path}','w'))",
            rf"\write18{{{touch}}}",
            rf"\immediate\write18{{{touch}}}",
            rf'\input{{|"{touch}"}}',
            rf"\openout5={path}",
            rf"\directlua{{os.execute('{touch}')}}",
            r"\input{/etc/passwd}",
            r"\include{/etc/passwd}",
            r"\def\x{\x\x}\x",
            r"\newcommand{\x}{\x\x}\x",
            r"\loop\iftrue\repeat",
            f"$({touch})",
            f"`{touch}`",
            f"; {touch} ;",
            f"| {touch}",
            f"&& {touch}",
            f'!!python/object/apply:os.system ["{touch}"]',
            "{{7*7}}",
            "${{7*7}}",
            "%s%s%s%s%n",
            "{0.__class__}",
            "'; DROP TABLE answers; --",
            "<script>alert(5)</script>",
            f"5 if open('{path}','w') else 5",
            f"5 + 0*len(str(open('{path}','w')))",
            f"5; open('{path}','w')",
            f'max(5, exec(\'open("{path}","w")\'))',
            "print(5)",
            "Integer(5)",
            "S(5)",
            "int('5')",
            "lambda x: 5",
            "return 5",
            "x := 5; exit()",
            "exit(5)",
            "quit()",
            "raise SystemExit",
            "while True: pass",
            "import os; os.abort()",
            "os._exit(0)",
            "Symbol('x').subs(x, 5)",
            "globals()",
            "gold",
            "Verdict.CORRECT",
            "correct",
        ]
    ]


def long_answers() -> list[str]:
    """Return answers far longer than what is read at all."""
    pieces = [
        "(",
        ")",
        "{",
        "}",
        "[",
        r"\frac{",
        r"\sqrt{",
        "-",
        ",",
        "\\",
        "$",
        r"\boxed{",
        "<think>",
        "</answer>",
        " ",
        "x",
    ]
    pieces += [
        "_",
        "^",
        r"\text{",
        r"\left(",
        "|",
        "&",
        r"\begin{pmatrix}",
        "1+",
        "9",
        "#### ",
        "5 = ",
        "\n",
        "\0",
        "5 or ",
    ]
    return [(piece * 100_000)[:100_000] for piece in pieces] + ["0." + "3" * 100_000, "{" * 50_000 + "5" + "}" * 50_000]


def deep_answers() -> list[str]:
    """Return answers as long as is read, which nest or branch as deep as that allows."""

    def nested(left: str, right: str) -> str:
        depth = (MAX_PREDICTION_LENGTH - 1) // len(left + right)
        return left * depth + "6" + right * depth

    sides = [
        ("(", ")"), ("{", "}"), ("[", "]"), (r"\{", r"\}"), (r"\sqrt{", "}"), ("x^{", "}"), ("x_{", "}"), ("|", "|"),
        (r"\frac{1}{1+", "}"), (r"\left(", r"\right)"), (r"\text{", "}"), (r"\boxed{", "}"), ("-(", ")"), ("sin(", ")"),
        (r"\lfloor ", r" \rfloor"), (r"\begin{pmatrix}", r"\end{pmatrix}"), ("f(", ")"), ("1-(x+", ")"), ("2^{", "!}"),
        ("(1,", ")"), (r"\{1,", r"\}"), ("(x+1)(", ")"), (r"\int_0^1 ", "dx"), (r"\frac{", "}{2}"), (r"\log{", "}"),
    ]  # fmt: skip
    pieces = [
        r"\pm 1", r"\pm", "1 ", "1,", "1, ", "1,111", "a b ", "x<", r"(0,1)\cup ", "(1,2),", "x^2", "1+", r"\ ", "'",
        "!", "^", "_", "=", "x=", " and ", "5 or ", "$", r"\$5", "5 cm ", ":", "1/", r"\cdot", ".", "{}", r"\sqrt",
        r"\frac", "~", "5_", "12:", "x!", r"\sum_{k=1}^{9}", r"\binom{9}{4}", r"&\\",
    ]  # fmt: skip
    return [
        *(nested(*each) for each in sides),
        *((piece * MAX_PREDICTION_LENGTH)[: MAX_PREDICTION_LENGTH - 5] for piece in pieces),
    ]


def hard_pairs() -> list[tuple[str, str]]:
    """Return pairs whose comparison, not whose reading, is large."""
    rng = random.Random(0)
    roots = [rf"\sqrt{{{number}}}" for number in range(2, 150)]
    shuffled = rng.sample(roots, len(roots))
    terms = "+".join(f"x_{{{number}}}" for number in range(200))
    product = "".join(f"(x+{number})" for number in range(1, 150))
    return [
        (", ".join(roots), ", ".join([*shuffled[:-1], r"\sqrt{151}"])),
        (r"\{" + ", ".join(roots) + r"\}", r"\{" + ", ".join([*shuffled[:-1], r"\sqrt{151}"]) + r"\}"),
        (terms, terms + "+1"),
        (product, product + "(x+151)"),
        (product, product[:-5] + "(x+150)"),
        (r"\sin(" + terms + ")", r"\sin(" + terms + "+1)"),
        ("(x+y+z+w)^{60}", "(x+y+z+w)^{60}+1"),
        ("x^{1000}-1", "(x-1)(x^{999}+1)"),
        (r"\sum_{k=1}^{10000} \frac{1}{k}", r"\sum_{k=1}^{10001} \frac{1}{k}"),
        (r"\int_0^\infty \frac{\sin(x^7)}{x^5+e^x} dx", r"\int_0^\infty \frac{\sin(x^7)}{x^5+e^x+1} dx"),
        (r"\sqrt{2+\sqrt{3+\sqrt{5+\sqrt{7+\sqrt{11}}}}}", r"\sqrt{2+\sqrt{3+\sqrt{5+\sqrt{7+\sqrt{13}}}}}"),
        (r"x^5-x+1=0", r"x^5-x+2=0"),
        (r"\sin x+\sin 2x+\sin 3x = 1", r"\sin x+\sin 2x+\sin 3x = 2"),
    ]


class Case(NamedTuple):
    kind: str
    gold: str
    prediction: str


class Outcome(NamedTuple):
    verdicts: dict[Case, Verdict]
    alone: list[tuple[Case, float]]
    """Seconds of CPU time that this process spent on each pair."""
    seconds: float
    audit: Path
    canary: Path
    grader: Grader


@pytest.fixture(scope="module")
def outcome(tmp_path_factory) -> Outcome:
    """Grade everything once, in workers that are watched."""
    folder = tmp_path_factory.mktemp("hostile")
    canary, audit = folder / "canary", folder / "audit"
    cases = [
        Case(kind, gold, prediction)
        for kind, pairs in {**globals_by_kind(), "code": code(canary)}.items()
        for gold, prediction in pairs
    ]
    with pytest.MonkeyPatch.context() as patch:
        watch_workers(folder, audit, patch)
        with Grader(num_workers=2, timeout=TIMEOUT) as grader:
            alone = []
            for case in cases:
                start = time.process_time()
                exact_verdict(case.gold, case.prediction)
                alone.append((case, time.process_time() - start))
            start = time.monotonic()
            verdicts = grader.grade([(case.gold, case.prediction) for case in cases])
            seconds = time.monotonic() - start
    return Outcome(dict(zip(cases, verdicts, strict=True)), alone, seconds, audit, canary, grader)


def globals_by_kind() -> dict[str, list[tuple[str, str]]]:
    return {
        "towers": TOWERS, "nearly": NEARLY, "anagrams": ANAGRAMS, "bases": BASES, "units": UNITS, "denials": DENIALS,
        "non-numbers": NON_NUMBERS, "unicode": UNICODE, "empty golds": EMPTY_GOLDS, "hard": hard_pairs(),
        "long": [("5", each) for each in long_answers()], "deep": [("5", each) for each in deep_answers()],
    }  # fmt: skip


KINDS = [*globals_by_kind(), "code"]


def watch_workers(folder: Path, audit: Path, patch: pytest.MonkeyPatch) -> None:
    """Have workers note every event that code in an answer would cause, and that the hook is there."""
    source = Path(lemma.answers.worker.__file__).read_text("utf-8")
    hook = f"""
import os
_note = os.open({str(audit)!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)  # before files cannot be written

def _audit(event, arguments):
    writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if writes or event.startswith({FORBIDDEN!r}):
        os.write(_note, (event + " " + repr(arguments)[:200] + "\\n").encode())

_serve = serve

def serve(connection):
    def then_watch(restrict=_restrict):
        sys.addaudithook(_audit)
        os.system("true")
    globals()["_restrict"] = then_watch
    _serve(connection)


if __name__ == "__main__":
"""
    (folder / "watched_worker.py").write_text(source.replace('if __name__ == "__main__":\n', hook), "utf-8")
    patch.syspath_prepend(str(folder))
    patch.setattr("lemma.answers.pool.WORKER_MODULE", "watched_worker")


def test_there_are_many_of_every_kind(outcome: Outcome):
    assert len(outcome.verdicts) >= 400
    assert {case.kind for case in outcome.verdicts} == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_none_is_correct(outcome: Outcome, kind: str):
    fooled = [(g[:80], p[:80]) for (k, g, p), verdict in outcome.verdicts.items() if k == kind and verdict == "correct"]
    assert fooled == []


def test_nothing_in_an_answer_ran(outcome: Outcome):
    events = outcome.audit.read_text().split("\n")[:-1]
    assert events
    assert {event.split()[0] for event in events} == {"os.system"}
    assert all("b'true'" in event for event in events)  # the hook's own
    assert not outcome.canary.exists()


def test_none_takes_the_caller_long(outcome: Outcome):
    slow = [(case.kind, case.prediction[:60], seconds) for case, seconds in outcome.alone if seconds > 0.25]
    assert slow == []


def test_only_what_is_large_runs_out_of_time_and_no_worker_dies_of_anything_else(outcome: Outcome):
    late = {case.kind for case, verdict in outcome.verdicts.items() if verdict == Verdict.TIMEOUT}
    assert late <= {"towers", "hard", "deep", "code"}
    assert outcome.grader.num_crashes == 0


def test_the_verdicts_on_the_other_pairs_are_those_of_a_quiet_day(outcome: Outcome):
    """Whatever stood beside it, a right answer is right."""
    pairs = [("7", "9^{9^{9^9}}"), (r"\int_0^1 x dx", "1/2"), ("7", "((9!)!)!"), (r"2\int_0^2 x dx", "4"), ("5", "5.0")]
    with Grader(timeout=TIMEOUT) as grader:
        assert [v for v in grader.grade(pairs) if v != Verdict.TIMEOUT][-3:] == [Verdict.CORRECT] * 3


def texts() -> list[tuple[str, str]]:
    """Return (gold, model text) in which the gold stands, but not as the answer."""
    markers = [
        "#### ",
        "The answer is ",
        r"\boxed{",
        "<answer>",
        "**Answer:** ",
        "Therefore, ",
        "so ",
        "$",
        r"\(",
        "= ",
    ]
    floods = [("6", marker * 20_000) for marker in markers]
    floods += [("6", f"{marker}5 " * 10_000) for marker in markers]
    floods += [("6", marker + each) for marker in (r"\boxed{", "The answer is ") for each in long_answers()]
    return [
        *floods,
        ("42", r"\boxed{41} or \boxed{42}"),
        ("42", r"\boxed{41}, \boxed{42}"),
        ("3", r"\boxed{1,2,3,4}"),
        ("42", r"<think>\boxed{42}"),
        ("42", r"<think>It is \boxed{42}.</think> I do not know."),
        ("42", r"\boxed{42} wait, no. \boxed{41}"),
        ("42", r"The answer is not 42."),
        ("42", r"\boxed{42"),
        ("42", r"\boxed{\boxed{42} + 1}"),
        ("42", r"\boxed{}42"),
        ("42", "<answer></answer>"),
        ("42", "####"),
        ("42", r"The answer is 42 or 43."),
        ("42", r"\boxed{41 = 42}"),
        ("42", r"It is 42. The answer is 41."),
    ]


def test_hostile_texts_are_graded_in_no_time_and_none_is_correct():
    rows = texts()
    slow = []
    for _, text in rows:
        start = time.process_time()
        extract_answer(text)
        seconds = time.process_time() - start
        if seconds > 2.0:  # a quadratic reader would take minutes
            slow.append((text[:60], len(text), seconds))
    assert slow == []
    with Grader(timeout=TIMEOUT) as grader:
        graded = grader.grade_texts(*zip(*rows, strict=True))
    fooled = [
        (gold, text[-60:], each)
        for (gold, text), each in zip(rows, graded, strict=True)
        if Verdict.CORRECT in (each.verdict, each.flexible_verdict)
    ]
    assert fooled == []


def test_an_empty_gold_is_the_users_error():
    with Grader() as grader:
        for gold in ("", " ", "\n\t"):
            with pytest.raises(InputError, match="pair 1 is empty"):
                grader.grade([("5", "5"), (gold, "5")])
