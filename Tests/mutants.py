#!/usr/bin/env python3
"""The mutation gate: switches off one rule at a time and demands that a test notices.

  Tests/mutants.py [--scratch DIR] [--update-docs] [NAME...]

Each Tests/Mutants/NAME.mutant names a rule, the suite that guards it, and one or more replacements in the sources. The
sources are copied, the copy is changed and built, and the suite must fail:

  work    400 worlds of the simulator; where they find nothing, the unit tests of Work, then 10,000 worlds
  bus     the tests of Bus
  ledger  the tests of Ledger

The copy and its build folders stay in DIR (.build-mutants), so that a second run builds only what changed. Ends with a
table; status 1 when a mutant survives, does not build or no longer fits the sources.
"""
import argparse
import os
import re
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# What is built for a suite, the simulator's executable and test targets.
SUITES = {"work": ["SimulatorMain", "WorkTests"], "bus": ["BusTests"], "ledger": ["LedgerTests"]}
SEEDS, MORE_SEEDS = 400, 10_000


class Mutant:
    def __init__(self, path):
        self.name = os.path.basename(path).removesuffix(".mutant")
        with open(path, encoding="utf-8") as file:
            head, *edits = file.read().rstrip("\n").split("\n=== ")
        fields = dict(line.split(": ", 1) for line in head.splitlines())
        self.rule, self.suite = fields["rule"], fields["suite"]
        self.edits = []
        for edit in edits:
            source, rest = edit.split("\n", 1)
            before, after = rest.split("\n--- becomes\n")
            self.edits.append((source, before, after))

    def misfit(self):
        for source, before, _ in self.edits:
            with open(os.path.join(ROOT, source), encoding="utf-8") as file:
                count = file.read().count(before)
            if count != 1:
                return f"{source} has its text {count} times"
        return None


def write(path, text):
    """Writes only what changed, so that builds stay warm."""
    data = text if isinstance(text, bytes) else text.encode()
    if os.path.exists(path):
        with open(path, "rb") as file:
            if file.read() == data:
                return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)


def copy_sources(tree):
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "Package.swift", "Services", "Shared",
         "Tests"], cwd=ROOT, check=True, capture_output=True).stdout.decode().split("\0")
    wanted = {name for name in listed if name and os.path.isfile(os.path.join(ROOT, name))}
    for name in wanted:
        with open(os.path.join(ROOT, name), "rb") as file:
            write(os.path.join(tree, name), file.read())
    for folder, _, names in os.walk(tree):
        for name in names:
            path = os.path.relpath(os.path.join(folder, name), tree)
            if path.endswith(".swift") and path not in wanted:
                os.remove(os.path.join(tree, path))


def run(command, tree, targets, limit):
    environment = dict(os.environ, ZOETROPE_TARGETS=" ".join(targets))
    try:
        done = subprocess.run(
            command, cwd=tree, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=limit)
    except subprocess.TimeoutExpired as late:
        return None, (late.stdout or b"").decode(errors="replace")
    return done.returncode, done.stdout.decode(errors="replace")


def build(tree, targets, scratch, product=None):
    what = ["--product", product] if product else ["--build-tests"]
    status, output = run(
        ["swift", "build", "-c", "debug", "--disable-sandbox", "--scratch-path", scratch, *what], tree, targets, 3600)
    return None if status == 0 else "\n".join(line for line in output.splitlines() if "error:" in line) or output[-2000:]


def simulate(tree, scratch, seeds, stop_after):
    binary = os.path.join(scratch, "debug", "zoetrope-simulator")
    status, output = run(
        [binary, "--seeds", str(seeds), "--stop-after", str(stop_after)], tree, [], 900)
    if status is None:
        return (0, "a world that does not end", 0)
    found = [(int(seed), kind) for seed, kind in re.findall(r"^seed (\d+): ([^:]+):", output, re.M)]
    if not found and status != 0:
        return (0, f"the simulator died with status {status}", 0)
    return (*min(found), len(found)) if found else None


def test(tree, targets, scratch):
    failure = build(tree, targets, scratch)
    if failure:
        return "error", failure
    suites = "|".join(f"^{target}\\." for target in targets if target.endswith("Tests"))
    status, output = run(
        ["swift", "test", "-c", "debug", "--disable-sandbox", "--skip-build", "--disable-xctest", "--scratch-path",
         scratch, "--filter", suites], tree, targets, 300)
    if status is None:
        return "killed", "a test that waits for ever"
    found = re.findall(r'^✘ Test "?(.+?)"? (?:failed after|recorded an issue)', output, re.M)
    failed = sorted({test for test in found if not test.startswith("run with ")})
    if status == 0:
        return "alive", ""
    more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
    return "killed", f"“{failed[0]}”{more}" if failed else "the test process dies"


