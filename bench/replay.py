"""Replay: lines per CPU second compared with splitting the same file, an earlier version, fail2ban and DuckDB; memory.

``python -m bench.replay`` runs this suite alone.
"""

import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from statistics import median
from tempfile import TemporaryDirectory

from rich.console import Console

from bench.earlier import COMMIT, ROOT, PeerMissing, earlier_tree
from bench.measure import MEASURED_RULES, Figure, paired_cpu_s
from bench.rivals.programs import FAIL2BAN_PACKAGES, UNPACKED
from chalicelib.core.logs.cloudfront_standard import VERSION_1
from chalicelib.core.rules import RuleSet
from chalicelib.core.rules_toml import parse_rules
from sluice.logs.files import Chunk, ReadProgress, chunks
from sluice.replay.engine import Options, replay

START_S = 1_760_000_000
REQUESTS_PER_S = 300

STANDARD_LINES, WAF_LINES, COMBINED_LINES, MANY_LINES = 300_000, 100_000, 200_000, 5_000_000
STANDARD_BUDGET, WAF_BUDGET = 430_000, 350_000
"""Lines per CPU second; on a slower machine, a third of the rate of reading and splitting the file."""

DUCKDB_STANDARD_LINES, DUCKDB_WAF_LINES = 1_000_000, 300_000
DUCKDB_LIMITS = 100, 20
"""Requests in five seconds: one client of the logs makes more than the first, seven make more than the second."""
DUCKDB_ROUNDS = 5
DUCKDB_BUDGET = 1.5
"""Most CPU time of `sluice replay` over that of DuckDB."""

EARLIER_ROUNDS, EARLIER_BUDGET = 5, 1.05
"""Replay is no slower than before; a twentieth is the noise of a busy machine."""

AGENT = "Mozilla/5.0%20(X11;%20Linux%20x86_64)%20AppleWebKit/537.36%20Chrome/141.0.0.0%20Safari/537.36"
TUNING_GUIDE = Path(__file__).parents[1] / "docs" / "tuning.md"


def traffic(number: int, clients: int = 30_000) -> Iterator[tuple[float, str, Random]]:
    """Yields time (epoch seconds), client and random generator for each request; a few clients make many."""
    rng = Random(1)
    pool = [
        f"{rng.randint(1, 220)}.{rng.randint(0, 255)}.{rng.randint(0, 255)}.{rng.randint(1, 254)}"
        for _ in range(clients)
    ]
    now = float(START_S)
    for _ in range(number):
        now += rng.expovariate(REQUESTS_PER_S)
        busy = rng.random() < 0.3
        client = pool[min(int(rng.paretovariate(0.7)) - 1, clients - 1)] if busy else rng.choice(pool)
        yield now - rng.random() * 2, client, rng


def standard(number: int) -> Iterator[str]:
    """Yields a CloudFront standard log, version 1, with all fields."""
    yield "#Version: 1.0\n"
    yield "#Fields: " + " ".join(VERSION_1) + "\n"
    rest = (
        "\t-\t-\tHit\t{:056x}==\twww.example.com\thttps\t310\t0.012\t-\tTLSv1.3\tTLS_AES_128_GCM_SHA256\tHit\tHTTP/2.0"
    )
    rest += "\t-\t-\t53211\t0.012\tHit\ttext/html\t5120\t-\t-\n"
    for now, client, rng in traffic(number):
        moment = datetime.fromtimestamp(now, UTC)
        request = f"GET\td111111abcdef8.cloudfront.net\t/p/{rng.randint(1, 900)}\t200\t-\t{AGENT}"
        yield f"{moment:%Y-%m-%d\t%H:%M:%S}\tFRA56-P4\t{rng.randint(300, 90000)}\t{client}\t{request}"
        yield rest.format(rng.getrandbits(220))


def waf(number: int) -> Iterator[str]:
    """Yields AWS WAF records of about 1.5 KB, as stored in S3."""
    headers = {"host": "www.example.com", "user-agent": AGENT, "accept": "text/html,*/*;q=0.8", "accept-language": "en"}
    record = {
        "formatVersion": 1,
        "webaclId": "arn:aws:wafv2:us-east-1:111122223333:global/webacl/edge/1111aaaa-0000-0000-0000-000000000000",
        "terminatingRuleId": "Default_Action",
        "terminatingRuleType": "REGULAR",
        "action": "ALLOW",
        "terminatingRuleMatchDetails": [],
        "httpSourceName": "CF",
        "httpSourceId": "E2EXAMPLE",
        "ruleGroupList": [{"ruleGroupId": "AWS#AWSManagedRulesCommonRuleSet", "nonTerminatingMatchingRules": []}],
        "rateBasedRuleList": [],
        "nonTerminatingMatchingRules": [],
        "requestHeadersInserted": None,
        "responseCodeSent": None,
        "labels": [{"name": "awswaf:clientip:geo:country:DE"}, {"name": "awswaf:managed:token:absent"}],
    }
    for now, client, rng in traffic(number):
        request = {
            "clientIp": client,
            "country": "DE",
            "headers": [
                *({"name": name, "value": value} for name, value in headers.items()),
                {"name": "cookie", "value": f"session={rng.getrandbits(1200):0300x}"},
            ],
            "uri": f"/p/{rng.randint(1, 900)}",
            "args": "",
            "httpVersion": "HTTP/2.0",
            "httpMethod": "GET",
            "requestId": f"{rng.getrandbits(220):056x}",
        }
        yield json.dumps({"timestamp": int(now * 1000), **record, "httpRequest": request}, separators=(",", ":")) + "\n"


