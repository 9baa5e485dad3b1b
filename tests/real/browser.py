"""Runs the browser's journey against a server with an agent for this host, on free ports; prints one line of result."""

import pathlib
import subprocess
import sys
import tempfile

from conftest import ROOT, Server


def main():
    with tempfile.TemporaryDirectory() as folder:
        server = Server(pathlib.Path(folder) / "data", command="up")
        try:
            done = subprocess.run(["node", "journey.mjs", server.url], cwd=ROOT / "tests/browser", timeout=600)
        finally:
            stopped = server.stop()
    passed = done.returncode == 0 and stopped == 0
    if not passed:
        print("\n".join(server.lines[-50:]))
    print(f"browser: {int(passed)} passed, {int(not passed)} failed")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
