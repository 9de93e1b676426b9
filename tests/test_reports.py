"""What a terminal and a page say of outcomes."""

import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import chain

import pytest
from rich.console import Console

from xpent.conformance.html import to_html
from xpent.conformance.judge import ERROR, FAILS, PASS, UNSUPPORTED, Outcome
from xpent.conformance.report import Report
from xpent.conformance.terminal import print_report, progress

RIGHT = Outcome("mine", "float32", "rows", "ordinary", "The plain case.", PASS, errors={"value": 1.5}, share=0.12)
WRONG = replace(
    RIGHT, case="margin-20", status=FAILS, message="value is 0 instead of 2e-09", errors={"value": 1.7e7}, share=3.4e6,
    reproduction="import mine\nprint(mine.loss())",
)  # fmt: skip
RAISES = replace(RIGHT, case="one-row", status=ERROR, message="IndexError: too many", errors={}, reproduction="boom()")
FAR = replace(WRONG, case="offset", errors={"value": float("inf")}, share=float("inf"))
LACKING = replace(RIGHT, case="weights", category="weights", status=UNSUPPORTED, message="takes no weight", errors={})
FLUSHES = replace(WRONG, case="margin-40", expected="flushes to zero")
MENDED = replace(RIGHT, case="margin-8", expected="was broken once")
NO_ERROR = replace(RIGHT, case="refusal", errors={})


def terminal(*outcomes, width=100, **rest):
    stream = io.StringIO()
    print_report(Report(list(outcomes), **rest), Console(file=stream, width=width))
    return stream.getvalue()


def row(text, category):
    """What the matrix, or the matrices, say of a category."""
    return [re.split(r"  +", line.strip())[1:] for line in text.splitlines() if line.startswith(f" {category}  ")]


class Page(HTMLParser):
    """Words of a page by the classes they stand in, and the attributes of its elements."""

    EMPTY = ("meta", "br", "link", "img")

    def __init__(self, *outcomes, **rest):
        super().__init__()
        self.open, self.elements, self.words = [], [], []
        self.feed(to_html(Report(list(outcomes), **rest)))
        assert not self.open, "an element is not closed"

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        if tag not in self.EMPTY:
            self.open.append((tag, attributes))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if data.strip():
            self.words.append((tuple(self.open), " ".join(data.split())))

    def within(self, tag, **wanted):
        """The words inside every such element."""
        wanted = {name.strip("_"): value for name, value in wanted.items()}
        return " ".join(
            words
            for path, words in self.words
            if any(name == tag and wanted.items() <= attributes.items() for name, attributes in path)
        )


@pytest.mark.parametrize(
    ("outcomes", "words", "kind", "sign"),
    [
        ((RIGHT, NO_ERROR), "1.5 u", "pass", "✓"),
        ((NO_ERROR,), "ok", "pass", "✓"),
        ((RIGHT, WRONG), "1 of 2 fail, 1.7e+07 u", "fails", "✗"),
        ((RIGHT, FAR), "1 of 2 fail, NaN or inf", "fails", "✗"),
        ((RIGHT, RAISES), "1 of 2 fail", "error", "!"),
        ((RIGHT, FLUSHES), "1 of 2 expected, 1.7e+07 u", "expected", "~"),
        ((RIGHT, MENDED), "1 of 2 should fail", "fails", "✗"),
        ((FLUSHES, MENDED, WRONG), "1 of 3 fail, 1.7e+07 u", "fails", "✗"),
        ((RIGHT, replace(RIGHT, dtype="bfloat16", status=UNSUPPORTED, errors={})), "1.5 u", "pass", "✓"),
        ((replace(LACKING, category="ordinary"),), "-", "unsupported", "-"),
    ],
)
def test_cell_says_how_many_fail_or_how_far_off_they_are(outcomes, words, kind, sign):
    assert row(terminal(*outcomes), "ordinary") == [[words]]
    page = Page(*outcomes)
    assert page.within("td", class_=kind) == page.within("td")
    said = "" if kind == "unsupported" else " " + words.replace(", ", " ")
    assert page.within("td") == sign + said


