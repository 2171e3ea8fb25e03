"""The line of requests: one computes, a session has one request, and closed pages do not hold up others."""

import threading

import pytest

from dave_jax.app.turns import Turns


def test_a_new_request_of_a_session_ends_its_old_one():
    turns = Turns()
    first, second = turns.take("a"), turns.take("b")
    again = turns.take("a")
    assert [turns.ahead(turn) for turn in (first, second, again)] == [None, 0, 1]
    turns.leave("b")
    assert [turns.ahead(turn) for turn in (second, again)] == [None, 0]
    turns.drop(first)  # one that is over already drops nothing else
    assert turns.ahead(again) == 0
    turns.drop(again)
    assert turns.ahead(again) is None


def test_who_is_not_heard_of_is_forgotten_unless_it_works():
    now = [0.0]
    turns = Turns(patience=10.0, clock=lambda: now[0])
    first, second = turns.take("a"), turns.take("b")

    def long_step():
        now[0] = 11.0
        return turns.ahead(second)

    assert turns.work(first, long_step) == 1
    now[0] = 20.0
    assert turns.ahead(second) == 1
    now[0] = 22.0
    assert turns.ahead(second) == 0 and turns.ahead(first) is None


def test_the_line_has_an_end():
    turns = Turns(longest=2)
    turns.take("a"), turns.take("b")
    turns.take("b")
    with pytest.raises(ValueError, match="2 requests are waiting already"):
        turns.take("c")


def test_two_steps_never_run_at_once():
    turns, inside, most = Turns(), [], []

    def step():
        inside.append(1)
        most.append(len(inside))
        threading.Event().wait(0.01)
        inside.pop()

    threads = [threading.Thread(target=turns.work, args=(turns.take(str(i)), step)) for i in range(4)]
    assert not turns.working
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 4 and not turns.working


def test_an_error_frees_the_desk():
    turns = Turns()
    with pytest.raises(ZeroDivisionError):
        turns.work(turns.take("a"), lambda: 1 / 0)
    assert not turns.working
