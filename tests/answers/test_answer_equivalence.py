r"""Which answers are equal: for each kind of answer, pairs that are and near misses that are not.

A line holds a gold and a prediction, separated by a blank, ``|`` and a blank.
"""

import time

import pytest

from lemma.answers import exact_verdict, symbolic_verdict
from lemma.answers.conventions import Conventions
from lemma.answers.equivalence import unreadable
from lemma.types import Verdict

EQUAL = {
    "integers, decimals, fractions": r"""
        1/2 | 0.5
        5 | 5.0
        5 | +5
        0.5 | .50
        -\frac{1}{2} | \frac{1}{-2}
        1\frac{1}{2} | 1.5
        1 1/2 | 3/2
        \frac12 | \dfrac{1}{2}
        \frac{1}{2}+\frac{1}{3} | \frac56
        0.\overline{3} | \frac13
        0.1\overline{6} | 1/6
        0.(3) | 1/3
        3:4 | 6:8
        3:4 | \frac34
        ½ | 0.5
        5 | \boxed{5}.
        \text{12} | 12
    """,
    "separators": r"""
        1,234 | 1234
        1{,}234{,}567 | 1 234 567
        1,\!234 | 1\,234
        1.234,56 | 1234.56
        1.234.567 | 1234567
        3{,}14 | 3.14
    """,
    "large and scientific": r"""
        1.5\times 10^3 | 1500
        6.02 \cdot 10^{23} | 6.02\times10^{23}
        1.5e3 | 1500
        5 \times 10^{-3} | 0.005
        2^{100} | 1267650600228229401496703205376
        5! | 120
        \binom{5}{2} | 10
        120 | {16 \choose 2}
        \gcd(3.6, 2.4) | 6/5
        \lfloor 3.7 \rfloor | 3
        \sum_{k=1}^{10} k | 55
    """,
    "percent": r"""
        28\% | 28
        0.6 | 60\%
        0.335 | 33.5\%
        25\% | 25 percent
        10\% | \frac{1}{10}
    """,
    "units": r"""
        5\text{ cm} | 5
        5 | 5 cm
        17 apples | 17
        5\text{ cm} | 50\text{ mm}
        1 m | 100 cm
        1.5 \text{ hours} | 90 minutes
        \frac{1}{3} \text{ hour} | 20 minutes
        5\text{ feet }6\text{ inches} | 66 inches
        60 mph | 60 miles per hour
        12\text{ cm}^2 | 12 square centimeters
        36\pi\text{ cm}^3 | 36\pi
        20\,\mathrm{cm^2} | 20\text{ cm}^{2}
        3 million | 3,000,000
        2\text{ dozen} | 24
        25^\circ\text{C} | 25
    """,
    "currency": r"""
        \$5 | 5 dollars
        $5 | \$5.00
        \$1.50 | 150 cents
        \$1,234.50 | 1234.5
        -\$5 | -5
        \$5 \text{ million} | 5,000,000 dollars
        \$12 \text{ per hour} | 12 dollars per hour
        €5 | 5€
    """,
    "angles": r"""
        90^\circ | 90
        90° | 90\text{ degrees}
        90^\circ | \frac{\pi}{2}
        180^\circ | \pi \text{ radians}
        12^\circ 30' | 12.5^\circ
        \sin 30^\circ | \frac12
    """,
    "bases": r"""
        204_5 | 204
        204_5 | 204_{5}
        204_5 | (204)_5
    """,
    "times and dates": r"""
        3:00 pm | 15:00
        3:00\text{ p.m.} | 3 PM
        12:00 pm | noon
        \text{May 5} | 5 May
        \text{May 5, 2020} | 2020-05-05
        \text{May 5, 2020} | May 5th
    """,
    "choices and words": r"""
        \text{(C)} | C
        C | (c)
        C | C) 12
        \textbf{(B)}\ 5 | B
        \text{East} | east
        \text{Evelyn} | Evelyn
        \text{The circle} | circle
        \text{twelve} | 12
        \text{undefined} | does not exist
        \text{Yes} | yes
        \text{Monday} | Monday.
    """,
    "names and chains": r"""
        5 | x = 5
        x=5 | 5
        4 | 2+2 = 4
        7 | x=3+4=7
        f(x)=x^2 | x^2
        y = x^2+2x+1 | 2x+1+x^2
        \frac{\sqrt{3}}{3} \approx 0.577 | \frac{\sqrt{3}}{3}
        x \approx 0.58 | 0.58
        S_{MBCN}:S=7:32 | 7:32
        P(A\cap B) = \frac{1}{4} | 0.25
        m\angle A = 30^\circ | 30
        \text{Area} = 5 | 5
        V_{3\text{ inch}} = \$675 | 675
    """,
    "lists": r"""
        1,2,3 | \{3, 2, 1\}
        1,2 | 2 \text{ and } 1
        2, 3, and 5 | 5,3,2
        1,2 | (1,2)
        3,-3 | \pm 3
        \frac{1\pm\sqrt{5}}{2} | \frac{1-\sqrt5}{2}, \frac{1+\sqrt5}{2}
        x=1\pm\sqrt{2} | 1+\sqrt{2}, 1-\sqrt{2}
        \pm 1\pm i | 1+i,1-i,-1+i,-1-i
        x=1,2 | 1,2
        x=1 \text{ or } x=2 | x=2, 1
        x=1, y=2 | y=2, x=1
        p=5,q=2 \text{ and } p=7,q=2 | p=5,q=2;p=7,q=2
        \$5, \$6 | 6, 5
        (2,1),(3,1) | (3,1),(2,1)
    """,
    "tuples and vectors": r"""
        (1,2) | \left(1,2\right)
        (1,2,3) | \langle 1,2,3\rangle
        (1,2,3) | [1,2,3]
        (1,2,3) | \begin{pmatrix}1\\2\\3\end{pmatrix}
        (1,2,3)^T | \begin{pmatrix}1\\2\\3\end{pmatrix}
        (x,y)=(1,2) | (1,2)
        (0;0;0) | (0,0,0)
        \mathbf{v} = \begin{pmatrix}1\\2\end{pmatrix} | (1,2)
    """,
    "sets": r"""
        \{1,1,2\} | \{1,2\}
        \{5\} | 5
        \{(1,2),(3,4)\} | (3,4),(1,2)
        \emptyset | \text{no solution}
        \{\} | \varnothing
        \{x \mid x > 3\} | (3,\infty)
        x \in \{1,2\} | x = 1, 2
    """,
    "matrices": r"""
        \begin{pmatrix}1&2\\3&4\end{pmatrix} | \begin{bmatrix}1&2\\3&4\end{bmatrix}
        \begin{pmatrix}1/2&2\\3&4\end{pmatrix} | \left[\begin{array}{cc}0.5&2\\3&4\end{array}\right]
        \begin{vmatrix}1&2\\3&4\end{vmatrix} | -2
        \begin{pmatrix}1&2\\3&4\end{pmatrix} | [[1,2],[3,4]]
    """,
    "intervals and inequalities": r"""
        [0,1) | [0,1[
        ]0,1[ | (0,1)
        (0,1) \cup (2,3) | (2,3)\cup(0,1)
        (0,1] \cup [1,3) | (0,3)
        (-\infty,\infty) | \mathbb{R}
        \mathbb{R} | \text{all real numbers}
        x\in[1,5) | 1\le x<5
        1 < x \le 5 | (1,5]
        c \in (-\infty, 1]\cup[10,+\infty) | (-\infty,1]\cup[10,\infty)
        x>3 | 3<x
        x>3 | (3,\infty)
        x \ge \sqrt{8} | [2\sqrt{2},\infty)
        x \neq 3 | (-\infty,3)\cup(3,\infty)
        x\neq 3 | \mathbb{R}\setminus\{3\}
        x<1 \text{ or } x>3 | (-\infty,1)\cup(3,\infty)
        x > 1 \text{ and } x < 3 | (1,3)
        2x+3>7 | x>2
        -2x < 4 | x > -2
        x+y<1 | 1 > x+y
        |x-1|<2 | (-1,3)
        x^2 < 4 | -2<x<2
    """,
    "equations": r"""
        y = 2x + 1 | 2x - y + 1 = 0
        2x+4y-3=0 | y=-\frac{1}{2}x+\frac{3}{4}
        x^2+y^2=1 | 1-x^{2}-y^{2}=0
        p-351=0 | 1/3p-3=114
        w(12.5-w)=25 | 2w+50/w=25
        x^2=4 | x=\pm 2
        f(x)-\ln|x|-c = 0 | f(x) = \ln|x|+c
        x=1.44^y | x=1.2^(2y)
    """,
    "algebra": r"""
        (x+1)^2 | x^2+2x+1
        (1+6x)(x-1) | -(6x+1)(1-x)
        \frac{x^2-1}{x-1} | x+1
        \frac{x+1}{2y} | \frac{x}{2y} + \frac{1}{2y}
        \frac{a+b}{c} | (a+b)/c
        a*b^-1 | a/b
        R/r | \frac{R}{r}
        2^{n+1} | 2\cdot 2^n
        |x-1| | |1-x|
        \frac{(n-1)!}{k!} \frac{n}{(n-k)!} | \frac{n!}{k!(n-k)!}
        k_{\mathrm{B}} T | k_B T
        tan(f(2x)) | sin(f(3x-x))/cos(f(x+x))
    """,
    "constants": r"""
        \frac{\sqrt{3}}{2} | \frac{3}{2\sqrt3}
        \frac{1}{1+\sqrt{2}} | \sqrt{2}-1
        \sqrt{2}+\sqrt{3} | \sqrt{5+2\sqrt{6}}
        \sqrt[3]{-8} | -2
        \sqrt{17} | 4.123105625617661
        \pi | 3.14159265
        \frac{2}{3}\pi | \frac{2\pi}{3}
        (1+i)^2 | 2i
        \sqrt{-4} | 2i
        -1 | e^{I\pi}
        \log_2 8 | 3
        e^{2\ln 3} | 9
        \ln x^2 | 2\ln x
        arcsin (1/x) | arccsc x
        \tan^{-1}(1) | \frac{\pi}{4}
        \int_0^1 x dx | \frac12
    """,
}

