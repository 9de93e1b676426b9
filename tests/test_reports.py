"""Reports in the terminal and as HTML."""

import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from rich.console import Console

from xpent.conformance import checks
from xpent.conformance.html import to_html
from xpent.conformance.report import Report
from xpent.conformance.runner import ERROR, FAILS, PASS, UNSUPPORTED, Outcome
from xpent.conformance.terminal import ProgressLines, print_report

RIGHT = Outcome("mine", "float32", "rows", "ordinary", "The plain case.", PASS, errors={"value": 1.5}, share=0.12)
WRONG = replace(
    RIGHT, case="margin-20", status=FAILS, message="value is 0 instead of 2e-09", errors={"value": 1.7e7}, share=3.4e6,
    cause=checks.INACCURATE, reproduction="import mine\nprint(mine.loss())",
)  # fmt: skip
RAISES = replace(
    RIGHT,
    case="one-row",
    status=ERROR,
    message="IndexError: too many",
    cause=checks.ERROR,
    errors={},
    reproduction="boom()",
)  # fmt: skip
FAR = replace(WRONG, case="offset", cause=checks.NON_FINITE, errors={"value": float("inf")}, share=float("inf"))
LACKING = replace(
    RIGHT, case="weights", category="weights", status=UNSUPPORTED, message="has no parameter weight", errors={}
)
FLUSHES = replace(WRONG, case="margin-40", expected="flushes to zero")
FIXED = replace(RIGHT, case="margin-8", expected="was broken once")
NO_ERROR = replace(RIGHT, case="refusal", errors={})


def terminal(*outcomes, width=100, **rest):
    stream = io.StringIO()
    print_report(Report(list(outcomes), **rest), Console(file=stream, width=width))
    return stream.getvalue()


def row(text, category):
    """The cells of a category in the printed table."""
    return [re.split(r"  +", line.strip())[1:] for line in text.splitlines() if line.startswith(f" {category}  ")]


class Page(HTMLParser):
    """The text of an HTML page with the elements that contain it, and the attributes of all elements."""

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

    def within(self, tag, **attributes):
        """The text in all elements with this tag and these attributes."""
        attributes = {name.strip("_"): value for name, value in attributes.items()}
        return " ".join(
            words
            for path, words in self.words
            if any(name == tag and attributes.items() <= found.items() for name, found in path)
        )


@pytest.mark.parametrize(
    ("outcomes", "words", "kind", "sign"),
    [
        ((RIGHT, NO_ERROR), "ok", "pass", "✓"),
        ((NO_ERROR,), "ok", "pass", "✓"),
        ((RIGHT, WRONG), "1 of 2 fail", "fails", "✗"),
        ((RIGHT, FAR), "1 of 2 fail", "fails", "✗"),
        ((RIGHT, RAISES), "1 of 2 fail", "error", "!"),
        ((RIGHT, FLUSHES), "1 of 2 expected", "expected", "~"),
        ((RIGHT, FIXED), "1 of 2 should fail", "fails", "✗"),
        ((FLUSHES, FIXED, WRONG), "1 of 3 fail", "fails", "✗"),
        ((RIGHT, replace(RIGHT, dtype="bfloat16", status=UNSUPPORTED, errors={})), "ok", "pass", "✓"),
        ((replace(LACKING, category="ordinary"),), "-", "unsupported", "-"),
    ],
)
def test_cell_has_the_number_of_failures(outcomes, words, kind, sign):
    assert row(terminal(*outcomes), "ordinary") == [[words]]
    page = Page(*outcomes)
    assert kind in [attributes.get("class") for tag, attributes in page.elements if tag == "td"]
    said = "" if kind == "unsupported" else " " + words
    assert page.within("div", class_="matrix").endswith(f"ordinary {sign}{said}")


@pytest.mark.parametrize(
    ("outcomes", "sentence"),
    [
        ((RIGHT, NO_ERROR, LACKING), "All 2 checks pass."),
        ((RIGHT, WRONG, RAISES, LACKING), "2 of 3 checks fail."),
        ((RIGHT, FLUSHES), "1 of 2 checks pass, 1 fail as expected."),
        ((RIGHT, FIXED), "1 of 2 pass unexpectedly."),
        ((WRONG, FLUSHES, FIXED), "1 of 3 checks fail, 1 of 3 pass unexpectedly, 1 fail as expected."),
        ((LACKING,), "Nothing was checked."),
        ((), "Nothing was checked."),
    ],
)
def test_verdict_counts_the_checks_that_were_run(outcomes, sentence):
    assert terminal(*outcomes).splitlines()[-1] == sentence
    assert sentence in Page(*outcomes).within("h1")


def test_terminal_and_page_define_a_check():
    assert "A check compares one case in one dtype with exact values." in terminal(RIGHT)
    assert "A check compares one case in one dtype with exact values." in Page(RIGHT).within("p")


