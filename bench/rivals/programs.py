"""Runs Sluice and each rival on a log.

``make rivals`` unpacks Debian's packages of fail2ban and CrowdSec, and installs Polars, into ``.cache/rivals``.
"""

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from math import ceil
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
INSTALLED = ROOT / ".cache" / "rivals"
UNPACKED = INSTALLED / "root"
FAIL2BAN_PACKAGES = UNPACKED / "usr/lib/python3/dist-packages"
HERE = Path(__file__).parent

_METER = """
import json, os, sys
out = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
actions = [(os.POSIX_SPAWN_DUP2, out, 1), (os.POSIX_SPAWN_DUP2, out, 2)]
child = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ, file_actions=actions)
_, status, used = os.wait4(child, 0)
print(json.dumps([os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
"""
"""Starts a program in a small process, because a program inherits the peak memory of the one that starts it."""


class Failed(Exception):
    """A program ended with an error; the message has the end of what it printed."""


class NotInstalled(Exception):
    """The rival is not in ``.cache/rivals``."""


class Run(NamedTuple):
    output: str
    cpu_s: float
    memory_mb: float
    """Peak."""


class Verdicts(NamedTuple):
    first: Mapping[str, int]
    """Epoch second, by the log's clock, at which each client was first found over the limit."""
    cpu_s: float
    memory_mb: float