@pytest.mark.parametrize(
    ("outcomes", "sentence"),
    [
        ((RIGHT, NO_ERROR, LACKING), "All 2 checks hold."),
        ((RIGHT, WRONG, RAISES, LACKING), "2 of 3 checks fail."),
        ((RIGHT, FLUSHES), "1 of 2 checks hold, 1 fail as expected."),
        ((RIGHT, MENDED), "1 of 2 should fail and do not."),
        ((WRONG, FLUSHES, MENDED), "1 of 3 checks fail, 1 of 3 should fail and do not, 1 fail as expected."),
        ((LACKING,), "Nothing was asked."),
        ((), "Nothing was asked."),
    ],
)
def test_verdict_counts_what_was_asked(outcomes, sentence):
    assert terminal(*outcomes).splitlines()[-2] == sentence
    assert sentence in Page(*outcomes).within("p")


def test_both_say_what_u_is():
    assert "u: half the machine epsilon of the dtype" in terminal(RIGHT)
    assert "u, half the machine epsilon of the dtype" in Page(RIGHT).within("p")


def test_few_failures_are_told_in_full():
    text = terminal(RIGHT, WRONG, FLUSHES)
    assert "mine: margin-20[float32] fails\nvalue is 0 instead of 2e-09\nThe plain case.\n" in text
    assert "    import mine\n    print(mine.loss())\n" in text
    assert "margin-40" not in text
    assert "--html" not in text


def test_expected_failure_that_did_not_come_is_told():
    assert "was expected to fail, and does not: was broken once" in terminal(MENDED)
    assert "Expected to fail, and does not: was broken once" in Page(MENDED).within("section")


def test_expected_failure_that_came_is_told_on_the_page():
    page = Page(FLUSHES)
    assert "Expected to fail: flushes to zero" in page.within("details", class_="expected")
    assert not page.within("details", class_="fails")


def test_many_failures_are_told_case_by_case_and_the_first_in_full():
    many = [replace(WRONG, case=f"case-{i}", message=f"value is {i}") for i in range(9)]
    text = terminal(MENDED, *many)
    assert all(re.search(rf"^  case-{i} +value is {i}$", text, re.MULTILINE) for i in range(9))
    assert "The first of 10; --html FILE shows every case, --case case-0 one alone:" in text
    assert text.count("import mine") == 1


def test_many_failures_of_several_are_told_by_their_names():
    many = [replace(WRONG, case=f"case-{i}") for i in range(9)]
    text = terminal(RIGHT, *(replace(outcome, implementation="other") for outcome in many))
    assert "other, 9 cases: case-0, case-1, case-2, case-3, case-4, case-5, case-6, case-7, case-8\n" in text
    assert "mine, " not in text


def test_no_line_of_a_reproduction_is_broken():
    line = "logits = np.asarray([" + "0.125, " * 40 + "])"
    assert f"    {line}\n" in terminal(replace(WRONG, reproduction=line), width=80)


@pytest.mark.parametrize("width", [80, 90, 120])
@pytest.mark.parametrize("count", [1, 2, 12])
def test_every_implementation_has_its_column_within_the_width(count, width):
    outcomes = [
        replace(outcome, implementation=f"implementation {i:02}", errors=errors)
        for i in range(count)
        for outcome, errors in ((RIGHT, {"value": float(i)}), (replace(WRONG, category="sure"), WRONG.errors))
    ]
    text = terminal(*outcomes, width=width)
    assert list(chain(*row(text, "ordinary"))) == [f"{i}.0 u" for i in range(count)]
    counts = list(chain(*row(text, "sure")))
    assert counts == [counts[0]] * count
    assert "…" not in text
    assert max(len(line) for line in text.splitlines()) <= width
    page = Page(*outcomes)
    assert [page.within("td").count(f"✓ {i}.0 u") for i in range(count)] == [1] * count
    assert page.within("thead").count("implementation") == count


def test_errors_stand_beside_counts_where_they_fit():
    both = (WRONG, replace(WRONG, implementation="other"))
    assert row(terminal(*both, width=80), "ordinary") == [["1 of 1 fail, 1.7e+07 u"] * 2]
    assert row(terminal(*both, width=40), "ordinary") == [["1 of 1 fail"] * 2]


def test_implementation_that_never_came_to_a_category_has_an_empty_cell():
    assert row(terminal(RIGHT, replace(LACKING, implementation="other")), "ordinary") == [["1.5 u", "-"]]


def test_what_was_not_asked_is_told_with_its_reason():
    partly = replace(RIGHT, left_out={"gradient": "no autodiff"})
    outcomes = (partly, LACKING, replace(LACKING, case="more weights"))
    reasons = "takes no weight (2); gradient: no autodiff (1)"
    assert f"Not asked of mine: {reasons}\n" in terminal(*outcomes)
    page = Page(*outcomes)
    assert reasons in page.within("dd")
    assert "weights, more weights" in page.within("section", id="c2-1")


