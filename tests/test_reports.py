"""The reports a person looks at say what happened."""

import io
import re

import pytest
from rich.console import Console

from xpent.conformance import html, terminal
from xpent.conformance.judge import Outcome
from xpent.conformance.report import Report


def outcome(status="pass", implementation="mine", case="rows", **rest):
    rest = {"errors": {"value": 2.5} if status == "pass" else {}, **rest}
    return Outcome(implementation, rest.pop("dtype", "float32"), case, "ordinary", "Because.", status, **rest)


def printed(*outcomes, **rest):
    console = Console(width=120, record=True, file=io.StringIO())
    terminal.print_report(Report(list(outcomes), **rest), console)
    return console.export_text()


def text_of(page):
    return re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", page))


FAILURE = outcome("fails", message="value is 1 <2> & 3", errors={"value": 5e6}, share=3.0, reproduction="print(x < 1)")


def test_passing_cell_shows_the_largest_error():
    answer = printed(outcome(), outcome(case="more", errors={"value": 3.25, "gradient": 7.5}))
    assert re.search(r"ordinary +7\.5 u", answer)
    assert "All 2 checks hold." in answer


def test_failing_cell_says_how_many_fail_and_the_failure_is_told_with_its_reproduction():
    answer = printed(FAILURE, outcome(case="more"))
    assert re.search(r"ordinary +1 of 2 fail", answer)
    assert "mine fails rows[float32]" in answer
    assert "value is 1 <2> & 3" in answer
    assert "    print(x < 1)" in answer
    assert "1 of 2 checks fail." in answer


def test_unsupported_is_no_check_and_its_reason_is_counted():
    answer = printed(outcome(), outcome("unsupported", case="a", message="takes no axis"))
    assert "All 1 checks hold." in answer
    assert "takes no axis (1)" in answer
    assert "Nothing was asked." in printed(outcome("unsupported", message="takes no axis"))


def test_expected_failure_holds_and_one_that_passes_is_told():
    came = outcome("fails", message="bad", expected="known")
    assert re.search(r"ordinary +1 of 1 expected", printed(came))
    assert "All 1 checks hold." in printed(came)
    missed = printed(outcome(expected="known"))
    assert "was expected to fail and does not: known" in missed
    assert "1 of 1 checks fail." in missed


def test_many_failures_are_listed_by_implementation_and_the_first_is_told():
    many = [outcome("error", name, f"case-{i}", message="Oops") for name in ("mine", "yours") for i in range(4)]
    answer = printed(*many)
    assert "mine fails 4 cases:\ncase-0, case-1, case-2, case-3" in answer
    assert "yours fails 4 cases:" in answer
    assert "--case case-0 shows one alone" in answer
    assert answer.count("Oops") == 1


@pytest.mark.parametrize("count", [1, 12])
def test_every_implementation_has_a_column(count):
    names = [f"number {i}" for i in range(count)]
    answer = printed(*(outcome(implementation=name) for name in names), versions={"number 0": "numpy 9.8.7"})
    for name in names:
        assert name in answer
    assert "numpy 9.8.7" in answer


def test_what_was_skipped_and_what_training_came_to_is_told():
    training = Outcome("mine", "float64", "digits", "training", "Because.", "pass", "final loss 0.25 nats")
    answer = printed(training, skipped={"other": "it is not installed"})
    assert "skipped other: it is not installed" in answer
    assert "mine: final loss 0.25 nats" in answer


def test_page_tells_the_same_and_escapes_what_it_is_given():
    page = html.to_html(Report([FAILURE, outcome(case="more"), outcome("unsupported", case="c", message="no <b>")]))
    text = text_of(page)
    assert "1 of 2 checks fail." in text
    assert "✗ 1 of 2" in text
    assert "5.0e+06 u" in text
    assert "300 % of what is allowed" in text
    assert "value is 1 &lt;2&gt; &amp; 3" in page
    assert "<pre>print(x &lt; 1)</pre>" in page
    assert "no &lt;b&gt;" in page


def test_page_says_that_all_holds_where_failures_were_expected():
    page = html.to_html(Report([outcome("fails", message="bad", expected="known fault")]))
    assert "All 1 checks hold." in page
    assert 'class="expected"' in page
    assert "Expected to fail: known fault" in page
    assert "Expected to fail, and does not: known fault" in html.to_html(Report([outcome(expected="known fault")]))


def test_page_shows_where_nan_or_infinity_is_not_where_it_belongs():
    assert "NaN or inf" in html.to_html(Report([outcome("fails", errors={"value": float("inf")}, share=float("inf"))]))


def test_page_needs_nothing_from_elsewhere():
    page = html.to_html(Report([FAILURE]))
    assert "://" not in page
    assert "<script" not in page
    assert "src=" not in page


def test_each_cell_opens_its_own_cases():
    page = html.to_html(Report([outcome(), outcome(implementation="yours", case="theirs")]))
    opened = re.findall(r'popovertarget="([^"]+)">', page)
    assert len(opened) == len(set(opened)) == 2
    for name in opened:
        assert page.count(f'popover id="{name}"') == 1
