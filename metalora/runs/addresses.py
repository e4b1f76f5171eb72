"""The network address that a request comes from, by which an app counts what a person with many visitor ids uses.

Of an address the disk has only a hash under a secret of the workspace. Addresses of IPv6 count by their first 64 bits,
since one customer has all of these.
"""

import contextlib
import hashlib
import ipaddress
import os
import secrets
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path

from metalora.util.checks import whole_from_environment
from metalora.util.errors import InputError

PROXIES = "METALORA_PROXIES"
MAX_LETTERS = 64
SECRET = ".secret"  # nosec B105 # the name of a file

_current: ContextVar[str] = ContextVar("address", default="")


def current_address() -> str:
    """Return the address that the event of this thread came from; "" outside of events."""
    return _current.get()


@contextlib.contextmanager
def coming_from(address: str) -> Iterator[None]:
    """Take what is done meanwhile, in this thread and those that it starts with its context, as from an address."""
    token = _current.set(address)
    try:
        yield
    finally:
        _current.reset(token)


def proxies() -> int:
    """Return how many proxies stand before the app: METALORA_PROXIES, else one on a Space and none elsewhere.

    Raises:
        InputError: the variable is no whole number.
    """
    return whole_from_environment(PROXIES, 1 if "SPACE_ID" in os.environ else 0)


def address_of(host: str | None, headers: Mapping[str, str]) -> str:
    """Return the address of a request.

    A header X-Forwarded-For is believed as far as proxies of the server have written it: what is further left, a
    stranger may have sent.

    Args:
        host: what the connection comes from.
        headers: with names in small letters.
    """
    hops, count = [hop.strip() for hop in headers.get("x-forwarded-for", "").split(",")], proxies()
    found = hops[-count] if 0 < count <= len(hops) and hops[-count] else host or ""
    try:
        address = ipaddress.ip_address(found)
    except ValueError:
        return found[:MAX_LETTERS]
    if address.version == 6 and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(getattr(address, "ipv4_mapped", None) or address)


class Marks:
    """Hashes of addresses under a secret, which is made where there is none.

    Args:
        folder: where the secret lies.

    Raises:
        InputError: the disk refuses.
    """

    def __init__(self, folder: Path):
        file = folder / SECRET
        try:
            if not file.exists():
                file.touch(mode=0o600)
                file.write_text(secrets.token_hex(16), encoding="utf-8")
            self._secret = file.read_text(encoding="utf-8")
        except OSError as error:
            raise InputError(
                f"Cannot write in {folder}: {error}; name another folder in METALORA_WORKSPACE."
            ) from error

    def mark(self, address: str) -> str:
        """Return the hash of an address; "" for none."""
        return hashlib.sha256(f"{self._secret} {address}".encode()).hexdigest()[:32] if address else ""
