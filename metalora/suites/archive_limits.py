"""What a zip archive from strangers may hold, checked before anything in it is decoded."""

import io
import stat
import zipfile
from dataclasses import dataclass
from pathlib import Path

from metalora.suites.archives import ARCHIVES, LINK, LONG, MAX_SHOWN, Listing, zip_member
from metalora.suites.names import is_too_long, zip_name
from metalora.util.errors import InputError


@dataclass(frozen=True)
class Limits:
    """What a zip archive from strangers may hold."""

    entries: int = 20_000  # files and folders of any kind
    directory: int = 10 * 2**20  # bytes of their list, before it is read
    member: int = 32 * 2**20  # bytes of one image, unpacked
    total: int = 2**30  # bytes of all images, unpacked
    ratio: int = 100  # unpacked to packed, where it unpacks to over RATIO_FROM


RATIO_FROM = 10 * 2**20  # bytes: small plain bitmaps shrink a lot and do no harm


def check_archive(source: Path, limits: Limits | None = None) -> list[str]:
    """Refuse a zip archive that is not fit to be read, from its directory alone; the names of its images.

    The sizes that it declares bound what is read later: a member never gives more, whatever it holds.

    Raises:
        InputError: it is no zip archive, is locked, holds no image, or goes beyond `limits`.
    """
    limits = limits or Limits()
    if _directory_bytes(source) > limits.directory:
        raise InputError(f"The archive has too many entries: send {limits.entries:,} at most.")
    try:
        with zipfile.ZipFile(source) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise InputError(
            "This is not a whole zip archive: pack the folder of images as zip and send it again."
        ) from error
    if len(entries) > limits.entries:
        raise InputError(f"The archive has {len(entries):,} entries: send {limits.entries:,} at most.")
    link = next((zip_name(info) for info in entries if stat.S_ISLNK(info.external_attr >> 16)), None)
    if link is not None:
        raise InputError(f"{link} cannot be used. {LINK}")
    long = next((name for name in map(zip_name, entries) if is_too_long(name)), None)
    if long is not None:
        raise InputError(f"{long[:MAX_SHOWN]}… cannot be used. {LONG}")
    listing = Listing()
    images = [info for info in entries if listing.count(zip_name(info), is_folder=info.is_dir())]
    if not images:
        inner = next((info.filename for info in entries if info.filename.lower().endswith(ARCHIVES)), None)
        advice = f"unpack {inner} and pack its folders" if inner else "pack class folders of PNG or JPEG files"
        raise InputError(" ".join([f"The archive holds no images: {advice}.", *listing.notes]))
    if any(info.flag_bits & 1 for info in images):
        raise InputError("The archive is locked with a password: pack it again without one.")
    largest = max(images, key=lambda info: info.file_size)
    if largest.file_size > limits.member:
        raise InputError(
            f"{largest.filename} has {_megabytes(largest.file_size)}: {_megabytes(limits.member)} is the most."
        )
    total = sum(info.file_size for info in images)
    if total > limits.total:
        raise InputError(f"The images have {_megabytes(total)} unpacked: send {_megabytes(limits.total)} at most.")
    if total > max(RATIO_FROM, limits.ratio * Path(source).stat().st_size):
        raise InputError(f"The archive unpacks to over {limits.ratio} times its size: pack PNG or JPEG files.")
    return [zip_name(info) for info in images]


def check_members(source: Path) -> None:
    """Refuse a zip archive with an image that cannot be read as it is declared, after reading every one.

    Args:
        source: what `check_archive` let pass, which bounds the time.

    Raises:
        InputError: an image leads out of the archive, is a link, is packed by an unusual method, or has another size
            or content than the archive's directory says.
    """
    with zipfile.ZipFile(source) as archive:
        listing = Listing()
        for info in archive.infolist():
            name = zip_name(info)
            if listing.count(name, is_folder=info.is_dir()):
                member = zip_member(archive, info)
                if isinstance(member, InputError):
                    raise InputError(f"{name} cannot be used. {member}")


def _directory_bytes(source: Path) -> int:
    """Return how long a zip archive says that its list of members is, which zipfile reads as a whole; 0 without one."""
    with Path(source).open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - 2**16 - 22))
        tail = file.read()
    place = tail.rfind(b"PK\5\6")
    return int.from_bytes(tail[place + 12 : place + 16], "little") if place >= 0 else 0


def _megabytes(count: int) -> str:
    return f"{count / 2**20:,.0f} MB"