DIFFERENT = {
    "numbers": r"""
        1/3 | 0.3333
        1/3 | 0.333333
        12345678901234567890 | 12345678901234567891
        9007199254740992 | 9007199254740993.0
        0 | 0.0000001
        0 | 10^{-100}
        \frac{1}{10^{50}} | \frac{1}{10^{50}+1}
        2^{1000} | 2^{1000}+1
        1e400 | 1e401
        1.1234567891234 * 10^{200} | 1.1234567891235 * 10^{200}
        0.\overline{3} | 0.3
        0.1\overline{6} | 0.\overline{16}
        1\frac12 | 11/2
        3:4 | 4:3
        -5 | 5
        7 | 7!
        \frac{1}{0} | \frac{2}{0}
        1/2/3 | 1/(2/3)
        2^3^2 | 64
    """,
    "separators": r"""
        1.234 | 1234
        1,234 | 1.234
        32349 | 32, 349
        12 | 1 2
        12 | 1,2
        42 | 40 2
        42 | 40\quad 2
    """,
    "irrationals": r"""
        \sqrt{17} | 4.1231
        \sqrt{17} | 4.123107
        \pi | 3.14
        \pi | 22/7
        \frac{\pi}{10^8} | 0.0
        \sqrt{10^{40}+1} | \sqrt{10^{40}+2}
        10^{-30}\pi | 2 \cdot 10^{-30}\pi
        \sqrt[3]{2} | \sqrt{2}
        2^{\sqrt 2} | 2^{1.414}
    """,
    "percent and units": r"""
        28/100 | 28
        28\% | 0.28\%
        5\% | 5\text{ cm}
        5\text{ cm} | 5\text{ m}
        5\text{ cm} | 5\text{ kg}
        12\text{ cm}^2 | 12\text{ cm}
        60 mph | 60 km/h
        2 \text{ hours} | 2 \text{ minutes}
        3,000,000 | 3\text{ thousand}
        3t | 3
        3 | 3\mathrm{i}
        $5 | €5
        £5 | \$5
        \$5 \text{ million} | 5 dollars
        90^\circ | \pi
        3 | 3 more
    """,
    "bases, times, dates": r"""
        204_5 | 204_6
        204 | 204_5
        54 | 204_5
        12 | 12 base 5
        3:00 pm | 3:00 am
        12:30 pm | 12:30 am
        \text{May 5} | May 6
        \text{May 5} | June 5
    """,
    "choices and words": r"""
        A | B
        A | A or B
        A | AB
        \text{(A)} | (B)
        \text{east} | seat
        \text{listen} | silent
        odd | ddo
        ABC | BCA
        5 | 5...
        42 | 42:1
        \text{even} | odd
        \text{even} | even or odd
        \text{Evelyn} | Evelyn and Bob
        42 | not 42
        42 | \text{not } 42
        10 | \text{at least } 10
        nan | 5
        5 | nan
    """,
    "names and chains": r"""
        42 | 41 = 42
        42 | 2x = 42
        11 | x = 5+5+1 = 7 = 11
        x=2 | y=2
        x=1, y=2 | 2
        2 | x=1, y=2
        x=3,y=4 | x=4,y=3
        x | y=x
        f(x)=x^2 | g(x)=x^2
        f(x)=x^2 | f(x)=x^3
        1 | R/r
    """,
    "lists, tuples, sets": r"""
        42 | 42 or 41
        3 | 1,2,3,4
        5 | 5, 5
        5 | \pm 5
        1,1,2 | 1,2
        1,2,10 | 1,2,\ldots,10
        1\pm\sqrt{2} | 1+\sqrt{2}
        (1,2) | (2,1)
        (1,2) | [1,2]
        (1,2) | \{1,2\}
        (1,2,3) | (3,2,1)
        p=5,q=2;p=7,q=3 | p=5,q=3;p=7,q=2
        \emptyset | 0
    """,
    "matrices": r"""
        \begin{pmatrix}1&2\\3&4\end{pmatrix} | \begin{pmatrix}1&3\\2&4\end{pmatrix}
        \begin{pmatrix}1\\2\end{pmatrix} | \begin{pmatrix}1&2\end{pmatrix}
        \begin{vmatrix}1&2\\3&4\end{vmatrix} | \begin{pmatrix}1&2\\3&4\end{pmatrix}
    """,
    "intervals and inequalities": r"""
        [0,1) | (0,1)
        (0,1)\cup(2,3) | (0,3)
        (-\infty,3) | (-\infty,3]
        \mathbb{R} | (0,\infty)
        \infty | -\infty
        5 | \infty
        x<1 \text{ or } x>3 | x<1 \text{ and } x>3
        x>3 | x \ge 3
        x>3 | y>3
        x>3 | x<3
        x>3 | 3
        3 | x>3
        x \neq 3 | x=3
        -2x<4 | x<-2
        |x|\le 4 | (-4,4)
        x^2 < 4 | x < 2
        10 | <10
    """,
    "equations": r"""
        y=2x+1 | y=2x+2
        y=2x+1 | z=2x+1
        y=2x+1 | 2x+y+1=0
        x^2+1=0 | x^2+2=0
        x^2=4 | x=2
        a^2+b=0 | 0
    """,
    "algebra": r"""
        X | x
        R/r | r/R
        x_1 | x_2
        a+b | ab
        f'(x) | f(x)
        f(2x) | 2f(x)
        (6x+1)(x-1) | (6x+1)(x+1)
        ( 2)^(n-1) | ( 2)^n
        \sqrt{x^2} | x
        \sin(\pi x) | 0
        \log_2 8 | \log_8 2
        e^x | e^{2x}
        AB | AC
        \overrightarrow{AB} | \overrightarrow{BA}
        \lim_{x\to 0}\frac{\sin x}{x} | 0
    """,
}


