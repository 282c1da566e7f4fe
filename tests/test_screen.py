"""What a run says, on a terminal and elsewhere."""

from __future__ import annotations

import io
import re

from rich.console import Console

from advss_tf.screen import Screen


def make(log=None, *, terminal):
    page = io.StringIO()
    return Screen(log, console=Console(file=page, force_terminal=terminal, width=100, soft_wrap=True)), page


def test_lines_go_to_the_screen_and_with_their_time_to_the_log(tmp_path):
    screen, page = make(tmp_path / "run" / "run.log", terminal=False)
    screen.say("pretrain 1/15: loss 1.386 [bold]")
    assert page.getvalue() == "pretrain 1/15: loss 1.386 [bold]\n"
    line = (tmp_path / "run" / "run.log").read_text()
    assert line.endswith(" pretrain 1/15: loss 1.386 [bold]\n") and line[:2] == "20"


def test_there_is_no_bar_where_there_is_no_terminal():
    screen, page = make(terminal=False)
    with screen.bar("pretrain", total=10) as advance:
        assert advance is None
    assert page.getvalue() == ""


def test_a_bar_shows_step_loss_and_time_left():
    screen, page = make(terminal=True)
    with screen.bar("pretrain", total=10) as advance:
        advance(3, {"loss": 1.25}, 73.2)
        advance(4, {"loss": 1.2}, 60.0)
    assert "3/10" in page.getvalue() or "4/10" in page.getvalue()


def test_a_table_has_all_its_cells():
    screen, page = make(terminal=False)
    screen.table("Accuracy", ["model", "clean"], [["digits", "88.6 %"]])
    for text in ("Accuracy", "model", "clean", "digits", "88.6 %"):
        assert text in page.getvalue()


def test_a_table_in_a_file_breaks_no_cell_and_one_on_a_terminal_keeps_to_its_width():
    columns = ["cell", *(f"accuracy {number}" for number in range(9))]
    cells = ["advcl-without-high-frequency SLF", *(f"9{number}.5 ± 10.25 %" for number in range(9))]
    for terminal in (False, True):
        screen, page = make(terminal=terminal)
        screen.table("Accuracy", columns, [cells])
        lines = re.sub(r"\x1b\[[\d;]*m", "", page.getvalue()).splitlines()
        whole = [line for line in lines if all(cell in line for cell in cells)]
        assert (len(whole), max(map(len, lines)) > 160) == ((0, False) if terminal else (1, True))


def test_a_quiet_screen_writes_its_lines_into_the_log_alone(tmp_path):
    page = io.StringIO()
    screen = Screen(tmp_path / "run.log", console=Console(file=page), quiet=True)
    screen.say("pretrain 1/15: loss 1.386")
    assert page.getvalue() == ""
    assert (tmp_path / "run.log").read_text().endswith(" pretrain 1/15: loss 1.386\n")


def test_who_is_told_the_lines_is_told_those_of_a_quiet_screen_as_well(tmp_path):
    told, page = [], io.StringIO()
    screen = Screen(tmp_path / "run.log", console=Console(file=page), quiet=True, tell=told.append)
    screen.say("pretrain 1/15: loss 1.386")
    assert told == ["pretrain 1/15: loss 1.386"] and page.getvalue() == ""
