"""bandit over the code, and pip-audit over the packages that are installed: `python tests/scans.py`.

pip-audit asks pypi.org for known vulnerabilities; `--offline` leaves it out. The exit code is 1 if there is a finding.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from figures import record

ROOT = Path(__file__).parents[1]
BANDIT = ["bandit", "--quiet", "--configfile", "pyproject.toml", "--recursive", "metalora", "pages", "app.py"]
AUDIT = ["pip_audit", "--skip-editable", "--progress-spinner", "off"]


def call(words: list[str]) -> dict[str, Any]:
    """Call a scanner of this environment; return what it says as JSON."""
    done = subprocess.run([sys.executable, "-m", *words, "--format", "json"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        sys.exit(f"{words[0]} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def scan_code() -> int:
    """Return the number of findings of bandit, and record them and those that a comment answers."""
    said = call(BANDIT)
    totals = said["metrics"]["_totals"]
    for finding in said["results"]:
        print(f"{finding['filename']}:{finding['line_number']}: {finding['issue_text']}")
    answered = totals["nosec"] + totals["skipped_tests"]
    record("bandit", findings=len(said["results"]), answered=answered, lines=totals["loc"])
    return len(said["results"])


def scan_packages() -> int:
    """Return the number of packages with known vulnerabilities, and record it."""
    packages = [package for package in call(AUDIT)["dependencies"] if "vulns" in package]
    if not packages:
        sys.exit("pip-audit looked at no package: is pypi.org reachable from here?")
    found = [package for package in packages if package["vulns"]]
    for package in found:
        print(package["name"], package["version"], *(vulnerability["id"] for vulnerability in package["vulns"]))
    record("pip-audit", findings=len(found), packages=len(packages))
    return len(found)


def main(arguments: list[str]) -> int:
    """Scan, and say what there is."""
    findings = scan_code() + (0 if "--offline" in arguments else scan_packages())
    print(f"{findings} findings.")
    return int(findings > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