def rows(table: dict[str, str]) -> list:
    pairs = []
    for kind, block in table.items():
        for line in block.strip().splitlines():
            gold, prediction = line.strip().split(" | ")
            pairs.append(pytest.param(gold, prediction, id=f"{kind}: {gold} ~ {prediction}"))
    assert len(pairs) > 100
    return pairs


def verdict(gold: str, prediction: str) -> Verdict:
    return exact_verdict(gold, prediction) or symbolic_verdict(gold, prediction)


@pytest.mark.parametrize(("gold", "prediction"), rows(EQUAL))
def test_equal_answers_are_correct_either_way_round(gold: str, prediction: str):
    assert verdict(gold, prediction) == Verdict.CORRECT
    if "_5" not in gold:  # the base may be left out in the prediction only
        assert verdict(prediction, gold) == Verdict.CORRECT


@pytest.mark.parametrize(("gold", "prediction"), rows(DIFFERENT))
def test_different_answers_are_not_correct_either_way_round(gold: str, prediction: str):
    assert verdict(gold, prediction) in (Verdict.WRONG, Verdict.UNPARSEABLE)
    if "_5" not in prediction:
        assert verdict(prediction, gold) in (Verdict.WRONG, Verdict.UNPARSEABLE)


@pytest.mark.parametrize("prediction", ["", " $ ", "5" * 2001, r"\frac{1", "???", ")("])
def test_what_is_no_mathematics_is_unparseable(prediction: str):
    assert verdict("5", prediction) == Verdict.UNPARSEABLE