def run(command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> Run:
    """Runs a program and measures it. Raises Failed."""
    output = folder / "output"
    meter = [sys.executable, "-I", "-S", "-c", _METER, str(output), *command]
    env = {**os.environ, **(environment or {})}
    measured = subprocess.run(meter, check=True, capture_output=True, text=True, cwd=ROOT, env=env).stdout
    code, cpu_s, memory_mb = json.loads(measured)
    text = output.read_text(errors="replace")
    if code:
        raise Failed(f"{Path(command[0]).name} ended with {code}: {text[-300:]}")
    return Run(text, cpu_s, memory_mb)


def split_lines(log: Path, folder: Path) -> Run:
    return run([sys.executable, "-I", "-S", str(HERE / "split_lines.py"), str(log)], folder)


def sluice(log: Path, limit: int, window_s: int, folder: Path) -> Verdicts:
    rules = folder / "rules.toml"
    rules.write_text(f'[[rule]]\nname = "rate"\nlimit = {limit}\nwindow = "{window_s}s"\nblock_for = "1h"\n')
    command = [sys.executable, "-m", "sluice", "replay", str(log), "--rules", str(rules)]
    done = run([*command, "--json", "--top", "1000000"], folder)
    offenders = json.loads(done.output)["offenders"]
    first = {offender["client"].partition("/")[0]: ceil(offender["first_offence_at"]) for offender in offenders}
    return Verdicts(first, done.cpu_s, done.memory_mb)


def fail2ban(log: Path, limit: int, window_s: int, folder: Path) -> Verdicts:
    if not (FAIL2BAN_PACKAGES / "fail2ban").is_dir():
        raise NotInstalled
    command = [sys.executable, str(HERE / "fail2ban_jail.py"), str(log), str(limit), str(window_s)]
    return _printed(run(command, folder, {"PYTHONPATH": str(FAIL2BAN_PACKAGES)}))


def duckdb(log: Path, limit: int, window_s: int, folder: Path) -> Verdicts:
    return _printed(run([sys.executable, str(HERE / "duckdb_query.py"), str(log), str(limit), str(window_s)], folder))


def polars(log: Path, limit: int, window_s: int, folder: Path) -> Verdicts:
    python = INSTALLED / "polars/bin/python"
    if not python.exists():
        raise NotInstalled
    return _printed(run([str(python), str(HERE / "polars_query.py"), str(log), str(limit), str(window_s)], folder))


def _printed(done: Run) -> Verdicts:
    """Reads lines of client and epoch second."""
    first: dict[str, int] = {}
    for line in done.output.splitlines():
        client, _, at = line.partition(" ")
        first[client] = min(int(at), first.get(client, int(at)))
    return Verdicts(first, done.cpu_s, done.memory_mb)


_SCENARIO = """
type: leaky
name: bench/rate
description: requests of a client
filter: "evt.Meta.log_type == 'http_access-log'"
capacity: {limit}
leakspeed: {leak_ms}ms
cache_size: 1
groupby: evt.Meta.source_ip
blackhole: 24h
labels: {{remediation: true}}
"""
_CONFIG = """
common: {{daemonize: false, log_media: stdout, log_level: error, working_dir: .}}
config_paths:
  config_dir: {folder}/conf
  data_dir: {folder}/data
  simulation_path: {folder}/conf/simulation.yaml
  notification_dir: {folder}/conf
  plugin_dir: {folder}/conf
  hub_dir: {folder}/hub
  index_path: {folder}/hub/.index.json
crowdsec_service: {{parser_routines: 1}}
db_config: {{type: sqlite, db_path: {folder}/data/crowdsec.db, use_wal: true, flush: {{max_items: 1000000}}}}
api:
  client: {{credentials_path: {folder}/conf/credentials.yaml}}
  server: {{listen_uri: "127.0.0.1:{port}", profiles_path: {folder}/conf/profiles.yaml}}
prometheus: {{enabled: false}}
"""
_PROFILE = """
name: default
filters: [Alert.Remediation == true]
decisions: [{type: ban, duration: 1h}]
on_success: break
"""


def crowdsec(log: Path, limit: int, window_s: int, folder: Path) -> Verdicts:
    """Runs CrowdSec in its replay mode, with its own parsers of nginx's log and a leaky bucket as scenario.

    The bucket holds the limit and leaks as much in a window, so it never overflows within the limit.
    """
    binary, tool = UNPACKED / "usr/bin/crowdsec", UNPACKED / "usr/bin/cscli"
    if not binary.exists():
        raise NotInstalled
    home = folder / "crowdsec"
    shutil.rmtree(home, ignore_errors=True)
    for name in ("conf/scenarios", "conf/postoverflows", "data", "hub"):
        (home / name).mkdir(parents=True)
    shutil.copytree(UNPACKED / "etc/crowdsec/patterns", home / "conf/patterns")
    hub = UNPACKED / "usr/share/crowdsec/hub/parsers"
    for parser in (
        "s00-raw/crowdsecurity/syslog-logs.yaml",
        "s01-parse/crowdsecurity/nginx-logs.yaml",
        "s02-enrich/crowdsecurity/dateparse-enrich.yaml",
    ):
        stage = home / "conf/parsers" / parser.partition("/")[0]
        stage.mkdir(parents=True)
        shutil.copy(hub / parser, stage)
    scenario = _SCENARIO.format(limit=limit, leak_ms=window_s * 1000 // limit)
    port = _free_port()
    for name, text in {
        "conf/scenarios/rate.yaml": scenario,
        "conf/config.yaml": _CONFIG.format(folder=home, port=port),
        "conf/profiles.yaml": _PROFILE,
        "conf/simulation.yaml": "simulation: off\n",
        "conf/credentials.yaml": f"url: http://127.0.0.1:{port}\nlogin: bench\npassword: bench-of-rivals\n",
        "hub/.index.json": '{"parsers": {}, "scenarios": {}, "collections": {}, "postoverflows": {}}',
    }.items():
        (home / name).write_text(text)
    config = ["-c", str(home / "conf/config.yaml")]
    credentials = ["--password", "bench-of-rivals", "-f", str(home / "conf/credentials.yaml"), "--force"]
    run([str(tool), *config, "machines", "add", "bench", *credentials], folder)
    done = run([str(binary), *config, "-no-capi", "-dsn", f"file://{log}", "-type", "nginx"], folder)
    first: dict[str, int] = {}
    with sqlite3.connect(home / "data/crowdsec.db") as database:
        for client, stopped in database.execute("SELECT source_ip, stopped_at FROM alerts"):
            at = int(datetime.fromisoformat(stopped).timestamp())
            first[client] = min(at, first.get(client, at))
    database.close()
    return Verdicts(first, done.cpu_s, done.memory_mb)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
