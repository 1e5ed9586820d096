"""The owner of a network comes from the line that covers its address, and a table of another form is refused."""

import gzip
import tracemalloc
from ipaddress import ip_address
from pathlib import Path

import pytest

from sluice.owners import owner_in

TABLE = (
    "192.0.2.0\t192.0.2.255\t64500\tDE\tEXAMPLE-NET Example\\x1b GmbH\n"
    "203.0.113.0\t203.0.113.127\t64501\tFR\tOTHER\n"
    "203.0.113.128\t203.0.113.255\t0\tNone\tNot routed\n"
    "2001:db8::\t2001:db8:ffff:ffff:ffff:ffff:ffff:ffff\t64502\tUS\tSIX\n"
).replace("\\x1b", "\x1b")


@pytest.fixture(params=["plain", "gzip"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "owners.tsv"
    content = TABLE.encode()
    path.write_bytes(gzip.compress(content) if request.param == "gzip" else content)
    return path


@pytest.mark.parametrize(
    ("address", "owner"),
    [
        ("203.0.113.9", "AS64501 OTHER (FR), 203.0.113.0 to 203.0.113.127"),
        ("203.0.113.200", "not announced: 203.0.113.128 to 203.0.113.255"),
        ("2001:db8::9", "AS64502 SIX (US), 2001:db8:: to 2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("198.51.100.1", "None"),
    ],
)
def test_the_line_that_covers_an_address_names_its_owner(table: Path, address: str, owner: str) -> None:
    assert str(owner_in(table, ip_address(address))) == owner


def test_a_name_moves_no_cursor(table: Path) -> None:
    assert "\x1b" not in str(owner_in(table, ip_address("192.0.2.1")))


def test_lines_may_end_as_on_windows(tmp_path: Path) -> None:
    path = tmp_path / "owners.tsv"
    path.write_bytes(TABLE.replace("\n", "\r\n").encode())
    owner = owner_in(path, ip_address("203.0.113.9"))
    assert owner is not None
    assert owner.name == "OTHER"


@pytest.mark.parametrize("damage", [slice(60, 61), slice(200, None)], ids=["altered", "cut"])
def test_a_damaged_file_is_refused(tmp_path: Path, damage: slice) -> None:
    rows = "".join(f"10.0.{n}.0\t10.0.{n}.255\t{n * 7919}\tDE\tX\n" for n in range(200))
    packed = bytearray(gzip.compress(rows.encode()))
    packed[damage] = b"" if damage.stop is None else bytes([packed[60] ^ 0xFF])
    path = tmp_path / "owners.tsv.gz"
    path.write_bytes(packed)
    with pytest.raises(ValueError, match=r"owners\.tsv\.gz"):
        owner_in(path, ip_address("203.0.113.9"))


def test_a_line_without_an_end_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "owners.tsv.gz"
    path.write_bytes(gzip.compress(b"A" * 20_000_000, 1))
    tracemalloc.start()
    with pytest.raises(ValueError, match="line 1: longer than 10,000 bytes"):
        owner_in(path, ip_address("203.0.113.9"))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 5_000_000


def test_a_table_of_another_form_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "owners.csv"
    path.write_text("192.0.2.0\t192.0.2.255\t64500\tDE\tX\n192.0.2.0/24,64500,Example\n")
    with pytest.raises(ValueError, match=r"line 2: '192\.0\.2\.0/24,64500,Example\\n' is not first address"):
        owner_in(path, ip_address("203.0.113.9"))