def test_few_failures_are_printed_in_full():
    text = terminal(RIGHT, WRONG, FLUSHES)
    assert "mine: margin-20[float32] fails\nvalue is 0 instead of 2e-09\nThe plain case.\n" in text
    assert "    import mine\n    print(mine.loss())\n" in text
    assert "margin-40" not in text
    assert "--html" not in text


def test_expected_failure_that_passes_is_reported():
    assert "was expected to fail, but passes: was broken once" in terminal(FIXED)
    assert "Expected to fail, but passes: was broken once" in Page(FIXED).within("section")


def test_expected_failure_is_reported_on_the_page():
    page = Page(FLUSHES)
    assert "Expected to fail: flushes to zero" in page.within("section")
    assert "Expected to fail: flushes to zero" in page.within("td", class_="expected")
    assert not page.within("td", class_="fails")


def test_many_failures_are_grouped_by_cause_worst_first():
    slightly = [replace(WRONG, case=f"case-{i}", share=10.0 + i, message=f"value is {i}") for i in range(3)]
    text = terminal(RAISES, *slightly, FIXED, FAR)
    groups = re.findall(r"^  (\S.*?) \((\d+)\): (.*)$", text, re.MULTILINE)
    assert groups == [
        (checks.NON_FINITE, "1", "offset"),
        (checks.INACCURATE, "3", "case-2, case-1, case-0"),
        (checks.ERROR, "1", "one-row"),
        ("expected to fail, but passes", "1", "margin-8"),
    ]
    assert "    case-2[float32]: value is 2\n" in text
    assert "value is 1" not in text
    assert "The worst of 6; --html FILE shows all, --case offset runs only this case:" in text
    assert text.count("import mine") == 1


def test_a_wrong_answer_is_worse_than_an_error():
    assert (
        checks.CAUSES.index(checks.NON_FINITE)
        < checks.CAUSES.index(checks.INACCURATE)
        < checks.CAUSES.index(checks.ERROR)
    )
    assert Report([RAISES, WRONG, FAR]).surprises == [FAR, WRONG, RAISES]


def test_many_failures_are_listed_for_each_implementation():
    many = [replace(WRONG, case=f"case-{i}") for i in range(9)]
    text = terminal(RIGHT, *(replace(outcome, implementation="other") for outcome in many))
    cases = ", ".join(f"case-{i}" for i in range(9))
    assert f"other, 9 of 9 fail, worst first:\n  {checks.INACCURATE} (9): {cases}\n" in text
    assert "mine, " not in text


def test_lines_of_a_reproduction_are_not_wrapped():
    line = "logits = np.asarray([" + "0.125, " * 40 + "])"
    assert f"    {line}\n" in terminal(replace(WRONG, reproduction=line), width=80)


@pytest.mark.parametrize("width", [80, 90, 120])
@pytest.mark.parametrize("count", [1, 2, 12])
def test_all_implementations_are_in_one_table_within_the_width(count, width):
    outcomes = [
        replace(outcome, implementation=f"implementation {i:02}", share=float(i), errors=outcome.errors)
        for i in range(count)
        for outcome in (RIGHT, replace(WRONG, category="confident"))
    ]
    text = terminal(*outcomes, width=width)
    table = text[: text.index("\nimplementation" if count > 1 else "\nimplementation 00:")]
    assert "…" not in table
    assert max(len(line) for line in table.splitlines()) <= width
    assert len(re.findall(r"^ ─+ *$", table, re.MULTILINE)) == 1
    if count < 12:
        assert row(text, "ordinary") == [["ok"] * count]
        assert row(text, "confident") == [["1 of 1 fail"] * count]
        assert row(text, "checks") == [["2"] * count]
    else:
        rows = [
            re.split(r"  +", line.strip())
            for line in table.splitlines()
            if " implementation 0" in line or " implementation 1" in line
        ]
        assert [words[1:3] + words[-1:] for words in rows] == [["2", "1 of 2 fail", "confident"]] * count
    assert Page(*outcomes).within("div", class_="matrix").count("implementation") == count


def test_implementation_without_checks_in_a_category_has_a_dash():
    assert row(terminal(RIGHT, replace(LACKING, implementation="other")), "ordinary") == [["ok", "-"]]


def test_unsupported_features_are_reported_with_the_reason():
    partly = replace(RIGHT, left_out={"gradient": "no autodiff"})
    outcomes = (partly, LACKING, replace(LACKING, case="more weights"))
    reasons = "has no parameter weight (2); gradient: no autodiff (1)"
    assert f"Not supported by mine: {reasons}\n" in terminal(*outcomes)
    page = Page(*outcomes)
    assert reasons in page.within("dd")
    assert "gradient: no autodiff" in page.within("section", id="c1-1")
    assert "more weights" in page.within("section", id="c2-1")