@pytest.mark.parametrize("prediction", ["5\0", "\u202e5", "5\u200b6", "\uff15\uff16", "5⁶", "5\u2066"])
def test_invisible_and_foreign_characters_make_nothing_right(prediction: str):
    assert verdict("5", prediction) in (Verdict.WRONG, Verdict.UNPARSEABLE)


@pytest.mark.parametrize(
    ("conventions", "gold", "prediction", "correct"),
    [
        (Conventions(), "3, 5", "5, 3", True),
        (Conventions(ordered_lists=True), "3, 5", "5, 3", False),
        (Conventions(ordered_lists=True), "3, 5", "3, 5.0", True),
        (Conventions(ordered_lists=True), "3, 5", r"\{5, 3\}", True),
        (Conventions(units="required"), "5 cm", "5", False),
        (Conventions(units="required"), "5 cm", "50 mm", True),
        (Conventions(units="required"), "5", "5 cm", True),
        (Conventions(units="required"), r"10\%", "0.1", True),
        (Conventions(units="ignored"), "5 cm", "5 kg", True),
        (Conventions(units="ignored"), r"\$5", "€5", True),
        (Conventions(units="ignored"), "5 cm", "50 mm", False),
    ],
)
def test_options_choose_the_stricter_or_laxer_reading(conventions, gold: str, prediction: str, correct: bool):
    found = exact_verdict(gold, prediction, conventions) or symbolic_verdict(gold, prediction, conventions)
    assert (found == Verdict.CORRECT) is correct


