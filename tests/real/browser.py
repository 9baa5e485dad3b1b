"""Runs the browser's journey against a server with an agent for this host, on free ports; ends with one line of result."""

import pathlib
import re
import subprocess
import sys
import tempfile

from conftest import ROOT, Server

RESULT = re.compile(r"(\d+) passed, (\d+) failed")


def main():
    with tempfile.TemporaryDirectory() as folder:
        server = Server(pathlib.Path(folder) / "data", command="up")
        journey = subprocess.Popen(["node", "journey.mjs", server.url], cwd=ROOT / "tests/browser",
                                   stdout=subprocess.PIPE, text=True)
        passed, failed = 0, 0
        for line in journey.stdout:
            result = RESULT.search(line)
            if result:
                passed, failed = map(int, result.groups())
            else:
                print(line, end="", flush=True)
        ended, stopped = journey.wait(), server.stop()
        if stopped != 0:
            print(f"FAILED  the server ended with {stopped}")
        # A journey that did not get to its end has failed, whatever it counted.
        failed += int(stopped != 0) + int(ended != 0 and failed == 0)
        if failed:
            print("\n".join(server.lines[-50:]))
    print(f"browser: {passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
