"""Asserts what the compose files must agree on with the Dockerfile and .env.example.

Called by deploy/check.sh from the root of the repository. Says every disagreement, then fails.
"""

import json
import pathlib
import re
import sys

import yaml



class Loader(yaml.SafeLoader):
    """Knows compose's tag for what a file on top takes away."""


Loader.add_constructor("!reset", lambda loader, node: None)
compose = yaml.safe_load(pathlib.Path("compose.yml").read_text())
plain = yaml.load(pathlib.Path("compose.plain-user.yml").read_text(), Loader)["services"]["clawdforge"]
dockerfile = pathlib.Path("Dockerfile").read_text()
example = pathlib.Path(".env.example").read_text()
service = compose["services"]["clawdforge"]
owner = re.search(r"useradd --uid (\d+) ", dockerfile)[1]
made = set(re.findall(r"(?<=\s)/(?:data|home/clawdforge)\S*", re.search(r"install -d .*?(?=\n\n)", dockerfile, re.S)[0]))
wrong = []


def check(truth, complaint):
    if not truth:
        wrong.append(complaint)


def dockerfile_json(instruction):
    return json.loads(re.search(rf"^{instruction} (?:--\S+ )*(?:CMD )?(\[.*\])$", dockerfile, re.M)[1])


check(compose["name"] == "clawdforge", "the project is not called clawdforge")
check(service["image"] == "clawdforge:local", "the image is not clawdforge:local")
check(service["container_name"] == "clawdforge", "the container is not called clawdforge")
check(service["restart"] == "unless-stopped", "restart is not unless-stopped")
check(service["env_file"] == ".env", "the settings are not read from .env")
check(service["cap_drop"] == ["ALL"], "capabilities are kept")
check("user" not in service and not re.search(r"^USER ", dockerfile, re.M), "the service does not start as root")
check("ISOLATION_USERS=" in dockerfile, "the image names no users for agents")
check(service["environment"]["CLAWDFORGE_ISOLATION_REQUIRE"] == "uid", "agents of all apps may be one user")
check(plain["user"] == f"{owner}:{owner}", f"the plain user is not {owner}, who owns the image's folders")
check("cap_add" in plain and not plain["cap_add"], "the plain user is offered capabilities")
check(plain["environment"]["CLAWDFORGE_ISOLATION_REQUIRE"] == "landlock", "the plain user is asked for more than it can do")
check("no-new-privileges:true" in service["security_opt"], "no-new-privileges is missing")

port = re.search(r"^EXPOSE (\d+)$", dockerfile, re.M)[1]
check(f"0.0.0.0:{port}" in dockerfile, f"the image does not listen on the port it exposes, {port}")
for published in service["ports"]:
    check(published == f"127.0.0.1:{port}:{port}", f"published beyond this host: {published}")

despite = service["environment"]["CLAWDFORGE_START_DESPITE"]
check(despite == "generated-admin-token", f"more is allowed at start than a first start needs: {despite}")

mounted = dict(volume.split(":", 1) for volume in service["volumes"])
check(sorted(mounted.values()) == sorted(dockerfile_json("VOLUME")), "the volumes are not those of the image")
check(set(mounted) == set(compose["volumes"]), "the volumes used are not those declared")
for path in [*mounted.values(), *(volume.split(":", 1)[1] for volume in plain["volumes"])]:
    check(path in made, f"the image makes no folder {path}, so its volume would be root's alone")

health = service["healthcheck"]
check(health["test"] == ["CMD", *dockerfile_json("HEALTHCHECK")], "the health check is not the image's")

stop = int(service["stop_grace_period"].removesuffix("s"))
drain = int(re.search(r"^#?CLAWDFORGE_DRAIN_DEADLINE_SECS=(\d+)$", example, re.M)[1])
check(stop > drain, f"killed after {stop} s, within the drain deadline of {drain} s")

check(re.search(r"^ALLOW_CIDRS=", example, re.M), ".env.example lets nobody in from outside the container")
for line in example.splitlines():
    check(re.fullmatch(r"(#.*|[A-Z_]+=\S*)?", line), f"not a line every reader of .env takes: {line}")

if wrong:
    sys.exit("\n".join(wrong))