def test_an_unknown_option_is_refused():
    with pytest.raises(ValueError, match="units"):
        Conventions(units="metric")


@pytest.mark.parametrize(
    ("gold", "reason"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("$.$", "neither a letter nor a digit"),
        (r"\frac{1}{2", "does not close"),
        ("(1, 2", "does not close"),
        ("[1, 2", "does not close"),
        ("x" * 2001, "longer than"),
    ],
)
def test_a_gold_that_cannot_be_read_has_a_reason(gold: str, reason: str):
    assert reason in unreadable(gold)


@pytest.mark.parametrize(
    "gold", ["5", "A", r"\emptyset", "[0, 1)", "]0, 1[", r"(-\infty, 3)\cup[5, 7)", "|x| < 3", r"\$1,000", "Evelyn"]
)
def test_a_gold_that_can_be_read_has_none(gold: str):
    assert unreadable(gold) is None


HOSTILE = [
    *(
        "(",
        "[",
        "{",
        r"\{",
        "$",
        r"\frac{1}{",
        r"\text{",
        r"\text{a}",
        r"\sqrt{",
        r"\boxed{",
        "_{",
        "9^{",
        "|",
        "]1,2[",
    ),
    *(
        "9",
        ",999",
        "1e",
        "0.",
        "1/",
        "3:",
        "12:30 ",
        "May ",
        "5 cm",
        r"\%",
        r"\$1",
        "\u00bd",
        "\u221a",
        "\u0661",
        "\0",
        " ",
    ),
    *("^2", "!", "-", r"\pm 1", "x=", "1<", r"\cup[1,2]", "&", r"\\", " or ", "(1,2),", "A)", "(x+1)", "(x+y+z)^{9}"),
    r"\sum_{k=1}^{9}",
]


@pytest.mark.parametrize("piece", HOSTILE)
@pytest.mark.parametrize("length", [2_000, 100_000])
def test_the_exact_path_is_quick_on_hostile_text(piece: str, length: int):
    text = piece * (length // len(piece))
    start = time.process_time()
    for gold in ("5", "x^2+1", "(1,2)", "x>3"):
        exact_verdict(gold, text)
        exact_verdict(text, gold)
    unreadable(text)
    assert time.process_time() - start < 1.0
