"""What an adversary does with the clients that it has: in bursts, by turns, and in answer to being refused."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

from sluice.demo.actors import Request

MOST_RATE = 40.0
"""Requests per second that an adversary can make, with all its clients."""

MOST_CLIENTS = 64
"""Addresses, or in IPv6 networks of /64, that it has."""

VISITORS = [f"198.51.100.{12 * number + 2}" for number in range(20)]
"""The addresses of the visitors, spread over a /24."""

Place = Literal["scattered", "one /64", "one /48", "beside visitors"]
"""Where its addresses are. In one /64, each request has an address of its own."""

Target = Literal["pages", "login", "new paths", "long paths", "victims' names"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tactic:
    """Each active client makes bursts; one that is refused rests, and the next takes its turn."""

    clients: int = 1
    """Number of clients by turns, up to ``MOST_CLIENTS``."""
    active: int = 1
    """How many of them make requests at the same time."""
    burst: int = 1_000_000
    """Requests in a burst of a client."""
    rate: float = MOST_RATE
    """Requests per second of a client in a burst."""
    pause_s: float = 0.0
    """Seconds from the last request of a burst to the next burst of the same client."""
    rest_s: float | None = None
    """Seconds after a refusal for which a client is not used; None if it takes no notice."""
    turn: int = 0
    """Bursts after which the next client takes the place of this one; 0 for never."""
    place: Place = "scattered"
    target: Target = "pages"


@dataclass(slots=True)
class _Client:
    number: int
    due: float = 0.0
    """Time of its next request."""
    left: int = 0
    """Requests left in its burst."""
    bursts: int = 0
    rests_until: float = 0.0


@dataclass(slots=True)
class Adversary:
    """Plays a tactic within the budget."""

    tactic: Tactic
    clients: set[int] = field(default_factory=set)
    """Numbers of the clients that have made a request, as rules tell clients apart."""
    _waiting: deque[_Client] = field(init=False)
    _active: list[_Client] = field(default_factory=list)
    _by_address: dict[str, _Client] = field(default_factory=dict)
    _made: int = 0

    def __post_init__(self) -> None:
        self._waiting = deque(map(_Client, range(min(self.tactic.clients, MOST_CLIENTS))))

    def requests(self, now: float, until: float) -> Iterator[Request]:
        """Yields the requests in ``[now, until)``, in seconds from the start; at most ``MOST_RATE`` in a second."""
        self._relieve(now)
        left = int(MOST_RATE * until) - int(MOST_RATE * now)
        for client in self._active:
            while client.due < until and left:
                at = max(client.due, now)
                left -= 1
                yield self._request(client, at)
                client.left -= 1
                client.due = at + 1 / self.tactic.rate
                if not client.left:
                    client.due = at + self.tactic.pause_s
                    client.left = self.tactic.burst
                    client.bursts += 1
                    if client.bursts == self.tactic.turn:
                        break

    def refused(self, addresses: Iterable[str], now: float) -> None:
        """Learns which of its requests were refused."""
        if self.tactic.rest_s is not None:
            for address in addresses:
                self._by_address[address].rests_until = now + self.tactic.rest_s

    def _relieve(self, now: float) -> None:
        """Has other clients take the places of those that rest or have had their turn."""
        tactic, staying = self.tactic, []
        for client in self._active:
            if client.rests_until > now or client.bursts == tactic.turn != 0:
                self._waiting.append(client)
            else:
                staying.append(client)
        self._active = staying
        for _ in range(len(self._waiting)):
            if len(self._active) >= tactic.active:
                break
            client = self._waiting.popleft()
            if client.rests_until > now or client.due > now:
                self._waiting.append(client)
                continue
            client.left, client.bursts, client.due = tactic.burst, 0, now
            self._active.append(client)

    def _request(self, client: _Client, at: float) -> Request:
        self.clients.add(0 if self.tactic.place == "one /64" else client.number)
        self._made += 1
        address = self._address(client.number)
        self._by_address[address] = client
        match self.tactic.target:
            case "pages":
                return Request(at, address)
            case "login":
                return Request(at, address, "/login", "POST", 401)
            case "new paths":
                return Request(at, address, f"/{self._made}", status=404)
            case "long paths":
                return Request(at, address, f"/{self._made}" + "%41" * 2000)
            case "victims' names":
                return Request(at, address, f"/{VISITORS[0]}", agent=f"{VISITORS[0]}%0A{VISITORS[1]}")

    def _address(self, number: int) -> str:
        match self.tactic.place:
            case "scattered":
                return str(IPv4Address("172.16.0.7") + number * 4096)
            case "one /64":
                return str(IPv6Address("2001:db8:bad:1::") + self._made)
            case "one /48":
                return str(IPv6Address("2001:db8:bad::") + (number << 64))
            case "beside visitors":
                return f"198.51.100.{4 * number + 1}"


TACTICS = {
    "stays within the limit": Tactic(burst=20, rate=20, pause_s=4.1),
    "floods": Tactic(),
    "floods from all clients": Tactic(clients=64, active=64, rate=1),
    "at three times the limit": Tactic(rate=12),
    "takes the next client when it is refused": Tactic(clients=64, rest_s=1000),
    "comes back as soon as a block is over": Tactic(rest_s=61),
    "rests until its block is over, with others meanwhile": Tactic(clients=4, rest_s=61),
    "asks once a second whether it is served": Tactic(rest_s=1),
    "bursts of one more than the limit": Tactic(burst=21, pause_s=5),
    "bursts across the edge of a window": Tactic(burst=20, pause_s=2.5),
    "one burst per client, then the next": Tactic(clients=64, burst=21, turn=1),
    "one limit per client, then the next": Tactic(clients=64, burst=20, turn=1, rate=40),
    "a new address for each request": Tactic(place="one /64"),
    "a /64 for each burst": Tactic(clients=64, burst=21, turn=1, place="one /48"),
    "guesses passwords from all clients": Tactic(clients=64, active=64, burst=6, rate=2, pause_s=30, target="login"),
    "guesses as fast as it can until it is refused": Tactic(clients=16, rest_s=1000, target="login"),
    "scans from a client at a time": Tactic(clients=64, rest_s=1000, target="new paths"),
    "sends what is long": Tactic(rate=10, target="long paths"),
    "two bursts of long paths per /64, then the next": Tactic(
        clients=32, active=2, burst=30, rate=20, pause_s=1, rest_s=60, turn=2, place="one /48", target="long paths"
    ),
    "three bursts of guesses per /64, then the next": Tactic(
        clients=32, active=8, rate=8, pause_s=1, rest_s=30, turn=3, place="one /48", target="login"
    ),
    "writes victims' addresses": Tactic(target="victims' names", rest_s=61),
    "attacks beside its victims": Tactic(clients=8, active=8, rate=5, place="beside visitors"),
}
"""By name, those that every test run plays. Those that a search has found go here, too."""