def combined(number: int) -> Iterator[str]:
    """Yields the log of a web server in combined format."""
    for now, client, rng in traffic(number):
        moment = datetime.fromtimestamp(now, UTC)
        status = 404 if rng.random() < 0.1 else 200
        yield f"{client} - - [{moment:%d/%b/%Y:%H:%M:%S} +0000] "
        yield f'"GET /p/{rng.randint(1, 900)} HTTP/1.1" {status} 5120 "-" "{AGENT}"\n'


def crowd(number: int, clients: int) -> Iterator[Chunk]:
    """Yields chunks of a log too large to keep: clients appear equally often, and one in a thousand in bursts."""
    rng = Random(2)
    header = "#Fields: date time c-ip cs-method cs-uri-stem sc-status\n"
    made = 0
    while made < number:
        moment = datetime.fromtimestamp(START_S + made // 1000, UTC)
        stamp = f"{moment:%Y-%m-%d\t%H:%M:%S}"
        lines = [
            f"{stamp}\t10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}\tGET\t/\t200"
            for number in (
                rng.randrange(clients) if rng.random() < 0.8 else rng.randrange(clients // 1000) for _ in range(4000)
            )
        ]
        yield Chunk((header + "\n".join(lines) + "\n").encode())
        made += len(lines)


def rules() -> RuleSet:
    return parse_rules(MEASURED_RULES.read_text())


def plain_split(path: Path) -> int:
    """Reads and splits every line: the least that any Python program does. Returns the number of cells."""
    cells = 0
    with path.open("rb") as file:
        for line in file:
            cells += len(line.split(b"\t"))
    return cells


def replayed(path: Path) -> int:
    (result,) = replay(chunks([path], ReadProgress()), [rules()], Options())
    return result.stats.requests


def figures() -> Iterable[Figure]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        yield from _rate("CloudFront standard", folder / "standard", standard(STANDARD_LINES), STANDARD_BUDGET)
        yield from _rate("AWS WAF", folder / "waf", waf(WAF_LINES), WAF_BUDGET)
        yield from _against_earlier(("CloudFront standard", folder / "standard"), ("AWS WAF", folder / "waf"))
        yield from _against_fail2ban(folder / "combined")
        for_standard, for_waf = duckdb_queries()
        large_standard = standard(DUCKDB_STANDARD_LINES)
        yield from _against_duckdb("CloudFront standard", folder / "standard", large_standard, for_standard)
        yield from _against_duckdb("AWS WAF", folder / "waf", waf(DUCKDB_WAF_LINES), for_waf)
    yield _memory()


def _rate(name: str, path: Path, lines: Iterable[str], least: int) -> Iterator[Figure]:
    _write(path, lines)
    number = replayed(path)
    floor_s, ours_s = paired_cpu_s(_work(plain_split, path), _work(replayed, path), rounds=5)
    bytes_per_line = path.stat().st_size / number
    how = f"{number:,} lines, {bytes_per_line:.0f} bytes each, the default rules; best of 5 alternating rounds"
    slower = number / floor_s / 3
    budget, why = (least, "") if slower >= least else (slower, ", or a third of the plain split on a slower machine")
    yield Figure(f"replay of {name} lines", number / ours_s, "lines/CPU s", round(budget), how + why, at_least=True)
    yield Figure(f"the same against reading and splitting the file ({name})", ours_s / floor_s, "times", None, how)


def _work(measured: Callable[[Path], int], path: Path) -> Callable[[], Callable[[], object]]:
    return lambda: lambda: measured(path)


def _write(path: Path, lines: Iterable[str]) -> None:
    with path.open("w") as file:
        file.writelines(lines)


def _against_earlier(*files: tuple[str, Path]) -> Iterator[Figure]:
    """Compares `sluice replay` with that of an earlier version, both from their start, on the same files in turns."""
    try:
        with ExitStack() as stack:
            trees = stack.enter_context(earlier_tree()), ROOT
            compiled = stack.enter_context(TemporaryDirectory())
            for name, path in files:
                rounds = [[_replay_cpu_s(tree, path, compiled) for tree in trees] for _ in range(EARLIER_ROUNDS + 1)]
                ratio = median(ours_s / theirs_s for theirs_s, ours_s in rounds[1:])  # the first round compiles both
                how = f"{path.stat().st_size / 1e6:.0f} MB; CPU time, median of {EARLIER_ROUNDS} rounds in turns"
                yield Figure(f"replay of {name} lines / {COMMIT}", ratio, "x", EARLIER_BUDGET, how)
    except PeerMissing as exc:
        for name, _ in files:
            yield Figure(f"replay of {name} lines / {COMMIT}", float("nan"), "x", None, str(exc))


def _replay_cpu_s(tree: Path, log: Path, compiled: str) -> float:
    """Returns the CPU time of `sluice replay` by the code in ``tree``, whose bytecode is kept in ``compiled``."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment = {**kept, "PYTHONPATH": str(tree), "PYTHONPYCACHEPREFIX": compiled}
    command = [sys.executable, "-m", "sluice", "replay", str(log), "--rules", str(MEASURED_RULES)]
    return _command_cpu_s(command, cwd=tree, env=environment)


def _against_fail2ban(path: Path) -> Iterator[Figure]:
    """Compares both as commands on the same file, including their start. ``make rivals`` unpacks fail2ban."""
    fail2ban = UNPACKED / "usr/bin/fail2ban-regex"
    if not fail2ban.exists():
        return
    _write(path, combined(COMBINED_LINES))
    filters = r'^<HOST> \S+ \S+ \[[^\]]*\] "[^"]*" 4\d\d '
    environment = {**os.environ, "PYTHONPATH": str(FAIL2BAN_PACKAGES)}
    theirs_s = _command_cpu_s([sys.executable, str(fail2ban), str(path), filters], env=environment)
    ours_s = _command_cpu_s([sys.executable, "-m", "sluice", "replay", str(path), "--rules", str(MEASURED_RULES)])
    how = f"{COMBINED_LINES:,} combined lines; CPU time of fail2ban-regex with one pattern over that of `sluice replay`"
    yield Figure("replay against fail2ban's filter", theirs_s / ours_s, "times as fast", 10, how, at_least=True)


def duckdb_queries() -> list[str]:
    """Returns the queries of the tuning guide: for CloudFront standard logs and for AWS WAF logs."""
    return re.findall(r"```sql\n(.*?)```", TUNING_GUIDE.read_text(), re.DOTALL)


def _against_duckdb(name: str, path: Path, lines: Iterable[str], guide: str) -> Iterator[Figure]:
    """Compares both as commands that list the clients over one limit, including their start."""
    _write(path, lines)
    megabytes = path.stat().st_size / 1e6
    rules_file = path.with_suffix(".toml")
    for limit in DUCKDB_LIMITS:
        rules_file.write_text(f'[[rule]]\nname = "r"\nlimit = {limit}\nwindow = "5s"\n')
        query = guide.replace("logs/*", str(path)).replace("(time, 100)", f"(time, {limit})")
        program = "import sys, duckdb; print(duckdb.connect(config={'threads': 1}).sql(sys.argv[1]).fetchall())"
        theirs = [sys.executable, "-c", program, query]
        ours = [sys.executable, "-m", "sluice", "replay", str(path), "--rules", str(rules_file)]
        rounds = [(_command_cpu_s(ours), _command_cpu_s(theirs)) for _ in range(DUCKDB_ROUNDS)]
        ours_s, theirs_s = map(min, zip(*rounds, strict=True))
        rounds_note = f"{megabytes:.0f} MB, best of {DUCKDB_ROUNDS} alternating rounds"
        how = f"{rounds_note}; CPU time of `sluice replay` over that of the tuning guide's query in one thread"
        title = f"replay against DuckDB ({name}, {limit} in 5s)"
        yield Figure(title, ours_s / theirs_s, "times", DUCKDB_BUDGET, how)


def _command_cpu_s(command: list[str], cwd: Path = ROOT, env: Mapping[str, str] | None = None) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=cwd, env=env, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _memory() -> Figure:
    code = f"from bench.replay import most_memory_mb; print(most_memory_mb({MANY_LINES}))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    how = f"{MANY_LINES:,} lines of 1,000,000 clients, the default rules; peak memory of the process"
    return Figure("memory of a replay", float(done.stdout), "MB", 300, how)


def most_memory_mb(number: int) -> float:
    """Returns the peak memory of this process after a replay of ``number`` lines."""
    replay(crowd(number, clients=1_000_000), [rules()], Options())
    # Not ru_maxrss, which a new process inherits from its parent.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024


if __name__ == "__main__":
    from bench.__main__ import table

    Console().print(table(list(figures())))