def judge(suite, tree, scratch, is_mutant=True):
    """Whether what is in the tree is noticed, by what, and after how many seeds."""
    if suite == "work":
        failure = build(tree, SUITES["work"], scratch, "zoetrope-simulator")
        if failure:
            return "error", failure, ""
        found = simulate(tree, scratch, SEEDS, SEEDS)
        if found:
            return "killed", f"simulator: {found[1]}", f"{found[0]} ({100 * found[2] / SEEDS:.0f} %)"
    verdict, by = test(tree, SUITES[suite], scratch)
    if verdict == "alive" and suite == "work" and is_mutant:
        found = simulate(tree, scratch, MORE_SEEDS, 1)
        if found:
            return "killed", f"simulator: {found[1]}", f"{found[0]}"
    return verdict, by, "–"


def name(row):
    return row.split("`")[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scratch", default=os.path.join(ROOT, ".build-mutants"))
    parser.add_argument("--update-docs", action="store_true")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    folder = os.path.join(ROOT, "Tests", "Mutants")
    mutants = [Mutant(os.path.join(folder, name)) for name in sorted(os.listdir(folder)) if name.endswith(".mutant")]
    unknown = set(options.names) - {mutant.name for mutant in mutants}
    if unknown:
        sys.exit(f"there is no mutant {', '.join(sorted(unknown))}")
    chosen = [mutant for mutant in mutants if not options.names or mutant.name in options.names]
    chosen.sort(key=lambda mutant: list(SUITES).index(mutant.suite))
    tree = os.path.join(os.path.abspath(options.scratch), "tree")
    scratch = os.path.join(os.path.abspath(options.scratch), "build")
    copy_sources(tree)
    rows, survivors, sound = [], [], set()
    for mutant in chosen:
        if mutant.suite not in sound:
            verdict, by, _ = judge(mutant.suite, tree, scratch, is_mutant=False)
            if verdict != "alive":
                sys.exit(f"the sources themselves fail ({mutant.suite}): {by}")
            sound.add(mutant.suite)
        started = time.monotonic()
        misfit = mutant.misfit()
        if misfit:
            verdict, by, seeds = "error", misfit, ""
        else:
            originals = {}
            for source, before, after in mutant.edits:
                path = os.path.join(tree, source)
                with open(path, encoding="utf-8") as file:
                    text = file.read()
                originals.setdefault(path, text)
                write(path, text.replace(before, after))
            try:
                verdict, by, seeds = judge(mutant.suite, tree, scratch)
            finally:
                for path, text in originals.items():
                    write(path, text)
        if verdict != "killed":
            survivors.append(mutant.name)
        print(f"{mutant.name}: {verdict} {by} {seeds} [{time.monotonic() - started:.0f} s]", flush=True)
        noticed = by if verdict == "killed" else f"**{verdict}** {by.splitlines()[0] if by else ''}"
        rows.append(f"| `{mutant.name}` | {mutant.rule} | {noticed} | {seeds} |")
    head = ["| mutant | the rule that is off | noticed by | first seed (share) |", "|---|---|---|---|"]
    table = "\n".join([*head, *rows])
    print(f"\n{table}\n\n{len(chosen) - len(survivors)} of {len(chosen)} mutants noticed")
    if options.update_docs:
        path = os.path.join(ROOT, "docs", "reliability.md")
        with open(path, encoding="utf-8") as file:
            page = file.read()
        begin, end = "<!-- mutants -->", "<!-- end of mutants -->"
        start, stop = page.index(begin) + len(begin), page.index(end)
        # Rows of mutants that were not chosen stay; those of mutants that are gone do not.
        known = {name(row): row for row in page[start:stop].splitlines() + rows if row.startswith("| `")}
        mutants.sort(key=lambda mutant: list(SUITES).index(mutant.suite))
        merged = [known[mutant.name] for mutant in mutants if mutant.name in known]
        page = page[:start] + "\n" + "\n".join([*head, *merged]) + "\n" + page[stop:]
        write(path, page)
    sys.exit(1 if survivors else 0)


main()
