"""Which network address a request counts for, and that the disk does not hold it."""

import pytest

from metalora.runs.addresses import PROXIES, SECRET, Marks, address_of, coming_from, current_address
from metalora.util.errors import InputError


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.delenv(PROXIES, raising=False)
    monkeypatch.delenv("SPACE_ID", raising=False)


def test_a_forwarded_address_is_believed_of_the_servers_own_proxies_only(monkeypatch):
    headers = {"x-forwarded-for": "6.6.6.6, 1.2.3.4, 10.0.0.1"}
    assert address_of("127.0.0.1", headers) == "127.0.0.1"
    monkeypatch.setenv("SPACE_ID", "me/space")
    assert address_of("10.0.0.2", headers) == "10.0.0.1"
    monkeypatch.setenv(PROXIES, "2")
    assert address_of("10.0.0.2", headers) == "1.2.3.4"
    monkeypatch.setenv(PROXIES, "9")
    assert address_of("10.0.0.2", headers) == "10.0.0.2"
    monkeypatch.setenv(PROXIES, "one")
    with pytest.raises(InputError, match="METALORA_PROXIES is 'one': set a whole number"):
        address_of("10.0.0.2", headers)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
        (None, ""),
        ("x" * 99, "x" * 64),
    ],
)
def test_one_customer_is_one_address(host, address):
    assert address_of(host, {}) == address


def test_a_mark_is_the_same_in_one_workspace_and_tells_no_address(tmp_path):
    marks, other = Marks(tmp_path), tmp_path / "other"
    other.mkdir()
    assert marks.mark("1.2.3.4") == Marks(tmp_path).mark("1.2.3.4") != Marks(other).mark("1.2.3.4")
    assert marks.mark("1.2.3.4") != marks.mark("1.2.3.5") and marks.mark("") == ""
    assert (tmp_path / SECRET).stat().st_mode & 0o077 == 0


def test_the_address_holds_inside_of_an_event_only():
    with coming_from("1.2.3.4"):
        assert current_address() == "1.2.3.4"
    assert current_address() == ""
