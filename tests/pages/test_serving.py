"""The server behind a page: answers are those of `Answers`; what is wrong costs one request alone."""

import socket
import threading
from http.client import HTTPConnection

import pytest

from heaplab.errors import HeapCorruption, Rule, UsageError
from heaplab.lab.moments import Moments
from heaplab.pages.answers import Answers
from heaplab.pages.serving import Server
from heaplab.traces import Event, Op, Trace
from heaplab.views.run import view_of


@pytest.fixture(scope="module")
def served():
    trace = Trace.of([Event(Op.MALLOC, slot, 100) for slot in range(20)], "twenty")
    with Moments(trace, "buddy") as moments:
        answers = Answers(view_of([moments]), [moments])
        with Server("<p>page</p>", "export {};", b"HLV1", answers) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            yield server, answers
            server.shutdown()
            thread.join()


def get(server, path, host=None, connection=None):
    talk = connection or HTTPConnection("127.0.0.1", server.port, timeout=20)
    talk.request("GET", path, headers={} if host is None else {"Host": host})
    answer = talk.getresponse()
    body = answer.read()
    if connection is None:
        talk.close()
    return answer.status, answer.getheader("Content-Type"), body


def test_page_module_and_container_are_there(served):
    server, _ = served
    assert get(server, "/") == (200, "text/html; charset=utf-8", b"<p>page</p>")
    assert get(server, "/?x") == (200, "text/html; charset=utf-8", b"<p>page</p>")
    assert get(server, "/module") == (200, "text/javascript; charset=utf-8", b"export {};")
    assert get(server, "/container") == (200, "application/octet-stream", b"HLV1")


@pytest.mark.parametrize(
    ("path", "kind", "question"),
    [
        ("/window?run=0&process=0&from=0&to=20&low=0&high=99999&width=9&height=9&colour=age", "window",
         {"run": 0, "from": 0, "to": 20, "low": 0, "high": 99999}),
        ("/moment?run=0&moment=7", "moment", {"run": 0, "moment": 7}),
    ],
)  # fmt: skip
def test_answers_are_those_of_python(served, path, kind, question):
    server, answers = served
    assert get(server, path) == (200, "application/octet-stream", getattr(answers, kind)(**question))


@pytest.mark.parametrize(
    ("path", "status", "why"),
    [
        ("/moment", 400, b"moment is missing"),
        ("/moment?run=0&moment=21", 400, b"moment=21: it is to be from 0 to 20"),
        ("/moment?run=0&moment=1&moment=2", 400, b"twice"),
        ("/moment?run", 400, b"bad query field"),
        ("/window?from=0&to=x", 400, b"to=x: no whole number"),
        ("/block?moment=3&start=1", 400, b"no span of the heap"),
        ("/favicon.ico", 404, b"there is no such page"),
        ("/../../etc/passwd", 404, b"there is no such page"),
    ],
)
def test_a_wrong_question_is_answered_by_a_sentence(served, path, status, why):
    found, kind, body = get(served[0], path)
    assert (found, kind) == (status, "text/plain; charset=utf-8")
    assert why in body
    assert body.count(b"\n") == 1


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "evil.example:80", ""])
def test_who_calls_it_by_another_name_gets_nothing(served, host):
    status, _, body = get(served[0], "/container", host)
    assert status == 403
    assert b"HLV1" not in body


def test_it_may_be_called_localhost(served):
    assert get(served[0], "/", f"localhost:{served[0].port}")[0] == 200


def test_a_heap_that_cannot_be_read_costs_one_answer(served, monkeypatch):
    server, _ = served

    def broken(**question):
        raise HeapCorruption(0x1234, Rule.BROKEN_HEADER)

    monkeypatch.setitem(server.answers, "/block", broken)
    status, _, body = get(server, "/block?run=0")
    assert (status, b"0x1234" in body) == (500, True)
    assert get(server, "/moment?run=0&moment=3")[0] == 200


def test_a_client_that_goes_away_costs_only_itself(served, capfd):
    server, _ = served
    for text in (
        b"GET /moment?run=0&moment=5 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % server.port,
        b"nonsense",
    ):
        with socket.create_connection(("127.0.0.1", server.port)) as rude:
            rude.sendall(text)
    assert get(server, "/moment?run=0&moment=3")[0] == 200
    assert "Traceback" not in capfd.readouterr().err


def test_one_connection_asks_again_and_again_and_others_meanwhile(served):
    server, answers = served
    wanted = [answers.moment(run=0, moment=done) for done in range(20)]
    found = [[], []]

    def client(mine):
        talk = HTTPConnection("127.0.0.1", server.port, timeout=20)
        for done in range(20):
            mine.append(get(server, f"/moment?run=0&moment={done}", connection=talk)[2])
        talk.close()

    clients = [threading.Thread(target=client, args=(mine,)) for mine in found]
    for each in clients:
        each.start()
    for each in clients:
        each.join()
    assert found == [wanted, wanted]


def test_it_listens_on_this_computer_alone(served):
    assert served[0].server_address[0] == "127.0.0.1"


def test_a_port_that_is_taken_is_said(served):
    with pytest.raises(UsageError, match=f"--port {served[0].port}: Address already in use"):
        Server("", "", b"", served[1], served[0].port)