def test_the_same_reasons_of_several_are_told_once():
    text = terminal(RIGHT, LACKING, *(replace(o, implementation="other") for o in (RIGHT, LACKING)))
    assert text.count("takes no weight (1)") == 1
    assert "Not asked of mine, other: " in text


def test_dtype_that_was_not_asked_is_named_beside_its_case():
    page = Page(RIGHT, replace(RIGHT, dtype="bfloat16", status=UNSUPPORTED, message="takes no bfloat16", errors={}))
    assert "takes no bfloat16 rows [bfloat16]" in page.within("section")


def test_skipped_versions_machine_and_date_are_told():
    rest = {"versions": {"mine": "mylib 1.2"}, "skipped": {"keras": "is not here"}, "machine": "a PDP", "date": "today"}
    for text in (terminal(RIGHT, **rest), Page(RIGHT, **rest).within("body")):
        assert all(word in text for word in ("mylib 1.2", "keras", "is not here", "a PDP", "today"))


def test_note_of_what_passes_is_told():
    assert "mine: rows: final loss 0.25" in terminal(replace(RIGHT, message="final loss 0.25"))
    assert "final loss 0.25" in Page(replace(RIGHT, message="final loss 0.25")).within("section")


def test_page_tells_errors_and_shares_of_each_quantity():
    page = Page(replace(RIGHT, errors={"value": 1.5, "gradient": 2.0}), WRONG, FAR)
    boxes = page.within("section")
    assert "✓ float32 value 1.5 u gradient 2.0 u 12 % of allowed" in boxes
    assert "✗ float32 value 1.7e+07 u 3.4e+06 x allowed" in boxes
    assert "✗ float32 value NaN or inf beyond all bounds" in boxes


def test_page_shows_what_is_wrong_first():
    words = Page(RIGHT, FLUSHES, WRONG).within("h3").split()
    assert words == ["margin-20", "margin-40", "rows"]


def test_page_has_reproductions_of_failures_alone():
    page = Page(RIGHT, WRONG, RAISES)
    assert page.within("pre") == "import mine print(mine.loss()) boom()"
    assert page.within("details", class_="error") == "! float32 IndexError: too many boom()"


def test_every_cell_opens_to_a_section_of_its_own():
    page = Page(RIGHT, LACKING, WRONG, replace(RIGHT, implementation="other"))
    sections = [attributes["id"] for tag, attributes in page.elements if tag == "section"]
    buttons = [attributes["popovertarget"] for tag, attributes in page.elements if tag == "button"]
    assert len(sections) == len(set(sections)) == 4
    assert sorted(buttons) == sorted(2 * sections)  # one opens, one closes


def test_what_others_wrote_is_text():
    nasty = "<script>alert('&amp;')</script> [bold] [/red] :smile:"
    outcome = replace(
        WRONG, implementation=nasty, case=nasty, category=nasty, why=nasty, message=nasty, reproduction=nasty,
        expected=nasty, left_out={nasty: nasty},
    )  # fmt: skip
    unexpected = replace(outcome, expected="")
    rest = {"versions": {nasty: nasty}, "skipped": {nasty: nasty}, "machine": nasty, "date": nasty}
    page = Page(outcome, unexpected, **rest)
    assert "script" not in {tag for tag, _ in page.elements}
    for tag in ("th", "h2", "h3", "p", "summary", "pre", "dt", "dd"):
        assert nasty in page.within(tag), tag
    assert terminal(outcome, unexpected, width=1000, **rest).count(nasty) >= 10


def test_page_needs_nothing_but_itself():
    text = to_html(Report([RIGHT, WRONG, RAISES, LACKING, FLUSHES, MENDED]))
    assert not re.search(r"https?:|//[a-z]|@import|url\(", text)
    assert not {"link", "script", "img", "iframe"} & {tag for tag, _ in Page(RIGHT, WRONG).elements}


def test_progress_shows_on_standard_error_and_vanishes():
    bars = progress()
    bars.add_task("xpent [numpy]", total=7, completed=3)
    assert bars.console.stderr
    assert bars.live.transient
    stream = io.StringIO()
    Console(file=stream, width=100).print(bars.get_renderable())
    assert re.fullmatch(r"xpent \[numpy\] +━+ +3/7 \d:\d\d:\d\d\n", stream.getvalue())
