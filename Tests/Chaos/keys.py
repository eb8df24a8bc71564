"""Key pairs of a cluster, made and authorised by `zoetrope keys` as an operator would."""

import os
import subprocess


class Keys:
    def __init__(self, bin, folder):
        self.bin, self.folder = bin, folder
        self.command("new", "broker")

    def command(self, *arguments):
        done = subprocess.run(
            [os.path.join(self.bin, "zoetrope"), "keys", *arguments, "--directory", self.folder],
            capture_output=True, text=True, timeout=30)
        if done.returncode:
            raise OSError(f"zoetrope keys {' '.join(arguments)}: {done.stderr[-300:]}")
        return done.stdout

    def file(self, name):
        return os.path.join(self.folder, name)

    def make(self, name, role=None, stage=None):
        """A pair, on the broker's list when it has a role."""
        self.command("new", name)
        if role:
            self.authorize(name, role, stage)

    def authorize(self, name, role, stage=None):
        self.command("authorize", name, "--role", role, *(("--stages", stage) if stage else ()))

    def revoke(self, name):
        self.command("revoke", name)

    def options(self, name):
        """What a service with this key is started with."""
        return ["--key", self.file(f"{name}.key"), "--broker-public-key", self.file("broker.pub")]

    def public(self, name):
        with open(self.file(f"{name}.pub")) as file:
            return file.read().strip()

    def secret(self, name):
        with open(self.file(f"{name}.key")) as file:
            return next(line.split(" ", 1)[1].strip() for line in file if line.startswith("secret "))