def test_reasons_shared_by_implementations_are_reported_once():
    text = terminal(RIGHT, LACKING, *(replace(o, implementation="other") for o in (RIGHT, LACKING)))
    assert text.count("has no parameter weight (1)") == 1
    assert "Not supported by mine, other: " in text


def test_omitted_checks_are_reported():
    rest = {"left_out": {"mine": "9 checks in other dtypes"}}
    assert "Omitted for mine: 9 checks in other dtypes\n" in terminal(RIGHT, **rest)
    assert "9 checks in other dtypes" in Page(RIGHT, **rest).within("dd")


def test_hints_come_last():
    stream = io.StringIO()
    print_report(Report([RIGHT]), Console(file=stream, width=100), hints=["ask for more"])
    assert stream.getvalue().endswith("\nThe only check passes.\nask for more\n")


def test_skipped_implementations_versions_machine_and_date_are_reported():
    rest = {"versions": {"mine": "mylib 1.2"}, "skipped": {"keras": "is not here"}, "machine": "a PDP", "date": "today"}
    for text in (terminal(RIGHT, **rest), Page(RIGHT, **rest).within("body")):
        assert all(word in text for word in ("mylib 1.2", "keras", "is not here", "a PDP", "today"))


def test_notes_of_passing_checks_are_reported():
    assert "mine: rows: final loss 0.25" in terminal(replace(RIGHT, message="final loss 0.25"))
    assert "final loss 0.25" in Page(replace(RIGHT, message="final loss 0.25")).within("section")


def test_page_has_the_errors_of_each_quantity():
    page = Page(replace(RIGHT, errors={"value": 1.5, "gradient": 2.0}), WRONG, FAR)
    boxes = page.within("section")
    assert "✓ value 1.5 u, gradient 2.0 u 12% of allowed" in boxes
    assert "✗ value 1.7e+07 u 3.4e+06 x allowed" in boxes
    assert "✗ value NaN or inf NaN or infinity" in boxes


def test_page_lists_failures_first():
    words = Page(RIGHT, FLUSHES, WRONG, FAR).within("code").split()
    assert words == ["offset", "margin-20", "margin-40", "rows"]


def test_page_has_reproductions_only_of_failures():
    page = Page(RIGHT, WRONG, RAISES)
    assert page.within("pre") == "import mine print(mine.loss()) boom()"
    assert page.within("td", class_="error").endswith("! IndexError: too many reproduce boom()")


def test_every_cell_links_to_its_section():
    page = Page(RIGHT, LACKING, WRONG, replace(RIGHT, implementation="other"))
    sections = [attributes["id"] for tag, attributes in page.elements if tag == "section"]
    assert sections == ["c1-1", "c1-2", "c2-1"]
    links = [attributes["href"] for tag, attributes in page.elements if tag == "a"]
    assert sorted(links) == sorted([f"#{section}" for section in sections] * 2)


def test_names_and_messages_are_escaped():
    nasty = "<script>alert('&amp;')</script> [bold] [/red] :smile:"
    outcome = replace(
        WRONG, implementation=nasty, case=nasty, category=nasty, why=nasty, message=nasty, reproduction=nasty,
        expected=nasty, left_out={nasty: nasty},
    )  # fmt: skip
    unexpected = replace(outcome, expected="")
    rest = {"versions": {nasty: nasty}, "skipped": {nasty: nasty}, "machine": nasty, "date": nasty}
    page = Page(outcome, unexpected, **rest)
    assert "script" not in {tag for tag, _ in page.elements}
    for tag in ("th", "td", "h3", "code", "p", "pre", "dt", "dd"):
        assert nasty in page.within(tag), tag
    assert terminal(outcome, unexpected, width=1000, **rest).count(nasty) >= 10


def test_page_is_self_contained():
    text = to_html(Report([RIGHT, WRONG, RAISES, LACKING, FLUSHES, FIXED]))
    assert not re.search(r"https?:|//[a-z]|@import|url\(", text)
    assert not {"link", "script", "img", "iframe"} & {tag for tag, _ in Page(RIGHT, WRONG).elements}


def test_progress_is_a_transient_bar_in_a_terminal():
    assert ProgressLines().console.stderr
    stream = io.StringIO()
    with ProgressLines(Console(file=stream, width=100, force_terminal=True)) as progress:
        progress.advance("xpent [numpy]", 3, 7)
        progress.bars.refresh()
    assert progress.bars.live.transient
    assert re.search(r"xpent \[numpy\] .*━+.* 3/7", re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", stream.getvalue()))


def test_progress_is_one_line_per_quarter_without_a_terminal():
    stream = io.StringIO()
    with ProgressLines(Console(file=stream, width=100)) as progress:
        for done in range(1, 101):
            progress.advance("xpent [numpy]", done, 100)
    assert stream.getvalue().splitlines() == [f"xpent [numpy]: {done} of 100" for done in (25, 50, 75, 100)]
